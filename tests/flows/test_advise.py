"""The reasons of a recommendation in plain words."""

from agentq.core.board import Board, Node
from agentq.core.schedule import Host, Plan
from agentq.flows.advise import Situation

HOST = Host("here", 4)


def _node(spec_id: str, *needs: str, files: tuple[str, ...] = (), hours: float = 4.0, priority: int = 0) -> Node:
    return Node(spec_id, spec_id, needs, files, hours, priority)


def _words(*nodes: Node, plan: Plan | None = None) -> dict[str, list[str]]:
    found = Situation(Board(nodes, (), frozenset()), HOST, (), plan)
    words = found.in_words()
    return {one.id: words(one) for one in found.advice().ranked}


def test_what_it_unlocks_and_whether_it_is_critical() -> None:
    said = _words(
        _node("a", files=("x",)), _node("b", files=("x",), hours=0.5), _node("c", "a", hours=2), _node("d")
    )
    shares = "touches no file in use, shares some with 1 other eligible spec"
    assert said["a"] == ["unlocks 1", "on the critical path, 6 h left", shares]
    assert said["b"] == ["unlocks nothing else", "about 30 min", shares]
    assert said["d"] == ["unlocks nothing else", "about 4 h", "touches no file in use"]


def test_hours_that_hang_on_one_beside_the_critical_path() -> None:
    said = _words(_node("a"), _node("b", "a", hours=1), _node("long", hours=40))
    assert said["a"][:2] == ["unlocks 1", "5 h of work hang on it"]


def test_a_pin_comes_first() -> None:
    assert _words(_node("p", priority=2), _node("q"))["p"][0] == "pinned with priority 2"


def test_a_plan_says_what_it_saves() -> None:
    said = _words(_node("a"), _node("b"), plan=Plan({"a": 0, "b": 1}, makespan=10.0, playbook=12.0))
    assert said["a"][0] == "the simulated plan starts it now and saves 2 h"
