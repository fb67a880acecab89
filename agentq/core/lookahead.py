"""Which order of the ready specs empties the queue soonest (policy "lookahead").

The rest of the queue is simulated: a free agent takes the first spec of the order that the hard rules let
start. Local search looks for an order with a short makespan. No agent waits on purpose, so
`schedule.recommend`, which ranks by the order, plays exactly the schedule that was simulated.

Assumed: a spec in progress needs its whole estimate again and occupies a slot; one that needs a person (held,
or with attention) keeps its files, takes no slot and does not finish. What is held, or cannot start without
one of those, is left out. A pause is ignored: the plan says what follows once it ends.

Invariant: the same arguments give the same plan (unless `out_of_time` cuts it short), and the plan is never
longer than the playbook's.

Sources: forward-backward improvement (Tormos & Lova 2001); one-machine bound with heads and tails (Carlier 1982).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from heapq import heapify, heappop, heappush
from itertools import chain, permutations
from math import factorial
from operator import and_
from typing import NamedTuple

from agentq.core import graph, schedule
from agentq.core.board import Board, Node
from agentq.core.overlap import Occupancy, is_additive
from agentq.core.paths import compile_glob, intersect, is_glob
from agentq.core.schedule import Plan

# Simulated starts per second: 240,000–440,000 measured for 150 specs that share 15 to 130 files, on one core of
# a shared 2-core cloud machine, Python 3.11. The lower end, so that a budget in seconds is kept.
EFFORT_PER_SECOND = 250_000

_TICKS = 3600  # per hour; whole numbers, so that specs end at the same moment or do not
_TIES = 200_000  # overlaps counted for the simulated playbook, about 0.2 s; later ties are first in, first out
_GROWTH = 300_000  # specs looked at while growing the bound, about 0.1 s
_FEW = 8  # specs whose every order may be tried
_STALE = 150  # simulations without a better plan before the search starts elsewhere


class _Queue:
    """Specs in progress first (`running` of them), then the ones to plan, in the order of the board.

    By path (a number): `holders` declare it, `meets` are the paths that can mean the same, itself included.
    By spec: `declares` paths; `touches` numbers in `wide`, the sets of specs that may not run beside it.
    `cliques`: sets of specs of which no two may run together, one for each contended path."""

    def __init__(self, nodes: Sequence[Node], running: int, slots: int, additive: tuple[str, ...]) -> None:
        self.ids = [node.id for node in nodes]
        self.running = running
        self.slots = max(1, slots)
        self.ticks = [max(1, round(node.hours * _TICKS)) for node in nodes]
        self.pinned = [node.priority for node in nodes]
        self.needs = graph.indices(self.ids, [()] * running + [node.depends_on for node in nodes[running:]])
        self.order, self.frees = graph.topological(self.needs)
        self.tails = [round(one) for one in graph.downstream_hours(self.order, self.frees, self.ticks)]
        self.holders: list[list[int]] = []
        self.declares: list[list[int]] = []
        paths: dict[str, int] = {}
        for at, node in enumerate(nodes):
            kept = [path for path in dict.fromkeys(node.files) if not is_additive(path, additive)]
            self.declares.append([paths.setdefault(path, len(paths)) for path in kept])
            self.holders += [[] for _ in range(len(paths) - len(self.holders))]
            for path in self.declares[at]:
                self.holders[path].append(at)
        self.meets = _meeting(paths)
        self._share(list(paths))

    def _share(self, paths: list[str]) -> None:
        reach = [frozenset(node for met in meets for node in self.holders[met]) for meets in self.meets]
        # Specs that declare one glob, or one plain path, clash with each other; those that a glob meets need not.
        together = [self.holders[at] if is_glob(path) else reach[at] for at, path in enumerate(paths)]
        self.cliques = [sorted(one) for one in dict.fromkeys(map(frozenset, together)) if len(one) > 1]
        number: dict[frozenset[int], int] = {}
        self.touches: list[list[int]] = []
        for at, declared in enumerate(self.declares):
            sets = dict.fromkeys(reach[path] for path in declared if reach[path] != {at})
            telling = [one for one in sets if not any(one < other for other in sets)]
            self.touches.append([number.setdefault(one, len(number)) for one in telling])
        self.wide = [sorted(one) for one in number]

    def hours(self, nodes: Collection[int]) -> int:
        """Ticks they take one at a time; those in progress already run side by side, allowed or not."""
        now = max((self.ticks[node] for node in nodes if node < self.running), default=0)
        return now + sum(self.ticks[node] for node in nodes if node >= self.running)

    def simple_bound(self) -> float:
        work = sum(self.ticks) / max(self.slots, self.running)
        return max([work, *self.tails, *map(self.hours, self.cliques)])

    def apart(self, order: Sequence[int]) -> list[int]:
        """For each place in `order` the places that may run beside it, as bits."""
        bit = [0] * len(order)
        for place, node in enumerate(order):
            bit[node] = 1 << place
        masks = [sum(map(bit.__getitem__, members)) for members in self.wide]
        found = []
        for node in order:
            mask = bit[node]
            for at in self.touches[node]:
                mask |= masks[at]
            found.append(~mask)
        return found


def _meeting(paths: dict[str, int]) -> list[list[int]]:
    meets = [[at] for at in paths.values()]
    plain = [path for path in paths if not is_glob(path)]
    globs = [path for path in paths if is_glob(path)]
    for glob in globs:
        lead, matches = min(glob.partition(mark)[0] for mark in "*?["), compile_glob(glob).fullmatch
        for path in plain:
            if path.startswith(lead) and matches(path):
                meets[paths[glob]].append(paths[path])
                meets[paths[path]].append(paths[glob])
        meets[paths[glob]] += [paths[other] for other in globs if other != glob and intersect(glob, other)]
    return meets


def _queue(board: Board, slots: int, additive: tuple[str, ...]) -> _Queue:
    """What will be worked on, without what cannot start before a person acts."""
    stuck = Occupancy(additive)
    moving = [node for node in board.in_progress if not (node.held or node.attention)]
    for node in board.in_progress:
        if node.held or node.attention:
            stuck.add(node.id, node.files)
    nodes = [*moving, *(node for node in board.ready if not node.held and stuck.free_of(node.files))]
    able = {node.id for node in moving}
    links = graph.indices([node.id for node in nodes], (node.depends_on for node in nodes))
    for at in graph.topological(links)[0]:
        if all(need in able or need in board.completed for need in nodes[at].depends_on):
            able.add(nodes[at].id)
    return _Queue([node for node in nodes if node.id in able], len(moving), slots, additive)


class _Played(NamedTuple):
    """A simulated schedule in ticks. `order`: as asked for; `begun`: as they started; `starts` by spec."""

    makespan: int
    order: list[int]
    begun: list[int]
    starts: list[int]


def _play(
    queue: _Queue, order: list[int], choose: Callable[[int], int] | None = None, backwards: bool = False
) -> _Played:
    """List scheduling. Places in `order` are the bits: the lowest that may start does, unless `choose` picks
    another from those that may. What is in progress (first in `order`) runs already, but not `backwards`."""
    apart, length = queue.apart(order), queue.ticks
    needs, frees = (queue.frees, queue.needs) if backwards else (queue.needs, queue.frees)
    running = 0 if backwards else queue.running
    place, missing, starts = [0] * len(order), [len(one) for one in needs], [0] * len(order)
    ready = 0
    for at, node in enumerate(order):
        place[node] = at
        if not missing[node] and at >= running:
            ready |= 1 << at
    busy, begun = set(range(running)), order[:running]
    ends = [(length[order[at]], at) for at in busy]
    heapify(ends)
    free, now = queue.slots - running, 0
    while True:
        may = reduce(and_, [apart[at] for at in busy], ready)
        while may and free > 0:
            at = choose(may) if choose else (may & -may).bit_length() - 1
            ready ^= 1 << at
            may &= apart[at]
            node = order[at]
            begun.append(node)
            starts[node] = now
            busy.add(at)
            heappush(ends, (now + length[node], at))
            free -= 1
        if not ends:
            return _Played(now, order, begun, starts)
        now = ends[0][0]
        while ends and ends[0][0] == now:
            at = heappop(ends)[1]
            busy.remove(at)
            free += 1
            for node in frees[order[at]]:
                missing[node] -= 1
                if not missing[node]:
                    ready |= 1 << place[node]


def _playbook(queue: _Queue, board: Board) -> _Played:
    """What `schedule.recommend` does without a plan, its criteria looked at anew at each decision. Only the
    overlaps with other eligible specs change, so they are counted among equals in the rest."""
    figures = schedule.figures(board)
    strength = [
        (-pinned, -figures.unblocks[spec_id], -figures.critical[spec_id])
        for pinned, spec_id in zip(queue.pinned, queue.ids, strict=True)
    ]
    order = [*range(queue.running), *sorted(range(queue.running, len(queue.ids)), key=strength.__getitem__)]
    place = {node: at for at, node in enumerate(order)}
    held = [sum(1 << place[node] for node in holders) for holders in queue.holders]
    equals = dict.fromkeys(strength, 0)
    for at, node in enumerate(order):
        equals[strength[node]] |= 1 << at
    patience = _TIES

    def overlaps(at: int, may: int) -> int:
        met = [held[other] for path in queue.declares[order[at]] for other in queue.meets[path]]
        return sum((holders & may & ~(1 << at)).bit_count() for holders in met)

    def choose(may: int) -> int:
        nonlocal patience
        best = (may & -may).bit_length() - 1
        tied = may & equals[strength[order[best]]]
        if tied == may & -may or patience <= 0:
            return best
        patience -= tied.bit_count() * (1 + len(order) // 1000)  # wide masks are slower
        return min(_bits(tied), key=lambda at: (overlaps(at, may), at))

    return _play(queue, order, choose)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def lower_bound(board: Board, slots: int, additive: tuple[str, ...] = ()) -> float:
    """Hours no schedule can beat: the longest of the critical path, the work ÷ slots and the hours of all
    specs on the most contended file."""
    return _queue(board, slots, additive).simple_bound() / _TICKS


def _bound(queue: _Queue) -> float:
    """Ticks. Sharper than `lower_bound`: the specs on a contended file are joined by others that exclude all of
    them, and what must come before the first and after the last of them counts."""
    ticks, tails = queue.ticks, queue.tails
    apart = queue.apart(range(len(ticks)))
    heads = [0] * len(ticks)
    for node in queue.order:
        heads[node] = max((heads[need] + ticks[need] for need in queue.needs[node]), default=0)
    longest = sorted(range(len(ticks)), key=lambda node: -ticks[node])
    best = queue.simple_bound()
    for seed in sorted(queue.cliques, key=queue.hours, reverse=True)[: _GROWTH // len(ticks)]:
        clique = list(seed)
        common = reduce(and_, (~apart[node] & ~(1 << node) for node in seed))
        for node in longest:
            if common >> node & 1:
                clique.append(node)
                common &= ~apart[node] & ~(1 << node)
        before, after = min(heads[node] for node in clique), min(tails[node] - ticks[node] for node in clique)
        best = max(best, before + queue.hours(clique) + after)
    return best


@dataclass
class _Search:
    """`effort` limits the starts simulated; a plan as short as `bound` cannot be improved."""

    queue: _Queue
    effort: int
    out_of_time: Callable[[], bool]
    best: _Played
    bound: float = 0
    simulations: int = 1
    dice: int = 1

    def goes_on(self) -> bool:
        enough = (self.simulations + 1) * len(self.queue.ids) > self.effort
        return self.best.makespan > self.bound and not enough and not self.out_of_time()

    def below(self, limit: int) -> int:
        """The next pseudo-random number (xorshift64): the same on every machine."""
        state = self.dice
        state ^= state << 13 & (2**64 - 1)
        state ^= state >> 7
        state ^= state << 17 & (2**64 - 1)
        self.dice = state
        return (state >> 11) % limit

    def play(self, order: Iterable[int]) -> _Played:
        """Simulates `order`, pinned specs first, and keeps the schedule if it is the shortest."""
        queue = self.queue
        lawful = sorted(order, key=lambda node: (node >= queue.running, -queue.pinned[node]))
        played = _play(queue, lawful)
        self.simulations += 1
        self.best = min(self.best, played, key=lambda one: one.makespan)
        return played

    def justify(self, played: _Played) -> _Played:
        """Forward-backward improvement: from its end to the beginning and again forwards, while that helps."""
        ticks = self.queue.ticks
        while self.goes_on():
            starts = played.starts
            late = sorted(played.order, key=lambda node: (-starts[node] - ticks[node], -starts[node]))
            back = _play(self.queue, late, backwards=True).starts
            self.simulations += 1
            if not self.goes_on():
                break
            again = self.play(sorted(late, key=lambda node: -back[node] - ticks[node]))
            if again.makespan >= played.makespan:
                break
            played = again
        return played

    def climb(self) -> None:
        """Moves specs of the critical chain of the best schedule; when that gets stuck, of a shaken one."""
        current, stale = self.best, 0
        slack = 1 + sum(self.queue.ticks) // max(1, len(self.queue.ticks)) // 10
        while self.goes_on():
            best = self.best.makespan
            if stale > _STALE:
                shake = 1 + self.below(len(current.order))
                keys = {node: at + self.below(shake) for at, node in enumerate(self.best.order)}
                current, stale = self.justify(self.play(sorted(keys, key=keys.__getitem__))), 0
                continue
            tried = self.play(self.moved(current))
            if tried.makespan <= current.makespan + self.below(1 + self.below(slack)):
                current = tried
            stale = stale + 1 if self.best.makespan == best else 0

    def moved(self, played: _Played) -> list[int]:
        """The order with one or two specs of a critical chain put earlier or in another's place."""
        order, path = list(played.order), self.critical(played)
        for _ in range(1 + (self.below(3) == 0)):
            at = order.index(path[self.below(len(path))])
            if self.below(2):
                order.insert(self.below(at + 1), order.pop(at))
            else:
                other = self.below(len(order))
                order[at], order[other] = order[other], order[at]
        return order

    def critical(self, played: _Played) -> list[int]:
        """Specs from a last ending back to the beginning: each ended when the one before it could start."""
        queue, path, now = self.queue, list[int](), played.makespan
        ended: dict[int, list[int]] = {}
        for node in played.order:
            ended.setdefault(played.starts[node] + queue.ticks[node], []).append(node)
        while now:
            causes = ended[now]
            if path:
                needs, touches = queue.needs[path[-1]], set(queue.touches[path[-1]])
                hard = [one for one in causes if one in needs or not touches.isdisjoint(queue.touches[one])]
                causes = hard or causes
            path.append(causes[self.below(len(causes))])
            now = played.starts[path[-1]]
        return path


