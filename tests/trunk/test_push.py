"""What a push did, read from what git really says (landing facts 5 and 9)."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentq.trunk.git import Output
from agentq.trunk.mirror import Mirror
from agentq.trunk.push import Answer, understand

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
TRUNK, QUEUE = "refs/heads/main", "refs/heads/agentq"
BOTH = pytest.mark.parametrize("both", [False, True], ids=["trunk", "with the queue"])


class Move(NamedTuple):
    ref: str
    commit: str
    expected: str
    objects: Path


class Hub:
    """A hub with a trunk and a queue, and a mirror of it. The objects of the queue lie elsewhere, as on a host."""

    def __init__(self, root: Path, *, bare: bool = True, timeout: float = 20) -> None:
        self.path = root / "hub"
        subprocess.run(
            ["git", "init", "-q", "-b", "main", *(["--bare"] if bare else []), str(self.path)], check=True
        )
        self.queue = Mirror(root / "queue.git", str(self.path), "agentq", {}, timeout)
        self.mirror = Mirror(root / "mirror.git", str(self.path), "main", {}, timeout)
        self.others = Mirror(root / "others.git", str(self.path), "main", {}, timeout)
        for one in (self.mirror, self.queue, self.others):
            one.ensure()
        self.config("receive.denyCurrentBranch", "ignore")
        self.trunk, self.at = self.commit(self.mirror, "trunk"), self.commit(self.queue, "queue")
        self.mirror.git("push", "--quiet", str(self.path), f"{self.trunk}:{TRUNK}")
        self.queue.git("push", "--quiet", str(self.path), f"{self.at}:{QUEUE}")
        self.others.git("fetch", "--quiet", str(self.path), "+refs/heads/*:refs/heads/*")

    @staticmethod
    def commit(mirror: Mirror, name: str, parent: str = "") -> str:
        return mirror.commit_tree(EMPTY_TREE, [parent] if parent else [], name)

    def elsewhere(self, ref: str) -> str:
        """Somebody else moves a ref."""
        commit = self.commit(self.others, "other", self.trunk if ref == TRUNK else self.at)
        self.others.git("push", "--quiet", str(self.path), f"{commit}:{ref}")
        return commit

    def at_ref(self, ref: str) -> str:
        return self.others.git("ls-remote", str(self.path), ref).text.split("\t")[0]

    def config(self, key: str, value: str) -> None:
        self.others.git("-C", str(self.path), "config", key, value)

    def hook(self, name: str, text: str) -> None:
        bare = self.path / "hooks"
        folder = bare if bare.exists() else self.path / ".git" / "hooks"
        script = folder / name
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)

    def land(self, both: bool, expected: str = "", queue: str = "") -> tuple[Answer, bool]:
        """Push a new commit, with one of the queue if `both`. The answer, and whether everything moved; nothing
        moves by half."""
        top = self.commit(self.mirror, "landing", self.trunk)
        also = None
        if both:
            change = self.commit(self.queue, "completed", self.at)
            also = Move(QUEUE, change, queue or self.at, self.queue.path / "objects")
        answer = self.mirror.push(top, expected or self.trunk, "marker", also)
        moved = [self.at_ref(TRUNK) == top, *([self.at_ref(QUEUE) == also.commit] if also else [])]
        assert len(set(moved)) == 1, "half of it"
        return answer, moved[0]


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path)


@BOTH
def test_landed(hub: Hub, both: bool) -> None:
    answer, moved = hub.land(both)
    assert answer.outcome == "landed" and moved


@BOTH
def test_trunk_moved(hub: Hub, both: bool) -> None:
    other = hub.elsewhere(TRUNK)
    answer, moved = hub.land(both)
    assert answer.outcome == "moved" and not moved and hub.at_ref(TRUNK) == other


def test_only_the_queue_moved(hub: Hub) -> None:
    other = hub.elsewhere(QUEUE)
    answer, moved = hub.land(True)
    assert answer.outcome == "queue-moved" and not moved and hub.at_ref(QUEUE) == other
    assert "atomic push fail" in answer.said


def test_both_moved(hub: Hub) -> None:
    hub.elsewhere(TRUNK)
    hub.elsewhere(QUEUE)
    answer, moved = hub.land(True)
    assert answer.outcome == "moved" and not moved


@BOTH
def test_moved_in_the_moment_between_the_look_and_the_update(hub: Hub, both: bool) -> None:
    """The hub finds out itself, when it takes the lock of the ref."""
    other = hub.commit(hub.others, "other", hub.trunk)
    hub.others.git("push", "--quiet", str(hub.path), f"{other}:refs/heads/spare")
    hub.hook("pre-receive", f"env -u GIT_QUARANTINE_PATH git update-ref {TRUNK} {other}")
    answer, moved = hub.land(both)
    assert answer.outcome == "moved" and not moved, answer


def test_the_queue_moved_in_that_moment(hub: Hub) -> None:
    other = hub.commit(hub.others, "other", hub.at)
    hub.others.git("push", "--quiet", str(hub.path), f"{other}:refs/heads/spare")
    hub.hook("pre-receive", f"env -u GIT_QUARANTINE_PATH git update-ref {QUEUE} {other}")
    answer, moved = hub.land(True)
    assert answer.outcome == "queue-moved" and not moved, answer


@BOTH
@pytest.mark.parametrize("hook", ["pre-receive", "update"])
def test_refused_by_a_hook_says_what_the_hook_says(hub: Hub, both: bool, hook: str) -> None:
    hub.hook(hook, "echo 'trunk is closed on Fridays' >&2; exit 1")
    answer, moved = hub.land(both)
    assert answer.outcome == "refused" and not moved
    assert "hook declined" in answer.said and "closed on Fridays" in answer.said


def test_the_queues_ref_alone_is_refused(hub: Hub) -> None:
    """A rule of the hub for the queue's branch: no retry helps, and the words name it."""
    hub.hook("update", f"[ $1 = {QUEUE} ] && echo 'no queue here' >&2 && exit 1; exit 0")
    answer, moved = hub.land(True)
    assert answer.outcome == "refused" and not moved and "no queue here" in answer.said, answer


