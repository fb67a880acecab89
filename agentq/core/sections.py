"""The sections of the settings: name, type, default, meaning and check of each key stand in one place.

`agentq.config` loads them; validation, environment names, origins and docs/config.md are read off these classes.
"""

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated

from agentq.core import paths
from agentq.core.settings import About, Command, Counts, Minutes, Texts, shape

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
    commands: Annotated[
        str,
        About("Whether commands that run what agents wrote are walled, too; with the network.", choices=SWITCH),
    ] = "on"
    writable: Annotated[Texts, About("Further folders that agents may write.", check=_FOLDER)] = ()
    readable: Annotated[Texts, About("Hidden folders that agents may read.", check=_FOLDER)] = ()


@dataclass(frozen=True)
class Budget:
    """What agents may spend. What is reached stops the agent at once, with its work saved; 0 is no limit."""

    day_dollars: Annotated[float, About("US dollars a day (UTC), of this repository on this host.", 0, 1e9)] = 0
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
