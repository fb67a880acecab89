"""dev follows trunk: after a landing, the machine that is configured to applies the canonical migrations to the
development database and seals a new generation (mission row T9; databases fact 2).

Any process of that machine that meets a trunk whose migrations dev has not seen does it; a lock lets one. A
migration that fails stays undone, is said, and is tried again at the next trunk commit.
"""

import hashlib
from pathlib import Path

from agentq.errors import AgentqError
from agentq.flows.migrate import owned, tool_of
from agentq.flows.outcome import Interrupted
from agentq.flows.services import Base
from agentq.flows.session import Session
from agentq.store import files


def follow(session: Session, trunk: str = "") -> None:
    """Bring dev to the migrations of the commit `trunk` ('': the newest), if that is this machine's to do and not
    done."""
    try:
        _follow(session, trunk)
    except (AgentqError, OSError) as error:
        session.say("note", text=f"dev does not follow trunk's migrations: {error}")


def behind(base: Base) -> str:
    """Why the last trunk's migrations were not applied to dev, or ''."""
    return _says(base.runs.state / "dev.json", "problem")


def _follow(session: Session, trunk: str) -> None:
    services, chosen = session.services, tool_of(session)
    wanted = session.rules.migrations.apply_to_dev
    if chosen is None or wanted not in ("*", services.config.machine.name) or services.databases.name == "none":
        return
    trunk = trunk or session.fetch_trunk().commit
    migrations = owned(session, trunk, chosen)
    state = hashlib.sha256(repr(sorted(migrations.items())).encode()).hexdigest()
    record = services.runs.state / "dev.json"
    if not migrations or _says(record, "state") == state:
        return
    with services.runs.alone("dev"):
        if _says(record, "state") == state or _says(record, "failed") == trunk or _is_past(session, trunk, record):
            return
        problem = _apply(session, trunk)
        if problem:
            files.write_json(record, {**_kept(record), "failed": trunk, "problem": problem})
            session.say("note", text=f"dev does not follow trunk's migrations: {problem}")
            return
        files.write_json(record, {"state": state, "commit": trunk})
        generation = services.databases.seal()
        session.say("dev-migrated", commit=trunk, generation=generation.id)


def _apply(session: Session, trunk: str) -> str:
    """Apply them from a clean checkout of trunk; '' or why not."""
    services, chosen = session.services, tool_of(session)
    assert chosen is not None
    checkout = services.workspaces.proof_path("dev")
    keep = session.rules.commands.keep
    services.workspaces.prepare(checkout, trunk, pristine=True, keep=keep)
    env = dict(services.databases.dev())
    failed = session.set_up(checkout, trunk, {}, "dev-setup", always=not keep) or session.ready(
        chosen.commands("dev", "0" * 12).upgrade, "migration of dev", checkout, "dev-migrate", env
    )
    if isinstance(failed, Interrupted):
        return failed.reason
    return failed.problem if failed else ""


def _kept(record: Path) -> dict[str, str]:
    return {name: _says(record, name) for name in ("state", "commit")}


def _is_past(session: Session, trunk: str, record: Path) -> bool:
    """Whether dev has seen a later trunk: migrations are never taken back."""
    seen = _says(record, "commit")
    mirror = session.services.mirror
    return bool(seen) and mirror.has(seen) and mirror.contains(trunk, seen)


def _says(record: Path, what: str) -> str:
    found = files.read_json(record)
    return str(found.get(what, "")) if isinstance(found, dict) else ""
