"""Declared paths and globs: what is allowed, what matches, what two patterns can both mean.

Grammar: `/`-separated segments; `*` and `?` stay inside a segment, `[a-z]` and `[!a-z]` are classes, a
segment `**` is any number of segments; a trailing `/` means everything below. A segment with a class also
means itself as it is spelled: `app/[id]/page.tsx` is a real file of a router. Bounded by MAX_LENGTH and
MAX_WILDCARDS, and matching never backtracks over more than one wildcard, so that no pattern is slow
(reliability fact 24).
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby

from agentq.core.text import has_unsafe

MAX_LENGTH = 512
MAX_WILDCARDS = 12
_LAST = 0x10FFFF
_SLASH = (ord("/"), ord("/"))
_WILD = re.compile(r"[*?\[]")
_PART = re.compile(r"\[[!^]?\][^\]]*\]|\[[!^]?[^\]]+\]|.", re.DOTALL)

Spans = tuple[tuple[int, int], ...]  # ranges of code points, both ends included, sorted and apart


def problem(path: str) -> str:
    """Why `path` cannot be declared, or an empty string."""
    if not path or len(path) > MAX_LENGTH:
        return f"a path has 1 to {MAX_LENGTH} characters"
    if path[0] in "/~-:" or path[1:2] == ":":
        return "a path is relative to the repository and does not begin with '/', '~', ':' or '-'"
    if "\\" in path or has_unsafe(path):
        return "a path uses '/' and no control characters"
    segments = path.removesuffix("/").split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        return "a path stays inside the repository: no '.', '..' or empty segments"
    if segments[0].lower() == ".git":
        return "'.git' is never part of a spec"
    if path.count("*") + path.count("?") + path.count("[") > MAX_WILDCARDS:
        return f"a pattern has at most {MAX_WILDCARDS} wildcards"
    return ""


def is_glob(path: str) -> bool:
    return path.endswith("/") or bool(_WILD.search(path))


# ---------------------------------------------------------------- reading a pattern


def _segments(pattern: str) -> tuple[str, ...]:
    """Segments in which `**` always means zero or more; a final `**`, which needs one, becomes `*`, `**`."""
    parts = [*pattern.rstrip("/").split("/"), *(["**"] if pattern.endswith("/") else [])]
    single = [part for i, part in enumerate(parts) if part != "**" or i == 0 or parts[i - 1] != "**"]
    return tuple([*single[:-1], "*", "**"] if single[-1] == "**" else single)


@lru_cache(maxsize=65536)
def _tokens(segment: str) -> tuple[str, ...]:
    """A segment as single characters, '?', '*' and '[…]' classes; an unclosed or empty '[' is a literal."""
    return tuple(_PART.findall(segment))


@lru_cache(maxsize=4096)
def _accepts(token: str) -> Spans:
    """The characters a token other than '*' means. '/' is never among them."""
    if token == "?":
        return _complement([_SLASH])
    if len(token) == 1:
        return ((ord(token), ord(token)),)
    body = token[1:-1]
    negated = len(body) > 1 and body[0] in "!^"
    listed = _listed(body[1:] if negated else body)
    return _complement([*listed, _SLASH]) if negated else _complement([*_complement(listed), _SLASH])


def _listed(body: str) -> list[tuple[int, int]]:
    """The ranges written in a class; one that runs backwards is empty."""
    found, at = [], 0
    while at < len(body):
        ranged = body[at + 1 : at + 2] == "-" and at + 2 < len(body)
        low, high = ord(body[at]), ord(body[at + 2] if ranged else body[at])
        if low <= high:
            found.append((low, high))
        at += 3 if ranged else 1
    return found


def _complement(spans: Sequence[tuple[int, int]]) -> Spans:
    out, begin = [], 0
    for low, high in sorted(spans):
        if low > begin:
            out.append((begin, low - 1))
        begin = max(begin, high + 1)
    return tuple([*out, (begin, _LAST)] if begin <= _LAST else out)


# ---------------------------------------------------------------- matching


def _token_regex(token: str) -> str:
    if len(token) == 1:
        return "[^/]" if token == "?" else re.escape(token)
    ranges = (f"{re.escape(chr(low))}-{re.escape(chr(high))}" for low, high in _accepts(token))
    return f"[{inside}]" if (inside := "".join(ranges)) else "(?!)"


def _segment_regex(segment: str) -> str:
    """One segment, to its end. Between two stars the first place that fits is as good as any other, so it is
    taken for good; `(?=/|\\Z)` ties the end down before anything behind it is tried."""
    tokens = _tokens(segment)
    if set(tokens) == {"*"}:
        return "[^/]++"
    pieces = [""]
    for token in tokens:
        if token == "*":
            pieces.append("")
        else:
            pieces[-1] += _token_regex(token)
    middle = "".join(f"(?>[^/]*?{piece})" for piece in pieces[1:-1] if piece)
    body = pieces[0] + (f"{middle}[^/]*{pieces[-1]}" if len(pieces) > 1 else "")
    if any(len(token) > 1 for token in tokens):
        body = f"(?:{body}|{re.escape(segment)})"
    elif len(pieces) == 1:
        return body
    return f"(?>{body}(?=/|\\Z))"


@lru_cache(maxsize=65536)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression over whole paths (use `fullmatch`)."""
    parts = _segments(pattern)
    groups = ["/".join(map(_segment_regex, group)) for deep, group in groupby(parts, "**".__eq__) if not deep]
    out = "" if parts[0] == "**" else groups.pop(0)
    begun = bool(out)
    for index, group in enumerate(groups):
        lead = "/" if begun else ""
        if index < len(groups) - 1 or parts[-1] == "**":
            out += f"{lead}(?>(?:[^/]++/)*?{group}(?=/|\\Z))"
        else:
            out += f"{lead}(?:[^/]++/)*{group}"
        begun = True
    return re.compile(out + ("(?:/[^/]++)*+" if parts[-1] == "**" else ""))


