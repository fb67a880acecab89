"""Merging pairs of commits to see which conflict: what git answers, read to the last pair; nothing is left behind."""

import time
from itertools import combinations
from pathlib import Path

import pytest

from agentq.core.collisions import Conflicted
from agentq.errors import GitError
from agentq.trunk import pairs
from agentq.trunk.git import Git


class Repository:
    """A bare repository and commits made in it from a few files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        Git(path.parent)("init", "-q", "--bare", "--template=", str(path))
        self.git = Git(path)
        self.blobs: dict[str, str] = {}

    def commit(self, files: dict[str, str], *parents: str) -> str:
        index = {"GIT_INDEX_FILE": str(self.path / "index-test")}
        (self.path / "index-test").unlink(missing_ok=True)
        lines = b""
        for name, text in files.items():
            if text not in self.blobs:
                self.blobs[text] = self.git.ask("hash-object", "-w", "--stdin", stdin=text.encode()).text
            lines += f"100644 {self.blobs[text]}\t{name}\0".encode("utf-8", "surrogateescape")
        self.git.ask("update-index", "-z", "--add", "--index-info", stdin=lines, env=index)
        tree = self.git("write-tree", env=index).text
        options = [word for parent in parents for word in ("-p", parent)]
        return self.git("commit-tree", *options, "-m", "x", tree).text

    def objects(self) -> set[str]:
        return {str(path) for path in (self.path / "objects").rglob("*") if path.is_file()}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "r.git")


def merged(repository: Repository, *wanted: tuple[str, str]) -> list[tuple[Conflicted, ...] | None]:
    with pairs.scratch(repository.path) as git:
        return [one.conflicts if one else None for one in pairs.merge(git, wanted)]


def test_conflicts_of_every_kind_by_their_paths(repository: Repository) -> None:
    base = repository.commit({"x": "1\n2\n3\n", "gone": "g\n", "move": "m\nm\nm\n", "plain": "p\n"})
    one = repository.commit({"x": "ONE\n2\n3\n", "new": "1\n", "to-one": "m\nm\nm\n", "plain": "p\n"}, base)
    two = repository.commit(
        {"x": "TWO\n2\n3\n", "gone": "changed\n", "new": "2\n", "to-two": "m\nm\nm\n", "plain": "p\n"}, base
    )
    files = repository.commit({"x": "1\n2\n3\n", "gone": "g\n", "move": "m\nm\nm\n", "plain/in": "1\n"}, base)
    changed = repository.commit({"x": "1\n2\n3\n", "gone": "g\n", "move": "m\nm\nm\n", "plain": "other\n"}, base)
    first, second, none = merged(repository, (one, two), (files, changed), (base, one))
    assert first is not None and second is not None
    assert dict(first) == {
        "gone": "modify/delete", "move": "rename/rename", "new": "both-added", "to-one": "rename/rename",
        "to-two": "rename/rename", "x": "contents",
    }  # fmt: skip
    assert {one.path for one in second} == {"plain"}, "the name git gives the file that is in the way is no path"
    assert none == ()


def test_names_that_need_care(repository: Repository) -> None:
    names = ["with space", "tab\there", "line\nend", "\udcff", "ünï", "1", "-x", "CONFLICT (contents)"]
    base = repository.commit(dict.fromkeys(names, "0\n"))
    one = repository.commit(dict.fromkeys(names, "1\n"), base)
    two = repository.commit(dict.fromkeys(names, "2\n"), base)
    (found,) = merged(repository, (one, two))
    assert found is not None and {one.path for one in found} == set(names)


def test_one_that_cannot_be_merged_costs_the_others_nothing(repository: Repository) -> None:
    base = repository.commit({"x": "0\n"})
    one, two = repository.commit({"x": "1\n"}, base), repository.commit({"x": "2\n"}, base)
    missing = "1" * 40
    clash = (Conflicted("x", "contents"),)
    found = merged(repository, (one, two), (one, missing), (base, two), (missing, one), (one, two), (missing, two))
    assert found == [clash, None, (), None, clash, None]


def test_a_history_of_its_own_is_compared_too(repository: Repository) -> None:
    one, two = repository.commit({"x": "1\n"}), repository.commit({"x": "2\n", "y": "\n"})
    assert merged(repository, (one, two), (one, one)) == [(Conflicted("x", "both-added"),), ()]


def test_no_pair_is_no_work_and_a_place_that_is_no_repository_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert pairs.merge(Git(tmp_path / "empty"), []) == []
    assert pairs.merge(Git(tmp_path / "empty"), [("1" * 40, "2" * 40)]) == [None]


def test_a_git_that_cannot_do_it_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "bin" / "git"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho \"error: unknown option 'stdin'\" >&2\nexit 129\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(old.parent))
    with pytest.raises(GitError) as caught:
        pairs.merge(Git(tmp_path), [("1" * 40, "2" * 40)])
    assert "2.39" in caught.value.hint


def test_output_that_ends_in_the_middle_is_read_as_far_as_it_is_whole() -> None:
    clean, clash = b"1\0" + b"a" * 40 + b"\0\0", b"0\0" + b"b" * 40 + b"\x00100644 1 2\tx\0\x00"
    message = b"1\0x\0CONFLICT (contents)\0CONFLICT in x\n\0\0"
    whole = pairs.parse(clean + clash + message)
    assert [one.tree[0] for one in whole] == ["a", "b"] and whole[1].conflicts == (Conflicted("x", "contents"),)
    for end in range(len(clean), len(clean + clash + message) - 1):
        assert len(pairs.parse((clean + clash + message)[:end])) <= 2
        assert pairs.parse((clean + clash + message)[:end])[0] == whole[0]
    assert pairs.parse(b"") == [] and pairs.parse(b"not what git says\0") == []


def test_nothing_is_left_in_the_repository(repository: Repository, tmp_path: Path) -> None:
    base = repository.commit({"x": "0\n", "y": "0\n"})
    trunk = repository.commit({"x": "0\n", "y": "trunk\n"}, base)
    one, two = repository.commit({"x": "1\n", "y": "0\n"}, base), repository.commit({"x": "2\n", "y": "0\n"}, base)
    before = repository.objects()
    with pairs.scratch(repository.path) as git:
        standing = pairs.stand_on(git, trunk, [one, two, trunk], [trunk])
        (found,) = pairs.merge(git, [(standing[one].commit, standing[two].commit)])
    assert found is not None and found.conflicts == (Conflicted("x", "contents"),)
    assert standing[trunk].commit == trunk and standing[one].commit not in (one, trunk)
    assert repository.objects() == before


def test_what_landed_since_is_no_conflict_of_two_specs(repository: Repository) -> None:
    """`late` began after something landed that `early` conflicts with: they have nothing to do with each other."""
    base = repository.commit({"x": "0\n", "y": "0\n"})
    trunk = repository.commit({"x": "landed\n", "y": "0\n"}, base)
    early = repository.commit({"x": "early\n", "y": "0\n"}, base)
    late = repository.commit({"x": "landed\n", "y": "late\n"}, trunk)
    with pairs.scratch(repository.path) as git:
        standing = pairs.stand_on(git, trunk, [early, late], [late])
    assert standing[early].conflicts == (Conflicted("x", "contents"),) and standing[early].commit == early
    assert standing[late] == pairs.Standing(late)


def test_trunks_attributes_count(repository: Repository) -> None:
    base = repository.commit({"uv.lock": "".join(f"{line}\n" for line in range(20))})
    lines = [f"{line}\n" for line in range(20)]
    one = repository.commit({"uv.lock": "".join(["a\n", *lines[1:]])}, base)
    two = repository.commit({"uv.lock": "".join([*lines[:-1], "b\n"])}, base)
    assert merged(repository, (one, two)) == [()]
    (repository.path / "agentq-attributes").write_text("uv.lock -merge\n")
    (found,) = merged(repository, (one, two))
    assert found is not None and [one.path for one in found] == ["uv.lock"]


def test_eight_specs_in_a_moment(repository: Repository) -> None:
    """Measured 28 pairs of eight specs in about 30 ms on two cores; the bound is for a busy machine."""
    tree = {
        f"src/module{number}/file{part}.py": f"{number} {part}\n" * 20 for number in range(20) for part in range(5)
    }
    base = repository.commit(tree)
    heads = [
        repository.commit({**tree, f"src/module{spec}/file0.py": f"spec {spec}\n", "shared.py": f"{spec}\n"}, base)
        for spec in range(8)
    ]
    began = time.monotonic()
    found = merged(repository, *combinations(heads, 2))
    seconds = time.monotonic() - began
    print(f"28 pairs: {seconds * 1000:.0f} ms")
    assert [one and [path for path, _ in one] for one in found] == [["shared.py"]] * 28
    assert seconds < 5
