"""The shared queue on real git repositories: the contract, and everything that can go wrong on the way."""

import errno
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from contracts.store import StoreContract, ids
from support import shared
from support.queues import write_queue
from support.shared import Adding, Misreported, times

from agentq.core import queue as transitions
from agentq.errors import ExternalError, QueueCorrupt, Refused, StoreError, UserError
from agentq.store import files
from agentq.store.base import QueueMove
from agentq.store.copy import WorkingCopy
from agentq.store.file import FileStore
from agentq.store.shared import SharedStore
from agentq.store.waiting import PENDING, PUSHING, State, Waiting


@dataclass
class World:
    open: Callable[[], FileStore | SharedStore]
    spoil: Callable[[], None]
    lose: Callable[[], None]
    hub: Path | None = None

    def pushed(self, move: QueueMove | None) -> tuple[str, str]:
        if move is None or self.hub is None:
            return "landed", ""
        outcome, said = shared.branch(self.hub, move.objects.parent.parent).push(move.commit, move.expected)
        return {"pushed": "landed", "moved": "queue-moved"}[outcome], said


def write_branch(hub: Path, data: bytes | None, name: str = "queue.json") -> None:
    """Somebody pushes `data` with plain git, on top of what is there."""
    other = hub.parent / "somebody"
    if not other.exists():
        shared.git("clone", "-q", "-b", shared.BRANCH, str(hub), str(other), cwd=hub.parent)
    shared.git("pull", "-q", cwd=other)
    (other / name).write_bytes(data) if data is not None else (other / "queue.json").unlink()
    shared.git("add", "-A", cwd=other)
    shared.git("commit", "-qm", "by hand", cwd=other)
    shared.git("push", "-q", "origin", f"HEAD:{shared.BRANCH}", cwd=other)


