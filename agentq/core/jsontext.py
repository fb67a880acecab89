"""JSON with places: where in a text a value stands, and what is wrong with it, for people who write by hand.

The C decoder does the reading; the slow scanners here run only once something is wrong.
Invariant: duplicate keys, NaN and Infinity are refused, and every error carries a line and a column.
"""

import json
import re
from collections.abc import Callable
from json import JSONDecodeError
from typing import Any, NoReturn

from agentq.core.text import clean
from agentq.errors import QueueError

_SPACE = " \t\n\r"
MAX_BYTES = 256 * 1024 * 1024


class _Duplicate(Exception):
    pass


class _Constant(Exception):
    pass


_NUMBER = re.compile(r"-?\d{4301,}")  # more digits than an integer is read with
_CONFLICT = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")
_WORDS = ("True", "False", "None", "undefined")
_PLAINLY = {
    "Expecting value": ("a value is missing here", ""),
    "Expecting property name enclosed in double quotes": ("a key in double quotes is missing here", ""),
    "Expecting ',' delimiter": ("a comma or a closing bracket is missing here", ""),
    "Expecting ':' delimiter": ("a colon is missing here", ""),
    "Unterminated string starting at": ("this string is not closed", 'a quote (") is missing'),
    "Invalid control character at": (
        "a line break, tab or control character inside a string",
        "write \\n for a line break, \\t for a tab; or a quote is missing before it",
    ),
    "Invalid \\escape": ("a backslash that begins no JSON escape", "write \\\\ for a backslash"),
    "Invalid \\uXXXX escape": ("a \\u escape without four hexadecimal digits", ""),
}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise _Duplicate
    return out


def _refuse(name: str) -> NoReturn:
    raise _Constant(name)


_DECODE = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse).raw_decode
_PLAIN = json.JSONDecoder().raw_decode


def fail(text: str, offset: int, why: str, hint: str = "", path: str = "") -> NoReturn:
    """Raise a QueueError that names the place of `offset` (characters) in `text`."""
    line = text.count("\n", 0, offset) + 1
    raise QueueError(why, hint, path=path, line=line, column=offset - text.rfind("\n", 0, offset))


def skip(text: str, offset: int) -> int:
    """The offset of the next character that is not white space."""
    size = len(text)
    while offset < size and text[offset] in _SPACE:
        offset += 1
    return offset


def value(text: str, offset: int) -> tuple[Any, int]:
    """The value at `offset` and the offset behind it. Raises QueueError with its place."""
    try:
        return _DECODE(text, offset)
    except JSONDecodeError as error:
        fail(text, *_explain(text, error))
    except _Duplicate:
        where, key = _repeated(text, offset)
        fail(text, where, f"the key '{clean(key)}' stands here a second time", "keep one of them")
    except _Constant as error:
        where = _outside_strings(text, offset, re.compile(re.escape(str(error))))
        fail(text, where, f"{error} is not a number that JSON knows", "write a number or leave the key out")
    except RecursionError:
        fail(text, offset, "nested too deeply", "entries of a queue are flat objects")
    except ValueError:
        fail(text, _outside_strings(text, offset, _NUMBER), "a number with more than 4300 digits")


def _explain(text: str, error: JSONDecodeError) -> tuple[int, str, str]:
    """(place, what is wrong, hint). The place is the character to look at, not white space before it."""
    at = error.pos if error.msg.startswith("Invalid control") else skip(text, error.pos)
    before = len(text[:at].rstrip(_SPACE + ","))
    found = text[at : at + 1]
    if not text.strip(_SPACE):
        return at, "the file is empty", "an empty queue is {}; 'agentq init' writes one"
    if text.startswith("\ufeff"):
        return 0, "the file begins with a byte order mark", "save it as UTF-8 without BOM"
    if text.startswith(("//", "/*", "#"), at):
        return at, "comments are not part of JSON", "put the note into a description"
    if text.startswith(_CONFLICT, at):
        return at, "markers of a merge conflict", "keep the entries of both sides and remove the markers"
    if error.msg.startswith("Illegal trailing comma") or (found in ("]", "}") and "," in text[before:at]):
        return text.index(",", before), "a comma before a closing bracket", "remove the comma"
    if found == "'":
        return at, "JSON uses double quotes", "write \"…\" instead of '…'"
    if text.startswith(_WORDS, at):
        return at, "JSON writes true, false and null", "in lower case, without quotes"
    if at >= len(text):
        return at, "the text ends before it is complete", "a bracket or a quote is not closed"
    plain = _PLAINLY.get(error.msg.partition(": ")[0].rstrip(": "))
    return (at, *(plain or (error.msg[:1].lower() + error.msg[1:], "")))


