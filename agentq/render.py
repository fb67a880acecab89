"""What people see: tables, plain lines and the live view. The only module that imports rich.

Text from specs and agents is cleaned when it comes in and never read as markup (reliability fact 23).
"""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agentq.core.schedule import Advice, Candidate
from agentq.core.text import clean, hours, one_line, plural

SHOWN_ROWS = 25
PIPE_WIDTH = 120
_STATUS_STYLE = {
    "testing": "cyan", "tests-written": "cyan", "implementing": "yellow", "implemented": "yellow",
    "verifying": "magenta", "complete": "green", "ready": "",
}  # fmt: skip


def console(file: IO[str] | None = None) -> Console:
    """A console for stdout: no colour in a pipe or with NO_COLOR, and wide enough there not to cut words."""
    out = file or sys.stdout
    width = None if out.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    return Console(file=out, width=width, highlight=False, markup=False, emoji=False)


def _table(*columns: str | tuple[str, dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        name, options = column if isinstance(column, tuple) else (column, {})
        table.add_column(name, **options)
    return table


# ---------------------------------------------------------------- next


def advice(found: Advice, batch: Sequence[Candidate] | None = None) -> None:
    """The recommendation in plain words, with two alternatives; or why there is none."""
    out = console()
    if found.pick is None:
        out.print(Text(_nothing(found)))
        return
    if batch is not None:
        out.print(Text(f"These {len(batch)} can run together:", style="bold"))
        for one in batch:
            out.print(Text.assemble("  ", (one.id, "bold"), f"  {one.title}"))
            out.print(Text(f"      {'; '.join(one.rationale())}", style="dim"))
        return
    pick = found.pick
    out.print(Text.assemble(("Next: ", "bold"), (pick.id, "bold green"), f"  {pick.title}"))
    for line in pick.rationale():
        out.print(Text(f"  · {line}"))
    others = found.ranked[1:3]
    if others:
        out.print(Text("Or:", style="dim"))
        for one in others:
            out.print(Text(f"  {one.id}  {one.title} ({'; '.join(one.rationale()[:2])})", style="dim"))


def _nothing(found: Advice) -> str:
    if found.blocked is not None:
        eligible = f"; {plural(len(found.ranked), 'spec')} would be eligible" if found.ranked else ""
        return f"Nothing may start: {found.blocked.text}{eligible}."
    if not found.held:
        return "Nothing is left to do: the queue is empty."
    counts: dict[str, int] = {}
    for reason in found.held.values():
        counts[reason.kind] = counts.get(reason.kind, 0) + 1
    parts = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda item: -item[1]))
    first = next(iter(found.held.items()))
    return f"Nothing is eligible ({parts}). For example {first[0]}: {first[1].text}. 'agentq status' shows all."


def candidate(one: Candidate) -> None:
    """Everything that speaks for one candidate."""
    out = console()
    for line in one.rationale():
        out.print(Text(f"  · {line}"))
    out.print(Text(f"  estimate {hours(one.hours)}, number {one.position + 1} in order of arrival", style="dim"))


# ---------------------------------------------------------------- looking


def status(found: Any, *, everything: bool) -> None:
    """Three sections: in progress, ready (best first), completed (newest last)."""
    out = console()
    if found.paused:
        why = f": {found.paused}" if isinstance(found.paused, str) else ""
        out.print(Text(f"Paused{why}. 'agentq resume' allows new claims.", style="bold yellow"))
    live = {one.spec: one for one in found.live}
    for array, title in (("in_progress", "In progress"), ("ready", "Ready"), ("completed", "Completed")):
        rows = [row for row in found.rows if row.array == array]
        if not rows:
            continue
        shown = rows if everything else (rows[-SHOWN_ROWS:] if array == "completed" else rows[:SHOWN_ROWS])
        out.print(Text(f"{title} ({len(rows)})", style="bold"))
        table = _table(
            ("ID", {"no_wrap": True, "max_width": 24}), ("TITLE", {"no_wrap": True, "max_width": 26}),
            ("STATUS", {"no_wrap": True}), ("TIME", {"no_wrap": True}),
            ("REASON", {"overflow": "fold", "min_width": 16}),
        )  # fmt: skip
        for row in shown:
            mark = "● " if row.id in live else ""
            table.add_row(
                Text(row.id), Text(one_line(row.title)), Text(mark + row.status, style=_STATUS_STYLE[row.status]),
                Text(_time(row.elapsed_hours, row.estimate_hours)),
                Text(row.reason, style="yellow" if row.reason_kind == "attention" else ""),
            )  # fmt: skip
        out.print(table)
        if len(shown) < len(rows):
            out.print(Text(f"  … and {len(rows) - len(shown)} more ('agentq status --all')", style="dim"))
        out.print()
    if not found.rows:
        out.print(Text("The queue is empty. 'agentq add ID --title …' adds a spec."))
        return
    out.print(Text(f"{found.machine}: {len(live)} of {plural(found.instances, 'instance')} at work", style="dim"))


