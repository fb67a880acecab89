"""Any agent that is a program of its own: start it, read what it says line by line, end it, judge its end.

What differs between agents (flags, events, when they count as content) is a `Dialect`; what is the same is here.
Invariant: limits hold whether or not the agent knows them: events are counted, and the agent is ended.
"""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from agentq import capture, process
from agentq.core import redact
from agentq.core.finding import Finding
from agentq.core.text import clean
from agentq.core.usage import Usage
from agentq.drivers.base import (
    AgentResult,
    AgentTask,
    Cause,
    Event,
    Limits,
    Retried,
    Said,
    UsedTokens,
    UsedTool,
    ignore,
)
from agentq.errors import DriverError

# Puts a command into a sandbox: the command, its task, the agent's own folders.
Wrap = Callable[[list[str], AgentTask, tuple[Path, ...]], list[str]]
MAX_LINE = 16 * 1024 * 1024  # bytes of one event; what is longer is not an event
VERSION_LIMIT = 20.0  # s for `--version`


class Reader(Protocol):
    """Understands one run of an agent."""

    def feed(self, line: str) -> list[Event]:
        """The events of one line of stdout. A line that is none gives []; nothing raises."""
        ...

    def verdict(self, outcome: process.Outcome, errors: str) -> AgentResult:
        """How the run ended. errors: the last lines of stderr, cleaned."""
        ...


class Dialect(Protocol):
    """How one kind of agent is spoken to."""

    @property
    def name(self) -> str: ...

    @property
    def program(self) -> str:
        """Looked for on the PATH, unless it is a path."""
        ...

    @property
    def confines(self) -> bool:
        """Whether the agent itself puts its tools into a sandbox."""
        ...

    @property
    def folders(self) -> tuple[str, ...]:
        """What the agent writes below the home folder: its own state. Relative paths."""
        ...

    def command(self, task: AgentTask, program: str) -> list[str]: ...

    def env(self, task: AgentTask) -> dict[str, str]:
        """Variables the agent needs beside `task.env`: its server, its key, its switches."""
        ...

    def reader(self, task: AgentTask) -> Reader: ...

    def doctor(self, version: str) -> list[Finding]:
        """Whether it is logged in. version: what `--version` printed."""
        ...

    def attach(self, session: str) -> list[str]: ...


class Lines:
    """The whole lines a growing file has had since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0
        self._rest = b""
        self._skip = False

    def new(self, *, last: bool = False) -> list[str]:
        """Lines since the last call; `last` takes an unfinished one too. No file is an empty one."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        if last and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        if self._skip and whole:
            whole, self._skip = whole[1:], False
        if len(self._rest) > MAX_LINE:
            self._rest, self._skip = b"", True
        return [line.decode("utf-8", "replace") for line in whole if len(line) <= MAX_LINE]