def expect(text: str, offset: int, character: str) -> int:
    offset = skip(text, offset)
    if text[offset : offset + 1] != character:
        closing = "," if character in "}]" else character
        error = JSONDecodeError(f"Expecting '{closing}' delimiter", text, offset)
        fail(text, *_explain(text, error))
    return offset + 1


def read_object(text: str, offset: int, handle: Callable[[str, int, int], int]) -> int:
    """Read the object at `offset`; returns the offset behind it. For each member `handle(key, offset of the
    key, offset of the value)` returns the offset behind the value."""
    offset = skip(text, expect(text, offset, "{"))
    if text[offset : offset + 1] == "}":
        return offset + 1
    while True:
        if text[offset : offset + 1] != '"':
            error = JSONDecodeError("Expecting property name enclosed in double quotes", text, offset)
            fail(text, *_explain(text, error))
        key, behind = value(text, offset)
        offset = skip(text, handle(key, offset, skip(text, expect(text, behind, ":"))))
        if text[offset : offset + 1] != ",":
            return expect(text, offset, "}")
        offset = skip(text, offset + 1)


def read_array(text: str, offset: int, handle: Callable[[int], int]) -> int:
    """Read the array at `offset`; returns the offset behind it. For each element `handle(its offset)`
    returns the offset behind it."""
    offset = skip(text, expect(text, offset, "["))
    if text[offset : offset + 1] == "]":
        return offset + 1
    while True:
        offset = skip(text, handle(offset))
        if text[offset : offset + 1] != ",":
            return expect(text, offset, "]")
        offset = skip(text, offset + 1)


def _keys(text: str, offset: int) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []

    def handle(key: str, key_at: int, at: int) -> int:
        found.append((key, key_at, at))
        return _PLAIN(text, at)[1]

    read_object(text, offset, handle)
    return found


def _items(text: str, offset: int) -> list[int]:
    found: list[int] = []

    def handle(at: int) -> int:
        found.append(at)
        return _PLAIN(text, at)[1]

    read_array(text, offset, handle)
    return found


def locate(text: str, offset: int, path: list[str | int]) -> int:
    """Where the value at `path` below the value at `offset` begins; the nearest one that exists."""
    for step in path:
        if isinstance(step, str) and text[offset] == "{":
            inner = [at for key, _, at in _keys(text, offset) if key == step]
        elif isinstance(step, int) and text[offset] == "[":
            inner = _items(text, offset)[step : step + 1]
        else:
            inner = []
        if not inner:
            return offset
        offset = inner[-1]
    return offset


def locate_key(text: str, offset: int, name: str) -> int:
    """Where the key `name` of the object at `offset` stands."""
    return next((key_at for key, key_at, _ in _keys(text, offset) if key == name), offset)


def _repeated(text: str, offset: int) -> tuple[int, str]:
    try:
        return _find_duplicate(text, offset)
    except RecursionError:
        return offset, "?"


def _find_duplicate(text: str, offset: int) -> tuple[int, str]:
    """The first repeated key at or below `offset`: (its offset, the key)."""
    inner: list[int] = []
    if text[offset] == "[":
        inner = _items(text, offset)
    elif text[offset] == "{":
        seen: set[str] = set()
        for key, key_at, at in _keys(text, offset):
            if key in seen:
                return key_at, key
            seen.add(key)
            inner.append(at)
    for at in inner:
        where, key = _find_duplicate(text, at)
        if key:
            return where, key
    return offset, ""


def _outside_strings(text: str, offset: int, wanted: re.Pattern[str]) -> int:
    """Where `wanted` is first found outside a string, at or behind `offset`."""
    inside = False
    while offset < len(text):
        character = text[offset]
        if inside and character == "\\":
            offset += 1
        elif character == '"':
            inside = not inside
        elif not inside and wanted.match(text, offset):
            return offset
        offset += 1
    return offset
