"""Carry out what needs a command: in a checkout of the merged tree, with the caller's way to run it.

Files are only read from the checkout; what a command writes elsewhere is not taken.
"""

import os
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agentq.core.paths import is_glob, matches_any
from agentq.trunk.resolve import proof
from agentq.trunk.resolve.base import Answer, Doubt, Rerun, Resolved, Stopped

Run = Callable[[str], int]  # a shell command at the top of the checkout → its exit status
Content = bytes | None
_NOT_WALKED = frozenset({".git", "node_modules", ".venv"})


def carry_out(answers: Sequence[Rerun], checkout: Path, run: Run) -> list[Resolved | Stopped]:
    """Run each command once for all its paths, in the order given: the new content of every file that came of it
    (more than was asked about, where `writes` is wider), or the first stop alone. `checkout`: the merged tree with
    everything that is resolved in it. Raises OSError."""
    done: dict[str, Resolved | Stopped] = {}
    for command in dict.fromkeys(one.command for one in answers):
        group = [one for one in answers if one.command == command]
        rules = {one.path: one for one in group}
        try:
            files = _one(group, checkout, run)
        except Doubt as doubt:
            return [Stopped(group[0].path, group[0].rule, str(doubt))]
        for path, content in files.items():
            asked = rules.get(path, group[0])
            done[path] = Resolved(path, content, asked.rule, asked.said, asked.mode)
    return list(done.values())


def _one(group: Sequence[Rerun], checkout: Path, run: Run) -> dict[str, Content]:
    patterns = tuple(dict.fromkeys(pattern for one in group for pattern in one.writes))
    before = _files(checkout, patterns)
    for one in group:
        _write(checkout, one.path, one.trunk)
    after = _run(group[0].command, checkout, run, patterns)
    if any(one.again is not None for one in group):
        for one in group:
            if one.again is not None:
                _write(checkout, one.path, one.again)
        second = _run(group[0].command, checkout, run, patterns)
        differing = sorted(path for path in after.keys() | second.keys() if after.get(path) != second.get(path))
        if differing:
            raise Doubt(f"'{group[0].command}' run twice gives {differing[0]} two contents")
    for one in group:
        content = after.get(one.path)
        if content is None:
            raise Doubt(f"'{one.command}' left no {one.path}")
        if why := ("conflict markers" if proof.markers(content) else one.prove(content)):
            raise Doubt(why)
    for check in dict.fromkeys(one.check for one in group if one.check):
        if status := run(check):
            raise Doubt(f"the check '{check}' failed with exit status {status}")
    if _files(checkout, patterns) != after:
        raise Doubt("the check changed what it checks")
    gone = dict.fromkeys(before.keys() - after.keys())
    asked = {one.path for one in group}
    return {**gone, **{path: data for path, data in after.items() if path in asked or before.get(path) != data}}


def _run(command: str, checkout: Path, run: Run, patterns: tuple[str, ...]) -> dict[str, bytes]:
    if status := run(command):
        raise Doubt(f"'{command}' failed with exit status {status}")
    return _files(checkout, patterns)


def format_imports(answers: Sequence[Answer], command: str, checkout: Path, run: Run) -> list[Resolved | Stopped]:
    """Run `[conflicts] format` on the files whose imports were merged: those it changed, or one stop. Python must
    say the same as before."""
    merged = {one.path: one for one in answers if isinstance(one, Resolved) and one.format}
    if not command or not merged:
        return []
    paths = tuple(merged)
    whole = command.replace("{files}", " ".join(map(shlex.quote, paths)))
    try:
        before = _files(checkout, paths)
        after = _run(whole, checkout, run, paths)
        for path in paths:
            _assert_same(path, before.get(path), after.get(path), command)
    except Doubt as doubt:
        return [Stopped(paths[0], "imports", str(doubt))]
    return [replace(merged[path], content=content) for path, content in after.items() if before[path] != content]


def _assert_same(path: str, before: Content, after: Content, command: str) -> None:
    if before is None or after is None or proof.markers(after):
        raise Doubt(f"'{command}' left no good {path}")
    if path.endswith((".py", ".pyi")):
        told = [proof.read(path, content.decode("utf-8", "replace")).items for content in (before, after)]
        if told[0] != told[1]:
            raise Doubt(f"'{command}' changed what {path} says")


# ---------------------------------------------------------------- files of a checkout


def _files(checkout: Path, patterns: tuple[str, ...]) -> dict[str, bytes]:
    """The files that `patterns` mean. A symbolic link on the way is never followed."""
    found = {}
    plain = [pattern for pattern in patterns if not is_glob(pattern)]
    globs = tuple(pattern for pattern in patterns if is_glob(pattern))
    for path in (*plain, *(path for path in _walk(checkout) if matches_any(globs, path))) if globs else plain:
        content = _read(checkout, path)
        if content is not None:
            found[path] = content
    return found


def _walk(checkout: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(checkout):
        folders[:] = [name for name in folders if name not in _NOT_WALKED]
        for name in names:
            yield (Path(folder) / name).relative_to(checkout).as_posix()


def _read(checkout: Path, path: str) -> bytes | None:
    """Raises Doubt for anything but a regular file in real folders."""
    target = _real(checkout, path)
    try:
        descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Doubt(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Doubt(f"{path} is no regular file any more")
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def _write(checkout: Path, path: str, content: bytes) -> None:
    target = _real(checkout, path)
    if target.is_symlink() or target.is_dir():
        raise Doubt(f"{path} is no regular file")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)


def _real(checkout: Path, path: str) -> Path:
    place = checkout
    for part in Path(path).parts[:-1]:
        place /= part
        if place.is_symlink():
            raise Doubt(f"{path} lies behind a symbolic link")
    return checkout / path
