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
