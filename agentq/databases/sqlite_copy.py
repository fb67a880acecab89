"""Copy a live SQLite database consistently. Runs as a child process: `python sqlite_copy.py REQUEST`.

A child, because closing any descriptor of a database file drops every POSIX lock its process holds on it, and
so that its death, by time-out or SIGKILL, frees dev at once. Only the standard library is imported.

REQUEST and the answer on stdout are JSON:
    {"op": "copy", "source", "target", "mutex", "parent": pid, "wait": s, "hold": s}
        -> {"head": str, "how": "reflink" | "backup"}; head is "" when dev could not be held still to name it
    {"op": "probe", "source"} -> {"journal": str, "bytes": int}
    failed -> {"error": SQLite's name for the error, or errno's, "why": str}
Killed by SIGALRM: dev was about to be held for longer than `hold` seconds; ask again with 0, to hold nothing.
"""

import errno
import fcntl
import hashlib
import json
import os
import signal
import sqlite3
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

FICLONE = 0x40049409  # linux/fs.h
CLOCK_REALTIME_COARSE = 5  # linux/time.h: the clock that stamps inodes
SETTLE = 0.03  # seconds; above one tick at 100 Hz
NO_REFLINK = {
    errno.EOPNOTSUPP,
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOTTY,
    errno.ENOSYS,
    errno.EPERM,
    errno.ETXTBSY,
}
WAL = "-wal"
LOOK = "SELECT count(*) FROM sqlite_master"