def _time(elapsed: float | None, estimate: float | None) -> str:
    if elapsed is None:
        return hours(estimate) if estimate else ""
    spent = f"{elapsed * 3600:.0f} s" if elapsed < 1 / 60 else hours(elapsed)
    return f"{spent} of {hours(estimate)}" if estimate else spent


def details(found: dict[str, Any]) -> None:
    out = console()
    entry = found["entry"]
    out.print(Text.assemble((found["id"], "bold"), f"  {entry['title']}"))
    table = _table(("", {"style": "dim", "no_wrap": True}), ("", {"overflow": "fold"}))
    table.show_header = False
    table.add_row("status", Text(entry.get("status") or {"completed": "complete"}.get(found["array"], "ready")))
    for key in (
        "type", "attention", "problem", "failures", "depends_on", "files_modified", "estimate_hours",
        "context_budget", "priority", "held", "tests", "base", "landed", "landed_at", "description", "spec",
    ):  # fmt: skip
        if key in entry:
            value = entry[key]
            table.add_row(key, Text(", ".join(value) if isinstance(value, list) else str(value)))
    if found["unblocks"]:
        table.add_row("unblocks", Text(", ".join(found["unblocks"])))
    if "lease" in entry:
        lease = entry["lease"]
        who = f"{lease['machine']} instance {lease['instance']}, epoch {lease['epoch']}, until {lease['expires']}"
        table.add_row("lease", Text(who))
    for stage, record in entry.get("stages", {}).items():
        seconds = record.get("seconds", 0.0)
        tries = plural(record.get("attempts", 0), "attempt")
        table.add_row(stage, Text(f"{seconds:.1f} s, {tries}"))
    if found["workspace"]:
        table.add_row("workspace", Text(found["workspace"]))
    if found["logs"]:
        table.add_row("last log", Text(found["logs"][-1]))
    out.print(table)
    for event in found["events"][-20:]:
        line = event_line(event["event"], event)
        if line:
            out.print(Text(f"  {event.get('at', '')[11:19]}  {line}", style="dim"))


def why(found: dict[str, Any]) -> None:
    out = console()
    out.print(Text.assemble((found["id"], "bold"), f": {found['answer']}"))
    for line in found["rationale"]:
        out.print(Text(f"  · {line}"))
    if "unblocks" in found and not found["rationale"]:
        out.print(
            Text(f"  it would unlock {found['unblocks']}; {hours(found['critical_hours'])} of work hang on it")
        )
    for line in found.get("chain", []):
        out.print(Text(f"  └ {line}", style="dim"))


def landed(entries: Sequence[Any]) -> None:
    """What landed: seconds per stage, attempts, commit."""
    table = _table(
        "SPEC", "TITLE", *((name, {"justify": "right"}) for name in ("TEST", "IMPL", "VERIFY")), "LANDED"
    )
    for entry in entries:
        cells = []
        for stage in ("test", "implement", "verify"):
            record = entry.stages.get(stage)
            tries = f" ×{record.attempts}" if record and record.attempts > 1 else ""
            cells.append(Text(f"{record.seconds:.1f} s{tries}" if record else "–"))
        table.add_row(Text(entry.id), Text(one_line(entry.title, 32)), *cells, Text(entry.landed[:10]))
    console().print(table)


# ---------------------------------------------------------------- running


