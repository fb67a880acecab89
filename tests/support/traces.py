"""Real conflict structure as boards, and boards drained in virtual time.

A trace holds which files 150 consecutive commits of one project touched. Invariant: nothing is drawn at random;
the same trace and the same policy give the same schedule.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

from agentq.core.board import Board, Node
from agentq.core.schedule import Advice, Host, Plan, recommend

NAMES = ("click", "copier", "distributed", "tox")
_FOLDER = Path(__file__).parents[1] / "traces"
_HOST = "simulated"

Choose = Callable[[Board], str | None]


@cache
def board(name: str) -> Board:
    """One ready spec per commit, in order. Hours: 0.5 and one more per 100 changed lines, 8 at most. A commit
    depends on the latest earlier commits that added the files it modifies."""
    commits = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))["commits"]
    added_by: dict[str, str] = {}
    nodes = []
    for commit in commits:
        spec_id = commit["commit"]
        needs = dict.fromkeys(added_by[path] for path in commit["modified"] if path in added_by)
        files = dict.fromkeys([*commit["modified"], *commit["added"], *commit["deleted"]])
        hours = min(max(0.5 + commit["lines"] / 100, 0.5), 8.0)
        nodes.append(Node(spec_id, spec_id, tuple(needs), tuple(files), hours))
        added_by.update(dict.fromkeys(commit["added"], spec_id))
    return Board(tuple(nodes), (), frozenset())


class Run(NamedTuple):
    """One spec's time with an agent, in whole seconds from now."""

    id: str
    start: int
    end: int


@dataclass(frozen=True)
class Schedule:
    """Runs in the order they started; specs that never did are missing. `makespan` in hours."""

    runs: tuple[Run, ...]
    makespan: float


def drain(board: Board, slots: int, choose: Choose) -> Schedule:
    """Plays `choose` until nothing is left that it wants. It is asked whenever a slot is free, with the board
    of that moment; it answers with the id of a ready spec, or None to wait for the next ending. What is in
    progress takes its whole estimate again; what needs a person neither ends nor takes a slot."""
    runs: list[Run] = []
    ends = {node.id: _seconds(node) for node in board.in_progress if not (node.held or node.attention)}
    now = 0
    while True:
        while len(ends) < slots and (chosen := choose(board)) is not None:
            (node,) = (one for one in board.ready if one.id == chosen)
            ends[chosen] = now + _seconds(node)
            runs.append(Run(chosen, now, ends[chosen]))
            begun = node._replace(status="implementing", machine=_HOST)
            ready = tuple(one for one in board.ready if one.id != chosen)
            board = replace(board, ready=ready, in_progress=(*board.in_progress, begun))
        if not ends:
            return Schedule(tuple(runs), now / 3600)
        now = min(ends.values())
        done = frozenset(spec_id for spec_id, end in ends.items() if end == now)
        for spec_id in done:
            del ends[spec_id]
        left = tuple(one for one in board.in_progress if one.id not in done)
        board = replace(board, in_progress=left, completed=board.completed | done)


def _seconds(node: Node) -> int:
    return max(1, round(node.hours * 3600))


def advise(board: Board, slots: int, additive: tuple[str, ...] = (), plan: Plan | None = None) -> Advice:
    """What `recommend` says while a process works on every spec in progress that needs no person."""
    live = frozenset(node.id for node in board.in_progress if not (node.held or node.attention))
    return recommend(board, Host(_HOST, slots, live), additive, plan)


def recommended(slots: int, additive: tuple[str, ...] = (), plan: Plan | None = None) -> Choose:
    """The policy that starts what `recommend` picks."""

    def choose(board: Board) -> str | None:
        pick = advise(board, slots, additive, plan).pick
        return pick.id if pick else None

    return choose


def first_in(slots: int, additive: tuple[str, ...] = ()) -> Choose:
    """The policy that starts the eligible spec longest in the queue."""

    def choose(board: Board) -> str | None:
        ranked = advise(board, slots, additive).ranked
        return min(ranked, key=lambda one: one.position).id if ranked else None

    return choose
