"""Directories an agent could write: no link is followed, and what it locked is opened again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agentq.trunk import folder


def test_a_link_is_replaced_and_a_file_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").write_text("x")
    (tmp_path / "ws").mkdir()
    link, file = tmp_path / "ws" / "link", tmp_path / "ws" / "file"
    link.symlink_to(tmp_path / "else")
    file.write_text("notes")
    assert not folder.is_real(link) and not folder.is_real(file) and not folder.is_real(tmp_path / "ws" / "none")
    for path in (link, file):
        folder.make_real(path)
        assert folder.is_real(path) and not list(path.iterdir())
    assert (tmp_path / "else" / "file").read_text() == "x"
    assert (tmp_path / "ws" / "file.set-aside").read_text() == "notes"
    (tmp_path / "linked").symlink_to(tmp_path / "ws")
    assert not folder.is_real(tmp_path / "linked" / "file"), "the way to it is a link"


def test_deleting_below_follows_no_link_on_the_way(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "real" / "tree").mkdir(parents=True)
    outside.mkdir()
    (outside / "file").write_text("x")
    (root / "way").symlink_to(outside)
    (root / "real" / "link").symlink_to(outside)
    for name in ("way/file", "real/link", "real/tree", "none/file", "real/none"):
        folder.remove_below(root, name)
    assert (outside / "file").read_text() == "x"
    assert (root / "way").is_symlink() and not list((root / "real").iterdir())


def test_files_below_leave_out_repositories_and_keep_links(tmp_path: Path) -> None:
    (tmp_path / "n" / ".git").mkdir(parents=True)
    (tmp_path / "n" / ".git" / "HEAD").write_text("")
    (tmp_path / "n" / "sub").mkdir()
    (tmp_path / "n" / "sub" / ".git").write_text("gitdir: x")
    (tmp_path / "n" / "sub" / "file").write_text("")
    (tmp_path / "n" / "up").symlink_to(tmp_path)
    assert sorted(folder.files_below(tmp_path, "n")) == ["n/sub/file", "n/up"]


@pytest.mark.skipif(os.getuid() == 0 and not shutil.which("setpriv"), reason="root passes every permission")
def test_what_is_read_only_is_removed_without_touching_what_links_point_to(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("x")
    target.chmod(0o640)
    top = tmp_path / "top"
    (top / "a" / "b").mkdir(parents=True)
    (top / "a" / "b" / "file").write_text("x")
    (top / "a" / "link").symlink_to(target)
    (top / "a" / "up").symlink_to(tmp_path)
    (top / "a" / "b").chmod(0)
    (top / "a").chmod(0o500)
    caps = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.getuid() == 0 else []
    code = (
        "import sys; from pathlib import Path; from agentq.trunk import folder; folder.remove(Path(sys.argv[1]))"
    )
    subprocess.run([*caps, sys.executable, "-c", code, str(top)], check=True, timeout=30)
    assert not top.exists() and target.stat().st_mode & 0o777 == 0o640


def test_what_would_keep_a_reader_waiting_is_found(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs" / "heads" / "main").symlink_to("../../HEAD")
    assert folder.waits(git) == ""
    os.mkfifo(git / "refs" / "heads" / "pipe")
    assert folder.waits(git) == "refs/heads/pipe"
    (git / "HEAD").unlink()
    os.mkfifo(git / "HEAD")
    assert folder.waits(git) in ("HEAD", "refs/heads/pipe")
