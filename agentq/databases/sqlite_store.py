"""The directory a provider keeps on this host, its locks, and its failures in words."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from agentq.databases import sqlite_copy
from agentq.errors import DatabaseError

DATA = "data.db"

FULL = {"SQLITE_FULL", "ENOSPC", "EDQUOT", "EFBIG"}
HINTS = {
    "NOTADB": "is it the right file, and not encrypted?",
    "CORRUPT": "restore it from a copy, or try `sqlite3 FILE .recover`",
    "BUSY": "another program holds it; close that program or its transaction, then try again",
    "CANTOPEN": "check that the file, and for WAL mode its directory, can be read and written",
    "READONLY": "open the file once with write permission, to roll back an unfinished transaction",
    "IOERR": "check the free space and the health of the disk",
    "EACCES": "check the permissions",
    "EPERM": "check the permissions",
}


def failed(doing: str, error: str, why: str) -> DatabaseError:
    """`error` is SQLite's name for it, or errno's."""
    if error in FULL:
        return DatabaseError(
            f"{doing}: the disk is full ({why})", "free space where branches are kept, then try again"
        )
    word = error.removeprefix("SQLITE_").split("_")[0]
    return DatabaseError(f"{doing}: {why}", HINTS.get(word, ""), retryable=word == "BUSY")


def failed_os(doing: str, exc: OSError) -> DatabaseError:
    return failed(doing, errno.errorcode.get(exc.errno or 0, ""), str(exc))


class Busy(DatabaseError):
    """A lock was not free in time."""

    def __init__(self, lock: Path) -> None:
        super().__init__(f"the lock {lock} is held by another process", "try again", retryable=True)


class Store:
    """Named folders and locks under one directory, made on first use with mode 0700."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def listing(self, folder: str) -> list[str]:
        try:
            return os.listdir(self.path / folder)  # noqa: PTH208
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise failed_os("reading the store", exc) from exc

    def folder(self, name: str) -> Path:
        path = self.path / name
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise failed_os("making the store", exc) from exc
        return path

    @contextmanager
    def lock(self, name: str, seconds: float) -> Iterator[None]:
        """Exclude threads and processes. Order: a branch or the warm ones, sealing, copying."""
        path = self.folder("locks") / f"{name}.lock"
        lock = FileLock(path, seconds, 0o600, fallback_to_soft=False, poll_interval=0.005)
        try:
            lock.acquire()
        except Timeout as exc:
            raise Busy(path) from exc
        except OSError as exc:
            raise failed_os(f"locking {path}", exc) from exc
        try:
            yield
        finally:
            lock.release()


def lay_down(folder: Path, source: Path | None) -> None:
    """Make `folder` with a copy of `source` in it, or with an empty database, all or nothing. OSError."""
    unfinished = folder.with_name(f"{folder.name}.tmp")
    unfinished.mkdir(mode=0o700)
    target = unfinished / DATA
    try:
        if source is None:
            target.touch(0o600)
        elif not sqlite_copy.reflink(str(source), str(target)):
            shutil.copyfile(source, target)
            target.chmod(0o600)
        unfinished.rename(folder)
    except BaseException:
        rmtree(unfinished)
        raise


def unlink(path: Path) -> None:
    """A database and what SQLite puts beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def rmtree(folder: Path) -> None:
    """Remove a tree. Absent is fine, and so are programs that still delete their own files in it."""
    while folder.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
