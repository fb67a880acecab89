"""Any git command may fail or be killed, before it said anything or in the middle of its answer: then the result is
the right one or an error, never another tree, and nothing that is there reads as missing."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import project as projects

from agentq.errors import ExternalError, GitError
from agentq.trunk import pairs
from agentq.trunk.branch import QueueBranch
from agentq.trunk.git import Git
from agentq.trunk.mirror import Mirror
from agentq.trunk.resolve.base import Situation

GIT = """#!/bin/sh
echo "$@" >> {log}
if [ "$(wc -l < {log})" -eq "$(cat {deadly})" ]; then
    case $(cat {how}) in
        fail) echo "fatal: out of memory" >&2; exit 128 ;;
        half) {git} "$@" > {log}.out; head -c $(($(wc -c < {log}.out) / 2)) {log}.out ;;
    esac
    kill -9 $$
fi
exec {git} "$@"
"""
KILLED, ANY = ("kill", "half"), ("kill", "half", "fail")
Operation = Callable[["World"], Any]


class World:
    """A mirror in which a spec's work stands on an old trunk; and a git whose n-th call goes wrong."""

    def __init__(self, root: Path) -> None:
        self.project = projects.build(root / "p")
        (self.project.checkout / "gen.txt").write_text("0\n" * 9)
        (self.project.checkout / ".gitattributes").write_text("*.lock -merge\n")
        self.project.git("add", "-A")
        self.project.git("commit", "-qm", "gen")
        self.project.git("push", "-q", "origin", "main")
        self.mirror = Mirror(root / "mirror.git", str(self.project.hub), "main", {}, 60)
        self.mirror.ensure()
        self.old = self.mirror.fetch().commit
        tree = self.mirror.put(
            self.mirror.tree(self.old),
            {"shared.txt": b"mine\n", "gen.txt": b"0\n" * 9 + b"mine\n", "new.txt": b"new\n"},
        )
        self.work = self.mirror.commit_tree(tree, [self.old], "work")
        self.project.git("push", "-q", str(self.project.hub), f"{self.old}:refs/agentq/wip/a")
        self.project.move_trunk("shared.txt", "theirs\n")
        self.project.move_trunk("gen.txt", "theirs\n" + "0\n" * 9)
        message = "landed\n\nAgentq-Spec: alpha"
        self.project.git("commit", "-q", "--allow-empty", "-m", message, cwd=self.project.root / "other")
        self.project.git("push", "-q", "origin", "HEAD:main", cwd=self.project.root / "other")
        self.new = self.mirror.fetch().commit
        self.apart = self.mirror.commit_tree(self.mirror.tree(self.new), [], "another history")
        self.space = root / "space"
        self.space.mkdir()
        Git(self.space)("init", "-q")
        (self.space / "file.txt").write_text("file\n")
        Git(self.space)("add", "-A")
        Git(self.space)("commit", "-qm", "x")
        Git(self.space)("branch", "spare")
        self.root = root
        self.queue = QueueBranch(root / "queue.git", str(self.project.hub), "agentq", {}, 60)
        self.queue.ensure()
        self.since = self.queue.create(b"{}")[1]
        self.queue.push(self.queue.write(b"{ }", self.since, ["op"]), self.since)

    def fresh(self) -> Mirror:
        """The same mirror as another process knows it."""
        return Mirror(self.mirror.path, self.mirror.url, "main", {}, 60)


def _rebased(world: World, onto: str) -> Any:
    mirror = world.fresh()
    merged = mirror.rebase(world.work, onto)
    return merged, mirror.disputes(merged, world.work, onto, Situation(generated=("gen.txt",)))


def _put(world: World) -> Any:
    mirror = world.mirror
    tree = mirror.put(mirror.tree(world.new), {"shared.txt": b"put\n", "a/new.txt": b"n\n", "gen.txt": None})
    return tree, mirror.read(tree, lambda path: path.endswith(".txt"))


def _pairs(world: World) -> Any:
    with pairs.scratch(world.mirror.path) as git:
        stand = pairs.stand_on(git, world.new, [world.work], [], {world.work: world.old})
        found = pairs.merge(git, [(world.new, world.work), (world.old, world.work)])
        return stand[world.work].conflicts, [one and one.conflicts for one in found]


def _forgetful(world: World, ref: str, commit: str) -> Any:
    mirror = world.fresh()
    return mirror.fetch_ref(ref), mirror.obtain(commit, ref)


