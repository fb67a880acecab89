"""The router's first layer (mission row P5): words that say what kind of work a text asks for.

Phrases are compared with the words of a text one by one. There are no regular expressions behind them, so that no
text takes long.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agentq.core.routes.guess import KINDS, TYPES, Guess, shares
from agentq.core.routes.rules import RULES, Rule

MAX_CHARACTERS, MAX_WORDS = 8000, 300  # what a text says first is what it is about
# How much a vote counts: so that 80 % is right four times of five. The training script prints what it is.
TYPE_SLOPE, KIND_SLOPE = 1.1, 1.1
_WORD = re.compile(r"[^\W\d_]+|\d{1,9}")
# Words before the one that counts: "please list …", "we need to check …".
_FILLERS = frozenset(
    {"please", "pls", "bitte", "can", "could", "you", "we", "i", "need", "want", "to", "the", "a", "an"}
)


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that applies, and the phrase it applies by."""

    rule: Rule
    phrase: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What both layers see of a text: its words, and the rules that apply, in the order of the table."""

    words: tuple[str, ...]
    hits: tuple[Hit, ...]


def read(text: str) -> Reading:
    """Letters in lower case, numbers as digits; only the beginning of a long text. Linear in its length."""
    words = tuple(_WORD.findall(text[:MAX_CHARACTERS].lower())[:MAX_WORDS])
    return Reading(words, tuple(_hits(words)))


def guess(reading: Reading) -> Guess:
    """What the rules alone say; the same share for everything where they say nothing."""
    total = dict.fromkeys(TYPES + KINDS, 0.0)
    for hit in reading.hits:
        for label, weight in hit.rule.votes.items():
            total[label] += weight
    return Guess(
        shares({label: TYPE_SLOPE * total[label] for label in TYPES}),
        shares({label: KIND_SLOPE * total[label] for label in KINDS}),
    )


def _hits(words: Sequence[str]) -> list[Hit]:
    begin = next((i for i, word in enumerate(words) if word not in _FILLERS), 0)
    found: dict[int, str] = {}
    for i, word in enumerate(words):
        for number, rest, phrase in _candidates(word):
            if number in found or (RULES[number].first and i != begin):
                continue
            if not rest or _continues(words, i + 1, rest):
                found[number] = phrase
    return [Hit(RULES[number], found[number]) for number in sorted(found)]


_Phrase = tuple[int, tuple[str, ...], str]  # number of its rule, words after the first, the phrase


def _index() -> tuple[dict[str, list[_Phrase]], dict[str, list[_Phrase]], tuple[int, ...]]:
    """First word → phrases; first letters → phrases; how many letters that can be."""
    exact: dict[str, list[_Phrase]] = {}
    begins: dict[str, list[_Phrase]] = {}
    for number, rule in enumerate(RULES):
        for phrase in rule.phrases.split(","):
            head, *rest = phrase.split()
            table = begins if head.endswith("*") else exact
            table.setdefault(head.rstrip("*"), []).append((number, tuple(rest), " ".join([head, *rest])))
    return exact, begins, tuple(sorted({len(head) for head in begins}))


_EXACT, _BEGINS, _LENGTHS = _index()


def _candidates(word: str) -> Iterator[_Phrase]:
    yield from _EXACT.get(word, ())
    for length in _LENGTHS:
        if length > len(word):
            break
        yield from _BEGINS.get(word[:length], ())


def _continues(words: Sequence[str], start: int, rest: tuple[str, ...]) -> bool:
    """Whether the words from `start` on are `rest`."""
    if start + len(rest) > len(words):
        return False
    return all(
        word.startswith(wanted[:-1]) if wanted.endswith("*") else word == wanted
        for word, wanted in zip(words[start:], rest, strict=False)
    )
