"""The file store under many processes, readers that never rest, crashes and a full disk."""

import json
import os
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.queues import write_queue
from support.size import FULL

from agentq.core import queue as transitions
from agentq.core.document import Reader
from agentq.core.spec import Queue
from agentq.errors import QueueCorrupt, QueueError, Refused, StoreError
from agentq.store.file import FileStore

CLAIM = transitions.Claim("m", 1, datetime.now(UTC), timedelta(hours=1))
DRAIN = """
import sys, random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from agentq.core import queue as t
from agentq.errors import Refused, Stale
from agentq.store.file import FileStore
store = FileStore(Path(sys.argv[1]), Path(sys.argv[2]))
me, log = sys.argv[3], open(sys.argv[4], "a")
now = datetime.now(UTC)
mine = None
while True:
    def step(queue):
        global mine, done
        done = mine
        if mine:
            for stage in ("test", "implement"):
                queue = t.begin(queue, *mine, stage, now, timedelta(hours=1))
                queue = t.finish(queue, *mine, stage, 1.0)
            queue = t.begin(queue, *mine, "verify", now, timedelta(hours=1))
            queue = t.complete(queue, *mine, "a" * 40, now)
        if not queue.ready:
            mine = None
            return queue
        # far apart, so that processes do not only take the first
        spec = queue.ready[random.randrange(min(len(queue.ready), 50))].id
        queue = t.claim(queue, spec, t.Claim(me, 1, now, timedelta(hours=1)))
        mine = (spec, queue.epoch)
        return queue
    store.update(step)
    if done:
        log.write(f"done {done[0]} {done[1]}\\n")
    if mine is None:
        break
    log.write(f"claim {mine[0]} {mine[1]}\\n")
    log.flush()
"""


def _start(code: str, *args: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *args])


def test_64_processes_drain_a_queue_while_readers_look(tmp_path: Path) -> None:
    count = 2000 if FULL else 250
    path = write_queue(tmp_path / "agents", count)
    state, log = tmp_path / "state", tmp_path / "log"
    workers = [_start(DRAIN, str(path), str(state), f"m{n}", f"{log}{n}") for n in range(64)]
    reader, reads = Reader(), 0
    while any(worker.poll() is None for worker in workers):
        text = path.read_text()
        queue = reader.parse(text).queue
        total = len(queue.ready) + len(queue.in_progress) + len(queue.completed)
        assert total == count, "no reader ever sees a spec missing or twice"
        reads += 1
        time.sleep(0.02)
    assert [worker.returncode for worker in workers] == [0] * 64
    queue = reader.parse(path.read_text()).queue
    assert len(queue.completed) == count and not queue.ready and not queue.in_progress
    lines = [line.split() for n in range(64) for line in Path(f"{log}{n}").read_text().splitlines()]
    claims = [(spec, epoch) for what, spec, epoch in lines if what == "claim"]
    assert len(claims) == len({spec for spec, _ in claims}) == len({epoch for _, epoch in claims}) == count
    assert sorted(claims) == sorted((spec, epoch) for what, spec, epoch in lines if what == "done")
    assert reads > 20 and not list(path.parent.glob(".*.tmp"))


def _store(tmp_path: Path, count: int = 3) -> FileStore:
    return FileStore(write_queue(tmp_path / "agents", count), tmp_path / "state")


def test_what_a_change_raises_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    store = _store(tmp_path)
    before = store.path.read_bytes()
    with pytest.raises(Refused):
        store.update(lambda queue: transitions.claim(transitions.pause(queue), "s0", CLAIM))
    assert store.path.read_bytes() == before


def test_an_unchanged_queue_is_not_written(tmp_path: Path) -> None:
    store = _store(tmp_path)
    before = os.stat(store.path).st_mtime_ns, os.stat(store.path).st_ino
    store.update(lambda queue: queue)
    assert (os.stat(store.path).st_mtime_ns, os.stat(store.path).st_ino) == before


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", QueueError), (b"\0" * 400, QueueCorrupt), (b'{"ready": [', QueueError),
        (b"\xff\xfe{}", QueueCorrupt), (b'{"ready": [{"id": "a"}]}', QueueError),
    ],
)  # fmt: skip
def test_unreadable_is_an_error_and_stays_as_it_is(tmp_path: Path, content: bytes, error: type[Exception]) -> None:
    store = _store(tmp_path)
    store.path.write_bytes(content)
    for action in (store.read, lambda: store.update(transitions.resume)):
        with pytest.raises(error) as caught:
            action()
        assert str(store.path) in caught.value.message  # type: ignore[attr-defined]
    assert store.path.read_bytes() == content


def test_a_missing_or_odd_file_is_an_error(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.path.unlink()
    with pytest.raises(QueueError, match="missing"):
        store.read()
    store.path.mkdir()
    with pytest.raises(QueueCorrupt):
        store.read()


def test_restore_sets_the_unreadable_aside(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.update(lambda queue: transitions.pause(queue, "lunch"))
    good = store.path.read_bytes()
    store.path.write_bytes(b"\0" * len(good))
    aside = store.restore()
    assert store.path.read_bytes() == good and aside.read_bytes() == b"\0" * len(good)
    assert store.read().queue.paused == "lunch"


def test_restore_without_a_backup_changes_nothing(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.path.write_bytes(b"{")
    with pytest.raises(StoreError, match="no readable backup"):
        store.restore()
    assert store.path.read_bytes() == b"{"


def test_mode_and_symbolic_link_of_the_file_stay(tmp_path: Path) -> None:
    store = _store(tmp_path)
    real = tmp_path / "real.json"
    store.path.rename(real)
    real.chmod(0o640)
    store.path.symlink_to(real)
    store.update(lambda queue: transitions.pause(queue))
    assert store.path.is_symlink() and json.loads(real.read_text())["paused"] is True
    assert real.stat().st_mode & 0o777 == 0o640


def test_stale_temporary_files_are_swept(tmp_path: Path) -> None:
    store = _store(tmp_path)
    stale = store.path.with_name(".queue.json.99999.tmp")
    stale.write_text("half")
    store.update(lambda queue: transitions.pause(queue))
    assert not stale.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small tmpfs")
def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        store = FileStore(write_queue(small / "agents", 20), tmp_path / "state")
        before = store.path.read_bytes()
        (small / "ballast").write_bytes(b"x" * 52_000)
        with pytest.raises(StoreError, match="not changed") as caught:
            for n in range(50):
                store.update(lambda queue, n=n: transitions.hold(queue, "s1", "x" * (n % 5 + 190)))  # type: ignore[misc]
                before = store.path.read_bytes()
                with (small / "ballast").open("ab") as file:
                    file.write(b"x" * 2000)
        assert "free some disk space" in caught.value.hint
        assert store.path.read_bytes() == before and not list(store.path.parent.glob(".*.tmp"))
        (small / "ballast").unlink()
        assert store.update(lambda queue: transitions.pause(queue, "again")).paused == "again"
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_reading_leaves_a_mark_of_validity(tmp_path: Path) -> None:
    store = _store(tmp_path)
    digest = store.read().digest
    assert (tmp_path / "state" / "queue.valid").read_text() == digest
    queue = store.update(lambda queue: transitions.pause(queue))
    assert isinstance(queue, Queue)
    assert (tmp_path / "state" / "queue.valid").read_text() == store.read().digest != digest
