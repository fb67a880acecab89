"""Settings: one frozen `Config`, loaded once.

Precedence, strongest first: flags > AGENTQ_<SECTION>_<KEY> > .machine (this host) > agents/config.toml
(policy, committed) > defaults. The fields below are the only table of settings: name, type, default, meaning
and check stand in one place each; validation, environment names, origins and docs/config.md are read off it.
Invariant: a Config that loads has no unknown key, no wrong type and no value outside its bounds.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from agentq.core import paths, redact, text, tomltext
from agentq.core.settings import (
    PREFIX,
    About,
    Command,
    Counts,
    Minutes,
    Setting,
    Texts,
    document,
    shape,
    table,
    unknown,
)
from agentq.errors import ConfigError

if TYPE_CHECKING:
    from agentq.core.models import Models

POLICY_FILE = "agents/config.toml"
MACHINE_FILE = ".machine"
DRIVERS = "`command`, `claude`, `codex`, `gemini`, `opencode`, `aider`, `builtin` or `module:Class`"
SANDBOXES = ("auto", "required", "off")
SWITCH = ("on", "off")
PROVIDERS = ("none", "sqlite", "postgres", "neon", "command")
SEALS = ("dump", "kick")
STARTS = ("copy", "empty")
TOOLS = ("none", "alembic", "django", "drizzle", "prisma", "command")
POLICIES = ("playbook", "lookahead")
COMMITS = ("agent", "auto")
TOKENS = MappingProxyType({"scan": 8000, "implementation": 10_000, "documentation": 6000})
TIMEOUTS = MappingProxyType({"scan": 15.0, "implementation": 45.0, "documentation": 20.0})
LOCK_FILES = ("uv.lock", "poetry.lock", "package-lock.json", "pnpm-lock.yaml", "yarn.lock", "Cargo.lock")
TEST_FILES = ("**/test_*", "**/*_test.*", "**/*.test.*", "**/*.spec.*", "**/*_spec.*", "**/*Test.*")
MAX_BYTES = 1_000_000
MODEL_SECTIONS = ("bucket", "tier", "route")  # tables with names of their own: core.model_settings
WEEK = 7 * 24 * 60

_REMOTE = shape(r"[A-Za-z0-9_][A-Za-z0-9._/-]*", "not the name of a git remote")
_BRANCH = shape(
    r"(?![-/.])(?!.*(\.\.|//|/\.|@\{))[^\x00-\x20\x7f~^:?*\[\\]+(?<![/.])(?<!\.lock)", "not a branch name"
)
_NAME = shape(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "a name has 1 to 63 letters, digits, '.', '_', '-'")
_VARIABLE = shape(r"[A-Za-z_][A-Za-z0-9_]*", "not the name of an environment variable")
_DRIVER = shape(r"[a-z][a-z0-9_-]*|[A-Za-z_][\w.]*:[A-Za-z_]\w*", f"a driver is {DRIVERS}")
_FOLDER = shape(r"(/|~/|~$).*", "a folder is an absolute path or begins with '~/'")


@dataclass(frozen=True)
class Trunk:
    """The branch everything lands on."""

    remote: Annotated[str, About("Git remote that holds the trunk.", 1, check=_REMOTE)] = "origin"
    branch: Annotated[str, About("Branch that specs land on.", 1, check=_BRANCH)] = "main"
    push_timeout_seconds: Annotated[float, About("Time one push may take.", 1, 3600)] = 120


@dataclass(frozen=True)
class Commands:
    """The project's own commands, run by a shell at the top of a workspace."""

    setup: Annotated[str, About("Prepares a fresh workspace, for example installs dependencies.")] = ""
    test: Annotated[str, About("Runs the tests; `{files}` becomes the spec's test files.")] = ""
    test_files: Annotated[
        Texts, About("Which new files `{files}` names; all, where none matches.", check=paths.problem)
    ] = TEST_FILES
    verify: Annotated[Texts, About("All must pass in a clean checkout before a spec lands.")] = ()
    before_rebase: Annotated[Texts, About("Stop what holds `.git/index.lock`, such as daemons.")] = ()
    lock_files: Annotated[
        Texts, About("Dependency lock files; `setup` runs again when one changes.", check=paths.problem)
    ] = (*LOCK_FILES, "requirements.txt")
    keep: Annotated[Texts, About("Ignored paths kept in the clean checkout.", check=paths.problem)] = ()
    test_not_run: Annotated[
        tuple[int, ...], About("Exit codes of `test` that mean no test ran, not that one failed.", 1, 255)
    ] = (4, 5, 126, 127)
    timeout_minutes: Annotated[float, About("Time one command may take.", 0.001, WEEK)] = 30


