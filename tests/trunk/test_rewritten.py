"""Trunk was rewritten: what a person took back stays away, whatever stood on it."""

import random
from pathlib import Path

import pytest
from support import project as projects
from support.project import Project

from agentq.core.collisions import Conflicted
from agentq.errors import GitError
from agentq.trunk import merge as merges
from agentq.trunk import pairs
from agentq.trunk.git import Git
from agentq.trunk.mirror import Mirror
from agentq.trunk.resolve.base import Situation


class World:
    """A mirror of a project. `old`: the trunk that stood first, with a secret and a changed line."""

    def __init__(self, root: Path) -> None:
        self.project: Project = projects.build(root / "p")
        self.mirror = Mirror(root / "mirror.git", str(self.project.hub), "main", {}, 60)
        self.mirror.ensure()
        self.first = self.mirror.fetch().commit
        self.project.move_trunk("secret.txt", "password\n")
        self.project.move_trunk("shared.txt", "a line to be taken back\n" + lines())
        self.old = self.mirror.fetch().commit

    def work(self, base: str, **texts: str) -> str:
        contents = {name.replace("_", "."): text.encode() for name, text in texts.items()}
        return self.mirror.commit_tree(self.mirror.put(self.mirror.tree(base), contents), [base], "work")

    def rewrite(self, name: str = "instead.txt", text: str = "instead\n") -> str:
        """Trunk goes another way from its first commit; the new trunk."""
        other = self.project.root / "other"
        self.project.git("reset", "-q", "--hard", self.first, cwd=other)
        (other / name).write_text(text)
        self.project.git("add", "-A", cwd=other)
        self.project.git("commit", "-qm", "instead", cwd=other)
        self.project.git("push", "-qf", "origin", "HEAD:main", cwd=other)
        return self.mirror.fetch().commit

    def text(self, tree: str, name: str) -> str:
        return (self.mirror.show(tree, name) or b"").decode()


def lines(**changed: str) -> str:
    return "".join(changed.get(f"l{number}", f"line {number}") + "\n" for number in range(30))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_work_and_nothing_else_is_put_on_the_new_trunk(world: World) -> None:
    mine = "a line to be taken back\n" + lines(l20="mine")
    work = world.work(world.old, spec_txt="spec\n", shared_txt=mine)
    new = world.rewrite()
    merged = world.mirror.rebase(work, new)
    assert merged.conflicts == ()
    assert set(world.mirror.files(merged.tree)) == {*world.mirror.files(new), "spec.txt"}
    assert world.text(merged.tree, "shared.txt") == lines(l20="mine")
    assert world.mirror.rebase(work, new).tree == merged.tree


def test_a_conflict_is_between_the_work_and_the_new_trunk(world: World) -> None:
    work = world.work(world.old, secret_txt="password and more\n", shared_txt=lines(l3="mine"))
    new = world.rewrite("shared.txt", lines(l3="theirs"))
    merged = world.mirror.rebase(work, new)
    assert {one.path: one.kind for one in merged.conflicts} == {
        "secret.txt": "modify/delete",
        "shared.txt": "content",
    }
    assert new in merged.message, "the commits people know are named, not one that only stands in"
    asked = {one.path: one for one in world.mirror.disputes(merged, work, new, Situation())}
    secret = asked["secret.txt"]
    assert (secret.base, secret.trunk, secret.spec) == (b"password\n", None, b"password and more\n")
    shared = asked["shared.txt"]
    assert shared.base == b"a line to be taken back\n" + lines().encode()
    assert (shared.trunk, shared.spec) == (lines(l3="theirs").encode(), lines(l3="mine").encode())


def test_what_merged_cleanly_is_compared_with_the_commit_the_work_stands_on(world: World) -> None:
    """Only what the spec itself and the new trunk did counts, not what was taken back."""
    work = world.work(world.old, spec_txt="spec\n")
    new = world.rewrite("secret.txt", "another\n")
    merged = world.mirror.rebase(work, new)
    situation = Situation(generated=("secret.txt", "spec.txt"))
    assert [one.path for one in world.mirror.disputes(merged, work, new, situation)] == []


def test_a_stand_in_is_the_same_commit_every_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    new, git = world.rewrite(), world.mirror.git
    made = merges.stand_in(git, new, world.old)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_DATE", "@1600000000 +0000")
    assert merges.stand_in(git, new, world.old) == made
    assert git("log", "-1", "--format=%T %P", made).text == f"{world.mirror.tree(new)} {world.old}"


def test_work_without_a_parent_cannot_be_merged(world: World) -> None:
    orphan = world.mirror.commit_tree(world.mirror.tree(world.old), [], "orphan")
    with pytest.raises(GitError):
        world.mirror.rebase(orphan, world.old)


