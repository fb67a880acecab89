"""What a snapshot of a workspace sees, however fast the agent was."""

import time
from pathlib import Path

from trunk.test_git import _mirror

from agentq.trunk.workspace import Workspaces


def _early() -> None:
    """Wait for the first part of a second of the clock."""
    while time.time() % 1 > 0.2:
        time.sleep(0.02)


def test_a_change_of_equal_size_in_the_second_of_the_checkout_is_seen_in_the_next(tmp_path: Path) -> None:
    mirror, first = _mirror(tmp_path)
    tree = mirror.put(mirror.tree(first), {"same.txt": b"old\n"})
    commit = mirror.commit_tree(tree, [first], "a file")
    workspaces = Workspaces(tmp_path / "root", mirror)
    path = workspaces.path("a")
    for _ in range(20):
        _early()
        workspaces.prepare(path, commit)
        made = (path / "same.txt").stat()
        (path / "same.txt").write_text("new\n")
        if int((path / "same.txt").stat().st_mtime) == int(made.st_mtime):
            break
    time.sleep(1.1 - time.time() % 1)
    seen = mirror.snapshot(path, commit, workspaces.index_of(path))
    assert mirror.show(seen, "same.txt") == b"new\n"
