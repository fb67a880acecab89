"""Four real projects drained through `recommend`, checked by an oracle that knows nothing of core/overlap.py."""

from itertools import combinations

import pytest
from support.traces import NAMES, Schedule, board, drain, first_in, recommended

from agentq.core import lookahead
from agentq.core.board import Board

AGENTS = (1, 4, 8, 16)
ADDITIVE = ("CHANGES.rst", "uv.lock", "pixi.*", "docs/changelog/**")
WHOLLY_ADDITIVE = {"CHANGES.rst", "uv.lock", "pixi.lock", "pixi.toml"}


def destructive(path: str, additive: bool) -> bool:
    return not additive or not (path in WHOLLY_ADDITIVE or path.startswith("docs/changelog/"))


def flaws(queue: Board, slots: int, schedule: Schedule, additive: bool = False) -> list[str]:
    """Every rule that a finished schedule breaks, in words."""
    found = []
    node_of = {node.id: node for node in queue.ready}
    if sorted(run.id for run in schedule.runs) != sorted(node_of):
        found.append("not every spec ran exactly once")
    end_of = {run.id: run.end for run in schedule.runs}
    for run in schedule.runs:
        node = node_of[run.id]
        if run.end - run.start != round(node.hours * 3600):
            found.append(f"{run.id} did not take its time")
        found += [f"{run.id} before {need}" for need in node.depends_on if end_of[need] > run.start]
        beside = [one for one in schedule.runs if one.start <= run.start < one.end]
        if len(beside) > slots:
            found.append(f"{len(beside)} agents when {run.id} starts")
        for one, other in combinations(beside, 2):
            shared = set(node_of[one.id].files) & set(node_of[other.id].files)
            found += [f"{one.id} and {other.id} in {path}" for path in shared if destructive(path, additive)]
    return found


def checked(queue: Board, choose, additive: bool = False):
    """`choose`, asserting at every decision that what it starts may start."""

    def strict(now: Board) -> str | None:
        chosen = choose(now)
        if chosen is not None:
            (node,) = (one for one in now.ready if one.id == chosen)
            assert set(node.depends_on) <= now.completed
            taken = {path for one in now.in_progress for path in one.files if destructive(path, additive)}
            assert not taken & set(node.files)
            assert chosen not in now.completed
        return chosen

    return strict


@pytest.mark.parametrize("agents", AGENTS)
@pytest.mark.parametrize("name", NAMES)
class TestTraces:
    def test_the_playbook_keeps_every_rule_and_decides_the_same_again(self, name: str, agents: int) -> None:
        queue = board(name)

        schedule = drain(queue, agents, checked(queue, recommended(agents)))

        assert flaws(queue, agents, schedule) == []
        assert drain(queue, agents, recommended(agents)) == schedule

    def test_the_plan_keeps_every_rule_and_is_never_longer_than_the_playbook(self, name: str, agents: int) -> None:
        queue = board(name)

        plan = lookahead.plan(queue, agents, (), effort=30_000)
        schedule = drain(queue, agents, checked(queue, recommended(agents, plan=plan)))

        assert flaws(queue, agents, schedule) == []
        assert schedule.makespan == plan.makespan
        assert plan.playbook == drain(queue, agents, recommended(agents)).makespan
        assert lookahead.lower_bound(queue, agents) <= plan.makespan <= plan.playbook
        assert [run.id for run in schedule.runs] == sorted(plan.rank, key=plan.rank.__getitem__)


@pytest.mark.parametrize("name", NAMES)
def test_additive_paths_never_block(name: str) -> None:
    queue = board(name)

    plan = lookahead.plan(queue, 8, ADDITIVE, effort=15_000)
    schedule = drain(queue, 8, checked(queue, recommended(8, ADDITIVE, plan), additive=True))

    assert flaws(queue, 8, schedule, additive=True) == []
    assert schedule.makespan == plan.makespan
    assert plan.makespan <= lookahead.plan(queue, 8, (), effort=1).makespan


@pytest.mark.parametrize("agents", (4, 8))
def test_half_a_second_of_search_comes_within_five_percent_of_the_bound_on_average(agents: int) -> None:
    effort = lookahead.EFFORT_PER_SECOND // 2
    ratios = [
        lookahead.plan(board(name), agents, (), effort=effort).makespan
        / lookahead.lower_bound(board(name), agents)
        for name in NAMES
    ]

    assert sum(ratios) / len(ratios) <= 1.05


def test_the_oracle_sees_a_broken_schedule() -> None:
    queue = board("copier")
    anything = drain(queue, 8, lambda now: now.ready[0].id if now.ready else None)

    assert any(" in uv.lock" in flaw for flaw in flaws(queue, 8, anything))
    assert flaws(queue, 4, anything)
    assert flaws(queue, 8, drain(queue, 8, first_in(8))) == []
