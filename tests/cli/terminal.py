"""agentq on a terminal of its own (a pty of 80 columns), and queues to show there."""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

from support.project import Project

ESCAPE = "\x1b"
_CSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
# The pty becomes its controlling terminal, so that ^C is a signal; a parallel test run ignores that signal.
_LAUNCH = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, [])
os.execv(sys.executable, [sys.executable, "-m", "agentq", *sys.argv[1:]])
"""


class Terminal:
    """A running agentq. `shown`: everything it printed so far, with Unix line ends."""

    def __init__(self, folder: Path, *args: str, columns: int = 80, rows: int = 24, **env: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        given = {**os.environ, "TERM": "xterm-256color", **env}
        given = {name: value for name, value in given.items() if value and name not in ("COLUMNS", "LINES")}
        self.child = subprocess.Popen(
            [sys.executable, "-c", _LAUNCH, *args], cwd=folder, stdin=slave, stdout=slave, stderr=slave,
            env=given, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self._raw = b""

    @property
    def shown(self) -> str:
        return self._raw.decode("utf-8", "replace").replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        """Every line without escape sequences; a line drawn twice is there twice."""
        return [line.rpartition("\r")[2] for line in _CSI.sub("", self.shown).split("\n")]

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, words: str, seconds: float = 30) -> None:
        """Read until `words` were shown."""
        deadline = time.monotonic() + seconds
        while words not in self.shown:
            assert time.monotonic() < deadline, f"{words!r} was not shown:\n{self.shown}"
            assert self._read(), f"it ended without {words!r}:\n{self.shown}"

    def press(self, key: str, seconds: float = 30) -> int:
        """Press `key` until it ends; the exit status. Python misses a signal that comes just before it reads."""
        deadline = time.monotonic() + seconds
        while True:
            assert time.monotonic() < deadline, self.shown
            self.type(key)
            again = time.monotonic() + 3
            while time.monotonic() < again:
                if not self._read():
                    return self.end()

    def end(self, seconds: float = 60) -> int:
        """Read until the end; the exit status."""
        deadline = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < deadline, self.shown
        os.close(self._master)
        return self.child.wait(timeout=10)

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 0.2)[0]:
            return True
        try:
            piece = os.read(self._master, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            return False
        self._raw += piece
        return bool(piece)


def lease(epoch: int, machine: str = "host") -> dict[str, Any]:
    times = {"acquired": "2026-01-01T10:00:00Z", "expires": "2099-01-01T10:00:00Z"}
    return {"machine": machine, "instance": 1, "epoch": epoch, **times}


def spec(spec_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": spec_id, "title": f"Title of {spec_id}", "files_modified": [f"{spec_id}.txt"], **fields}


def landed(spec_id: str, epoch: int) -> dict[str, Any]:
    return spec(
        spec_id, landed="a" * 40, epoch=epoch, machine="host", claimed_at="2026-01-01T10:00:00Z",
        landed_at="2026-01-01T12:30:00Z",
    )  # fmt: skip


def forty() -> dict[str, Any]:
    """Every state at once: forty ready specs with long titles and names, some in progress, some landed."""
    long = "that answers every question a visitor may ask about it, quickly and in every language"
    ready: list[dict[str, Any]] = []
    for number in range(40):
        needs = [one["id"] for one in ready[max(0, number - 6) : number : 2]] if number % 3 else []
        ready.append(
            spec(f"page-{number:02d}", title=f"Page {number} {long}", depends_on=needs, estimate_hours=2.5)
        )
    ready[4]["held"] = "waits for the design review with the customer, who is away until the end of next week"
    ready[0]["files_modified"] = ["src/a/very/long/folder/with_a_long_name/stuck.py"]
    stuck = spec(
        "stuck", status="implementing", lease=lease(2), failures=2, problem="no",
        files_modified=["src/a/very/long/folder/with_a_long_name/stuck.py"],
        attention="implement failed 2 times: 'python -m pytest -q' failed: " + "FAILED tests/test_login.py " * 5,
    )  # fmt: skip
    running = [
        stuck,
        spec("begun", status="tests-written", lease=lease(3)),
        spec("away", status="verifying", lease=lease(4, "mac-mini")),
    ]
    return {"epoch": 4, "ready": ready, "in_progress": running, "completed": [landed("base", 1)]}


def document(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    """The one JSON document on stdout."""
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def write(project: Project, queue: dict[str, Any]) -> None:
    project.write_queue(**{"ready": [], "in_progress": [], "completed": [], **queue})
