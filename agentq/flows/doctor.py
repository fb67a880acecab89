"""`agentq doctor`: everything that must be right before work starts, one finding a line.

Checks only look, and none of them raises: what fails becomes a finding. `repair` runs the fixes that findings
carry. Invariant: a fix destroys nothing; an unreadable queue is set aside, unlanded work is saved.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from agentq import machine, process, sandbox
from agentq.config import MACHINE_FILE, POLICY_FILE, Config, policy
from agentq.core.spec import Queue
from agentq.core.text import one_line, plural
from agentq.errors import AgentqError, QueueCorrupt
from agentq.flows.detect import ANSWER_SECONDS
from agentq.flows.dev import behind
from agentq.flows.recover import recover
from agentq.flows.services import Base
from agentq.flows.setup import host, installed, write_machine
from agentq.repository import Repository
from agentq.trunk.git import Git, network_config

if TYPE_CHECKING:
    from agentq.databases.base import Databases
    from agentq.drivers.base import Driver
    from agentq.flows.services import Services

GIT_AT_LEAST = (2, 38)
DISK_BAD_GB, DISK_WARN_GB = 0.5, 5.0
GB = 2**30
Level = Literal["ok", "warn", "bad"]
Fix = Callable[[], list[str]]


@dataclass(frozen=True)
class Finding:
    """One line of the check-up. `hint`: what to do; `fix`: does it, and returns lines about what it did."""

    level: Level
    text: str
    hint: str = ""
    fix: Fix | None = None

    @property
    def ok(self) -> bool:
        return self.level != "bad"


class Wiring(Protocol):
    """The module agentq.wiring, which no flow imports. Its functions raise AgentqError."""

    def base(self, start: Path | None = None) -> Base: ...
    def services(self, made: Base) -> "Services": ...
    def databases(self, repo: Repository, config: Config, root: Path) -> "Databases": ...
    def driver(self, config: Config, name: str = "") -> "Driver": ...
    def book_problems(self) -> list[str]: ...
    def workspaces_root(self, repo: Repository, config: Config, env: Mapping[str, str]) -> Path: ...


def checks(wiring: Wiring, repo: Repository, patience: float = ANSWER_SECONDS) -> list[Finding]:
    """All findings about the checkout. Takes as long as the remote needs to answer, at most `patience`
    seconds."""
    found = [_git(repo), Finding("ok", f"repository {repo.root}")]
    try:
        base = wiring.base(repo.root)
    except AgentqError as error:
        return [*found, _bad(error)]
    sections: tuple[Callable[[], Iterator[Finding]], ...] = (
        lambda: _settings(base),
        lambda: _trunk(base, patience),
        lambda: _machine(wiring, base),
        lambda: _doors(wiring, base),
        lambda: _others(wiring, base.config),
        lambda: _sandbox(base, wiring.book_problems),
        lambda: _migrations(base),
        lambda: _disk(wiring, base),
        lambda: _queue(wiring, base),
    )
    for section in sections:
        try:
            found.extend(section())
        except AgentqError as error:
            found.append(_bad(error))
        except OSError as error:
            found.append(Finding("bad", one_line(str(error))))
    return list(dict.fromkeys(found))


def repair(found: list[Finding]) -> list[str]:
    """Run every fix once; what a fix cannot do is said in its line."""
    done: list[str] = []
    for fix in dict.fromkeys(finding.fix for finding in found if finding.fix):
        try:
            done += fix()
        except (AgentqError, OSError) as error:
            done.append(f"not fixed: {one_line(str(error))}")
    return done


def _bad(error: AgentqError) -> Finding:
    return Finding("bad", error.message, error.hint)


def _git(repo: Repository) -> Finding:
    try:
        text = Git(repo.root)("--version").text
    except AgentqError as error:
        return _bad(error)
    numbers = re.search(r"(\d+)\.(\d+)", text)
    wanted = ".".join(map(str, GIT_AT_LEAST))
    if numbers is None or (int(numbers[1]), int(numbers[2])) < GIT_AT_LEAST:
        return Finding("bad", f"{text} is too old", f"install git {wanted} or newer")
    return Finding("ok", text)


def _settings(base: Base) -> Iterator[Finding]:
    commands = base.config.commands
    if not base.repo.config_file.is_file():
        yield Finding("warn", f"there is no {POLICY_FILE}: defaults are in force", "'agentq init' writes one")
    if not commands.verify:
        yield Finding(
            "bad", "nothing would prove a landing: [commands] verify is empty", f"set it in {POLICY_FILE}"
        )
    elif not commands.test:
        yield Finding(
            "warn", "[commands] test is empty: specs with a test stage cannot run", f"set it in {POLICY_FILE}"
        )
    else:
        yield Finding("ok", f"settings: {plural(len(commands.verify), 'command')} prove a landing")


def _trunk(base: Base, patience: float) -> Iterator[Finding]:
    """The remote, the branch there, and whether its config.toml is the one in the checkout."""
    remote, branch = base.config.trunk.remote, base.config.trunk.branch
    git = Git(base.repo.root)
    if git.ask("remote", "get-url", remote).rc:
        hint = f"'agentq init' offers a bare hub; or 'git remote add {remote} URL'"
        yield Finding("bad", f"the repository has no remote '{remote}'", hint)
        return
    network = network_config(base.repo.root, os.environ)
    ref = f"refs/heads/{branch}"
    said = git.ask("ls-remote", "--end-of-options", remote, ref, timeout=patience, env=network)
    if said.rc:
        hint = f"'git ls-remote {remote}' shows the same; agentq never asks for a password"
        yield Finding("bad", f"remote '{remote}' does not answer: {one_line(said.stderr, 200)}", hint)
        return
    commit = next((line.split("\t")[0] for line in said.text.splitlines() if line.endswith(f"\t{ref}")), "")
    if not commit:
        hint = f"push it: 'git push {remote} {branch}'; or set [trunk] branch in {POLICY_FILE}"
        yield Finding("bad", f"remote '{remote}' has no branch '{branch}'", hint)
        return
    yield Finding("ok", f"trunk is '{branch}' on '{remote}', at {commit[:10]}")
    yield from _policy(base, git, commit)


def _policy(base: Base, git: Git, commit: str) -> Iterator[Finding]:
    file = base.repo.config_file
    if git.ask("cat-file", "-e", f"{commit}^{{commit}}").rc:
        yield Finding("ok", f"{POLICY_FILE} was not compared with trunk's: this checkout has not fetched it")
        return
    theirs = git.ask("cat-file", "blob", f"{commit}:{POLICY_FILE}")
    ours = file.read_bytes() if file.is_file() else b""
    if theirs.rc and ours:
        text = f"{POLICY_FILE} is not on trunk yet: other checkouts do not have it"
        yield Finding("warn", text, "commit agents/ and push it to trunk")
    elif theirs.stdout.replace(b"\r\n", b"\n") != ours.replace(b"\r\n", b"\n"):
        text = f"{POLICY_FILE} differs from trunk's: for landing, trunk's verify commands count"
        yield Finding("warn", text, "push it to trunk, or pull trunk's")
    if not theirs.rc:
        policy(theirs.stdout.decode("utf-8", "replace"), f"{POLICY_FILE} on trunk")


def _machine(wiring: Wiring, base: Base) -> Iterator[Finding]:
    limits = base.config.machine
    root = wiring.workspaces_root(base.repo, base.config, os.environ)
    target = base.repo.root / MACHINE_FILE
    if not target.exists():

        def write() -> list[str]:
            write_machine(base.repo.root, host(root, limits).text)
            return [f"wrote {MACHINE_FILE}"]

        yield Finding("warn", f"there is no {MACHINE_FILE}: one agent at a time", "'agentq machine setup'", write)
        return
    too_much = machine.check(limits, machine.detect(root))
    for text in too_much:
        yield Finding("warn", f"{MACHINE_FILE}: {text}", "'agentq machine setup --force' computes it again")
    if not too_much:
        yield Finding("ok", f"{MACHINE_FILE}: '{limits.name}' runs {plural(limits.instances, 'agent')} at once")


def _doors(wiring: Wiring, base: Base) -> Iterator[Finding]:
    """The agent's and the database's own findings."""
    root = wiring.workspaces_root(base.repo, base.config, os.environ)
    asked: tuple[Callable[[], Any], ...] = (
        *(_asking(wiring, base.config, name) for name in _drivers(base.config)),
        lambda: wiring.databases(base.repo, base.config, root).doctor(),
    )
    for ask in asked:
        try:
            for finding in ask():
                warns: Level = "warn" if finding.hint else "ok"
                yield Finding(warns if finding.ok else "bad", finding.text, finding.hint)
        except AgentqError as error:
            yield _bad(error)


def _drivers(config: Config) -> list[str]:
    """The configured driver, and those of the tiers."""
    tiers = config.models.tiers.values() if config.models else ()
    return list(dict.fromkeys([config.agent.driver, *(tier.driver for tier in tiers if tier.driver)]))


def _asking(wiring: Wiring, config: Config, name: str) -> Callable[[], Any]:
    return lambda: wiring.driver(config, name).doctor()


def _sandbox(base: Base, book_problems: Callable[[], list[str]]) -> Iterator[Finding]:
    """Which walls agents have, what is wrong with the book of costs, and which keys the buckets lack."""
    use = base.config.sandbox.use
    walls = sandbox.find(use)  # type: ignore[arg-type]
    if walls.warning:
        level: Level = "ok" if use == "off" else "warn"
        yield Finding(
            level, walls.warning, "" if use == "off" else "install bubblewrap; docs/security.md tells more"
        )
    else:
        yield Finding("ok", f"sandbox: bubblewrap ({walls.program})")
    for problem in book_problems():
        yield Finding("bad", problem, "restore the file from a copy; it holds what was spent")
    for bucket in base.config.models.buckets.values() if base.config.models else ():
        if bucket.key_env and not os.environ.get(bucket.key_env):
            text = f"bucket '{bucket.name}': the variable {bucket.key_env} is not set"
            yield Finding("warn", text, "its tiers are left out until it is")


def _others(wiring: Wiring, config: Config) -> Iterator[Finding]:
    """Agents that are here and not used: nothing of theirs is bad."""
    for name in installed(os.environ):
        if name in _drivers(config):
            continue
        try:
            for finding in _asking(wiring, config, name)():
                yield Finding("ok", f"not used: {finding.text}")
        except AgentqError as error:
            yield Finding("ok", f"not used: {error.message}")


def _migrations(base: Base) -> Iterator[Finding]:
    """Whether migrations can be generated and proved, and whether dev follows."""
    settings, database = base.config.migrations, base.config.database
    if settings.tool == "none":
        return
    if database.provider == "none":
        yield Finding(
            "bad", f"migrations of '{settings.tool}' need a database", f"set [database] provider in {POLICY_FILE}"
        )
        return
    if not database.push:
        hint = "with [database] push they are compared with what it makes"
        yield Finding("warn", f"migrations of '{settings.tool}' are proved without a schema push", hint)
    problem = behind(base)
    if problem:
        yield Finding("warn", f"dev does not follow trunk's migrations: {problem}", "the next landing tries again")
    else:
        who = {"": "nobody; set [migrations] apply_to_dev", "*": "any machine"}.get(settings.apply_to_dev)
        yield Finding("ok", f"migrations by {settings.tool}; dev is moved by {who or settings.apply_to_dev}")


def _disk(wiring: Wiring, base: Base) -> Iterator[Finding]:
    root = wiring.workspaces_root(base.repo, base.config, os.environ)
    place = root
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        hint = f"let yourself write to {place}, or set 'workspaces' in {MACHINE_FILE}"
        yield Finding("bad", f"workspaces cannot be made in {root}", hint)
        return
    free = shutil.disk_usage(place).free / GB
    level: Level = "bad" if free < DISK_BAD_GB else "warn" if free < DISK_WARN_GB else "ok"
    hint = f"free some space, or set 'workspaces' in {MACHINE_FILE}" if level != "ok" else ""
    yield Finding(level, f"workspaces go to {root}: {free:.1f} GB free", hint)


def _queue(wiring: Wiring, base: Base) -> Iterator[Finding]:
    store = base.store
    try:
        queue, _, age = store.read()
    except QueueCorrupt as error:

        def restore() -> list[str]:
            return [f"the queue is as agentq last wrote it; the unreadable one is {store.restore()}"]

        yield Finding("bad", error.message, error.hint, restore)
        return
    counts = f"{len(queue.ready)} ready, {len(queue.in_progress)} in progress, {len(queue.completed)} completed"
    yield Finding("ok", f"queue: {counts}")
    if age:
        text = f"the shared queue cannot be reached; this is what it was {age:.0f} s ago"
        yield Finding("warn", text, "it cannot be changed until the remote answers")
    left = stale(base, queue, wiring.workspaces_root(base.repo, base.config, os.environ), datetime.now(UTC))

    def settle() -> list[str]:
        return recover(wiring.services(base)).lines

    for text in left:
        yield Finding("warn", text, "'agentq recover' settles it; so does the next run", settle)
    if not left:
        yield Finding("ok", "nothing left behind by a crash")


def stale(base: Base, queue: Queue, root: Path, now: datetime) -> list[str]:
    """What `recover` would settle, one line each. `root`: where workspaces are."""
    runs = base.runs
    lines: list[str] = []
    for live in runs.recorded():
        if not process.alive(live.owner):
            strays = len(process.strays(live.marker))
            more = f" and left {strays} {'process' if strays == 1 else 'processes'}" if strays else ""
            lines.append(f"{live.spec}: its run died in the {live.stage} stage{more}")
    for intent in runs.intents():
        if runs.is_free(intent.spec):
            lines.append(f"{intent.spec}: nobody wrote down how its push ended")
    for entry in queue.in_progress:
        mine = entry.lease.machine == base.config.machine.name and not entry.attention
        if mine and entry.lease.expires <= now and runs.is_free(entry.id):
            lines.append(f"{entry.id}: its lease expired")
    busy = {entry.id for entry in queue.in_progress}
    folder = root / "ws"
    spaces = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for name in spaces:
        if name not in busy and runs.is_free(name):
            lines.append(f"{name}: a workspace nobody uses")
    return lines
