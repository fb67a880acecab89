"""The landing lane in the queue: who waits, who leads, what is frozen. Pure transitions Queue → Queue.

Invariants (landing facts, "The lane"): first in, first out; one leader an epoch, and an old epoch changes
nothing; what leaves the lane without landing keeps its lease, and the reason stands on the spec.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agentq.core import queue as transitions
from agentq.core.lifecycle import ACTIVE
from agentq.core.spec import MAX_TITLE, InProgress, Lane, Leader, Place, Queue, Tested
from agentq.core.text import one_line
from agentq.errors import Refused, Stale

HISTORY = 64
# What is believed before anything was seen: nine of ten pass, as strongly as ten specs would say it.
PRIOR_PASSED, PRIOR = 9, 10


@dataclass(frozen=True)
class Landing:
    """A spec whose commit is on trunk."""

    spec: str
    epoch: int
    commit: str


def waiting(queue: Queue) -> list[InProgress]:
    """The specs in the lane, first in first."""
    placed = [(entry.place.number, entry) for entry in queue.in_progress if entry.place is not None]
    return [entry for _, entry in sorted(placed, key=lambda pair: pair[0])]


def pass_rate(lane: Lane) -> float:
    """How likely a spec in the lane lands, learned from those that left it."""
    return (lane.recent.count("1") + PRIOR_PASSED) / (len(lane.recent) + PRIOR)


def enter(queue: Queue, spec_id: str, epoch: int, place: Place, seconds: float = 0.0) -> Queue:
    """A proved spec takes the next place; what `place.number` says is replaced. Entering twice with the same
    work changes nothing. `seconds`: what its verification took so far."""
    entry = transitions.owned(queue, spec_id, epoch)
    if entry.status != ACTIVE["verify"]:
        raise Refused(f"a spec that is {entry.status} cannot wait in the lane")
    number = queue.lane.last + 1
    if entry.place is not None:
        if entry.place.work == place.work:
            return queue
        number = entry.place.number  # new work at the old place
    entry = transitions.spent(entry, "verify", seconds, 0, 0.0)
    placed = transitions.changed_entry(queue, entry, {"place": place.model_copy(update={"number": number})})
    return _lane(placed, last=max(number, queue.lane.last))


def leave(queue: Queue, spec_id: str, epoch: int) -> Queue:
    """A spec goes back to its verification; the place is free."""
    entry = transitions.owned(queue, spec_id, epoch)
    return queue if entry.place is None else transitions.changed_entry(queue, entry, {"place": None})


# ---------------------------------------------------------------- what the leader does


def lead(queue: Queue, machine: str, now: datetime, *, over: int = 0, past: str | None = None) -> Queue:
    """`machine` leads the lane under a new epoch. The caller has made sure that the leader of epoch `over`, if
    there is one, is dead, and that trunk moved on from `past`, if that was red. Raises Refused when another one
    leads, or the lane is frozen for another reason."""
    leader, lane = queue.lane.leader, queue.lane
    if leader is not None and leader.epoch != over:
        raise Refused(f"{leader.machine} leads the lane")
    if lane.frozen and (lane.red is None or lane.red != past):
        raise Refused("the lane is frozen", "'agentq lane thaw' lets it go on")
    epoch = queue.epoch + 1
    fresh = Leader(machine=machine, epoch=epoch, since=now)
    return _lane(queue.model_copy(update={"epoch": epoch}), leader=fresh, testing=(), frozen=False, red=None)


def leading(queue: Queue, epoch: int) -> Leader:
    """Raises Stale when somebody else leads by now."""
    leader = queue.lane.leader
    if leader is None or leader.epoch != epoch:
        raise Stale("somebody else leads the lane now", "'agentq lane' shows who")
    return leader


def resign(queue: Queue, epoch: int) -> Queue:
    leader = queue.lane.leader
    return queue if leader is None or leader.epoch != epoch else _lane(queue, leader=None, testing=())


def testing(queue: Queue, epoch: int, runs: Sequence[Tested]) -> Queue:
    """What is being tested, for people to see."""
    leading(queue, epoch)
    return queue if tuple(runs) == queue.lane.testing else _lane(queue, testing=tuple(runs))


def land(queue: Queue, epoch: int, landings: Sequence[Landing], now: datetime) -> Queue:
    """All of `landings` are completed, in this order, and the leader of an empty lane resigns. A landing that is
    written down already changes nothing. Raises Stale when another one leads, the lane is frozen or a spec's lease
    was taken over: then nothing of it may land."""
    leading(queue, epoch)
    if queue.lane.frozen:
        raise Stale("the lane was frozen meanwhile", "'agentq lane thaw' lets it go on")
    known = {(done.id, done.epoch, done.landed) for done in queue.completed}
    for one in landings:
        if (one.spec, one.epoch, one.commit) not in known:
            entry = transitions.owned(queue, one.spec, one.epoch)
            if entry.place is None:
                raise Stale(f"'{one.spec}' left the lane", "it was not landed")
    return landed(queue, landings, now)


def landed(queue: Queue, landings: Sequence[Landing], now: datetime) -> Queue:
    """All of `landings` are on trunk, as the caller has seen: whatever became of the lane or a lease meanwhile,
    they are completed. What was given back is held, so that nobody does it again; what is completed stays."""
    for one in landings:
        if any(entry.id == one.spec for entry in queue.ready):
            queue = transitions.hold(queue, one.spec, f"it is on trunk already, as {one.commit[:10]}")
        entry = next((entry for entry in queue.in_progress if entry.id == one.spec), None)
        if entry is not None:
            epoch = entry.lease.epoch
            queue = transitions.complete(queue, one.spec, epoch, one.commit, now, on_trunk=True)
            queue = _lane(queue, recent=_remember(queue.lane, "1"))
    if not waiting(queue):
        return _lane(queue, leader=None, testing=())  # nothing is left to lead
    return _lane(queue, testing=()) if queue.lane.testing else queue


def send_back(queue: Queue, leader: int, spec_id: str, epoch: int) -> Queue:
    """What moved under a spec conflicts with it: it is to be verified again. Nobody is blamed."""
    leading(queue, leader)
    return leave(queue, spec_id, epoch)


def eject(queue: Queue, leader: int, spec_id: str, epoch: int, problem: str, allowed: int) -> Queue:
    """A spec's tests fail in the lane: back to its owner with what failed."""
    leading(queue, leader)
    entry = transitions.owned(queue, spec_id, epoch)
    if entry.place is None:
        return queue
    failed = transitions.fail(queue, spec_id, epoch, "verify", problem, allowed=allowed)
    return _lane(failed, recent=_remember(queue.lane, "0"))


