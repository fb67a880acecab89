"""What was used since any moment, in two look-ups: running totals by key.

Invariant: the rows of a key never fall in time, so a sum over a window is the difference of two rows.
"""

from typing import NamedTuple

from agentq.core.budget import Unit
from agentq.models.book import Page

COLUMN: dict[Unit, str] = {"requests": "requests", "tokens": "tokens", "dollars": "nano"}
FOREVER = -1e18


class Sums(NamedTuple):
    requests: int = 0
    tokens: int = 0
    nano: int = 0

    def of(self, unit: Unit) -> int:
        return int(getattr(self, COLUMN[unit]))


def bucket_key(name: str) -> str:
    return f"bucket\n{name}"


def repo_key(repo: str) -> str:
    return f"repo\n{repo}"


def spec_key(repo: str, spec: str) -> str:
    return f"spec\n{repo}\n{spec}"


def add(page: Page, key: str, requests: int, tokens: int, nano: int) -> None:
    """Count use as of now."""
    row = page.one("SELECT at, requests, tokens, nano FROM tally WHERE key = ? ORDER BY at DESC LIMIT 1", key)
    at, *before = row or (page.now.at, 0, 0, 0)
    sums = Sums(before[0] + requests, before[1] + tokens, before[2] + nano)
    page.run(
        "INSERT OR REPLACE INTO tally (key, at, requests, tokens, nano) VALUES (?, ?, ?, ?, ?)",
        key, max(at, page.now.at), *sums,
    )  # fmt: skip


def used(page: Page, key: str, since: float = FOREVER) -> Sums:
    """Use after `since` (exclusive), up to now."""
    last, first = _at(page, key, -FOREVER), _at(page, key, since)
    return Sums(*(a - b for a, b in zip(last, first, strict=True)))


def fallen(page: Page, key: str, unit: Unit, since: float, amount: int) -> float | None:
    """The moment of the use with which `amount` was reached, counted from `since`: when that leaves a rolling
    window, so much is free again. None when less was used."""
    column = COLUMN[unit]
    wanted = _at(page, key, since).of(unit) + amount
    row = page.one(
        f"SELECT at FROM tally WHERE key = ? AND at > ? AND {column} >= ? ORDER BY at LIMIT 1", key, since, wanted
    )
    return float(row[0]) if row else None


def _at(page: Page, key: str, at: float) -> Sums:
    row = page.one(
        "SELECT requests, tokens, nano FROM tally WHERE key = ? AND at <= ? ORDER BY at DESC LIMIT 1", key, at
    )
    return Sums(*row) if row else Sums()
