"""The merge: every kind of conflict git knows, by its stages and messages, and what else the classes are asked."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "resolve"))
from replay import Case, Files, Repository

from agentq.errors import GitError
from agentq.trunk import merge as merges
from agentq.trunk.resolve.base import Situation

BIG = "".join(f"line {n} of a file that is long enough\n" for n in range(20))
GEN = {"generated": ("gen/**",)}


def conflicts(tmp_path: Path, base: Files, trunk: Files, spec: Files) -> dict[str, merges.Conflict]:
    repository = Repository(tmp_path)
    _, one, other = repository.commits(Case("", "", base, trunk, spec))
    merged = repository.merged(one, other, trunk)
    assert bool(merged.conflicts) == bool(merged.message)
    return {conflict.path: conflict for conflict in merged.conflicts}


@pytest.mark.parametrize(
    ("base", "trunk", "spec", "want"),
    [
        ({"a": "1\n"}, {"a": "2\n"}, {"a": "3\n"}, {"a": "content"}),
        ({"x": "x"}, {"x": "x", "a": "2\n"}, {"x": "x", "a": "3\n"}, {"a": "add/add"}),
        ({"a": "1\n"}, {"a": "2\n"}, {"x": "x"}, {"a": "modify/delete"}),
        ({"a": "1\n"}, {"x": "x"}, {"a": "2\n"}, {"a": "modify/delete"}),
        ({"a": BIG}, {"b": BIG}, {"c": BIG}, {"a": "rename", "b": "rename", "c": "rename"}),
        ({"a": BIG}, {"b": BIG}, {"x": "x"}, {"b": "rename"}),
        ({"a": BIG}, {"b": BIG + "t\n"}, {"a": BIG + "s\n"}, {"b": "content"}),
        ({"x": "x"}, {"x": "x", "d": "f\n"}, {"x": "x", "d/f": "f\n"}, {"d~": "file/directory"}),
        ({"x": "x"}, {"x": "x", "a": ("100755", "1\n")}, {"x": "x", "a": "2\n"}, {"a": "mode"}),
        ({"x": "x"}, {"x": "x", "a": ("120000", "x")}, {"x": "x", "a": ("120000", "y")}, {"a": "symlink"}),
        ({"x": ("160000", "1" * 40)}, {"x": ("160000", "2" * 40)}, {"x": ("160000", "3" * 40)}, {"x": "submodule"}),
        ({"a": b"\0a"}, {"a": b"\0b"}, {"a": b"\0c"}, {"a": "binary"}),
        ({".gitattributes": "a -merge\n", "a": "1\n"}, {".gitattributes": "a -merge\n", "a": "2\n"},
         {".gitattributes": "a -merge\n", "a": "3\n"}, {"a": "binary"}),
        ({"ä\t 1": "1\n"}, {"ä\t 1": "2\n"}, {"ä\t 1": "3\n"}, {"ä\t 1": "content"}),
        ({"a": "1\n"}, {"a": "2\n"}, {"a": "1\n", "b": "b"}, {}),
    ],
)  # fmt: skip
def test_kinds(tmp_path: Path, base: Files, trunk: Files, spec: Files, want: dict[str, str]) -> None:
    found = conflicts(tmp_path, base, trunk, spec)
    assert {path.partition("~")[0] + "~" * ("~" in path): one.kind for path, one in found.items()} == want


def test_versions_and_modes_of_a_conflict(tmp_path: Path) -> None:
    found = conflicts(tmp_path, {"a": "1\n"}, {"a": ("100755", "2\n")}, {"a": "3\n"})["a"]
    assert found.modes == ("100644", "100755", "100644")
    git = Repository.__new__(Repository)
    git.git = merges.Git(tmp_path / "r.git")
    assert [git.git("cat-file", "blob", sha).stdout for sha in (found.base, found.trunk, found.spec)] == [
        b"1\n",
        b"2\n",
        b"3\n",
    ]


def test_a_folder_renamed_under_a_new_file_is_no_plain_conflict(tmp_path: Path) -> None:
    base = {f"d/{n}": BIG + str(n) for n in range(3)}
    found = conflicts(tmp_path, base, {f"e/{n}": BIG + str(n) for n in range(3)}, {**base, "d/new": "n\n"})
    assert {one.kind for one in found.values()} == {"rename"}


def asked(
    tmp_path: Path, base: Files, trunk: Files, spec: Files
) -> dict[str, tuple[str, bytes | None, bytes | None, bytes | None, bytes | None]]:
    _, found, _ = Repository(tmp_path).asked(Case("", "", base, trunk, spec, None, GEN))
    return {one.path: (one.kind, one.base, one.trunk, one.spec, one.merged) for one in found}


def test_what_merged_cleanly_is_asked_about_if_its_class_knows_better(tmp_path: Path) -> None:
    base = {"gen/a": "1\n2\n3\n", "a": "1\n2\n3\n"}
    trunk = {"gen/a": "0\n1\n2\n3\n", "a": "0\n1\n2\n3\n"}
    spec = {"gen/a": "1\n2\n3\n4\n", "a": "1\n2\n3\n4\n"}
    found = asked(tmp_path, base, trunk, spec)
    assert found == {"gen/a": ("both", b"1\n2\n3\n", b"0\n1\n2\n3\n", b"1\n2\n3\n4\n", b"0\n1\n2\n3\n4\n")}


def test_a_lock_file_that_one_side_touched_through_its_manifest_alone(tmp_path: Path) -> None:
    base = {"pyproject.toml": "a = 1\n", "uv.lock": "version = 1\n", "web/uv.lock": "version = 2\n"}
    found = asked(tmp_path, base, {**base, "uv.lock": "version = 3\n"}, {**base, "pyproject.toml": "a = 2\n"})
    assert found == {"uv.lock": ("both", b"version = 1\n", b"version = 3\n", b"version = 1\n", b"version = 3\n")}


def test_a_conflict_is_asked_about_once(tmp_path: Path) -> None:
    found = asked(tmp_path, {"uv.lock": "1\n"}, {"uv.lock": "2\n"}, {"uv.lock": "3\n"})
    assert list(found) == ["uv.lock"] and found["uv.lock"][:4] == ("content", b"1\n", b"2\n", b"3\n")
    assert (found["uv.lock"][4] or b"").count(b"<<<<<<< ") == 1, "git's own merge comes along"


def test_a_version_too_large_to_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merges, "MAX_BYTES", 3)
    found = asked(tmp_path, {"a": "1\n"}, {"a": "2\n"}, {"a": "3333\n"})
    assert found == {"a": ("other", b"1\n", b"2\n", None, None)}


def test_a_commit_that_is_not_there(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    with pytest.raises(GitError):
        repository.merged("1" * 40, "2" * 40, {})


def test_commits_without_a_common_one(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    tree = repository.git.ask("mktree", stdin=b"").text
    one, other = (repository.git("commit-tree", "-m", name, tree).text for name in "ab")
    merged = merges.Merged(tree)
    assert merges.disputes(repository.git, merged, one, other, Situation()) == []
