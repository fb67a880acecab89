"""TOML as text: parse it with the line of every key, write single values.

`tomllib` tells no lines. A text it accepts is cut into statements, and each is parsed on its own below its
header. Invariant: the lines are exact for every valid document, strings and arrays over many lines included.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from agentq.core.text import one_line
from agentq.errors import ConfigError

Lines = dict[tuple[str, ...], int]
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})' + r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"' + r"|'[^'\n]*'|#[^\n]*|[\[{]|[\]}]|\n",
    re.DOTALL,
)
_PLACE = re.compile(r" ?\(at (?:line (\d+), column \d+|end of document)\)$")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def parse(text: str, file: str) -> tuple[dict[str, Any], Lines]:
    """The document, and the 1-based line on which each table and key (a path of names) is first written.

    Raises ConfigError with file and line.
    """
    # Most hosts and many projects have no file: they need not pay for the import (5 ms with datetime).
    if not text.strip():
        return {}, {}
    import tomllib

    text = text.replace("\r\n", "\n")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        why = str(error)
        place = _PLACE.search(why)
        line = int(place[1]) if place and place[1] else text.rstrip().count("\n") + 1
        why = one_line(_PLACE.sub("", why))
        raise ConfigError(file, "", f"not TOML: {why}", 'texts stand in quotes: key = "text"', line) from None
    except (ValueError, RecursionError):
        raise ConfigError(file, "", "not TOML: a number too long or brackets too deep") from None
    return data, _lines(text)


def _lines(text: str) -> Lines:
    import tomllib

    found: Lines = {}
    header = ""
    for line, statement in _statements(text):
        if statement.startswith("["):
            header = statement
            _record(tomllib.loads(statement), (), line, found)
        else:
            _record(tomllib.loads(f"{header}\n{statement}"), (), line, found)
    return found


def _record(data: dict[str, Any], path: tuple[str, ...], line: int, found: Lines) -> None:
    for key, value in data.items():
        found.setdefault((*path, key), line)
        inner = value[-1] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            _record(inner, (*path, key), line, found)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every header and every `key = value`, comments before it left out."""
    start, depth = 0, 0
    for token in _TOKEN.finditer(text + "\n"):
        mark = token[0]
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        elif mark == "\n" and depth == 0:
            statement = text[start : token.start()].strip(" \t")
            if statement and not statement.startswith("#"):
                yield text.count("\n", 0, start) + 1, statement
            start = token.end()


def dump(value: object) -> str:
    """A text, number, list or table as TOML on one line."""
    if isinstance(value, str):
        # JSON escapes are TOML escapes, except that TOML wants DEL escaped too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        pairs = (f"{key if _BARE.fullmatch(key) else dump(key)} = {dump(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(dump(item) for item in value) + "]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    return str(value).lower()
