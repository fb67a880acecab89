"""The lane in every order of events: the states of `support.lane_model`, breadth first, and mutants of its rules that
the checker has to find."""

from collections import deque
from dataclasses import replace
from datetime import datetime

import pytest
from support.lane_model import FAULTS, NOW, SPECS, TRUNK, Model, Rules, State, Violation, claim
from support.size import FULL

from agentq.core import landing, lane
from agentq.core.landing import Eject, Land, Seen, View, Wait
from agentq.core.spec import InProgress, Lease, Queue

# ---------------------------------------------------------------- the search


def first_queue() -> Queue:
    entries = []
    for epoch, name in enumerate(SPECS, 1):
        lease = Lease(machine="owner", instance=1, epoch=epoch, acquired=NOW, expires=NOW)
        entries.append(InProgress(id=name, title=name, status="verifying", lease=lease))
    return Queue(epoch=len(SPECS), in_progress=tuple(entries))


def at_the_end(queue: Queue, bad: str) -> bool:
    """All that is good landed, and nothing waits."""
    return {done.id for done in queue.completed} == set(SPECS) - {bad} and not lane.waiting(queue)


def explore(bad: str, rules: Rules = Rules(), budget: int = 1) -> int:
    """The number of states. Raises Violation: with an invariant that breaks, or a state from which the lane cannot
    come to its end though nothing fails any more."""
    model = Model(bad, rules, budget)
    start = State(model.number(first_queue()), TRUNK, (None, None), ())
    came_from: dict[State, list[State]] = {start: []}
    todo = deque([start])
    while todo:
        state = todo.popleft()
        for name, after in model.steps(state):
            if after not in came_from:
                came_from[after] = []
                todo.append(after)
            if name not in FAULTS:
                came_from[after].append(state)
    finished = [state for state in came_from if at_the_end(model.queues[state.queue], bad)]
    alive = set(finished)
    while finished:
        for before in came_from[finished.pop()]:
            if before not in alive:
                alive.add(before)
                finished.append(before)
    claim(len(alive) == len(came_from), f"{len(came_from) - len(alive)} states never come to an end")
    return len(came_from)


# One fault with two tests at once and with each tested alone; two faults with one test at a time.
SCOPES = {
    "pairs": (Rules(), 1, ("", *SPECS)),
    "alone": (Rules(most=1), 1, ("", *SPECS)),
    "two faults": (Rules(slots=1), 2, ("", *SPECS) if FULL else ("b",)),
}
STATES = {"pairs": 30_000, "alone": 20_000, "two faults": 100_000}


@pytest.mark.parametrize("scope", SCOPES)
def test_the_lane_holds_in_every_state(scope: str, capsys: pytest.CaptureFixture[str]) -> None:
    rules, budget, bads = SCOPES[scope]
    counts = {bad or "none": explore(bad, rules, budget) for bad in bads}
    with capsys.disabled():
        print(f"\nlane model, {scope}: {sum(counts.values()):,} states; by the bad spec: {counts}")
    assert sum(counts.values()) > STATES[scope]


# ---------------------------------------------------------------- mutants


def no_lease_check(queue: Queue, epoch: int, landings: list[lane.Landing], now: datetime) -> Queue:
    leader = queue.lane.leader
    return lane.land(queue, leader.epoch if leader else epoch, landings, now)


def no_fencing(queue: Queue, machine: str, now: datetime, *, over: int = 0, past: str | None = None) -> Queue:
    """The next leader goes on under the epoch of the one before."""
    led = lane.lead(queue, machine, now, over=over, past=past)
    assert led.lane.leader is not None
    leader = led.lane.leader.model_copy(update={"epoch": over or led.epoch})
    return led.model_copy(update={"lane": led.lane.model_copy(update={"leader": leader})})


def resigns_for_all(queue: Queue, epoch: int) -> Queue:
    return lane.resign(queue, queue.lane.leader.epoch if queue.lane.leader else epoch)


def no_rerun(view: View) -> landing.Decision:
    seen = {tree: replace(said, failed=2 * said.failed) for tree, said in view.seen.items()}
    return landing.decide(replace(view, seen=seen))


def trunk_untested(view: View) -> landing.Decision:
    """Takes trunk for green, and for granted that tests can pass."""
    return landing.decide(replace(view, seen={**view.seen, view.trunk: Seen(passed=1)}, last_pass=1000))


def lands_untested(view: View) -> landing.Decision:
    return Land(1) if view.chain else Wait()


def lands_what_failed_once(view: View) -> landing.Decision:
    decided = landing.decide(view)
    return Land(1) if isinstance(decided, Eject) else decided


def never_ejects(view: View) -> landing.Decision:
    decided = landing.decide(view)
    return landing.Test((view.trunk,), ("",)) if isinstance(decided, Eject) else decided


def covers(view: View) -> landing.Decision:
    """A later green covers an earlier tree although each is to be tested alone."""
    return landing.decide(replace(view, most=landing.MOST))


MUTANTS: dict[str, tuple[Rules, str]] = {
    "no lease check": (Rules(land=no_lease_check), "an old epoch landed"),
    "the lease of now, not of then": (Rules(old_leases=False), "other work landed|not the merge"),
    "lead without fencing": (Rules(lead=no_fencing), "an epoch was handed out twice"),
    "resign without fencing": (Rules(resign=resigns_for_all), "ended the leadership of another"),
    "no rerun before ejecting": (Rules(decide=no_rerun), "an innocent was ejected"),
    "trunk not tested": (Rules(decide=trunk_untested), "an innocent was ejected"),
    "landing without a green result": (Rules(decide=lands_untested), "did not pass"),
    "landing what is red": (Rules(decide=lands_what_failed_once), "did not pass"),
    "never ejecting": (Rules(decide=never_ejects), "never come to an end"),
    "green covers although batch = 1": (Rules(decide=covers, most=1), "did not pass"),
    "stale squash": (Rules(rebuilds=False), "not fast-forwarded"),
    "newest first": (Rules(order=-1), "not first in, first out"),
    "trunk and queue apart": (Rules(atomic=False), "differ"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_model_finds(name: str) -> None:
    rules, said = MUTANTS[name]
    with pytest.raises(Violation, match=said):
        for slots, budget in ((2, 1), (1, 2)):
            explore("b", replace(rules, slots=slots), budget)