def refuse(queue: Queue, leader: int, spec_id: str, epoch: int, problem: str) -> Queue:
    """The remote does not take a spec: a person decides. That says nothing about the tests."""
    leading(queue, leader)
    entry = transitions.owned(queue, spec_id, epoch)
    if entry.place is None:
        return queue
    return transitions.fail(queue, spec_id, epoch, "verify", problem, attention=problem)


# ---------------------------------------------------------------- freezing


def freeze(queue: Queue, why: str = "", red: str | None = None, leader: int | None = None) -> Queue:
    """Nothing lands until somebody thaws it, or trunk moves on from `red`, the commit whose tests fail. A leader
    does not freeze what is frozen: the word of a person stands."""
    if leader is not None:
        leading(queue, leader)
        if queue.lane.frozen:
            return queue
    return _lane(queue, frozen=one_line(why, MAX_TITLE) or True, red=red)


def thaw(queue: Queue) -> Queue:
    lane = queue.lane
    return _lane(queue, frozen=False, red=None) if lane.frozen or lane.red else queue


def _remember(lane: Lane, outcome: str) -> str:
    return (lane.recent + outcome)[-HISTORY:]


def _lane(queue: Queue, **changes: object) -> Queue:
    return queue.model_copy(update={"lane": queue.lane.model_copy(update=changes)})
