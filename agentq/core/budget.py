"""Budgets (mission rows P6, N2): what is left of each limit, and whether a wish still fits.

Pure. Amounts are whole numbers, so that sums are exact: tokens, requests, and billionths of a dollar.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from types import MappingProxyType
from typing import Literal

from agentq.core.usage import Usage

Unit = Literal["dollars", "tokens", "requests"]
UNITS: tuple[Unit, ...] = ("dollars", "tokens", "requests")
NANO = 1_000_000_000  # of a dollar
TYPE_TOKENS: Mapping[str, int] = MappingProxyType({"scan": 8000, "implementation": 10_000, "documentation": 6000})
UNLIMITED = float("inf")


@dataclass(frozen=True)
class Budgets:
    """A repository's own limits; 0 is none. type_tokens: fresh tokens of one run by type of spec. day_zone: where
    the day of `day_dollars` begins."""

    spec_dollars: float = 0.0
    day_dollars: float = 0.0
    day_zone: str = "UTC"
    type_tokens: Mapping[str, int] = field(default_factory=lambda: TYPE_TOKENS)


def nano(dollars: float) -> int:
    return round(dollars * NANO)


def counted(usage: Usage) -> int:
    """Tokens that count against a bucket's limits: providers do not count what they read from their cache."""
    return usage.total - usage.cache_read


@dataclass(frozen=True, slots=True)
class Line:
    """One limit as it stands. total = in_use + allocated + available, while nothing is overspent.

    scope: `spec`, `type`, `day`, `bucket` or `run`; name: which; limit: in words, '' where scope and name say it.
    in_use: spent. allocated: held for running work. frees: when something of it becomes free by itself.
    """

    scope: str
    name: str
    unit: Unit
    total: int
    in_use: int
    allocated: int = 0
    limit: str = ""
    frees: datetime | None = None

    @property
    def available(self) -> int:
        return max(0, self.total - self.in_use - self.allocated)

    def said(self, amount: int) -> str:
        """An amount of this line, without its unit unless that is dollars."""
        return f"${amount / NANO:,.2f}" if self.unit == "dollars" else f"{amount:,}"

    @property
    def title(self) -> str:
        return " ".join(word for word in (self.scope, self.name, self.limit) if word)


@dataclass(frozen=True, slots=True)
class Denied:
    """The limit in the way, and when it frees: None when that depends on running work or on a person."""

    line: Line
    wanted: int = 0

    @property
    def frees(self) -> datetime | None:
        return self.line.frees

    @property
    def reason(self) -> str:
        line = self.line
        unit = "" if line.unit == "dollars" else f" {line.unit}"
        held = f", {line.said(line.allocated)} held by running work" if line.allocated else ""
        wanted = f", {line.said(self.wanted)} wanted" if self.wanted else ""
        until = f"; frees at {line.frees:%Y-%m-%d %H:%M} UTC" if line.frees else ""
        return f"{line.title}: {line.said(line.in_use)} of {line.said(line.total)}{unit} used{held}{wanted}{until}"


def check(lines: Iterable[Line], wanted: Mapping[Unit, int]) -> Denied | None:
    """The first limit that has no room for what is wanted, or no room at all."""
    for line in lines:
        amount = wanted.get(line.unit, 0)
        if line.available < max(amount, 1):
            return Denied(line, amount)
    return None


def grow(lines: Sequence[Line], hold: int, need: int) -> int:
    """What a run holds for its next request: `need`, if what is still free in all `lines` has room for that (they
    are of one unit; its hold is among their `allocated`); otherwise what it holds already."""
    free = min((line.available for line in lines), default=need)
    return need if hold < need <= hold + free else hold


def day(now: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """Begin and end, in UTC, of the day in `zone` that `now` lies in: 23, 24 or 25 hours."""
    date = now.astimezone(zone).date()
    begin, end = _midnight(date, zone), _midnight(date + timedelta(days=1), zone)
    return begin, end


def month(now: datetime) -> tuple[datetime, datetime]:
    """Begin and end of the calendar month in UTC."""
    begin = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return begin, (begin + timedelta(days=32)).replace(day=1)


def _midnight(date: object, zone: tzinfo) -> datetime:
    """The first moment of a date. Where clocks jump over midnight, that is the jump."""
    return datetime.combine(date, time(), zone).astimezone(UTC)  # type: ignore[arg-type]
