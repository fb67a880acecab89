"""Handling directories an agent could write: no link is followed, and what it locked is opened again."""

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path


def is_real(path: Path) -> bool:
    """Whether `path` is a directory itself: neither it nor the directory it lies in is a link."""
    return path.is_dir() and not path.is_symlink() and not path.parent.is_symlink()


def make_real(path: Path) -> None:
    """Make `path` a directory. A link in its place goes, but not what it points to; a file is set aside."""
    for place in (path.parent, path):
        if place.is_symlink():
            place.unlink()
        elif place.exists() and not place.is_dir():
            place.rename(place.with_name(f"{place.name}.set-aside"))
        place.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        unlock(path)


def unlock(path: Path) -> None:
    """Give ourselves back the permissions to read everything below `path` and to write its directories."""
    with suppress(OSError):
        path.chmod(path.stat().st_mode | stat.S_IRWXU)
    for folder, folders, names in os.walk(path):
        for name in (*folders, *names):
            child = Path(folder, name)
            with suppress(OSError):
                mode = child.lstat().st_mode
                wanted = stat.S_IRWXU if stat.S_ISDIR(mode) else stat.S_IRUSR
                if not stat.S_ISLNK(mode) and mode & wanted != wanted:
                    child.chmod(stat.S_IMODE(mode) | wanted)


def remove(path: Path) -> None:
    """Delete a file, a link or a whole directory. Raises OSError when something of it stays."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        try:
            shutil.rmtree(path)
        except OSError:
            unlock(path)
            shutil.rmtree(path)


def remove_below(root: Path, name: str) -> None:
    """Delete `root`/`name` unless the way to it leads through a link."""
    place = root
    for part in Path(name).parts[:-1]:
        place /= part
        if place.is_symlink() or not place.is_dir():
            return
    remove(root / name)


def files_below(root: Path, name: str) -> list[str]:
    """Files and links below `root`/`name`, relative to `root`, those of any `.git` left out."""
    found: list[str] = []
    for folder, folders, names in os.walk(root / name):
        links = [one for one in folders if Path(folder, one).is_symlink()]
        folders[:] = [one for one in folders if one not in links and one != ".git"]
        found += [str(Path(folder, one).relative_to(root)) for one in (*names, *links) if one != ".git"]
    return found


def waits(repository: Path) -> str:
    """The name of something in a `.git` on which reading would wait for ever (a pipe, a socket, a device); ''. The
    objects are not looked at: git reads them by name."""
    for folder, folders, names in os.walk(repository):
        folders[:] = [one for one in folders if one != "objects"]
        for name in names:
            with suppress(OSError):
                mode = Path(folder, name).lstat().st_mode
                if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                    return str(Path(folder, name).relative_to(repository))
    return ""


def held(lock: Path) -> bool:
    """Whether a process has `lock` open; assumed where /proc cannot tell."""
    proc = Path("/proc")
    if not (proc / "self" / "fd").is_dir():
        return True
    target = os.path.realpath(lock)
    for folder in proc.glob("[0-9]*/fd"):
        with suppress(OSError):
            for link in folder.iterdir():
                with suppress(OSError):
                    if os.readlink(link) == target:
                        return True
    return False