@dataclass(frozen=True)
class Agent:
    """How an agent is started and how long it may work."""

    driver: Annotated[str, About(f"What starts an agent: {DRIVERS}.", 1, check=_DRIVER)] = "command"
    command: Annotated[
        Command, About("For the driver `command`: a text goes through a shell, a list does not.")
    ] = ""
    model: Annotated[str, About("Model to ask for; empty: the agent's own default.")] = ""
    timeout_minutes: Annotated[
        float, About("Time an agent may work. Setting it voids `timeouts` of weaker places.", 0.001, WEEK)
    ] = 45
    timeouts: Annotated[Minutes, About("The same for single types of spec.", 0.001, WEEK)] = field(
        default_factory=lambda: TIMEOUTS
    )
    silence_minutes: Annotated[float, About("An agent silent for so long is stopped; 0: never.", 0, WEEK)] = 0
    attempts: Annotated[int, About("Tries of a stage before a person is asked.", 1, 20)] = 2
    env: Annotated[Texts, About("Further environment variables an agent may see.", check=_VARIABLE)] = ()
    turns: Annotated[int, About("Answers of the model one run may take; 0: any number.", 0, 100_000)] = 0
    commit: Annotated[str, About("Who commits: the agent, or agentq (`auto`).", choices=COMMITS)] = "agent"

    def timeout_for(self, type: str) -> float:
        """Seconds an agent may work on a spec of this type."""
        return self.timeouts.get(type, self.timeout_minutes) * 60


@dataclass(frozen=True)
class Sandbox:
    """The walls around agents and the tools they start."""

    use: Annotated[
        str, About("`auto`: where bubblewrap works, else a warning; `required`: or refuse.", choices=SANDBOXES)
    ] = "auto"
    network: Annotated[
        str, About("Whether tools may use the network; a spec may say so itself.", choices=SWITCH)
    ] = "off"
    writable: Annotated[Texts, About("Further folders that agents may write.", check=_FOLDER)] = ()
    readable: Annotated[Texts, About("Hidden folders that agents may read.", check=_FOLDER)] = ()


@dataclass(frozen=True)
class Budget:
    """What agents may spend. What is reached stops the agent at once, with its work saved; 0 is no limit."""

    day_dollars: Annotated[float, About("US dollars a day (UTC), of all repositories of this host.", 0, 1e9)] = 0
    spec_dollars: Annotated[float, About("US dollars for one spec, over all its attempts.", 0, 1e9)] = 0
    tokens: Annotated[
        Counts, About("Tokens of one run of an agent, by type of spec, without what caches hold.", 0, 1e12)
    ] = field(default_factory=lambda: TOKENS)

    def tokens_for(self, type: str) -> int:
        return self.tokens.get(type, 0)


@dataclass(frozen=True)
class Pace:
    """How fast a plan's windows are used up."""

    overflow_at: Annotated[float, About("Share of the 7-day window from which work overflows.", 0.01, 1)] = 0.4
    pace_at: Annotated[float, About("Share of a window from which all work is paced.", 0.01, 1)] = 0.75
    at_limit: Annotated[
        str, About("At a usage limit `wait` until it resets, or `stop`.", choices=("wait", "stop"))
    ] = "wait"
    failures: Annotated[int, About("Consecutive failures that open a tier's breaker.", 1, 100)] = 2
    open_seconds: Annotated[float, About("How long it stays open before one probe.", 0.1, 86_400)] = 60


@dataclass(frozen=True)
class Schedule:
    """What is picked next, and how long a claim holds."""

    policy: Annotated[
        str, About("`playbook`: fixed rules; `lookahead`: simulates what follows.", choices=POLICIES)
    ] = "playbook"
    lookahead_seconds: Annotated[float, About("Time `lookahead` may think.", 0.01, 60)] = 0.5
    default_hours: Annotated[float, About("Estimate of a spec that has none.", 0.01, 10_000)] = 4.5
    lease_hours: Annotated[float, About("A lease older than this may be taken over.", 0.01, 8760)] = 24.0


