"""What is recommended, and why the rest is not (mission rows T3–T5)."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.core import reasons, schedule
from agentq.core.board import Board, Node
from agentq.core.overlap import clashes
from agentq.core.schedule import Host, Plan, batch, recommend

HOST = Host("here", instances=4)


def node(spec_id: str, *needs: str, files: tuple[str, ...] = (), hours: float = 4.0, **more) -> Node:
    return Node(spec_id, f"Title {spec_id}", needs, files, hours, **more)


def running(spec_id: str, machine: str = "here", files: tuple[str, ...] = (), **more) -> Node:
    return node(spec_id, files=files, status=more.pop("status", "testing"), machine=machine, **more)


def board(
    *ready: Node, busy: tuple[Node, ...] = (), done: tuple[str, ...] = (), paused: bool | str = False
) -> Board:
    return Board(ready, busy, frozenset(done), paused)


def order(made: Board, **more) -> list[str]:
    return [one.id for one in recommend(made, HOST, **more).ranked]


# ---------------------------------------------------------------- one test a criterion, strongest first


def test_first_in_first_out():
    assert order(board(node("a"), node("b"), node("c"))) == ["a", "b", "c"]


def test_conflict_avoidance_beats_arrival():
    made = board(node("a", files=("x",)), node("b", files=("x",)), node("c", files=("y",)))
    assert order(made) == ["c", "a", "b"]


def test_critical_path_beats_conflict_avoidance():
    made = board(
        node("a", files=("y",), hours=2), node("b", files=("x",), hours=3), node("c", files=("x",), hours=1)
    )
    assert order(made) == ["b", "a", "c"]


def test_unblocking_beats_critical_path():
    made = board(node("a", hours=100), node("b", hours=1), node("c", "b", hours=1))
    assert order(made) == ["b", "a"]


def test_unblocking_counts_the_transitive_ones():
    made = board(
        node("a"), node("x", "a"), node("y", "a"), node("b"), node("p", "b"), node("q", "p"), node("r", "q")
    )
    advice = recommend(made, HOST)
    assert [(one.id, one.unblocks) for one in advice.ranked] == [("b", 3), ("a", 2)]
    assert advice.ranked[0].critical_hours == 16.0


def test_a_pin_beats_unblocking():
    assert order(board(node("a"), node("c", "a"), node("b", priority=1), node("d", priority=-1))) == [
        "b",
        "a",
        "d",
    ]


def test_work_begun_here_goes_first():
    made = board(node("a", priority=9), busy=(running("r", status="implemented"),))
    advice = recommend(made, HOST)
    assert [one.id for one in advice.ranked] == ["r", "a"]
    assert advice.pick is not None and advice.pick.resumes == "implemented"


def test_a_plan_replaces_the_soft_criteria_and_keeps_pins():
    plan = Plan({"c": 0, "a": 1, "b": 2}, makespan=10.0, playbook=12.0)
    made = board(node("a"), node("b"), node("x", "b"), node("c"), node("d", priority=1))
    advice = recommend(made, HOST, plan=plan)
    assert [one.id for one in advice.ranked] == ["d", "c", "a", "b"]
    assert advice.ranked[1].saves_hours == 2.0


# ---------------------------------------------------------------- hard rules: every kind of reason


@pytest.mark.parametrize(
    ("made", "host", "kind", "text"),
    [
        (board(node("x", "a", "b"), node("a"), done=("b",)), HOST, "dependency", "waits for a"),
        (
            board(node("x", "a", "b", "c", "d"), *map(node, "abcd")),
            HOST,
            "dependency",
            "waits for a, b, c and 1 more",
        ),
        (
            board(node("x", files=("src/",)), busy=(running("r", files=("src/a.py",)),)),
            HOST,
            "files",
            "r is changing src/a.py",
        ),
        (board(node("x", held=True)), HOST, "held", "held"),
        (board(node("x", held="after the release")), HOST, "held", "held: after the release"),
        (board(busy=(running("x", attention="which?"),)), HOST, "attention", "needs you: which?"),
        (board(busy=(running("x", held="wait"),)), HOST, "held", "held: wait"),
        (board(busy=(running("x", "there"),)), HOST, "elsewhere", "in progress on there"),
        (board(busy=(running("x"),)), replace(HOST, live=frozenset({"x"})), "running", "testing right now"),
        (board(node("x"), paused="lunch"), HOST, "paused", "the queue is paused: lunch"),
        (board(node("x"), paused=True), HOST, "paused", "the queue is paused"),
        (
            board(node("x")),
            Host("here", instances=2, live=frozenset("pq")),
            "machine-full",
            "this machine runs 2 of 2 instances",
        ),
        (
            board(node("x")),
            Host("here", 4, frozenset({"elsewhere"}), 3.21, 6.0),
            "memory",
            "3.2 GB of memory free, an agent needs 6.0",
        ),
        (replace(board(node("x")), drained=frozenset({"here"})), HOST, "drained", "here is drained"),
        (board(node("a"), node("x")), HOST, "behind", "eligible, number 2 in line behind a"),
    ],
)
def test_why_not(made, host, kind, text):
    advice = recommend(made, host)
    assert advice.pick is None or advice.pick.id != "x"
    why = advice.reason("x")
    assert why is not None
    assert (why.kind, why.text) == (kind, text)
    assert why.to_json()["kind"] == kind and why.to_json()["text"] == text


def test_every_reason_is_asked_for_above():
    # That no model may be asked is known to `work` alone: no schedule decides it.
    kinds = {one.kind for one in reasons.Reason.__subclasses__()} - {reasons.NoModel.kind}
    mark = next(mark for mark in test_why_not.pytestmark if mark.name == "parametrize")
    assert kinds == {row[2] for row in mark.args[1]}


def test_the_pick_and_the_unknown_have_no_reason():
    advice = recommend(board(node("a"), done=("z",)), HOST)
    assert (advice.reason("a"), advice.reason("z"), advice.reason("nobody")) == (None, None, None)


def test_dependencies_are_told_before_files():
    made = board(node("x", "r", files=("f",)), busy=(running("r", files=("f",)),))
    why = recommend(made, HOST).reason("x")
    assert why is not None and why.kind == "dependency"


def test_additive_paths_never_hold():
    made = board(node("x", files=("docs/a.md",)), busy=(running("r", "there", files=("docs/a.md",)),))
    assert order(made) == []
    assert order(made, additive=("docs/**",)) == ["x"]


def test_pause_lets_running_work_resume_and_nothing_new():
    made = board(node("a"), busy=(running("r"),), paused="lunch")
    advice = recommend(made, HOST)
    assert [one.id for one in advice.ranked] == ["r"] and advice.blocked is None
    why = advice.reason("a")
    assert why is not None and why.kind == "paused"
    assert [one.id for one in batch(made, HOST, 5)] == ["r"]
    assert recommend(replace(made, in_progress=()), HOST).pick is None
    assert batch(replace(made, in_progress=()), HOST, 5) == []


def test_a_full_machine_starts_nothing_whatever_is_eligible():
    host = Host("here", instances=1, live=frozenset({"q"}))
    made = board(node("a"), busy=(running("r"),))
    assert recommend(made, host).pick is None
    assert batch(made, host, 3) == []


# ---------------------------------------------------------------- batches and determinism

FILES = ["a.py", "b.py", "src/", "src/a.py", "docs/x.md", "*.py"]


@st.composite
def boards(draw):
    names = [f"s{index}" for index in range(draw(st.integers(1, 8)))]
    nodes = [
        node(
            name,
            *draw(st.lists(st.sampled_from(names[:index] or ["gone"]), max_size=2, unique=True)),
            files=tuple(draw(st.lists(st.sampled_from(FILES), max_size=2))),
            hours=float(draw(st.integers(1, 5))),
            priority=draw(st.integers(0, 1)),
            held=draw(st.sampled_from([False, False, False, True])),
        )
        for index, name in enumerate(names)
    ]
    busy = tuple(
        running(f"r{index}", draw(st.sampled_from(["here", "there"]))) for index in range(draw(st.integers(0, 2)))
    )
    return Board(tuple(nodes), busy, frozenset({"gone"}), draw(st.sampled_from([False, False, "p"])))


@settings(max_examples=200, deadline=None)
@given(boards(), st.integers(1, 5))
def test_a_batch_is_free_of_conflicts_and_follows_the_ranking(made, count):
    advice = recommend(made, HOST, ("docs/**",))
    chosen = batch(made, HOST, count, ("docs/**",))
    assert len(chosen) <= count
    ranked = [one.id for one in advice.ranked]
    assert [one.id for one in chosen] == sorted((one.id for one in chosen), key=ranked.index)
    assert (chosen[0] if chosen else None) == advice.pick
    declared = {one.id: one.files for one in (*made.ready, *made.in_progress)}
    for index, one in enumerate(chosen):
        for other in chosen[:index]:
            assert clashes(declared[one.id], declared[other.id], ("docs/**",)) == []


@settings(max_examples=200, deadline=None)
@given(boards())
def test_everything_has_one_answer_and_twice_the_same(made):
    advice = recommend(made, HOST)
    assert advice == recommend(made, HOST)
    ranked = {one.id for one in advice.ranked}
    everything = {one.id for one in (*made.ready, *made.in_progress)}
    assert ranked | set(advice.held) == everything and not ranked & set(advice.held)
    for one in advice.ranked:
        entry = next(entry for entry in (*made.ready, *made.in_progress) if entry.id == one.id)
        assert not entry.held and (one.resumes or set(entry.depends_on) <= made.completed)


def test_the_figures_of_running_work_count_too():
    made = board(node("x", "r"), node("y", "x"), busy=(running("r", "there", hours=1.0),))
    assert schedule.figures(made).unblocks == {"r": 2, "x": 1, "y": 0}


def test_a_small_machine_still_runs_one() -> None:
    assert Host("here", 4, frozenset(), 3.21, 6.0).full() is None
