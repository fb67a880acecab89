"""What people see of runs while they work: an event as a line, lines for logs and pipes, the live view.

With render.py the only module that imports rich. Text from specs and agents is cleaned when it comes in and
never read as markup (reliability fact 23). With NO_COLOR there is no style at all; the live view then still
moves the cursor.
"""

import os
import re
import sys
import textwrap
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from agentq.core.text import clean, dollars, one_line

if TYPE_CHECKING:
    from rich.live import Live

PIPE_WIDTH = 100
RECENT = 6
_ID_WIDTH, _STAGE_WIDTH, _CLOCK_WIDTH = 20, 13, 5
# What is worth a line of history beside the rows; a landing is told by its 'ended'.
_MEMORABLE = frozenset(
    [
        "stage-failed",
        "conflict",
        "collision",
        "ended",
        "blocked",
        "recovered",
        "salvaged",
        "trunk-moved",
        "ejected",
        "lane-frozen",
        "note",
        "resolved",
        "model-failed",
        "model-awaited",
        "unwalled",
    ]
)

# What lines about several specs leave out; 'ended' tells of a landing too.
_DETAILS = frozenset(["landed", "pushing", "claimed", "agent-started", "database-ready", "blocked"])


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to the error boundary; rich would end the process with 1."""
        raise BrokenPipeError


def console(file: IO[str] | None = None) -> Console:
    """A console for stdout: no style in a pipe, on a dumb terminal or with NO_COLOR."""
    out = file or sys.stdout
    columns = os.environ.get("COLUMNS", "")
    width = None if out.isatty() else int(columns) if columns.isdigit() and int(columns) > 0 else PIPE_WIDTH
    plain: dict[str, Any] = {"color_system": None} if os.environ.get("NO_COLOR") else {}
    return _Console(file=out, width=width, highlight=False, markup=False, emoji=False, **plain)


def fit(words: str, width: int) -> str:
    """`words` in exactly `width` columns: cut with '…', or filled with spaces."""
    return set_cell_size(shorten(words, width), width)


def shorten(words: str, width: int) -> str:
    """`words` in at most `width` columns, cut with '…'."""
    if cell_len(words) <= width:
        return words
    return set_cell_size(words, max(width - 1, 0)).rstrip() + "…"


class _Wrapper(textwrap.TextWrapper):
    """Breaks between words, and inside a path behind a slash."""

    wordsep_simple_re = re.compile(r"(\s+|(?<=/)(?=\w))")


def wrap(words: str, width: int) -> list[str]:
    """`words` in lines of at most `width` characters."""
    return _Wrapper(width, break_on_hyphens=False).wrap(" ".join(clean(words).split()))


def clock(seconds: float) -> str:
    """'0:07', '12:30' (minutes and seconds) or '1h05'."""
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}"
    return f"{whole // 60}:{whole % 60:02d}"


# ---------------------------------------------------------------- events in words


def event_line(event: str, data: dict[str, Any]) -> str:
    """One event as one plain line, or '' if people need not see it."""
    stage = data.get("stage", "")
    lines: dict[str, Callable[[], str]] = {
        "claimed": lambda: f"claimed under epoch {data['epoch']}",
        "stage-started": lambda: (
            f"{stage}: started" + (f", attempt {data['attempt']}" if data["attempt"] > 1 else "")
        ),
        "database-ready": lambda: f"database branch {data['branch']}" if data.get("branch") else "",
        "routed": lambda: f"{stage}: models {' > '.join(data['tiers'])}" if len(data["tiers"]) > 1 else "",
        "agent-started": lambda: f"{stage}: the agent works{_by(data)}",
        "agent-ended": lambda: f"{stage}: the agent ended ({data['outcome']}, {_took(data)})",
        "model-retried": lambda: f"asks its model again: {data['text'] or data['status'] or 'no answer'}",
        "model-failed": lambda: f"{stage}: {data['tier']} failed ({data['cause']}): {data['text']}",
        "model-awaited": lambda: f"{stage}: waits for a model until {data['until']} UTC: {data['text']}",
        "unwalled": lambda: str(data["text"]),
        "command": lambda: "" if _is_chore(data.get("log", "")) else f"runs {data['command']}",
        "migrating": lambda: str(data["text"]),
        "migration": lambda: "migration: " + "; ".join([", ".join(data["paths"]), *data["notes"]]),
        "migrations-left-out": lambda: f"left the agent's migrations out: {', '.join(data['paths'])}",
        "dev-migrated": lambda: f"dev follows trunk at {str(data['commit'])[:10]}",
        "collision": lambda: f"will collide with {data['other'] or 'trunk'} in {_paths(data)}",
        "resolved": lambda: f"conflict resolved ({data['rule']}): {data['path']}: {data['text']}",
        "tests-restored": lambda: f"put locked tests back: {', '.join(data['paths'])}",
        "stage-proved": lambda: f"{stage}: proved" + "".join(f"; {note}" for note in data["notes"]),
        "stage-failed": lambda: f"{stage}: failed: {data['problem']}",
        "already-proved": lambda: "this very tree passed before; not tested again",
        "proved": lambda: f"verify: the tree that will land passed in {data['seconds']:.1f} s",
        "trunk-moved": lambda: "trunk moved meanwhile; building on it again",
        "sent-back": lambda: "what landed meanwhile conflicts or says the same; verifying again",
        "lane-entered": lambda: f"waits in the lane{_behind(data['before'])}",
        "lane-testing": lambda: f"lane: testing {_together(data['specs'])} on {data['base'][:10]}: {data['why']}",
        "lane-tested": lambda: (
            f"lane: {_together(data['specs'])} {data['verdict']}"
            + (f": {data['problem']}" if data.get("problem") else "")
        ),
        "lane-ejected": lambda: f"lane: {data['other']} goes back to its owner: {data['problem']}",
        "ejected": lambda: f"left the lane: {data['problem']}",
        "lane-frozen": lambda: f"{data['text']}; {data['hint']}",
        "pushing": lambda: f"pushing {data['commit'][:10]}",
        "landed": lambda: f"landed as {data['commit'][:10]}",
        "conflict": lambda: f"{stage}: conflict in {', '.join(data['paths'])}",
        "salvaged": lambda: f"saved as {data['ref']} ({data['why']})",
        "recovered": lambda: f"recovered: {data['text']}",
        "note": lambda: str(data["text"]),
        "blocked": lambda: f"nothing may start: {data['text']}",
        "stopping": lambda: stopping_line(data["requests"], data["running"]),
        "ended": lambda: ended_line(data),
    }
    try:
        return " ".join(clean(lines[event]()).split()) if event in lines else ""
    except (KeyError, TypeError, ValueError):
        return ""


def _by(data: dict[str, Any]) -> str:
    """Which model, if there is a choice, and why this one."""
    if not data.get("model") and not data.get("why"):
        return ""
    return f" with {data['tier']} ({data['model'] or 'its own model'})" + (
        f", {data['why']}" if data["why"] else ""
    )


def _took(data: dict[str, Any]) -> str:
    tokens = f", {data['tokens']:,} tokens" if data.get("tokens") else ""
    return f"{data['seconds']} s{tokens}" + (f", {dollars(data['cost'])}" if data.get("cost") else "")


def _behind(before: int) -> str:
    return f" behind {before} {'other' if before == 1 else 'others'}" if before else ""


def _is_chore(log: str) -> bool:
    """Whether a command, by the name of its log, is one of the many around a migration: its result is told."""
    name = os.path.basename(log)  # noqa: PTH119
    return "migrate-" in name or "schema-push" in name or "proof-push" in name


def _paths(data: dict[str, Any]) -> str:
    """The paths an event names, and how many more there are."""
    more = data["count"] - len(data["paths"])
    return ", ".join(data["paths"]) + (f" (+{more})" if more > 0 else "")


def _together(specs: list[str]) -> str:
    """The specs of one test run; none: trunk itself."""
    return " + ".join(specs) if specs else "trunk itself"


def ended_line(data: dict[str, Any]) -> str:
    """How the run of one spec ended: its result event, or what is known of a process that died."""
    ended = data.get("ended", "stopped")
    if ended == "landed":
        return f"landed as {data.get('landed', '')[:10]} after {data.get('seconds', 0):.1f} s"
    error = data.get("error", {})
    problem = data.get("problem") or error.get("message") or f"exit status {data.get('exit')}"
    return f"{'needs you' if ended == 'attention' else ended}: {problem}"


def stopping_line(requests: int, running: int) -> str:
    """What a request to stop sets off, and what the next one would."""
    these = "this spec is" if running == 1 else f"these {running} specs are"
    if requests > 1:
        return "ending the agents; their work is saved"
    return f"stopping when {these} done; Ctrl-C again ends them, work is saved"


# ---------------------------------------------------------------- lines and streams


class Lines:
    """Events as plain lines, for one run, a pipe or a log. `named`: each line says which spec it is about.
    A long line goes on below its beginning, so that nothing of a failure is lost."""

    def __init__(self, file: IO[str], *, named: int = 0) -> None:
        """`named`: columns for the spec's id, 0 for none."""
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
        if not line or (self._named and event in _DETAILS):
            return
        spec = str(data.get("spec", ""))
        name = f"{shorten(spec, self._named):<{self._named}}  " if self._named and spec else ""
        head = f"{clock(time.monotonic() - self._started):>6}  {name}"
        room = max(self._console.width - len(head), 20)
        if event == "command":
            line = shorten(line, room)
        for number, part in enumerate(wrap(line, room)):
            self._console.print(Text((head if number == 0 else " " * len(head)) + part), soft_wrap=True)


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


