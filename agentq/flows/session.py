"""One run of one spec: what its stages share. Owns the workspace between claim and landing.

Invariant: whatever an agent left in the workspace is saved under `refs/agentq/wip/` (to go on with) or
`refs/agentq/salvage/` (for people) before anything there changes.
"""

import itertools
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentq import process
from agentq.config import POLICY_FILE, Config, policy
from agentq.core import queue as transitions
from agentq.core import redact
from agentq.core.lifecycle import Stage
from agentq.core.models import Tier
from agentq.core.queue import Transition
from agentq.core.spec import InProgress, Queue
from agentq.core.text import clean, one_line
from agentq.databases.base import Branch, places
from agentq.errors import ExternalError, GitError, Stale
from agentq.flows import wip
from agentq.flows.outcome import Failed, Interrupted
from agentq.flows.services import Evidence, Services
from agentq.store.runs import Live
from agentq.trunk import folder
from agentq.trunk.mirror import RESOLVED_TRAILER, Trunk, Work

WALLS_FAILED = 125  # exit status of `agentq.sandbox`
_NUMBERS = itertools.count(1)


@dataclass
class Session:
    """`work`: what its stages proved; `remote`: what of it is on the remote, where machines share the queue;
    `branches`: the database branches in use; `routed`: the tiers for all its stages, and why, once that was asked.
    """

    services: Services
    entry: InProgress
    live: Live
    evidence: Evidence
    verify_config: Config | None = None
    work: dict[str, Work] = field(default_factory=dict)
    remote: dict[str, str] = field(default_factory=dict)
    began: float = 0.0
    branches: list[Branch] = field(default_factory=list)
    routed: "tuple[tuple[Tier, ...], str] | None" = None

    @property
    def id(self) -> str:
        return self.entry.id

    @property
    def epoch(self) -> int:
        return self.entry.lease.epoch

    @property
    def workspace(self) -> Path:
        return self.services.workspaces.path(self.id)

    def say(self, event: str, **data: Any) -> None:
        hidden = self.services.secrets
        self.services.say(event, spec=self.id, **{name: _safe(value, hidden) for name, value in data.items()})

    # ------------------------------------------------------------ the queue

    def update(self, change: Transition) -> Queue:
        """Change the queue and keep our entry current."""
        queue = self.services.store.update(lambda queue: change(self.mine(queue)))
        self.refresh(queue)
        return queue

    def mine(self, queue: Queue) -> Queue:
        """The queue as it is. Raises Stale when our epoch belongs to another machine: that happens if somebody
        put back the branch of a shared queue, and epochs were handed out again."""
        machine = self.entry.lease.machine
        for entry in queue.in_progress:
            if entry.id == self.id and entry.lease.epoch == self.epoch and entry.lease.machine != machine:
                raise Stale(f"'{self.id}' is leased by {entry.lease.machine} now", "the queue was put back")
        return queue

    def refresh(self, queue: Queue) -> None:
        for entry in queue.in_progress:
            if entry.id == self.id and entry.lease.epoch == self.epoch:
                self.entry = entry

    def check_lease(self) -> None:
        """Raises Stale when the lease was taken over: then this process changes nothing more."""
        transitions.owned(self.mine(self.services.store.read().queue), self.id, self.epoch)

    # ------------------------------------------------------------ trunk and work

    def work_ref(self, stage: Stage) -> str:
        return f"refs/agentq/work/{self.id}/{stage}"

    @property
    def wip_ref(self) -> str:
        return f"refs/agentq/wip/{self.id}"

    def fetch_trunk(self) -> Trunk:
        """The newest trunk; from now on its own configuration says how to verify (reliability fact 19). What
        earlier stages proved is read along with it."""
        trunk = self.services.mirror.fetch(POLICY_FILE)
        text = trunk.files[POLICY_FILE]
        config = self.services.config
        if text is not None:
            config = policy(text.decode("utf-8", "replace"), f"{POLICY_FILE} on {trunk.commit[:10]}")
        self.verify_config = config
        self.work = self.services.mirror.work(self.id)
        return trunk

    def commit_work(self, stage: Stage, trunk: str, tree: str, resolved: Sequence[str] = ()) -> None:
        """Keep what a stage proved, as one commit on `trunk`. `resolved`: lines about conflicts that rules settled
        on the way; they go with the work."""
        mirror = self.services.mirror
        commit = mirror.commit_tree(tree, [trunk], with_resolved(f"{self.id}: {stage}\n", resolved))
        mirror.set_ref(self.work_ref(stage), commit)
        self.work[stage] = Work(commit, trunk, tree, tuple(dict.fromkeys(resolved)))

    def stand_on(self, trunk: str) -> None:
        """Write down which trunk commit the work stands on."""
        if self.entry.base != trunk:
            self.update(lambda queue: transitions.based_on(queue, self.id, self.epoch, trunk))

    @property
    def rules(self) -> Config:
        """The configuration that verifies: trunk's, or the checkout's where trunk has none."""
        return self.verify_config or self.services.config

    # ------------------------------------------------------------ the workspace

    def save_wip(self, start: str, stage: str) -> str:
        """Keep the files of the workspace as an unfinished attempt at `stage`; '' if nothing differs."""
        mirror, workspaces = self.services.mirror, self.services.workspaces
        if not folder.is_real(self.workspace):
            return ""
        try:
            tree = mirror.snapshot(self.workspace, start, workspaces.index_of(self.workspace))
        except GitError as error:
            self.say("note", text=f"the workspace could not be saved: {error.message}; it stays as it is")
            return ""
        commit = ""
        if tree == mirror.tree(start):
            mirror.delete_refs(self.wip_ref)  # the agent took back what an earlier attempt had left
        else:
            commit = mirror.commit_tree(tree, [start], f"{self.id}: unfinished {stage}\n\nStage: {stage}")
            mirror.set_ref(self.wip_ref, commit)
        workspaces.saved(self.workspace)
        return commit

    def save_branches(self, start: str) -> None:
        """Keep what an agent left on other branches or in the stash: the workspace's `.git` is made anew before
        the next stage."""
        if not folder.is_real(self.workspace / ".git") or folder.waits(self.workspace / ".git"):
            return
        mirror = self.services.mirror
        prefix = f"refs/agentq/found/{self.id}/{self.live.run}"
        head = mirror.git.ask("ls-remote", "--quiet", "--end-of-options", str(self.workspace), "HEAD").text[:40]
        if refs := mirror.import_others(self.workspace, prefix, (start, head)):
            self.say(
                "note", text=f"the agent left other branches; they are kept as {shown(refs)} in {mirror.path}"
            )

    def lost(self, stage: Stage) -> Failed:
        """What `stage` proved is gone, with the mirror that held it."""
        problem = f"what the {stage} stage proved is not on this machine any more"
        again = f"'agentq release {self.id}' saves what is left and starts over"
        if stage == "implement" and ("test" in self.work or self.entry.tests == "none"):
            again = f"'agentq retry {self.id} --from implement' does it again"
        return Failed(problem, again, attention=problem)

    def salvage(self, commit: str, why: str) -> str:
        """Keep `commit` for people, in the mirror and in the person's own repository; returns the ref."""
        return wip.salvage(self.services, self.id, commit, why)

    # ------------------------------------------------------------ commands

    def command(
        self, command: str, cwd: Path, name: str, env: dict[str, str], timeout: float = 0, *, walled: bool = True
    ) -> process.Outcome:
        """Run one of the project's own commands with its output in a log of its own. walled: it may run what an
        agent wrote."""
        line = process.shell(command)
        if walled:
            line = self.services.wall(line, cwd, self._folders(env))
        log = self.evidence.log(name)
        self.say("command", command=command, log=str(log))
        minutes = self.rules.commands.timeout_minutes
        marked = {**self.environment(env), "CI": "true"}
        outcome = process.run(
            line, cwd=cwd, env=process.clean_env(self._allowed(), marked), output=log,
            marker=self.live.marker, timeout=timeout or minutes * 60, stop=self.services.stop,
            secrets=(*self.services.secrets, *redact.passwords(env.values())),
        )  # fmt: skip
        if line != process.shell(command) and outcome.returncode == WALLS_FAILED:
            # Nothing ran: that must not be taken for a test that fails.
            raise ExternalError(f"the sandbox could not be made: {self.last_words(outcome)}", "'agentq doctor'")
        return outcome

    def _folders(self, env: Mapping[str, str]) -> tuple[Path, ...]:
        """Where the files of the database branch are that `env` names."""
        mine = [branch for branch in self.branches if branch.env and branch.env.items() <= env.items()]
        return tuple(folder for branch in mine for folder in places(branch)[0])

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """What agents and commands of this run are told: the database branch, who they are, how many test
        workers this machine allows (mission row T13)."""
        machine = self.services.config.machine
        return {
            **env, "AGENTQ_SPEC": self.id, "AGENTQ_RUN": self.live.marker,
            "AGENTQ_TEST_WORKERS": str(machine.test_workers),
            "PLAYWRIGHT_WORKERS": str(machine.playwright_workers),
        }  # fmt: skip

    def _allowed(self) -> tuple[str, ...]:
        return (*process.BASE_ENV, *self.services.config.agent.env)

    def prepare(
        self, workspace: Path, commit: str, env: dict[str, str], name: str = "", *, always: bool = False
    ) -> Failed | Interrupted | None:
        """What comes before the tests: the set-up command, if a lock file changed since it last ran here or
        `always`, and the schema push on a fresh branch (databases fact 3). `name` begins those of its logs."""
        first = f"{name}-" if name else ""
        return self.set_up(workspace, commit, env, f"{first}setup", always=always) or self.push_schema(
            workspace, env, f"{first}schema-push"
        )

    def push_schema(self, workspace: Path, env: dict[str, str], log: str) -> Failed | Interrupted | None:
        return self.ready(self.rules.database.push, "schema push", workspace, log, env)

    def set_up(
        self, workspace: Path, commit: str, env: dict[str, str], log: str, *, always: bool
    ) -> Failed | Interrupted | None:
        """The set-up command, if a lock file changed since it last ran in `workspace`, or `always`."""
        rules = self.rules.commands
        if not rules.setup:
            return None
        locks = self.services.mirror.blobs(commit, [name.rsplit("/", 1)[-1] for name in rules.lock_files])
        state = repr((rules.setup, sorted(locks.items())))
        index = self.services.workspaces.index_of(workspace)
        mark = index.with_name(index.name + ".setup")
        if not always and mark.is_file() and mark.read_text(errors="replace") == state:
            return None
        mark.unlink(missing_ok=True)
        # It installs what the project depends on: caches, registries and their logins are its business.
        failed = self.ready(rules.setup, "set-up command", workspace, log, env, walled=False)
        if failed is None:
            mark.write_text(state)
        return failed

    def ready(
        self, command: str, what: str, workspace: Path, log: str, env: dict[str, str], *, walled: bool = True
    ) -> Failed | Interrupted | None:
        """Run one of the commands that come before the tests, if there is one."""
        if not command:
            return None
        outcome = self.command(command, workspace, log, env, walled=walled)
        if outcome.kind == "stopped":
            return Interrupted(f"stopped during its {what}")
        if outcome.kind == "exited" and not outcome.returncode:
            return None
        problem = f"the {what} failed: {self.last_words(outcome)}"
        return Failed(problem, f"it ran: {command}", unready=True)

    @contextmanager
    def database(self, name: str, *, empty: bool = False) -> Iterator[Branch]:
        """A fresh database branch for one command (mission row T8), or one without content. No two of a run
        are the same: one may still be on its way out when the next is asked for."""
        services = self.services
        command_id = f"{self.id}-{name}-{self.epoch}-{self.live.run}-{next(_NUMBERS)}"
        make = services.databases.empty if empty else services.databases.acquire
        started = services.clock.monotonic()
        branch = make(command_id, services.branch_ttl, services.clock.now(), owner=services.owner)
        seconds = round(services.clock.monotonic() - started, 3)
        try:
            if branch.env:
                self.say(
                    "database-ready",
                    branch=branch.name,
                    generation=branch.generation,
                    warm=branch.warm,
                    seconds=seconds,
                )
            self.branches.append(branch)
            yield branch
        finally:
            self.branches = [one for one in self.branches if one is not branch]
            with suppress(Exception):  # the reaper takes what is left; a stage never fails for this
                services.databases.release(branch.id)

    @staticmethod
    def last_words(outcome: process.Outcome) -> str:
        how = f"exit status {outcome.returncode}" if outcome.kind == "exited" else outcome.kind
        said = one_line(outcome.tail)
        return f"{said} ({how})" if said else how


