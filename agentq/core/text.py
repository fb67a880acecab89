"""Text from outside made safe to show. Invariant: what `clean` returns moves no cursor, reorders no text."""

import difflib
import re
from collections.abc import Iterable

# C0 without tab and newline, DEL, C1, bidirectional controls, line separators (reliability fact 23); lone
# surrogates, which no UTF-8 file or terminal can take.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
# An escape sequence goes whole, so that no "[31m" is left behind.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def clean(text: str) -> str:
    """`text` without escape sequences, control and bidirectional characters. Newlines and tabs stay."""
    return _UNSAFE.sub("", _ESCAPES.sub("", text))


def one_line(text: str, width: int = 0) -> str:
    """The last non-empty line of `text`, cleaned, cut to `width` characters (0: not cut)."""
    lines = [line for line in clean(text.replace("\r", "\n")).split("\n") if line.strip()]
    line = " ".join(lines[-1].split()) if lines else ""
    return line if not width or len(line) <= width else line[: max(width - 1, 0)] + "…"


def has_unsafe(text: str) -> bool:
    """Whether `text` holds a character that must not reach a terminal, newlines and tabs included."""
    return bool(_UNSAFE.search(text)) or "\n" in text or "\t" in text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint naming the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def dollars(value: float) -> str:
    """Cents, and of less than ten cents what matters: `$1,234.50`, `$0.0024`."""
    return f"${value:,.2f}" if value >= 0.1 or not value else f"${value:.4f}"


def ago(seconds: float) -> str:
    """How long since, as a person says it: 12 → '12 s ago', 150 → '2 min ago', 9000 → '2.5 h ago'."""
    return f"{seconds:.0f} s ago" if seconds < 59.5 else f"{hours(seconds / 3600)} ago"


def hours(value: float) -> str:
    """Hours as a person says them: 0.5 → '30 min', 9.0 → '9 h'."""
    if round(value * 60) < 60:
        return f"{round(value * 60)} min"
    return f"{value:.1f}".rstrip("0").rstrip(".") + " h"
