"""Which specs in progress will collide when they land, as data: what counts, and who should land first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agentq.core.lifecycle import STATUSES
from agentq.core.paths import matches_any
from agentq.core.spec import InProgress
from agentq.core.text import clean, plural

FILE = "collisions.json"  # in the machine-local state: the pairs that were merged
TRUNK = ""  # in the place of the other spec: what landed already
KEPT_PATHS = 100
# Both sides have the file. What one of them deleted or moved is always a person's.
_MERGEABLE = ("contents", "both-added")


class Conflicted(NamedTuple):
    """A path that two commits cannot be merged in. `kind`: git's word for it (contents, modify/delete,
    rename/rename, …), or both-added."""

    path: str
    kind: str


@dataclass(frozen=True)
class Pair:
    """Two specs merged on the commit `trunk`: `commits` are their newest ones, in order. `other` is TRUNK for what
    landed meanwhile. `paths`: the first KEPT_PATHS of `count`, empty if they merge. `said`: a run told of it.
    `merged`: False if git could not merge them: nothing is known, and it is asked again."""

    spec: str
    other: str
    commits: tuple[str, str]
    trunk: str
    paths: tuple[Conflicted, ...] = ()
    count: int = 0
    said: bool = False
    merged: bool = True

    @property
    def who(self) -> tuple[str, str]:
        return self.spec, self.other

    def to_json(self) -> dict[str, Any]:
        return {
            "spec": self.spec, "other": self.other, "commits": list(self.commits), "trunk": self.trunk,
            "paths": [list(one) for one in self.paths], "count": self.count, "said": self.said,
            "merged": self.merged,
        }  # fmt: skip


def pair_of(data: Any) -> Pair | None:
    """From JSON; None for what is no pair."""
    try:
        first, second = map(str, data["commits"])
        paths = tuple(Conflicted(str(path), str(kind)) for path, kind in data["paths"])
        return Pair(
            str(data["spec"]), str(data["other"]), (first, second), str(data["trunk"]), paths,
            int(data["count"]), bool(data["said"]), bool(data.get("merged", True)),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        return None


@dataclass(frozen=True)
class Mechanical:
    """Which conflicts agentq resolves by itself when it lands, judged by the path alone: no reason for an alarm.
    `lock_files`: their last segment counts; `additive`, `generated`: patterns."""

    lock_files: Sequence[str] = ()
    additive: Sequence[str] = ()
    generated: Sequence[str] = ()
    migration: Callable[[str], bool] = lambda _path: False

    def resolves(self, one: Conflicted) -> bool:
        if one.kind not in _MERGEABLE:
            return False
        name = one.path.rpartition("/")[2]
        return (
            any(name == known.rpartition("/")[2] for known in self.lock_files)
            or matches_any((*self.additive, *self.generated), one.path)
            or self.migration(one.path)
        )

    def alarming(self, pair: Pair) -> list[str]:
        """The paths a person should know of; of more than KEPT_PATHS, those that were kept."""
        found = [one.path for one in pair.paths if not self.resolves(one)]
        return found or [one.path for one in pair.paths if pair.count > len(pair.paths)]


@dataclass(frozen=True)
class Collision:
    """A pair as it is shown. `alarming`: the paths a person should know of, empty where all resolves itself.
    `first`: who should land first, and `because`; '' against trunk."""

    pair: Pair
    alarming: tuple[str, ...]
    first: str = ""
    because: str = ""

    def concerns(self, spec_id: str) -> bool:
        return spec_id in self.pair.who

    def beside(self, spec_id: str) -> str:
        """The other one, in words."""
        other = self.pair.other if self.pair.spec == spec_id else self.pair.spec
        return other or "trunk"

    def where(self, limit: int = 3) -> str:
        """'x.py, y.py (+2)'."""
        shown = ", ".join(" ".join(clean(path).split()) for path in self.alarming[:limit])
        itself = sum(1 for one in self.pair.paths if one.path not in self.alarming)
        more = self.pair.count - itself - len(self.alarming[:limit])
        return f"{shown} (+{more})" if more > 0 else shown

    def said_to(self, spec_id: str) -> str:
        """In words, to the owner of `spec_id`."""
        other = self.beside(spec_id)
        if not self.alarming:
            return f"meets {other} in files whose conflicts resolve themselves"
        if not self.pair.other:
            return f"conflicts with what landed on trunk in {self.where()}"
        return f"will collide with {other} in {self.where()}; {self.advice}"

    @property
    def advice(self) -> str:
        return f"{self.first} should land first: {self.because}" if self.first else ""

    def to_json(self) -> dict[str, Any]:
        paths = [
            {"path": clean(one.path), "kind": one.kind, "resolves_itself": one.path not in self.alarming}
            for one in self.pair.paths
        ]
        return {
            "spec": self.pair.spec, "other": self.pair.other or None, "commits": list(self.pair.commits),
            "paths": paths, "count": self.pair.count, "resolves_itself": not self.alarming,
            "first": self.first or None, "because": self.because,
        }  # fmt: skip


def first(one: InProgress, other: InProgress, unblocks: Mapping[str, int]) -> tuple[str, str]:
    """(who of two should land first, why): the one that is not stuck, is further, frees more specs, is more
    important, was begun earlier. The other one then meets the conflict while its agent can still act on it."""
    stuck = {spec.id: bool(spec.attention or spec.held) for spec in (one, other)}
    if stuck[one.id] != stuck[other.id]:
        ahead, behind = (other, one) if stuck[one.id] else (one, other)
        return ahead.id, f"{behind.id} waits for a person"
    rank = {spec.id: STATUSES.index(spec.status) for spec in (one, other)}
    if rank[one.id] != rank[other.id]:
        ahead, behind = (one, other) if rank[one.id] > rank[other.id] else (other, one)
        return ahead.id, f"it is {ahead.status}, {behind.id} is {behind.status}"
    freed = {spec.id: unblocks.get(spec.id, 0) for spec in (one, other)}
    if freed[one.id] != freed[other.id]:
        ahead = one if freed[one.id] > freed[other.id] else other
        return ahead.id, f"{plural(freed[ahead.id], 'spec')} {'waits' if freed[ahead.id] == 1 else 'wait'} for it"
    if one.priority != other.priority:
        return (one if one.priority > other.priority else other).id, "its priority is higher"
    return min((one, other), key=lambda spec: (spec.lease.acquired, spec.id)).id, "it was begun first"
