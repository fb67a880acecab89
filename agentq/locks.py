"""Locks between processes of one host. They end with their process, so `kill -9` leaves none behind.

Traps (reliability facts): the sidecar file is never removed and never the data itself; only native locks, no
soft ones; the default polling of 50 ms makes 64 waiters wait 10 s.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from agentq.repository import private_dir

_EAGER = (0.004, 0.2)  # (s between tries, s for how long): most locks are held for milliseconds
_PATIENT = 0.025  # 64 waiters polling every 4 ms keep a whole core busy


@contextmanager
def lock(folder: Path, name: str, timeout: float = -1) -> Iterator[None]:
    """Hold the lock `name` in `folder` (made 0700). `timeout` seconds; -1 waits for ever, 0 not at all. Raises
    filelock.Timeout when somebody else keeps it."""
    from filelock import FileLock, Timeout

    path = private_dir(folder) / f"{name}.lock"
    file = FileLock(str(path), fallback_to_soft=False)
    eager = _EAGER[1] if timeout < 0 else min(_EAGER[1], timeout)
    try:
        file.acquire(eager, poll_interval=_EAGER[0])
    except Timeout:
        if timeout == eager:
            raise
        file.acquire(timeout if timeout < 0 else timeout - eager, poll_interval=_PATIENT)
    try:
        yield
    finally:
        file.release()


@contextmanager
def turn_or_go_on(folder: Path, name: str, seconds: float) -> Iterator[bool]:
    """Hold the lock `name`, or go on without it after `seconds`: a stopped process that has it must not stop the
    others. Only where something else keeps them apart. Gives whether it is held."""
    from filelock import Timeout

    with ExitStack() as stack:
        held = False
        with suppress(Timeout):
            stack.enter_context(lock(folder, name, seconds))
            held = True
        yield held
