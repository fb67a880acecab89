"""The one place that names concrete classes and reads the environment (composition root)."""

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentq import config as settings
from agentq import machine, process, repository, wiring_agents
from agentq.config import Config
from agentq.errors import ConfigError, ExternalError, Refused, UserError
from agentq.repository import Repository
from agentq.store.runs import Runs

if TYPE_CHECKING:
    from agentq.databases.base import Databases
    from agentq.drivers.base import Driver
    from agentq.flows.advise import Situation
    from agentq.flows.heart import Machines
    from agentq.flows.services import Base, Observer, Services
    from agentq.store.base import QueueStore
    from agentq.trunk.branch import QueueBranch


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class Stops:
    """Counts requests to stop: Ctrl-C, SIGTERM and SIGHUP. Call `listen` once, in the main thread."""

    def __init__(self) -> None:
        self.count = 0

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._heard)

    def _heard(self, _number: int, _frame: object) -> None:
        self.count += 1

    def __call__(self) -> str | None:
        return "stopped on request" if self.count else None


def strip_git(environment: dict[str, str]) -> None:
    """An agentq started from a git hook inherits GIT_DIR and would work on the wrong repository."""
    for name in [name for name in environment if name.startswith("GIT_")]:
        del environment[name]


def base(
    start: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    person: bool = True,
    deciding: bool = False,
) -> "Base":
    """`person`: somebody sees what this command says; `deciding`: it decides whether this clone shares the queue.
    Raises UserError outside a repository and, to a person, when the copy of a shared queue was edited by hand;
    Refused while that is to be decided; ConfigError on bad settings."""
    from agentq.flows.services import Base

    repo = repository.find((start or Path.cwd()).resolve())
    config = settings.load(repo.root, dict(os.environ), overrides or {})
    runs = Runs(repo.state)
    if not deciding:
        _check_decided(repo, config)
    store = queue_store(repo, config, person=person)

    def look() -> "Situation":
        from agentq.core import board
        from agentq.flows.advise import situation

        found = store.read()
        seen = board.of_queue(found.queue, config.schedule.default_hours)
        return situation(seen, config, runs, machine.available_gb(), time.monotonic, found.age)

    return Base(repo, config, runs, store, look, workspaces_root(repo, config, os.environ))


def workspaces_root(repo: Repository, config: Config, env: Mapping[str, str]) -> Path:
    """Where this repository's workspaces live: outside the checkout (architecture, decision 3)."""
    folder = Path(config.machine.workspaces or _state_home(env)).expanduser()
    # A host's folder may serve many repositories: each has its own below it.
    name = repo.common.parent.name if repo.common.name == ".git" else repo.common.name
    digest = hashlib.sha256(str(repo.common.resolve()).encode()).hexdigest()[:8]
    root = folder / f"{name}-{digest}"
    if root.resolve().is_relative_to(repo.root.resolve()):
        raise ConfigError(
            ".machine",
            "workspaces",
            f"{root} lies inside the checkout",
            "choose a folder outside the repository",
        )
    return root


def _check_decided(repo: Repository, config: Config) -> None:
    branch = config.shared.branch
    if repo.undecided(config.trunk.remote, branch):
        raise Refused(
            f"the queue is shared on '{branch}' of the remote, and this clone still has a queue of its own",
            "'agentq share' joins it and sets the file aside; 'agentq unshare' keeps using the file, but nothing "
            "lands from here while the branch is there",
        )


def queue_store(repo: Repository, config: Config, *, person: bool) -> "QueueStore":
    """Where the queue of this clone lives. A person is told what became of the shared one."""
    from agentq.store.file import FileStore

    branch = repo.shared_branch(config.trunk.remote, config.shared.branch)
    if not branch:
        return FileStore(repo.queue_file, repo.state)
    from agentq.store.copy import WorkingCopy
    from agentq.store.shared import SharedStore

    remote = queue_branch(repo, config, branch)
    store = SharedStore(remote, remote.path.parent, WorkingCopy(repo.queue_file, repo.state))
    if person:
        if note := store.rewritten():
            print(f"note: {note}", file=sys.stderr)
        store.check_copy()
    return store


