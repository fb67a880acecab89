"""The one SQLite file in which all processes of a host share what models cost and how they are.

Invariants: a change is one transaction, alone, whatever dies when; what cannot be read is never taken for empty,
and nothing is written to it; a file that is there was complete when it came there.

Traps: closing any descriptor of an SQLite file drops the locks its process has on it, so nothing here opens the
file but SQLite. After a fork SQLite takes the parent's locks for the child's, so a child of a process that used a
book uses none. A `-wal` without its file would be played into a new one. WAL needs a file system of this host.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from agentq import process
from agentq.errors import StoreError
from agentq.models.clock import Clock, Moment
from agentq.models.schema import APPLICATION, SCHEMA, VERSION
from agentq.repository import private_dir

T = TypeVar("T")
BUSY = 30.0  # s to wait for other processes; a change takes about a millisecond
_PAUSE = 0.001  # s between tries
_TOLD = 1.0  # s after which the line of time is written down again
_LOST = "stop all agentq processes; restore it from a copy, or move it, -wal and -shm away: totals begin at zero"
_HINTS = {
    "NOTADB": _LOST,
    "CORRUPT": _LOST,
    "BUSY": "another process holds it; see which agentq processes hang, then try again",
    "LOCKED": "another process holds it; see which agentq processes hang, then try again",
    "CANTOPEN": "check that the file and its folder can be read and written",
    "READONLY": "check that the file and its folder can be read and written",
    "PERM": "check that the file and its folder can be read and written",
    "IOERR": "check the free space and the health of the disk",
}

_opened_by = 0  # pid


@dataclass(frozen=True, slots=True)
class Page:
    """An open transaction. now: one moment for all of it."""

    connection: sqlite3.Connection
    now: Moment

    def run(self, sql: str, *args: Any) -> sqlite3.Cursor:
        return self.connection.execute(sql, args)

    def one(self, sql: str, *args: Any) -> Sequence[Any] | None:
        found: Sequence[Any] | None = self.connection.execute(sql, args).fetchone()
        return found


class Book:
    """Safe to share between threads, and between processes by its path. path: made on first use, 0600.

    All methods here and in what is built on it raise StoreError. boot: a word for this run of the host.
    """

    def __init__(self, path: Path, clock: Clock, *, boot: str = "", busy: float = BUSY) -> None:
        self.path, self._clock, self._boot, self._busy = path, clock, boot or process.boot(), busy
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._durable, self._file = False, (0, 0)

    def __enter__(self) -> "Book":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None and _opened_by in (0, os.getpid()):
                self._connection.close()
                self._connection = None

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Page]:
        """One change, alone on this host; nothing of it when the block raises. durable: on the disk when the
        block is left; otherwise a power cut may undo the newest changes, in order."""
        with self._lock, self._telling():
            connection = self._open()
            if durable != self._durable:
                connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                self._durable = durable
            self._patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
            try:
                yield Page(connection, self._moment(connection, write=True))
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise

    @contextmanager
    def read(self) -> Iterator[Page]:
        """A consistent look that waits for nobody."""
        with self._lock, self._telling():
            connection = self._open()
            try:
                yield Page(connection, self._patiently(lambda: self._look(connection)))
            finally:
                _roll_back(connection)

    def problems(self) -> list[str]:
        """What SQLite finds wrong with the whole file; takes a second per some hundred megabytes."""
        with self.read() as page:
            found = [str(row[0]) for row in page.run("PRAGMA quick_check(20)")]
        return [] if found == ["ok"] else found

    def _look(self, connection: sqlite3.Connection) -> Moment:
        if not connection.in_transaction:
            connection.execute("BEGIN")
        return self._moment(connection, write=False)

    def _patiently(self, act: Callable[[], T]) -> T:
        """What `act` gives, once no other process is in the way. SQLite itself waits longer from try to try, up to
        0.1 s, so that whoever comes often keeps the others out; here all try equally often."""
        deadline = time.monotonic() + self._busy
        while True:
            try:
                return act()
            except sqlite3.OperationalError as error:
                if _word(error) not in ("BUSY", "LOCKED") or time.monotonic() >= deadline:
                    raise
            time.sleep(_PAUSE)

    def _open(self) -> sqlite3.Connection:
        _not_forked()
        if self._connection is not None and self._inode() != self._file:
            raise StoreError(
                f"{self.path} was replaced while agentq uses it", "stop all agentq processes, then try again"
            )
        if self._connection is None:
            self._create()
            connection = self._patiently(lambda: _connect(self.path))
            self._connection, self._file, self._durable = connection, self._inode(), False
        return self._connection

    def _inode(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except OSError:
            return 0, 0
        return status.st_dev, status.st_ino

    def _create(self) -> None:
        """Put a complete file where none is; whoever comes second takes the first one's."""
        try:
            private_dir(self.path.parent)
            log = self.path.with_name(self.path.name + "-wal").exists()  # first: another may just make both
            if self.path.exists():
                return
            if log:
                raise StoreError(
                    f"{self.path} is gone, but its -wal is there",
                    _LOST,
                )
            new = self.path.with_name(f".{self.path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
            new.unlink(missing_ok=True)
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600))
            try:
                _fill(new)
                with suppress(FileExistsError):
                    os.link(new, self.path)
                _sync_folder(self.path.parent)
            finally:
                new.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot be made ({error.strerror})", "check the folder and the free space"
            ) from error

    def _moment(self, connection: sqlite3.Connection, *, write: bool) -> Moment:
        wall, mono = self._clock.now(), self._clock.monotonic()
        stamp = wall.timestamp()
        row = connection.execute("SELECT boot, offset, at, wall FROM clock").fetchone()
        boot, offset, last, told = row or ("", 0.0, stamp, stamp)
        if boot == self._boot:
            at = max(offset + mono, last)
        else:
            # Up to _TOLD seconds before the restart are not written down; no use may lie in the future.
            (dated,) = connection.execute("SELECT COALESCE(MAX(at), 0) FROM tally").fetchone()
            at = max(last + max(0.0, stamp - told), dated)
            offset = at - mono
        if write and (boot != self._boot or at - last >= _TOLD):
            connection.execute(
                "INSERT OR REPLACE INTO clock (one, boot, offset, at, wall) VALUES (1, ?, ?, ?, ?)",
                (self._boot, offset, at, stamp),
            )
        return Moment(wall, at)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _word(error) in ("CORRUPT", "NOTADB", "IOERR"):
                self.close()
            raise _failed(self.path, error) from error


def iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _not_forked() -> None:
    """Raises RuntimeError in a child of a process that used a book."""
    global _opened_by  # noqa: PLW0603
    _opened_by = _opened_by or os.getpid()
    if _opened_by != os.getpid():
        raise RuntimeError("a book was used before the fork; start a new process instead")


def _connect(path: Path, *, new: bool = False) -> sqlite3.Connection:
    """Raises StoreError for what is not a book, sqlite3.Error for what cannot be read or is locked right now."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, timeout=0, isolation_level=None, check_same_thread=False, uri=True)
    try:
        connection.execute("PRAGMA synchronous = NORMAL")
        if not new:
            _recognise(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _recognise(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StoreError for a file that is not a book, or of another version."""
    made_by = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if made_by != APPLICATION:
        raise StoreError(
            f"{path} is not agentq's book of costs (it is empty, or another program's)", _HINTS["NOTADB"]
        )
    if version != VERSION:
        newer = version > VERSION
        raise StoreError(
            f"{path} has version {version}, this agentq knows {VERSION}",
            "upgrade agentq" if newer else "run the newest agentq once",
        )


def _fill(path: Path) -> None:
    """A book with nothing in it, closed and on the disk."""
    try:
        connection = _connect(path, new=True)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise _failed(path, error) from error


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _word(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.removeprefix("SQLITE_").split("_")[0]


def _failed(path: Path, error: sqlite3.Error) -> StoreError:
    word = _word(error)
    if word == "FULL":
        return StoreError(
            f"{path}: not written, the disk is full", "free some space, then try again", retryable=True
        )
    doing = "cannot be read" if word in ("NOTADB", "CORRUPT") else "not written"
    return StoreError(f"{path}: {doing} ({error})", _HINTS.get(word, ""), retryable=word in ("BUSY", "LOCKED"))
