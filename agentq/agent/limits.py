"""What a run may use, and what it used so far."""

import time
from collections.abc import Callable

from agentq.agent.job import Job
from agentq.core.usage import Price, Usage


class LimitReached(Exception):
    """A limit is used up. cause: `turns`, `budget`, or `time`."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause, self.message = cause, message


class Meter:
    """Counts one run. Invariant: no request is begun once a limit is used up (`check` before each)."""

    def __init__(self, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
        self._job, self._clock = job, clock
        self._begin = clock()
        self.usage, self.cost, self.turns = Usage(), 0.0, 0

    @property
    def priced(self) -> bool:
        return self._job.price != Price()

    def add(self, usage: Usage) -> None:
        """What one request used, also one that broke off. Prices are per request, as long prompts cost more."""
        self.usage += usage
        self.cost += self._job.price.of(usage)

    def left(self) -> float:
        """Seconds."""
        return self._job.seconds - (self._clock() - self._begin) if self._job.seconds else float("inf")

    def check(self) -> None:
        """Raises LimitReached."""
        job = self._job
        self.check_time()
        if job.turns and self.turns >= job.turns:
            raise LimitReached("turns", f"{job.turns} turns are used up")
        if job.tokens and self.usage.fresh >= job.tokens:
            raise LimitReached("budget", f"{job.tokens:,} tokens are used up")
        if job.cost and self.priced and self.cost >= job.cost:
            raise LimitReached("budget", f"${job.cost:g} are used up")

    def check_time(self) -> None:
        """Raises LimitReached."""
        if self.left() <= 0:
            raise LimitReached("time", f"not done after {self._job.seconds:g} s")

    def room(self, most: int) -> int:
        """How long the next answer may be, in tokens: `most`, or what is left of a budget."""
        job = self._job
        if job.tokens:
            most = min(most, job.tokens - self.usage.fresh)
        if job.cost and job.price.output:
            most = min(most, int((job.cost - self.cost) * 1_000_000 / job.price.output))
        return max(1, most)
