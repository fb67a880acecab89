"""The part of the wiring that is about agents: drivers, their walls, models and money (composition root)."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentq import process
from agentq.config import Config
from agentq.core.text import did_you_mean
from agentq.core.usage import Price
from agentq.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentq.core.models import Bucket, Models, Tier
    from agentq.core.spec import Spec
    from agentq.drivers.base import AgentTask, Driver
    from agentq.drivers.runner import Wrap
    from agentq.flows.services import Thinking, Wall
    from agentq.models.choose import Chooser
    from agentq.sandbox import Sandbox


def chooser(config: Config, book: Path) -> "Chooser":
    """Budgets, buckets and breakers as the settings want them. book: the host's file."""
    from agentq.core.breaker import Rules
    from agentq.core.budget import Budgets
    from agentq.core.models import Models
    from agentq.core.pace import Thresholds
    from agentq.models.book import Book
    from agentq.models.breakers import Breakers
    from agentq.models.buckets import Buckets
    from agentq.models.choose import Chooser
    from agentq.models.clock import HostClock
    from agentq.models.gate import Gate
    from agentq.models.ledger import Ledger

    pages, models, pace = Book(book, HostClock()), config.models or Models(), config.pace
    budgets = Budgets(config.budget.spec_dollars, config.budget.day_dollars, type_tokens=config.budget.tokens)
    gate = Gate(Buckets(pages, models.buckets), Breakers(pages, Rules(pace.failures, pace.open_seconds)))
    thresholds = Thresholds(pace.overflow_at, pace.pace_at)

    def unusable(tier: "Tier") -> str:
        bucket = models.buckets.get(tier.bucket)
        name = bucket.key_env if bucket else ""
        return f"the variable {name} is not set" if name and not os.environ.get(name) else ""

    return Chooser(
        Ledger(pages, budgets, models.buckets), gate, thresholds, HostClock().now, unusable, models.buckets
    )


def thinking(config: Config, repo: str, book: Path, around: "Around") -> "Thinking":
    """Which model does what, and at what price. repo: its name in the book, the host's file."""
    from agentq.core.models import Models
    from agentq.flows.services import Thinking
    from agentq.models.choose import plain

    models, desk = config.models or Models(), chooser(config, book)
    _, alone = plain(config.agent.driver, config.agent.model)

    def route(entry: "Spec", text: str) -> "tuple[tuple[Tier, ...], str]":
        if not models.tiers:
            return (alone,), ""
        from agentq.core.routes.size import Hints
        from agentq.models import router

        hints = Hints(entry.files_modified, entry.depends_on, entry.estimate_hours or 0.0)
        ask = _ask(models, desk, key, repo, entry) if models.asked else None
        found = router.route(text, models, type=entry.type, kind=entry.kind, hints=hints, ask=ask)
        chain = tuple(models.tiers[name] for name in found.tiers) or (alone,)
        return chain, "; ".join(found.reasons)

    def key(bucket: "Bucket") -> str:
        return os.environ.get(bucket.key_env, "") if bucket.key_env else ""

    def chosen(tier: "Tier") -> "Driver | None":
        same = tier.driver in ("", config.agent.driver)
        return None if same else driver(config, tier.driver, around)

    return Thinking(desk, models, route, chosen, key)


def _ask(
    models: "Models", desk: "Chooser", key: "Callable[[Bucket], str]", repo: str, entry: "Spec"
) -> "Callable[[str], str]":
    """Asks the router's own tiers, within all budgets and limits."""
    from agentq.core.models import Bucket
    from agentq.errors import ExternalError
    from agentq.models.choose import Chosen
    from agentq.models.ledger import Want

    def ask(prompt: str) -> str:
        from agentq.agent.failure import ApiError
        from agentq.agent.limits import LimitReached
        from agentq.agent.question import answer

        owner = process.identity(os.getpid()) or ""
        want = Want(repo, entry.id, "route", "route", "", "", owner, requests=1)
        found = desk.choose([models.tiers[name] for name in models.asked], want)
        if not isinstance(found, Chosen) or found.entry is None:
            raise ExternalError("no model is free for a question")
        tier, bucket = found.tier, models.buckets.get(found.tier.bucket) or Bucket(found.tier.bucket)
        cause, resets_at = "", 0.0
        try:
            text, usage = answer(prompt, tier.model, found.server, key(bucket), tier.price)
            desk.ledger.charge(found.reservation, usage, tier.price, model=tier.model, seat=found.entry.seat)
            return text
        except ApiError as error:
            cause, resets_at = error.cause, error.resets_at
            raise ExternalError(error.message) from None
        except LimitReached as error:
            cause = "network"
            raise ExternalError(error.message) from None
        finally:
            desk.done(found, cause, resets_at=resets_at)

    return ask


_DRIVERS = {
    "command": "agentq.drivers.command:CommandDriver", "claude": "agentq.drivers.claude:Claude",
    "codex": "agentq.drivers.codex:Codex", "gemini": "agentq.drivers.gemini:Gemini",
    "opencode": "agentq.drivers.opencode:Opencode", "aider": "agentq.drivers.aider:Aider",
    "builtin": "agentq.drivers.builtin:Builtin",
}  # fmt: skip


