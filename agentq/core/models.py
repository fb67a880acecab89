"""Models and what they may cost: buckets, tiers, and which kind of work goes where (mission rows N2, N6, S6, P6).

Values only; `agentq.config` reads them from agents/config.toml, and the names below are the names there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agentq.core.usage import Price

FIVE_HOURS, SEVEN_DAYS = 5 * 3600.0, 7 * 86400.0  # s: the rolling windows of a plan (row N2)


@dataclass(frozen=True)
class Bucket:
    """A provider's account: what shares one set of limits. A limit of 0 is none.

    protocol: what its servers speak: `anthropic` (the Messages API), `openai` or `gemini`. servers: base URLs that
    share the load (row S6); empty: the agent's own default. key_env: variable with the key; '': the agent's own
    login. day_zone: the time zone in which the provider's day begins. tokens_5h, tokens_7d: rolling windows for
    keys without windows of their own. dollars_month: calendar month in UTC.
    """

    name: str
    protocol: str = "anthropic"
    servers: tuple[str, ...] = ()
    key_env: str = ""
    requests_minute: int = 0
    tokens_minute: int = 0
    requests_day: int = 0
    day_zone: str = "UTC"
    tokens_5h: int = 0
    tokens_7d: int = 0
    dollars_month: float = 0.0


@dataclass(frozen=True)
class Tier:
    """A model with its price. `bucket` names a Bucket; `driver` the agent that runs it ('': the configured one).
    window: tokens of context, 0: unknown. strength orders tiers for routing by complexity: higher is stronger."""

    name: str
    bucket: str
    model: str
    price: Price = field(default_factory=Price)
    window: int = 0
    driver: str = ""
    strength: int = 0


@dataclass(frozen=True)
class Models:
    """routes: kind of work -> its tiers, best first; the fallback chain of that kind. explicit: kinds and tiers
    that are used only when somebody names them (row N6, hard review). asked: tiers the router may ask."""

    buckets: Mapping[str, Bucket] = field(default_factory=dict)
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    explicit: tuple[str, ...] = ("hard-review",)
    asked: tuple[str, ...] = ()
