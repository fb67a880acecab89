"""Locks between processes of one host. They end with their process, so `kill -9` leaves none behind.

Traps (reliability facts): the sidecar file is never removed and never the data itself; only native locks, no
soft ones; the default polling of 50 ms makes 64 waiters wait 10 s.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from agentq.repository import private_dir

if TYPE_CHECKING:
    from filelock import FileLock

POLL_SECONDS = 0.005


def lock(folder: Path, name: str, timeout: float = -1) -> "FileLock":
    """The lock `name` in `folder` (made 0700). `timeout` seconds; -1 waits for ever, 0 not at all. Raises
    filelock.Timeout when it is entered and somebody else keeps it."""
    from filelock import FileLock

    path = private_dir(folder) / f"{name}.lock"
    return FileLock(str(path), timeout=timeout, poll_interval=POLL_SECONDS, fallback_to_soft=False)