def event_line(event: str, data: dict[str, Any]) -> str:
    """One event as one plain line, or '' if people need not see it."""
    stage = data.get("stage", "")
    lines: dict[str, Callable[[], str]] = {
        "claimed": lambda: f"claimed under epoch {data['epoch']}",
        "stage-started": lambda: (
            f"{stage}: started" + (f", attempt {data['attempt']}" if data["attempt"] > 1 else "")
        ),
        "database-ready": lambda: f"database branch {data['branch']}" if data.get("branch") else "",
        "agent-started": lambda: f"{stage}: the agent works",
        "agent-ended": lambda: f"{stage}: the agent ended ({data['outcome']}, {data['seconds']} s)",
        "command": lambda: f"runs {data['command']}",
        "tests-restored": lambda: f"put locked tests back: {', '.join(data['paths'])}",
        "stage-proved": lambda: f"{stage}: proved" + "".join(f"; {note}" for note in data["notes"]),
        "stage-failed": lambda: f"{stage}: failed: {data['problem']}",
        "already-proved": lambda: "this very tree passed before; not tested again",
        "proved": lambda: f"verify: the tree that will land passed in {data['seconds']} s",
        "trunk-moved": lambda: "trunk moved meanwhile; rebasing and verifying again",
        "pushing": lambda: f"pushing {data['commit'][:10]}",
        "landed": lambda: f"landed as {data['commit'][:10]}",
        "conflict": lambda: f"{stage}: conflict in {', '.join(data['paths'])}",
        "salvaged": lambda: f"saved as {data['ref']} ({data['why']})",
        "recovered": lambda: f"recovered: {data['text']}",
        "note": lambda: str(data["text"]),
        "blocked": lambda: f"nothing may start: {data['text']}",
        "ended": lambda: _ended_line(data),
    }
    try:
        return clean(lines[event]()) if event in lines else ""
    except (KeyError, TypeError):
        return ""


def _ended_line(data: dict[str, Any]) -> str:
    if data.get("ended") == "landed":
        return f"done in {data.get('seconds', 0):.1f} s"
    error = data.get("error", {})
    problem = data.get("problem") or error.get("message") or f"exit status {data.get('exit')}"
    return f"{data.get('ended', 'stopped')}: {problem}"


class Lines:
    """Events as plain lines, for one run, a pipe or a log."""

    def __init__(self, file: IO[str], *, named: bool = False) -> None:
        self._console = console(file)
        self._named = named
        self._started = time.monotonic()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tick(self) -> None:
        """Plain lines need no refresh."""

    def event(self, event: str, data: dict[str, Any]) -> None:
        line = event_line(event, data)
        if line:
            name = f"{data.get('spec', ''):<16} " if self._named else ""
            seconds = time.monotonic() - self._started
            self._console.print(Text(f"{seconds:7.1f}s  {name}{line}"), soft_wrap=True)


class Stream:
    """Events handed on as they are (NDJSON)."""

    def __init__(self, emit: Callable[[str, dict[str, Any]], None]) -> None:
        self.event = emit

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def tick(self) -> None:
        """A stream needs no refresh."""


@dataclass
class _Agent:
    title: str
    started: float
    stage: str = ""
    line: str = ""
    log: str = ""
    attempt: int = 1


