"""Text from outside (reliability fact 23)."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq.core.text import clean, did_you_mean, has_unsafe, hours, one_line, plural


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é ✓\n\tx", "plain é ✓\n\tx"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]0;never closed", ""),
        ("\x1b\x1b[31mx", "x"),
        ("\x1bMup", "up"),
        ("a\x00b\x08c\x7fd\x9be\x85f\rg", "abcdefg"),
        ("a\u202eb\u2066c\u200fd\u061ce\ufefff\u2028g", "abcdefg"),
        ("\ud83dx", "x"),
    ],
)
def test_clean(text, expected):
    assert clean(text) == expected


@given(st.text() | st.text("\x1b[]0m;\x07\\\x9b2J\u202eab\n"))
def test_what_clean_returns_is_clean_for_good(text):
    once = clean(text)
    assert clean(once) == once
    assert not has_unsafe(once.replace("\n", "").replace("\t", ""))
    assert all(unicodedata.category(c) not in ("Cc", "Cs") or c in "\n\t" for c in once)
    once.encode("utf-8")


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\x1b", "a\u202eb", "\ud800", "\x9b"])
def test_has_unsafe(text):
    assert has_unsafe(text)
    assert not has_unsafe("plain é ✓")


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("first\nlast \n\n", 0, "last"),
        ("progress 1%\rprogress 100%", 0, "progress 100%"),
        ("a \t b", 0, "a b"),
        ("", 5, ""),
        ("\x1b[31m\n", 5, ""),
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", 1, "…"),
    ],
)
def test_one_line(text, width, expected):
    assert one_line(text, width) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0 min"),
        (0.5, "30 min"),
        (0.99, "59 min"),
        (0.999, "1 h"),
        (1.0, "1 h"),
        (1.04, "1 h"),
        (4.5, "4.5 h"),
        (9.0, "9 h"),
        (10.0, "10 h"),
        (100.0, "100 h"),
    ],
)
def test_hours(value, expected):
    assert hours(value) == expected


def test_small_words():
    assert (plural(1, "spec"), plural(0, "spec"), plural(2, "spec")) == ("1 spec", "0 specs", "2 specs")
    assert did_you_mean("raedy", ["ready", "paused"]) == "did you mean 'ready'?"
    assert did_you_mean("zzz", ["ready"]) == ""
