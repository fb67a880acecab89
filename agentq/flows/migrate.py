"""The canonical migration of a spec: generated on trunk's newest, and proved (mission row T9, databases fact 4).

Invariants: trunk's migrations land as they are; what an agent wrote is taken only from a spec whose migration is
handwritten, and then only put after trunk's; what lands was proved on databases of its own:

    empty database → all migrations → the tool's check finds nothing missing → same schema as the schema push
    copy of dev    → new migrations → the same schema; no table, column or row is lost unless the spec says so
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from agentq import process
from agentq.core.spec import InProgress
from agentq.core.text import plural
from agentq.databases import contents
from agentq.databases.contents import Contents
from agentq.errors import DatabaseError
from agentq.flows.outcome import Failed, Interrupted
from agentq.flows.session import Session, shown
from agentq.migrations.base import Commands, Impossible, Tool
from agentq.store import files

MOST_LINES = 3


@dataclass(frozen=True)
class Canonical:
    """`tree` holds the canonical migrations; `written`: the paths of those that are not on trunk yet."""

    tree: str
    written: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class _Ended(Exception):
    """A step failed or was stopped; `outcome` ends the whole."""

    def __init__(self, outcome: Failed | Interrupted) -> None:
        super().__init__()
        self.outcome = outcome


def tool_of(session: Session) -> Tool | None:
    """The project's migration tool, by trunk's settings; None without one. Raises ConfigError."""
    settings = session.rules.migrations
    if settings.tool == "none":
        return None
    from agentq.migrations.tools import tool

    return tool(settings.tool, settings.files, settings.upgrade, settings.generate, settings.check)


def owned(session: Session, tree: str, chosen: Tool) -> dict[str, bytes]:
    """The migration files of a tree or commit."""
    return session.services.mirror.read(tree, chosen.owns)


def accept(session: Session, stage: str, trunk: str, tree: str) -> tuple[str, tuple[str, ...]] | Failed:
    """`tree` with the migrations that may stay: trunk's, and new ones of a spec whose migration is handwritten.
    And the paths that were put back."""
    chosen, entry = tool_of(session), session.entry
    if chosen is None:
        return tree, ()
    landed, present = owned(session, trunk, chosen), owned(session, tree, chosen)
    wanted = dict(landed)
    if entry.migration == "handwritten":
        placed = chosen.rebase(landed, present, landed)
        if isinstance(placed, Impossible):
            return Failed(f"the handwritten migration cannot be used: {placed.why}", placed.hint)
        if not placed and stage == "implement":
            return Failed(
                "the spec's migration is handwritten, but the agent wrote none",
                f'set migration = "generated" if agentq is to write it: agentq edit {entry.id}',
            )
        wanted |= placed
    paths = sorted({*wanted, *present})
    changes = {path: wanted.get(path) for path in paths if wanted.get(path) != present.get(path)}
    return session.services.mirror.put(tree, changes), tuple(changes)


def canonical(
    session: Session, entry: InProgress, onto: str, tree: str, checkout: Path
) -> Canonical | Failed | Interrupted:
    """`tree`: the merge of a spec's work with the commit `onto`, whose migrations it holds as they are, and behind
    them those that are handwritten. `checkout` is where the tool runs. Raises DatabaseError, ConfigError."""
    chosen = tool_of(session)
    if chosen is None:
        return Canonical(tree)
    if session.services.databases.name == "none":
        problem = "migrations cannot be generated without a database"
        return Failed(problem, "set [database] provider and url in agents/config.toml", attention=problem)
    known = session.services.runs.state / "canonical" / _key(session, entry, onto, tree)
    if (found := _known(session, known)) is not None:
        return found
    try:
        made = _Making(session, entry, onto, tree, checkout, chosen).run()
    except _Ended as ended:
        return ended.outcome
    files.write_json(known, {"tree": made.tree, "written": made.written, "notes": made.notes})
    return made


def missing_migration(session: Session, checkout: Path, commit: str, name: str) -> Failed | Interrupted | None:
    """Whether the definition of the schema, as `checkout` holds it at `commit`, has something that the migrations
    lack: each spec's own was complete when it was made, and two together may still need one more."""
    chosen = tool_of(session)
    if chosen is None or not owned(session, commit, chosen):
        return None
    commands = chosen.commands(session.id, "0" * 12)
    with session.database(f"{name}-check", empty=True) as fresh:
        env = dict(fresh.env)
        what = "migration of an empty database"
        if failed := session.ready(commands.upgrade, what, checkout, f"{name}-migrate-empty", env):
            return failed
        ended = session.command(commands.check, checkout, f"{name}-migrate-check", env)
    if ended.kind == "stopped":
        return Interrupted("stopped while migrations were checked")
    if chosen.unchanged(_status(ended), ended.tail):
        return None
    problem = f"together with what landed it needs a migration that it has not: {session.last_words(ended)}"
    return Failed(problem, f"it ran: {commands.check}")


