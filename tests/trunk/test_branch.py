"""The git side of the shared queue, against real bare repositories."""

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support import shared

from agentq.errors import ExternalError
from agentq.trunk import branch as module
from agentq.trunk.branch import Head, QueueBranch
from agentq.trunk.git import Git


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "hub.git")], check=True)
    return tmp_path / "hub.git"


@pytest.fixture
def queue(hub: Path, tmp_path: Path) -> QueueBranch:
    return shared.branch(hub, tmp_path / "host")


def test_a_missing_branch_is_not_an_empty_one(queue: QueueBranch) -> None:
    assert queue.fetch() == Head("", None)


def test_only_one_creates(queue: QueueBranch, hub: Path, tmp_path: Path) -> None:
    outcome, commit = queue.create(b"one")
    assert outcome == "pushed"
    assert shared.branch(hub, tmp_path / "other").create(b"one")[0] == "moved"
    assert queue.fetch() == Head(commit, b"one", ())


def test_write_push_fetch(queue: QueueBranch) -> None:
    _, first = queue.create("ä\n".encode())
    second = queue.write(b"two", first, ["a", "b"])
    third = queue.write(b"", second, ["c"])
    assert queue.push(second, first)[0] == "pushed"
    assert queue.fetch(first) == Head(second, b"two", ("a", "b"))
    assert queue.push(third, second)[0] == "pushed"
    assert queue.fetch(second) == Head(third, b"", ("c",))
    assert queue.fetch(third) == Head(third)
    assert set(queue.fetch().ops) == {"a", "b", "c"}
    assert set(queue.fetch("1" * 40).ops) == {"a", "b", "c"}, "a commit nobody has: all that is remembered"
    assert not queue.fetch(first).rewritten


def test_a_commit_that_the_branch_lost(queue: QueueBranch) -> None:
    _, first = queue.create(b"one")
    second = queue.write(b"two", first, ["a", "b"])
    third = queue.write(b"three", second, ["c"])
    assert queue.push(third, first)[0] == "pushed" and queue.fetch(first).commit == third
    for head in (second, queue.write(b"other", second, ["d"])):
        shared.git("push", "-qf", queue.url, f"{head}:refs/heads/agentq", cwd=queue.path)
        found = queue.fetch(third)
        assert found.rewritten and found.commit == head and set(found.ops) - {"d"} == {"a", "b"}
        assert queue.git("rev-parse", f"refs/agentq/lost/{third[:12]}").text == third


def test_a_push_that_lost(queue: QueueBranch) -> None:
    _, first = queue.create(b"one")
    ours, theirs = queue.write(b"two", first, ["a"]), queue.write(b"two", first, ["a"])
    assert ours != theirs, "the same change in the same second is another commit"
    assert queue.push(theirs, first)[0] == "pushed"
    assert queue.push(ours, first)[0] == "moved"
    assert queue.push(theirs, first)[0] == "moved", "'=' is no win"
    assert queue.push(theirs, theirs)[0] == "moved"
    assert queue.fetch().commit == theirs


@pytest.mark.parametrize("url", ["/nowhere/hub.git", "ssh://127.0.0.1:1/x", "http://127.0.0.1:1/x"])
def test_unreachable(hub: Path, tmp_path: Path, url: str) -> None:
    queue = QueueBranch(tmp_path / "host" / "queue.git", url, "agentq", {}, 20)
    queue.ensure()
    commit = queue.write(b"one", "", [])
    assert queue.push(commit, "")[0] == "offline"
    for attempt in (queue.fetch, queue.machines):
        with pytest.raises(ExternalError, match="cannot be reached") as caught:
            attempt()
        assert caught.value.retryable


def test_no_password_is_shown(tmp_path: Path) -> None:
    assert "secret" not in QueueBranch(tmp_path, "https://me:secret@host/x", "agentq", {}, 1).name


def test_a_time_out_is_not_known(queue: QueueBranch, hub: Path) -> None:
    _, first = queue.create(b"one")
    hook = hub / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nsleep 5\n")
    hook.chmod(0o755)
    slow = QueueBranch(queue.path, queue.url, "agentq", {}, 1)
    assert slow.push(slow.write(b"two", first, ["a"]), first)[0] == "unknown"
    hook.write_text("#!/bin/sh\necho no; exit 1\n")
    outcome, said = queue.push(queue.write(b"two", first, ["a"]), first)
    assert outcome == "refused" and "no" in said


def test_delete_only_what_was_seen(queue: QueueBranch) -> None:
    _, first = queue.create(b"one")
    second = queue.write(b"two", first, [])
    queue.push(second, first)
    assert queue.delete(first)[0] == "moved"
    assert queue.delete(second)[0] == "pushed"
    assert queue.fetch() == Head("", None)
    assert queue.delete(second)[0] == "moved"


def test_keep(queue: QueueBranch, tmp_path: Path) -> None:
    _, first = queue.create(b"one")
    queue.fetch()
    shared.git("init", "-q", str(tmp_path / "person"), cwd=tmp_path)
    queue.keep(tmp_path / "person" / ".git", "refs/agentq/salvage/queue/x")
    assert shared.git("rev-parse", "refs/agentq/salvage/queue/x", cwd=tmp_path / "person") == first


