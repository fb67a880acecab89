"""The tables of agents/config.toml that have names of their own: [bucket.NAME], [tier.NAME] and [route].

Each key is a row like any other setting (`core.settings`), so types, bounds and documentation come from one place.
Invariant: in what `read` returns every tier has its bucket, and every route names tiers that are there.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

from agentq.core.models import Bucket, Models, Tier
from agentq.core.settings import About, Setting, Texts, document, shape, table, unknown
from agentq.core.text import clean, did_you_mean
from agentq.core.tomltext import Lines, dump
from agentq.core.usage import Price
from agentq.errors import ConfigError

SECTIONS = ("bucket", "tier", "route")
PROTOCOLS = ("anthropic", "openai", "gemini")
KINDS = ("planning", "judgment", "structured", "research", "bulk", "hard-review")
MOST = 1e12
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_VARIABLE = shape(r"[A-Za-z_][A-Za-z0-9_]*", "not the name of an environment variable")
_URL = shape(r"https?://[^\s/?#@]+(/[^\s?#]*)?", "not an address like https://host:port, without a password")
_DRIVER = shape(r"[a-z][a-z0-9_-]*|[A-Za-z_][\w.]*:[A-Za-z_]\w*", "not the name of a driver")


@dataclass(frozen=True)
class BucketRow:
    """A provider's account: what shares one set of limits. Name it, for example `[bucket.anthropic]`."""

    protocol: Annotated[str, About("What its servers speak.", choices=PROTOCOLS)] = "anthropic"
    servers: Annotated[
        Texts, About("Base addresses that share the load; empty: the agent's own.", check=_URL)
    ] = ()
    key_env: Annotated[str, About("Variable with the key; empty: the agent's own login.", check=_VARIABLE)] = ""
    requests_minute: Annotated[int, About("Requests a minute; 0: no limit, here and below.", 0, MOST)] = 0
    tokens_minute: Annotated[int, About("Tokens a minute.", 0, MOST)] = 0
    requests_day: Annotated[int, About("Requests a day.", 0, MOST)] = 0
    day_zone: Annotated[str, About("Time zone in which the provider's day begins.", 1)] = "UTC"
    tokens_5h: Annotated[int, About("Tokens in any 5 hours, for keys without a window of their own.", 0, MOST)] = 0
    tokens_7d: Annotated[int, About("Tokens in any 7 days, likewise.", 0, MOST)] = 0
    dollars_month: Annotated[float, About("US dollars in a calendar month (UTC).", 0, MOST)] = 0


@dataclass(frozen=True)
class TierRow:
    """A model with its price. Name it, for example `[tier.strong]`. Prices are US dollars for a million tokens."""

    bucket: Annotated[str, About("The bucket it is asked in.")] = ""
    model: Annotated[str, About("Its name at the provider.")] = ""
    driver: Annotated[str, About("The agent that runs it; empty: `agent.driver`.", check=_DRIVER)] = ""
    strength: Annotated[int, About("Orders tiers: the higher, the stronger.", 0, 1000)] = 0
    window: Annotated[int, About("Tokens of context; 0: ask the server.", 0, MOST)] = 0
    input: Annotated[float, About("Price of the prompt.", 0, MOST)] = 0
    output: Annotated[float, About("Price of the answer.", 0, MOST)] = 0
    cache_read: Annotated[float, About("A cached token costs so many times `input`.", 0, 100)] = 0.1
    cache_write: Annotated[float, About("Caching a token costs so many times `input`.", 0, 100)] = 1.25
    long_over: Annotated[int, About("Prompts longer than this have another price; 0: none.", 0, MOST)] = 0
    long_input: Annotated[float, About("Price of such a prompt.", 0, MOST)] = 0
    long_output: Annotated[float, About("Price of an answer to it.", 0, MOST)] = 0


@dataclass(frozen=True)
class RouteRow:
    """Which tiers do which kind of work, best first: the rest is the fallback chain of that kind. `hard-review` is
    used only when somebody asks for it."""

    planning: Annotated[Texts, About("Plans and designs.")] = ()
    judgment: Annotated[Texts, About("Decisions and reviews.")] = ()
    structured: Annotated[Texts, About("Work in several steps: most specs.")] = ()
    research: Annotated[Texts, About("Reading and finding out.")] = ()
    bulk: Annotated[Texts, About("Much of the same.")] = ()
    hard_review: Annotated[Texts, About("The hardest reviews; never by itself, never a fallback.")] = ()
    router: Annotated[
        Texts, About("Tiers to ask which kind a text is, when words do not tell; empty: nobody is asked.")
    ] = ()
    default: Annotated[
        Texts, About("Every kind that names none, but hard_review; without [route] all tiers, as they stand.")
    ] = ()


@dataclass(frozen=True)
class _Tables:
    bucket: BucketRow
    tier: TierRow
    route: RouteRow


_ROWS: dict[str, dict[str, Setting]] = {}
for _row in table(_Tables(BucketRow(), TierRow(), RouteRow())):
    _ROWS.setdefault(_row.section, {})[_row.key] = _row


@dataclass(frozen=True)
class _Place:
    """Where something stands, for errors."""

    file: str
    lines: Lines

    def refuse(self, path: tuple[str, ...], why: str, hint: str = "") -> NoReturn:
        raise ConfigError(self.file, clean(".".join(path))[:80], why, hint, self.lines.get(path, 0))


