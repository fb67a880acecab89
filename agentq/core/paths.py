"""Declared paths and globs: what is allowed, what matches, what two patterns can both mean.

Grammar: `/`-separated segments; `*` and `?` stay inside a segment, `[a-z]` is a class, a segment `**` is any
number of segments; a trailing `/` means everything below. Bounded by MAX_LENGTH and MAX_WILDCARDS, so that no
pattern can make matching slow (reliability fact 24).
"""

import re
from collections.abc import Callable
from functools import cache, lru_cache

MAX_LENGTH = 512
MAX_WILDCARDS = 12
_WILD = re.compile(r"[*?\[]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PART = re.compile(r"\[(?:\^|!)?\]?[^\]]*\]|.", re.DOTALL)


def problem(path: str) -> str:
    """Why `path` cannot be declared, or an empty string."""
    if not path or len(path) > MAX_LENGTH:
        return f"a path has 1 to {MAX_LENGTH} characters"
    if path[0] in "/~-" or path[1:2] == ":":
        return "a path is relative to the repository and does not begin with '/', '~' or '-'"
    if "\\" in path or _CONTROL.search(path):
        return "a path uses '/' and no control characters"
    segments = path.rstrip("/").split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        return "a path stays inside the repository: no '.', '..' or empty segments"
    if segments[0] == ".git":
        return "'.git' is never part of a spec"
    if path.count("*") + path.count("?") + path.count("[") > MAX_WILDCARDS:
        return f"a pattern has at most {MAX_WILDCARDS} wildcards"
    return ""


def is_glob(path: str) -> bool:
    return path.endswith("/") or bool(_WILD.search(path))


def _segments(pattern: str) -> tuple[str, ...]:
    """Segments in which `**` always means zero or more; a final `**`, which needs one, becomes `*`, `**`."""
    parts = [*pattern.rstrip("/").split("/"), *(["**"] if pattern.endswith("/") else [])]
    single = [part for i, part in enumerate(parts) if part != "**" or i == 0 or parts[i - 1] != "**"]
    return tuple([*single[:-1], "*", "**"] if single[-1] == "**" else single)


def _tokens(segment: str) -> tuple[str, ...]:
    """A segment as literals, '?', '*' and '[…]' classes; an unclosed '[' is a literal."""
    return tuple(_PART.findall(segment))


def _token_regex(token: str) -> str:
    if token == "*":
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if len(token) > 2 and token[0] == "[":
        body = token[1:-1]
        negated = body[0] in "!^" and len(body) > 1
        body = body[1:] if negated else body
        safe = body.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace("^", "\\^")
        return f"[^/{safe}]" if negated else f"(?!/)[{safe}]"
    return re.escape(token)


@lru_cache(maxsize=65536)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression over whole paths."""
    parts = _segments(pattern)
    out = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            out = out.removesuffix("/") + "(?:/[^/]+)*" if last else out + "(?:[^/]+/)*"
        else:
            out += _segment_regex(part) + ("" if last else "/")
    return re.compile(out)


def _segment_regex(segment: str) -> str:
    piece = "".join(_token_regex(token) for token in _tokens(segment))
    try:
        re.compile(piece)
    except re.error:
        return re.escape(segment)
    return piece


def matches(pattern: str, path: str) -> bool:
    """Whether the declared `pattern` (a path or a glob) means `path`."""
    if not is_glob(pattern):
        return pattern == path
    return compile_glob(pattern).fullmatch(path) is not None


def matches_any(patterns: tuple[str, ...], path: str) -> bool:
    return any(matches(pattern, path) for pattern in patterns)


@lru_cache(maxsize=65536)
def intersect(a: str, b: str) -> bool:
    """Whether some path is meant by both patterns. Exact for literals, '*', '?' and '**'; a class is
    compared by the characters it accepts."""
    if not is_glob(a) or not is_glob(b):
        return matches(a, b) if is_glob(a) else matches(b, a)
    return _meet(_segments(a), _segments(b), "**", _segments_meet)


def _meet(a: tuple[str, ...], b: tuple[str, ...], star: str, same: Callable[[str, str], bool]) -> bool:
    """Whether two sequences with wildcards (`star`: zero or more of anything) have a common instance."""

    @cache
    def meet(i: int, j: int) -> bool:
        if i < len(a) and a[i] == star:
            return meet(i + 1, j) or (j < len(b) and meet(i, j + 1))
        if j < len(b) and b[j] == star:
            return meet(i, j + 1) or (i < len(a) and meet(i + 1, j))
        if i == len(a) or j == len(b):
            return i == len(a) and j == len(b)
        return same(a[i], b[j]) and meet(i + 1, j + 1)

    return meet(0, 0)


def _segments_meet(a: str, b: str) -> bool:
    return _meet(_tokens(a), _tokens(b), "*", _characters_meet)


def _characters_meet(a: str, b: str) -> bool:
    if a == b or "?" in (a, b):
        return True
    one, other = re.compile(_token_regex(a)), re.compile(_token_regex(b))
    if len(a) == 1 or len(b) == 1:
        return bool(one.fullmatch(b) if len(b) == 1 else other.fullmatch(a))
    return any(one.fullmatch(chr(c)) and other.fullmatch(chr(c)) for c in range(32, 0x250))