OPERATIONS: dict[str, tuple[Operation, tuple[str, ...]]] = {
    "rebase": (lambda world: _rebased(world, world.new), ANY),
    "rebase where trunk was rewritten": (lambda world: _rebased(world, world.apart), ANY),
    "put and read": (_put, ANY),
    "a file of a log": (lambda w: w.mirror.tree(w.mirror.commit_file("log", b"log\n", "log")), ANY),
    "landed": (lambda world: world.mirror.landing("alpha", world.old), ANY),
    "landed, since a commit that is gone": (lambda world: world.mirror.landing("alpha", "1" * 40), ANY),
    "holds": (lambda w: [w.mirror.contains(w.old, w.new), w.mirror.contains(w.new, w.old)], ANY),
    "holds one that is gone": (lambda world: world.mirror.contains("1" * 40, world.new), ANY),
    "has": (lambda world: [world.mirror.has(world.work), world.mirror.has("1" * 40)], ANY),
    "refs": (lambda world: [world.mirror.ref("refs/agentq/trunk"), world.mirror.ref("refs/agentq/no")], ANY),
    "a file": (lambda w: [w.mirror.show(w.new, "gen.txt"), w.mirror.show(w.new, "no")], ANY),
    "the message": (lambda world: world.mirror.message(world.work, world.new), ANY),
    "trunk": (lambda world: world.fresh().fetch("shared.txt", "no.txt"), ANY),
    "work on the remote": (lambda world: _forgetful(world, "refs/agentq/wip/a", world.old), ANY),
    "no work on the remote": (lambda world: _forgetful(world, "refs/agentq/wip/b", "1" * 40), ANY),
    "files of a workspace": (lambda world: world.mirror.snapshot(world.space, world.new), ANY),
    "branches of a workspace": (lambda w: w.mirror.import_others(w.space, "refs/agentq/found/a", ()), KILLED),
    "pairs": (_pairs, KILLED),
    "the queue": (lambda world: world.queue.fetch(world.since), KILLED),
    "an older queue": (lambda w: [w.queue.before(w.queue.fetch().commit, n) for n in (1, 9)], KILLED),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    with pytest.MonkeyPatch.context() as patch:
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_NAME", "Test")
            patch.setenv(f"GIT_{who}_EMAIL", "test@example.invalid")
        return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_right_result_or_an_error(world: World, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    operation, ways = OPERATIONS[name]
    places = {part: world.root / part for part in ("log", "deadly", "how")}
    script = world.root / "bin" / "git"
    script.parent.mkdir(exist_ok=True)
    script.write_text(GIT.format(git=shutil.which("git"), **places))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    def run(deadly: int, how: str) -> Any:
        places["log"].write_text("")
        places["deadly"].write_text(f"{deadly}\n")
        places["how"].write_text(how)
        return operation(world)

    right = run(0, "")
    steps = places["log"].read_text().splitlines()
    assert steps and run(0, "") == right
    failed = 0
    for how in ways:
        for number, step in enumerate(steps, 1):
            try:
                found = run(number, how)
            except ExternalError:
                failed += 1
            else:
                assert found == right, f"{how} at step {number}: {step[-150:]}"
    assert failed, "some steps are needed for the answer"


def test_an_id_that_is_none_is_no_deletion(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """git says that all is well, and no id."""
    script = tmp_path / "git"
    script.write_text(f'#!/bin/sh\ncase "$*" in *hash-object*) exit 0;; esac\nexec {shutil.which("git")} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(GitError, match="no object was made"):
        world.mirror.put(world.mirror.tree(world.new), {"shared.txt": b"put\n"})
    with pytest.raises(GitError, match="no object was made"):
        world.mirror.commit_file("log", b"log\n", "log")


def test_a_listed_file_that_cannot_be_read_is_an_error(world: World, tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "copy.git", world.mirror.url, "main", {}, 60)
    shutil.copytree(world.mirror.path, mirror.path)
    blob = mirror.git("hash-object", "-w", "--stdin", stdin=b"only here\n").text
    tree = mirror.put(mirror.tree(world.new), {"only.txt": b"only here\n", "odd\n\udcff": b"odd\n"})
    assert mirror.read(tree, lambda path: path != "gen.txt")["odd\n\udcff"] == b"odd\n"
    (mirror.path / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(GitError, match="missing"):
        mirror.read(tree, lambda path: path == "only.txt")
