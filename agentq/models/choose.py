"""Which tier of a chain does the next run: the first that its budget, its bucket, its breaker and the pace of its
plan let through (mission rows N2, N6–N8).

Invariant: a choice holds a reservation and a place at its bucket; both end with `done`, whatever becomes of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from agentq.core.breaker import COUNTS, SLEEPS
from agentq.core.budget import NANO, Denied
from agentq.core.models import Bucket, Tier
from agentq.core.pace import Decision, Thresholds
from agentq.models.account import handed
from agentq.models.breakers import Shut
from agentq.models.buckets import Asleep
from agentq.models.gate import Entry, Gate
from agentq.models.ledger import Ledger, Reservation, Sum, Want

NEUTRAL = "request"  # a cause that speaks neither for a model nor against it
SOON = 5.0  # s after which a tier is asked again that did not say when


@dataclass(frozen=True, slots=True)
class Chosen:
    """Start it at `server` ('': the agent's own). entry: its place at the bucket; None if its agent asks for one
    before each request. why: for people, '' for the first of its chain."""

    tier: Tier
    server: str
    reservation: Reservation
    entry: Entry | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """None may start now. until: when to ask again, None: a person has to do something first. reasons: one for
    each tier, in the order they were asked. budget: the day's is used up, so no tier helps."""

    until: datetime | None
    reasons: tuple[str, ...]
    budget: bool = False


@dataclass(frozen=True, slots=True)
class Over:
    """The budget of the spec has no room, whichever tier does it: a person decides."""

    denied: Denied


class Chooser:
    """unusable(tier): why this host cannot use it at all, for example for want of a key; '' if it can."""

    def __init__(
        self,
        ledger: Ledger,
        gate: Gate,
        thresholds: Thresholds,
        now: Callable[[], datetime],
        unusable: Callable[[Tier], str] = lambda _: "",
        buckets: Mapping[str, Bucket] | None = None,
    ) -> None:
        self.ledger, self.gate, self._thresholds, self._now = ledger, gate, thresholds, now
        self._unusable, self._buckets = unusable, buckets or {}

    def choose(self, chain: Sequence[Tier], want: Want) -> Chosen | Later | Over:
        """want: its bucket and tier are filled in."""
        soonest: list[datetime] = []
        paced = [(tier, self.gate.buckets.decide(tier.bucket, self._thresholds)) for tier in chain]
        others = len({tier.bucket for tier in chain}) > 1
        reasons = [f"{tier.name}: {decision.reason}" for tier, decision in paced if decision.overflow and others]
        # A plan that is well used keeps its rest: its tiers come last where another bucket can do the work.
        for tier, decision in sorted(paced, key=lambda one: one[1].overflow):
            why = f"{tier.name} after {'; '.join(reasons)}" if reasons else ""
            if problem := self._unusable(tier):
                reasons.append(f"{tier.name}: {problem}")
                continue
            verdict = self._ask(tier, replace(want, bucket=tier.bucket, tier=tier.name), why, decision)
            if isinstance(verdict, Chosen | Over | Later):
                return verdict
            reasons.append(f"{tier.name}: {verdict[1]}")
            soonest += [verdict[0]] if verdict[0] else []
        return Later(min(soonest, default=None), tuple(reasons))

    def dollars_left(self, chosen: Chosen) -> float:
        """US dollars the run may still cost by the budgets of its spec, its day and its bucket; 0: no limit."""
        want = chosen.reservation.want
        mine = {("spec", want.spec), ("day", ""), ("bucket", want.bucket)}
        lines = [
            one for one in self.ledger.lines(want.repo) if one.unit == "dollars" and (one.scope, one.name) in mine
        ]
        return min((max(1, line.total - line.in_use) / NANO for line in lines), default=0.0)

    def full(self, chosen: Chosen) -> Denied | None:
        """The budget that has no room for another run like this one."""
        again = self.ledger.reserve(chosen.reservation.want)
        if isinstance(again, Denied):
            return again
        self.ledger.settle(again)
        return None

    def _ask(
        self, tier: Tier, want: Want, why: str, pace: Decision
    ) -> Chosen | Over | Later | tuple[datetime | None, str]:
        """The tier, or when to ask for it again and why not now. Whose turn it is, is asked last: a turn that is
        not used would delay everybody."""
        reservation = self.ledger.reserve(want)
        if isinstance(reservation, Denied):
            if not frees(reservation):
                return Over(reservation)
            until = reservation.frees or self._now() + timedelta(seconds=SOON)
            if reservation.line.scope == "day":
                return Later(until, (reservation.reason,), budget=True)
            return until, reservation.reason
        entry = self.gate.enter(tier, want.owner)
        if isinstance(entry, Entry):
            left = self.gate.buckets.turn(tier.bucket, pace.delay) if pace.delay else 0.0
            if not left:
                return Chosen(tier, entry.seat.server, reservation, entry, why)
            self.gate.leave(entry, NEUTRAL, sent=False)
            self.ledger.settle(reservation)
            return self._now() + timedelta(seconds=left), pace.reason
        self.ledger.settle(reservation)
        if isinstance(entry, Asleep | Shut):
            return entry.until, entry.reason
        return self._now() + timedelta(seconds=entry.seconds), entry.reason

    def handed_over(self, chosen: Chosen) -> tuple[Chosen, str]:
        """The choice for an agent that asks before each of its requests, and the account it asks."""
        if chosen.entry is not None:
            # A probe of a breaker goes back, to be used by the first request.
            self.gate.leave(chosen.entry, NEUTRAL, sent=False)
        name = chosen.tier.bucket
        account = handed(
            self.gate.buckets.book.path, chosen.tier, self._buckets.get(name) or Bucket(name), self.ledger.budgets,
            self.gate.breakers.rules, chosen.reservation,
        )  # fmt: skip
        return replace(chosen, entry=None), account

    def done(
        self, chosen: Chosen, cause: str = "", *, sent: bool = True, resets_at: float = 0, retry_after: float = 0
    ) -> Sum:
        """The run is over. cause: of `drivers.base`; NEUTRAL where nobody knows. What the run used."""
        if chosen.entry is not None:
            self.gate.leave(chosen.entry, cause, sent=sent, resets_at=resets_at, retry_after=retry_after)
        return self.ledger.settle(chosen.reservation)


def frees(denied: Denied) -> bool:
    """Whether a budget that is used up frees by itself, as that of a day or a bucket does."""
    return denied.line.scope in ("day", "bucket")


def failed(cause: str) -> bool:
    """Whether a cause speaks against the model or its bucket: then another tier may do the work."""
    return cause in COUNTS | SLEEPS


def plain(driver: str, model: str) -> tuple[Bucket, Tier]:
    """What stands in where a project names no tiers: the agent with its own login, counted all the same."""
    return Bucket(driver), Tier(driver, driver, model)
