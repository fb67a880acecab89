"""Commands that move the queue to a branch of the remote, and back."""

from typing import TYPE_CHECKING, Annotated

import typer

from agentq.cli.common import Json, NoInput, Yes, emit, require_yes

if TYPE_CHECKING:
    from agentq.flows.share import Plan

_WORDS = {
    "create": "the queue of this clone ({specs}) becomes {where}; all clones of the remote then work on it",
    "join": "{where} is there already ({specs}): this clone joins, and what it has is set aside",
    "take": "{where} becomes this clone's queue ({specs}) and is removed; other clones lose it",
    "leave": "{where} stays as it is, and this clone uses its own queue",
    "adopt": "{where} is gone: its last known copy ({specs}) becomes this clone's queue",
}


def share(yes: Yes = False, no_input: NoInput = False, json: Json = False) -> None:
    """Put the queue on a branch of the remote, so that several machines work on it; or join such a queue."""
    from agentq import wiring
    from agentq.flows import share as flow

    base = wiring.base(deciding=True)
    remote = wiring.queue_branch(base.repo, base.config)
    plan = flow.plan_share(base, remote)
    _confirm(plan, "Share the queue?" if plan.action == "create" else "Join?", yes, no_input, json)
    _report(plan, flow.share(base, remote, plan), json)


def unshare(
    force: Annotated[
        bool, typer.Option("--force", help="Also while specs are in progress on other machines.")
    ] = False,
    yes: Yes = False,
    no_input: NoInput = False,
    json: Json = False,
) -> None:
    """Bring the shared queue back into this clone's file and remove its branch from the remote."""
    from agentq import wiring
    from agentq.flows import share as flow

    base = wiring.base(deciding=True)
    name = base.repo.shared_branch(base.config.trunk.remote, base.config.shared.branch)
    remote = wiring.queue_branch(base.repo, base.config, name)
    machines = wiring.machines(base)
    plan = flow.plan_unshare(base, remote, machines, force=force)
    _confirm(plan, "Unshare the queue?", yes, no_input, json)
    _report(plan, flow.unshare(base, remote, machines, plan, force=force), json)


def _confirm(plan: "Plan", question: str, yes: bool, no_input: bool, json: bool) -> None:
    from agentq import live, render
    from agentq.core.text import plural

    if not json:
        out = live.console()
        render.paragraph(out, _WORDS[plan.action].format(specs=plural(plan.specs, "spec"), where=plan.where))
        for note in plan.notes:
            render.paragraph(out, note, first="note: ", then="      ")
    require_yes(question, yes=yes, no_input=no_input or json)


def _report(plan: "Plan", done: list[str], json: bool) -> None:
    if json:
        emit("share", **plan.to_json(), done=done)
    else:
        print("\n".join(done))
