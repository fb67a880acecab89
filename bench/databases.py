"""A branch of an SQLite database against the fastest correct way to copy its file on this file system.

Each round moves dev and takes a branch three ways: after dev changed, when a generation is sealed first (two
copies, one of them under dev's lock); while dev stands still, copied from the generation there is; claimed from
those kept ready. The ways to copy: SQLite's backup, `cp` and, where there are reflinks, `cp --reflink` under dev's
write lock. With AGENTQ_TEST_FULL=1 also at 1 GB, where the disk has room for it.
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from bench.report import Row, ratio, seconds_of, took

FULL = os.environ.get("AGENTQ_TEST_FULL") == "1"
MEGABYTES = 11
GIGABYTE, ROOM = 1000, 10e9  # megabytes; bytes
PAIRS = 15
TARGET = 1.3
_HOUR = timedelta(hours=1)

Copy = Callable[[Path, Path], None]


def section(folder: Path, megabytes: float = MEGABYTES, pairs: int = PAIRS) -> list[Row]:
    rows = _rows(folder, megabytes, pairs)
    if FULL and shutil.disk_usage(folder).free > ROOM:
        rows += _rows(folder / "large", GIGABYTE, 3)
    return rows


def _rows(folder: Path, megabytes: float, pairs: int) -> list[Row]:
    from support.accounts import ACCOUNTS, give, make_accounts

    from agentq.databases.sqlite import SqliteDatabases

    folder.mkdir(exist_ok=True)
    dev = folder / "dev.db"
    make_accounts(dev, "wal", int(megabytes * 1e6) // ACCOUNTS)
    databases = SqliteDatabases(str(dev), folder, folder / "store")
    copies: dict[str, list[float]] = {name: [] for name in _copies(folder)}
    taken: dict[str, list[float]] = {"kept ready": [], "dev unchanged": [], "dev changed: seal first": []}

    def acquire(name: str, warm: bool) -> float:
        began = datetime.now(UTC)
        made = []
        seconds = seconds_of(lambda: made.append(databases.acquire(name, _HOUR, began, "bench")))
        assert made[0].warm == warm
        databases.release(made[0].id)
        return seconds

    acquire("first", False)
    for number in range(pairs):
        give(dev)
        taken["dev changed: seal first"].append(acquire(f"changed-{number}", False))
        taken["dev unchanged"].append(acquire(f"unchanged-{number}", False))
        databases.warm(1)
        taken["kept ready"].append(acquire(f"ready-{number}", True))
        for name, copy in _copies(folder).items():
            copies[name].append(seconds_of(lambda copy=copy: copy(dev, folder / "copy.db")))  # type: ignore[misc]
            for path in folder.glob("copy.db*"):
                path.unlink()
    size = dev.stat().st_size / 1e6
    return [_row(name, seconds, copies, size) for name, seconds in taken.items()]


def _copies(folder: Path) -> dict[str, Copy]:
    """The correct ways to copy a database in use, by name."""
    ways: dict[str, Copy] = {"backup": _backup, "locked cp": _locked("--reflink=never")}
    probe = folder / "probe"
    probe.write_bytes(b"\0" * 4096)
    asked = ["cp", "--reflink=always", probe, folder / "probe.copy"]
    if subprocess.run(asked, check=False, capture_output=True).returncode == 0:
        ways["locked reflink"] = _locked("--reflink=always")
    for path in folder.glob("probe*"):
        path.unlink()
    return ways


def _backup(dev: Path, target: Path) -> None:
    with closing(sqlite3.connect(dev)) as source, closing(sqlite3.connect(target)) as out:
        out.execute("PRAGMA journal_mode = OFF")
        out.execute("PRAGMA synchronous = OFF")
        source.backup(out, pages=-1)


def _locked(reflink: str) -> Copy:
    def copy(dev: Path, target: Path) -> None:
        log = dev.with_name(f"{dev.name}-wal")
        with closing(sqlite3.connect(dev, isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            for path in (dev, log):
                if path.exists():
                    name = path.name.replace(dev.name, target.name)
                    subprocess.run(["cp", reflink, path, target.with_name(name)], check=True)
            lock.execute("ROLLBACK")

    return copy


def _row(name: str, taken: list[float], copies: dict[str, list[float]], size: float) -> Row:
    fastest = min(copies, key=lambda way: median(copies[way]))
    ways = ", ".join(f"{way} {took(median(seconds))}" for way, seconds in copies.items())
    details = (f"{took(median(taken))}; {ways}; {len(taken)} rounds, {size:.0f} MB",)
    target = None if "changed:" in name else TARGET
    return Row(name, ratio(taken, copies[fastest]), target, details=details, raw={"acquire": taken, **copies})
