"""The landing lane as people and programs look at it."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from agentq.core import lane as rules
from agentq.core.landing import batch_size
from agentq.core.spec import Queue
from agentq.core.text import plural


@dataclass(frozen=True)
class Waiting:
    """A spec in the lane. `base`: the trunk commit it was proved on; `state`: 'testing' or 'waiting'."""

    spec: str
    machine: str
    base: str
    state: str


@dataclass(frozen=True)
class Run:
    """A test run: `specs` together on `base`; none: trunk itself."""

    specs: tuple[str, ...]
    base: str
    since: datetime
    why: str


@dataclass(frozen=True)
class LaneView:
    """`pass_rate`: how many of those that enter land; `batch`: how many one run tests together because of it."""

    waiting: tuple[Waiting, ...]
    testing: tuple[Run, ...]
    leader: str
    since: datetime | None
    frozen: bool | str
    red: str
    pass_rate: float
    batch: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def view(queue: Queue, most: int) -> LaneView:
    """`most`: how many one run may test together at most (`[lane] batch`)."""
    lane = queue.lane
    tested = {spec for run in lane.testing for spec in run.specs}
    waiting = tuple(
        Waiting(
            entry.id, entry.lease.machine, entry.place.base if entry.place else "",
            "testing" if entry.id in tested else "waiting",
        )
        for entry in rules.waiting(queue)
    )  # fmt: skip
    rate = rules.pass_rate(lane)
    return LaneView(
        waiting, tuple(Run(run.specs, run.base, run.since, run.why) for run in lane.testing),
        lane.leader.machine if lane.leader else "", lane.leader.since if lane.leader else None, lane.frozen,
        lane.red or "", round(rate, 3), batch_size(rate, most),
    )  # fmt: skip


def in_words(seen: LaneView, now: datetime) -> list[str]:
    """At most 80 columns a line, but for ids and reasons that are longer."""
    lines = []
    if seen.frozen:
        why = f": {seen.frozen}" if isinstance(seen.frozen, str) else ""
        until = "it goes on when trunk moves, or with" if seen.red else "let it go on with"
        lines += [f"The lane is frozen{why}.", f"  {until} 'agentq lane thaw'"]
    if not seen.waiting:
        return [*lines, "Nothing waits to land."]
    led = f", led by {seen.leader} for {_ago(seen.since, now)}" if seen.leader else ", nobody leads it now"
    lines.append(f"{plural(len(seen.waiting), 'spec')} in the lane{led}.")
    width = max(len(one.spec) for one in seen.waiting)
    for number, one in enumerate(seen.waiting, 1):
        lines.append(f"{number:>3}  {one.spec:<{width}}  {one.state:<7}  {one.machine}, proved on {one.base[:10]}")
    for run in seen.testing:
        what = " + ".join(run.specs) if run.specs else "trunk itself"
        lines.append(f"Testing {what}")
        lines.append(f"  on {run.base[:10]} for {_ago(run.since, now)}: {run.why}")
    share = f"{round(seen.pass_rate * 100)} of 100 that enter are expected to land"
    return [*lines, f"{share}; one run tests up to {seen.batch} together."]


def _ago(since: datetime | None, now: datetime) -> str:
    seconds = max(int((now - since).total_seconds()), 0) if since else 0
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"
