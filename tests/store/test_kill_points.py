"""SIGKILL, EIO and ENOSPC at every write, fsync and rename of one queue update, made by strace; then the same
command again (reliability facts 1–3)."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.queues import write_queue

from agentq.core.document import Reader
from agentq.store.file import FileStore

CLAIM = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from agentq.core import queue as t
from agentq.core.spec import InProgress
from agentq.errors import AgentqError
from agentq.store.file import FileStore
store = FileStore(Path(sys.argv[1]), Path(sys.argv[2]))
who = t.Claim("m", 1, datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1))
def claim(queue):
    mine = isinstance(t.find(queue, "s1"), InProgress)
    return queue if mine else t.claim(queue, "s1", who)
try:
    store.update(claim)
except AgentqError as error:
    print(error.message, "|", error.hint)
    sys.exit(1)
"""
CALLS = "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2"
FAULTS = ("signal=SIGKILL", "error=EIO", "error=ENOSPC")

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def _traced(
    tmp_path: Path, queue: Path, state: Path, *inject: str
) -> "tuple[subprocess.CompletedProcess[str], str]":
    log = tmp_path / "strace.log"
    done = subprocess.run(
        ["strace", "-o", str(log), "-y", "-e", f"trace={CALLS}", *inject, sys.executable, "-B", "-c", CLAIM,
         str(queue), str(state)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done, log.read_text()


def _new(tmp_path: Path, name: str) -> tuple[Path, Path]:
    queue = write_queue(tmp_path / name / "agents", 3)
    return queue, tmp_path / name / "state"


def _counts(tmp_path: Path) -> dict[str, int]:
    """How often an update makes each call, without faults. Skips where strace may not trace."""
    queue, state = _new(tmp_path, "count")
    done, log = _traced(tmp_path, queue, state)
    if "ptrace" in done.stderr.lower() or "not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = {}
    for name in re.findall(r"^(\w+)\(", log, re.MULTILINE):
        found[name] = found.get(name, 0) + 1
    return found


def test_every_write_fsync_and_rename_may_fail_or_be_the_last(tmp_path: Path) -> None:
    counts = _counts(tmp_path)
    assert counts.get("fsync", 0) >= 2 and sum(v for k, v in counts.items() if k.startswith("rename")) >= 2, counts
    points = 0
    for call, count in sorted(counts.items()):
        for when in range(1, count + 1):
            for fault in FAULTS:
                points += 1
                _one_point(tmp_path, f"{call}-{when}-{fault[-4:]}", f"inject={call}:{fault}:when={when}", fault)
    print(f"{points} points: {counts}")


def _one_point(tmp_path: Path, name: str, inject: str, fault: str) -> None:
    queue, state = _new(tmp_path, name)
    done, log = _traced(tmp_path, queue, state, "-e", inject)
    assert "INJECTED" in log or "killed by SIGKILL" in log, f"{name}: the fault did not happen"
    if fault == FAULTS[0]:
        assert done.returncode in (-9, 137), name
    seen = Reader().parse(queue.read_text()).queue
    claimed = [entry.id for entry in seen.in_progress]
    assert claimed in ([], ["s1"]), name
    assert sorted([*claimed, *(entry.id for entry in seen.ready)]) == ["s0", "s1", "s2"], name
    if done.returncode == 0:
        assert claimed == ["s1"], f"{name}: it said yes"
    elif fault != FAULTS[0]:
        assert done.stdout.strip(), f"{name}: an error without a word: {done.stderr}"
        assert ("not changed" in done.stdout) is (claimed == []), f"{name}: {done.stdout}"
        assert fault != FAULTS[2] or "free some disk space" in done.stdout
    again = subprocess.run(
        [sys.executable, "-B", "-c", CLAIM, str(queue), str(state)], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, f"{name}: {again.stdout}{again.stderr}"
    after = FileStore(queue, state).read().queue
    assert [(e.id, e.lease.epoch) for e in after.in_progress] == [("s1", 1)], name
    assert [e.id for e in after.ready] == ["s0", "s2"] and after.epoch == 1, name
    assert not list(queue.parent.glob(".*.tmp")) or (fault == FAULTS[0] and claimed), name
