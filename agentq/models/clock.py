"""The clock of the book: what time it is, and how much time passed.

State that processes share needs a line of time that neither jumps back nor stands still. The wall clock does both
when it is corrected, and the monotonic clock begins anew with each start of the host. So the book has a line of
its own (`Moment.at`): it follows the monotonic clock, which all processes of one boot share, and over a restart it
moves on by what the wall clock says, never back. All use is dated on that line, and rolling limits count on it
alone: a wall clock that is set frees nothing early and holds nothing longer. Calendars (days, months, resets that
a provider names) are read off the wall clock, but laid down on the line when they begin (`limits.span`): a clock
that is set back neither begins a day again nor makes one longer than its hours.
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """All processes that share a book use one kind of clock."""

    def now(self) -> datetime:
        """Wall clock, aware, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since this boot, or any other moment all its processes share."""
        ...


class HostClock:
    """Counts the time a host was suspended, where the system can tell."""

    _id = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(self._id)


@dataclass(frozen=True, slots=True)
class Moment:
    """wall: UTC, for people and calendars. at: seconds on the book's line; about those since 1970."""

    wall: datetime
    at: float

    def when(self, at: float) -> datetime:
        """The wall clock at another point of the line, as far as one can tell now."""
        return self.wall + timedelta(seconds=min(max(at - self.at, -1e9), 1e9))

    def since(self, wall: datetime) -> float:
        """The point of the line at a past (or coming) time of the wall clock."""
        return self.at + (wall - self.wall).total_seconds()