@dataclass
class WorkView:
    """The live view: one row an agent (spec, stage, elapsed, its last line), the newest events below."""

    titles: dict[str, str]
    agents: dict[str, _Agent] = field(default_factory=dict)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=6))
    landed: int = 0
    live: Live | None = None

    def __enter__(self) -> "WorkView":
        self.live = Live(self._draw(), console=console(), refresh_per_second=4, transient=True)
        self.live.__enter__()
        return self

    def __exit__(self, *rest: Any) -> None:
        if self.live is not None:
            self.live.__exit__(*rest)

    def event(self, event: str, data: dict[str, Any]) -> None:
        spec = str(data.get("spec", ""))
        agent = self.agents.get(spec)
        if event == "started":
            self.agents[spec] = _Agent(self.titles.get(spec, ""), time.monotonic(), stage="starting")
        elif agent is not None:
            agent.stage = {"pushing": "landing"}.get(event, data.get("stage") or agent.stage)
            agent.attempt = int(data.get("attempt", agent.attempt)) if event == "stage-started" else agent.attempt
            agent.log = str(data.get("transcript") or data.get("log") or agent.log)
            agent.line = event_line(event, data) or agent.line
        if event == "ended":
            self.agents.pop(spec, None)
            self.landed += data.get("ended") == "landed"
        if event in (
            "landed",
            "stage-failed",
            "conflict",
            "ended",
            "blocked",
            "recovered",
            "salvaged",
            "trunk-moved",
        ):
            self._remember(spec, event_line(event, data))
        self.tick()

    def _remember(self, spec: str, line: str) -> None:
        if line:
            self.recent.append(f"{spec}: {line}" if spec else line)

    def tick(self) -> None:
        if self.live is not None:
            self.live.update(self._draw())

    def _draw(self) -> Group:
        table = _table(
            ("SPEC", {"no_wrap": True, "max_width": 20}), ("STAGE", {"no_wrap": True}),
            ("TIME", {"no_wrap": True, "justify": "right"}),
            ("LAST LINE", {"no_wrap": True, "overflow": "ellipsis"}),
        )  # fmt: skip
        for spec, agent in self.agents.items():
            stage = agent.stage + (f" ({agent.attempt})" if agent.attempt > 1 else "")
            seconds = time.monotonic() - agent.started
            clock = f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds:.0f} s"
            table.add_row(Text(spec), Text(stage), Text(clock), Text(_last_line(agent)))
        summary = (
            f"{plural(len(self.agents), 'agent')} at work, {self.landed} landed. Ctrl-C: finish these and stop."
        )
        return Group(table, *(Text(f"  {line}", style="dim") for line in self.recent), Text(summary, style="bold"))


def _last_line(agent: _Agent) -> str:
    """The newest line of what the agent or the command prints, else the last event."""
    from pathlib import Path

    from agentq import process

    path = Path(agent.log) if agent.log else None
    if path is not None and path.is_file():
        line = one_line(process.tail(path, lines=1, max_bytes=4096), 200)
        if line:
            return line
    return agent.line


def work_view(base: Any) -> "WorkView | Lines":
    """The live view on a terminal, plain lines elsewhere."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return Lines(sys.stdout, named=True)
    queue = base.store.read().queue
    return WorkView({spec.id: spec.title for spec in (*queue.ready, *queue.in_progress)})


def report(found: Any) -> None:
    """How one run ended, and what to do next."""
    out = console()
    if found.ended == "landed":
        out.print(Text.assemble(("landed ", "bold green"), f"{found.spec} as {found.landed[:10]}"))
    elif found.ended == "stopped":
        out.print(Text.assemble(("proved ", "bold green"), f"{found.spec}: the {found.stage} stage is done"))
        out.print(Text(f"next: 'agentq run {found.spec}'", style="dim"))
    else:
        out.print(
            Text.assemble(
                (f"{found.ended}: ", "bold red"), f"{found.spec} in {found.stage}: {clean(found.problem)}"
            )
        )
        if found.hint:
            out.print(Text(f"hint: {clean(found.hint)}"))
    for note in found.notes:
        out.print(Text(f"note: {clean(note)}", style="dim"))


def work_report(found: Any) -> None:
    """The end of `work`: how each spec ended, and why others did not start."""
    out = console()
    landed = [one for one in found.ended if one.get("ended") == "landed"]
    out.print(Text(f"{len(landed)} landed", style="bold"))
    for one in found.ended:
        if one.get("ended") != "landed":
            out.print(Text(f"  {one['spec']}: {_ended_line(one)}", style="yellow"))
            hint = one.get("hint") or one.get("error", {}).get("hint")
            if hint:
                out.print(Text(f"    hint: {clean(hint)}", style="dim"))
    if found.interrupted:
        out.print(Text("stopped on request; 'agentq work' goes on"))
        return
    waiting = list(found.waiting.items())
    for spec, reason in waiting[:10]:
        out.print(Text(f"  {spec} waits: {reason.text}", style="dim"))
    if len(waiting) > 10:
        out.print(Text(f"  … and {len(waiting) - 10} more", style="dim"))
