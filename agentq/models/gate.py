"""One question before each request, one word after it: bucket and breaker together, in one transaction.

So a probe of a breaker is not used up while its bucket waits, and a request that a breaker stops counts nowhere.
"""

from dataclasses import dataclass

from agentq.core.breaker import SLEEPS, Pass
from agentq.core.models import Tier
from agentq.models import seats
from agentq.models.breakers import Breakers, Shut
from agentq.models.buckets import Asleep, Buckets, Go, Wait
from agentq.models.seats import Seat


@dataclass(frozen=True, slots=True)
class Entry:
    """Send to `seat.server`; then charge, then `leave`, whatever becomes of it."""

    tier: str
    seat: Seat
    given: Pass

    @property
    def probe(self) -> bool:
        return self.given.probe


class Gate:
    def __init__(self, buckets: Buckets, breakers: Breakers) -> None:
        self.buckets, self.breakers = buckets, breakers

    def enter(self, tier: Tier, owner: str, tokens: int = 0, who: str = "") -> Entry | Wait | Asleep | Shut:
        """Ask for one request, or one run, as `Buckets.admit`. Wait: soon, here; Asleep, Shut: take the next tier
        of the chain."""
        with self.buckets.book.write() as page:
            verdict = self.buckets.admit_on(page, tier.bucket, owner, tokens, who)
            if not isinstance(verdict, Go):
                return verdict
            given = self.breakers.enter_on(page, tier.name, owner)
            if isinstance(given, Shut):
                seats.leave(page, verdict.seat.id, sent=False)
                return given
            return Entry(tier.name, verdict.seat, given)

    def leave(
        self,
        entry: Entry,
        cause: str = "",
        *,
        sent: bool = True,
        resets_at: float = 0,
        retry_after: float = 0,
    ) -> None:
        """How it ended: as `Buckets.leave` and `Breakers.leave`. The cause "quality" speaks against the tier, not
        against its server."""
        with self.buckets.book.write(durable=cause in SLEEPS) as page:
            self.buckets.leave_on(page, entry.seat, cause, sent=sent, resets_at=resets_at)
            self.breakers.leave_on(page, entry.tier, entry.given, cause, retry_after)
