"""Database branches by hand: `agentq db list|branch|drop|seal|warm|reap|url`."""

from typing import TYPE_CHECKING, Annotated

import typer

from agentq.cli.common import Json, NoInput, Yes, emit, require_yes

if TYPE_CHECKING:
    from agentq.databases.base import Databases
    from agentq.flows.services import Base

Name = Annotated[str, typer.Argument(metavar="NAME", help="The branch's name, as 'agentq db list' shows it.")]


def _databases() -> "tuple[Base, Databases]":
    from agentq import wiring

    base = wiring.base()
    return base, wiring.databases(base.repo, base.config, base.workspaces)


def db_list(json: Json = False) -> None:
    """The database branches of this host: whose they are, and how long they live."""
    from datetime import UTC, datetime

    from agentq.flows import branches

    base, databases = _databases()
    now = datetime.now(UTC)
    found = branches.rows(databases, base.runs.live(), now)
    warm = base.config.machine.warm
    if json:
        listed = [{"name": r.name, "generation": r.generation, "who": r.who, "expires": r.expires} for r in found]
        emit("db", provider=databases.name, warm=warm, branches=listed)
        return
    for line in branches.in_words(found, databases.name, warm, now):
        print(line)


def db_branch(
    label: Annotated[
        str, typer.Argument(metavar="[LABEL]", help="The same label names the same branch.")
    ] = "hand",
    empty: Annotated[bool, typer.Option("--empty", help="Without any content.")] = False,
    hours: Annotated[float, typer.Option("--hours", min=0.01, max=720, help="How long it lives.")] = 8,
    json: Json = False,
) -> None:
    """Make a database branch for yourself, and print its name."""
    from datetime import UTC, datetime

    from agentq.flows import branches

    base, databases = _databases()
    made = branches.make(databases, base.repo.root, label, hours, datetime.now(UTC), empty=empty)
    if json:
        emit("db-branch", name=made.name, generation=made.generation, expires=made.expires_at, warm=made.warm)
    else:
        print(made.name)


def db_url(name: Name, json: Json = False) -> None:
    """Print the URL of a branch. It is a secret: whoever has it can change the branch."""
    from agentq.flows import branches

    _, databases = _databases()
    found = branches.find(databases, name)
    if json:
        emit("db-url", name=found.name, url=found.url)
    else:
        print(found.url)


def db_drop(name: Name, yes: Yes = False, no_input: NoInput = False, json: Json = False) -> None:
    """Destroy a database branch."""
    from agentq.flows import branches

    _, databases = _databases()
    found = branches.find(databases, name)
    require_yes(f"Destroy the database branch {found.name}?", yes=yes, no_input=no_input or json)
    databases.release(found.id)
    _report(json, f"{found.name} is destroyed")


def db_seal(json: Json = False) -> None:
    """Make a generation of dev as it is now, if there is none; branches are made from it."""
    _, databases = _databases()
    made = databases.seal()
    if json:
        emit("db-generation", id=made.id, head=made.head)
    else:
        print(made.id)


def db_warm(
    count: Annotated[
        int | None, typer.Argument(metavar="[COUNT]", min=0, max=64, help="Left out: 'warm' of .machine.")
    ] = None,
    json: Json = False,
) -> None:
    """Keep COUNT branches of the present generation ready; those of older ones go."""
    base, databases = _databases()
    ready = databases.warm(base.config.machine.warm if count is None else count)
    _report(json, f"{ready} ready")


def db_reap(json: Json = False) -> None:
    """Destroy what crashes and dead processes left, and what has expired."""
    from datetime import UTC, datetime

    from agentq.flows import branches

    _, databases = _databases()
    gone = branches.reap(databases, datetime.now(UTC))
    _report(json, f"destroyed: {', '.join(gone)}" if gone else "nothing to destroy")


def _report(as_json: bool, text: str) -> None:
    if as_json:
        emit("change", id="", done=text)
    else:
        print(text)
