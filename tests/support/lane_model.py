"""A small model of the lane, explored breadth first over every order of events.

Real: the queue with its transitions, `decide`. Modelled: trunk as the sequence of what landed on it, tests as a
function of that sequence, two leaders with their memories, and faults with a budget for each kind: a leader that
crashes, one that is believed dead and goes on, a run that fails for no reason, a push from outside that breaks
trunk and another that mends it, a lease that is taken over while its spec waits.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from agentq.core import landing, lane
from agentq.core import queue as transitions
from agentq.core.landing import Eject, Freeze, Land, Link, Seen, Test, View, Wait
from agentq.core.queue import Claim
from agentq.core.spec import Place, Queue, Spec
from agentq.errors import Refused

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPECS = ("a", "b", "c")
BREAKS, MENDS = "x", "y"
Trunk = tuple[str, ...]


class Faults(NamedTuple):
    crashes: int = 0
    suspicions: int = 0
    flakes: int = 0
    breaks: int = 0
    takeovers: int = 0


NO_FAULTS = Faults()


class Leader(NamedTuple):
    """What a process that leads remembers. `pushing`: the landings it decided on, about to be pushed."""

    epoch: int
    trunk: Trunk
    seen: tuple[tuple[str, Seen], ...] = ()
    runs: int = 0
    last_pass: int = 0
    pushing: tuple[lane.Landing, ...] = ()


class State(NamedTuple):
    queue: Queue
    trunk: Trunk
    leaders: tuple[Leader | None, Leader | None]
    faults: Faults
    green: frozenset[str]  # ghost: every tree that passed, or has a certificate

    @property
    def key(self) -> object:
        """States that can do the same are the same: names of epochs and numbers of places do not matter."""
        places = tuple((e.id, e.lease.epoch, e.place.base if e.place else None) for e in lane.waiting(self.queue))
        rest = tuple(
            sorted((e.id, e.failures, e.attention is None) for e in self.queue.in_progress if not e.place)
        )
        done = tuple((e.id, e.landed) for e in self.queue.completed)
        led = self.queue.lane.leader.epoch if self.queue.lane.leader else 0
        held = (self.queue.lane.frozen is not False, self.queue.lane.red, self.queue.lane.recent.count("0"))
        return places, rest, done, led, held, self.trunk, self.leaders, self.faults, self.green


def sha(*parts: str) -> str:
    return hashlib.sha1("/".join(parts).encode()).hexdigest()


def tree(trunk: Trunk) -> str:
    return ".".join(trunk)


class Violation(AssertionError):
    """An invariant does not hold; the message names it."""


@dataclass
class Model:
    """`clash`: two specs whose tests pass alone and fail together. The callables are what a mutant replaces."""

    clash: frozenset[str] = frozenset()
    faults: Faults = NO_FAULTS
    decide: Callable[[View], landing.Decision] = landing.decide
    land: Callable[..., Queue] = lane.land
    waiting: Callable[[Queue], list] = lane.waiting  # type: ignore[type-arg]
    expects_trunk: bool = True
    slots: int = 1
    edges: dict[object, list[object]] = field(default_factory=dict)

    # ------------------------------------------------------------ the world

    def passes(self, name: str) -> bool:
        """What the tests of a tree say when they do not flake."""
        parts = name.split(".")
        broken = BREAKS in parts and MENDS not in parts
        return not broken and not (len(self.clash) == 2 and self.clash <= set(parts))

    def start(self) -> State:
        queue = Queue()
        for name in SPECS:
            queue = transitions.add(queue, Spec(id=name, title=name, tests="none"))
        for name in SPECS:
            queue = self._verifying(transitions.claim(queue, name, self._who()), name)
        return State(queue, ("base",), (None, None), self.faults, frozenset({"base"}))

    def _who(self) -> Claim:
        return Claim("host", 1, NOW, timedelta(hours=1))

    def _verifying(self, queue: Queue, name: str) -> Queue:
        epoch = transitions.running(queue, name).lease.epoch
        for stage in ("test", "implement"):
            queue = transitions.begin(queue, name, epoch, stage, NOW, timedelta(hours=1))  # type: ignore[arg-type]
            queue = transitions.finish(queue, name, epoch, stage, 1.0)  # type: ignore[arg-type]
        return transitions.begin(queue, name, epoch, "verify", NOW, timedelta(hours=1))

    # ------------------------------------------------------------ what may happen next

    def successors(self, state: State) -> Iterator[State]:
        yield from self._owners(state)
        yield from self._outside(state)
        for index in (0, 1):
            yield from self._leader(state, index)

    def _owners(self, state: State) -> Iterator[State]:
        """Specs enter with a certificate for their tree on the trunk they see."""
        for entry in state.queue.in_progress:
            own = tree((*state.trunk, entry.id))
            if entry.place is None and not entry.failures and self.passes(own):
                place = Place(number=1, work=sha(entry.id), base=sha(*state.trunk), tree=sha(own))
                queue = lane.enter(state.queue, entry.id, entry.lease.epoch, place)
                yield state._replace(queue=queue, green=state.green | {own})
            if entry.place is not None and state.faults.takeovers:
                queue = transitions.take_over(state.queue, entry.id, self._who())
                left = state.faults._replace(takeovers=state.faults.takeovers - 1)
                yield state._replace(queue=queue, faults=left)

    def _outside(self, state: State) -> Iterator[State]:
        if state.faults.breaks and BREAKS not in state.trunk:
            left = state.faults._replace(breaks=state.faults.breaks - 1)
            yield state._replace(trunk=(*state.trunk, BREAKS), faults=left)
        if BREAKS in state.trunk and MENDS not in state.trunk:
            yield state._replace(trunk=(*state.trunk, MENDS))

    def _leader(self, state: State, index: int) -> Iterator[State]:
        leader = state.leaders[index]
        if leader is None:
            yield from self._takes_lead(state, index)
            return
        if state.faults.crashes:
            left = state.faults._replace(crashes=state.faults.crashes - 1)
            yield self._with(state, index, None)._replace(faults=left)
        yield from self._pushes(state, index, leader) if leader.pushing else self._steps(state, index, leader)

    def _takes_lead(self, state: State, index: int) -> Iterator[State]:
        box, other = state.queue.lane, state.leaders[1 - index]
        if not lane.waiting(state.queue) or (box.frozen and box.red in (None, sha(*state.trunk))):
            return
        faults, over = state.faults, 0
        if box.leader is not None:
            over = box.leader.epoch
            if other is not None and other.epoch == over:  # it lives: only a wrong suspicion takes its lead
                if not faults.suspicions:
                    return
                faults = faults._replace(suspicions=faults.suspicions - 1)
        queue = lane.lead(lane.thaw(state.queue), "host", NOW, over=over)
        assert queue.lane.leader is not None
        yield self._with(
            state._replace(queue=queue, faults=faults), index, Leader(queue.lane.leader.epoch, state.trunk)
        )

    @staticmethod
    def _with(state: State, index: int, leader: Leader | None) -> State:
        pair = list(state.leaders)
        pair[index] = leader
        return state._replace(leaders=(pair[0], pair[1]))

    # ------------------------------------------------------------ a leader's step

    def _view(self, state: State, leader: Leader) -> View:
        entries = self.waiting(state.queue)
        seen = {name: Seen(passed=1) for name in state.green if name == tree(leader.trunk)} | dict(leader.seen)
        chain, onto = [], leader.trunk
        for entry in entries:
            onto = (*onto, entry.id)
            chain.append(Link(entry.id, tree(onto)))
        if entries and entries[0].place.base == sha(*leader.trunk):
            seen.setdefault(chain[0].tree, Seen(passed=1))
        return View(tree(leader.trunk), tuple(chain), seen, leader.last_pass, lane.pass_rate(state.queue.lane))

    def _steps(self, state: State, index: int, leader: Leader) -> Iterator[State]:
        box = state.queue.lane
        if box.leader is None or box.leader.epoch != leader.epoch or box.frozen:
            yield self._ends(state, index, leader)
            return
        match self.decide(self._view(state, leader)):
            case Wait():
                yield self._ends(state, index, leader)
            case Test(trees=(wanted, *_)):
                yield from self._tested(state, index, leader, wanted)
            case Land(count):
                landings = tuple(
                    lane.Landing(e.id, e.lease.epoch, sha(e.id)) for e in self.waiting(state.queue)[:count]
                )
                yield self._with(state, index, leader._replace(pushing=landings))
            case Eject(spec):
                yield self._with(self._ejected(state, leader, spec), index, leader)
            case Freeze(cause):
                if cause == "red" and self.passes(tree(leader.trunk)) and not self.faults.flakes:
                    raise Violation("frozen although trunk is green")
                queue = lane.freeze(state.queue, cause, sha(*leader.trunk), leader.epoch)
                yield self._with(state._replace(queue=queue), index, leader)

    def _ends(self, state: State, index: int, leader: Leader) -> State:
        queue = lane.resign(state.queue, leader.epoch)
        if queue.lane.leader == state.queue.lane.leader and queue.lane.leader is not None:
            assert queue.lane.leader.epoch != leader.epoch
        return self._with(state._replace(queue=queue), index, None)

    def _tested(self, state: State, index: int, leader: Leader, wanted: str) -> Iterator[State]:
        truth = self.passes(wanted)
        yield self._heard(state, index, leader, wanted, truth)
        if truth and state.faults.flakes:
            left = state.faults._replace(flakes=state.faults.flakes - 1)
            yield self._heard(state._replace(faults=left), index, leader, wanted, False)

    def _heard(self, state: State, index: int, leader: Leader, name: str, passed: bool) -> State:
        seen = dict(leader.seen)
        before = seen.get(name, Seen(passed=1) if name == tree(leader.trunk) and name in state.green else Seen())
        runs = leader.runs + 1
        if passed:
            seen[name] = replace(before, passed=before.passed + 1)
            state = state._replace(green=state.green | {name})
        else:
            kept = 0 if name == tree(leader.trunk) else before.passed
            first = before.first_failed or runs
            seen[name] = replace(before, passed=kept, failed=before.failed + 1, first_failed=first)
        after = leader._replace(
            seen=tuple(sorted(seen.items())), runs=runs, last_pass=runs if passed else leader.last_pass
        )
        return self._with(state, index, after)

    def _ejected(self, state: State, leader: Leader, spec: str) -> State:
        if not self.passes(tree(leader.trunk)):
            raise Violation("an innocent is ejected: trunk itself is red")
        if self.passes(tree((*leader.trunk, spec))):
            raise Violation("an innocent is ejected: its tests pass on trunk")
        entry = transitions.running(state.queue, spec)
        return state._replace(
            queue=lane.eject(state.queue, leader.epoch, spec, entry.lease.epoch, "red", allowed=2)
        )

    def _pushes(self, state: State, index: int, leader: Leader) -> Iterator[State]:
        """The atomic push: trunk and queue with their expected values, or nothing."""
        again = leader._replace(pushing=(), trunk=state.trunk)
        if self.expects_trunk and state.trunk != leader.trunk:
            yield self._with(state, index, again)
            return
        try:
            queue = self.land(state.queue, leader.epoch, leader.pushing, NOW)
        except Refused:
            yield self._with(state, index, None)
            return
        self._may_land(state, leader)
        trunk = (*leader.trunk, *(one.spec for one in leader.pushing))
        landed = state._replace(queue=queue, trunk=trunk)
        yield self._with(landed, index, leader._replace(pushing=(), trunk=trunk))
        if state.faults.crashes:  # pushed, and dead before it heard so
            left = state.faults._replace(crashes=state.faults.crashes - 1)
            yield self._with(landed, index, None)._replace(faults=left)

    def _may_land(self, state: State, leader: Leader) -> None:
        trunk = (*leader.trunk, *(one.spec for one in leader.pushing))
        if tree(trunk) not in state.green:
            raise Violation("trunk takes a tree that never passed")
        if leader.trunk != state.trunk:
            raise Violation("trunk is not fast-forwarded: somebody's work is reverted")
        led = state.queue.lane.leader
        if led is None or led.epoch != leader.epoch:
            raise Violation("a leader that was taken over lands")
        for one in leader.pushing:
            if transitions.running(state.queue, one.spec).lease.epoch != one.epoch:
                raise Violation("a lease that was taken over lands")
        first = [entry.id for entry in lane.waiting(state.queue)][: len(leader.pushing)]
        if first != [one.spec for one in leader.pushing]:
            raise Violation("not first in, first out")

    # ------------------------------------------------------------ exploring

    def explore(self) -> int:
        """Visit every state; the number of states. Raises Violation."""
        start = self.start()
        todo, known, goals = deque([start]), {start.key}, []
        while todo:
            state = todo.popleft()
            self._check(state)
            if self._is_over(state):
                goals.append(state.key)
            following = self.edges.setdefault(state.key, [])
            for after in self.successors(state):
                key = after.key
                following.append(key)
                if key not in known:
                    known.add(key)
                    todo.append(after)
        self._all_reach(goals, known)
        return len(known)

    def _is_over(self, state: State) -> bool:
        """All that can land has landed: what is left was ejected, or fails off the lane."""
        left = state.queue.in_progress
        failing = all(e.failures or not self.passes(tree((*state.trunk, e.id))) for e in left if not e.place)
        over = failing and not any(e.place for e in left) and self.passes(tree(state.trunk))
        return over and state.leaders == (None, None)

    def _check(self, state: State) -> None:
        landed = [part for part in state.trunk if part in SPECS]
        if len(set(landed)) != len(landed):
            raise Violation("a spec landed twice")
        if landed != [entry.id for entry in state.queue.completed]:
            raise Violation("trunk and queue disagree about what landed")
        transitions.check(state.queue)

    def _all_reach(self, goals: list[object], known: set[object]) -> None:
        """From every state there is a way to the end: nothing waits for ever."""
        back: dict[object, list[object]] = {}
        for key, following in self.edges.items():
            for after in following:
                back.setdefault(after, []).append(key)
        reached, todo = set(goals), deque(goals)
        while todo:
            for before in back.get(todo.popleft(), ()):
                if before not in reached:
                    reached.add(before)
                    todo.append(before)
        if reached != known:
            raise Violation(f"{len(known - reached)} states never come to an end")