class Watch:
    """Counts what events say, against the limits of the task."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self.usage, self.turns = limits, Usage(), 0
        self.passed = ""

    def see(self, event: Event) -> None:
        if not isinstance(event, UsedTokens):
            return
        self.usage, self.turns = self.usage + event.usage, self.turns + 1
        limits = self._limits
        if limits.tokens and self.usage.fresh > limits.tokens:
            self.passed = f"more than {limits.tokens:,} tokens"
        elif limits.turns and self.turns > limits.turns:
            self.passed = f"more than {limits.turns} turns"


class AgentProgram:
    """A driver for the agent that `dialect` describes.

    allow: names (globs) of variables it may see beside process.BASE_ENV. wrap: puts a command into a sandbox, for
    agents that have none of their own.
    """

    def __init__(
        self,
        dialect: Dialect,
        allow: Iterable[str] = (),
        *,
        wrap: Wrap | None = None,
        max_output: int = process.MAX_OUTPUT,
    ) -> None:
        self.dialect, self.allow, self._wrap, self._max = dialect, (*process.BASE_ENV, *allow), wrap, max_output

    @property
    def name(self) -> str:
        return self.dialect.name

    @property
    def gated(self) -> bool:
        return bool(getattr(self.dialect, "gated", False))

    def doctor(self) -> list[Finding]:
        program = self._program()
        if not program:
            return [Finding(False, f"{self.name} is not installed", f"put '{self.dialect.program}' on the PATH")]
        version = _version(program, process.clean_env(self.allow, {}))
        if not version:
            return [Finding(False, f"{self.name} ({program}) does not start", f"try '{program} --version'")]
        return [Finding(True, f"{self.name} {version} is {program}"), *self.dialect.doctor(version)]

    def run(
        self,
        task: AgentTask,
        *,
        stop: Callable[[], str | None],
        tick: Callable[[], None],
        hear: Callable[[Event], None] = ignore,
    ) -> AgentResult:
        program = self._program()
        if not program:
            why = f"'{self.dialect.program}' is not on the PATH"
            return AgentResult("missing", why, 127, 0.0, 0)
        try:
            return self._run(program, task, stop, tick, hear)
        finally:
            shutil.rmtree(temporary(task), ignore_errors=True)

    def _run(
        self,
        program: str,
        task: AgentTask,
        stop: Callable[[], str | None],
        tick: Callable[[], None],
        hear: Callable[[Event], None],
    ) -> AgentResult:
        raw, errors = task.transcript.with_suffix(".ndjson"), task.transcript.with_suffix(".err")
        reader, watch, lines = self.dialect.reader(task), Watch(task.limits), Lines(raw)

        def listen(*, last: bool = False) -> None:
            for line in lines.new(last=last):
                for event in reader.feed(line):
                    watch.see(event)
                    note(task.transcript, event)
                    hear(event)

        def ticking() -> None:
            listen()
            tick()

        command = self.dialect.command(task, program)
        if self._wrap and not self.dialect.confines:
            home = Path(os.environ.get("HOME") or "/")
            command = self._wrap(command, task, tuple(home / name for name in self.dialect.folders))
        env = process.clean_env(self.allow, {**task.env, **self.dialect.env(task)})
        outcome = process.run(
            command, cwd=task.workspace, env=env, output=raw, errors=errors, marker=task.run_id,
            timeout=task.limits.timeout, silence=task.limits.silence, max_output=self._max,
            stop=lambda: stop() or watch.passed or None, tick=ticking,
            secrets=(*task.secrets, *_keys(task), *redact.passwords(task.env.values())),
        )  # fmt: skip
        if self._wrap and not self.dialect.confines:
            walled(replace(outcome, tail=capture.tail(errors)))
        listen(last=True)
        result = reader.verdict(outcome, clean(capture.tail(errors)))
        if outcome.kind == "stopped" and watch.passed and outcome.reason == clean(watch.passed):
            cause: Cause = "turns" if watch.passed.endswith("turns") else "budget"
            result = replace(result, outcome="limit", cause=cause, summary=watch.passed)
        usage = result.usage if result.usage.total else watch.usage
        return replace(result, usage=usage, turns=result.turns or watch.turns)

    def attach(self, session: str) -> list[str]:
        return self.dialect.attach(session)

    def _program(self) -> str:
        return shutil.which(self.dialect.program, path=process.clean_env(self.allow, {}).get("PATH")) or ""


def temporary(task: AgentTask) -> Path:
    """The folder for temporary files of one run, for a dialect that makes it. It goes when the run is over."""
    return Path(tempfile.gettempdir()) / f"agentq-{sha256(task.run_id.encode()).hexdigest()[:16]}"


def own_folder(path: Path) -> None:
    """Make a folder that nobody else can enter. Raises DriverError when somebody else was first."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise DriverError(f"{path} belongs to somebody else", "remove it, or set TMPDIR to a folder of your own")


def _keys(task: AgentTask) -> tuple[str, ...]:
    # A local server's key may be any word: hiding it would spoil every line it stands in.
    return (task.brain.key,) if len(task.brain.key) >= redact.SHORTEST else ()


def missing(program: str, workspace: Path, env: dict[str, str]) -> AgentResult | None:
    """The result of an agent whose program cannot be started: inside walls the start itself would not tell."""
    where = workspace / program if "/" in program else shutil.which(program, path=env.get("PATH"))
    if where and os.access(where, os.X_OK) and Path(where).is_file():
        return None
    there = bool(where) and Path(str(where)).exists()
    why = clean(f"{program}: {'Permission denied' if there else 'No such file or directory'}")
    return AgentResult("missing", why, 126 if there else 127, 0.0, 0)


def walled(outcome: process.Outcome) -> None:
    """Raises DriverError when the walls could not be made: then no agent has run."""
    if outcome.kind == "exited" and outcome.returncode == 125:
        last = (outcome.tail.splitlines() or ["no reason given"])[-1]
        raise DriverError(
            f"the sandbox could not be made: {last}", "'agentq doctor'; [sandbox] use decides about it"
        )


def note(transcript: Path, event: Event) -> None:
    """Write an event down for people, as `agentq logs` shows it."""
    if isinstance(event, Said):
        text = event.text
    elif isinstance(event, UsedTool):
        text = f"[{event.name}] {event.detail}"
    elif isinstance(event, Retried):
        text = f"(asks its model again: {event.message or event.status or 'no answer'})"
    else:
        return
    out = capture.append(transcript)
    try:
        os.write(out, (text.rstrip() + "\n").encode("utf-8", "replace"))
    finally:
        os.close(out)


def ended(outcome: process.Outcome) -> AgentResult:
    """What the process alone tells: a verdict to begin with. An agent that exited with 0 counts as done."""
    kind = outcome.kind if outcome.kind != "exited" else ("failed" if outcome.returncode else "done")
    summary = outcome.reason or (outcome.tail.splitlines() or [""])[-1]
    return AgentResult(kind, summary, outcome.returncode, outcome.seconds, outcome.leftovers)


def _version(program: str, env: dict[str, str]) -> str:
    """The first line of `--version`, '' when there is none in time."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "version"
        marker = f"version-{os.getpid()}-{time.monotonic_ns()}"
        outcome = process.run(
            [program, "--version"],
            cwd=Path(folder),
            env=env,
            output=log,
            marker=marker,
            errors=log.with_suffix(".err"),
            timeout=VERSION_LIMIT,
        )
        return (outcome.tail.splitlines() or [""])[0] if outcome.returncode == 0 else ""
