"""Which specs may not run side by side (mission row T4).

Two specs clash in a path both declare: it exists on trunk and both modify it, or both add the same new file.
Different new files are additive. A glob stands for what it matches on trunk and for what it could match that
is new, so two globs clash when some path is meant by both. Paths under `[overlap] additive` never clash.
"""

from collections.abc import Iterable, Iterator, Sequence

from agentq.core.paths import covers, intersect, is_glob, matches


def is_additive(path: str, additive: Sequence[str]) -> bool:
    """Whether a declared path is wholly covered by the patterns that never block."""
    return any(covers(pattern, path) for pattern in additive)


def clashes(a: Sequence[str], b: Sequence[str], additive: Sequence[str] = ()) -> list[str]:
    """The declared paths in which two specs destructively overlap, as `a` or `a ∩ b` for two patterns."""
    found: list[str] = []
    for left in a:
        for right in b:
            if left == right or ((is_glob(left) or is_glob(right)) and intersect(left, right)):
                path = _narrower(left, right)
                if not (is_additive(left, additive) or is_additive(right, additive)) and path not in found:
                    found.append(path)
    return found


def _narrower(left: str, right: str) -> str:
    if left == right or not is_glob(left):
        return left
    return right if not is_glob(right) else f"{left} ∩ {right}"


class Occupancy:
    """Who declares which path, for asking quickly against many specs."""

    def __init__(self, additive: Sequence[str] = ()) -> None:
        self._additive = tuple(additive)
        self._literal: dict[str, dict[str, None]] = {}  # path → ids in the order they were added
        self._globs: dict[str, dict[str, None]] = {}

    def add(self, spec_id: str, files: Iterable[str]) -> None:
        for path in files:
            if self._additive and is_additive(path, self._additive):
                continue
            holder = self._globs if is_glob(path) else self._literal
            holder.setdefault(path, {})[spec_id] = None

    def clashes(self, files: Iterable[str]) -> dict[str, list[str]]:
        """spec id → the paths in which `files` destructively overlap with it, in order of declaration."""
        found: dict[str, list[str]] = {}
        for path, holders in self._meeting(files):
            for holder in holders:
                paths = found.setdefault(holder, [])
                if path not in paths:
                    paths.append(path)
        return found

    def count(self, spec_id: str, files: Iterable[str]) -> int:
        """In how many (path, other spec) pairs `files` of `spec_id` overlap. Linear in the paths declared."""
        return sum(len(holders) - (spec_id in holders) for _, holders in self._meeting(files))

    def free_of(self, files: Iterable[str]) -> bool:
        return next(self._meeting(files), None) is None

    def _meeting(self, files: Iterable[str]) -> Iterator[tuple[str, dict[str, None]]]:
        for path in dict.fromkeys(files):
            if self._additive and is_additive(path, self._additive):
                continue
            if not is_glob(path):
                if path in self._literal:
                    yield path, self._literal[path]
                for glob, holders in self._globs.items():
                    if matches(glob, path):
                        yield path, holders
                continue
            for other, holders in self._literal.items():
                if matches(path, other):
                    yield other, holders
            for glob, holders in self._globs.items():
                if intersect(path, glob):
                    yield _narrower(path, glob), holders
