"""The queue under every order of events: a stateful test against a small model of its own.

The model knows nothing of agentq: ids in lists, owners by epoch, files as plain sets (no globs), so that a
rule broken in agentq/core/queue.py cannot be broken here in the same way.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentq.core import board, queue, schedule
from agentq.core.document import Reader, render
from agentq.core.queue import Claim
from agentq.core.spec import Queue, Spec
from agentq.errors import AgentqError, CycleError, QueueError, Refused, Stale, UserError

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
TTL = timedelta(minutes=30)
IDS = ["a", "b", "c", "d", "e", "f"]
FILES = ["src/one.py", "src/two.py", "src/three.py", "docs/guide.md"]
ADDITIVE = ("docs/**",)
NEXT = {
    "ready": ("", None),
    "testing": ("test", "tests-written"),
    "tests-written": ("implement", None),
    "implementing": ("implement", "implemented"),
    "implemented": ("verify", None),
    "verifying": ("verify", None),
}
BEGUN = {"test": "testing", "implement": "implementing", "verify": "verifying"}
ALLOWED = 2

Refusal = type[AgentqError] | None

ids = st.sampled_from(IDS)
stages = st.sampled_from(["test", "implement", "verify"])
files = st.lists(st.sampled_from(FILES), max_size=2, unique=True)
needs = st.lists(ids, max_size=2, unique=True)
texts = st.text(max_size=20) | st.just("red \x1b[31m\u202eevil\r\n" + "x" * 3000)


@dataclass
class Item:
    """What the model knows of one spec."""

    needs: frozenset[str]
    files: frozenset[str]
    held: bool = False
    status: str = "ready"
    epoch: int = 0
    failures: int = 0
    asks: bool = False

    @property
    def exclusive(self) -> set[str]:
        return {path for path in self.files if not path.startswith("docs/")}


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue()
        self.items: dict[str, Item] = {}
        self.ready: list[str] = []
        self.running: list[str] = []
        self.done: list[str] = []
        self.paused = False
        self.epoch = 0
        self.handed_out: list[int] = []
        self.clock = NOW
        self.reader = Reader()
        self.document = self.reader.parse("{}")

    # ------------------------------------------------------------ helpers

    def who(self) -> Claim:
        self.clock += timedelta(seconds=61, microseconds=7)
        return Claim("host", 1, self.clock, TTL, ADDITIVE)

    def apply(self, expected: Refusal, change: object) -> bool:
        """Run a transition; it must raise exactly what the model expects, and then change nothing."""
        before = self.queue
        dump = before.model_dump_json()
        assert callable(change)
        if expected is None:
            self.queue = change(before)
        else:
            with pytest.raises(AgentqError) as caught:
                change(before)
            assert type(caught.value) is expected, caught.value
        assert before.model_dump_json() == dump  # the old value never moves
        return expected is None

    def reaches(self, start: str, goal: str) -> bool:
        waiting, seen = [start], set()
        while waiting:
            node = waiting.pop()
            if node == goal:
                return True
            if node not in seen and node in self.items and node not in self.done:
                seen.add(node)
                waiting.extend(self.items[node].needs)
        return False

    def refusal_of_needs(self, spec_id: str, wanted: list[str]) -> Refusal:
        if any(need == spec_id or need not in self.items for need in wanted):
            return QueueError
        if any(self.reaches(need, spec_id) for need in wanted):
            return CycleError
        return None

    def epoch_of(self, spec_id: str, wrong: int) -> int:
        """The owner's epoch (wrong = 0), or an older or a never granted one."""
        return max(1, (self.items[spec_id].epoch if spec_id in self.items else 1) + wrong)

    def known(self, spec_id: str) -> Refusal:
        """Why a person may not change it."""
        return UserError if spec_id not in self.items else Refused if spec_id in self.done else None

    def owns(self, spec_id: str, epoch: int) -> bool:
        return spec_id in self.running and self.items[spec_id].epoch == epoch

    def at(self, spec_id: str, epoch: int) -> tuple[str, str | None]:
        """(the stage its owner may begin or fail, the status if it may finish it)."""
        return NEXT[self.items[spec_id].status] if self.owns(spec_id, epoch) else ("", None)

    def meets(self, spec_id: str, paths: set[str]) -> bool:
        return any(self.items[other].exclusive & paths for other in self.running if other != spec_id)

    # ------------------------------------------------------------ people

    @initialize(count=st.integers(0, 4), chained=st.booleans())
    def begin_with(self, count: int, chained: bool) -> None:
        for index, spec_id in enumerate(IDS[:count]):
            self.add(spec_id, IDS[index - 1 : index] if chained else [], [FILES[index % 3]])

    @rule(spec_id=ids, wanted=needs, paths=files)
    def add(self, spec_id: str, wanted: list[str], paths: list[str]) -> None:
        spec = Spec(id=spec_id, title=f"Title {spec_id}", depends_on=tuple(wanted), files_modified=tuple(paths))
        refusal: Refusal = QueueError if spec_id in self.items else None
        if refusal is None:
            self.items[spec_id] = Item(frozenset(wanted), frozenset(paths))
            refusal = self.refusal_of_needs(spec_id, wanted)
        if self.apply(refusal, lambda q: queue.add(q, spec)):
            self.ready.append(spec_id)
        elif spec_id not in [*self.ready, *self.running, *self.done]:
            del self.items[spec_id]

    @rule(spec_id=ids, wanted=needs)
    def edit_needs(self, spec_id: str, wanted: list[str]) -> None:
        refusal = self.known(spec_id)
        if refusal is None:
            new = set(wanted) - set(self.items[spec_id].needs) - set(self.done)
            late = Refused if spec_id in self.running and new else None
            refusal = self.refusal_of_needs(spec_id, wanted) or late
        if self.apply(refusal, lambda q: queue.edit(q, spec_id, {"depends_on": wanted}, ADDITIVE)):
            self.items[spec_id].needs = frozenset(wanted)

    @rule(spec_id=ids, paths=files)
    def edit_files(self, spec_id: str, paths: list[str]) -> None:
        refusal = self.known(spec_id)
        if spec_id in self.running:
            new = {path for path in set(paths) - self.items[spec_id].files if not path.startswith("docs/")}
            refusal = Refused if self.meets(spec_id, new) else None
        if self.apply(refusal, lambda q: queue.edit(q, spec_id, {"files_modified": paths}, ADDITIVE)):
            self.items[spec_id].files = frozenset(paths)

    @rule(spec_id=ids)
    def remove(self, spec_id: str) -> None:
        refusal = self.known(spec_id)
        needed = any(spec_id in self.items[other].needs for other in [*self.ready, *self.running])
        if refusal is None and (spec_id in self.running or needed):
            refusal = Refused
        if self.apply(refusal, lambda q: queue.remove(q, spec_id)):
            self.ready.remove(spec_id)
            del self.items[spec_id]

    @rule(spec_id=ids, held=st.booleans(), why=st.sampled_from(["", "not yet"]))
    def hold_or_unhold(self, spec_id: str, held: bool, why: str) -> None:
        if self.apply(
            self.known(spec_id), lambda q: queue.hold(q, spec_id, why) if held else queue.unhold(q, spec_id)
        ):
            self.items[spec_id].held = held

    @rule(why=st.sampled_from(["", "lunch"]))
    def pause(self, why: str) -> None:
        self.apply(None, lambda q: queue.pause(q, why))
        self.paused = True

    @rule()
    def resume(self) -> None:
        self.apply(None, queue.resume)
        self.paused = False

    # ------------------------------------------------------------ runs

    @rule(spec_id=ids)
    def claim(self, spec_id: str) -> None:
        refusal: Refusal = None
        if spec_id not in self.items:
            refusal = UserError
        elif spec_id not in self.ready:
            refusal = Stale
        else:
            item = self.items[spec_id]
            blocked = self.paused or item.held or not item.needs <= set(self.done)
            refusal = Refused if blocked or self.meets(spec_id, item.exclusive) else None
        who = self.who()
        if self.apply(refusal, lambda q: queue.claim(q, spec_id, who)):
            self.ready.remove(spec_id)
            self.running.append(spec_id)
            self.items[spec_id].status = "testing"
            self.grant(spec_id)

    def grant(self, spec_id: str) -> None:
        entry = queue.running(self.queue, spec_id)
        assert entry.lease.epoch > self.epoch  # strictly growing, so never reused
        self.epoch = entry.lease.epoch
        self.handed_out.append(self.epoch)
        self.items[spec_id].epoch = self.epoch

    @rule(spec_id=ids)
    def take_over(self, spec_id: str) -> None:
        refusal = None if spec_id in self.running else self.known(spec_id) or Refused
        who = self.who()
        if self.apply(refusal, lambda q: queue.take_over(q, spec_id, who)):
            self.grant(spec_id)

    @rule(spec_id=ids, wrong=st.sampled_from([0, 0, 0, -1, 1, 5]), stage=stages)
    def begin(self, spec_id: str, wrong: int, stage: str) -> None:
        epoch = self.epoch_of(spec_id, wrong)
        refusal = None if self.at(spec_id, epoch)[0] == stage else Refused if self.owns(spec_id, epoch) else Stale
        now = self.who().now
        if self.apply(refusal, lambda q: queue.begin(q, spec_id, epoch, stage, now, TTL)):  # type: ignore[arg-type]
            self.items[spec_id].status = BEGUN[stage]

    @rule(spec_id=ids, wrong=st.sampled_from([0, 0, 0, -1, 1]), stage=stages, cost=st.floats(0, 3))
    def finish(self, spec_id: str, wrong: int, stage: str, cost: float) -> None:
        epoch = self.epoch_of(spec_id, wrong)
        owner, (wanted, proved) = self.owns(spec_id, epoch), self.at(spec_id, epoch)
        refusal = None if wanted == stage and proved else Refused if owner else Stale
        if self.apply(refusal, lambda q: queue.finish(q, spec_id, epoch, stage, 1.5, 7, cost)):  # type: ignore[arg-type]
            item = self.items[spec_id]
            item.status, item.failures, item.asks = str(NEXT[item.status][1]), 0, False

    @rule(spec_id=ids, wrong=st.sampled_from([0, 0, 0, -1, 1]), stage=stages, problem=texts, asks=st.booleans())
    def fail(self, spec_id: str, wrong: int, stage: str, problem: str, asks: bool) -> None:
        epoch = self.epoch_of(spec_id, wrong)
        refusal = None if self.at(spec_id, epoch)[0] == stage else Refused if self.owns(spec_id, epoch) else Stale
        question = f"which one? {problem}" if asks else ""
        if self.apply(
            refusal,
            lambda q: queue.fail(q, spec_id, epoch, stage, problem, attention=question, allowed=ALLOWED),  # type: ignore[arg-type]
        ):
            item = self.items[spec_id]
            item.failures += 1
            item.asks = asks or item.failures >= ALLOWED

    @rule(spec_id=ids, wrong=st.sampled_from([0, -1]), base=st.sampled_from(["a" * 40, "not a commit"]))
    def based_on(self, spec_id: str, wrong: int, base: str) -> None:
        epoch = self.epoch_of(spec_id, wrong)
        good = None if base == "a" * 40 else QueueError
        self.apply(good if self.owns(spec_id, epoch) else Stale, lambda q: queue.based_on(q, spec_id, epoch, base))

    @rule(spec_id=ids)
    def retry(self, spec_id: str) -> None:
        refusal = None if spec_id in self.running else self.known(spec_id) or Refused
        if self.apply(refusal, lambda q: queue.retry(q, spec_id)):
            self.items[spec_id].failures, self.items[spec_id].asks = 0, False

    @rule(spec_id=ids, wrong=st.sampled_from([0, 0, -1, 1]))
    def give_back(self, spec_id: str, wrong: int) -> None:
        epoch = self.epoch_of(spec_id, wrong)
        refusal = None if self.owns(spec_id, epoch) else Stale
        if self.apply(refusal, lambda q: queue.give_back(q, spec_id, epoch)):
            self.running.remove(spec_id)
            self.ready.insert(0, spec_id)
            item = self.items[spec_id]
            item.status, item.failures, item.asks, item.epoch = "ready", 0, False, 0

    @rule(spec_id=ids, wrong=st.sampled_from([0, 0, 0, -1, 1]), landed=st.sampled_from(["b" * 40, "short"]))
    def complete(self, spec_id: str, wrong: int, landed: str) -> None:
        epoch = self.epoch_of(spec_id, wrong)
        refusal: Refusal = Stale
        if spec_id in self.done and landed == "b" * 40 and epoch == self.items[spec_id].epoch:
            refusal = None
        elif self.owns(spec_id, epoch):
            refusal = None if landed == "b" * 40 else QueueError
            refusal = refusal if self.items[spec_id].status == "verifying" else Refused
        now = self.who().now
        if (
            self.apply(refusal, lambda q: queue.complete(q, spec_id, epoch, landed, now))
            and spec_id in self.running
        ):
            self.running.remove(spec_id)
            self.done.append(spec_id)

    @rule(spec_id=ids, wrong=st.sampled_from([0, 0, 0, -1]))
    def work_through(self, spec_id: str, wrong: int) -> None:
        """All that is left of one spec, so that whole lives happen often."""
        if spec_id in self.ready:
            self.claim(spec_id)
        while spec_id in self.running and self.items[spec_id].status != "verifying":
            stage, status = NEXT[self.items[spec_id].status][0], self.items[spec_id].status
            self.begin(spec_id, wrong, stage)
            if stage != "verify":
                self.finish(spec_id, wrong, stage, 0.5)
            if self.items[spec_id].status == status:
                return
        self.complete(spec_id, wrong, "b" * 40)

    # ------------------------------------------------------------ what always holds

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert [entry.id for entry in self.queue.ready] == self.ready
        assert [entry.id for entry in self.queue.in_progress] == self.running
        assert [entry.id for entry in self.queue.completed] == self.done  # append-only, in order
        everything = [*self.ready, *self.running, *self.done]
        assert len(set(everything)) == len(everything) == len(self.items)
        assert self.queue.epoch == self.epoch
        assert bool(self.queue.paused) == self.paused
        for entry in self.queue.in_progress:
            item = self.items[entry.id]
            assert (entry.status, entry.lease.epoch) == (item.status, item.epoch)
            assert (entry.failures, bool(entry.attention)) == (item.failures, item.asks)
        for done in self.queue.completed:
            assert done.epoch == self.items[done.id].epoch

    @invariant()
    def epochs_are_unique(self) -> None:
        assert self.handed_out == sorted(set(self.handed_out))
        owners = [entry.lease.epoch for entry in self.queue.in_progress]
        assert len(set(owners)) == len(owners)

    @invariant()
    def nothing_in_progress_overlaps_or_waits(self) -> None:
        taken: set[str] = set()
        done = {entry.id for entry in self.queue.completed}
        for entry in self.queue.in_progress:
            mine = {path for path in entry.files_modified if not path.startswith("docs/")}
            assert not mine & taken
            taken |= mine
            assert set(entry.depends_on) <= done

    @invariant()
    def survives_the_file(self) -> None:
        """Rendered over the previous text, and read by a reader with and without a memory."""
        written = render(self.document, self.queue)
        self.document = self.reader.parse(written)
        assert self.document.queue == self.queue
        assert Reader().parse(written).queue == self.queue
        assert Reader().parse(render(None, self.queue)).queue == self.queue

    def teardown(self) -> None:
        """One healthy worker drains the queue; a person answers what is asked; only held specs stay."""
        self.resume()
        for spec_id in list(self.running):
            self.retry(spec_id)
        for _ in range(4 * len(IDS)):
            advice = schedule.recommend(
                board.of_queue(self.queue), schedule.Host("host", instances=1), additive=ADDITIVE
            )
            if advice.pick is None:
                break
            assert not self.items[advice.pick.id].held
            self.work_through(advice.pick.id, 0)
            assert advice.pick.id in self.done
            self.agrees_with_the_model()
            self.nothing_in_progress_overlaps_or_waits()
        stuck = [*self.ready, *self.running]
        assert all(self._waits_for_held(spec_id) for spec_id in stuck), stuck

    def _waits_for_held(self, spec_id: str) -> bool:
        held = [other for other in [*self.ready, *self.running] if self.items[other].held]
        in_the_way = [other for other in held if other in self.running]
        return any(self.reaches(spec_id, other) for other in held) or any(
            self.items[other].exclusive & self.items[near].exclusive
            for other in in_the_way
            for near in self.items
            if near not in self.done and self.reaches(spec_id, near)
        )


QueueMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_queue_machine = QueueMachine.TestCase
