"""What a model was asked and answered, counted in tokens, and what that costs.

Invariant: the four kinds are disjoint, as the Messages API reports them: `input` holds neither cache reads nor
cache writes.
"""

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens by kind."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "Usage") -> "Usage":
        """What came on top of `other`, never less than nothing (agents report sums over a whole conversation)."""
        return Usage(*(max(0, getattr(self, f.name) - getattr(other, f.name)) for f in fields(self)))

    @property
    def total(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_write

    @property
    def fresh(self) -> int:
        """Tokens that count against a worker's token budget: what the cache holds is neither new nor dear."""
        return self.input + self.output

    @property
    def prompt(self) -> int:
        """Size of the request as the model saw it."""
        return self.input + self.cache_read + self.cache_write


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens. `cache_read`, `cache_write`: factors on `input`. A request whose prompt is
    longer than `long_over` tokens (0: never) costs `long_input` and `long_output` instead."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.1
    cache_write: float = 1.25
    long_over: int = 0
    long_input: float = 0.0
    long_output: float = 0.0

    @property
    def known(self) -> bool:
        return self.input > 0 or self.output > 0

    def of(self, usage: Usage) -> float:
        """US dollars for one request."""
        long = bool(self.long_over) and usage.prompt > self.long_over
        into, out = (self.long_input, self.long_output) if long else (self.input, self.output)
        prompt = usage.input + usage.cache_read * self.cache_read + usage.cache_write * self.cache_write
        return (prompt * into + usage.output * out) / 1_000_000