@BOTH
def test_main_is_checked_out_there(tmp_path: Path, both: bool) -> None:
    hub = Hub(tmp_path, bare=False)
    hub.config("receive.denyCurrentBranch", "refuse")  # git's default
    answer, moved = hub.land(both)
    assert answer.outcome == "refused" and not moved
    assert "branch is currently checked out" in answer.said


@BOTH
def test_no_time_is_left_and_it_did_not_arrive(tmp_path: Path, both: bool) -> None:
    hub = Hub(tmp_path, timeout=1)
    hub.hook("pre-receive", "sleep 10")
    began = time.monotonic()
    answer, moved = hub.land(both)
    assert answer.outcome == "unknown" and not moved and time.monotonic() - began < 8
    assert "no answer within 1 s" in answer.said


@BOTH
def test_no_time_is_left_and_it_did_arrive(tmp_path: Path, both: bool) -> None:
    hub = Hub(tmp_path, timeout=1)
    hub.hook("post-receive", "sleep 10")
    answer, moved = hub.land(both)
    assert answer.outcome == "unknown" and moved


@BOTH
@pytest.mark.parametrize("hook", ["pre-receive", "post-receive"])
def test_the_push_is_killed(hub: Hub, both: bool, hook: str) -> None:
    reached = hub.path / "reached"
    hub.hook(hook, f"touch {reached}; sleep 1; [ {hook} = post-receive ]")
    killer = threading.Thread(target=_kill_push, args=(reached,))
    killer.start()
    answer, moved = hub.land(both)
    killer.join()
    assert answer.outcome == "unknown" and moved == (hook == "post-receive"), answer


