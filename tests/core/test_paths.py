"""Globs: a table for people, and two independent oracles: a naive matcher and brute-force enumeration."""

from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.core import paths
from agentq.core.paths import compile_glob, covers, intersect, is_glob, matches, problem

TABLE = [
    # pattern, meant, not meant
    ("src/a.py", ["src/a.py"], ["src/b.py", "src/a.py/x", "xsrc/a.py", "src/a.pyx"]),
    ("src/", ["src/a", "src/a/b"], ["src", "srcs/a", "a/src/b"]),
    ("src/**", ["src/a", "src/a/b"], ["src", "srcs/a"]),
    ("src/*", ["src/a", "src/.env"], ["src", "src/a/b", "src/"]),
    ("*.py", ["a.py", ".py"], ["a/b.py", "a.pyc"]),
    ("**/*.py", ["a.py", "x/a.py", "x/y/a.py"], ["a.pyc", "x/a.py/b"]),
    ("**", ["a", "a/b/c"], [""]),
    ("**/", ["a", "a/b"], [""]),
    ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a", "ab", "a/xb", "a/b/c"]),
    ("a/**/**/b", ["a/b", "a/x/b"], ["ab"]),
    ("a/**/b/**/c", ["a/b/c", "a/b/x/b/c", "a/x/b/c"], ["a/c", "a/b/x", "a/cb/c"]),
    ("**/a/**", ["a/x", "y/a/x", "a/a/x"], ["a", "y/a", "b/x"]),
    ("a**b", ["ab", "axb"], ["a/b", "ax/b"]),
    ("?", ["a", "é"], ["", "ab", "/"]),
    ("a?c", ["abc", "a.c"], ["ac", "a/c"]),
    ("[a-c]x", ["ax", "cx", "[a-c]x"], ["dx", "x", "-x"]),
    ("[!a-c]x", ["dx", "-x"], ["ax", "/x", "x"]),
    ("[^a]", ["b", "[^a]"], ["a"]),
    ("[]a]", ["]", "a", "[]a]"], ["b"]),
    ("[!]a]", ["b"], ["]", "a"]),
    ("[a-]", ["a", "-"], ["b"]),
    ("[.-0]", [".", "0"], ["/", "1"]),
    ("[z-a]", ["[z-a]"], ["z", "a", "m"]),
    ("[a&&b]", ["a", "&", "b"], ["c"]),
    ("[α-ω]", ["β"], ["b"]),
    ("a[", ["a["], ["a"]),
    ("a[]", ["a[]"], ["a", "a]"]),
    ("a.b", ["a.b"], ["axb"]),
    ("app/[id]/page.tsx", ["app/[id]/page.tsx", "app/i/page.tsx"], ["app/id/page.tsx"]),
    ("app/[...slug]/*", ["app/[...slug]/page.tsx", "app/s/x"], ["app/slug/x"]),
    ("*a*b*", ["ab", "xaxbx", "aba", "abbaa"], ["ba", "a/b"]),
    ("*a*a", ["aa", "aba", "aaa"], ["a", "ab"]),
    ("**/a/**/b/**/b", ["a/b/b", "a/b/x/b/b"], ["a/b"]),
]


@pytest.mark.parametrize(("pattern", "meant", "other"), TABLE, ids=[row[0] for row in TABLE])
def test_what_a_pattern_means(pattern, meant, other):
    assert [path for path in meant if not matches(pattern, path)] == []
    assert [path for path in other if matches(pattern, path)] == []


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "1 to 512"),
        ("x" * 513, "1 to 512"),
        ("/etc/passwd", "relative"),
        ("~/x", "relative"),
        ("-rf", "relative"),
        (":(top)x", "relative"),
        ("C:/x", "relative"),
        ("a\\b", "control"),
        ("a\nb", "control"),
        ("a\x85b", "control"),
        ("a\u202eb", "control"),
        ("a\ud800", "control"),
        ("../up", "inside"),
        ("a/../b", "inside"),
        ("a/./b", "inside"),
        ("a//b", "inside"),
        ("a//", "inside"),
        (".git/config", "never"),
        (".GIT", "never"),
        ("*" * 13, "at most 12"),
        ("[?*" * 5, "at most 12"),
    ],
)
def test_what_cannot_be_declared(path, why):
    assert why in problem(path)


