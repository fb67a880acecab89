"""The lane in the queue: tables of its transitions, and any order of them against lists that know nothing of agentq."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agentq.core import lane, spec
from agentq.core import queue as transitions
from agentq.core.document import Reader, render
from agentq.core.lane import Landing
from agentq.core.queue import Claim
from agentq.core.spec import InProgress, Lane, Lease, Place, Queue
from agentq.errors import AgentqError, Refused, Stale

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
TTL = timedelta(minutes=30)
WHO = Claim("other", 2, NOW, TTL)
IDS = ("a", "b", "c", "d")
BASE = "0" * 40


def commit(number: int) -> str:
    return f"{number:040x}"


def place(work: int, number: int = 1) -> Place:
    return Place(number=number, work=commit(work), base=BASE, tree=commit(work + 1000))


def verifying(*ids: str, status: str = "verifying") -> Queue:
    """Specs under the epochs 1, 2, …"""
    entries = []
    for epoch, name in enumerate(ids, 1):
        lease = Lease(machine="host", instance=1, epoch=epoch, acquired=NOW, expires=NOW + TTL)
        entries.append(InProgress(id=name, title=name, status=status, lease=lease))  # type: ignore[arg-type]
    return Queue(epoch=len(ids), in_progress=tuple(entries))


def filled(*ids: str) -> Queue:
    queue = verifying(*ids)
    for epoch, name in enumerate(ids, 1):
        queue = lane.enter(queue, name, epoch, place(epoch))
    return queue


def led(*ids: str) -> tuple[Queue, int]:
    queue = lane.lead(filled(*ids), "host", NOW)
    assert queue.lane.leader is not None
    return queue, queue.lane.leader.epoch


def names(queue: Queue) -> list[str]:
    return [entry.id for entry in lane.waiting(queue)]


# ---------------------------------------------------------------- entering and leaving


def test_first_in_first_out() -> None:
    queue = verifying("a", "b", "c")
    for name, epoch in (("c", 3), ("a", 1), ("b", 2)):
        queue = lane.enter(queue, name, epoch, place(epoch))
    assert names(queue) == ["c", "a", "b"]
    assert [entry.place.number for entry in lane.waiting(queue) if entry.place] == [1, 2, 3]


def test_the_lane_gives_the_number() -> None:
    queue = lane.enter(filled("a", "b"), "a", 1, place(7, number=99))
    assert [(entry.id, entry.place) for entry in lane.waiting(queue)] == [("a", place(7, 1)), ("b", place(2, 2))]
    assert queue.lane.last == 2


def test_entering_twice_with_the_same_work_changes_nothing() -> None:
    queue = filled("a")
    assert lane.enter(queue, "a", 1, place(1, number=5), seconds=9.0) is queue


def test_seconds_are_added() -> None:
    queue = transitions.begin(verifying("a", status="implemented"), "a", 1, "verify", NOW, TTL)
    entered = lane.enter(queue, "a", 1, place(1), seconds=4.5)
    assert transitions.running(entered, "a").stages["verify"].seconds == 4.5


def test_who_left_goes_to_the_end() -> None:
    queue = lane.leave(filled("a", "b"), "a", 1)
    assert names(queue) == ["b"] and lane.leave(queue, "a", 1) is queue
    assert names(lane.enter(queue, "a", 1, place(1))) == ["b", "a"]


GIVES_UP: dict[str, Callable[[Queue], Queue]] = {
    "taken over": lambda queue: transitions.take_over(queue, "a", WHO),
    "verified again": lambda queue: transitions.begin(queue, "a", 1, "verify", NOW, TTL),
    "failed": lambda queue: transitions.fail(queue, "a", 1, "verify", "no"),
    "retried": lambda queue: transitions.retry(queue, "a"),
    "sent back": lambda queue: transitions.retry(queue, "a", "implement"),
    "given back": lambda queue: transitions.give_back(queue, "a", 1),
    "completed": lambda queue: transitions.complete(queue, "a", 1, BASE, NOW, on_trunk=True),
}


@pytest.mark.parametrize("how", GIVES_UP)
def test_what_ends_a_verification_ends_the_place(how: str) -> None:
    queue = GIVES_UP[how](filled("a", "b"))
    assert names(queue) == ["b"]
    transitions.check(queue)


# ---------------------------------------------------------------- leading

STALE: dict[str, Callable[[Queue, int], Queue]] = {
    "testing": lambda queue, epoch: lane.testing(queue, epoch, []),
    "land": lambda queue, epoch: lane.land(queue, epoch, [Landing("a", 1, BASE)], NOW),
    "land nothing": lambda queue, epoch: lane.land(queue, epoch, [], NOW),
    "send back": lambda queue, epoch: lane.send_back(queue, epoch, "a", 1),
    "eject": lambda queue, epoch: lane.eject(queue, epoch, "a", 1, "no", 2),
    "freeze": lambda queue, epoch: lane.freeze(queue, "red", BASE, epoch),
}


@pytest.mark.parametrize("what", STALE)
def test_an_old_epoch_changes_nothing(what: str) -> None:
    queue, epoch = led("a", "b")
    again = lane.lead(queue, "other", NOW, over=epoch)
    assert again.lane.leader is not None and again.lane.leader.epoch == epoch + 1 == again.epoch
    for stale in (again, lane.resign(queue, epoch)):
        with pytest.raises(Stale):
            STALE[what](stale, epoch)


def test_who_resigns_ends_only_his_own() -> None:
    queue, epoch = led("a")
    assert lane.resign(queue, epoch - 1) is queue
    resigned = lane.resign(queue, epoch)
    assert resigned.lane.leader is None and lane.resign(resigned, epoch) is resigned
    fresh = lane.lead(resigned, "host", NOW)
    assert fresh.lane.leader is not None and fresh.lane.leader.epoch > epoch


@pytest.mark.parametrize("over", [0, 1, 99])
def test_nobody_leads_over_another(over: int) -> None:
    queue, _ = led("a")
    with pytest.raises(Refused, match="host leads"):
        lane.lead(queue, "other", NOW, over=over)


def test_what_is_tested_ends_with_its_leader() -> None:
    queue, epoch = led("a")
    run = spec.Tested(specs=("a",), base=BASE, since=NOW, why="because")
    shown = lane.testing(queue, epoch, [run])
    assert shown.lane.testing == (run,) and lane.testing(shown, epoch, [run]) is shown
    assert lane.lead(shown, "other", NOW, over=epoch).lane.testing == ()
    assert lane.resign(shown, epoch).lane.testing == ()
    assert lane.land(shown, epoch, [Landing("a", 1, BASE)], NOW).lane.testing == ()


def test_landing() -> None:
    queue, epoch = led("a", "b", "c")
    both = [Landing("a", 1, commit(1)), Landing("b", 2, commit(2))]
    landed = lane.land(queue, epoch, both, NOW)
    assert [(done.id, done.landed) for done in landed.completed] == [("a", commit(1)), ("b", commit(2))]
    assert names(landed) == ["c"] and landed.lane.recent == "11" and landed.lane.leader is not None
    assert lane.land(landed, epoch, both, NOW) == landed
    assert lane.land(landed, epoch, [*both, Landing("c", 3, commit(3))], NOW).lane.leader is None


def test_nothing_lands_in_a_frozen_lane() -> None:
    queue, epoch = led("a")
    with pytest.raises(Stale, match="frozen"):
        lane.land(lane.freeze(queue, "by hand"), epoch, [Landing("a", 1, commit(1))], NOW)


def test_a_person_froze_it() -> None:
    """No leader gives another reason for it, and nobody leads until a person thaws it."""
    queue, epoch = led("a")
    held = lane.freeze(queue, "by hand")
    assert lane.freeze(held, "trunk is red", BASE, epoch) is held
    with pytest.raises(Refused, match="frozen"):
        lane.lead(held, "other", NOW, over=epoch)
    frozen = lane.freeze(queue, "trunk is red", BASE, epoch)
    with pytest.raises(Refused, match="frozen"):
        lane.lead(frozen, "other", NOW, over=epoch, past=commit(5))
    red = lane.lead(frozen, "other", NOW, over=epoch, past=BASE)
    assert (red.lane.frozen, red.lane.red) == (False, None)


WHATEVER: dict[str, Callable[[Queue], Queue]] = {
    "nothing": lambda queue: queue,
    "frozen": lambda queue: lane.freeze(queue, "by hand"),
    "another leads": lambda queue: lane.lead(queue, "other", NOW, over=queue.epoch),
    "taken over": lambda queue: transitions.take_over(queue, "a", WHO),
    "left": lambda queue: lane.leave(queue, "a", 1),
}


@pytest.mark.parametrize("what", WHATEVER)
def test_what_is_on_trunk_is_completed_whatever_happened(what: str) -> None:
    queue = WHATEVER[what](led("a", "b", "c")[0])
    landings = [Landing("a", 1, commit(1)), Landing("b", 2, commit(2))]
    landed = lane.landed(queue, landings, NOW)
    assert [(done.id, done.landed) for done in landed.completed] == [("a", commit(1)), ("b", commit(2))]
    assert names(landed) == ["c"] and landed.lane.recent == "11"
    assert landed.lane.leader == queue.lane.leader and landed.lane.frozen == queue.lane.frozen
    assert lane.landed(landed, landings, NOW) == landed
    transitions.check(landed)


UNFIT: dict[str, Callable[[Queue], Queue]] = {
    "left": lambda queue: lane.leave(queue, "b", 2),
    "taken over": lambda queue: transitions.take_over(queue, "b", WHO),
    "given back": lambda queue: transitions.give_back(queue, "b", 2),
    "landed as another commit": lambda queue: transitions.complete(queue, "b", 2, commit(9), NOW),
}


@pytest.mark.parametrize("how", UNFIT)
def test_all_of_a_batch_lands_or_nothing(how: str) -> None:
    queue, epoch = led("a", "b")
    with pytest.raises(Stale):
        lane.land(UNFIT[how](queue), epoch, [Landing("a", 1, commit(1)), Landing("b", 2, commit(2))], NOW)


def test_ejecting() -> None:
    queue, epoch = led("a", "b")
    ejected = lane.eject(queue, epoch, "a", 1, "1 failed\x1b[31m", 2)
    entry = transitions.running(ejected, "a")
    assert (entry.place, entry.failures, entry.attention) == (None, 1, None)
    assert entry.problem == "1 failed" or "\x1b" not in (entry.problem or "\x1b")
    assert entry.lease == transitions.running(queue, "a").lease, "its owner goes on with it"
    assert names(ejected) == ["b"] and ejected.lane.recent == "0"
    assert lane.eject(ejected, epoch, "a", 1, "again", 2) is ejected
    assert transitions.running(lane.eject(queue, epoch, "a", 1, "no", 1), "a").attention


def test_sending_back_blames_nobody() -> None:
    queue, epoch = led("a", "b")
    back = lane.send_back(queue, epoch, "a", 1)
    entry = transitions.running(back, "a")
    assert (entry.place, entry.failures, entry.problem, back.lane.recent) == (None, 0, None, "")


# ---------------------------------------------------------------- freezing, and what is learned


def test_freezing() -> None:
    queue, epoch = led("a")
    frozen = lane.freeze(queue, "trunk\x1b is " + "x" * 500, BASE, epoch)
    assert isinstance(frozen.lane.frozen, str) and len(frozen.lane.frozen) == 200 and frozen.lane.red == BASE
    assert Reader().parse(render(Reader().parse("{}"), frozen)).queue.lane == frozen.lane
    assert lane.freeze(queue).lane.frozen is True
    thawed = lane.thaw(frozen)
    assert (thawed.lane.frozen, thawed.lane.red) == (False, None) and lane.thaw(thawed) is thawed
    assert lane.freeze(lane.resign(queue, epoch), "by hand").lane.frozen == "by hand"


@pytest.mark.parametrize(
    ("recent", "rate"),
    [("", 0.9), ("1", 10 / 11), ("0", 9 / 11), ("10" * 5, 0.7), ("1" * 64, 73 / 74), ("0" * 64, 9 / 74)],
)
def test_pass_rate(recent: str, rate: float) -> None:
    assert lane.pass_rate(Lane(recent=recent)) == pytest.approx(rate)


def test_only_the_last_ones_are_remembered() -> None:
    queue, epoch = led("a")
    queue = queue.model_copy(update={"lane": queue.lane.model_copy(update={"recent": "0" + "1" * 63})})
    assert lane.eject(queue, epoch, "a", 1, "no", 2).lane.recent == "1" * 63 + "0"


# ---------------------------------------------------------------- any order

ids = st.sampled_from(IDS)


@dataclass
class Item:
    epoch: int
    waits: bool = False
    work: int = 0


class LaneMachine(RuleBasedStateMachine):
    """The queue beside plain lists: who waits, who leads, what left."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = verifying(*IDS)
        self.items = {name: Item(epoch) for epoch, name in enumerate(IDS, 1)}
        self.line: list[str] = []
        self.done: list[str] = []
        self.leader = 0
        self.epochs = [*range(1, len(IDS) + 1)]
        self.recent = self.frozen = ""
        self.works = 0

    def refused(self, change: Callable[[Queue], Queue]) -> bool:
        before = self.queue
        try:
            self.queue = change(before)
        except AgentqError:
            return True
        return False

    def gone(self, name: str) -> None:
        self.items[name].waits = False
        self.line = [one for one in self.line if one != name]

    @rule(name=ids, late=st.booleans())
    def enter(self, name: str, late: bool) -> None:
        item = self.items.get(name)
        self.works += 1
        epoch = item.epoch - late if item else 1
        refused = self.refused(lambda queue: lane.enter(queue, name, epoch, place(self.works)))
        assert refused == (item is None or late)
        if item and not refused and not item.waits:
            item.waits = True
            self.line.append(name)
        if item and not refused:
            item.work = self.works

    @rule(name=ids)
    def leave(self, name: str) -> None:
        if name in self.items:
            epoch = self.items[name].epoch
            assert not self.refused(lambda queue: lane.leave(queue, name, epoch))
            self.gone(name)

    @rule(name=ids)
    def take_over(self, name: str) -> None:
        if name in self.items:
            assert not self.refused(lambda queue: transitions.take_over(queue, name, WHO))
            self.gone(name)
            self.items[name].epoch = self.handed_out()

    @rule(over=st.booleans(), moved=st.booleans())
    def lead(self, over: bool, moved: bool) -> None:
        judged, past = self.leader if over else 0, BASE if moved else None
        refused = self.refused(lambda queue: lane.lead(queue, "host", NOW, over=judged, past=past))
        held = self.frozen == "by hand" or (self.frozen == "red" and not moved)
        assert refused == ((bool(self.leader) and not over) or held)
        if not refused:
            self.leader, self.frozen = self.handed_out(), ""

    def handed_out(self) -> int:
        assert self.queue.epoch not in self.epochs
        self.epochs.append(self.queue.epoch)
        return self.queue.epoch

    @rule(late=st.booleans())
    def resign(self, late: bool) -> None:
        assert not self.refused(lambda queue: lane.resign(queue, self.leader - late))
        self.leader = self.leader if late else 0

    @rule(count=st.integers(0, 4), late=st.booleans(), stranger=st.booleans())
    def land(self, count: int, late: bool, stranger: bool) -> None:
        """The first `count` of the lane; a `stranger` who does not wait lets nothing of it land."""
        outside = [name for name, item in self.items.items() if not item.waits]
        chosen = self.line[:count] + (outside[:1] if stranger else [])
        landings = [Landing(name, self.items[name].epoch, commit(self.items[name].work)) for name in chosen]
        refused = self.refused(lambda queue: lane.land(queue, self.leader - late, landings, NOW))
        assert refused == (late or not self.leader or bool(self.frozen) or bool(stranger and outside))
        if not refused:
            for name in chosen:
                self.gone(name)
                del self.items[name]
            self.done += chosen
            self.recent = (self.recent + "1" * len(chosen))[-64:]
            self.leader = self.leader if self.line else 0

    @precondition(lambda self: self.line)
    @rule(late=st.booleans(), blame=st.booleans())
    def out(self, late: bool, blame: bool) -> None:
        name = self.line[0]
        epoch, leader = self.items[name].epoch, self.leader - late
        refused = self.refused(
            lambda queue: lane.eject(queue, leader, name, epoch, "no", 99) if blame else lane.send_back(queue, leader, name, epoch)
        )  # fmt: skip
        assert refused == (late or not self.leader)
        if not refused:
            self.gone(name)
            self.recent = (self.recent + "0" * blame)[-64:]

    @rule(late=st.booleans())
    def freeze(self, late: bool) -> None:
        refused = self.refused(lambda queue: lane.freeze(queue, "red", BASE, self.leader - late))
        assert refused == (late or not self.leader)
        self.frozen = self.frozen or ("" if refused else "red")

    @rule()
    def freeze_by_hand(self) -> None:
        assert not self.refused(lambda queue: lane.freeze(queue, "by hand"))
        self.frozen = "by hand"

    @rule()
    def thaw(self) -> None:
        assert not self.refused(lane.thaw)
        self.frozen = ""

    @invariant()
    def agrees(self) -> None:
        transitions.check(self.queue)
        assert names(self.queue) == self.line
        assert self.queue.lane.frozen == (self.frozen or False)
        assert self.queue.lane.red == (BASE if self.frozen == "red" else None)
        assert [done.id for done in self.queue.completed] == self.done
        assert (self.queue.lane.leader.epoch if self.queue.lane.leader else 0) == self.leader
        assert self.queue.lane.recent == self.recent
        for entry in lane.waiting(self.queue):
            assert entry.place is not None and entry.place.work == commit(self.items[entry.id].work)
        assert Reader().parse(render(Reader().parse("{}"), self.queue)).queue == self.queue


TestTheLaneInAnyOrder = LaneMachine.TestCase
TestTheLaneInAnyOrder.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