def read(data: Mapping[str, Any], lines: Lines, file: str) -> Models:
    """The models of a parsed config.toml. Raises ConfigError with file and line."""
    place = _Place(file, lines)
    buckets = {name: _bucket(name, row) for name, row in _named(data, "bucket", place)}
    tiers: dict[str, Tier] = {}
    for name, row in _named(data, "tier", place):
        if row["bucket"] not in buckets:
            known = did_you_mean(row["bucket"], buckets) or f"name one of: {', '.join(buckets) or 'none is there'}"
            place.refuse(("tier", name, "bucket"), f"there is no bucket '{clean(row['bucket'])}'", known)
        if not row["model"]:
            place.refuse(("tier", name), "it names no model", 'write model = "name"')
        tiers[name] = _tier(name, row)
    routes = _routes(data.get("route", {}), tiers, place)
    return Models(buckets, tiers, routes, asked=routes.pop("router", ()))


def _named(data: Mapping[str, Any], section: str, place: _Place) -> Iterable[tuple[str, dict[str, Any]]]:
    """(name, all values) of every table [section.NAME]."""
    tables = data.get(section, {})
    if not isinstance(tables, dict):
        place.refuse((section,), "a table of tables", f"write [{section}.NAME] and its keys below")
    for name, values in tables.items():
        if not isinstance(values, dict):
            place.refuse((section, name), "a table, not a value", f"write [{section}.NAME] and its keys below")
        if not _NAME.fullmatch(name):
            place.refuse((section, name), "a name has small letters, digits, '.', '_', '-'")
        yield name, _checked(section, values, (section, name), place)


def _checked(section: str, values: Mapping[str, Any], path: tuple[str, ...], place: _Place) -> dict[str, Any]:
    rows = _ROWS[section]
    found = {key: row.default for key, row in rows.items()}
    for key, value in values.items():
        if key not in rows:
            place.refuse((*path, key), "unknown key", unknown(key, section, {section: tuple(rows)}))
        try:
            found[key] = rows[key].check(value)
        except ValueError as error:
            place.refuse((*path, key), str(error), rows[key].about.doc)
    if section == "bucket" and (why := _zone_problem(found["day_zone"])):
        place.refuse((*path, "day_zone"), why, "for example America/Los_Angeles")
    return found


def _zone_problem(name: str) -> str:
    if name == "UTC":
        return ""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"'{clean(name)[:80]}' is not a time zone"
    return ""


def _bucket(name: str, row: Mapping[str, Any]) -> Bucket:
    return Bucket(name, **row)


def _tier(name: str, row: Mapping[str, Any]) -> Tier:
    price = Price(
        row["input"], row["output"], row["cache_read"], row["cache_write"],
        row["long_over"], row["long_input"], row["long_output"],
    )  # fmt: skip
    return Tier(name, row["bucket"], row["model"], price, row["window"], row["driver"], row["strength"])


def _routes(values: Any, tiers: Mapping[str, Tier], place: _Place) -> dict[str, tuple[str, ...]]:
    if not isinstance(values, dict):
        place.refuse(("route",), "a section, not a value", "write [route] and its keys below")
    written = {key.replace("-", "_"): key for key in values}
    row = _checked("route", {key.replace("-", "_"): value for key, value in values.items()}, ("route",), place)
    for key, names in row.items():
        for name in names:
            if name not in tiers:
                hint = did_you_mean(name, tiers) or f"name one of: {', '.join(tiers) or 'none is there'}"
                place.refuse(("route", written.get(key, key)), f"there is no tier '{clean(name)}'", hint)
    default = row.pop("default") or (() if values.keys() - {"router"} else tuple(tiers))
    rest = {kind: default for kind in KINDS if kind != "hard-review" and default}
    return rest | {key.replace("_", "-"): names for key, names in row.items() if names}


def shown(models: Models) -> list[tuple[str, str]]:
    """(name, value as TOML) of everything that was written, for `config show`."""
    found: list[tuple[str, str]] = []
    for bucket in models.buckets.values():
        found += _differing("bucket", bucket.name, {key: getattr(bucket, key) for key in _ROWS["bucket"]})
    for tier in models.tiers.values():
        values = {k: getattr(tier, k, None) if hasattr(tier, k) else getattr(tier.price, k) for k in _ROWS["tier"]}
        found += _differing("tier", tier.name, values)
    routes = {**models.routes, **({"router": models.asked} if models.asked else {})}
    return found + [(f"route.{kind}", dump(list(names))) for kind, names in routes.items()]


def _differing(section: str, name: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = _ROWS[section]
    return [(f"{section}.{name}.{key}", dump(v)) for key, v in values.items() if v != rows[key].default]


def render_docs(places: Mapping[str, str]) -> str:
    """The chapters of docs/config.md about these tables. places: section -> where it is written."""
    about = {"bucket": BucketRow.__doc__ or "", "tier": TierRow.__doc__ or "", "route": RouteRow.__doc__ or ""}
    rows = {row.name: row for section in _ROWS.values() for row in section.values()}
    return document(rows, {name: " ".join(text.split()) for name, text in about.items()}, places)