def boot_id() -> str:
    """This boot of the machine, "" where it has no name. What an earlier one wrote may be lost."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def identity(path: str) -> str:
    """16 hex digits, others after every commit to the database. Stats only. FileNotFoundError if absent."""
    return _stamp(path)[0]


def _stamp(path: str) -> tuple[str, int]:
    """(identity, newest change time in ns) of a database and its write-ahead log."""
    real = os.path.realpath(path)
    facts: list[object] = [real, boot_id()]
    newest = 0
    for name in (real, real + WAL):
        try:
            stat = os.stat(name)  # noqa: PTH116
        except FileNotFoundError:
            if name == real:
                raise
            continue
        if name != real and stat.st_size == 0:
            continue  # opening a WAL database creates an empty log
        facts += [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns]
        if name == real:  # SQLite run by root changes the owner of a log it opens, to what it was
            facts.append(stat.st_ctime_ns)
        newest = max(newest, stat.st_ctime_ns)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16], newest


def settled_identity(path: str) -> str:
    """The identity, once the clock is past the newest stamp, so that any later write gets another one.

    Call it while no one can write. "" when the stamps stay in the future (a clock was set, or is another's).
    """
    clock = CLOCK_REALTIME_COARSE if sys.platform == "linux" else time.CLOCK_REALTIME
    deadline = time.monotonic() + SETTLE
    while True:
        head, newest = _stamp(path)
        if time.clock_gettime_ns(clock) > newest:
            return head
        if time.monotonic() > deadline:
            return ""
        time.sleep(0.0005)


def reflink(source: str, target: str) -> bool:
    """Make a new file of mode 0600 that shares the blocks of `source`. False, and no file, if unsupported."""
    fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _ficlone(fd, target)
    finally:
        os.close(fd)


def _ficlone(source: int, target: str) -> bool:
    out = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        fcntl.ioctl(out, FICLONE, source)
    except OSError as exc:
        os.unlink(target)  # noqa: PTH108
        if exc.errno in NO_REFLINK:
            return False
        raise
    finally:
        os.close(out)
    return True


# Connections to dev. Held until we exit without closing them: the last one to close would checkpoint the log,
# which changes dev and is its own business.
KEPT: list[sqlite3.Connection] = []


def _open_dev(path: str, mode: str) -> sqlite3.Connection:
    KEPT.append(_connect(path, mode))
    return KEPT[-1]


def _connect(path: str, mode: str) -> sqlite3.Connection:
    quoted = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(f"file:{quoted}?mode={mode}", uri=True, timeout=0, isolation_level=None)


def _patiently(db: sqlite3.Connection, statement: str, wait: float) -> None:
    """Run it, retrying for `wait` seconds while the database is busy.

    SQLite's own handler backs off to 0.1 s between looks and starves beside busy writers.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            db.execute(statement).fetchone()
            return
        except sqlite3.OperationalError as exc:
            if not _is(exc, "BUSY") or time.monotonic() > deadline:
                raise
        time.sleep(0.0005)


def _is(exc: sqlite3.Error, *words: str) -> bool:
    return getattr(exc, "sqlite_errorname", "").removeprefix("SQLITE_").split("_")[0] in words


def _box(seconds: float) -> None:
    """Die in `seconds`, whatever this process is doing then; 0 lifts it."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _clone(source: str, target: str, wal: bool) -> bool:
    """Reflink the database and its log. The sources stay open: closing one would drop our lock."""
    if not _ficlone(os.open(source, os.O_RDONLY), target):
        return False
    if not wal or not os.path.exists(source + WAL):  # noqa: PTH110
        return True
    if _ficlone(os.open(source + WAL, os.O_RDONLY), target + WAL):
        return True
    os.unlink(target)  # noqa: PTH108
    return False


def _fold(target: str) -> None:
    """Move a copied log into its database, leaving one file."""
    with closing(_connect(target, "rw")) as db:
        db.execute("PRAGMA synchronous=OFF")
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("the copy is in use")


def _backup(reader: sqlite3.Connection, target: str) -> None:
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(_connect(target, "rw")) as out:
        out.execute("PRAGMA journal_mode=OFF")
        out.execute("PRAGMA synchronous=OFF")
        reader.backup(out, pages=-1)


def _read(source: str, wait: float) -> sqlite3.Connection:
    """A connection whose snapshot is taken."""
    reader = _open_dev(source, "ro")
    reader.execute("BEGIN")
    _patiently(reader, LOOK, wait)
    return reader


def _tidy(source: str) -> None:
    """Close what is open if there is nothing to checkpoint: SQLite then takes an empty log away again."""
    if not os.path.exists(source + WAL) or os.stat(source + WAL).st_size == 0:  # noqa: PTH110, PTH116
        while KEPT:
            KEPT.pop().close()


def _locked(db: sqlite3.Connection, wait: float) -> bool:
    try:
        _patiently(db, "BEGIN IMMEDIATE", wait)
    except sqlite3.OperationalError as exc:
        if _is(exc, "BUSY", "READONLY"):
            return False
        raise
    return True


def copy(source: str, target: str, wait: float, hold: float) -> dict[str, Any]:
    """Copy to `target`. dev's write lock is waited for `wait` seconds at most and held for `hold` at most.

    Without a reflink the lock is held only until a reader has its snapshot, so that `head` names exactly the
    content that is copied. When the lock cannot be had the copy is still consistent, but nameless.
    """
    head, how = "", "backup"
    inode = os.stat(source).st_ino  # noqa: PTH116
    reader = None
    lock = _open_dev(source, "rw" if os.access(source, os.W_OK) else "ro")
    if hold and _locked(lock, wait):
        _box(hold)
        head = settled_identity(source)
        wal = lock.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        if _clone(source, target, wal):
            how = "reflink"
        else:
            reader = _read(source, wait)
        lock.execute("ROLLBACK")
        _box(0)
    if how == "reflink":
        _fold(target)
    else:
        _backup(reader or _read(source, wait), target)
    if os.stat(source).st_ino != inode:  # noqa: PTH116
        head = ""  # replaced meanwhile: we copied the old file
    _tidy(source)
    return {"head": head, "how": how}


def probe(source: str) -> dict[str, Any]:
    """Open read-only and say what it is."""
    db = _open_dev(source, "ro")
    _patiently(db, LOOK, 1.0)
    pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    answer = {"journal": db.execute("PRAGMA journal_mode").fetchone()[0], "bytes": pages * size}
    _tidy(source)
    return answer


def _serve(request: dict[str, Any]) -> dict[str, Any]:
    operation = request.pop("op")
    if operation == "probe":
        return probe(**request)
    # Held until we die, so that whoever sweeps temporary files waits for us even when our parent is gone.
    mutex = os.open(request.pop("mutex"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(mutex, fcntl.LOCK_EX)
    if os.getppid() != request.pop("parent"):
        return {"error": "ORPHAN", "why": "the process that asked is gone"}
    return copy(**request)


def main() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    try:
        answer = _serve(json.loads(sys.argv[1]))
    except sqlite3.Error as exc:
        answer = {"error": getattr(exc, "sqlite_errorname", "SQLITE_ERROR"), "why": str(exc)}
    except OSError as exc:
        answer = {"error": errno.errorcode.get(exc.errno or 0, "OSError"), "why": str(exc)}
    with suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(answer))
        sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
