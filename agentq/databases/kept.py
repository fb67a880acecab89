"""What a provider does beside the stages: releases wait in a queue, the warm pool is filled up again. One thread
does it, so no stage waits for a drop, and no drop for another.
"""

import atexit
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta

from agentq.core.finding import Finding
from agentq.databases.base import Branch, Databases, Generation

Job = Callable[[], object]


class Kept:
    """`inner`, with its chores done in the background; `warm_count` branches are kept ready. What the thread could
    not do is left to `reap`. Satisfies `Databases`."""

    def __init__(self, inner: Databases, warm_count: int = 0) -> None:
        self.name = inner.name
        self._inner = inner
        self._count = warm_count
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._filling = False

    # ------------------------------------------------------------ at once

    def doctor(self) -> list[Finding]:
        return self._inner.doctor()

    def head(self) -> str:
        return self._inner.head()

    def seal(self) -> Generation:
        return self._inner.seal()

    def dev(self) -> Mapping[str, str]:
        return self._inner.dev()

    def moving(self) -> AbstractContextManager[None]:
        return self._inner.moving()

    def acquire(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        branch = self._inner.acquire(command_id, ttl, now, owner)
        self.fill()
        return branch

    def empty(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        return self._inner.empty(command_id, ttl, now, owner)

    def warm(self, count: int) -> int:
        return self._inner.warm(count)

    def branches(self) -> list[Branch]:
        return self._inner.branches()

    def reap(self, now: datetime, alive: Callable[[str], bool]) -> list[str]:
        return self._inner.reap(now, alive)

    # ------------------------------------------------------------ later

    def release(self, branch_id: str) -> None:
        """Queue it. A failure leaves the branch to `reap`."""
        self._later(lambda: self._inner.release(branch_id))

    def fill(self) -> None:
        """Bring the warm pool to its size, soon."""
        with self._lock:
            if not self._count or self._filling:
                return
            self._filling = True
        self._later(self._fill)

    def _fill(self) -> None:
        with self._lock:
            self._filling = False
            if self._closed:
                return  # releases are worth waiting for at the end, a copy for somebody else is not
        self._inner.warm(self._count)

    def close(self, patience: float = 30.0) -> None:
        """Finish what is queued, for at most `patience` seconds."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._jobs.put(None)
            thread.join(patience)

    def _later(self, job: Job) -> None:
        self._jobs.put(job)
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="database chores", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            with suppress(Exception):  # `doctor` tells what is wrong, `reap` tries again
                job()
