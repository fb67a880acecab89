"""What every store of the queue must do. Subclass `StoreContract` and give it a `world` fixture."""

import threading
from collections.abc import Callable
from typing import Protocol

import pytest
from support.shared import Adding, times

from agentq.core import queue as transitions
from agentq.core.spec import Queue
from agentq.errors import AgentqError, QueueError, Refused, UserError
from agentq.store.base import QueueMove, QueueStore


class World(Protocol):
    """A queue with the ready specs s0, s1, s2. `open` is the store as a new process has it; `spoil` makes the
    queue unreadable; `pushed` moves trunk the way a mirror would, with the queue if it is told to."""

    open: Callable[[], QueueStore]
    spoil: Callable[[], None]
    lose: Callable[[], None]

    def pushed(self, move: QueueMove | None) -> tuple[str, str]: ...


def ids(queue: Queue) -> list[str]:
    return [spec.id for spec in (*queue.ready, *queue.in_progress, *queue.completed)]


class StoreContract:
    def test_reads_what_is_there(self, world: World) -> None:
        snapshot = world.open().read()
        assert ids(snapshot.queue) == ["s0", "s1", "s2"] and snapshot.age == 0
        assert snapshot.digest == world.open().read(max_age=60).digest

    def test_a_change_is_seen_by_everybody(self, world: World) -> None:
        store = world.open()
        before = store.read().digest
        queue = store.update(Adding("new"))
        assert times(ids(queue), "new") == 1
        for seen in (store.read(), store.read(max_age=60), world.open().read()):
            assert ids(seen.queue) == ids(queue) and seen.digest != before

    def test_what_a_change_raises_changes_nothing(self, world: World) -> None:
        store = world.open()
        before = store.read().digest
        with pytest.raises(UserError):
            store.update(lambda queue: transitions.hold(queue, "absent"))
        with pytest.raises(ZeroDivisionError):
            store.update(lambda queue: 1 // 0)  # type: ignore[arg-type, return-value]
        assert world.open().read().digest == before

    def test_nothing_to_do_writes_nothing(self, world: World) -> None:
        store = world.open()
        before = store.read().digest
        assert ids(store.update(lambda queue: queue)) == ["s0", "s1", "s2"]
        assert world.open().read().digest == before

    def test_a_store_that_has_not_looked_for_long_decides_on_the_newest(self, world: World) -> None:
        old, new = world.open(), world.open()
        old.read()
        new.update(lambda queue: transitions.remove(queue, "s1"))
        with pytest.raises(UserError):
            old.update(lambda queue: transitions.hold(queue, "s1"))
        new.update(Adding("late"))
        assert old.update(lambda queue: transitions.hold(queue, "late-d1")).ready[-1].held

    def test_no_update_is_lost_between_threads(self, world: World) -> None:
        names = [f"t{n}" for n in range(6)]
        workers = [threading.Thread(target=world.open().update, args=(Adding(name),)) for name in names]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        found = ids(world.open().read().queue)
        assert [times(found, name) for name in names] == [1] * 6

    def test_unreadable_is_an_error_and_never_empty(self, world: World) -> None:
        store = world.open()
        store.update(Adding("kept"))
        world.spoil()
        for attempt in (lambda: world.open().read(), lambda: store.update(Adding("more")), store.read):
            with pytest.raises(AgentqError) as caught:
                attempt()
            assert caught.value.exit_code == QueueError.exit_code
        aside = store.restore()
        assert aside.exists()
        assert times(ids(world.open().read().queue), "kept") == 1

    def test_missing_is_an_error_and_never_empty(self, world: World) -> None:
        store = world.open()
        store.read()
        world.lose()
        with pytest.raises(AgentqError) as caught:
            store.read()
        assert caught.value.hint
        with pytest.raises(AgentqError):
            store.update(Adding("more"))

    def test_landing_moves_both(self, world: World) -> None:
        landed = world.open().land(Adding("landed"), world.pushed)
        assert landed.outcome == "landed" and landed.queue is not None
        assert times(ids(landed.queue), "landed") == 1
        assert ids(world.open().read().queue) == ids(landed.queue)

    @pytest.mark.parametrize("outcome", ["moved", "refused"])
    def test_a_landing_that_did_not_land_changes_nothing(self, world: World, outcome: str) -> None:
        store = world.open()
        landed = store.land(Adding("landed"), lambda move: (outcome, "no"))
        assert landed == (outcome, "no", None)
        assert ids(world.open().read().queue) == ["s0", "s1", "s2"]
        assert times(ids(store.update(Adding("next"))), "next") == 1

    def test_refused_names_the_rule(self, world: World) -> None:
        store = world.open()
        store.update(lambda queue: transitions.pause(queue, "why"))
        with pytest.raises(Refused, match="rule"):
            store.update(_by_rule)


def _by_rule(queue: Queue) -> Queue:
    raise Refused("a rule says no")
