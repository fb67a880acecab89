"""The configured SQLite file, and its sealed copies.

dev itself is only ever opened by the child process of `sqlite_copy`.
"""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from agentq.databases import sqlite_copy
from agentq.databases.base import Generation
from agentq.databases.sqlite_store import Store, failed, failed_os, unlink
from agentq.errors import DatabaseError

KEEP = 2  # generations
LOCK_HOLD = 1.0  # seconds to hold it
COPY_LIMIT = 600.0  # seconds one sealing may take
SWEEP_WAIT = 10.0  # seconds to wait for whoever is at work
GENERATION = re.compile(r"(g(\d{8})_([0-9a-f]{16}|unpinned))\.db")
# Scheme and slashes, path, query string. The last form is a bare path.
FORMS = (
    re.compile(r"(?P<prefix>sqlite3?(?:\+\w+)?:///)(?P<path>[^?#]+)(?P<query>\?.*)?"),
    re.compile(r"(?P<prefix>sqlite3?:)(?P<path>(?!//)[^?#]+)(?P<query>\?.*)?"),
    re.compile(r"(?P<prefix>file://(?:localhost)?)(?P<path>/[^?#]+)(?P<query>\?.*)?"),
    re.compile(r"(?P<prefix>file:)(?P<path>(?!//)[^?#]+)(?P<query>\?.*)?"),
    re.compile(r"(?P<prefix>)(?P<path>(?!\w[\w+.-]*:).+)(?P<query>)", re.DOTALL),
)


@dataclass(frozen=True)
class Location:
    """A configured URL in its parts; `path` is absolute."""

    prefix: str
    path: Path
    query: str

    def at(self, path: Path) -> str:
        """The same form of URL for another file."""
        text = quote(str(path)) if self.prefix.startswith("file:") else str(path)
        return f"{self.prefix}{text}{self.query}"


def locate(url: str, root: Path) -> Location:
    """Read `sqlite:////abs`, `sqlite:///rel`, `file:/abs`, `file:rel` or a bare path, relative to `root`.

    DatabaseError for anything else, and for databases in memory.
    """
    found = next((m for m in (form.fullmatch(url) for form in FORMS) if m), None)
    if found is None or found["path"] == ":memory:" or "mode=memory" in (found["query"] or ""):
        raise DatabaseError(
            "the database URL does not name an SQLite file",
            "write sqlite:////absolute/path, sqlite:///relative/path, file:/absolute/path or a plain path",
        )
    path = unquote(found["path"]) if found["prefix"].startswith("file:") else found["path"]
    # SQLAlchemy's third slash ends the scheme, so an absolute path brings its own.
    return Location(found["prefix"], (root / path).absolute(), found["query"] or "")


