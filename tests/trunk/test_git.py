"""The door to git: where it works, and what it says."""

from pathlib import Path

import pytest
from support import project as projects

from agentq.core.text import has_unsafe
from agentq.errors import ExternalError, GitError
from agentq.trunk.git import Git, reason
from agentq.trunk.mirror import Change, Mirror


def test_a_directory_that_is_gone_is_no_reason_to_work_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitPython runs git in the process's own directory when it cannot enter the one it was given."""
    Git(tmp_path)("init", "-q")
    (tmp_path / "precious.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    for place in (tmp_path / "gone", tmp_path / "$HOME"):
        with pytest.raises(GitError):
            Git(place)("clean", "-ffdx")
    assert (tmp_path / "precious.txt").exists()
    (tmp_path / "$HOME").mkdir()
    assert Git(tmp_path / "$HOME")("rev-parse", "--show-prefix").text == "$HOME/"


def test_the_line_that_says_why() -> None:
    stderr = "hint: x\nfatal: 'x' is no repository\nfatal: Could not read.\n\nPlease make sure\nit exists.\n"
    assert reason(stderr) == "fatal: 'x' is no repository"
    assert reason("one\ntwo\n") == "two" and reason("") == ""


def _mirror(tmp_path: Path) -> tuple[Mirror, str]:
    project = projects.build(tmp_path / "p")
    mirror = Mirror(tmp_path / "m" / "mirror.git", str(project.hub), "main", {}, 60)
    mirror.ensure()
    return mirror, mirror.fetch().commit


def test_a_mirror_has_an_identity_of_its_own(tmp_path: Path) -> None:
    mirror, _ = _mirror(tmp_path)
    other = Mirror(tmp_path / "other.git", mirror.url, "main", {}, 60)
    assert other.identity() == ""
    other.ensure()
    assert len({mirror.identity(), other.identity(), ""}) == 3
    again = mirror.identity()
    mirror.ensure()
    assert mirror.identity() == again
    (tmp_path / "file").write_text("")
    with pytest.raises(ExternalError, match="workspaces cannot be made"):
        Mirror(tmp_path / "file" / "mirror.git", "", "main", {}, 60).ensure()


def test_a_difference_is_safe_to_show_in_colour_too(tmp_path: Path) -> None:
    mirror, trunk = _mirror(tmp_path)
    space = tmp_path / "space"
    space.mkdir()
    (space / "a\u009b.txt").write_text("one\x1b[8mhidden\x1b[m \u202e\n\x1b]0;owned\x07two\n")
    tree = mirror.snapshot(space, trunk)
    for colour in (False, True):
        text = mirror.diff(mirror.tree(trunk), tree, color=colour)
        assert "hidden" in text and ("\x1b[32m+onehidden" in text) is colour
        bare = text.replace("\x1b[32m", "").replace("\x1b[31m", "").replace("\x1b[36m", "").replace("\x1b[m", "")
        assert not has_unsafe(bare.replace("\n", "").replace("\t", ""))


def test_a_patch_replaces_a_folder_by_a_file_and_back(tmp_path: Path) -> None:
    mirror, trunk = _mirror(tmp_path)
    space = tmp_path / "space"
    (space / "shared.txt").mkdir(parents=True)
    (space / "shared.txt" / "x").write_text("x")
    tree = mirror.snapshot(space, trunk)
    blob = mirror.blobs(trunk, ["shared.txt"])["shared.txt"]
    patched = mirror.patch_tree(tree, [Change("shared.txt", "M", "", blob, "100644")])
    assert mirror.files(patched) == ["shared.txt"]
    again = mirror.patch_tree(patched, [Change("shared.txt/x", "A", "", blob, "100644")])
    assert mirror.files(again) == ["shared.txt/x"]


def test_a_message_may_be_longer_than_a_command_line(tmp_path: Path) -> None:
    mirror, trunk = _mirror(tmp_path)
    lines = [f"Agentq-Resolved: generated file: src/api/client/models/model_number_{n}.ts" for n in range(2500)]
    message = "\n".join(["Title", "", *lines])
    commit = mirror.commit_tree(mirror.tree(trunk), [trunk], message)
    assert mirror.message(commit)[0] == message
    assert mirror.git("log", "-1", "--format=%B", commit).stdout.decode().rstrip("\n") == message
    empty = mirror.commit_tree(mirror.tree(trunk), [trunk], "one line")
    assert mirror.git("cat-file", "commit", empty).stdout.endswith(b"\n\none line\n")


def test_the_same_merge_is_the_same_commit_whoever_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And time does not run backwards along trunk, which git trusts when it looks at a part of the history."""
    mirror, trunk = _mirror(tmp_path)
    monkeypatch.setenv("GIT_AUTHOR_DATE", "@1500000000 +0100")
    for committed, older in ((1500000007, True), (4000000000, False)):
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"@{committed} +0200")
        work = mirror.commit_tree(mirror.tree(trunk), [trunk], "work\n\nbody")
        made = set()
        for now in ("@1600000000 +0000", "@1700000000 +0000"):
            monkeypatch.setenv("GIT_COMMITTER_DATE", now)
            message, env = mirror.message(work, trunk)
            made.add(mirror.commit_tree(mirror.tree(trunk), [trunk], message, env))
        (commit,) = made
        below = int(mirror.git("log", "-1", "--format=%ct", trunk).text)
        wanted = below if older else committed
        assert mirror.git("log", "-1", "--format=%at %ct %an", commit).text == f"1500000000 {wanted} agentq"
    assert mirror.message(trunk) == (
        "base",
        {"GIT_AUTHOR_NAME": "Test", "GIT_AUTHOR_EMAIL": "test@example.invalid"},
    )


def test_a_merge_has_the_attributes_of_what_it_is_merged_onto(tmp_path: Path) -> None:
    """Another process fetches a trunk with other attributes between a merge and the check that it is the same."""
    mirror, trunk = _mirror(tmp_path)
    lines = [f"{n}\n" for n in range(20)]
    base = mirror.commit_tree(mirror.put(mirror.tree(trunk), {"x.lock": "".join(lines).encode()}), [trunk], "base")
    ours, theirs = "".join(["a\n", *lines[1:]]), "".join([*lines[:-1], "b\n"])
    work = mirror.commit_tree(mirror.put(mirror.tree(base), {"x.lock": ours.encode()}), [base], "work")
    onto = mirror.commit_tree(mirror.put(mirror.tree(base), {"x.lock": theirs.encode()}), [base], "onto")
    before = mirror.rebase(work, onto)
    other = Mirror(mirror.path, mirror.url, "main", {}, 60)
    projects.Project(tmp_path / "p", tmp_path / "p" / "checkout", Path(mirror.url), tmp_path).move_trunk(
        ".gitattributes", "*.lock -merge\n"
    )
    newest = other.fetch().commit
    for process in (mirror, Mirror(mirror.path, mirror.url, "main", {}, 60), other):
        assert process.rebase(work, onto) == before and before.conflicts == ()
    binary = mirror.commit_tree(mirror.put(mirror.tree(newest), {"x.lock": theirs.encode()}), [newest], "onto")
    assert [one.path for one in mirror.rebase(work, binary).conflicts] == ["x.lock"]