@pytest.mark.parametrize("seed", range(4))
def test_there_is_one_base_whatever_trunk_looks_like(tmp_path: Path, seed: int) -> None:
    """Histories with merges across: where trunk holds the parent of the work, that parent is the one merge base;
    where it does not, it is after another commit stands in."""
    Git(tmp_path)("init", "-q", "--bare", "r.git")
    git, chance = Git(tmp_path / "r.git"), random.Random(seed)
    tree = git("mktree").text
    commits: list[str] = []
    for number in range(24):
        parents = chance.sample(commits[-6:], min(len(commits), chance.choice([0, 1, 1, 2, 2, 3])))
        options = [word for parent in parents for word in ("-p", parent)]
        commits.append(git("commit-tree", *options, "-m", f"{number}", tree).text)
    seen = {True: 0, False: 0}
    for onto in chance.sample(commits[4:], 8):
        for base in chance.sample(commits[:-1], 6):
            work = git("commit-tree", "-p", base, "-m", "work", tree).text
            held = git.tells("merge-base", "--is-ancestor", base, onto)
            side = onto if held else merges.stand_in(git, onto, base)
            assert git("merge-base", "--all", side, work).text == base
            seen[held] += 1
    assert min(seen.values()) > 3


# ---------------------------------------------------------------- predictions


def predicted(world: World, trunk: str, *works: str, bases: dict[str, str]) -> list[pairs.Standing]:
    with pairs.scratch(world.mirror.path) as git:
        standing = pairs.stand_on(git, trunk, works, [], bases)
        for one in standing.values():
            assert one.conflicts or "secret.txt" not in git("ls-tree", "--name-only", one.commit).text.split()
        return [standing[work] for work in works]


def test_what_was_taken_back_is_nobodys_collision(world: World) -> None:
    taken = "a line to be taken back\n" + lines()
    one = world.work(world.work(world.old, one_txt="1\n"), one_txt="2\n")  # an agent made two commits
    two = world.work(world.old, shared_txt=taken.replace("line 29", "mine"))
    new = world.rewrite("shared.txt", "another first line\n" + lines())
    found = predicted(world, new, one, two, bases={one: world.old, two: world.old})
    assert [stand.conflicts for stand in found] == [(), ()]


def test_specs_that_conflict_with_the_new_trunk_are_still_told_apart(world: World) -> None:
    one = world.work(world.old, secret_txt="one\n", same_txt="one\n")
    two = world.work(world.old, same_txt="two\n")
    three = world.work(world.old, three_txt="three\n")
    new = world.rewrite("shared.txt", "another first line\n" + lines())
    bases = dict.fromkeys((one, two, three), world.old)
    with pairs.scratch(world.mirror.path) as git:
        stand = pairs.stand_on(git, new, bases, [], bases)
        assert stand[one].conflicts == (Conflicted("secret.txt", "modify/delete"),)
        found = pairs.merge(
            git, [(stand[one].commit, stand[two].commit), (stand[one].commit, stand[three].commit)]
        )
    assert [one and one.conflicts for one in found] == [(Conflicted("same.txt", "both-added"),), ()]


def test_a_base_that_is_not_the_commits_own_changes_nothing(world: World) -> None:
    stale = world.work(world.first, spec_txt="1\n")
    new = world.rewrite()
    (with_it,) = predicted(world, new, stale, bases={stale: world.old})
    (without,) = predicted(world, new, stale, bases={})
    assert with_it.conflicts == without.conflicts == ()
    assert predicted(world, new, stale, bases={stale: "1" * 40})[0].conflicts == ()
    newer = world.work(new, spec_txt="1\n")
    world.project.move_trunk("instead.txt", "changed\n")
    assert predicted(world, world.mirror.fetch().commit, newer, bases={newer: world.old})[0].conflicts == ()


def test_what_git_cannot_merge_is_not_known(world: World) -> None:
    with pairs.scratch(world.mirror.path) as git:
        assert pairs.stand_on(git, world.old, ["1" * 40], [])["1" * 40].merged is False


def test_a_tree_that_is_missing_is_not_an_empty_one(world: World) -> None:
    """git 2.39 says that such a merge is clean, and leaves out what it could not read."""
    work = world.work(world.old, spec_txt="spec\n")
    world.project.move_trunk("later.txt", "later\n")
    new, tree = world.mirror.fetch().commit, world.mirror.tree(work)
    (world.mirror.path / "objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(GitError):
        world.mirror.rebase(work, new)
    other = world.work(world.old, other_txt="other\n")
    with pairs.scratch(world.mirror.path) as git:
        found = pairs.merge(git, [(new, other), (new, work), (other, new)])
    assert [one is None for one in found] == [False, True, False]
