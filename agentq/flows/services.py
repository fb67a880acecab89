"""What every flow is given: the doors, the settings and a way to say what happens. Built by wiring alone."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agentq.config import Config
from agentq.core.queue import Claim
from agentq.databases.base import Databases
from agentq.drivers.base import Driver
from agentq.flows.advise import Situation
from agentq.repository import Repository
from agentq.store.base import QueueStore
from agentq.store.runs import Runs
from agentq.trunk.mirror import Mirror
from agentq.trunk.workspace import Workspaces

if TYPE_CHECKING:
    from agentq.core.models import Bucket, Models, Tier
    from agentq.core.spec import Spec
    from agentq.flows.heart import Machines
    from agentq.models.choose import Chooser


class Clock(Protocol):
    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...


@dataclass(frozen=True)
class Base:
    """What looking needs: no remote, no workspaces made. `look` asks the scheduler about the queue as it is;
    `workspaces` is where workspaces would be."""

    repo: Repository
    config: Config
    runs: Runs
    store: QueueStore
    look: Callable[[], Situation]
    workspaces: Path


BRANCH_TTL = timedelta(days=2)
Observer = Callable[[str, dict[str, Any]], None]


def silent(_event: str, _data: dict[str, Any]) -> None:
    """The observer of those who do not look."""


@dataclass(frozen=True)
class Thinking:
    """Models and money. route(entry, text): the chain of tiers for a spec, and why. driver(tier): the agent that
    runs it, None for the configured one. key(bucket): its key, '' for the agent's own login."""

    chooser: "Chooser"
    models: "Models"
    route: Callable[["Spec", str], "tuple[tuple[Tier, ...], str]"]
    driver: Callable[["Tier"], Driver | None]
    key: Callable[["Bucket"], str]

    def bucket(self, tier: "Tier") -> "Bucket":
        from agentq.core.models import Bucket

        return self.models.buckets.get(tier.bucket) or Bucket(tier.bucket, protocol="")


# Puts a command that runs what agents wrote into the sandbox: command, working directory, folders it may write.
Wall = Callable[[list[str], Path, tuple[Path, ...]], list[str]]


@dataclass
class Services:
    """`stop` returns why work should end now, or None; `owner` is this process's identity. `machines` is None
    for a queue that no other host sees. secrets: values that nothing writes down; unwalled: a warning, where
    agents run without a sandbox and nobody chose that."""

    repo: Repository
    config: Config
    store: QueueStore
    runs: Runs
    mirror: Mirror
    workspaces: Workspaces
    databases: Databases
    driver: Driver
    thinking: Thinking
    clock: Clock
    owner: str
    identity: dict[str, str] = field(default_factory=dict)
    observer: Observer = silent
    stop: Callable[[], str | None] = lambda: None
    machines: "Machines | None" = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    unwalled: str = ""
    wall: Wall = lambda command, _cwd, _folders: command

    @property
    def lease_ttl(self) -> timedelta:
        return timedelta(hours=self.config.schedule.lease_hours)

    @property
    def branch_ttl(self) -> timedelta:
        """The longest a database branch may live. On its own host it goes with its owner; another host, which
        cannot see whether that one lives, waits for this time, so it is longer than any command."""
        longest = max(
            self.config.agent.timeout_minutes,
            *self.config.agent.timeouts.values(),
            self.config.commands.timeout_minutes,
        )
        return max(BRANCH_TTL, 2 * self.lease_ttl, timedelta(minutes=2 * longest))

    def claim(self, instance: int) -> Claim:
        machine, additive = self.config.machine.name, self.config.overlap.additive
        return Claim(machine, instance, self.clock.now(), self.lease_ttl, additive)

    def say(self, event: str, **data: Any) -> None:
        self.observer(event, data)


@dataclass(frozen=True)
class Evidence:
    """Where one run keeps what it saw."""

    folder: Path

    def log(self, name: str) -> Path:
        """A log file that no earlier attempt used."""
        number = 1
        while (path := self.folder / f"{name}-{number}.log").exists():
            number += 1
        return path
