"""The limits of a repository and of a bucket, as they stand in the book."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from agentq.core import budget
from agentq.core.budget import Budgets, Denied, Line, Unit, nano
from agentq.core.models import FIVE_HOURS, SEVEN_DAYS, Bucket
from agentq.errors import ConfigError
from agentq.models import tally
from agentq.models.book import Page
from agentq.models.tally import Sums

TICK = 1e-6  # s: what a wall clock tells apart


class Limit(NamedTuple):
    """A line of a budget, and where it is counted. length: seconds of a rolling window, 0: none."""

    line: Line
    key: str
    length: float = 0.0


def zone(name: str) -> tzinfo:
    """Raises ConfigError for a zone this host does not know."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        hint = "use a name such as America/Los_Angeles; a system without zones needs the package tzdata"
        raise ConfigError("agents/config.toml", "day_zone", f"unknown time zone '{name}'", hint) from error


def span(page: Page, name: str, calendar: tuple[datetime, datetime]) -> tuple[float, datetime]:
    """Where a day or month began on the line of time, and when it ends. calendar: its begin and end by the wall
    clock. One that was begun goes on until its hours are over, even if the wall clock is set back."""
    begin, now = calendar[0].timestamp(), page.now.at
    row = page.one("SELECT begin, start, stop FROM spans WHERE name = ?", name)
    if row and begin <= row[0] and now < row[2]:
        return float(row[1]), calendar[1] if begin == row[0] else page.now.when(row[2])
    # What happens at its very begin belongs to it; sums begin after `start`.
    start, stop = page.now.since(calendar[0]) - TICK, page.now.since(calendar[1])
    page.run(
        "INSERT OR REPLACE INTO spans (name, begin, start, stop) VALUES (?, ?, ?, ?)", name, begin, start, stop
    )
    return start, calendar[1]


def of_spec(page: Page, budgets: Budgets, repo: str, spec: str) -> list[Limit]:
    """The limit of a spec, with what open reservations hold."""
    if not budgets.spec_dollars:
        return []
    key, held = tally.spec_key(repo, spec), holds(page, "repo = ? AND spec = ?", repo, spec)
    in_use = tally.used(page, key).nano
    return [Limit(Line("spec", spec, "dollars", nano(budgets.spec_dollars), in_use, held.nano), key)]


def of_day(page: Page, budgets: Budgets, repo: str) -> list[Limit]:
    """The limit of a repository's day, with what open reservations hold."""
    if not budgets.day_dollars:
        return []
    key, held = tally.repo_key(repo), holds(page, "repo = ?", repo)
    start, end = span(page, f"{key}\n{budgets.day_zone}", budget.day(page.now.wall, zone(budgets.day_zone)))
    in_use = tally.used(page, key, start).nano
    return [Limit(Line("day", "", "dollars", nano(budgets.day_dollars), in_use, held.nano, frees=end), key)]


def of_bucket(page: Page, bucket: Bucket, held: Sums) -> list[Limit]:
    """Limits of a bucket but for those of a minute. held: what is spoken for and not yet in the tally."""
    key, limits = tally.bucket_key(bucket.name), []
    if bucket.dollars_month:
        start, end = span(page, f"{key}\nmonth", budget.month(page.now.wall))
        in_use, total = tally.used(page, key, start).nano, nano(bucket.dollars_month)
        line = Line("bucket", bucket.name, "dollars", total, in_use, held.nano, "month", end)
        limits.append(Limit(line, key))
    if bucket.requests_day:
        calendar = budget.day(page.now.wall, zone(bucket.day_zone))
        start, end = span(page, f"{key}\n{bucket.day_zone}", calendar)
        in_use = tally.used(page, key, start).requests
        line = Line("bucket", bucket.name, "requests", bucket.requests_day, in_use, held.requests, "day", end)
        limits.append(Limit(line, key))
    for total, length, word in ((bucket.tokens_5h, FIVE_HOURS, "5 h"), (bucket.tokens_7d, SEVEN_DAYS, "7 d")):
        if total:
            limits.append(rolling(page, bucket.name, "tokens", total, held.tokens, length, word))
    return limits


def rolling(page: Page, name: str, unit: Unit, total: int, held: int, length: float, word: str) -> Limit:
    """A bucket's limit over the last `length` seconds."""
    key = tally.bucket_key(name)
    in_use = tally.used(page, key, page.now.at - length).of(unit)
    return Limit(Line("bucket", name, unit, total, in_use, held, word), key, length)


def fits(
    page: Page, limits: Sequence[Limit], wanted: Mapping[Unit, int], before: Sums | None = None
) -> Denied | None:
    """What is in the way of `wanted`, and when that frees. A wish larger than a rolling limit waits until the
    window is empty: it would never fit. before: what others wait for, who come first; what is under way is then
    taken for used. Without a line it may as well end unused: where only that is in the way, nobody knows when."""
    for limit in limits:
        line, amount = limit.line, wanted.get(limit.line.unit, 0)
        amount = (min(amount, line.total) if limit.length else amount) + (before or Sums()).of(line.unit)
        denied = budget.check([line], {line.unit: amount})
        if denied is not None:
            coming = line.allocated if before is not None else 0
            over = line.in_use + coming + max(amount, 1) - line.total
            return replace(denied, line=replace(line, frees=_frees(page, limit, over)))
    return None


def holds(page: Page, where: str, *args: str) -> Sums:
    """What open reservations hold."""
    row = page.one(
        "SELECT COALESCE(SUM(hold_requests), 0), COALESCE(SUM(hold_tokens), 0), COALESCE(SUM(hold_nano), 0)"
        f" FROM reserved WHERE {where}",
        *args,
    )
    return Sums(*row) if row else Sums()


def _frees(page: Page, limit: Limit, over: int) -> datetime | None:
    """When so much of what was used counts no longer; None when it is running work that is in the way."""
    line = limit.line
    if not 0 < over <= line.in_use:
        return None
    if not limit.length:
        return line.frees
    at = tally.fallen(page, limit.key, line.unit, page.now.at - limit.length, over)
    return None if at is None else page.now.when(at + limit.length)
