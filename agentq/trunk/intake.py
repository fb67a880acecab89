"""Reading what an agent wrote: its commits by `fetch`, its files under our own git directory.

Fetching by path is the documented safe way to read a repository one does not trust; the files are read with the
mirror's configuration. Invariant: nothing in a workspace's `.git` takes effect here.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from agentq.core.text import one_line
from agentq.errors import GitError, Refused
from agentq.trunk import folder
from agentq.trunk.git import Git, Output, reason


class Intake:
    """The part of the mirror (`path`, `git`) that takes work in."""

    path: Path
    git: Git

    def import_head(self, workspace: Path, ref: str) -> str:
        """Copy what HEAD of a workspace points to into `ref` here. Fetching by path is the documented safe way
        to read a repository one does not trust. Raises Refused when the workspace has no repository or commit."""
        if odd := folder.waits(workspace / ".git"):
            raise Refused(f"the workspace has no readable commit: .git/{one_line(odd, 60)} is no file")
        output = self._unless_killed(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--end-of-options", str(workspace),
            f"+HEAD:{ref}",
        )  # fmt: skip
        if output.rc:
            raise Refused(f"the workspace has no readable commit: {one_line(reason(output.stderr), 200)}")
        return self.git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}").text

    def import_others(self, workspace: Path, prefix: str, known: Sequence[str]) -> list[str]:
        """Copy what other branches, tags and the stash of a workspace hold below `prefix`, but not commits that
        are `known`; returns the refs made here."""
        if folder.waits(workspace / ".git"):
            return []
        listed = self._unless_killed("ls-remote", "--quiet", "--end-of-options", str(workspace))
        found = [(sha, name) for sha, _, name in (line.partition("\t") for line in listed.text.splitlines())]
        wanted = [
            name
            for sha, name in found
            if name.startswith("refs/") and not name.endswith("^{}") and sha not in known
        ]
        if not wanted:
            return []
        into = [f"+{name}:{prefix}/{name.removeprefix('refs/')}" for name in wanted]
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--end-of-options")
        self._unless_killed("fetch", *options, str(workspace), *into)
        return self.git("for-each-ref", "--format=%(refname)", prefix).text.splitlines()

    def _unless_killed(self, *args: str) -> Output:
        """What git says of a repository that an agent may have broken. Raises GitError when git was ended: that
        says nothing about it, and what is there must not be lost."""
        output = self.git.ask(*args)
        if output.rc < 0:
            raise GitError(list(args), output.rc, output.stderr, retryable=True)
        return output

    def snapshot(self, workspace: Path, start: str, known: Path | None = None) -> str:
        """The tree of the files in a workspace as they are, ignored ones left out. Reads the files under our own
        git directory and configuration, so nothing in the workspace's `.git` takes effect. `start`: a commit
        to compare with; `known`: an index of ours whose stat data saves re-reading unchanged files."""
        index = self.path / f"agentq-snap-{os.getpid()}-{workspace.name}"
        env = {"GIT_INDEX_FILE": str(index), "GIT_DIR": str(self.path), "GIT_WORK_TREE": str(workspace)}
        git = Git(workspace, env)
        try:
            if known is not None and known.is_file():
                shutil.copy2(known, index)
            if git.ask("read-tree", "--reset", start).rc:
                index.unlink(missing_ok=True)
                git("read-tree", "--reset", start)
            self._add_all(git, workspace, start)
            return git("write-tree").text
        finally:
            index.unlink(missing_ok=True)
            index.with_name(index.name + ".lock").unlink(missing_ok=True)

    def _add_all(self, git: Git, workspace: Path, start: str) -> None:
        """Bring every file into the index: also what an agent made unreadable, and the files of a repository it
        made inside the workspace, as plain files."""
        settings = ("-c", "core.bare=false", "-c", "core.fsyncMethod=batch")
        added = git.ask(*settings, "add", "--all", "--", ".", timeout=600)
        if not added.rc and "embedded git repository" not in added.stderr:
            return
        folder.unlock(workspace)
        git("read-tree", "--reset", start)
        others = git(*settings, "ls-files", "--others", "--exclude-standard", "-z").fields
        nested = [name.rstrip("/") for name in others if name.endswith("/")]
        added = git.ask(
            *settings, "add", "--all", *(["--ignore-errors"] if nested else []), "--", ".", timeout=600
        )
        if added.rc not in ((0, 1) if nested else (0,)):  # 1: some of the files, which are looked at below
            raise GitError(["add"], added.rc, reason(added.stderr))
        for option, names in (
            ("--force-remove", nested),
            ("--add", [f for n in nested for f in folder.files_below(workspace, n)]),
        ):
            listed = b"".join(os.fsencode(name) + b"\0" for name in names)
            changed = git.ask(*settings, "update-index", option, "-z", "--stdin", stdin=listed, timeout=600)
            if changed.rc:
                raise GitError(["update-index"], changed.rc, reason(changed.stderr))
