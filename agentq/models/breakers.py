"""The breakers of all tiers, shared by all processes of this host (mission row N8). The rules: core/breaker.py."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from agentq import process
from agentq.core import breaker
from agentq.core.breaker import Breaker, Pass, Rules
from agentq.models.book import Book, Page


@dataclass(frozen=True, slots=True)
class Shown:
    """A breaker for people. prober: whether a probe is under way. next_probe: None while closed."""

    tier: str
    state: breaker.State
    failures: int
    since: datetime | None
    next_probe: datetime | None
    probing: bool
    cause: str


@dataclass(frozen=True, slots=True)
class Shut:
    """The tier is left alone; ask again in `seconds`, which is at `until`, or go to the next tier."""

    tier: str
    seconds: float
    until: datetime
    cause: str

    @property
    def reason(self) -> str:
        return f"the breaker of {self.tier} is open ({self.cause})"


class Breakers:
    """alive: whether the process that a word of `process.identity` names still runs."""

    def __init__(self, book: Book, rules: Rules = Rules(), alive: Callable[[str], bool] = process.alive) -> None:
        self._book, self.rules, self._alive = book, rules, alive

    def enter(self, tier: str, owner: str) -> Pass | Shut:
        """Ask for one request. A Pass must be told to `leave`, whatever becomes of it."""
        with self._book.write() as page:
            return self.enter_on(page, tier, owner)

    def leave(self, tier: str, leaving: Pass, cause: str = "", retry_after: float = 0.0) -> Breaker:
        """cause: '' for an answer, otherwise a Cause of `drivers.base`, or "quality"."""
        with self._book.write() as page:
            return self.leave_on(page, tier, leaving, cause, retry_after)

    def reset(self, tier: str = "") -> list[str]:
        """Close one, or all; what is under way then counts for nothing. The tiers that were not closed."""
        with self._book.write() as page:
            found = {name: one for name, one in _all(page).items() if tier in ("", name)}
            for name, one in found.items():
                _put(page, name, Breaker(since=page.now.at, turn=one.turn + 1))
            return [name for name, one in found.items() if one.state != "closed"]

    def shown(self) -> list[Shown]:
        with self._book.read() as page:
            return [self._shown(page, name, one) for name, one in _all(page).items()]

    def enter_on(self, page: Page, tier: str, owner: str) -> Pass | Shut:
        before = _get(page, tier)
        after, given = breaker.enter(before, owner, page.now.at, self.rules, self._alive)
        if given is None:
            left = max(0.0, before.next_at - page.now.at)
            # A probe may succeed at any moment: waiting for its time-out would leave a healthy tier alone.
            seconds = min(left, self.rules.cooldown / 10) if before.prober else left
            return Shut(tier, seconds, page.now.when(page.now.at + seconds), before.cause)
        if after != before:
            _put(page, tier, after)
        return given

    def leave_on(self, page: Page, tier: str, leaving: Pass, cause: str, retry_after: float = 0.0) -> Breaker:
        before = _get(page, tier)
        after = breaker.leave(before, leaving, cause, page.now.at, self.rules, retry_after)
        if after != before:
            _put(page, tier, after)
        return after

    def _shown(self, page: Page, tier: str, one: Breaker) -> Shown:
        since = page.now.when(one.since) if one.since else None
        next_probe = None if one.state == "closed" else page.now.when(one.next_at)
        probing = bool(one.prober) and one.next_at > page.now.at and self._alive(one.prober)
        return Shown(tier, one.state, one.failures, since, next_probe, probing, one.cause)


_COLUMNS = "state, failures, since, next_at, prober, cause, turn"


def _get(page: Page, tier: str) -> Breaker:
    row = page.one(f"SELECT {_COLUMNS} FROM breakers WHERE tier = ?", tier)
    return Breaker(*row) if row else Breaker()


def _all(page: Page) -> dict[str, Breaker]:
    rows = page.run(f"SELECT tier, {_COLUMNS} FROM breakers ORDER BY tier").fetchall()
    return {tier: Breaker(*rest) for tier, *rest in rows}


def _put(page: Page, tier: str, one: Breaker) -> None:
    page.run(
        f"INSERT OR REPLACE INTO breakers (tier, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        tier, one.state, one.failures, one.since, one.next_at, one.prober, one.cause, one.turn,
    )  # fmt: skip