# ---------------------------------------------------------------- the live view


@dataclass
class _Agent:
    started: float
    stage: str = "starting"
    line: str = ""
    log: str = ""
    attempt: int = 1


@dataclass
class WorkView:
    """One row an agent (spec, stage, time, its last line), the newest events, a summary. The columns never
    move and no line is wider or the whole taller than the terminal, so that it can be drawn over itself.
    `ids`: the specs that may run; their longest is the width of the first column."""

    ids: list[str]
    agents: dict[str, _Agent] = field(default_factory=dict)
    recent: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=RECENT))
    landed: int = 0
    stuck: int = 0
    stopping: str = ""
    began: float = field(default_factory=time.monotonic)
    out: Console = field(default_factory=console)
    live: "Live | None" = None

    def __enter__(self) -> "WorkView":
        from rich.live import Live

        self.live = Live(
            get_renderable=self.draw, console=self.out, refresh_per_second=4, transient=True,
            vertical_overflow="crop",
        )  # fmt: skip
        self.live.__enter__()
        return self

    def __exit__(self, *rest: Any) -> None:
        if self.live is not None:
            self.live.__exit__(*rest)

    def event(self, event: str, data: dict[str, Any]) -> None:
        spec = str(data.get("spec", ""))
        agent = self.agents.get(spec)
        if event == "started":
            self.agents[spec] = _Agent(time.monotonic())
        elif event == "stopping":
            self.stopping = event_line(event, data)
        elif agent is not None:
            if event == "stage-started":
                agent.attempt, agent.log = int(data.get("attempt", 1)), ""
            agent.stage = "landing" if event == "pushing" else str(data.get("stage") or agent.stage)
            agent.log = str(data.get("transcript") or data.get("log") or agent.log)
            agent.line = event_line(event, data) or agent.line
        if event == "ended":
            self.agents.pop(spec, None)
            self.landed += data.get("ended") == "landed"
            self.stuck += data.get("ended") in ("attention", "failed")
        if event in _MEMORABLE and (line := event_line(event, data)):
            self.recent.append((time.monotonic(), spec, line))

    def tick(self) -> None:
        """Drawn by its own clock."""

    def draw(self) -> Text:
        """The whole view for the terminal as it is now."""
        width, height = self.out.width, self.out.height
        id_width = min(max([4, *(cell_len(one) for one in self.ids)]), _ID_WIDTH)
        agents = list(self.agents.items())
        room = max(height - 4, 1)
        hidden = max(len(agents) - room, 0)
        shown = agents[: room - 1] if hidden else agents
        stage_clock = f"{'STAGE':<{_STAGE_WIDTH}}  {'TIME':>{_CLOCK_WIDTH}}"
        lines = [(f"{'SPEC':<{id_width}}  {stage_clock}  LAST LINE", "bold")]
        for spec, agent in shown:
            stage = f"{agent.stage} ×{agent.attempt}" if agent.attempt > 1 else agent.stage
            spent = clock(time.monotonic() - agent.started)
            head = f"{fit(spec, id_width)}  {fit(stage, _STAGE_WIDTH)}  {spent:>{_CLOCK_WIDTH}}"
            lines.append((f"{head}  {_last_line(agent)}", ""))
        if len(shown) < len(agents):
            lines.append((f"… and {len(agents) - len(shown)} more", ""))
        past = list(self.recent)[-max(room - len(lines), 0) :] if room > len(lines) else []
        if past:
            lines.append(("", ""))
        for at, spec, line in past:
            name = f"{fit(spec, id_width)}  " if spec else ""
            lines.append((f"{clock(at - self.began):>6}  {name}{line}", "dim"))
        lines += [("", ""), (self._summary(), "bold")]
        return Text("\n").join(Text(shorten(line, width), style=style) for line, style in lines)

    def _summary(self) -> str:
        if self.stopping:
            return self.stopping[0].upper() + self.stopping[1:]
        left = max(len(self.ids) - self.landed - self.stuck - len(self.agents), 0)
        stuck = f", {self.stuck} failed" if self.stuck else ""
        counts = f"{len(self.agents)} at work, {self.landed} landed{stuck}, {left} to go"
        return f"{clock(time.monotonic() - self.began)}  {counts}. Ctrl-C: finish these, then stop."


def _last_line(agent: _Agent) -> str:
    """The newest line of what the agent or the command prints, else the last event."""
    from agentq import capture

    path = Path(agent.log) if agent.log else None
    if path is not None and path.is_file():
        line = one_line(capture.tail(path, lines=1, max_bytes=4096), 400)
        if any(sign.isalnum() for sign in line):
            return line
    return agent.line


def work_view(base: Any, only: list[str]) -> "WorkView | Lines":
    """The live view on a terminal that can move its cursor, plain lines elsewhere. `only`: the specs that
    will run, empty for all."""
    queue = base.store.read().queue
    ids = only or [spec.id for spec in (*queue.in_progress, *queue.ready)]
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in ("dumb", ""):
        return Lines(sys.stdout, named=min(max([4, *map(len, ids)]), _ID_WIDTH))
    return WorkView(ids)
