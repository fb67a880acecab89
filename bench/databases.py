"""A branch of an SQLite database against `cp` of its file, alternately.

Twice: after dev changed, when a new generation is sealed first (two copies, one of them under dev's lock), and
while dev stands still, when the branch is copied from the generation there is.
"""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from bench.report import Row, ratio, seconds_of, took

MEGABYTES = 11
PAIRS = 15
_HOUR = timedelta(hours=1)


def section(folder: Path, megabytes: float = MEGABYTES, pairs: int = PAIRS) -> list[Row]:
    from support.accounts import ACCOUNTS, give, make_accounts

    from agentq.databases.sqlite import SqliteDatabases

    dev = folder / "dev.db"
    make_accounts(dev, "wal", int(megabytes * 1e6) // ACCOUNTS)
    databases = SqliteDatabases(str(dev), folder, folder / "store")

    def acquire(name: str) -> float:
        began = datetime.now(UTC)
        made = []
        seconds = seconds_of(lambda: made.append(databases.acquire(name, _HOUR, began, "bench")))
        databases.release(made[0].id)
        return seconds

    acquire("warm-up")
    changed, unchanged, copies = [], [], []
    for number in range(pairs):
        give(dev)
        changed.append(acquire(f"changed-{number}"))
        unchanged.append(acquire(f"unchanged-{number}"))
        copies.append(seconds_of(lambda: subprocess.run(["cp", dev, folder / "copy.db"], check=True)))
        (folder / "copy.db").unlink()
    size = dev.stat().st_size / 1e6
    return [_row("dev unchanged", unchanged, copies, size), _row("dev changed: seal first", changed, copies, size)]


def _row(name: str, acquired: list[float], copies: list[float], size: float) -> Row:
    details = (f"{took(median(acquired))} to {took(median(copies))}, {len(copies)} pairs, {size:.1f} MB",)
    return Row(name, ratio(acquired, copies), details=details, raw={"acquire": acquired, "cp": copies})
