"""What a layer of the router says about a text: a share for each worker type and each kind of work."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

TYPES = ("scan", "implementation", "documentation")  # worker types that ship (mission row P4)
KINDS = ("planning", "judgment", "structured", "research", "bulk")  # what a text can route to (row N6)
BANDS = ("small", "medium", "large")  # complexity 1 to 3, 4 to 6, 7 to 10
MIDDLES = (2.0, 5.0, 8.0)  # the complexity that a band stands for
SMALL, LARGE = 4, 7  # from here on a text is no longer small; is large
ONE, MANY = 0.8, 0.6  # confidence over it: one expert; two or three in parallel (row P5)


@dataclass(frozen=True, slots=True)
class Guess:
    """types, kinds: label → share; the shares of each sum to 1. complexity: 1 to 10, 0 where nothing is said."""

    types: Mapping[str, float]
    kinds: Mapping[str, float]
    complexity: float = 0.0

    def confidence(self, worker: str | None, kind: str | None) -> float:
        """That both the best type and the best kind are right; what is given is right."""
        return (1.0 if worker else max(self.types.values())) * (1.0 if kind else max(self.kinds.values()))


def shares(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores as shares that sum to 1 (softmax)."""
    top = max(scores.values())
    raised = {label: math.exp(score - top) for label, score in scores.items()}
    total = sum(raised.values())
    return {label: value / total for label, value in raised.items()}


def best(of: Mapping[str, float]) -> str:
    """The label with the largest share; of equals, the first."""
    return max(of, key=of.__getitem__)


def band(complexity: int) -> str:
    return BANDS[(complexity >= SMALL) + (complexity >= LARGE)]