def queue_branch(repo: Repository, config: Config, name: str = "") -> "QueueBranch":
    """The branch that holds the queue, or would. All clones of this host share what is kept of it here."""
    from agentq.trunk.branch import QueueBranch
    from agentq.trunk.git import network_config

    url, name = remote_url(repo, config), name or config.shared.branch
    digest = hashlib.sha256(f"{url}\0{name}".encode()).hexdigest()[:12]
    path = _state_home(os.environ) / "shared" / digest / "queue.git"
    network = network_config(repo.root, os.environ)
    branch = QueueBranch(path, url, name, network, config.trunk.push_timeout_seconds)
    branch.ensure()
    return branch


def book_file() -> Path:
    """What all processes of this host share about models and money."""
    return _state_home(os.environ) / "models.sqlite"


def book_problems() -> list[str]:
    """What is wrong with that file, if it is there. Raises StoreError when it cannot be read."""
    from agentq.models.book import Book
    from agentq.models.clock import HostClock

    return Book(book_file(), HostClock()).problems() if book_file().exists() else []


def _state_home(env: Mapping[str, str]) -> Path:
    state = env.get("XDG_STATE_HOME") or str(Path(env.get("HOME") or "~").expanduser() / ".local" / "state")
    return Path(state) / "agentq"


def remote_url(repo: Repository, config: Config) -> str:
    """The address of the trunk's remote. Raises UserError when there is none."""
    from agentq.trunk.git import Git

    asked = Git(repo.root).ask("remote", "get-url", "--push", config.trunk.remote)
    if asked.rc or not asked.text:
        raise UserError(
            f"the repository has no remote '{config.trunk.remote}' to land on",
            "'agentq init' offers a bare hub; or 'git remote add origin URL'",
        )
    url = asked.text.splitlines()[0]
    local = repo.root / url
    return str(local.resolve()) if "://" not in url and ":" not in url.split("/")[0] and local.exists() else url


def services(made: "Base", observer: "Observer | None" = None, stops: Stops | None = None) -> "Services":
    """Everything a flow needs, from the settings."""
    from agentq.core.secrets import known_values
    from agentq.flows.services import Services, silent
    from agentq.trunk.git import network_config
    from agentq.trunk.mirror import Mirror
    from agentq.trunk.workspace import Workspaces

    repo, config = made.repo, made.config
    root = made.workspaces
    around = wiring_agents.Around(root / "mirror.git", repo.root)
    mirror = Mirror(
        root / "mirror.git", remote_url(repo, config), config.trunk.branch,
        network_config(repo.root, os.environ), config.trunk.push_timeout_seconds,
        watch="" if made.store.shared else config.shared.branch,
    )  # fmt: skip
    mirror.ensure()
    return Services(
        repo=repo, config=config, store=made.store, runs=made.runs, mirror=mirror,
        workspaces=Workspaces(root, mirror), databases=databases(repo, config, root, background=True),
        driver=wiring_agents.driver(config, "", around),
        thinking=wiring_agents.thinking(config, root.name, book_file(), around), clock=SystemClock(),
        owner=process.identity(os.getpid()) or "", identity=_identity(repo),
        observer=observer or silent, stop=stops or (lambda: None), machines=machines(made),
        secrets=known_values(os.environ), unwalled=wiring_agents.unwalled(config),
        wall=wiring_agents.wall(config, around),
    )  # fmt: skip


def machines(made: "Base") -> "Machines | None":
    """The machines that share the queue; None for a queue of this host alone."""
    from agentq.core.heartbeat import CAPS
    from agentq.flows.heart import Machines

    store, config = made.store, made.config
    if not store.shared:
        return None
    shared: Any = store  # its folder and its remote are there for a shared queue alone
    return Machines(
        folder=shared.folder, name=config.machine.name, caps={cap: getattr(config.machine, cap) for cap in CAPS},
        store=store, refs=shared.remote, clock=SystemClock(), owner=process.identity(os.getpid()) or "",
        interval=config.shared.heartbeat_seconds, dead_after=config.shared.dead_after_seconds,
        rest=config.schedule.lease_hours * 3600,
    )  # fmt: skip


def _identity(repo: Repository) -> dict[str, str]:
    """The person's own name on what lands, if git knows it."""
    from agentq.trunk.git import Git, user_config

    git = Git(repo.root)
    env = user_config(os.environ)
    fields = git.ask("config", "-z", "--get-regexp", r"^user\.(name|email)$", env=env).fields
    known = {key: value.strip() for key, _, value in (field.partition("\n") for field in fields)}
    name, email = known.get("user.name", ""), known.get("user.email", "")
    if not name or not email:
        return {}
    return {
        "GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email,
        "GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": email,
    }  # fmt: skip


