"""Budgets: what fits, what a run may hold, and calendars with their odd days."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.core import budget
from agentq.core.budget import NANO, Budgets, Denied, Line
from agentq.core.usage import Usage

ZONES = (
    "UTC", "America/Los_Angeles", "Europe/Berlin", "Asia/Kolkata", "Pacific/Kiritimati", "Australia/Lord_Howe",
    "America/Havana", "Asia/Beirut", "America/Sao_Paulo", "Africa/Cairo", "Pacific/Chatham", "Asia/Tehran",
)  # fmt: skip
MOMENTS = st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))


def line(total: int, in_use: int = 0, allocated: int = 0, unit: budget.Unit = "dollars") -> Line:
    return Line("day", "", unit, total, in_use, allocated)


def test_defaults_of_the_types() -> None:
    assert dict(Budgets().type_tokens) == {"scan": 8000, "implementation": 10_000, "documentation": 6000}


def test_what_fits() -> None:
    assert budget.check([], {"dollars": 10**18}) is None
    assert budget.check([line(10, 4, 3)], {"dollars": 3}) is None
    assert budget.check([line(10, 4, 3)], {"dollars": 4}) == Denied(line(10, 4, 3), 4)
    assert budget.check([line(10, 4, 3), line(5, 5, unit="tokens")], {"dollars": 1}) is not None
    assert budget.check([line(10, 10)], {}) is not None, "where nothing is left, nothing fits, not even unknown"
    assert line(10, 12).available == 0


def test_the_first_limit_in_the_way_is_named() -> None:
    frees = datetime(2026, 3, 1, tzinfo=UTC)
    tight = Line("bucket", "anthropic", "dollars", 5 * NANO, 4 * NANO, NANO // 2, "month", frees)
    denied = budget.check([line(9 * NANO), tight, line(0)], {"dollars": NANO})
    assert denied is not None and denied.line is tight and denied.frees == frees
    assert denied.reason == (
        "bucket anthropic month: $4.00 of $5.00 used, $0.50 held by running work, $1.00 wanted; "
        "frees at 2026-03-01 00:00 UTC"
    )
    tokens = Denied(Line("run", "014 test", "tokens", 10_000, 10_400))
    assert tokens.reason == "run 014 test: 10,400 of 10,000 tokens used" and tokens.frees is None


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=4), st.integers(0, 30), st.integers(0, 30)
)
def test_a_hold_grows_by_no_more_than_is_free_and_needed(
    given_lines: list[tuple[int, int]], hold: int, need: int
) -> None:
    lines = [line(total, in_use, hold) for total, in_use in given_lines]
    after = budget.grow(lines, hold, need)
    free = min((one.available for one in lines), default=10**9)
    assert after >= hold and after <= max(hold, need) and after - hold <= free
    assert after >= need or (after == hold and hold + free < need)


def test_cache_reads_do_not_count() -> None:
    assert budget.counted(Usage(1, 10, 100, 1000)) == 1011


def test_a_day_begins_where_the_provider_says() -> None:
    zone = ZoneInfo("America/Los_Angeles")
    begin, end = budget.day(datetime(2026, 1, 2, 7, 59, tzinfo=UTC), zone)
    assert (begin, end) == (datetime(2026, 1, 1, 8, tzinfo=UTC), datetime(2026, 1, 2, 8, tzinfo=UTC))
    assert budget.day(datetime(2026, 1, 2, 8, tzinfo=UTC), zone)[0] == end


@pytest.mark.parametrize(
    ("zone", "date", "hours"),
    [
        ("America/Los_Angeles", (2026, 3, 8), 23), ("America/Los_Angeles", (2026, 11, 1), 25),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5), ("America/Havana", (2026, 3, 8), 23),
        ("Asia/Beirut", (2026, 3, 29), 23), ("Europe/Berlin", (2026, 6, 1), 24),
    ],
)  # fmt: skip
def test_days_of_other_lengths(zone: str, date: tuple[int, int, int], hours: float) -> None:
    noon = datetime(*date, 12, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    begin, end = budget.day(noon, ZoneInfo(zone))
    assert end - begin == timedelta(hours=hours)


@given(MOMENTS, st.sampled_from(ZONES))
@settings(max_examples=500, deadline=None)
def test_every_moment_lies_in_its_day_and_days_touch(now: datetime, name: str) -> None:
    zone = ZoneInfo(name)
    begin, end = budget.day(now, zone)
    assert begin <= now < end and timedelta(hours=22) < end - begin < timedelta(hours=26)
    assert budget.day(end, zone)[0] == end
    second = timedelta(seconds=1)
    assert begin.astimezone(zone).date() == now.astimezone(zone).date() == (end - second).astimezone(zone).date()
    assert (begin - second).astimezone(zone).date() < now.astimezone(zone).date()


@given(MOMENTS)
def test_every_moment_lies_in_its_month(now: datetime) -> None:
    begin, end = budget.month(now)
    assert begin <= now < end and begin.day == end.day == 1 and budget.month(end)[0] == end
    assert (begin.year, begin.month) == (now.year, now.month)