@dataclass(frozen=True)
class Overlap:
    """Which files two specs may change at once."""

    additive: Annotated[Texts, About("Paths and globs to which specs only add.", check=paths.problem)] = ()


@dataclass(frozen=True)
class Database:
    """One database branch for each spec."""

    provider: Annotated[str, About("What makes a database branch.", choices=PROVIDERS)] = "none"
    url: Annotated[str, About("Database to branch from. Passwords belong in the environment.")] = ""
    env: Annotated[str, About("Variable that names it to the project.", 1, check=_VARIABLE)] = "DATABASE_URL"
    push: Annotated[str, About("Brings a fresh database branch to the checkout's schema.")] = ""
    start: Annotated[
        str,
        About(
            "What the test and implement stages push to: a `copy` of dev, or an `empty` database, for a push that "
            "only creates tables.",
            choices=STARTS,
        ),
    ] = "copy"
    seal: Annotated[
        str,
        About(
            "How PostgreSQL is copied: `dump` leaves dev's connections alone; `kick` ends them, and is faster.",
            choices=SEALS,
        ),
    ] = "dump"
    create: Annotated[
        str, About("Provider `command`: makes the database `{name}`, a copy of dev; may print its URL.")
    ] = ""
    create_empty: Annotated[str, About("Provider `command`: makes the database `{name}` without content.")] = ""
    locate: Annotated[
        str, About("Provider `command`: prints the URL of `{name}`; empty: `create` prints it last.")
    ] = ""
    drop: Annotated[str, About("Provider `command`: destroys `{name}`; one that is gone is no error.")] = ""


@dataclass(frozen=True)
class Neon:
    """Database branches by Neon's API, for the provider `neon`."""

    project: Annotated[str, About("Id of the project.", check=_NAME)] = ""
    parent: Annotated[str, About("Name or id of the branch that is dev.")] = "main"
    database: Annotated[str, About("Database on it; empty: the only one.")] = ""
    role: Annotated[str, About("Role that agents connect as; empty: the only one.")] = ""
    key_env: Annotated[str, About("Variable that holds the API key.", 1, check=_VARIABLE)] = "NEON_API_KEY"
    api: Annotated[str, About("Base address of the API.", 1)] = "https://console.neon.tech/api/v2"
    expire_hours: Annotated[float, About("Neon itself removes a branch after so long.", 1, 720)] = 48


@dataclass(frozen=True)
class Migrations:
    """How changes of the schema land: generated on trunk's newest migration, and proved."""

    tool: Annotated[str, About("What writes the migrations.", choices=TOOLS)] = "none"
    files: Annotated[
        Texts, About("Files and folders of migrations; empty: the tool's usual ones.", check=paths.problem)
    ] = ()
    upgrade: Annotated[str, About("Applies all migrations to the database; empty: the tool's command.")] = ""
    generate: Annotated[
        str, About("Writes the migration `{name}` for what the database lacks; empty: the tool's command.")
    ] = ""
    check: Annotated[
        str, About("Says whether the migrations hold the whole schema; empty: the tool's command.")
    ] = ""
    apply_to_dev: Annotated[
        str, About("Machine that brings dev to trunk's migrations after a landing; `*`: any; empty: none.")
    ] = ""


@dataclass(frozen=True)
class Conflicts:
    """What may be resolved without a person, beyond what needs no setting."""

    generated: Annotated[Texts, About("Generated files that are committed.", check=paths.problem)] = ()
    regenerate: Annotated[str, About("Writes all of them anew; must give the same bytes twice.")] = ""
    format: Annotated[str, About("Formats `{files}` after their imports were merged.")] = ""


@dataclass(frozen=True)
class Shared:
    """The queue of several machines, on a branch of its own. `agentq share` makes it."""

    branch: Annotated[str, About("Branch of the remote that holds the queue.", 1, check=_BRANCH)] = "agentq"
    heartbeat_seconds: Annotated[float, About("How often a working machine shows that it lives.", 0.1, 3600)] = 30
    dead_after_seconds: Annotated[
        float, About("A machine whose heartbeat stands still for so long is dead.", 0.5, 86_400)
    ] = 300


