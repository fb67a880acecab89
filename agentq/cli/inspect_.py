"""Commands that only look."""

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from agentq.cli.common import Json, SpecArgument, emit, words
from agentq.errors import ExitCode, UserError


def status(
    all_: Annotated[bool, typer.Option("--all", "-a", help="Show every spec.")] = False, json: Json = False
) -> None:
    """The queue: what runs, what waits and why, what landed."""
    from agentq import render_status, wiring
    from agentq.flows.look import status_rows

    base = wiring.base()
    found = status_rows(base, wiring.machines(base))
    if json:
        emit("status", **found.to_json())
    else:
        render_status.status(found, everything=all_)


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
    list_: Annotated[bool, typer.Option("--list", help="Name the logs, oldest first, instead.")] = False,
    json: Json = False,
) -> None:
    """What the agent and the commands of a spec printed: the newest log. With --follow --json: a line of JSON
    for each piece."""
    from agentq import wiring
    from agentq.core.queue import find
    from agentq.flows.look import follow_logs

    base = wiring.base()
    find(base.store.read().queue, spec_id)
    known = [str(path) for path in base.runs.transcripts(spec_id)]
    if not known and not list_:
        raise UserError(f"'{spec_id}' has no logs yet", f"'agentq run {spec_id}' makes some")
    if list_:
        if json:
            emit("logs", id=spec_id, logs=known)
        else:
            print("\n".join(known) if known else f"'{spec_id}' has no logs yet")
        return
    try:
        _print_logs(
            follow_logs(base.runs, spec_id, lines, follow=follow), spec_id, known, json=json, follow=follow
        )
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _print_logs(
    pieces: Iterable[tuple[str, str]], spec_id: str, known: list[str], *, json: bool, follow: bool
) -> None:
    shown = ""
    for log, text in pieces:
        if json and not follow:
            emit("logs", id=spec_id, logs=known, log=log, lines=text.splitlines())
        elif json:
            emit("log-text", id=spec_id, log=log, text=text)
        else:
            _show_log(log, text, new=log != shown)
        shown = log


def _show_log(log: str, text: str, *, new: bool) -> None:
    from pathlib import Path

    if new:
        print(f"== {Path(log).name}")
    if text:
        print(text, flush=True)


def diff(
    spec_id: SpecArgument,
    stat: Annotated[bool, typer.Option("--stat", help="Only the summary.")] = False,
    json: Json = False,
) -> None:
    """What a spec changed: landed, proved, or still in its workspace."""
    import sys

    from agentq import wiring
    from agentq.flows.look import diff_of

    base = wiring.base()
    color = not json and sys.stdout.isatty() and not _no_color()
    found = diff_of(wiring.services(base), spec_id, stat=stat, color=color)
    if json:
        emit("diff", id=spec_id, **found.to_json())
    else:
        print(found.text or f"'{spec_id}' has changed nothing yet")


def _no_color() -> bool:
    import os

    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def graph(
    form: Annotated[
        str,
        typer.Option(
            "--format", help="text, dot, mermaid or svg.", autocompletion=words("text", "dot", "mermaid", "svg")
        ),
    ] = "text",
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
        try:
            Path(output).write_text(found.text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{output}: not written ({error.strerror})") from None
        print(f"wrote {output}")
    else:
        print(found.text, end="")
