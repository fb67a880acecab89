"""Find files by name and lines by expression: in this process, bounded in time and results, without following
links."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentq.agent.confine import Denied, Files, open_regular
from agentq.core.paths import compile_glob

SECONDS = 20.0
MAX_ENTRIES = 300_000  # files that are looked at
MAX_FOUND = 200
MAX_SIZE = 5 * 1024 * 1024  # bytes of a file that `grep` reads
MAX_LINE = 300  # characters of a line that is shown
MAX_PATTERN = 1_000  # characters
# Looked into only when the pattern or the folder names them.
_BULK = frozenset({"node_modules", ".venv", "venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"})


@dataclass
class _Found:
    path: Path
    name: str
    folder: int  # descriptor


def glob(files: Files, top: Path, pattern: str) -> str:
    """Names of files below `top`, newest first. ValueError for a pattern that cannot be used."""
    wanted = _wanted(pattern)
    found: list[tuple[float, str]] = []
    complete = True
    try:
        with _limit():
            for one in _walk(files, top, pattern):
                if wanted(str(one.path.relative_to(top))):
                    with suppress(FileNotFoundError):
                        at = os.stat(one.name, dir_fd=one.folder, follow_symlinks=False).st_mtime
                        found.append((at, files.show(one.path)))
    except TimeoutError:
        complete = False
    names = [name for _, name in sorted(found, key=lambda each: (-each[0], each[1]))]
    return _told(names, complete, "no file matches")


def grep(files: Files, top: Path, pattern: str, only: str) -> str:
    """Lines that match, as `path:line: text`. ValueError or re.error for what cannot be used."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"the expression is longer than {MAX_PATTERN} characters")
    expression, wanted = re.compile(pattern), _wanted(only) if only else None
    found: list[str] = []
    complete = True
    try:
        with _limit():
            for one in _walk(files, top, only):
                name = str(one.path.relative_to(top)) if one.path != top else one.name
                if wanted is None or wanted(name):
                    found += _matches(one, expression, files.show(one.path), MAX_FOUND + 1 - len(found))
                if len(found) > MAX_FOUND:
                    break
    except TimeoutError:
        complete = False
    return _told(found, complete, "no line matches")


def _told(found: list[str], complete: bool, nothing: str) -> str:
    more = [f"(more than {MAX_FOUND}; be more exact)"] if len(found) > MAX_FOUND else []
    if not complete:
        more += [f"(not complete: ended after {SECONDS:g} s; look in a smaller folder)"]
    return "\n".join([*found[:MAX_FOUND], *more]) or nothing


def _wanted(pattern: str) -> Any:
    """Whether a relative path is meant. A pattern without `/` means names at any depth; `{a,b}` are
    alternatives."""
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"the pattern is longer than {MAX_PATTERN} characters")
    opened = re.fullmatch(r"([^{}]*)\{([^{}]*)\}([^{}]*)", pattern)
    each = [opened[1] + word + opened[3] for word in opened[2].split(",")[:50]] if opened else [pattern]
    deep = [one if "/" in one else f"**/{one}" for one in (one.removeprefix("./") for one in each) if one]
    if any(one.startswith("/") or ".." in one.split("/") for one in deep) or not deep:
        raise ValueError("a pattern is relative; give the folder as 'path'")
    tests = [compile_glob(one).fullmatch for one in deep]
    return lambda path: any(test(path) for test in tests)


def _walk(files: Files, top: Path, pattern: str) -> Iterator[_Found]:
    """The regular files below `top`, or `top` itself. Directories are entered by descriptor, never by name."""
    seen = 0
    try:
        with files.folder(top) as fd:
            for folder, folders, names, place in os.fwalk(".", dir_fd=fd, follow_symlinks=False):
                folders[:] = sorted(
                    one for one in folders if one != ".git" and (one not in _BULK or one in pattern)
                )
                for name in sorted(names):
                    seen += 1
                    if seen > MAX_ENTRIES:
                        raise TimeoutError
                    yield _Found(top / folder / name, name, place)
    except NotADirectoryError:
        with files.folder(top.parent) as fd:
            yield _Found(top, top.name, fd)


def _matches(one: _Found, expression: re.Pattern[str], shown: str, most: int) -> list[str]:
    try:
        fd = open_regular(one.name, one.folder)
    except (OSError, Denied):
        return []
    with os.fdopen(fd, "rb") as file:
        data = file.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE or b"\0" in data[:8192]:
        return []
    found = []
    for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
        if expression.search(line):
            found.append(f"{shown}:{number}: {line[:MAX_LINE].strip()}")
            if len(found) >= most:
                break
    return found


@contextmanager
def _limit() -> Iterator[None]:
    """TimeoutError after SECONDS, also in the middle of an expression that never comes to an end. Main thread."""

    def over(_number: int, _frame: object) -> None:
        raise TimeoutError(f"ended after {SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