@pytest.mark.parametrize(
    "path", ["a", "a/", ".github/x.yml", ".gitignore", "a/-b", "a b", "é", "*" * 12, "x" * 512]
)
def test_what_can_be_declared(path):
    assert problem(path) == ""


# ---------------------------------------------------------------- an independent matcher


def naive(pattern: str, path: str) -> bool:
    """By recursion over segments and characters, from the grammar in the module's docstring."""
    wanted = pattern.rstrip("/").split("/") + (["**"] if pattern.endswith("/") else [])
    if not path or "" in path.split("/"):
        return False

    @cache
    def deep(i: int, rest: tuple[str, ...]) -> bool:
        if i == len(wanted):
            return not rest
        if wanted[i] != "**":
            return bool(rest) and one(wanted[i], rest[0]) and deep(i + 1, rest[1:])
        if all(part == "**" for part in wanted[i:]):
            return bool(rest)
        return deep(i + 1, rest) or (bool(rest) and deep(i, rest[1:]))

    return deep(0, tuple(path.split("/")))


def one(pattern: str, segment: str) -> bool:
    return chars(pattern, segment) or ("[" in pattern and pattern == segment)


def chars(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return chars(pattern[1:], text) or (bool(text) and chars(pattern, text[1:]))
    if pattern[0] == "[":
        begin = 2 if pattern[1:2] in ("!", "^") and pattern[2:3] and "]" in pattern[3:] else 1
        close = pattern.find("]", begin + 1)
        if close > 0:
            listed, negated = pattern[begin:close], begin == 2
            return bool(text) and (member(text[0], listed) != negated) and chars(pattern[close + 1 :], text[1:])
    return bool(text) and pattern[0] in ("?", text[0]) and chars(pattern[1:], text[1:])


def member(character: str, listed: str) -> bool:
    while listed:
        if len(listed) > 2 and listed[1] == "-":
            if listed[0] <= character <= listed[2]:
                return True
            listed = listed[3:]
        else:
            if listed[0] == character:
                return True
            listed = listed[1:]
    return False


CLASSES = ["[a]", "[!a]", "[ab]", "[^ab]", "[a-b]", "[b-a]"]
symbols = st.sampled_from(["a", "b", "*", "?", *CLASSES])
segments = st.one_of(st.just("**"), st.lists(symbols, min_size=1, max_size=4).map("".join))
patterns = st.builds(
    lambda parts, end: "/".join(parts) + end,
    st.lists(segments, min_size=1, max_size=5),
    st.sampled_from(["", "/"]),
)
words = st.lists(st.text("abc[]!-", min_size=1, max_size=4), min_size=1, max_size=5).map("/".join)


@settings(max_examples=400, deadline=None)
@given(patterns, words)
def test_matching_agrees_with_a_naive_matcher(pattern, path):
    assert (compile_glob(pattern).fullmatch(path) is not None) == naive(pattern, path)


@settings(max_examples=300, deadline=None)
@given(st.text("ab*", min_size=1, max_size=7), st.text("ab", min_size=1, max_size=7))
def test_stars_agree_with_a_naive_matcher(pattern, path):
    assert (compile_glob(pattern).fullmatch(path) is not None) == naive(pattern, path)


@settings(max_examples=400, deadline=None)
@given(st.text("a[]!^-*", min_size=1, max_size=6), st.text("a[]!^-b", min_size=1, max_size=6))
def test_odd_brackets_agree_with_a_naive_matcher(pattern, path):
    assert (compile_glob(pattern).fullmatch(path) is not None) == naive(pattern, path)


# ---------------------------------------------------------------- intersect and covers against enumeration

SEGMENT_WORDS = ["".join(word) for size in (1, 2, 3, 4, 5) for word in product("abc", repeat=size)]
PATH_WORDS = ["/".join(word) for size in (1, 2, 3, 4, 5, 6) for word in product("abc", repeat=size)]
one_segment = st.lists(st.sampled_from(["a", "b", "*", "?", "[a]", "[!a]", "[ab]"]), min_size=1, max_size=3).map(
    "".join
)
deep_paths = st.builds(
    lambda parts, end: "/".join(parts) + end,
    st.lists(st.sampled_from(["a", "b", "*", "?", "[!a]", "**"]), min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)


def meant(pattern: str, words: list[str]) -> set[str]:
    return {word for word in [*words, pattern] if matches(pattern, word)}


@settings(max_examples=300, deadline=None)
@given(one_segment, one_segment)
def test_intersect_and_covers_of_segments_are_exact(a, b):
    in_a, in_b = meant(a, [*SEGMENT_WORDS, b]), meant(b, [*SEGMENT_WORDS, a])
    assert intersect(a, b) == intersect(b, a) == bool(in_a & in_b)
    if covers(a, b):
        assert in_b <= in_a


@settings(max_examples=300, deadline=None)
@given(deep_paths, deep_paths)
def test_intersect_and_covers_of_paths_are_exact(a, b):
    in_a, in_b = meant(a, [*PATH_WORDS, b]), meant(b, [*PATH_WORDS, a])
    assert intersect(a, b) == intersect(b, a) == bool(in_a & in_b)
    if covers(a, b):
        assert in_b <= in_a


@pytest.mark.parametrize(
    ("wide", "narrow", "expected"),
    [
        ("docs/**", "docs/", True),
        ("docs/**", "docs/*.md", True),
        ("docs/", "docs/a/b.md", True),
        ("docs/*", "docs/**", False),
        ("docs/?", "docs/*", False),
        ("**/*.md", "docs/*.md", True),
        ("**/*.md", "docs/**", False),
        ("[a-z].py", "[b-d].py", False),  # the narrow one is also spelled '[b-d].py'
        ("*.py", "[b-d].py", True),
        ("a.py", "a.py", True),
        ("a.py", "*.py", False),
    ],
)
def test_covers(wide, narrow, expected):
    assert covers(wide, narrow) is expected


@pytest.mark.parametrize(("a", "b"), [("[α-ω]*", "[β]x"), ("[]*", "[?a"), ("[z-a]*", "[z*"), ("x[!ab]", "xé")])
def test_intersect_knows_characters_far_away_and_odd_brackets(a, b):
    assert intersect(a, b) and intersect(b, a)


def test_empty_ranges_meet_nothing_but_themselves():
    assert not intersect("[z-a]*", "?") and intersect("[z-a]*", "[z-a]x")


# ---------------------------------------------------------------- bounded


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 12 + "b", "a" * 500),
        ("/".join(["**", "a"] * 6) + "/b", "a/" * 255 + "a"),
        ("/".join(["**", "*a*"] * 3) + "/b", "aaaa/" * 100 + "a"),
        ("?" * 11 + "*", "a" * 500),
        ("[ab]*" * 6 + "c", "ab" * 250),
    ],
)
def test_hostile_patterns_end(pattern, path):
    """Without atomic groups each of these takes longer than the universe has had."""
    assert problem(pattern) == ""
    compile_glob(pattern).fullmatch(path)
    assert not matches(pattern + "!", path)


def test_comparing_patterns_takes_at_most_the_product_of_their_lengths():
    steps = 0

    def same(a: str, b: str) -> bool:
        nonlocal steps
        steps += 1
        return a == b

    a, b = tuple("*a" * 6 + "a" * 480), tuple("*a" * 6 + "a" * 479 + "b")
    assert paths._meet(a, b, "*", same) is False
    assert 0 < steps <= len(a) * len(b)
    assert intersect("a" * 500 + "*", "a" * 500 + "?")  # longer than Python's stack is deep


def test_is_glob():
    assert [is_glob(path) for path in ("a", "a/", "a*", "a?", "a[", "a]b")] == [
        False,
        True,
        True,
        True,
        True,
        False,
    ]