@dataclass(frozen=True)
class Lane:
    """How proved specs land together."""

    batch: Annotated[int, About("Specs one test run may land; 1 tests each alone.", 1, 8)] = 8


@dataclass(frozen=True)
class Machine:
    """This host: flat keys of `.machine`, which is not committed."""

    name: Annotated[str, About("Name in leases; empty: the host's name.", check=_NAME)] = ""
    type: Annotated[str, About("What kind of host this is, in your words.", check=_NAME)] = ""
    ram_gb: Annotated[float, About("Memory (GB) of this host; 0: ask the system.", 0, 65_536)] = 0
    instances: Annotated[int, About("Agents that may work here at once.", 1, 256)] = 1
    playwright_workers: Annotated[int, About("Browser workers each agent may start.", 1, 256)] = 1
    test_workers: Annotated[int, About("Test processes each agent may start.", 1, 1024)] = 1
    verifications: Annotated[int, About("Test runs of the landing lane at once.", 1, 64)] = 1
    warm: Annotated[int, About("Database branches kept ready for the next stage.", 0, 64)] = 0
    workspaces: Annotated[str, About("Folder of the workspaces; empty: the default.", check=_FOLDER)] = ""
    reserve_gb: Annotated[float, About("Memory (GB) left to the system.", 0, 65_536)] = 4
    agent_gb: Annotated[float, About("Memory (GB) one agent needs.", 0.1, 4096)] = 6


@dataclass(frozen=True)
class Origin:
    """Where a value came from. `kind`: flag, env, machine, policy, default; `place`: file:line or a name."""

    kind: str
    place: str = ""


@dataclass(frozen=True)
class Config:
    """All settings. `Config()` holds the defaults; only `load` and `policy` fill in the host's name."""

    trunk: Trunk = field(default_factory=Trunk)
    commands: Commands = field(default_factory=Commands)
    agent: Agent = field(default_factory=Agent)
    sandbox: Sandbox = field(default_factory=Sandbox)
    budget: Budget = field(default_factory=Budget)
    pace: Pace = field(default_factory=Pace)
    schedule: Schedule = field(default_factory=Schedule)
    overlap: Overlap = field(default_factory=Overlap)
    database: Database = field(default_factory=Database)
    neon: Neon = field(default_factory=Neon)
    migrations: Migrations = field(default_factory=Migrations)
    conflicts: Conflicts = field(default_factory=Conflicts)
    shared: Shared = field(default_factory=Shared)
    lane: Lane = field(default_factory=Lane)
    machine: Machine = field(default_factory=Machine)
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
) -> Config:
    """The settings in force below `root`, the top of a checkout. Missing files mean defaults.

    `overrides` maps section.key to a value, or to a text as in the environment; None means not given.
    `policy_text` stands in for agents/config.toml. Raises ConfigError with file and line.
    """
    policy_text = _read(root / POLICY_FILE, POLICY_FILE) if policy_text is None else policy_text
    given, models = _policy(policy_text, POLICY_FILE)
    return _build(
        models,
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


def _policy(source: str, file: str) -> tuple[list[_Given], "Models | None"]:
    data, lines = tomltext.parse(source, file)
    tables = {name: data.pop(name) for name in MODEL_SECTIONS if name in data}
    given = list(_fixed(data, lines, file))
    if not tables:
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
                value = MappingProxyType({**values.get(given.name, TIMEOUTS), **value})
            if given.name == "budget.tokens":
                value = MappingProxyType({**values.get(given.name, TOKENS), **value})
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

This page is generated from the table in `agentq/config.py`.

A value comes from the strongest place that sets it: a flag, the environment, `{MACHINE_FILE}` (this host),
`{POLICY_FILE}` (policy, committed with the project), the default. `agentq config show --origin` says which.

In the environment a setting is called `{PREFIX}<SECTION>_<KEY>`, for example `{PREFIX}TRUNK_BRANCH`. Lists
and tables are written there as in TOML: `{PREFIX}COMMANDS_VERIFY='["make lint", "make test"]'`; a list of one
may stand bare. An empty variable counts as not set.

Unknown keys, wrong types and values outside their bounds are errors, with file and line.

`agent.timeouts` and `budget.tokens` are merged: a type they do not name keeps the value of a weaker place. Setting
`agent.timeout_minutes` voids the times per type of weaker places, the defaults included.
"""
