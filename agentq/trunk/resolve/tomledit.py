"""Changes of single keys in a TOML text, which is otherwise left as it is: comments, order, spacing.

Every edit is by place; what cannot be placed raises Doubt. The caller parses the result and compares it.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentq.trunk.resolve import keyed
from agentq.trunk.resolve.base import Doubt
from agentq.trunk.resolve.keyed import NOTHING, Path

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})' + r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"' + r"|'[^'\n]*'|#[^\n]*|[\[{]|[\]}]|,|\n",
    re.DOTALL,
)
_KEY = re.compile(
    r"""\s*(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*'))*\s*(?==)"""
)


@dataclass(frozen=True)
class Part:
    """A header or a pair. `start`, `end`: its lines; `path`: of its table, or of its key from the top."""

    start: int
    end: int
    path: Path
    header: bool
    table: Path = ()
    repeated: bool = False


def edited(text: str, trunk: dict[str, Any], merged: dict[str, Any], spec: str) -> str:
    """`text`, which parses as `trunk`, changed to parse as `merged`. `spec`: where new parts come from."""
    for path, before, after in _changes(trunk, merged):
        if after is NOTHING:
            text = _removed(text, path)
        elif before is NOTHING:
            text = _added(text, path, after, spec)
        elif isinstance(before, list) and isinstance(after, list):
            text = _list(text, path, before, after)
        else:
            text = _replaced(text, path, spec)
    return text


