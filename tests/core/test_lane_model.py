"""The lane's decisions and transitions in every order of events of a small model, and mutants it must catch."""

from dataclasses import replace
from typing import Any

import pytest
from support.lane_model import Faults, Model, Violation

from agentq.core import landing, lane
from agentq.core import queue as transitions
from agentq.core.landing import Eject, Land, View

PAIRS = (frozenset(), frozenset("ab"), frozenset("bc"), frozenset("ac"))
FAULTS = {
    "none": Faults(),
    "crash": Faults(crashes=1),
    "zombie": Faults(suspicions=1, crashes=1),
    "flake": Faults(flakes=1),
    "red trunk": Faults(breaks=1),
    "taken over": Faults(takeovers=1, suspicions=1),
    "flake and crash": Faults(flakes=1, crashes=1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_order_of_events_keeps_the_invariants(name: str) -> None:
    counts = [Model(clash, FAULTS[name]).explore() for clash in PAIRS]
    print(f"{name}: {sum(counts)} states")
    assert min(counts) > 300


def no_rerun(view: View) -> Any:
    decision = landing.decide(view)
    first = view.chain[0] if view.chain else None
    failed = first and view.seen.get(first.tree, landing.Seen()).failed
    return Eject(first.spec, first.tree) if first and failed and not isinstance(decision, Land) else decision


def trunk_not_tested(view: View) -> Any:
    seen = {**view.seen, view.trunk: landing.Seen(passed=1)}
    return landing.decide(replace(view, seen=seen, last_pass=10**9))


def untested(view: View) -> Any:
    return Land(len(view.chain)) if view.chain else landing.decide(view)


def newest_first(queue: Any) -> Any:
    return lane.waiting(queue)[::-1]


def no_leader_check(queue: Any, _epoch: int, landings: Any, now: Any) -> Any:
    """The leader's own epoch is not asked for."""
    led = queue.lane.leader
    fresh = queue if led else lane.lead(queue, "anybody", now)
    return lane.land(fresh, fresh.lane.leader.epoch, landings, now)


def no_lease_check(queue: Any, epoch: int, landings: Any, now: Any) -> Any:
    """Whoever holds the spec now, its landing is written down."""
    lane.leading(queue, epoch)
    for one in landings:
        lease = transitions.running(queue, one.spec).lease.epoch
        queue = transitions.complete(queue, one.spec, lease, one.commit, now, on_trunk=True)
    return queue


@pytest.mark.parametrize(
    ("mutant", "faults", "said"),
    [
        ({"decide": no_rerun}, Faults(flakes=1), "innocent"),
        ({"decide": trunk_not_tested}, Faults(breaks=1), "trunk itself is red"),
        ({"decide": untested}, Faults(), "never passed"),
        ({"waiting": newest_first}, Faults(), "first in, first out"),
        ({"land": no_leader_check}, Faults(suspicions=1), "leader that was taken over lands"),
        ({"land": no_lease_check}, Faults(takeovers=1), "lease that was taken over lands"),
        ({"expects_trunk": False}, Faults(breaks=1), "not fast-forwarded"),
    ],
    ids=[
        "no rerun",
        "trunk not tested",
        "untested",
        "newest first",
        "no leader check",
        "no lease check",
        "stale squash",
    ],
)
def test_a_mutant_is_caught(mutant: dict[str, Any], faults: Faults, said: str) -> None:
    with pytest.raises(Violation, match=said):
        for clash in PAIRS:
            Model(clash, faults, **mutant).explore()