def _heuristics(queue: _Queue) -> Iterator[list[int]]:
    """Orders by what a spec holds up: hours on its files, of its rivals, on its worst file or chain, its chain."""
    nodes, ticks, tails = range(len(queue.ids)), queue.ticks, queue.tails
    load = [queue.hours(members) for members in queue.wide]
    total = [sum(load[at] for at in queue.touches[node]) for node in nodes]
    rivals = [queue.hours({one for at in queue.touches[node] for one in queue.wide[at]}) for node in nodes]
    worst = [max([tails[node], *(load[at] for at in queue.touches[node])]) for node in nodes]
    for node in reversed(queue.order):
        worst[node] = max([worst[node], *(worst[freed] + ticks[node] for freed in queue.frees[node])])
    for key in (total, rivals, worst, tails):
        yield sorted(nodes, key=lambda node: (-key[node], -ticks[node], node))


def plan(
    board: Board,
    slots: int,
    additive: tuple[str, ...],
    *,
    effort: int,
    seed: int = 0,
    incumbent: Sequence[str] = (),
    out_of_time: Callable[[], bool] = lambda: False,
) -> Plan:
    """The best order found within `effort` simulated starts; the playbook's is always simulated. `incumbent`:
    an earlier plan's ids, tried first; ids it lacks follow, unknown ones do not matter. `out_of_time` is asked
    between simulations. Hours are rounded to seconds."""
    queue = _queue(board, slots, additive)
    playbook = _playbook(queue, board)
    search = _Search(queue, effort, out_of_time, playbook)
    search.dice = (seed * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) % 2**64 or 1
    if search.goes_on():
        search.bound = _bound(queue)
    place = {spec_id: at for at, spec_id in enumerate(incumbent)}
    known = sorted(playbook.begun, key=lambda node: place.get(queue.ids[node], len(place)))
    for order in chain((known, playbook.begun), _heuristics(queue)):
        if not search.goes_on():
            break
        search.justify(search.play(order))
    now, later = range(queue.running), range(queue.running, len(queue.ids))
    tries = search.simulations + factorial(min(len(later), _FEW + 1))
    if len(later) <= _FEW and tries * len(queue.ids) <= effort:
        orders = ((*now, *rest) for rest in permutations(later))
        while search.goes_on() and (every := next(orders, None)):
            search.play(every)
    else:
        search.climb()
    rank = {queue.ids[node]: at for at, node in enumerate(search.best.begun[queue.running :])}
    return Plan(rank, search.best.makespan / _TICKS, playbook.makespan / _TICKS, search.simulations)