class TestFileStore(StoreContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        path = write_queue(tmp_path / "agents", 3)
        return World(
            lambda: FileStore(path, tmp_path / "state"), lambda: path.write_bytes(b"\0" * 99) and None, path.unlink
        )


class TestSharedStore(StoreContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        hub = shared.make_hub(tmp_path, 3)
        return World(
            lambda: shared.store(hub, tmp_path / "host"),
            lambda: write_branch(hub, b"{"),
            lambda: shared.git("update-ref", "-d", f"refs/heads/{shared.BRANCH}", cwd=hub) and None,
            hub,
        )


class TestSharedStoreOfManyHosts(StoreContract):
    """The same when each process is on a host of its own."""

    @pytest.fixture
    def world(self, tmp_path: Path) -> World:
        hub = shared.make_hub(tmp_path, 3)
        made: list[SharedStore] = []

        def on_a_new_host() -> SharedStore:
            made.append(shared.store(hub, tmp_path / f"host{len(made)}"))
            return made[-1]

        return World(
            on_a_new_host,
            lambda: write_branch(hub, b"{"),
            lambda: shared.git("update-ref", "-d", f"refs/heads/{shared.BRANCH}", cwd=hub) and None,
            hub,
        )


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    return shared.make_hub(tmp_path, 3)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return tmp_path / "host"


def _names(hub: Path) -> list[str]:
    return [entry["id"] for entry in shared.queue_of(hub)["ready"]]


# ---------------------------------------------------------------- what travels


def test_changes_that_wait_travel_in_one_commit(hub: Path, host: Path) -> None:
    """The first push is slow; all that came meanwhile goes in the second."""

    class Slow(shared.Around):
        def push(self, commit: str, expected: str) -> tuple[str, str]:
            time.sleep(0.5)
            return self.inner.push(commit, expected)  # type: ignore[no-any-return]

    def work(name: str) -> None:
        SharedStore(Slow(shared.branch(hub, host)), host).update(Adding(name))

    shared.store(hub, host).read()
    workers = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [times(_names(hub), f"t{n}") for n in range(6)] == [1] * 6
    assert len(shared.history(hub)) <= 4, "six changes in at most three commits"
    shared.sound(hub)


def test_other_files_of_the_branch_stay(hub: Path, host: Path) -> None:
    write_branch(hub, b"hello", "README")
    shared.store(hub, host).update(Adding("one"))
    assert shared.git("ls-tree", "--name-only", shared.BRANCH, cwd=hub).split() == ["README", "queue.json"]


def test_a_refusal_never_rests_on_what_was_not_pushed(hub: Path, host: Path) -> None:
    """A neighbour's claim waits and will never be pushed, for its process is dead: the spec is still free."""
    store, waiting = shared.store(hub, host), Waiting(host)
    store.read()
    known = waiting.chain()[0]
    without = json.dumps({"ready": []}).encode()
    waiting.put(PENDING, State("gen", without, known.gen, {"op": "1/1/dead"}))
    assert store.update(lambda queue: transitions.hold(queue, "s1")).ready[1].held
    assert _names(hub) == ["s0", "s1", "s2"] and waiting.get(PENDING) is None


def test_a_push_that_a_dead_process_left_counts_if_it_arrived(hub: Path, host: Path) -> None:
    for arrived in (True, False):
        store, waiting = shared.store(hub, host), Waiting(host)
        queue = store.read().queue
        known = waiting.chain()[0]
        text = known.text.replace(b"Spec 1", b"Spec one" if arrived else b"Never")
        commit = store.remote.write(text, known.commit, [f"op-{arrived}"])
        waiting.put(PUSHING, State("gen", text, known.gen, {f"op-{arrived}": "1/1/dead"}, commit, known.commit))
        if arrived:
            assert store.remote.push(commit, known.commit)[0] == "pushed"
        store.update(Adding(f"after-{str(arrived).lower()}"))
        assert waiting.get(PUSHING) is None
        assert shared.queue_of(hub)["ready"][1]["title"] == "Spec one", queue
    shared.sound(hub)


@pytest.mark.parametrize("died", ["before the commit", "before the push", "after the push"])
def test_who_waits_for_a_pusher_that_dies_is_served_once(hub: Path, host: Path, died: str) -> None:
    pusher, waiting = shared.store(hub, host), Waiting(host)
    pusher.read()
    answers: list[list[str]] = []
    waiter = threading.Thread(target=lambda: answers.append(ids(shared.store(hub, host).update(Adding("waits")))))
    with waiting.turn("push"):
        waiter.start()
        while waiting.get(PENDING) is None:
            time.sleep(0.01)
        batch = pusher._take()
        assert batch is not None
        if died != "before the commit":
            batch = pusher._made(batch)
        if died == "after the push":
            assert pusher.remote.push(batch.commit, batch.parent)[0] == "pushed"
    waiter.join(30)
    assert answers == [_names(hub)] and times(_names(hub), "waits") == 1
    assert waiting.get(PUSHING) is None
    shared.sound(hub)


def test_a_look_that_took_long_never_takes_back_what_a_neighbour_pushed(host: Path) -> None:
    """The look sees the neighbour's first push before the neighbour says so, and ends after its second."""
    memory, fetched, go_on = shared.Memory(), threading.Event(), threading.Event()

    class SlowLook(shared.Around):
        def fetch(self, since: str = "") -> object:
            head = self.inner.fetch(since)
            fetched.set()
            assert go_on.wait(30)
            return head

    class Watched(shared.Around):
        def push(self, commit: str, expected: str) -> tuple[str, str]:
            answer = self.inner.push(commit, expected)
            reader.start() if not fetched.is_set() else None
            assert fetched.wait(30)
            return answer  # type: ignore[no-any-return]

    seen: list[list[str]] = []
    reader = threading.Thread(target=lambda: seen.append(ids(SharedStore(SlowLook(memory), host).read().queue)))
    SharedStore(memory, host).read()
    neighbour = SharedStore(Watched(memory), host)
    neighbour.update(Adding("first"))
    neighbour.update(Adding("second"))
    go_on.set()
    reader.join(30)
    memory.online = False
    last = SharedStore(memory, host).read().queue
    assert [times(ids(last), name) for name in ("first", "second")] == [1, 1]
    assert times(seen[0], "first") == 1


def test_a_push_never_takes_back_what_a_look_saw_after_it(host: Path) -> None:
    memory = shared.Memory()
    neighbour = SharedStore(memory, host)

    class Slow(shared.Around):
        def push(self, commit: str, expected: str) -> tuple[str, str]:
            answer = self.inner.push(commit, expected)
            SharedStore(memory, host.with_name("elsewhere")).update(Adding("later"))
            neighbour.read()
            return answer  # type: ignore[no-any-return]

    neighbour.read()
    SharedStore(Slow(memory), host).update(Adding("mine"))
    memory.online = False
    assert [times(ids(neighbour.read().queue), name) for name in ("mine", "later")] == [1, 1]


# ---------------------------------------------------------------- nobody knows


@pytest.mark.parametrize("word", ["lost", "silent", "late"])
def test_an_unknown_outcome_is_settled_and_nothing_happens_twice(hub: Path, host: Path, word: str) -> None:
    remote = Misreported(shared.branch(hub, host), [word])
    change = Adding("new")
    queue = SharedStore(remote, host).update(change)
    remote.arrive()
    assert times(_names(hub), "new") == 1
    assert [spec.id for spec in queue.ready] == _names(hub), "what is returned is what is there"
    assert change.decisions == {"lost": 2, "silent": 1, "late": 2}[word]
    shared.sound(hub)


def test_a_late_push_that_arrives_before_the_second_one_counts(hub: Path, host: Path) -> None:
    """The second decision loses to the first, and the answer is the first's."""
    remote = Misreported(shared.branch(hub, host), ["late"])
    original = remote.fetch

    def fetch(since: str = "") -> object:
        head = original(since)
        remote.arrive()  # right after the look that was to settle it
        return head

    remote.fetch = fetch  # type: ignore[attr-defined]
    store = SharedStore(remote, host)
    queue = store.update(Adding("new"))
    assert [spec.id for spec in queue.ready] == _names(hub) == ["s0", "s1", "s2", "new-d1"]
    shared.sound(hub)


def test_a_late_push_that_a_neighbour_sees_during_the_pause_counts(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is decided again on a state that holds the first decision already."""
    memory = shared.Memory()
    remote = Misreported(memory, ["late"])

    def pause(_seconds: float) -> None:
        remote.arrive()
        SharedStore(memory, host).read()

    monkeypatch.setattr("agentq.store.shared.time.sleep", pause)
    change = Adding("new")
    queue = SharedStore(remote, host).update(change)
    assert ids(queue) == memory.ids() == ["new-d1"] and change.decisions == 1


@pytest.mark.parametrize("word", ["lost", "silent"])
def test_unknown_and_unreachable_is_said_and_settled_later(hub: Path, host: Path, word: str) -> None:
    remote = Misreported(shared.branch(hub, host), [word])
    store = SharedStore(remote, host)
    store.read()
    hidden = hub.with_name("hidden.git")
    push = remote.push

    def push_and_vanish(commit: str, expected: str) -> tuple[str, str]:
        answer = push(commit, expected)
        hub.rename(hidden)
        return answer

    remote.push = push_and_vanish  # type: ignore[method-assign]
    with pytest.raises(ExternalError, match="not known") as caught:
        store.update(Adding("new"))
    assert caught.value.retryable
    hidden.rename(hub)
    remote.push = push  # type: ignore[method-assign]
    shared.store(hub, host).update(Adding("after"))
    assert times(_names(hub), "new") == (word == "silent") and times(_names(hub), "after") == 1
    shared.sound(hub)


def test_a_push_that_is_refused(hub: Path, host: Path) -> None:
    hook = hub / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'the branch is protected'\nexit 1\n")
    hook.chmod(0o755)
    store = shared.store(hub, host)
    with pytest.raises(StoreError, match="refused"):
        store.update(Adding("new"))
    hook.unlink()
    store.update(Adding("more"))
    assert times(_names(hub), "new") == 0 and times(_names(hub), "more") == 1


def test_a_remote_that_always_moves_is_given_up(hub: Path, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Moved(shared.Around):
        def push(self, commit: str, expected: str) -> tuple[str, str]:
            return "moved", "stale info"

    monkeypatch.setattr("agentq.store.shared.PAUSES", (0.0, 0.0))
    with pytest.raises(StoreError, match="30 times") as caught:
        SharedStore(Moved(shared.branch(hub, host)), host).update(Adding("new"))
    assert caught.value.retryable and times(_names(hub), "new") == 0


# ---------------------------------------------------------------- offline


def test_offline_reads_say_their_age_and_changes_are_refused(hub: Path, host: Path) -> None:
    store = shared.store(hub, host)
    store.read()
    hidden = hub.rename(hub.with_name("hidden.git"))
    time.sleep(0.05)
    for one in (store, shared.store(hub, host)):
        snapshot = one.read()
        assert ids(snapshot.queue) == ["s0", "s1", "s2"] and 0.05 <= snapshot.age < 30
    assert store.read(max_age=60).age == 0, "new enough for whoever asks"
    for change in (Adding("new"), lambda queue: transitions.hold(queue, "absent"), lambda queue: queue):
        with pytest.raises(ExternalError, match=r"cannot be changed.*cannot be reached.*nothing was changed"):
            store.update(change)  # type: ignore[arg-type]
    hidden.rename(hub)
    store.update(Adding("after"))
    assert _names(hub) == ["s0", "s1", "s2", "after-d1"]


def test_who_waited_behind_a_push_that_failed_is_told_and_nothing_comes_later(host: Path) -> None:
    memory, waiting = shared.Memory(), Waiting(host)

    class Offline(shared.Around):
        def push(self, commit: str, expected: str) -> tuple[str, str]:
            pushing.set()
            while waiting.get(PENDING) is None:
                time.sleep(0.01)
            return "offline", "no route"

    def work(name: str) -> None:
        with pytest.raises(ExternalError, match="nothing was changed"):
            SharedStore(Offline(memory), host).update(Adding(name))
        told.append(name)

    told: list[str] = []
    pushing = threading.Event()
    SharedStore(memory, host).read()
    workers = [threading.Thread(target=work, args=(name,)) for name in ("first", "second")]
    for worker in workers:
        worker.start()
        pushing.wait(30)
    for worker in workers:
        worker.join(30)
    assert sorted(told) == ["first", "second"]
    SharedStore(memory, host).update(Adding("after"))
    assert memory.ids() == ["after-d1"]


def test_offline_and_nothing_known(hub: Path, host: Path) -> None:
    store = shared.store(hub, host)
    hub.rename(hub.with_name("hidden.git"))
    for attempt in (store.read, lambda: store.update(Adding("new"))):
        with pytest.raises(ExternalError, match="cannot be reached"):
            attempt()


def test_those_who_wait_for_one_look_share_its_failure(host: Path) -> None:
    """Ten readers of a remote that hangs wait for one time-out, not for ten."""

    class Hanging(shared.Memory):
        looks = 0

        def fetch(self, since: str = "") -> object:  # type: ignore[override]
            self.looks += 1
            time.sleep(0.5)
            raise ExternalError("hangs", retryable=True)

    remote = Hanging()

    def read() -> None:
        with pytest.raises(ExternalError, match="hangs"):
            SharedStore(remote, host).read()

    readers = [threading.Thread(target=read) for _ in range(10)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(30)
    assert remote.looks <= 3


# ---------------------------------------------------------------- the branch is not what it should be


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"\0" * 50, None])
def test_unreadable_names_the_branch_and_is_never_written_over(
    hub: Path, host: Path, content: bytes | None
) -> None:
    store = shared.store(hub, host)
    store.update(Adding("kept"))
    write_branch(hub, content)
    before = shared.history(hub)
    for attempt in (
        store.read,
        lambda: store.update(Adding("new")),
        shared.store(hub, host.with_name("two")).read,
    ):
        with pytest.raises(QueueCorrupt, match="'agentq' on"):
            attempt()
    assert shared.history(hub) == before
    aside = store.restore()
    assert aside.read_bytes() == (content or b"")
    assert shared.history(hub)[1:] == before, "history keeps it"
    assert times([spec.id for spec in store.read().queue.ready], "kept") == 1


FOREIGN = [b'{"ready": [{"id": "s0"}]}', b"[]", b'{"ready": [], "of_tomorrow": 1}']


@pytest.mark.parametrize("content", FOREIGN)
def test_what_a_newer_agentq_wrote_is_never_rolled_back(hub: Path, host: Path, content: bytes) -> None:
    """Neither when it is the newest state nor when somebody broke the branch after it."""
    store = shared.store(hub, host)
    store.read()
    write_branch(hub, content)
    for broken in (False, True):
        if broken:
            write_branch(hub, b"{")
        else:
            with pytest.raises(QueueCorrupt) as caught:
                store.read()
            assert "newer agentq" in caught.value.hint and "--fix" not in caught.value.hint
        before = shared.history(hub)
        with pytest.raises(Refused, match="older state") as refused:
            store.restore()
        assert "newer agentq" in refused.value.hint and shared.history(hub) == before


def test_what_another_host_repaired_meanwhile_is_not_restored_over(host: Path) -> None:
    memory = shared.Memory(b"{")

    class Repaired(shared.Around):
        """Another host is done between two looks of this one."""

        def fetch(self, since: str = "") -> object:
            head = self.inner.fetch(since)
            if memory.head == "c0":
                memory.push(memory.write(shared.EMPTY, "c0", []), "c0")
            return head

    store = SharedStore(Repaired(memory), host)
    with pytest.raises(QueueCorrupt):
        store.read()
    with pytest.raises(StoreError, match="nothing to restore"):
        store.restore()
    assert len(memory.commits) == 2


def test_no_epoch_comes_again_after_restoring(hub: Path, host: Path) -> None:
    """The newest states may be lost, with the epochs they handed out."""
    store = shared.store(hub, host)
    store.update(lambda queue: queue.model_copy(update={"epoch": 7}))
    write_branch(hub, b"{")
    store.restore()
    assert shared.queue_of(hub)["epoch"] == 1007 and _names(hub) == ["s0", "s1", "s2"]


# ---------------------------------------------------------------- history that was replaced


def _force(hub: Path, steps: int, text: bytes | None = None) -> str:
    """A person pushes over the newest `steps` commits; returns the lost head."""
    lost = shared.history(hub)[0]
    other = hub.parent / "forcer"
    shared.git("clone", "-q", "-b", shared.BRANCH, str(hub), str(other), cwd=hub.parent)
    shared.git("reset", "-q", "--hard", f"HEAD~{steps}", cwd=other)
    if text is not None:
        (other / "queue.json").write_bytes(text)
        shared.git("commit", "-qam", "by hand", cwd=other)
    shared.git("push", "-qf", "origin", f"HEAD:{shared.BRANCH}", cwd=other)
    return lost


@pytest.mark.parametrize("text", [None, shared.EMPTY])
def test_replaced_history_is_seen_kept_and_told_once(hub: Path, host: Path, text: bytes | None) -> None:
    store = shared.store(hub, host)
    store.update(Adding("kept"))
    store.update(Adding("lost"))
    assert store.rewritten() == ""
    lost = _force(hub, 1, text)
    names = [] if text else ["s0", "s1", "s2", "kept-d1"]
    assert ids(store.read().queue) == names
    assert set(Waiting(host).chain()[0].ops) == set(shared.operations(hub)), "what was lost does not count"
    assert shared.git("rev-parse", f"refs/agentq/lost/{lost[:12]}", cwd=host / "queue.git") == lost
    said = shared.store(hub, host).rewritten()
    assert lost[:12] in said and str(host / "queue.git") in said
    assert shared.store(hub, host).rewritten() == ""
    store.update(Adding("after"))
    assert store.rewritten() == "" and times(_names(hub), "after") == 1


def test_a_change_that_only_a_lost_commit_had_is_decided_anew(host: Path) -> None:
    """It was pushed and nobody knew; a person replaced it, and another process of this host saw both."""
    memory = shared.Memory()
    neighbour = SharedStore(memory, host)

    class Replaced(shared.Around):
        done = False

        def push(self, commit: str, expected: str) -> tuple[str, str]:
            answer = self.inner.push(commit, expected)
            if self.done:
                return answer  # type: ignore[no-any-return]
            self.done = True
            neighbour.read()
            memory.head = "c0"
            neighbour.read()
            return "unknown", "no answer"

    change = Adding("new")
    queue = SharedStore(Replaced(memory), host).update(change)
    assert ids(queue) == memory.ids() == ["new-d2"]


# ---------------------------------------------------------------- a neighbour that is stopped


def test_a_stopped_process_does_not_stop_the_others(
    hub: Path, host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentq.store.waiting.CONTACT_SECONDS", 0.3)
    monkeypatch.setattr("agentq.trunk.branch.FETCH_SECONDS", 0.3)
    monkeypatch.setattr("agentq.store.copy.LOCK_SECONDS", 0.3)
    clone = tmp_path / "clone"
    store = shared.store(hub, host, WorkingCopy(clone / "queue.json", clone))
    store.read()
    with shared.stopped_with(host / "locks", "contact", "fetch"), shared.stopped_with(clone / "locks", "copy"):
        shared.store(hub, host.with_name("elsewhere")).update(Adding("theirs"))
        assert times(ids(store.read().queue), "theirs") == 1
        assert times(ids(store.update(Adding("ours"))), "ours") == 1
        (clone / "queue.edited").write_text("somewhere")
        store.check_copy()
        assert store.remote.machines() == {}
    shared.sound(hub)
    with pytest.raises(UserError, match="by hand"):
        store.check_copy()
    store.read()
    assert times([e["id"] for e in json.loads((clone / "queue.json").read_bytes())["ready"]], "ours") == 1


def test_what_is_fresh_is_read_while_another_process_looks(hub: Path, host: Path) -> None:
    store = shared.store(hub, host)
    store.read()
    with shared.stopped_with(host / "locks", "contact", "fetch", "state"):
        began = time.monotonic()
        assert ids(store.read(max_age=600).queue) == ["s0", "s1", "s2"]
        assert time.monotonic() - began < 5


def test_whoever_keeps_the_states_is_named(hub: Path, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentq.store.waiting.STATE_SECONDS", 0.3)
    store = shared.store(hub, host)
    store.read()
    with shared.stopped_with(host / "locks", "state"):
        for attempt in (store.read, lambda: store.update(Adding("new"))):
            with pytest.raises(StoreError, match=r"state\.lock") as caught:
                attempt()
            assert "stopped" in caught.value.hint
    store.update(Adding("new"))


# ---------------------------------------------------------------- the disk is full


def _full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written in `folder` any more; below it there is room."""
    replace = files.replace

    def refuse(path: Path, data: bytes, *, durable: bool = True) -> None:
        if path.parent == folder:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        replace(path, data, durable=durable)

    monkeypatch.setattr(files, "replace", refuse)


def test_a_full_disk_is_said_and_reading_goes_on(hub: Path, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = shared.store(hub, host)
    store.read()
    with monkeypatch.context() as patch:
        _full(host, patch)
        assert ids(store.read().queue) == ["s0", "s1", "s2"]
        for change in (Adding("new"), lambda queue: queue):
            with pytest.raises(ExternalError, match="No space left") as caught:
                store.update(change)  # type: ignore[arg-type]
            assert "free some disk space" in caught.value.hint and caught.value.retryable
    assert times(ids(store.update(Adding("after"))), "after") == 1
    assert times(_names(hub), "new") == 0


def test_a_disk_that_is_full_after_the_push_makes_no_failure_of_it(
    hub: Path, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Last(shared.Around):
        def push(self, commit: str, expected: str) -> tuple[str, str]:
            answer = self.inner.push(commit, expected)
            _full(host, patch)
            return answer  # type: ignore[no-any-return]

    change = Adding("new")
    with monkeypatch.context() as patch:
        store = SharedStore(Last(shared.branch(hub, host)), host)
        assert times(ids(store.update(change)), "new") == 1
    assert change.decisions == 1
    shared.store(hub, host).update(Adding("after"))
    assert ids(store.read().queue) == _names(hub)
    assert [times(_names(hub), name) for name in ("new", "after")] == [1, 1]
    shared.sound(hub)


def test_restoring_brings_back_what_others_did_last(hub: Path, host: Path) -> None:
    """This host has not seen the newest readable state; and what can be read is never restored over."""
    store = shared.store(hub, host)
    store.read()
    shared.store(hub, host.with_name("elsewhere")).update(Adding("theirs"))
    write_branch(hub, b"{")
    write_branch(hub, b"[")
    store.restore()
    assert times(_names(hub), "theirs") == 1
    with pytest.raises(StoreError, match="nothing to restore"):
        store.restore()
    assert len(shared.history(hub)) == 5


def test_gone_says_what_to_do(hub: Path, host: Path) -> None:
    store = shared.store(hub, host)
    store.read()
    shared.git("update-ref", "-d", "refs/heads/agentq", cwd=hub)
    for attempt in (store.read, lambda: store.update(Adding("new"))):
        with pytest.raises(ExternalError, match="gone") as caught:
            attempt()
        assert "agentq unshare" in caught.value.hint
    assert ids(store.last().queue) == ["s0", "s1", "s2"]


def test_a_damaged_file_of_the_host_is_an_absent_one(hub: Path, host: Path) -> None:
    store = shared.store(hub, host)
    store.read()
    for name in ("known", "pending", "pushing", "failed.json", "unreachable.json"):
        for content in (b"", b"\0" * 500, b"{}", b"{}\n", (host / "known").read_bytes()[:-3]):
            (host / name).write_bytes(content)
            shared.store(hub, host).update(Adding(f"n{time.monotonic_ns()}"))
    shared.sound(hub)


# ---------------------------------------------------------------- landing


def test_a_landing_takes_along_what_waits(hub: Path, host: Path) -> None:
    """Both are in the one commit that moved with trunk."""
    store, waiting = shared.store(hub, host), Waiting(host)
    store.read()
    with waiting.turn("push"):
        waiter = threading.Thread(target=shared.store(hub, host).update, args=(Adding("waits"),))
        waiter.start()
        while waiting.get(PENDING) is None:
            time.sleep(0.01)
        landed = store._land_once(_asked(Adding("lands")), _push(store))
    waiter.join(30)
    assert landed and landed.outcome == "landed"
    assert len(shared.history(hub)) == 2
    assert times(_names(hub), "waits") == times(_names(hub), "lands") == 1


@pytest.mark.parametrize("outcome", ["moved", "refused"])
def test_what_waits_is_not_lost_with_a_landing(hub: Path, host: Path, outcome: str) -> None:
    store, waiting = shared.store(hub, host), Waiting(host)
    store.read()
    with waiting.turn("push"):
        waiter = threading.Thread(target=shared.store(hub, host).update, args=(Adding("waits"),))
        waiter.start()
        while waiting.get(PENDING) is None:
            time.sleep(0.01)
        landed = store._land_once(_asked(Adding("lands")), lambda move: (outcome, "no"))
    assert landed and landed.outcome == outcome
    waiter.join(30)
    assert times(_names(hub), "waits") == 1 and times(_names(hub), "lands") == 0
    shared.sound(hub)


def test_a_landing_is_rebuilt_when_only_the_queue_moved(hub: Path, host: Path) -> None:
    store, pushes = shared.store(hub, host), 0

    def push(move: QueueMove | None) -> tuple[str, str]:
        nonlocal pushes
        pushes += 1
        if pushes <= 3:
            shared.store(hub, host.with_name("elsewhere")).update(Adding(f"other{pushes}"))
        return _push(store)(move)

    landed = store.land(Adding("lands"), push)
    assert landed.outcome == "landed" and pushes == 4
    assert landed.queue and ids(landed.queue) == _names(hub) and len(_names(hub)) == 7
    shared.sound(hub)


@pytest.mark.parametrize("arrives", [True, False])
def test_an_unknown_landing_is_settled_by_reading_back(hub: Path, host: Path, arrives: bool) -> None:
    store = shared.store(hub, host)

    def push(move: QueueMove | None) -> tuple[str, str]:
        if arrives:
            _push(store)(move)
        return "unknown", "no answer"

    landed = store.land(Adding("lands"), push)
    assert landed.outcome == ("landed" if arrives else "moved")
    assert times(_names(hub), "lands") == arrives


def test_an_unknown_landing_stays_unknown_offline(hub: Path, host: Path) -> None:
    store, hidden = shared.store(hub, host), hub.with_name("hidden.git")

    def push(move: QueueMove | None) -> tuple[str, str]:
        answer = _push(store)(move)
        hub.rename(hidden)
        return "unknown", answer[1]

    assert store.land(Adding("lands"), push).outcome == "unknown"
    hidden.rename(hub)
    assert times(ids(store.read().queue), "lands") == 1
    store.update(Adding("after"))
    shared.sound(hub)


def test_a_landing_whose_change_is_refused_pushes_nothing(hub: Path, host: Path) -> None:
    store = shared.store(hub, host)

    def change(queue: object) -> object:
        raise Refused("the lease is gone")

    with pytest.raises(Refused):
        store.land(change, lambda move: pytest.fail("pushed"))  # type: ignore[arg-type]


def test_a_landing_that_changes_nothing_still_fences(hub: Path, host: Path) -> None:
    store = shared.store(hub, host)
    assert store.land(lambda queue: queue, _push(store)).outcome == "landed"
    assert len(shared.history(hub)) == 2 and _names(hub) == ["s0", "s1", "s2"]


def _push(store: SharedStore) -> Callable[[QueueMove | None], tuple[str, str]]:
    def push(move: QueueMove | None) -> tuple[str, str]:
        assert move is not None and move.ref == "refs/heads/agentq"
        outcome, said = store.remote.push(move.commit, move.expected)
        return {"pushed": "landed", "moved": "queue-moved"}[outcome], said

    return push


def _asked(change: Adding) -> object:
    from agentq.store.shared import _Change

    return _Change(change, time.time())


# ---------------------------------------------------------------- the copy


def test_the_copy_follows_and_an_edit_is_set_aside_and_told_once(hub: Path, host: Path, tmp_path: Path) -> None:
    path = tmp_path / "clone" / "agents" / "queue.json"
    store = shared.store(hub, host, WorkingCopy(path, tmp_path / "clone" / "state"))
    store.read()
    store.check_copy()
    store.update(Adding("new"))
    assert path.read_bytes() == Waiting(host).chain()[0].text
    path.write_text('{"ready": []}')
    with pytest.raises(UserError, match="edited by hand") as caught:
        store.check_copy()
    (aside,) = path.parent.glob("queue.edited-*.json")
    assert aside.read_text() == '{"ready": []}' and aside.name in caught.value.hint
    assert path.read_bytes() == Waiting(host).chain()[0].text
    store.check_copy()


def test_an_edit_during_a_run_is_told_at_the_next_start(hub: Path, host: Path, tmp_path: Path) -> None:
    path, state = tmp_path / "clone" / "agents" / "queue.json", tmp_path / "clone" / "state"
    store = shared.store(hub, host, WorkingCopy(path, state))
    store.read()
    path.write_text("my edit")
    store.update(Adding("new"))
    assert times([e["id"] for e in json.loads(path.read_bytes())["ready"]], "new") == 1
    with pytest.raises(UserError, match="edited by hand"):
        shared.store(hub, host, WorkingCopy(path, state)).check_copy()
    assert next(path.parent.glob("queue.edited-*.json")).read_text() == "my edit"


def test_what_a_clone_had_before_is_kept_without_a_word(hub: Path, host: Path, tmp_path: Path) -> None:
    path = tmp_path / "clone" / "agents" / "queue.json"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    store = shared.store(hub, host, WorkingCopy(path, tmp_path / "clone" / "state"))
    store.read()
    store.check_copy()
    assert next(path.parent.glob("queue.local-*.json")).read_text() == "mine"


def test_neighbours_that_refresh_one_copy_never_see_an_edit(hub: Path, host: Path, tmp_path: Path) -> None:
    path, state = tmp_path / "clone" / "agents" / "queue.json", tmp_path / "clone" / "state"

    def work(number: int) -> None:
        store = shared.store(hub, host, WorkingCopy(path, state))
        for turn in range(5):
            store.update(Adding(f"t{number}-{turn}"))
            store.check_copy()

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(os.listdir(path.parent)) == ["queue.json"]
    assert path.read_bytes() == Waiting(host).chain()[0].text
