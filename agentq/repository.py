"""Finding the repository a command runs in, without starting git: `agentq next` answers before git would.

Invariant: machine-local state lives in `<git common dir>/agentq`, shared by every checkout and never committed
(architecture, decision 2).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from agentq.errors import UserError


@dataclass(frozen=True)
class Repository:
    """`root`: the top of the checkout; `common`: the git directory all checkouts share."""

    root: Path
    common: Path

    @property
    def state(self) -> Path:
        return self.common / "agentq"

    @property
    def queue_file(self) -> Path:
        """The one queue of the repository: linked worktrees share the main checkout's, as they share its state."""
        main = self.common.parent if self.common.name == ".git" else self.root
        shared = main / "agents" / "queue.json"
        return shared if shared.exists() else self.root / "agents" / "queue.json"

    @property
    def shared_mark(self) -> Path:
        """Says {"branch": name} in a clone that shares its queue, and "" as the name in one that does not."""
        return self.state / "shared"

    @property
    def copy_mark(self) -> Path:
        """Is there while the queue file is a copy: what agentq wrote into it."""
        return self.state / "queue.copy"

    def shared_branch(self, remote: str, branch: str) -> str:
        """The branch that holds the queue, "" when it is not shared. A fresh clone brings the remote's branch
        along, so it needs no mark."""
        marked = self._marked()
        if marked is not None:
            return marked
        return branch if self._tracks(f"refs/remotes/{remote}/{branch}") and not self._has_a_queue() else ""

    def undecided(self, remote: str, branch: str) -> bool:
        """Whether the remote's branch came along with a fetch, and the clone still has a queue of its own."""
        tracked = self._marked() is None and self._tracks(f"refs/remotes/{remote}/{branch}")
        return tracked and self._has_a_queue()

    def _marked(self) -> str | None:
        try:
            return str(json.loads(self.shared_mark.read_bytes())["branch"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _has_a_queue(self) -> bool:
        return self.queue_file.exists() and not self.copy_mark.exists()

    def _tracks(self, ref: str) -> bool:
        if (self.common / ref).is_file():
            return True
        try:
            return f" {ref}\n".encode() in (self.common / "packed-refs").read_bytes()
        except OSError:
            return False

    @property
    def config_file(self) -> Path:
        return self.root / "agents" / "config.toml"


def find(start: Path) -> Repository:
    """The repository `start` lies in. Raises UserError when there is none, or it is bare."""
    for folder in (start, *start.parents):
        mark = folder / ".git"
        if mark.is_dir():
            return Repository(folder, mark)
        if mark.is_file():
            return Repository(folder, _common(folder, mark))
        if (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir():
            raise UserError(f"{folder} is a bare repository", "run agentq in a checkout of it")
    raise UserError(f"{start} is not inside a git repository", "'git init' makes one; then 'agentq init'")


def _common(folder: Path, mark: Path) -> Path:
    """The common directory of a linked worktree or a submodule, from its `.git` file."""
    line = mark.read_text(errors="replace").strip()
    git_dir = Path(os.path.normpath(folder / line.removeprefix("gitdir:").strip()))
    if not line.startswith("gitdir:") or not git_dir.is_dir():
        raise UserError(f"{mark} does not point to a git directory", "repair it with 'git worktree repair'")
    pointer = git_dir / "commondir"
    return Path(os.path.normpath(git_dir / pointer.read_text().strip())) if pointer.is_file() else git_dir


def private_dir(path: Path) -> Path:
    """`path` as a directory only its owner can enter."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
