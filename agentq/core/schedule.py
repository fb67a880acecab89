"""What to start next, and why (mission rows T3–T5).

Hard rules first: pause, hold, attention, dependencies, destructive overlap with what is in progress, the
machine's limits. What is left is ordered: a manual priority; then unblocking > critical path > conflict
avoidance > first in, first out. Policy "lookahead" replaces the four soft criteria by the order of a
simulated plan (core/lookahead.py) and keeps every hard rule.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentq.core import graph, reasons
from agentq.core.board import Board, Node
from agentq.core.overlap import Occupancy
from agentq.core.reasons import Reason


@dataclass(frozen=True)
class Host:
    """What this machine may still take. `live`: ids with a process right now. Sizes in GB."""

    name: str = ""
    instances: int = 1
    live: frozenset[str] = frozenset()
    free_gb: float = 1e9
    needed_gb: float = 0.0

    def full(self) -> Reason | None:
        """Why nothing more may start here, if so."""
        if len(self.live) >= self.instances:
            return reasons.MachineFull(len(self.live), self.instances)
        # A machine too small by the book still runs one agent; a second one must fit.
        if self.live and self.free_gb < self.needed_gb:
            return reasons.Memory(round(self.free_gb, 1), round(self.needed_gb, 1))
        return None


@dataclass(frozen=True)
class Plan:
    """A simulated order: rank of each spec (0 first), its makespan and the playbook's, in hours."""

    rank: Mapping[str, int]
    makespan: float
    playbook: float
    simulations: int = 0


@dataclass(frozen=True)
class Candidate:
    """An eligible spec and what speaks for it."""

    id: str
    title: str
    unblocks: int
    critical_hours: float
    overlaps: int
    position: int
    hours: float
    priority: int = 0
    resumes: str = ""
    saves_hours: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title,
            "unblocks": self.unblocks,
            "critical_hours": round(self.critical_hours, 3),
            "overlaps": self.overlaps,
            "position": self.position,
            "hours": self.hours,
            "priority": self.priority,
            "resumes": self.resumes,
            "saves_hours": self.saves_hours,
        }


@dataclass(frozen=True)
class Advice:
    """The whole decision: eligible specs best first, and why each other one is not. `blocked` says why
    nothing may start at all (pause, full machine), whatever is eligible."""

    ranked: tuple[Candidate, ...]
    held: Mapping[str, Reason]
    blocked: Reason | None = None

    @property
    def pick(self) -> Candidate | None:
        return self.ranked[0] if self.ranked and self.blocked is None else None

    def reason(self, spec_id: str) -> Reason | None:
        """Why `spec_id` is not the pick; None if it is, or if it is completed or unknown."""
        if spec_id in self.held:
            return self.held[spec_id]
        for index, candidate in enumerate(self.ranked):
            if candidate.id == spec_id:
                if self.blocked is not None:
                    return self.blocked
                return reasons.Behind(index + 1, self.ranked[0].id) if index else None
        return None


@dataclass
class _Figures:
    """Graph figures of everything not completed, by id."""

    unblocks: dict[str, int] = field(default_factory=dict)
    critical: dict[str, float] = field(default_factory=dict)


def figures(board: Board) -> _Figures:
    nodes = [*board.in_progress, *board.ready]
    ids = [node.id for node in nodes]
    order, dependents = graph.topological(graph.indices(ids, (node.depends_on for node in nodes)))
    longest = graph.downstream_hours(order, dependents, [node.hours for node in nodes])
    counts = graph.descendants_count(order, dependents)
    return _Figures(dict(zip(ids, counts, strict=True)), dict(zip(ids, longest, strict=True)))


