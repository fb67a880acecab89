"""Commands that only look."""

from typing import Annotated, Any

import typer

from agentq.cli.common import Json, SpecArgument, emit
from agentq.errors import UserError


def status(
    all_: Annotated[bool, typer.Option("--all", "-a", help="Show every spec.")] = False, json: Json = False
) -> None:
    """The queue: what runs, what waits and why, what landed."""
    from agentq import render, wiring
    from agentq.flows.look import status_rows

    base = wiring.base()
    found = status_rows(base)
    if json:
        emit("status", **found.to_json())
    else:
        render.status(found, everything=all_)


def show(spec_id: SpecArgument, json: Json = False) -> None:
    """Everything known about one spec."""
    from agentq import render, wiring
    from agentq.flows.look import details

    base = wiring.base()
    found = details(base, spec_id)
    if json:
        emit("show", **found)
    else:
        render.details(found)


def why(spec_id: SpecArgument, json: Json = False) -> None:
    """Why a spec is or is not next."""
    from agentq import render, wiring
    from agentq.flows.look import explain

    base = wiring.base()
    found = explain(base, spec_id)
    if json:
        emit("why", **found)
    else:
        render.why(found)


def logs(
    spec_id: SpecArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep printing until its run ends.")] = False,
    lines: Annotated[int, typer.Option("-n", min=1, help="Lines from the end.")] = 100,
    list_: Annotated[bool, typer.Option("--list", help="Name the logs instead.")] = False,
) -> None:
    """What the agent and the commands of a spec printed, newest log first to follow."""
    from agentq import wiring
    from agentq.core.queue import find
    from agentq.flows.look import follow_logs

    base = wiring.base()
    find(base.store.read().queue, spec_id)
    logs_ = base.runs.transcripts(spec_id)
    if not logs_:
        raise UserError(f"'{spec_id}' has no logs yet", f"'agentq run {spec_id}' makes some")
    if list_:
        for path in logs_:
            print(path)
        return
    for text in follow_logs(base.runs, spec_id, lines, follow=follow):
        print(text, flush=True)


def diff(
    spec_id: SpecArgument,
    stat: Annotated[bool, typer.Option("--stat", help="Only the summary.")] = False,
) -> None:
    """What a spec changed: landed, proved, or still in its workspace."""
    import sys

    from agentq import wiring
    from agentq.flows.look import diff_of

    base = wiring.base()
    print(diff_of(wiring.services(base), spec_id, stat=stat, color=sys.stdout.isatty() and not _no_color()))


def _no_color() -> bool:
    import os

    return bool(os.environ.get("NO_COLOR"))


def graph(
    form: Annotated[str, typer.Option("--format", help="text, dot, mermaid or svg.")] = "text",
    output: Annotated[str | None, typer.Option("--output", "-o", help="Write to this file.")] = None,
    completed: Annotated[bool, typer.Option("--completed", help="Show landed specs too.")] = False,
    json: Json = False,
) -> None:
    """The dependency graph, with the critical path marked."""
    from pathlib import Path

    from agentq import wiring
    from agentq.flows.look import graph_of

    base = wiring.base()
    found: Any = graph_of(base, form, completed=completed)
    if json:
        emit("graph", **found.data)
    elif output:
        Path(output).write_text(found.text + "\n", encoding="utf-8")
        print(f"wrote {output}")
    else:
        print(found.text)