def shown(paths: Sequence[str], most: int = 5) -> str:
    """The first of `paths`, safe to show: an agent chose these names."""
    return ", ".join(_safe(path).replace("\n", "\\n") for path in paths[:most])


def _safe(value: Any, secrets: Sequence[str] = ()) -> Any:
    """An event's value as it may be shown and stored: agents choose file names and words."""
    if isinstance(value, str):
        return clean(redact.without(value, secrets))
    return [_safe(one, secrets) for one in value] if isinstance(value, list | tuple) else value


def with_resolved(message: str, lines: Sequence[str]) -> str:
    """A commit message with a trailer for each conflict that a rule resolved."""
    known = resolved_in(message)
    more = [f"{RESOLVED_TRAILER}: {line}" for line in dict.fromkeys(lines) if line not in known]
    body = message.rstrip("\n")
    gap = "\n" if re.search(r"\n[A-Z][A-Za-z-]+: [^\n]*\Z", body) else "\n\n"
    return body + gap + "\n".join(more) + "\n" if more else message


def resolved_in(message: str) -> list[str]:
    """The conflicts that rules resolved, as a commit message says."""
    start = f"{RESOLVED_TRAILER}: "
    return [line.removeprefix(start) for line in message.splitlines() if line.startswith(start)]


def quoted(paths: Sequence[str]) -> str:
    return " ".join(shlex.quote(path) for path in paths)


Confirm = Callable[[str, str], bool]
