"""Circuit breakers (mission row N8): when a tier is left alone, and when it is tried again.

Pure. `now` is seconds on a line that never goes back (`agentq.models.book`). Invariants: two consecutive failures
open it; while it is not closed, at most one probe is under way; an answer to a request from before the last
change of state changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

State = Literal["closed", "open", "half-open"]
# What an answer may mean, in the words of `agentq.drivers.base.Cause` and, for a caller that judges, "quality".
COUNTS = frozenset({"rate-limit", "overloaded", "network", "quality"})
SLEEPS = frozenset({"auth", "billing", "usage-limit"})  # the bucket sleeps instead


@dataclass(frozen=True, slots=True)
class Rules:
    """failures: consecutive ones that open it. cooldown: seconds until a probe; doubled by each probe that fails,
    up to `longest`. probe: seconds a probe may take before another one may go."""

    failures: int = 2
    cooldown: float = 30.0
    longest: float = 900.0
    probe: float = 300.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """failures: consecutive ones so far, failed probes among them. since: when it came into its state. next_at:
    when the next probe may go, unless it is closed; of a probe under way: when its time is over. prober: who
    probes, '' for nobody. cause: of the last failure. turn: grows with each change of state."""

    state: State = "closed"
    failures: int = 0
    since: float = 0.0
    next_at: float = 0.0
    prober: str = ""
    cause: str = ""
    turn: int = 0


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to send one request; its outcome is told to `leave`."""

    turn: int
    probe: bool = False


def enter(
    breaker: Breaker, who: str, now: float, rules: Rules, alive: Callable[[str], bool]
) -> tuple[Breaker, Pass | None]:
    """Ask for one request. None: not now; `next_at` tells when to ask again."""
    if breaker.state == "closed":
        return breaker, Pass(breaker.turn)
    if now < breaker.next_at and not (breaker.prober and not alive(breaker.prober)):
        return breaker, None
    since = breaker.since if breaker.state == "half-open" else now
    probing = replace(
        breaker, state="half-open", since=since, next_at=now + rules.probe, prober=who, turn=breaker.turn + 1
    )
    return probing, Pass(probing.turn, probe=True)


def leave(
    breaker: Breaker, leaving: Pass, cause: str, now: float, rules: Rules, retry_after: float = 0.0
) -> Breaker:
    """How a request ended. cause: '' for an answer. retry_after: seconds the server asked for, 0: none."""
    if leaving.turn != breaker.turn or breaker.state == "open":
        return breaker
    if not cause:
        if breaker.state == "closed":
            return replace(breaker, failures=0, cause="")
        return Breaker(since=now, turn=breaker.turn + 1)
    if cause not in COUNTS:
        # A probe that tells nothing gives its place back.
        return breaker if breaker.state == "closed" else replace(breaker, next_at=now, prober="")
    failures = breaker.failures + 1
    if breaker.state == "closed" and failures < rules.failures:
        return replace(breaker, failures=failures, cause=cause)
    again = min(failures - rules.failures, 30)
    pause = min(max(rules.cooldown * 2.0 ** max(0, again), retry_after), rules.longest)
    return Breaker("open", failures, now, now + pause, "", cause, breaker.turn + 1)
