"""Several specs at once on this host, until the queue drains or nothing more may start.

Each spec runs in an agentq process of its own, so one that falls over takes nothing with it. This process only
decides, starts and listens. While the remote does not answer it starts nothing; what runs goes on. First request
to stop: no new claims; second: the runs are asked to end, save their work and release their leases for the next
`run`.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agentq.core.board import Board
from agentq.core.reasons import NoModel, Reason
from agentq.core.schedule import Advice
from agentq.errors import AgentqError, ExitCode
from agentq.flows.advise import Situation

POLL_SECONDS = 0.25
_BUSY = ("refused", "stale")  # errors that say that somebody else was faster
_REFUSED_SECONDS, _REFUSALS = 1.0, 20
_OUTSIDE = (
    "external",
    "git",
    "store",
    "database",
)  # if these are worth another try, nothing is wrong with the spec
_REACHED = ("agent-started", "lane-entered", "landed")  # events of a run that come only while the remote answers
PAUSES = (5.0, 60.0)  # s in which nothing is started when it does not, the first and the longest


@dataclass
class Worker:
    spec: str
    process: "subprocess.Popen[bytes]"
    buffer: bytes = b""
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkReport:
    """How each spec that was started ended, in order of ending; why each other one that was wanted did not
    start; `blocked`: why nothing more could start at all (pause, full machine)."""

    ended: tuple[dict[str, Any], ...]
    waiting: dict[str, Reason]
    interrupted: bool = False
    blocked: Reason | None = None


@dataclass
class Work:
    """`folder`: the checkout; `look` reads the queue and the machine; `command(spec)` starts one run; `stops()`
    counts the requests to stop so far; `observer` hears every event of every run; `tick` is called between them.
    `only`: start none but these, and each once (empty: whatever is eligible)."""

    folder: Path
    look: Callable[[], Situation]
    command: Callable[[str], Sequence[str]]
    stops: Callable[[], int]
    observer: Callable[[str, dict[str, Any]], None]
    tick: Callable[[], None]
    at_once: int
    only: frozenset[str] = frozenset()
    workers: dict[str, Worker] = field(default_factory=dict)
    ended: list[dict[str, Any]] = field(default_factory=list)
    given_up: set[str] = field(default_factory=set)
    refused: dict[str, float] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    blocked: Reason | None = None
    halted: Reason | None = None
    pause: float = 0.0
    resume_at: float = 0.0

    def run(self) -> WorkReport:
        waiting: dict[str, Reason] = {}
        heard = 0
        with selectors.DefaultSelector() as selector:
            try:
                while True:
                    requests = min(self.stops(), 2)
                    if not requests:
                        waiting = self._start_more(selector)
                    elif requests > heard:
                        heard = requests
                        self._stop(requests)
                    if not self.workers and (requests or not (self.refused or self.resume_at)):
                        break
                    self._listen(selector)
                    self.tick()
            except BaseException:
                self._end_all()
                raise
        started = {one["spec"] for one in self.ended}
        told = {
            spec: reason
            for spec, reason in waiting.items()
            if spec not in started and (not self.only or spec in self.only)
        }
        return WorkReport(tuple(self.ended), told, bool(self.stops()), self.blocked)

    def _start_more(self, selector: selectors.BaseSelector) -> dict[str, Reason]:
        """Start what may start; returns why the others may not."""
        if self.halted is not None:
            self._tell_full(self.halted)
            return {}
        now = time.monotonic()
        self.refused = {spec: due for spec, due in self.refused.items() if due > now}
        if now < self.resume_at:
            return {}
        self.resume_at = 0.0
        while len(self.workers) < self.at_once:
            situation = self._look()
            if situation is None:
                return {}
            board = _with_started(situation.board, set(self.workers) | self.given_up)
            live = (situation.host.live | set(self.workers)) - self.given_up
            advice = replace(situation, board=board, host=replace(situation.host, live=live)).advice()
            pick = next((one for one in advice.ranked if self._wanted(one.id)), None)
            if advice.blocked is not None or pick is None:
                self._tell_full(advice.blocked)
                return self._why_not(advice)
            if situation.age:
                self._back_off("the shared queue cannot be reached")
                return {}
            self._start(pick.id, selector)
        return {}

    def _look(self) -> Situation | None:
        """None when that failed and is worth another try: what runs must not end with it."""
        try:
            return self.look()
        except AgentqError as error:
            if not self.workers and not error.retryable:
                raise
            self._back_off(error.message)
            return None

    def _back_off(self, why: str) -> None:
        """Start nothing for a while, a longer one each time until a run reaches the remote. Told once."""
        now = time.monotonic()
        if now < self.resume_at:
            return  # several runs met the same
        first, longest = PAUSES
        if not self.pause:
            self.observer("note", {"text": f"{why}: trying again in {first:g} s, then less often"})
        self.pause = min(max(2 * self.pause, first), longest)
        self.resume_at = now + self.pause

    def _why_not(self, advice: Advice) -> dict[str, Reason]:
        if advice.blocked is None:
            return dict(advice.held)
        return {**advice.held, **{one.id: advice.blocked for one in advice.ranked}}

    def _wanted(self, spec_id: str) -> bool:
        if spec_id in self.given_up or spec_id in self.refused:
            return False
        return not self.only or (spec_id in self.only and all(one["spec"] != spec_id for one in self.ended))

    def _tell_full(self, blocked: Reason | None) -> None:
        self.blocked = blocked
        if blocked is not None and not self.workers:
            self.observer("blocked", {"text": blocked.text, "kind": blocked.kind})

    def _start(self, spec_id: str, selector: selectors.BaseSelector) -> None:
        child = subprocess.Popen(
            list(self.command(spec_id)), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        worker = Worker(spec_id, child)
        self.workers[spec_id] = worker
        selector.register(child.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        self.observer("started", {"spec": spec_id, "pid": child.pid})

    def _listen(self, selector: selectors.BaseSelector) -> None:
        for key, _ in selector.select(POLL_SECONDS):
            worker: Worker = key.data
            data = os.read(key.fd, 65536)
            if data:
                worker.buffer += data
                *lines, worker.buffer = worker.buffer.split(b"\n")
                for line in lines:
                    self._hear(worker, line)
                continue
            selector.unregister(key.fileobj)
            self._ended(worker)

    def _hear(self, worker: Worker, line: bytes) -> None:
        with suppress(ValueError):
            event = json.loads(line)
            if not isinstance(event, dict):
                return
            kind = str(event.pop("event", ""))
            if kind in ("result", "error"):
                worker.result = event
            else:
                if kind in _REACHED:
                    self.pause = 0.0
                self.observer(kind, event)

    def _ended(self, worker: Worker) -> None:
        worker.process.stdout.close()  # type: ignore[union-attr]
        rc = worker.process.wait()
        del self.workers[worker.spec]
        result = {"spec": worker.spec, "exit": rc, **worker.result}
        error = result.get("error", {})
        code = error.get("code", "")
        if code in _BUSY and self.refusals[worker.spec] < _REFUSALS:
            # Another agentq was faster: that is no failure, and the spec may be ours a little later.
            self.refusals[worker.spec] += 1
            self.refused[worker.spec] = time.monotonic() + _REFUSED_SECONDS
            return
        if code in _OUTSIDE and error.get("retryable"):
            self._back_off(str(error.get("message")))
            return
        if result.get("ended") == "interrupted" and result.get("why"):
            # The next spec would be told the same.
            self.halted = NoModel(str(result.get("problem", "")))
        if rc != ExitCode.OK or result.get("ended") == "declined":
            self.given_up.add(worker.spec)
        self.ended.append(result)
        self.observer("ended", result)

    def _stop(self, requests: int) -> None:
        """The first request lets runs finish, the second asks them to end."""
        self.observer("stopping", {"requests": requests, "running": len(self.workers)})
        if requests > 1:
            self._end_all()

    def _end_all(self) -> None:
        for worker in self.workers.values():
            with suppress(OSError):
                worker.process.send_signal(signal.SIGTERM)


def _with_started(board: Board, started: set[str]) -> Board:
    """The board with runs that were started but have not claimed yet counted as in progress."""
    moved = tuple(node for node in board.ready if node.id in started)
    if not moved:
        return board
    return replace(
        board,
        ready=tuple(node for node in board.ready if node.id not in started),
        in_progress=(*board.in_progress, *moved),
    )


def run_command(spec_id: str) -> list[str]:
    """How a worker process is started."""
    return [sys.executable, "-m", "agentq", "run", spec_id, "--yes", "--worker", str(os.getpid())]