def _key(session: Session, entry: InProgress, onto: str, tree: str) -> str:
    rules = session.rules
    settings = (rules.migrations, rules.database.push, rules.commands.setup, entry.id, entry.migration)
    below = session.services.mirror.tree(
        onto
    )  # a chain of the lane is made anew by each leader, of the same trees
    return f"{tree}-{hashlib.sha256(repr((below, settings)).encode()).hexdigest()[:16]}.json"


def _known(session: Session, path: Path) -> Canonical | None:
    """What was generated and proved for these very trees before."""
    found = files.read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("tree"), str):
        return None
    if session.services.mirror.git.ask("cat-file", "-e", f"{found['tree']}^{{tree}}").rc:
        return None
    return Canonical(found["tree"], tuple(found.get("written", ())), tuple(found.get("notes", ())))


@dataclass
class _Making:
    session: Session
    entry: InProgress
    onto: str
    tree: str
    checkout: Path
    tool: Tool
    notes: list[str] = field(default_factory=list)
    commit: str = ""

    def run(self) -> Canonical:
        # One copy of dev for the whole: dev may follow another landing meanwhile.
        with self.session.database("dev") as copy:
            return self._run_on(dict(copy.env))

    def _run_on(self, dev: dict[str, str]) -> Canonical:
        """`dev`: the variables of a copy of dev."""
        session, mirror = self.session, self.session.services.mirror
        trunk = owned(session, self.onto, self.tool)
        before = owned(session, self.tree, self.tool)
        session.say("migrating", text=f"the schema of {self.entry.id}: looking for what trunk's migrations lack")
        # A handwritten migration may also stand in files that all share, such as a journal.
        ahead = {path: trunk.get(path) for path, data in before.items() if trunk.get(path) != data}
        with session.database("shadow", empty=True) as shadow:
            env = dict(shadow.env)
            self._place(mirror.put(self.tree, ahead))
            drift = self._drift(env, dev) if trunk else frozenset()
            held = self._contents(dev)
            if ahead:
                self._place(self.tree)
                self._upgrade(env, "shadow")
            generated = self._generate(env)
        if self.entry.migration == "handwritten" and generated:
            self._fail(
                "the handwritten migration does not hold the whole change of the schema: "
                f"{shown(sorted(generated))} would be needed beside it",
                'write what is missing into it, or set migration = "generated"',
            )
        after = {**before, **generated}
        if clash := self.tool.clash(after):
            self._fail(f"the migrations do not fit together: {clash}", "see the migrations on trunk")
        written = tuple(sorted(path for path, data in after.items() if trunk.get(path) != data))
        if not written:
            return Canonical(self.tree)
        tree = mirror.put(self.tree, generated)
        self._place(tree)
        self._prove(drift, dev, held)
        session.say("migration", of=self.entry.id, paths=list(written), notes=self.notes)
        return Canonical(tree, written, tuple(self.notes))

    # ------------------------------------------------------------ steps

    def _place(self, tree: str) -> None:
        """A clean checkout of `tree`, set up."""
        session = self.session
        self.commit = session.services.mirror.commit_tree(tree, [self.onto], f"{self.entry.id}: migrations")
        keep = session.rules.commands.keep
        session.services.workspaces.prepare(self.checkout, self.commit, pristine=True, keep=keep)
        if stopped := session.set_up(self.checkout, self.commit, {}, "migrate-setup", always=not keep):
            raise _Ended(stopped)

    def _drift(self, shadow: dict[str, str], dev: dict[str, str]) -> frozenset[str]:
        """Bring an empty database and a copy of dev to trunk's migrations; the objects in which the two differ
        then. That is dev's own history, for which no spec is to blame."""
        self._follow_trunk(shadow, "shadow", "an empty database")
        self._follow_trunk(dev, "trunk", "a copy of dev")
        built, followed = self._contents(shadow), self._contents(dev)
        if lines := contents.differences(built, followed, ("trunk's migrations", "dev")):
            self.notes.append(f"dev differs from trunk's migrations: {_few(lines)}")
        return contents.differing(built, followed)

    def _follow_trunk(self, env: dict[str, str], name: str, what: str) -> None:
        """Where trunk alone cannot do it either, no spec is to blame. Raises DatabaseError then."""
        ended = self._command(self._commands.upgrade, name, env)
        if not _status(ended):
            return
        self._place(self.session.services.mirror.tree(self.onto))
        alone = self._command(self._commands.upgrade, f"{name}-alone", env)
        if _status(alone):
            raise DatabaseError(
                f"{what} cannot be brought to trunk's migrations: {self.session.last_words(alone)}",
                "no spec is to blame: put dev, or trunk's migrations, in order",
                retryable=True,
            )
        self._fail(
            f"with this spec's changes trunk's migrations cannot be applied: {self.session.last_words(ended)}",
            f"'agentq logs {self.entry.id}'",
        )

    def _generate(self, env: dict[str, str]) -> dict[str, bytes]:
        """What the tool writes for the schema this database lacks. Nothing else it touched counts."""
        mirror = self.session.services.mirror
        ended = self._command(self._commands.generate, "generate", env)
        tree = mirror.snapshot(self.checkout, self.commit)
        before, after = (owned(self.session, one, self.tool) for one in (self.commit, tree))
        found = self.tool.written(_status(ended), ended.tail, before, after)
        if isinstance(found, Impossible):
            self._fail(f"{found.why}: {self.session.last_words(ended)}", found.hint)
        return dict(found)

    def _prove(self, drift: frozenset[str], dev: dict[str, str], before: Contents) -> None:
        """`dev`: the copy of dev, at trunk's migrations; `before`: what it held then: what trunk's own migrations
        drop is no loss of this spec's."""
        session = self.session
        with session.database("fresh", empty=True) as fresh:
            env = dict(fresh.env)
            self._upgrade(env, "fresh")
            self._check(env)
            whole = self._contents(env)
        self._same_as_pushed(whole)
        self._upgrade(dev, "upgrade")
        after = self._contents(dev)
        if lines := contents.differences(whole, after, ("a fresh database", "an upgraded one"), drift):
            self._fail(f"a fresh and an upgraded database differ: {_few(lines)}", "see the migration in the log")
        if (lost := contents.lost(before, after)) and self.entry.migration == "generated":
            self._fail(
                f"the migration would lose data: {_few(lost)}",
                'if that is a rename, write it by hand and set migration = "handwritten"; if it is meant, set '
                f'migration = "destructive": agentq edit {self.entry.id}',
            )
        self.notes += lost

    def _same_as_pushed(self, whole: Contents) -> None:
        """The schema push and the migrations lead to the same schema."""
        push = self.session.rules.database.push
        if not push:
            self.notes.append("[database] push is not set: the migrations were not compared with it")
            return
        with self.session.database("pushed", empty=True) as pushed:
            env = dict(pushed.env)
            self._run(push, "push", env)
            lines = contents.differences(whole, self._contents(env), ("the migrations", "the pushed schema"))
        if lines:
            self._fail(
                f"migrations and pushed schema differ: {_few(lines)}",
                "what one of them leaves out belongs into a handwritten migration or into the definition",
            )

    def _check(self, env: dict[str, str]) -> None:
        ended = self._command(self._commands.check, "check", env)
        if not self.tool.unchanged(_status(ended), ended.tail):
            self._fail(f"after all migrations the tool still sees a change: {self.session.last_words(ended)}", "")

    # ------------------------------------------------------------ helpers

    @property
    def _commands(self) -> Commands:
        below = self.session.services.mirror.tree(self.onto)
        stamp = hashlib.sha256(f"{below} {self.entry.id}".encode()).hexdigest()[:12]
        return self.tool.commands(self.entry.id, stamp)

    def _upgrade(self, env: dict[str, str], name: str) -> None:
        self._run(self._commands.upgrade, name, env)

    def _run(self, command: str, name: str, env: dict[str, str]) -> None:
        if not command:
            return
        ended = self._command(command, name, env)
        if _status(ended):
            self._fail(f"'{command}' failed: {self.session.last_words(ended)}", f"'agentq logs {self.entry.id}'")

    def _command(self, command: str, name: str, env: dict[str, str]) -> process.Outcome:
        ended = self.session.command(command, self.checkout, f"migrate-{name}", env)
        if ended.kind == "stopped":
            raise _Ended(Interrupted("stopped while migrations were made"))
        return ended

    def _contents(self, env: dict[str, str]) -> Contents:
        return contents.read(env[self.session.services.config.database.env]).without(self.tool.bookkeeping)

    def _fail(self, problem: str, hint: str) -> NoReturn:
        raise _Ended(Failed(problem, hint, attention=problem))


def _few(lines: list[str]) -> str:
    more = len(lines) - MOST_LINES
    return "; ".join(lines[:MOST_LINES]) + (f"; and {plural(more, 'more difference')}" if more > 0 else "")


def _status(ended: process.Outcome) -> int:
    """Its exit status; one that was killed has failed."""
    return ended.returncode or 0 if ended.kind == "exited" else 1
