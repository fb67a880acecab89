"""How hard a spec is, from 1 to 10: by its words, its estimate, its files, what it waits for (mission row P11)."""

from collections.abc import Sequence
from dataclasses import dataclass

from agentq.core.paths import is_glob
from agentq.core.text import hours as in_words
from agentq.core.text import plural

# Up to so many hours → so hard. A spec as it should be takes 4 to 5.
HOURS = ((0.5, 1), (1, 2), (2, 3), (3, 4), (5, 5), (7, 6), (10, 7), (16, 8), (30, 9))
GLOB_FILES = 4  # how many files a glob stands for
MANY_FILES, VERY_MANY_FILES, MANY_DEPENDENCIES = 6, 15, 4


@dataclass(frozen=True, slots=True)
class Hints:
    """What a spec says beside its text. Empty and 0: it says nothing."""

    files: Sequence[str] = ()
    depends_on: Sequence[str] = ()
    estimate_hours: float = 0.0


def complexity(by_words: float, hints: Hints, kind: str) -> tuple[int, list[str]]:
    """1 to 10, and sentences that say why. An estimate counts twice as much as words: somebody thought about it.
    Many files say nothing about bulk work, where each is as simple as the other."""
    value, why = by_words, [f"by its words its complexity is {by_words:.0f} of 10"]
    if hints.estimate_hours > 0:
        by_hours = next((hard for limit, hard in HOURS if hints.estimate_hours <= limit), 10)
        value = (2 * by_hours + by_words) / 3
        why.append(f"an estimate of {in_words(hints.estimate_hours)} makes it {value:.0f}")
    files = sum(GLOB_FILES if is_glob(path) else 1 for path in hints.files)
    if files > MANY_FILES and kind != "bulk":
        more = 2 if files > VERY_MANY_FILES else 1
        value += more
        why.append(f"about {files} files add {more}")
    if len(hints.depends_on) >= MANY_DEPENDENCIES:
        value += 1
        why.append(f"waiting for {plural(len(hints.depends_on), 'spec')} adds 1")
    return min(10, max(1, round(value))), why