class Generations:
    """`generations/` of a store: copies of dev, the newest last, made one at a time on this host."""

    def __init__(self, dev: Location, store: Store, patience: float) -> None:
        """`patience`: seconds to wait for dev's locks."""
        self._dev = dev
        self._patience = patience
        self._store = store

    def head(self) -> str:
        try:
            return sqlite_copy.identity(str(self._dev.path))
        except FileNotFoundError as exc:
            raise DatabaseError(
                f"dev database {self._dev.path} does not exist",
                "create it with your migrations, or correct the URL",
            ) from exc
        except OSError as exc:
            raise failed_os(f"dev database {self._dev.path}", exc) from exc

    def seal(self) -> Generation:
        current = self.current()
        if current is not None:
            return current
        with self._store.lock("seal", COPY_LIMIT):
            return self.current() or self._seal()

    def moving(self) -> AbstractContextManager[None]:
        return self._store.lock("seal", COPY_LIMIT)

    def current(self) -> Generation | None:
        """The one that is what dev is now; None when dev has moved on."""
        head = self.head()
        newest = self._generations()[-1:]
        return newest[0] if newest and newest[0].head == head else None

    def _generations(self) -> list[Generation]:
        """Oldest first."""
        found = (GENERATION.fullmatch(name) for name in self._store.listing("generations"))
        return [
            Generation(m[1], "" if m[3] == "unpinned" else m[3])
            for m in sorted(filter(None, found), key=lambda m: m[1])
        ]

    def _seal(self) -> Generation:
        """Copy dev into a new generation. The caller holds the sealing lock."""
        old = self._generations()
        temporary = self._store.folder("generations") / f"tmp_{secrets.token_hex(6)}.db"
        try:
            head = self._copy_dev(temporary)
            number = int(old[-1].id[1:9]) + 1 if old else 1
            made = Generation(f"g{number:08d}_{head or 'unpinned'}", head)
            temporary.chmod(0o444)
            temporary.rename(self.path(made))
        except OSError as exc:
            raise failed_os("sealing dev", exc) from exc
        finally:
            unlink(temporary)
        for generation in [*old, made][:-KEEP]:
            self.path(generation).unlink(missing_ok=True)
        return made

    def _copy_dev(self, target: Path) -> str:
        """Copy dev in a child process; the head of what was copied. DatabaseError."""
        request = {
            "op": "copy",
            "source": os.path.realpath(self._dev.path),
            "target": str(target),
            "mutex": str(self._store.folder("locks") / "copy.lock"),
            "parent": os.getpid(),
            "wait": self._patience,
            "hold": LOCK_HOLD,
        }
        answer = _ask(request)
        if answer is None:
            unlink(target)
            answer = _ask(request | {"hold": 0})
        doing = f"sealing dev database {self._dev.path}"
        if answer is None:
            raise DatabaseError(f"{doing}: it could not be read in time", retryable=True)
        if "error" in answer:
            raise failed(doing, answer["error"], answer["why"])
        return str(answer["head"])

    def path(self, generation: Generation) -> Path:
        """Of its file, which may be pruned at any time; once open it stays readable."""
        return self._store.path / "generations" / f"{generation.id}.db"

    def sweep(self) -> None:
        """Remove what a crash left. Busy while a generation is in the making."""
        with self._store.lock("seal", SWEEP_WAIT), self._store.lock("copy", SWEEP_WAIT):
            for name in self._store.listing("generations"):
                if name.startswith("tmp_"):
                    (self._store.path / "generations" / name).unlink(missing_ok=True)
            for generation in self._generations()[:-KEEP]:
                self.path(generation).unlink(missing_ok=True)

    def probe(self) -> tuple[str, int]:
        """dev's journal mode and size in bytes. DatabaseError."""
        self.head()
        answer = _ask({"op": "probe", "source": os.path.realpath(self._dev.path)})
        if answer is None or "error" in answer:
            why = answer or {"error": "BUSY", "why": "no answer"}
            raise failed(f"dev database {self._dev.path}", why["error"], why["why"])
        return answer["journal"], answer["bytes"]

    def shares_blocks(self) -> bool:
        """Whether copies inside the store are reflinks. OSError, DatabaseError."""
        with self._store.lock("seal", SWEEP_WAIT):
            one, two = (self._store.folder("generations") / f"tmp_probe{n}" for n in "12")
            try:
                one.write_bytes(b"\0" * 4096)
                return sqlite_copy.reflink(str(one), str(two))
            finally:
                unlink(one)
                unlink(two)


def _ask(request: dict[str, Any]) -> dict[str, Any] | None:
    """What the child answers; None when it ran out of its time. DatabaseError when it broke."""
    argv = [sys.executable, "-I", "-S", str(Path(sqlite_copy.__file__)), json.dumps(request)]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COPY_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError as exc:
        raise failed_os("starting the copy of dev", exc) from exc
    if done.returncode == -signal.SIGALRM:
        return None
    if done.returncode:
        raise DatabaseError(f"the copy of dev broke: {done.stderr.strip()[-300:] or done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
