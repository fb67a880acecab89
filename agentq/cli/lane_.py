"""The landing lane: `agentq lane`, `lane freeze`, `lane thaw`."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from agentq.cli.common import Json, emit


def lane(context: typer.Context, json: Json = False) -> None:
    """What waits to land, what is being tested, on what base, since when, and why."""
    if context.invoked_subcommand:
        return
    from agentq import wiring
    from agentq.flows.lane_view import in_words, view

    base = wiring.base()
    snapshot = base.store.read()
    seen = view(snapshot.queue, base.config.lane.batch)
    if json:
        emit("lane", **seen.to_json(), age_seconds=round(snapshot.age, 1))
        return
    for line in in_words(seen, datetime.now(UTC)):
        print(line)


def freeze(
    why: Annotated[str, typer.Argument(metavar="[WHY]", help="Shown to whoever asks.")] = "", json: Json = False
) -> None:
    """Nothing lands until it is thawed; specs go on verifying and keep their places."""
    from agentq import wiring
    from agentq.core import lane as rules
    from agentq.flows.lane import refuse_frozen

    def change(queue: Any) -> Any:
        refuse_frozen(queue)
        return rules.freeze(queue, why)

    wiring.base().store.update(change)
    _report(json, "the lane is frozen: nothing lands until 'agentq lane thaw'")


def thaw(json: Json = False) -> None:
    """Let the lane go on."""
    from agentq import wiring
    from agentq.core import lane as rules

    wiring.base().store.update(rules.thaw)
    _report(json, "the lane is open")


def _report(as_json: bool, text: str) -> None:
    if as_json:
        emit("change", id="", done=text)
    else:
        print(text)