def test_locks_that_a_killed_git_left(queue: QueueBranch) -> None:
    _, first = queue.create(b"one")
    queue.fetch()
    (queue.path / "refs" / "agentq" / "queue.lock").touch()
    queue.push(queue.write(b"two", first, []), first)
    assert queue.fetch(first).data == b"two"
    held = os.open(queue.path / "refs" / "agentq" / "queue.lock", os.O_CREAT | os.O_RDONLY)
    head = queue.fetch()
    queue.push(queue.write(b"three", head.commit, []), head.commit)
    with pytest.raises(ExternalError, match="lock"):
        queue.fetch(head.commit)
    os.close(held)
    assert queue.fetch(head.commit).data == b"three"


def test_the_repository_is_packed_and_nothing_is_lost(queue: QueueBranch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOSE", 0)
    monkeypatch.setattr(module, "_PACKS", 2)
    _, at = queue.create(b"0")
    waiting = queue.write(b"waits", at, [])
    for number in range(1, 60):
        commit = queue.write(b"%d" % number, at, [f"op{number}"])
        assert queue.push(commit, at)[0] == "pushed"
        assert queue.fetch(at).data == b"%d" % number
        at = commit
    assert list((queue.path / "objects" / "pack").glob("*.pack"))
    assert queue.git("cat-file", "-t", waiting).text == "commit"
    assert len(queue.fetch().ops) == 59
    shared.git("fsck", "--strict", "--no-dangling", cwd=queue.path)


def test_old_heartbeats_are_forgotten_and_it_is_not_tidied_all_the_time(
    queue: QueueBranch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day of heartbeats is more than triggers it, and may not go yet."""
    monkeypatch.setattr(module, "_LOOSE", -1)
    _, at = queue.create(b"0")
    beats = [""]
    for number in range(12):
        beats.append(queue.set_machine("m", f"beat {number}", beats[-1])[1])
    old, young = beats[1:7], beats[7:]
    aged = time.time() - 25 * 3600
    for commit in old:
        os.utime(queue.objects / commit[:2] / commit[2:], (aged, aged))
    runs: list[str] = []
    call = type(queue.git).__call__

    def counted(git: Git, *args: str, **more: object) -> object:
        runs.append(args[0])
        return call(git, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(type(queue.git), "__call__", counted)
    for _ in range(5):
        (queue.objects / "17").mkdir(exist_ok=True)
        queue.fetch(at)
    assert runs.count("prune") == runs.count("repack") == 1
    assert all(queue.git.ask("cat-file", "-e", commit).rc for commit in old)
    assert not any(queue.git.ask("cat-file", "-e", commit).rc for commit in young)
    os.utime(queue.path / "agentq-tidied", (aged, aged))
    (queue.objects / "17").mkdir(exist_ok=True)
    queue.fetch(at)
    assert runs.count("prune") == 2


def test_many_make_the_repository_at_once(hub: Path, tmp_path: Path) -> None:
    makers = [threading.Thread(target=shared.branch, args=(hub, tmp_path / "new")) for _ in range(6)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(30)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["queue.git"]


# ---------------------------------------------------------------- machines


def test_machines(queue: QueueBranch, hub: Path, tmp_path: Path) -> None:
    other = shared.branch(hub, tmp_path / "other")
    assert queue.machines() == {}
    outcome, first = queue.set_machine("a.b..lock", '{"n": 1}\nline two', "")
    assert outcome == "pushed"
    assert other.set_machine("a.b..lock", "mine", "")[0] == "moved", "one host has the name"
    outcome, second = queue.set_machine("a.b..lock", '{"n": 2}', first)
    assert outcome == "pushed" and queue.set_machine("a.b..lock", '{"n": 2}', first)[0] == "moved"
    other.set_machine("b", "hello", "")
    assert {name: said[1] for name, said in queue.machines().items()} == {"a.b..lock": '{"n": 2}', "b": "hello"}
    assert other.drop_machine("a.b..lock", first)[0] == "moved"
    assert other.drop_machine("a.b..lock", second)[0] == "pushed"
    assert other.drop_machine("b")[0] == "pushed"
    assert set(queue.machines(fetch=False)) == {"a.b..lock", "b"} and queue.machines() == {}


def test_the_queue_brings_the_machines_along(queue: QueueBranch, hub: Path, tmp_path: Path) -> None:
    queue.create(b"one")
    _, commit = shared.branch(hub, tmp_path / "other").set_machine("b", "hello", "")
    queue.fetch()
    assert queue.machines(fetch=False) == {"b": (commit, "hello")}


def test_two_hosts_that_say_the_same_are_two(hub: Path, tmp_path: Path) -> None:
    hosts = [shared.branch(hub, tmp_path / name) for name in "ab"]
    assert [host.set_machine("m", "same", "")[0] for host in hosts] == ["pushed", "moved"]
