"""Heartbeats of the machines that share a queue: what one says, and when one that stands still means death.

Invariant (reliability fact 11): no clock of another host decides anything. Whether a machine died is judged by
how long its heartbeat was seen unchanged, on the observer's own monotonic clock, and only over time in which the
observer could see. `at` in a beat is for people.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from agentq.core.spec import MAX_TITLE, Leader, Queue
from agentq.core.text import clean

CAPS = ("instances", "ram_gb", "test_workers", "playwright_workers", "verifications")
MAX_RUNS = 1000


@dataclass(frozen=True)
class Run:
    """What a machine works on. Epoch 0: it is about to claim the spec."""

    epoch: int
    stage: str
    instance: int


@dataclass(frozen=True)
class Beat:
    """`host`: random id of the computer, so that two of one name are told apart; `n` counts its beats; `lane`: the
    epoch of the lane it leads, or 0. One without `runs` and `lane` says good-bye: nobody is at work there."""

    machine: str
    host: str
    n: int = 0
    at: str = ""
    caps: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    runs: Mapping[str, Run] = field(default_factory=lambda: MappingProxyType({}))
    lane: int = 0
    drained: bool = False

    @property
    def at_work(self) -> bool:
        return bool(self.runs or self.lane)

    def says(self) -> tuple[Any, ...]:
        """What is news when it changes."""
        return self.host, dict(self.caps), dict(self.runs), self.lane, self.drained


def to_text(beat: Beat) -> str:
    runs = {spec: asdict(run) for spec, run in beat.runs.items()}
    return json.dumps({**beat.__dict__, "caps": dict(beat.caps), "runs": runs}, ensure_ascii=True, sort_keys=True)


def parse(text: str) -> Beat | None:
    """The beat, or None when it is none: everybody who may push can write one."""
    try:
        data = json.loads(text)
        return Beat(
            machine=_line(data["machine"]), host=_line(data["host"]), n=_count(data["n"]), at=_line(data["at"]),
            caps={name: _number(data["caps"][name]) for name in CAPS if name in data["caps"]},
            runs={
                _line(spec): Run(_count(run["epoch"]), _line(run["stage"]), _count(run["instance"]))
                for spec, run in list(data["runs"].items())[:MAX_RUNS]
            },
            lane=_count(data["lane"]), drained=data["drained"] is True,
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _line(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return clean(value).replace("\n", " ")[:MAX_TITLE]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise ValueError
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError
    return int(_number(value))


# ---------------------------------------------------------------- what an observer knows


@dataclass(frozen=True)
class Seen:
    """A value, and the monotonic time since which it stood unchanged before our eyes."""

    value: str
    since: float


@dataclass(frozen=True)
class Observations:
    """What was seen in a look that began at `at`, in seconds of the clock of this boot. `blind`: we looked after
    that and could not see."""

    boot: str
    at: float
    seen: Mapping[str, Seen] = field(default_factory=lambda: MappingProxyType({}))
    blind: bool = False


def observe(
    previous: Observations | None, seen: Mapping[str, str], began: float, ended: float, boot: str, most: float
) -> Observations:
    """What is known after a look from `began` to `ended` that saw `seen` (key → value). After a restart of this
    host (`boot`) its clock began anew, and so does all watching. Time between two looks counts only if no look in
    between failed, and `most` seconds of it: when the remote was away, no machine could have shown that it lives,
    and whoever did not look cannot tell."""
    if previous is not None and (previous.boot != boot or previous.at > began):
        previous = None

    def known(key: str, value: str) -> Seen:
        before = previous.seen.get(key) if previous else None
        if previous is None or before is None or before.value != value:
            return Seen(value, ended)
        watched = 0.0 if previous.blind else min(max(began - max(previous.at, before.since), 0.0), most)
        return Seen(value, began - silent_seconds(previous, key) - watched)

    # A process may be stopped in the middle of a look: what it saw is as old as the look's beginning.
    return Observations(boot, began, {key: known(key, value) for key, value in seen.items()})


def blinded(previous: Observations | None) -> Observations | None:
    """What is known after a look that failed."""
    return previous and Observations(previous.boot, previous.at, previous.seen, blind=True)


def silent_seconds(observations: Observations | None, key: str) -> float:
    """For how long the value of `key` stood unchanged, up to our last look; 0 for what was never seen."""
    found = observations.seen.get(key) if observations else None
    return max(observations.at - found.since, 0.0) if observations and found else 0.0


def machine_key(name: str) -> str:
    return f"machine:{name}"


def lane_key(epoch: int) -> str:
    return f"lane:{epoch}"


def watched(
    beats: Mapping[str, tuple[str, Beat | None]], queue: Queue, previous: Observations | None
) -> dict[str, str]:
    """What an observer looks at, key → value. `beats`: machine → (commit of its beat, the beat). A machine that
    the queue names and that has no beat stands still as ''. The leader of the lane lives as long as beats of its
    machine list its epoch: so its death is seen on a machine that goes on with other work, too."""
    leader = queue.lane.leader
    named: Iterable[str] = (entry.lease.machine for entry in queue.in_progress)
    values = {machine_key(name): "" for name in (*named, *([leader.machine] if leader else []))}
    values |= {machine_key(name): sha for name, (sha, _) in beats.items()}
    if leader is not None:
        values[lane_key(leader.epoch)] = _lane_value(leader, beats, previous)
    return values


def _lane_value(
    leader: Leader, beats: Mapping[str, tuple[str, Beat | None]], previous: Observations | None
) -> str:
    sha, beat = beats.get(leader.machine, ("", None))
    if beat is not None and beat.lane == leader.epoch:
        return sha
    known = previous.seen.get(lane_key(leader.epoch)) if previous else None
    return known.value if known else ""


def to_json(observations: Observations) -> dict[str, Any]:
    seen = {key: [one.value, one.since] for key, one in observations.seen.items()}
    return {"boot": observations.boot, "at": observations.at, "blind": observations.blind, "seen": seen}


def from_json(data: Any) -> Observations | None:
    """None for what is torn: then watching begins anew."""
    try:
        seen = {str(key): Seen(str(value), float(since)) for key, (value, since) in data["seen"].items()}
        return Observations(str(data["boot"]), float(data["at"]), seen, data["blind"] is True)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def taken_over(queue: Queue, spec_id: str, epoch: int) -> bool:
    """Whether the run of `epoch` lost its spec: it neither has the lease nor landed."""
    leased = any(entry.id == spec_id and entry.lease.epoch == epoch for entry in queue.in_progress)
    return not leased and not any(done.id == spec_id and done.epoch == epoch for done in queue.completed)
