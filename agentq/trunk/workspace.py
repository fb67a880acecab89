"""Workspaces: one directory a spec, with a small `.git` of its own that borrows the mirror's objects.

Made like `git clone --shared`, not `git worktree` (24 parallel worktrees: 11–15 fail; 24 shared clones: none).
Before every stage the `.git` is made anew, so nothing an agent left in it (hooks, configuration, a half-done
rebase, a lock) has any effect, and the files are only touched where they differ: dependencies stay installed.
Invariant: nothing is removed here that the caller has not saved first (architecture, decision 8).
"""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agentq.errors import GitError
from agentq.trunk import folder as folders
from agentq.trunk.git import Git
from agentq.trunk.mirror import Mirror

BRANCH = "refs/heads/work"
LOCK_WAIT = 10.0
_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
[user]
\tname = agentq
\temail = agentq@localhost
[gc]
\tauto = 0
# The person's own settings are for their own work: no signing, hooks, line ends or ignored files of theirs here.
[commit]
\tgpgSign = false
[tag]
\tgpgSign = false
[core]
\thooksPath =
\tautocrlf = false
\texcludesFile = /dev/null
\tattributesFile = /dev/null
[filter "lfs"]
\tclean =
\tsmudge =
\tprocess =
\trequired = false
"""


class Workspaces:
    """All directories below `root`: `ws/<spec>` for agents, `verify/<slot>` for proofs, `index/` beside them."""

    def __init__(self, root: Path, mirror: Mirror) -> None:
        self.root, self.mirror = root, mirror

    def path(self, spec_id: str) -> Path:
        return self.root / "ws" / spec_id

    def proof_path(self, slot: str) -> Path:
        return self.root / "verify" / slot

    def index_of(self, path: Path) -> Path:
        """Our own copy of the index as it was when the workspace was prepared. Copies keep its time: git compares
        the content of files that were written in the second of the index or later, and trusts all others."""
        return self.root / "index" / f"{path.parent.name}-{path.name}"

    def note_start(self, path: Path, commit: str, stage: str) -> None:
        """Remember what an attempt starts from, until its files are saved: a crash in between is then seen."""
        self._start_note(path).write_text(f"{commit} {stage}", encoding="utf-8")

    def unsaved(self, path: Path) -> tuple[str, str]:
        """(commit, stage) of an attempt whose files nobody saved; ('', '') if there is none. A crash of the
        machine may have torn the note: then the words mean nothing."""
        note = self._start_note(path)
        commit, _, stage = note.read_text(errors="replace").partition(" ") if note.is_file() else ("", "", "")
        torn = "?" if note.is_file() else ""
        return (commit or torn, stage) if folders.is_real(path) else ("", "")

    def foreign(self, path: Path) -> bool:
        """Whether `path` was prepared from another mirror, which is gone now with all the refs it had."""
        mark = self._mirror_note(path)
        return (
            folders.is_real(path) and mark.is_file() and mark.read_text(errors="replace") != self.mirror.identity()
        )

    def _mirror_note(self, path: Path) -> Path:
        index = self.index_of(path)
        return index.with_name(index.name + ".mirror")

    def saved(self, path: Path) -> None:
        self._start_note(path).unlink(missing_ok=True)

    def _start_note(self, path: Path) -> Path:
        index = self.index_of(path)
        return index.with_name(index.name + ".start")

    def existing(self) -> list[str]:
        """Spec ids that have a workspace on this host."""
        folder = self.root / "ws"
        return (
            sorted(child.name for child in folder.iterdir() if folders.is_real(child)) if folder.is_dir() else []
        )

    def prepare(
        self, path: Path, commit: str, *, wip_tree: str = "", pristine: bool = False, keep: Sequence[str] = ()
    ) -> None:
        """Make `path` a clean checkout of `commit`. `wip_tree`: files of an unfinished attempt, put back as
        uncommitted changes. `pristine` removes ignored files too, except those below `keep`."""
        folders.make_real(path)
        index = self.index_of(path)
        index.parent.mkdir(parents=True, exist_ok=True)
        try:
            git = self._clean(path, commit, index, pristine, keep)
        except GitError:
            folders.unlock(path)  # directories an agent made read-only
            git = self._clean(path, commit, index, pristine, keep)
        if wip_tree:
            git("read-tree", "-u", "--reset", wip_tree, timeout=600)
            git("reset", "--mixed", "--quiet", commit)
        shutil.copy2(path / ".git" / "index", index)
        self._mirror_note(path).write_text(self.mirror.identity())

    def _clean(self, path: Path, commit: str, index: Path, pristine: bool, keep: Sequence[str]) -> Git:
        git = self._fresh_git(path, commit, index)
        git("reset", "--hard", "--quiet", commit, timeout=600)
        ignored = ["-x", *(part for name in keep for part in ("-e", f"/{name.strip('/')}"))] if pristine else []
        git("clean", "-ffd", "--quiet", *ignored, timeout=600, env={"GIT_LITERAL_PATHSPECS": "0"})
        return git

    def _fresh_git(self, path: Path, commit: str, index: Path) -> Git:
        """The files that make a repository, written by us: what `git init` and `git update-ref` would leave."""
        folder = path / ".git"
        folders.remove(folder)
        (folder / "objects" / "info").mkdir(parents=True)
        (folder / "refs" / "heads").mkdir(parents=True)
        (folder / "objects" / "info" / "alternates").write_text(f"{self.mirror.path / 'objects'}\n")
        (folder / "config").write_text(_CONFIG)
        (folder / BRANCH).write_text(f"{commit}\n")
        (folder / "HEAD").write_text(f"ref: {BRANCH}\n")
        if index.is_file():
            shutil.copy2(index, folder / "index")
        return Git(path)

    def restore_files(self, path: Path, commit: str, paths: Sequence[str]) -> None:
        """Put `paths` of a workspace back to what they are in `commit`, without its own configuration."""
        env = {
            "GIT_DIR": str(self.mirror.path),
            "GIT_WORK_TREE": str(path),
            "GIT_INDEX_FILE": str(path) + ".index",
        }
        git = Git(path, env)
        try:
            git("read-tree", commit)
            names = b"".join(os.fsencode(name) + b"\0" for name in paths)
            restored = git.ask("-c", "core.bare=false", "checkout-index", "--force", "-z", "--stdin", stdin=names)
            if restored.rc:
                raise GitError(["checkout-index"], restored.rc, restored.stderr)
        finally:
            Path(env["GIT_INDEX_FILE"]).unlink(missing_ok=True)

    def retire(self, path: Path, spare: int) -> None:
        """A finished workspace: kept for the next spec, dependencies installed, if fewer than `spare` wait."""
        if not folders.is_real(path):
            return
        idle = self.root / "idle"
        idle.mkdir(parents=True, exist_ok=True)
        if len(list(idle.iterdir())) >= spare:
            self.remove(path)
            return
        target = idle / f"{path.name}-{os.getpid()}"
        with suppress(OSError):
            os.replace(path, target)
            self._move_notes(path, target)

    def adopt_idle(self, path: Path) -> bool:
        """Take a waiting workspace for `path`; the rename decides between two who want it."""
        idle = self.root / "idle"
        for candidate in sorted(filter(folders.is_real, idle.iterdir())) if idle.is_dir() else []:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(candidate, path)
            except OSError:
                continue
            self._move_notes(candidate, path)
            return True
        return False

    def _move_notes(self, source: Path, target: Path) -> None:
        for suffix in ("", ".setup", ".mirror"):
            old, new = self.index_of(source), self.index_of(target)
            with suppress(OSError):
                os.replace(old.with_name(old.name + suffix), new.with_name(new.name + suffix))

    def remove(self, path: Path) -> None:
        """Delete a workspace. The caller has saved what is in it."""
        if not path.parent.is_symlink():
            folders.remove(path)
        index = self.index_of(path)
        index.unlink(missing_ok=True)
        index.with_name(index.name + ".setup").unlink(missing_ok=True)
        self._mirror_note(path).unlink(missing_ok=True)
        self.saved(path)


def wait_for_index_lock(path: Path, seconds: float = LOCK_WAIT) -> bool:
    """Wait until nobody holds the index of a workspace (mission row T12); False if it is still locked then.
    A lock that nothing has open is left by a dead process: the fresh `.git` of the next stage ends it."""
    lock = path / ".git" / "index.lock"
    deadline = time.monotonic() + seconds
    while lock.exists():
        if not folders.held(lock):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
