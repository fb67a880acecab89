"""The files a tool may touch: those below the workspace and what else is writable.

Invariant: nothing outside is opened, also when a link is put in the way after the check: a path is resolved,
checked, and then walked part by part with O_NOFOLLOW from a root that no agent can move."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe or a device must not keep us waiting.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Denied(Exception):
    """A tool may not do this here. The message is for the model."""


class Files:
    """The files below `workspace` and the directories of `more`. Relative names begin at the workspace."""

    def __init__(self, workspace: Path, more: Iterable[Path] = ()) -> None:
        self.workspace = Path(os.path.realpath(workspace))
        self._roots = [self.workspace, *(Path(os.path.realpath(one)) for one in more)]

    def find(self, name: str) -> Path:
        """The real path of `name`. Raises Denied outside; ValueError for a name that is none."""
        if "\0" in name:
            raise ValueError("a path has no NUL characters")
        path = Path(os.path.realpath(self.workspace / name))
        if self._root(path) is None:
            raise Denied(f"{name} lies outside the workspace {self.workspace}")
        return path

    def show(self, path: Path) -> str:
        """A path as the model should see it: relative to the workspace where it lies there."""
        return str(path.relative_to(self.workspace)) if path.is_relative_to(self.workspace) else str(path)

    @contextmanager
    def folder(self, path: Path, *, make: bool = False) -> Iterator[int]:
        """A descriptor of the directory `path` (from `find`), reached without following a link. OSError."""
        root = self._root(path)
        if root is None:
            raise Denied(f"{path} lies outside the workspace {self.workspace}")
        fd = os.open(root, _DIRECTORY)
        try:
            for part in path.relative_to(root).parts:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=fd)
                inner = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def opened(self, path: Path) -> Iterator[int]:
        """A descriptor to read the regular file `path` (from `find`). OSError; Denied for what is no file."""
        with self.folder(path.parent if path not in self._roots else path) as folder:
            fd = open_regular(path.name, folder)
            try:
                yield fd
            finally:
                os.close(fd)

    def write(self, path: Path, data: bytes) -> None:
        """Put `data` into the file `path` (from `find`), all or nothing; missing directories are made. OSError;
        Denied for what belongs to git and for what is no file."""
        root = self._root(path)
        if root is None or path in self._roots:
            raise Denied(f"{path} cannot be written")
        if any(part.casefold() == ".git" for part in path.relative_to(root).parts):
            raise Denied("what belongs to git is changed by git alone, not by writing files")
        with self.folder(path.parent, make=True) as folder:
            _replace(folder, path.name, data)

    def _root(self, path: Path) -> Path | None:
        return next((root for root in self._roots if path == root or root in path.parents), None)


def open_regular(name: str, folder: int) -> int:
    """A descriptor to read the regular file `name` of the directory `folder`. OSError; Denied for anything
    else."""
    fd = os.open(name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Denied(f"{name} is not a file")
    return fd


def _replace(folder: int, name: str, data: bytes) -> None:
    """A new file in the place of the old one: another name of the old one (a hard link) keeps what it has."""
    mode = 0o666
    with suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise Denied(f"{name} is not a file")
        mode = stat.S_IMODE(found.st_mode)
    draft = f".{name[:80]}.{os.getpid()}.new"
    with suppress(FileNotFoundError):
        os.unlink(draft, dir_fd=folder)
    fd = os.open(draft, _NEW, mode, dir_fd=folder)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if mode != 0o666:
                os.fchmod(file.fileno(), mode)
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder)
        raise