def _changes(before: Any, after: Any, path: Path = ()) -> list[tuple[Path, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        found = []
        for key in (*before, *(key for key in after if key not in before)):
            found += _changes(before.get(key, NOTHING), after.get(key, NOTHING), (*path, key))
        return found
    return [] if keyed.equal(before, after, path) else [(path, before, after)]


def parts(text: str) -> list[Part]:
    found: list[Part] = []
    table: Path = ()
    repeated = False
    start = depth = 0
    for token in _TOKEN.finditer(text if text.endswith("\n") else text + "\n"):
        mark = token[0]
        depth += (mark in "[{") - (mark in "]}")
        if mark != "\n" or depth:
            continue
        statement = text[start : token.start()]
        first, last = text.count("\n", 0, start), text.count("\n", 0, token.start())
        start = token.end()
        stripped = statement.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped.startswith("["):
            table, repeated = _chain(tomllib.loads(stripped)), stripped.startswith("[[")
            found.append(Part(first, last + 1, table, True, table, repeated))
        else:
            key = _KEY.match(statement)
            if key is None:
                raise Doubt(f"line {first + 1} cannot be read")
            path = (*table, *_chain(tomllib.loads(key[0] + "= 0")))
            found.append(Part(first, last + 1, path, False, table, repeated))
    return found


def _chain(data: Any) -> Path:
    """The keys of nested tables that have one key each."""
    path: list[str] = []
    while isinstance(data, dict | list) and data:
        if isinstance(data, list):
            data = data[-1]
            continue
        key = next(iter(data))
        path.append(key)
        data = data[key]
    return tuple(path)


def _one(text: str, path: Path) -> Part:
    found = [part for part in parts(text) if not part.header and part.path == path and not part.repeated]
    if len(found) != 1:
        raise Doubt(f"{keyed.shown(path)} has no line of its own")
    return found[0]


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _source(spec: str, path: Path) -> list[str]:
    """The lines of a pair in the spec's text, with the comments right above it."""
    part, lines = _one(spec, path), _lines(spec)
    start = part.start
    while start and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return lines[start : part.end]


def _removed(text: str, path: Path) -> str:
    lines, doomed = _lines(text), parts(text)
    if any(part.header and part.path[: len(path)] == path for part in doomed):
        raise Doubt(f"the table {keyed.shown(path)} is removed on one side")
    part = _one(text, path)
    return "".join(lines[: part.start] + lines[part.end :])


def _replaced(text: str, path: Path, spec: str) -> str:
    part, lines, other = _one(text, path), _lines(text), _one(spec, path)
    return "".join(lines[: part.start] + _lines(spec)[other.start : other.end] + lines[part.end :])


def _added(text: str, path: Path, value: Any, spec: str) -> str:
    theirs = parts(spec)
    if isinstance(value, dict) and any(part.header and part.path[: len(path)] == path for part in theirs):
        return _table(text, path, spec)
    lines, mine = _lines(text), parts(text)
    new = _source(spec, path)
    table = _one(spec, path).table
    siblings = [part for part in mine if part.table == table and not part.repeated]
    if not siblings:
        raise Doubt(f"there is no table for {keyed.shown(path)}")
    order = [part.path for part in theirs if part.table == table and not part.header]
    before = order[: order.index(path)]
    above = [part for part in siblings if part.path in before]
    below = [part for part in siblings if not part.header and part.path not in order]
    place = max(part.end for part in (above or siblings))
    if above and below:  # trunk's own additions at that place come first
        place = max([place, *(part.end for part in below if part.start == place)])
    return "".join([*lines[:place], *new, *lines[place:]])


def _table(text: str, path: Path, spec: str) -> str:
    """A table that is new, with what is below it: at the end."""
    lines, found, theirs = _lines(spec), parts(spec), [part for part in parts(spec) if part.header]
    block: list[str] = []
    for number, header in enumerate(theirs):
        if header.path[: len(path)] != path:
            continue
        start = header.start
        while start and lines[start - 1].lstrip().startswith("#"):
            start -= 1
        following = theirs[number + 1].start if number + 1 < len(theirs) else len(lines)
        end = max(part.end for part in found if header.start <= part.start < following)
        block += [*(["\n"] if lines[max(start - 1, 0)].strip() == "" or not block else []), *lines[start:end]]
    return text.rstrip("\n") + "\n" + "".join(block)


# ---------------------------------------------------------------- lists of requirements


def _list(text: str, path: Path, before: Sequence[Any], after: Sequence[Any]) -> str:
    old, new = keyed.by_name(before, path), keyed.by_name(after, path)
    for key in [key for key in old if key not in new]:
        text = _element(text, path, list(keyed.by_name(_value(text, path), path)).index(key), "")
    for key in [key for key in old if key in new and not keyed.same(old[key], new[key])]:
        place = list(keyed.by_name(_value(text, path), path)).index(key)
        text = _element(text, path, place, _written(new[key]))
    for key in [key for key in new if key not in old]:
        text = _appended(text, path, _written(new[key]))
    return text


def _written(value: Any) -> str:
    from agentq.core.tomltext import dump

    return dump(value)


def _value(text: str, path: Path) -> Any:
    data: Any = tomllib.loads(text)
    for key in path:
        data = data[key]
    return data


def _elements(text: str, path: Path) -> tuple[int, list[tuple[int, int]], int]:
    """Offsets: behind `[`, (start, end) of each element, of the closing `]`."""
    part = _one(text, path)
    lines = _lines(text)
    offset = sum(map(len, lines[: part.start]))
    stop = offset + sum(map(len, lines[part.start : part.end]))
    depth, opened, start = 0, -1, -1
    found: list[tuple[int, int]] = []
    end = -1
    for token in _TOKEN.finditer(text, text.index("=", offset), stop):
        mark = token[0]
        if mark == "[" and opened < 0:
            opened = token.end()
        elif opened < 0 or mark == "\n" or mark.startswith("#"):
            continue
        elif mark == "]" and depth == 0:
            return opened, [*found, *([(start, end)] if start >= 0 else [])], token.start()
        elif mark == "," and depth == 0:
            found.append((start, end))
            start = -1
        else:
            depth += (mark in "[{") - (mark in "]}")
            start, end = (token.start() if start < 0 else start), token.end()
    raise Doubt(f"{keyed.shown(path)} has no end")


def _element(text: str, path: Path, place: int, new: str) -> str:
    """One element replaced by `new`, or removed where that is ''."""
    _, found, closing = _elements(text, path)
    start, end = found[place]
    if new:
        return text[:start] + new + text[end:]
    comma = re.compile(r"\s*,").match(text, end)
    end = comma.end() if comma and comma.end() <= closing else end
    line_start, line_end = text.rfind("\n", 0, start) + 1, text.find("\n", end)
    if not text[line_start:start].strip() and re.fullmatch(r"\s*(#.*)?", text[end:line_end]):
        return text[:line_start] + text[line_end + 1 :]
    if place == len(found) - 1 and place and not comma:
        start = found[place - 1][1]
    return text[:start] + text[end:].lstrip(" ") if place == 0 else text[:start].rstrip(" ") + text[end:]


def _appended(text: str, path: Path, new: str) -> str:
    opened, found, closing = _elements(text, path)
    if not found:
        return text[:opened] + new + text[opened:closing].lstrip(" \n") + text[closing:]
    start, end = found[-1]
    comma = re.compile(r"\s*,").match(text, end)
    has_comma = comma is not None and comma.end() <= closing
    if "\n" not in text[end:closing]:
        return text[:end] + ", " + new + text[end:]
    margin = text[text.rfind("\n", 0, start) + 1 : start]
    line_end = text.find("\n", end)
    rest = text[end:line_end] if has_comma else "," + text[end:line_end]
    return text[:end] + rest + "\n" + (margin if not margin.strip() else "    ") + new + "," + text[line_end:]
