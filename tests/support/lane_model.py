"""The lane under every order of events, for a model checker (landing facts, "Invariants").

Three specs, two hosts that may lead, a trunk that others push to. The queue is the real one, changed by the real
`core.queue` and `core.lane`; the leader does what the real `decide` says, one step at a time, so everything else may
come in between. A tree is the tuple of the works in it. A leader's memory dies with it. One or two faults of `FAULTS`
befall a history. Each mutant of the model breaks one rule; the checker has to find it.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from agentq.core import landing, lane
from agentq.core import queue as transitions
from agentq.core.landing import NOTHING, Eject, Freeze, Land, Link, Seen, Test, View, Wait
from agentq.core.queue import Claim
from agentq.core.spec import InProgress, Place, Queue
from agentq.errors import Stale

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
SPECS = ("a", "b", "c")
WHO = Claim("owner", 1, NOW, timedelta(minutes=30))
# How often each may happen: a leader dies · is slow and taken for dead · a test fails by chance · ends without a
# verdict · trunk breaks from outside · a waiting spec's lease is taken over · a push is lost · its answer is lost ·
# a person freezes the lane.
FAULTS = {
    "crash": 2,
    "slow": 2,
    "flake": 1,
    "broken": 2,
    "red": 1,
    "takeover": 1,
    "lost": 2,
    "unanswered": 2,
    "hold": 1,
}

Tree = tuple[str, ...]
TRUNK: Tree = ("base",)


class Violation(AssertionError):
    pass


def claim(holds: bool, text: str) -> None:
    if not holds:
        raise Violation(text)


class Memory(NamedTuple):
    """What a leader knows. `trunk`: as it was fetched, None if it is to be fetched; `pending`: decided, not done."""

    epoch: int
    trunk: Tree | None = None
    seen: tuple[tuple[Tree, Seen], ...] = ()
    runs: int = 0
    last_pass: int = 0
    pending: tuple[Any, ...] = ()


class State(NamedTuple):
    """`queue`: the number of an interned queue; `hosts`: sorted, for they are alike."""

    queue: int
    trunk: Tree
    hosts: tuple[Memory | None, ...]
    faults: tuple[str, ...]


Step = tuple[str, State]  # a fault's name or what happened, and what came of it


@dataclass(frozen=True)
class Rules:
    """What the model is made of; a mutant replaces one."""

    decide: Callable[[View], landing.Decision] = landing.decide
    land: Callable[[Queue, int, list[lane.Landing], datetime], Queue] = lane.land
    lead: Callable[..., Queue] = lane.lead
    resign: Callable[[Queue, int], Queue] = lane.resign
    order: int = 1
    rebuilds: bool = True
    atomic: bool = True
    old_leases: bool = True
    most: int = landing.MOST
    slots: int = 2


@cache
def sha(what: object) -> str:
    return hashlib.sha1(repr(what).encode()).hexdigest()


def work(entry: InProgress) -> str:
    """Whoever took a spec over brings other work."""
    return f"{entry.id}{entry.lease.epoch}"


class Model:
    """`bad`: the spec whose work breaks the tests, or ""; `budget`: how many faults befall a history."""

    def __init__(self, bad: str, rules: Rules, budget: int) -> None:
        self.bad, self.rules, self.budget = bad, rules, budget
        self.queues: list[Queue] = []
        self.numbers: dict[Any, int] = {}
        self.made: dict[Any, int | None] = {}

    # ------------------------------------------------------------ queues, each kept once

    def number(self, queue: Queue) -> int:
        led = queue.lane.leader.epoch if queue.lane.leader else 0
        key = (
            (queue.epoch, queue.lane.last, led, queue.lane.frozen, queue.lane.red, queue.lane.recent),
            tuple((e.id, e.lease.epoch, e.place and (e.place.number, e.place.work), e.failures) for e in queue.in_progress),
            tuple((done.id, done.epoch, done.landed) for done in queue.completed),
        )  # fmt: skip
        if key not in self.numbers:
            transitions.check(queue)
            self.numbers[key] = len(self.queues)
            self.queues.append(queue)
        return self.numbers[key]

    def change(self, before: int, name: str, *given: Any) -> int | None:
        """The queue after this transition; None if it is Stale. A second time it changes nothing more."""
        key = (before, name, given)
        if key not in self.made:
            change = getattr(self, f"_{name}")
            try:
                after = self.number(change(self.queues[before], *given))
            except Stale:
                self.made[key] = None
                return None
            if name in ("land", "eject", "enter", "resign", "freeze"):
                with suppress(Stale):  # refused, and nothing changed
                    claim(self.number(change(self.queues[after], *given)) == after, f"{name} twice is not once")
            self.made[key] = after
        return self.made[key]

    def _enter(self, queue: Queue, spec: str) -> Queue:
        entry = transitions.running(queue, spec)
        place = Place(number=1, work=sha(work(entry)), base=sha(TRUNK), tree=sha(TRUNK))
        return lane.enter(queue, spec, entry.lease.epoch, place)

    def _takeover(self, queue: Queue, spec: str) -> Queue:
        return transitions.take_over(queue, spec, WHO)

    def _lead(self, queue: Queue) -> Queue:
        leader = queue.lane.leader
        return self.rules.lead(queue, "host", NOW, over=leader.epoch if leader else 0, past=queue.lane.red)

    def _resign(self, queue: Queue, epoch: int) -> Queue:
        return self.rules.resign(queue, epoch)

    def _land(self, queue: Queue, epoch: int, landings: tuple[tuple[str, int, str], ...]) -> Queue:
        known = {entry.id: entry.lease.epoch for entry in queue.in_progress}
        listed = []
        for spec, lease, commit in landings:
            listed.append(lane.Landing(spec, lease if self.rules.old_leases else known.get(spec, lease), commit))
        return self.rules.land(queue, epoch, listed, NOW)

    def _landed(self, queue: Queue, landings: tuple[tuple[str, int, str], ...]) -> Queue:
        return lane.landed(queue, [lane.Landing(*one) for one in landings], NOW)

    def _hold(self, queue: Queue) -> Queue:
        return lane.freeze(queue, "by hand")

    def _eject(self, queue: Queue, epoch: int, spec: str, lease: int) -> Queue:
        return lane.eject(queue, epoch, spec, lease, "its tests fail", 2)

    def _freeze(self, queue: Queue, epoch: int, red: str | None) -> Queue:
        return lane.freeze(queue, "frozen", red, epoch)

    def _thaw(self, queue: Queue) -> Queue:
        return lane.thaw(queue)

    # ------------------------------------------------------------ what may happen next

    def steps(self, state: State) -> Iterator[Step]:
        yield from self.outside(state)
        for at, memory in enumerate(state.hosts):
            if memory is None:
                yield from self.leads(state, at)
            else:
                if self.may(state, "crash"):
                    yield self.fault(self.host(state, at, None), "crash")
                yield from self.acts(state, at, memory)

    def outside(self, state: State) -> Iterator[Step]:
        """Owners enter the lane in their order; others push to trunk; a lease is taken over; a person thaws."""
        queue = self.queues[state.queue]
        for index, spec in enumerate(SPECS):
            entry = next((one for one in queue.in_progress if one.id == spec), None)
            if entry is None or entry.failures:
                continue
            if entry.place is not None:
                if self.may(state, "takeover"):
                    yield self.fault(self.with_queue(state, "takeover", spec), "takeover")
            elif queue.lane.last >= index:
                yield "enter", self.with_queue(state, "enter", spec)
        if "red" not in state.trunk:
            if self.may(state, "red"):
                yield self.fault(state._replace(trunk=(*state.trunk, "red")), "red")
        elif "fix" not in state.trunk:
            yield "fix", state._replace(trunk=(*state.trunk, "fix"))
        if not queue.lane.frozen:
            if self.may(state, "hold"):
                yield self.fault(self.with_queue(state, "hold"), "hold")
        elif queue.lane.red is None:
            yield "thaw", self.with_queue(state, "thaw")

    def leads(self, state: State, at: int) -> Iterator[Step]:
        queue = self.queues[state.queue]
        here = queue.lane
        if not lane.waiting(queue) or (here.frozen and here.red in (None, sha(state.trunk))):
            return
        led = here.leader.epoch if here.leader else 0
        alive = any(memory is not None and memory.epoch == led for memory in state.hosts)
        if alive and not self.may(state, "slow"):
            return
        after = self.with_queue(state, "lead")
        leader = self.queues[after.queue].lane.leader
        claim(leader is not None and leader.epoch > queue.epoch, "an epoch was handed out twice")
        assert leader is not None
        after = self.host(after, at, Memory(leader.epoch))
        yield self.fault(after, "slow") if alive else ("lead", after)

    def acts(self, state: State, at: int, memory: Memory) -> Iterator[Step]:
        queue = self.queues[state.queue]
        if memory.pending:
            yield from getattr(self, f"do_{memory.pending[0]}")(state, at, memory)
            return
        mine = queue.lane.leader is not None and queue.lane.leader.epoch == memory.epoch
        if not mine or queue.lane.frozen or not lane.waiting(queue):
            after = self.with_queue(state, "resign", memory.epoch)
            claim(mine or after.queue == state.queue, "somebody ended the leadership of another")
            yield "resign", self.host(after, at, None)
            return
        yield from self.decides(
            state, at, relevant(memory._replace(trunk=memory.trunk or state.trunk), queue), queue
        )

    def decides(self, state: State, at: int, memory: Memory, queue: Queue) -> Iterator[Step]:
        assert memory.trunk is not None
        entries = lane.waiting(queue)[:: self.rules.order]
        chain, without = links(memory.trunk, entries), links(memory.trunk, entries[1:])
        trees: dict[str, Tree] = {sha(tree): tree for tree in (memory.trunk, *chain, *without)}
        view = View(
            sha(memory.trunk), named(entries, chain), {sha(tree): seen for tree, seen in memory.seen},
            memory.last_pass, lane.pass_rate(queue.lane), self.rules.most, self.rules.slots, named(entries[1:], without),
        )  # fmt: skip
        pending: tuple[Any, ...]
        match self.rules.decide(view):
            case Test(wanted):
                for tree in wanted:
                    yield from self.tested(state, at, memory, trees[tree])
                return
            case Land(count):
                landings = tuple(
                    (one.id, one.lease.epoch, sha(tree)) for one, tree in zip(entries[:count], chain, strict=False)
                )
                works = tuple(map(work, entries[:count]))
                pending = ("land", memory.trunk, landings, works, chain[count - 1])
            case Eject(spec):
                pending = ("eject", spec, next(one.lease.epoch for one in entries if one.id == spec))
            case Freeze(cause):
                pending = ("freeze", sha(memory.trunk) if cause == "red" else None, memory.trunk)
            case Wait():
                raise Violation("nothing to do though specs wait")
        yield "decide", self.host(state, at, memory._replace(pending=pending))

    def tested(self, state: State, at: int, memory: Memory, tree: Tree) -> Iterator[Step]:
        """One run of `tree` ends: as it must, by chance, or without a verdict."""
        known, runs = dict(memory.seen), memory.runs + 1
        before, last = known.get(tree, NOTHING), memory.last_pass
        failed, red = before.heard("failed", runs), self.is_red(tree)
        ends = [("fail", failed, last)] if red else [("pass", before.heard("passed", runs), runs)]
        if not red and self.may(state, "flake"):
            ends.append(("flake", failed, last))
        if self.may(state, "broken"):
            ends.append(("broken", before.heard("broken", runs), last))
        for name, seen, last_pass in ends:
            told = memory._replace(seen=tuple({**known, tree: seen}.items()), runs=runs, last_pass=last_pass)
            after = self.host(state, at, relevant(told, self.queues[state.queue]))
            yield self.fault(after, name) if name in FAULTS else (name, after)

    def is_red(self, tree: Tree) -> bool:
        return ("red" in tree and "fix" not in tree) or any(self.bad and one[0] == self.bad for one in tree[1:])

    # ------------------------------------------------------------ what was decided is done, perhaps much later

    def do_land(self, state: State, at: int, memory: Memory) -> Iterator[Step]:
        """The push moves trunk and queue together, or nothing."""
        _, expected, landings, works, top = memory.pending
        again = self.host(state, at, memory._replace(pending=(), trunk=None))
        queue = self.change(state.queue, "land", memory.epoch, landings)
        if queue is None:
            yield "stale", self.host(self.with_queue(state, "resign", memory.epoch), at, None)
        elif state.trunk != expected and self.rules.rebuilds:
            yield "moved", again
        else:
            self.check_landing(state, memory, landings, works, top)
            done = again._replace(trunk=top, queue=queue if self.rules.atomic else state.queue)
            self.check_together(done)
            yield "push", done
            if self.may(state, "lost"):
                yield self.fault(again, "lost")
            # It asks trunk, and writes the same landing down again.
            replayed = self.change(done.queue, "landed", landings) if self.rules.atomic else done.queue
            claim(replayed == done.queue, "a landing that is written down changed something")
            if self.may(state, "unanswered"):
                yield self.fault(done, "unanswered")

    def do_eject(self, state: State, at: int, memory: Memory) -> Iterator[Step]:
        _, spec, lease = memory.pending
        queue = self.change(state.queue, "eject", memory.epoch, spec, lease)
        if queue is None:
            yield "stale", self.host(self.with_queue(state, "resign", memory.epoch), at, None)
            return
        claim(spec == self.bad or queue == state.queue, "an innocent was ejected")
        yield "eject", self.host(state._replace(queue=queue), at, memory._replace(pending=()))

    def do_freeze(self, state: State, at: int, memory: Memory) -> Iterator[Step]:
        _, red, tree = memory.pending
        claim(red is None or self.is_red(tree), "frozen for a green trunk")
        queue = self.change(state.queue, "freeze", memory.epoch, red)
        after = state if queue is None else state._replace(queue=queue)
        yield "freeze", self.host(after, at, memory._replace(pending=()))

    # ------------------------------------------------------------ invariants

    def check_landing(self, state: State, memory: Memory, landings: Any, works: Tree, top: Tree) -> None:
        queue = self.queues[state.queue]
        leader = queue.lane.leader
        claim(leader is not None and leader.epoch == memory.epoch, "an old epoch landed something")
        claim(not queue.lane.frozen, "something landed in a frozen lane")
        passed = {tree for tree, seen in memory.seen if seen.passed}
        alone = [top[: len(top) - back] for back in range(len(works))] if self.rules.most == 1 else [top]
        claim(passed.issuperset(alone), "a tree landed that did not pass")
        claim(not self.is_red(top), "trunk is red by a landing")
        claim(top[: len(state.trunk)] == state.trunk, "trunk was not fast-forwarded")
        claim(top == (*state.trunk, *works), "the landed tree is not the merge of trunk and the works")
        first = lane.waiting(queue)[: len(works)]
        claim([one.id for one in first] == [one[0] for one in landings], "not first in, first out")
        claim(tuple(map(work, first)) == works, "other work landed than the one that waits")

    def check_together(self, state: State) -> None:
        done = [one.id for one in self.queues[state.queue].completed]
        landed = [one[0] for one in state.trunk if one not in ("base", "red", "fix")]
        claim(done == landed, "completed in the queue and landed on trunk differ")

    # ------------------------------------------------------------ helpers

    def with_queue(self, state: State, name: str, *given: Any) -> State:
        after = self.change(state.queue, name, *given)
        return state if after is None else state._replace(queue=after)

    @staticmethod
    def host(state: State, at: int, memory: Memory | None) -> State:
        hosts = [*state.hosts[:at], memory, *state.hosts[at + 1 :]]
        return state._replace(hosts=tuple(sorted(hosts, key=lambda one: one.epoch if one else 0)))

    def may(self, state: State, fault: str) -> bool:
        return len(state.faults) < self.budget and state.faults.count(fault) < FAULTS[fault]

    @staticmethod
    def fault(after: State, name: str) -> Step:
        return name, after._replace(faults=tuple(sorted((*after.faults, name))))


def links(trunk: Tree, entries: list[InProgress]) -> list[Tree]:
    return [(*trunk, *(work(one) for one in entries[: index + 1])) for index in range(len(entries))]


def named(entries: list[InProgress], trees: list[Tree]) -> tuple[Link, ...]:
    return tuple(Link(one.id, sha(tree)) for one, tree in zip(entries, trees, strict=True))


def relevant(memory: Memory, queue: Queue) -> Memory:
    """The memory without what cannot matter any more: results of trees that cannot come again, by how much one run
    was later than another, counts above three. It only makes equal what behaves equally."""
    assert memory.trunk is not None
    works = {work(entry) for entry in queue.in_progress}
    size = len(memory.trunk)
    kept = [
        (tree, seen) for tree, seen in memory.seen if tree[:size] == memory.trunk and works.issuperset(tree[size:])
    ]
    ranks = sorted({0, memory.last_pass, *(seen.first_failed for _, seen in kept)})
    counted = [
        (tree, Seen(min(one.passed, 3), min(one.failed, 3), one.broken, ranks.index(one.first_failed)))
        for tree, one in kept
    ]
    seen = tuple(sorted(counted, key=lambda pair: pair[0]))
    return memory._replace(seen=seen, runs=len(ranks), last_pass=ranks.index(memory.last_pass))