def matches(pattern: str, path: str) -> bool:
    """Whether the declared `pattern` (a path or a glob) means `path`."""
    if not is_glob(pattern):
        return pattern == path
    return compile_glob(pattern).fullmatch(path) is not None


def matches_any(patterns: tuple[str, ...], path: str) -> bool:
    return any(matches(pattern, path) for pattern in patterns)


# ---------------------------------------------------------------- comparing patterns


@lru_cache(maxsize=65536)
def intersect(a: str, b: str) -> bool:
    """Whether some path is meant by both patterns. Exact; at most len(a) × len(b) comparisons."""
    if not is_glob(a) or not is_glob(b):
        return matches(a, b) if is_glob(a) else matches(b, a)
    return _meet(_segments(a), _segments(b), "**", _segments_meet)


@lru_cache(maxsize=65536)
def covers(pattern: str, declared: str) -> bool:
    """Whether every path that `declared` means is meant by `pattern`. A yes is certain; of patterns that
    split one segment in different ways a no may be too careful."""
    if pattern == declared:
        return True
    if not is_glob(declared):
        return matches(pattern, declared)
    return is_glob(pattern) and _cover(_segments(pattern), _segments(declared), "**", _segment_covers)


def _meet(a: Sequence[str], b: Sequence[str], star: str, same: Callable[[str, str], bool]) -> bool:
    """Whether two sequences with wildcards (`star`: zero or more of anything) have a common instance.
    `row[j]`: what was read of `a` so far and `b[:j]` can mean the same."""
    row = [True] + [False] * len(b)
    for i in range(len(a) + 1):
        token = a[i] if i < len(a) else None
        below = [False] * (len(b) + 1)
        for j in range(len(b) + 1):
            if not row[j]:
                continue
            other = b[j] if j < len(b) else None
            if star in (token, other):
                if other is not None:
                    row[j + 1] = True
                if token is not None:
                    below[j] = True
            elif token is not None and other is not None and same(token, other):
                below[j + 1] = True
        if i < len(a):
            row = below
    return row[-1]


def _cover(wide: Sequence[str], narrow: Sequence[str], star: str, same: Callable[[str, str], bool]) -> bool:
    """Whether `wide` reads `narrow` symbol by symbol; only its own `star` may stand for a `star`."""

    def closed(places: set[int]) -> set[int]:
        for place in sorted(places):
            behind = place
            while behind < len(wide) and wide[behind] == star:
                behind += 1
                places.add(behind)
        return places

    places = closed({0})
    for symbol in narrow:
        following = set()
        for place in places:
            if place == len(wide):
                continue
            if wide[place] == star:
                following.add(place)
            elif symbol != star and same(wide[place], symbol):
                following.add(place + 1)
        places = closed(following)
    return len(wide) in places


def _segments_meet(a: str, b: str) -> bool:
    return _reads(a, b) or _reads(b, a) or _meet(_tokens(a), _tokens(b), "*", _characters_meet)


def _segment_covers(wide: str, narrow: str) -> bool:
    return _reads(wide, narrow) and _cover(_tokens(wide), _tokens(narrow), "*", _characters_cover)


def _reads(pattern: str, spelled: str) -> bool:
    """Whether a segment means the characters another one is written with, which that one also means."""
    return pattern == spelled or re.fullmatch(_segment_regex(pattern), spelled) is not None


def _characters_meet(a: str, b: str) -> bool:
    return a == b or any(
        low <= high_b and low_b <= high for low, high in _accepts(a) for low_b, high_b in _accepts(b)
    )


def _characters_cover(wide: str, narrow: str) -> bool:
    return wide == narrow or all(
        any(low_w <= low and high <= high_w for low_w, high_w in _accepts(wide)) for low, high in _accepts(narrow)
    )
