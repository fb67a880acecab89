"""Settings: one frozen `Config`, loaded once.

Precedence, strongest first: flags > AGENTQ_<SECTION>_<KEY> > .machine (this host) > agents/config.toml
(policy, committed) > defaults. The table of settings is `agentq.core.sections`.
Invariant: a Config that loads has no unknown key, no wrong type and no value outside its bounds.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from agentq.core import redact, sections, text, tomltext
from agentq.core.settings import (
    PREFIX,
    Setting,
    Texts,
    document,
    table,
    unknown,
)
from agentq.errors import ConfigError

if TYPE_CHECKING:
    from agentq.core.models import Models

POLICY_FILE = "agents/config.toml"
MACHINE_FILE = ".machine"
MAX_BYTES = 1_000_000
MODEL_SECTIONS = ("bucket", "tier", "route")  # tables with names of their own: core.model_settings


@dataclass(frozen=True)
class Origin:
    """Where a value came from. `kind`: flag, env, machine, policy, default; `place`: file:line or a name."""

    kind: str
    place: str = ""


@dataclass(frozen=True)
class Config:
    """All settings. `Config()` holds the defaults; only `load` and `policy` fill in the host's name."""

    trunk: sections.Trunk = field(default_factory=sections.Trunk)
    commands: sections.Commands = field(default_factory=sections.Commands)
    agent: sections.Agent = field(default_factory=sections.Agent)
    sandbox: sections.Sandbox = field(default_factory=sections.Sandbox)
    budget: sections.Budget = field(default_factory=sections.Budget)
    pace: sections.Pace = field(default_factory=sections.Pace)
    schedule: sections.Schedule = field(default_factory=sections.Schedule)
    overlap: sections.Overlap = field(default_factory=sections.Overlap)
    database: sections.Database = field(default_factory=sections.Database)
    neon: sections.Neon = field(default_factory=sections.Neon)
    migrations: sections.Migrations = field(default_factory=sections.Migrations)
    conflicts: sections.Conflicts = field(default_factory=sections.Conflicts)
    shared: sections.Shared = field(default_factory=sections.Shared)
    lane: sections.Lane = field(default_factory=sections.Lane)
    machine: sections.Machine = field(default_factory=sections.Machine)
    models: "Models | None" = None
    origins: Mapping[str, Origin] = field(default_factory=dict, compare=False, repr=False)

    def rows(self) -> list[tuple[str, str, Origin]]:
        """(section.key, value as TOML with passwords hidden, origin) of every setting, in table order."""
        fixed = [
            (
                name,
                redact.in_urls(tomltext.dump(getattr(getattr(self, setting.section), setting.key))),
                self.origins.get(name, Origin("default")),
            )
            for name, setting in SETTINGS.items()
        ]
        if self.models is None:
            return fixed
        from agentq.core import model_settings

        return fixed + [(name, value, Origin("policy")) for name, value in model_settings.shown(self.models)]


SETTINGS: Mapping[str, Setting] = {
    setting.name: setting for setting in table(Config(), skip=("models", "origins"))
}
SECTIONS: Mapping[str, Texts] = {
    setting.section: tuple(s.key for s in SETTINGS.values() if s.section == setting.section)
    for setting in SETTINGS.values()
}
POLICY_SECTIONS = {name: keys for name, keys in SECTIONS.items() if name != "machine"}
_NAMES = {setting.env: setting for setting in SETTINGS.values()}


@dataclass(frozen=True)
class _Given:
    """A value somebody wrote: where, and what the place calls it."""

    name: str
    value: Any
    kind: str
    file: str
    label: str
    line: int = 0

    def refuse(self, why: str, hint: str = "") -> NoReturn:
        raise ConfigError(self.file, text.one_line(self.label, 80), why, hint, self.line)

    @property
    def origin(self) -> Origin:
        return Origin(self.kind, f"{self.file}:{self.line}" if self.line else self.label)