@dataclass(frozen=True)
class Around:
    """What is beside a workspace: the mirror it borrows objects from, which its agents must see, and the person's
    checkout, whose settings with secrets they do not."""

    mirror: Path
    checkout: Path


def driver(config: Config, name: str = "", around: Around | None = None) -> "Driver":
    """The driver `name`, or the configured one. around: None to look at it only. Raises UserError for one that is
    not there, Refused where a sandbox is required and there is none."""
    from agentq.drivers.command import CommandDriver
    from agentq.drivers.runner import AgentProgram
    from agentq.sandbox import find

    name = name or config.agent.driver
    made = _load(_DRIVERS.get(name, name))
    sandbox, allow = find(config.sandbox.use), config.agent.env  # type: ignore[arg-type]
    whole = _walls(config, sandbox, around, tools=False)
    if made is CommandDriver:
        return CommandDriver(config.agent.command, allow, wrap=whole)
    chosen: Any
    if name == "builtin":
        chosen = _builtin(config, made, around)
    elif name == "claude":
        tools = _walls(config, sandbox, around, tools=True) if sandbox.mode == "bwrap" else None
        chosen = made(tools=tools, own=sys.platform == "darwin" and config.sandbox.use != "off")
    else:
        chosen = made()
    return chosen if hasattr(chosen, "run") else AgentProgram(chosen, allow, wrap=whole)


def _walls(config: Config, sandbox: "Sandbox", around: Around | None, *, tools: bool) -> "Wrap":
    """Puts commands into the sandbox: those of an agent's tools, which have no network unless the spec allows it,
    or an agent as a whole, which thinks over it."""
    from agentq.sandbox import Walls

    writable, seen = _folders(config, "writable"), _folders(config, "readable")
    if around:
        seen = (*seen, around.mirror)

    def wrap(command: list[str], task: "AgentTask", folders: tuple[Path, ...]) -> list[str]:
        # What a person's command line names is what the agent consists of, wherever it lies.
        named = () if tools else tuple(Path(one) for one in command if one.startswith("/") and Path(one).is_file())
        walls = Walls(
            task.workspace, (*folders, *writable, *task.writable), (*seen, *named, task.prompt_file),
            network=task.network or not tools, reach=task.reach, hidden=_hidden(around),
        )  # fmt: skip
        return sandbox.wrap(command, walls)

    return wrap


def _hidden(around: Around | None) -> tuple[Path, ...]:
    from agentq import hiding

    return hiding.of_checkout(around.checkout) if around else ()


def _folders(config: Config, name: str) -> tuple[Path, ...]:
    return tuple(Path(folder).expanduser() for folder in getattr(config.sandbox, name))


# Caches of package managers and compilers, which every build writes.
_CACHES = (
    "~/.cache", "~/.npm", "~/.cargo/registry", "~/.cargo/git", "~/go/pkg", "~/.gradle/caches", "~/.m2/repository",
    "~/.local/share/pnpm", "~/.yarn", "~/.bun/install", "~/.nuget/packages",
)  # fmt: skip


def wall(config: Config, around: Around) -> "Wall":
    """Puts the project's own commands, where they run what agents wrote, into the sandbox: files are walled, the
    network is theirs."""
    from agentq.sandbox import Sandbox, Walls, find

    off = config.sandbox.commands == "off"
    sandbox = Sandbox("none") if off else find(config.sandbox.use)  # type: ignore[arg-type]
    writable = (*_folders(config, "writable"), *(Path(folder).expanduser() for folder in _CACHES))
    seen = (*_folders(config, "readable"), around.mirror)

    def put(command: list[str], cwd: Path, folders: tuple[Path, ...]) -> list[str]:
        walls = Walls(cwd, (*writable, *folders), seen, network=True, hidden=_hidden(around))
        return sandbox.wrap(command, walls)

    return put


def unwalled(config: Config) -> str:
    """What people are told loudly: that there is no sandbox, unless they chose that."""
    from agentq.sandbox import find

    return "" if config.sandbox.use == "off" else find(config.sandbox.use).warning  # type: ignore[arg-type]


def _builtin(config: Config, made: Any, around: Around | None) -> Any:
    """The built-in agent knows prices and walls: its tools are in the sandbox, it itself is not."""
    tiers = list(config.models.tiers.values()) if config.models else []
    return made(
        price=lambda brain: next((tier.price for tier in tiers if tier.model == brain.model), Price()),
        sandbox=config.sandbox.use, writable=_folders(config, "writable"), readable=_folders(config, "readable"),
        hidden=_hidden(around),
    )  # fmt: skip


def _load(place: str) -> Any:
    """The class that `module:Class` names."""
    import importlib

    module, _, name = place.partition(":")
    if not name:
        hint = did_you_mean(place, _DRIVERS) or f"known: {', '.join(_DRIVERS)}, or module:Class"
        raise UserError(f"there is no driver '{place}'", hint)
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"the driver '{place}' cannot be loaded: {error}", "is its package installed here?"
        ) from None