def databases(repo: Repository, config: Config, root: Path, *, background: bool = False) -> "Databases":
    """The project's provider; with `background` no stage waits for releases and warm branches. Raises ConfigError
    for settings it cannot use."""
    provider: Databases = _PROVIDERS[config.database.provider](repo, config, root / "databases")
    if not background or provider.name == "none":
        return provider
    from agentq.databases.kept import Kept

    return Kept(provider, config.machine.warm)


def _none(_repo: Repository, _config: Config, _store: Path) -> "Databases":
    from agentq.databases.none import NoDatabases

    return NoDatabases()


def _sqlite(repo: Repository, config: Config, store: Path) -> "Databases":
    from agentq.databases.sqlite import SqliteDatabases

    return SqliteDatabases(config.database.url, repo.root, store, config.database.env)


def _postgres(_repo: Repository, config: Config, store: Path) -> "Databases":
    from agentq.databases.postgres import PostgresDatabases

    return PostgresDatabases(
        _url(config), store, config.database.env, "kick" if config.database.seal == "kick" else "dump"
    )


def _neon(_repo: Repository, config: Config, store: Path) -> "Databases":
    from agentq.databases.neon import NeonDatabases

    return NeonDatabases(config.neon, store, config.database.env, os.environ)


def _command(repo: Repository, config: Config, store: Path) -> "Databases":
    from agentq.databases.command import CommandDatabases

    chosen = config.database
    return CommandDatabases(
        chosen.create, chosen.create_empty, chosen.locate, chosen.drop, store, chosen.env, chosen.url, repo.root
    )


def _url(config: Config) -> str:
    """dev's URL: the setting, else the project's own variable, where passwords belong."""
    url = config.database.url or os.environ.get(config.database.env, "")
    if not url:
        raise ConfigError(
            settings.POLICY_FILE, "database.url", "is not set, and neither is the variable",
            f"set {config.database.env} or AGENTQ_DATABASE_URL in the environment",
        )  # fmt: skip
    return url


_PROVIDERS: dict[str, Callable[[Repository, Config, Path], "Databases"]] = {
    "none": _none, "sqlite": _sqlite, "postgres": _postgres, "neon": _neon, "command": _command,
}  # fmt: skip


def driver(config: Config, name: str = "") -> "Driver":
    """A driver, as `doctor` looks at it."""
    return wiring_agents.driver(config, name)


def recording(show: "Observer") -> "Observer":
    """An observer that also keeps each event in the newest evidence folder of its spec (events.ndjson)."""
    import json
    from contextlib import suppress

    folders: dict[str, Path] = {}

    def observe(event: str, data: dict[str, Any]) -> None:
        show(event, data)
        spec_id = str(data.get("spec", ""))
        if event == "evidence":
            folders[spec_id] = Path(str(data["folder"]))
        folder = folders.get(spec_id)
        if folder is None:
            return
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **data}
        with suppress(OSError), (folder / "events.ndjson").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")

    return observe


def follow_parent(parent: int) -> None:
    """A worker whose `agentq work` (process `parent`) dies is asked to end too (Linux; elsewhere `recover` ends
    it later)."""
    import ctypes

    if sys.platform == "linux":
        pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pdeathsig, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def work(made: "Base", at_once: int | None, only: list[str], stops: Stops, view: Any) -> Any:
    """Run the work flow: `view.event(kind, data)` hears everything, `view.tick()` is called in between."""
    from agentq.flows.chores import chores
    from agentq.flows.recover import free_abandoned, recover
    from agentq.flows.work import Work, run_command

    instances = made.config.machine.instances
    made_services = services(made, view.event)
    recover(made_services)
    machines, away = made_services.machines, False

    def look() -> "Situation":
        nonlocal away
        try:
            for line in free_abandoned(made_services):
                view.event("recovered", {"text": line})
            away = False
        except ExternalError as error:
            if not away:
                view.event("note", {"text": f"what dead machines had is not freed: {error.message}"})
            away = True
        return made.look().beside(machines.busy() if machines else set())

    flow = Work(
        folder=made.repo.root, look=look,
        command=run_command, stops=lambda: stops.count, observer=view.event, tick=view.tick,
        at_once=min(at_once or instances, instances), only=frozenset(only),
    )  # fmt: skip
    with chores(made_services):
        return flow.run()