def load(
    root: Path,
    env: Mapping[str, str],
    overrides: Mapping[str, Any] = MappingProxyType({}),
    policy_text: str | None = None,
    *,
    models: bool = True,
) -> Config:
    """The settings in force below `root`, the top of a checkout. Missing files mean defaults.

    `overrides` maps section.key to a value, or to a text as in the environment; None means not given.
    `policy_text` stands in for agents/config.toml. Without `models` its buckets, tiers and routes are not
    looked at: who only decides what is next needs none. Raises ConfigError with file and line.
    """
    policy_text = _read(root / POLICY_FILE, POLICY_FILE) if policy_text is None else policy_text
    given, tables = _policy(policy_text, POLICY_FILE, models=models)
    return _build(
        tables,
        given,
        _machine(_read(root / MACHINE_FILE, MACHINE_FILE)),
        _environment(env),
        _flags(overrides),
    )


def policy(text: str, file: str) -> Config:
    """The settings of a config.toml alone. `file` names it in errors. Raises ConfigError."""
    given, models = _policy(text, file)
    return _build(models, given)


def _read(path: Path, name: str) -> str:
    """The text of a file, empty when there is none."""
    try:
        if not path.exists():
            return ""
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise ConfigError(name, "", f"not a regular file of at most {MAX_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(name, "", f"cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(name, "", "not UTF-8", "save the file as UTF-8", line) from None


def _policy(source: str, file: str, *, models: bool = True) -> tuple[list[_Given], "Models | None"]:
    data, lines = tomltext.parse(source, file)
    tables = {name: data.pop(name) for name in MODEL_SECTIONS if name in data}
    given = list(_fixed(data, lines, file))
    if not tables or not models:
        return given, None
    from agentq.core import model_settings

    return given, model_settings.read(tables, lines, file)


def _fixed(data: Mapping[str, Any], lines: tomltext.Lines, file: str) -> Iterator[_Given]:
    for section, values in data.items():
        here = _Given("", values, "policy", file, section, lines[section,])
        if section == "machine":
            here.refuse("belongs to one host, not into policy", f"write its keys into {MACHINE_FILE}")
        if section not in POLICY_SECTIONS:
            known = {**POLICY_SECTIONS, **dict.fromkeys(MODEL_SECTIONS, ())}
            here.refuse("unknown section", unknown(section, "", known))
        if not isinstance(values, dict):
            here.refuse("a section, not a value", f"write [{section}] and its keys below")
        for key, value in values.items():
            given = _Given(f"{section}.{key}", value, "policy", file, f"{section}.{key}", lines[section, key])
            if key not in POLICY_SECTIONS[section]:
                given.refuse("unknown key", unknown(key, section, POLICY_SECTIONS))
            yield given


def _machine(source: str) -> Iterator[_Given]:
    data, lines = tomltext.parse(source, MACHINE_FILE)
    for key, value in data.items():
        given = _Given(f"machine.{key}", value, "machine", MACHINE_FILE, key, lines[key,])
        if key == "machine":
            given.refuse("this file has no sections", "write its keys without [machine]")
        if key in POLICY_SECTIONS:
            given.refuse("policy does not belong to one host", f"write it into {POLICY_FILE}")
        if key not in SECTIONS["machine"]:
            given.refuse("unknown key", unknown(key, "machine", {"machine": SECTIONS["machine"]}))
        yield given


def _environment(env: Mapping[str, str]) -> Iterator[_Given]:
    """Variables named after a setting. An empty one is not set; a misspelt one in a section is refused."""
    for variable in sorted(env):
        section, _, key = variable.removeprefix(PREFIX).partition("_")
        if not variable.startswith(PREFIX) or section.lower() not in SECTIONS or not key or not env[variable]:
            continue
        given = _Given("", env[variable], "env", "environment", variable)
        if variable not in _NAMES:
            given.refuse("no such setting", text.did_you_mean(variable, _NAMES) or "see: agentq config show")
        yield _parsed(replace(given, name=_NAMES[variable].name))


def _flags(overrides: Mapping[str, Any]) -> Iterator[_Given]:
    for name, value in overrides.items():
        given = _Given(name, value, "flag", "command line", name)
        if name not in SETTINGS:
            given.refuse("no such setting", text.did_you_mean(name, SETTINGS) or "see: agentq config show")
        if value is not None:
            yield _parsed(given) if isinstance(value, str) else given


def _parsed(given: _Given) -> _Given:
    try:
        return replace(given, value=SETTINGS[given.name].read(given.value))
    except ValueError as error:
        given.refuse(str(error), 'a list is written ["a", "b"], a table { a = 1 }')


def _build(models: "Models | None", *layers: Iterable[_Given]) -> Config:
    """Layers from the weakest to the strongest. Every value is checked, also one that is overruled."""
    order = {name: index for index, name in enumerate(SETTINGS)}
    values: dict[str, Any] = {}
    origins = {name: Origin("default") for name in SETTINGS}
    for layer in layers:
        for given in sorted(layer, key=lambda given: order[given.name]):
            setting = SETTINGS[given.name]
            try:
                value = setting.check(given.value)
            except ValueError as error:
                given.refuse(str(error), _repair(setting, given))
            if given.name == "agent.timeout_minutes":
                values["agent.timeouts"] = MappingProxyType({})
                origins["agent.timeouts"] = given.origin
            if given.name == "agent.timeouts":
                value = MappingProxyType({**values.get(given.name, sections.TIMEOUTS), **value})
            if given.name == "budget.tokens":
                value = MappingProxyType({**values.get(given.name, sections.TOKENS), **value})
            values[given.name], origins[given.name] = value, given.origin
    values["machine.name"] = values.get("machine.name") or host_name(os.uname().nodename)
    config = Config(models=models, origins=MappingProxyType(origins))
    for section in SECTIONS:
        given_keys = {
            name.split(".")[1]: value for name, value in values.items() if name.startswith(f"{section}.")
        }
        config = replace(config, **{section: replace(getattr(config, section), **given_keys)})
    return config


def _repair(setting: Setting, given: _Given) -> str:
    """A hint for a value that was refused."""
    value = given.value
    if setting.about.choices and isinstance(value, str):
        return text.did_you_mean(value, setting.about.choices)
    if setting.kind == "list of texts" and isinstance(value, str):
        return f"write a list: [{tomltext.dump(value[:80])}]"
    if given.line and setting.kind in ("whole number", "number") and isinstance(value, str):
        return "write the number without quotes"
    return setting.about.doc


def host_name(raw: str) -> str:
    """A host's name as a machine name: 1 to 63 letters, digits, '.', '_' and '-'."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", raw).strip("-._")[:63] or "machine"


def render_docs() -> str:
    """docs/config.md, generated from the table."""
    homes = {name: f"In `{POLICY_FILE}`, section `[{name}]`." for name in POLICY_SECTIONS}
    homes["machine"] = f"In `{MACHINE_FILE}`, without a section. The file is not committed."
    from agentq.core import model_settings

    about = {row.name: getattr(Config(), row.name).__doc__ for row in fields(Config) if row.name in SECTIONS}
    named = dict.fromkeys(MODEL_SECTIONS, f"In `{POLICY_FILE}`.")
    return _DOCS + "\n" + document(SETTINGS, about, homes) + "\n" + model_settings.render_docs(named)


_DOCS = f"""# Settings

This page is generated from the table in `agentq/core/sections.py`.

A value comes from the strongest place that sets it: a flag, the environment, `{MACHINE_FILE}` (this host),
`{POLICY_FILE}` (policy, committed with the project), the default. `agentq config show --origin` says which.

In the environment a setting is called `{PREFIX}<SECTION>_<KEY>`, for example `{PREFIX}TRUNK_BRANCH`. Lists
and tables are written there as in TOML: `{PREFIX}COMMANDS_VERIFY='["make lint", "make test"]'`; a list of one
may stand bare. An empty variable counts as not set.

Unknown keys, wrong types and values outside their bounds are errors, with file and line.

`agent.timeouts` and `budget.tokens` are merged: a type they do not name keeps the value of a weaker place. Setting
`agent.timeout_minutes` voids the times per type of weaker places, the defaults included.
"""