def _kill_push(reached: Path) -> None:
    """SIGKILL to the push that this process started; the hub goes on without it."""
    while not reached.exists():
        time.sleep(0.01)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = (stat.parent / "cmdline").read_bytes().split(b"\0")
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid() and b"push" in words:
            os.kill(int(stat.parent.name), signal.SIGKILL)


def test_a_remote_that_cannot_push_atomically_says_so_once(hub: Hub) -> None:
    """Trying again never helps: it is no 'unknown' and no 'moved'."""
    hub.config("receive.advertiseAtomic", "false")
    answer, moved = hub.land(True)
    assert answer.outcome == "refused" and not moved
    assert "does not support --atomic push" in answer.said
    answer, moved = hub.land(False)
    assert answer.outcome == "landed" and moved, "a queue on one host needs none"


@BOTH
def test_a_remote_that_is_not_there(hub: Hub, both: bool) -> None:
    also = Move(QUEUE, hub.at, hub.at, hub.queue.path / "objects") if both else None
    hub.mirror.url = str(hub.path / "gone")
    answer = hub.mirror.push(hub.commit(hub.mirror, "top", hub.trunk), hub.trunk, also=also)
    assert answer.outcome == "unknown" and "does not appear to be a git repository" in answer.said


def test_the_very_same_landing_twice_is_landed(hub: Hub) -> None:
    """Our own push, whose answer was lost, is pushed again: trunk is where it should be."""
    top = hub.commit(hub.mirror, "landing", hub.trunk)
    assert hub.mirror.push(top, hub.trunk).outcome == "landed"
    assert hub.mirror.push(top, hub.trunk).outcome == "landed"
    assert hub.at_ref(TRUNK) == top


def test_a_trunk_that_is_gone_is_not_made_anew(hub: Hub) -> None:
    subprocess.run(["git", "update-ref", "-d", TRUNK], cwd=hub.path, check=True)
    answer, moved = hub.land(False)
    assert answer.outcome == "moved" and not moved, answer


@BOTH
def test_the_remote_hangs_up_before_it_says_what_it_did(hub: Hub, both: bool) -> None:
    """git writes '!' then, although the push has arrived: no refusal."""
    hub.hook("reference-transaction", "[ $1 = committed ] && kill -9 $PPID; exit 0")
    answer, moved = hub.land(both)
    assert moved and answer.outcome == "unknown", answer


REF = "0123456789abcdef:refs/heads/main"


@pytest.mark.parametrize(
    ("output", "outcome"),
    [
        (Output(0, b"", ""), "unknown"),  # no line about trunk: nothing is known
        (Output(0, f"=\t{REF}\t[up to date]\nDone\n".encode(), ""), "landed"),
        (Output(1, f" \t{REF}\ta..b\n".encode(), "error: the hub hung up"), "unknown"),  # rc and lines disagree
        (Output(-9, f" \t{REF}\ta..b\n".encode(), ""), "unknown"),
        (Output(1, f"!\t{REF}\t[remote rejected] (unpacker error)\nDone\n".encode(), ""), "refused"),
        (Output(1, f"!\t{REF}\t[remote failure] (remote failed to report status)\n".encode(), ""), "unknown"),
        (Output(0, b" \t0123:refs/heads/other-main\ta..b\n", ""), "unknown"),
    ],
    ids=["silence", "same", "disagree", "killed", "unpacker", "no report", "another ref"],
)  # fmt: skip
def test_words_of_remotes_that_are_not_here(output: Output, outcome: str) -> None:
    assert understand(output, TRUNK).outcome == outcome


def test_a_mutant_that_reads_only_the_status_is_seen(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the porcelain lines every failure looks alike: the queue that moved would cost a test run."""
    from agentq.trunk import push

    def blind(output: Any, trunk: str, queue: str = "") -> Answer:
        return Answer("landed" if output.rc == 0 else "moved", "")

    hub.elsewhere(QUEUE)
    seen: Callable[[], str] = lambda: hub.land(True)[0].outcome  # noqa: E731
    assert seen() == "queue-moved"
    monkeypatch.setattr(push, "understand", blind)
    assert seen() == "moved"
