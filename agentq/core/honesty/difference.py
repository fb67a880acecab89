"""How two lists of checks differ, how much one demands beside another, and what two tests have in common."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from agentq.core.honesty.shape import EXACT, PARTLY, Check

_ASSERTS = re.compile(r"assert|expect|should|\braises\b", re.IGNORECASE)


def difference(before: list[Check], after: list[Check]) -> tuple[list[Check], list[Check]]:
    """(checks that are missing, checks that are new), by their words and whether they count."""
    had, have = Counter(_same(one) for one in before), Counter(_same(one) for one in after)
    gone, fresh = had - have, have - had
    return _take(before, gone), _take(after, fresh)


def _same(check: Check) -> tuple[str, bool]:
    return check.text, bool(check.rank)


def _take(checks: list[Check], counts: Counter[tuple[str, bool]]) -> list[Check]:
    found = []
    for check in checks:
        if counts[_same(check)] > 0:
            counts[_same(check)] -= 1
            found.append(check)
    return found


def rank_beside(check: Check, subjects: set[str]) -> int:
    """`not x` is as good as any check of x that it contradicts."""
    return EXACT if check.custom or (check.negated and check.subject in subjects) else check.rank


def is_less(check: Check, other: Check, subjects: set[str]) -> bool:
    """Whether `other` demands less than the `check` whose place it takes. Nearly equal is as good as equal, and
    ways to say that something is false or empty are equals."""
    if check.negated and (other.negated or (check.rank < EXACT and other.subject == check.subject)):
        return False
    if check.rank < PARTLY:
        return False
    floor = check.rank - 1 if check.rank == EXACT else check.rank
    return rank_beside(other, subjects) < floor


@lru_cache(maxsize=4096)
def words(lines: tuple[str, ...]) -> Counter[str]:
    return Counter(word for line in lines for word in re.findall(r"\w+", line))


@lru_cache(maxsize=4096)
def deeds(lines: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line for line in lines if not _ASSERTS.search(line))


def common(a: Counter[str], b: Counter[str]) -> float:
    total = sum(a.values()) + sum(b.values())
    return 2 * sum((a & b).values()) / total if total else 0.0


def similar(line: str, others: Sequence[str]) -> bool:
    words = set(re.findall(r"\w+", line)) - {"_"}
    return (
        any(len(words & set(re.findall(r"\w+", other))) >= 0.6 * len(words) for other in others) if words else True
    )