def recommend(board: Board, host: Host, additive: tuple[str, ...] = (), plan: Plan | None = None) -> Advice:
    """Rank what may start now. A spec already begun on this machine and idle goes before new ones."""
    held: dict[str, Reason] = {}
    resumable = _resumable(board, host, held)
    eligible = _eligible(board, additive, held)
    numbers = figures(board)
    wanted = Occupancy(additive)
    for _, node in eligible:
        wanted.add(node.id, node.files)
    rank = plan.rank if plan else {}
    free = max(host.instances - len(host.live), 1)
    first = set(sorted((node.id for _, node in eligible if node.id in rank), key=rank.__getitem__)[:free])
    saves = round(max(plan.playbook - plan.makespan, 0.0), 2) if plan else None
    candidates = [
        _candidate(position, node, numbers, wanted, saves if node.id in first else None)
        for position, node in [*resumable, *eligible]
    ]
    candidates.sort(
        key=lambda one: (
            not one.resumes,
            -one.priority,
            rank.get(one.id, len(rank)),
            -one.unblocks,
            -one.critical_hours,
            one.overlaps,
            one.position,
        )
    )
    blocked = host.full()
    closed = _closed(board, host)
    if closed is not None and not blocked:
        resumed = [one for one in candidates if one.resumes]
        for one in candidates:
            if not one.resumes:
                held[one.id] = closed
        candidates = resumed
        blocked = None if resumed else closed
    return Advice(tuple(candidates), held, blocked)


def batch(
    board: Board, host: Host, count: int, additive: tuple[str, ...] = (), plan: Plan | None = None
) -> list[Candidate]:
    """Up to `count` specs that can start together: none destructively overlaps another."""
    taken = Occupancy(additive)
    chosen: list[Candidate] = []
    files = {node.id: node.files for node in (*board.in_progress, *board.ready)}
    advice = recommend(board, host, additive, plan)
    if advice.blocked is not None:
        return []
    for candidate in advice.ranked:
        if len(chosen) == count:
            break
        if candidate.resumes or taken.free_of(files[candidate.id]):
            taken.add(candidate.id, files[candidate.id])
            chosen.append(candidate)
    return chosen


def _closed(board: Board, host: Host) -> Reason | None:
    """Why nothing new may be claimed here, whatever the specs."""
    if board.paused:
        return reasons.Paused(board.paused if isinstance(board.paused, str) else "")
    return reasons.Drained(host.name) if host.name in board.drained else None


def _resumable(board: Board, host: Host, held: dict[str, Reason]) -> list[tuple[int, Node]]:
    """Specs in progress on this machine that no process works on and no person must decide."""
    found = []
    for position, node in enumerate(board.in_progress):
        if node.id in host.live:
            held[node.id] = reasons.Live(node.status)
        elif node.machine != host.name:
            held[node.id] = reasons.Elsewhere(node.machine)
        elif node.held:
            held[node.id] = reasons.Held(node.held if isinstance(node.held, str) else "")
        elif node.attention:
            held[node.id] = reasons.Attention(node.attention)
        else:
            found.append((position, node))
    return found


def _eligible(board: Board, additive: tuple[str, ...], held: dict[str, Reason]) -> list[tuple[int, Node]]:
    """Ready specs that no hard rule stops; the others get their reason. Dependencies, then files (T3, T4)."""
    busy = Occupancy(additive)
    for node in board.in_progress:
        busy.add(node.id, node.files)
    found = []
    for position, node in enumerate(board.ready):
        waits = [need for need in node.depends_on if need not in board.completed] if node.depends_on else ()
        if node.held:
            held[node.id] = reasons.Held(node.held if isinstance(node.held, str) else "")
        elif waits:
            held[node.id] = reasons.Dependency(tuple(waits))
        elif board.in_progress and (clash := busy.clashes(node.files)):
            other = next(iter(clash))
            held[node.id] = reasons.Files(other, tuple(clash[other]))
        else:
            found.append((position, node))
    return found


def _candidate(position: int, node: Node, numbers: _Figures, wanted: Occupancy, saves: float | None) -> Candidate:
    return Candidate(
        node.id,
        node.title,
        numbers.unblocks[node.id],
        numbers.critical[node.id],
        wanted.count(node.id, node.files),
        position,
        node.hours,
        node.priority,
        node.status if node.status != "ready" else "",
        saves,
    )
