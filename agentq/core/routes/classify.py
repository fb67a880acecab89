"""The router's second layer (mission row P5): naive Bayes over words and rules, with weights that ship as JSON.

`features` is shared with `agentq.models.training`, so that what is asked is what was learned.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agentq.core.routes.guess import BANDS, KINDS, MIDDLES, TYPES, Guess, shares
from agentq.core.routes.keywords import Reading

FORMAT = 1
SCALE = 100  # weights are whole hundredths of a nat
HEADS = (TYPES, KINDS, BANDS)
LABELS = TYPES + KINDS + BANDS
ENDS = (0, len(TYPES), len(TYPES) + len(KINDS), len(LABELS))  # where the labels of each head begin, and the end
STEM = 5  # letters: "migration", "migrations" and "migratoin" begin alike


def features(reading: Reading) -> list[str]:
    """What is counted about a text: its words, how longer words begin (`migra*`), rules that apply (`@name`), and
    whether it names a number of things (`@many`). Sorted, each once."""
    found: set[str] = {f"@{hit.rule.name}" for hit in reading.hits} or {"@none"}
    for word in reading.words:
        if word[0].isdigit():
            found.add("0")
            if word.isascii() and 15 <= int(word) < 1000:
                found.add("@many")
            continue
        found.add(word)
        if len(word) > STEM:
            found.add(word[:STEM] + "*")
    return sorted(found)


@dataclass(frozen=True)
class Classifier:
    """weights: feature → one number for each of LABELS, in hundredths of a nat; prior: the same for a text without
    features. What it does not know counts for nothing."""

    prior: tuple[int, ...]
    weights: Mapping[str, tuple[int, ...]]

    def __call__(self, reading: Reading) -> Guess:
        """Worker type, kind and complexity. About 60 µs for a sentence."""
        total = list(self.prior)
        for feature in features(reading):
            row = self.weights.get(feature)
            if row:
                total = [a + b for a, b in zip(total, row, strict=True)]
        types, kinds, bands = (
            shares({label: total[start + i] / SCALE for i, label in enumerate(head)})
            for head, (start, _) in zip(HEADS, pairwise(ENDS), strict=True)
        )
        return Guess(
            types, kinds, sum(bands[label] * middle for label, middle in zip(BANDS, MIDDLES, strict=True))
        )


def from_json(document: Any) -> Classifier:
    """The classifier in a parsed JSON document. ValueError: it is not one, or for other labels."""
    if (
        not isinstance(document, dict)
        or document.get("format") != FORMAT
        or document.get("labels") != list(LABELS)
    ):
        raise ValueError(f"not a classifier of format {FORMAT} for {', '.join(LABELS)}")
    prior, weights = document.get("prior"), document.get("weights")
    if not isinstance(weights, dict) or not all(_is_row(row) for row in (prior, *weights.values())):
        raise ValueError(f"a row of weights is not {len(LABELS)} whole numbers")
    return Classifier(tuple(prior or ()), {feature: tuple(row) for feature, row in weights.items()})


def _is_row(value: Any) -> bool:
    return isinstance(value, list) and len(value) == len(LABELS) and all(type(number) is int for number in value)
