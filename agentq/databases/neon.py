"""Branches by Neon: each is a branch of dev there, with a compute and a password of its own.

A branch at Neon is copied on write from what its parent holds at that moment, so there is nothing to seal: dev's
present *is* the source, and a branch holds everything that was committed before it. A generation is therefore only
a name for dev's state. While dev's compute is suspended nobody can write to dev, and the moment it was suspended
names that state exactly: branches made meanwhile are of one generation. While it runs, the API says nothing exact
(sizes and times of a branch are metered late), so each look is another head, and each branch of a generation of
its own: too often, never too seldom. So branches kept ready are used only while dev is suspended.

The password that a role has on dev works on each branch of it, and the other way round. So the role gets a new
password on the branch before anybody hears its URL. That costs one more request and one operation (`apply_config`)
for each branch; how many seconds, was not measured at Neon itself. `neon_guard` checks what is handed out.

Invariant: nothing is changed or destroyed at Neon but branches whose name this host gave them, and dev never.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from agentq.core.finding import Finding
from agentq.core.sections import Neon
from agentq.databases import base, neon_guard
from agentq.databases.base import Branch, Generation, command_key
from agentq.databases.neon_api import NeonApi, Timing
from agentq.databases.neon_calls import NeonCalls, Remote
from agentq.databases.neon_store import BRANCH, EMPTY, NAME, READY, Busy, NeonStore, Record, digest
from agentq.errors import ConfigError, DatabaseError

LONGEST = timedelta(days=30) - timedelta(hours=1)  # Neon keeps no expiring branch longer; an hour for its clock
SWEEP_WAIT = 60.0  # s the reaper waits for its turn

_STILL, _RUNNING = "still_", "running_"


class NeonDatabases:
    """Satisfies `Databases` for the project and branch that `settings` name.

    `store`, made on first use with mode 0700, keeps what this host knows of its branches. `env` is the variable
    that carries a branch's URL. `environ` is where the API's key is found. Neon itself ends a branch after
    `expire_hours`, or after what a caller asked for where that is more; none lives longer than 30 days. `patience`
    is how many seconds `release` waits for its turn.
    """

    name = "neon"

    def __init__(
        self,
        settings: Neon,
        store: Path,
        env: str = "DATABASE_URL",
        environ: Mapping[str, str] = MappingProxyType({}),
        timing: Timing | None = None,
        patience: float = 30.0,
    ) -> None:
        timing = timing or Timing()
        api = NeonApi(settings.api, settings.project, settings.key_env, environ, timing)
        self._settings, self._env, self._today = settings, env, timing.today
        self._patience = patience
        self._calls = NeonCalls(api)
        self._store = NeonStore(store / "neon" / (settings.project or "unknown"))

    def head(self) -> str:
        """See `Databases`. Two requests. Another value at each look while dev's compute runs."""
        return self._head(self._dev())

    def _head(self, dev: Remote) -> str:
        writers = [point for point in self._calls.endpoints(dev.id) if point.writes]
        if not all(point.still for point in writers):
            return f"{_RUNNING}{secrets.token_hex(8)}"
        state = "\n".join([dev.marks, *sorted(point.marks for point in writers)])
        return f"{_STILL}{sha256(state.encode()).hexdigest()[:16]}"

    def seal(self) -> Generation:
        """See `Databases`. Nothing is copied: the module says why."""
        return _generation(self.head())

    def dev(self) -> Mapping[str, str]:
        dev = self._dev()
        database, role = self._names(dev.id)
        url = self._calls.uri(dev.id, database, role)
        neon_guard.host(url, dev.name, self._calls.endpoints(dev.id))
        return {self._env: url}

    def moving(self) -> AbstractContextManager[None]:
        """A branch there is a snapshot between two commits, and ends nobody's session."""
        return nullcontext()

    def acquire(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        """See `Databases`. A repeat takes the branch over for its owner and never shortens its life."""
        return self._take(BRANCH, command_id, ttl, now, owner)

    def empty(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        """A new database on a branch of its own. (`init_source: schema-only` would hold dev's schema.)"""
        return self._take(EMPTY, command_id, ttl, now, owner)

    def _take(self, kind: str, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        key = command_key(command_id)
        with self._store.changes():
            for name in self._store.names(f"agentq_{kind}{key}_"):
                if branch := self._again(self._store.read(name), ttl, now, owner):
                    return branch
                self._remove(name)
            fresh = Record(
                name=self._store.new_name(kind, key),
                owner=owner,
                generation=base.EMPTY,
                expires_at=now + min(ttl, LONGEST),
                ends=self._ends(ttl, now),
                parent=self._usable_dev().id,
            )
            return (self._claim(fresh) if kind == BRANCH else None) or self._make(fresh)

    def _again(self, record: Record | None, ttl: timedelta, now: datetime, owner: str) -> Branch | None:
        """The branch a command has already, None when it can have it no more."""
        if record is None or not record.usable or record.expires_at <= now:
            return None
        remote = self._calls.get(record.id)
        if remote is None or remote.name != record.name:
            return None
        record = replace(record, owner=owner, expires_at=max(record.expires_at, now + min(ttl, LONGEST)))
        if record.expires_at > record.ends:
            record = replace(record, ends=self._ends(ttl, now))
            if not self._calls.update(record.id, record.name, record.ends):
                return None
        branch = self._shown(record)
        self._store.write(record)
        return branch

    def _make(self, record: Record) -> Branch:
        """A complete branch from an empty record. The caller holds the lock.

        The record stands before Neon is asked, so that a crash at any moment leaves what `reap` can find.
        """
        before = "" if record.kind == EMPTY else self.head()
        self._store.write(record)
        with self._undone_unless_complete(record.name):
            remote = self._calls.create(record.name, record.parent, record.ends)
            neon_guard.ours(remote, record, self._settings.parent)
            if before:
                moved = f"moved_{secrets.token_hex(8)}"
                record = replace(record, generation=_generation(before if self.head() == before else moved).id)
            record = self._furnish(replace(record, id=remote.id))
            branch = self._shown(record)
        self._store.write(record)
        return branch

    @contextmanager
    def _undone_unless_complete(self, name: str) -> Iterator[None]:
        try:
            yield
        except DatabaseError:
            with suppress(DatabaseError):  # the reaper tries again; the first failure is the one to tell
                self._remove(name)
            raise

    def _furnish(self, record: Record) -> Record:
        """The database and the password of a new branch."""
        database, role = self._names(record.parent)
        if record.kind == EMPTY:
            database = record.name
            self._calls.create_database(record.id, database, role)
        password = self._calls.new_password(record.id, role)
        return replace(record, database=database, role=role, proof=digest(record.id, password))

    def _claim(self, fresh: Record) -> Branch | None:
        """A ready branch of dev's present, under the name in `fresh`; None when there is none."""
        present = None
        for name in self._store.names(f"agentq_{READY}"):
            ready = self._store.read(name)
            if ready is None or not ready.usable or ready.parent != fresh.parent:
                continue
            present = present or self.seal()
            if ready.generation != present.id:
                continue
            self._store.write(fresh)
            with self._undone_unless_complete(fresh.name):
                if not self._calls.update(ready.id, fresh.name, fresh.ends):
                    self._store.drop(fresh.name)
                    self._store.drop(name)
                    continue
                taken = replace(
                    ready,
                    name=fresh.name,
                    owner=fresh.owner,
                    expires_at=fresh.expires_at,
                    ends=fresh.ends,
                    warm=True,
                )
                branch = self._shown(taken)
            self._store.write(taken)
            self._store.drop(name)
            return branch
        return None

    def warm(self, count: int) -> int:
        """See `Databases`. 0 while dev's compute runs: a ready branch would be stale at once."""
        with self._store.changes():
            present, ready = self.seal(), 0
            for name in self._store.names(f"agentq_{READY}"):
                if ready < count and self._is_ready(name, present):
                    ready += 1
                else:
                    self._remove(name)
        while present.head.startswith(_STILL) and ready < count:
            with self._store.changes():
                ends = self._ends(timedelta(0), self._today())
                name = self._store.new_name(READY, secrets.token_hex(6))
                made = self._make(Record(name, "", "", ends, ends, self._usable_dev().id))
                if made.generation != present.id:
                    self._remove(name)  # dev woke up meanwhile
                    break
                ready += 1
        return ready

    def _is_ready(self, name: str, present: Generation) -> bool:
        record = self._store.read(name)
        fits = record is not None and record.usable and record.generation == present.id
        return fits and bool(self._calls.named(name))

    def release(self, branch_id: str) -> None:
        """See `Databases`. What cannot be destroyed now is left to `reap`, and never handed out again.

        Nobody waits long for others' branches to be made: after `patience` it is the reaper's.
        """
        if not NAME.fullmatch(branch_id) or not self._store.mine(branch_id):
            return
        try:
            with self._store.changes(self._patience):
                self._doom(branch_id)
                self._remove(branch_id)
        except Busy:
            self._doom(branch_id)

    def _doom(self, name: str) -> None:
        if record := self._store.read(name):
            self._store.write(replace(record, doomed=True))

    def branches(self) -> list[Branch]:
        """See `Databases`. Three requests for each branch."""
        records = [self._store.read(name) for name in self._store.names()]
        usable = [record for record in records if record and record.usable and record.kind != READY]
        if not usable:
            return []
        there = {(remote.id, remote.name) for remote in self._calls.branches("agentq_")}
        shown = (self._shown_still(record) for record in usable if (record.id, record.name) in there)
        return [branch for branch in shown if branch]

    def _shown_still(self, record: Record) -> Branch | None:
        """None when the branch was released under us."""
        try:
            return self._shown(record)
        except DatabaseError:
            now = self._store.read(record.name)
            if now and now.usable:
                raise
            return None

    def reap(self, now: datetime, alive: Callable[[str], bool]) -> list[str]:
        """See `Databases`. Branches of other hosts are theirs; Neon ends each one by itself in the end.

        A branch that cannot be removed does not keep the others: DatabaseError comes after all were tried.
        """
        removed: list[str] = []
        failure: DatabaseError | None = None
        with suppress(Busy):  # another process is at it: next time
            for name in self._candidates():
                try:
                    with self._store.changes(SWEEP_WAIT):
                        record = self._store.read(name)
                        if record is None or not _wanted(record, now, alive):
                            removed += [name] * self._remove(name)
                except Busy:
                    raise
                except DatabaseError as exc:
                    failure = failure or exc
        if failure:
            raise failure
        return sorted(removed)

    def _candidates(self) -> list[str]:
        """What has a record here, and what Neon has in this host's name without one."""
        with self._store.changes(SWEEP_WAIT):
            if not self._store.used():
                return []
            self._store.sweep()
            names = set(self._store.names())
            found = self._calls.branches(f"_{self._store.id()}_")
            return sorted(names | {remote.name for remote in found if self._store.mine(remote.name)})

    def _remove(self, name: str) -> bool:
        """Out of Neon first, its record last; whether there was either. The caller holds the lock."""
        record = self._store.read(name)
        recorded = name in self._store.names(name)
        remotes = self._calls.named(name)
        parent = record.parent if record else self._dev().id if remotes else ""
        for remote in remotes:
            neon_guard.doomed(remote, parent, self._settings.parent)
            self._calls.delete(remote.id)
        self._store.drop(name)
        return recorded or bool(remotes)

    def _shown(self, record: Record) -> Branch:
        url = self._url(record)
        return Branch(
            record.name, record.name, record.generation, url, {self._env: url}, record.expires_at, record.owner,
            record.warm,
        )  # fmt: skip

    def _url(self, record: Record) -> str:
        """The URL of a branch, after every check there is. DatabaseError."""
        remote = self._calls.get(record.id)
        if remote is None:
            raise DatabaseError(f"the branch {record.name} is gone from Neon", "run the command again")
        neon_guard.ours(remote, record, self._settings.parent)
        url = self._calls.uri(record.id, record.database, record.role)
        neon_guard.host(url, record.name, self._calls.endpoints(record.id))
        neon_guard.secret(url, record)
        return url

    def _dev(self) -> Remote:
        """The branch that is dev, by its exact name or id. DatabaseError."""
        wanted = self._settings.parent
        found = [branch for branch in self._calls.branches(wanted) if wanted in (branch.id, branch.name)]
        if len(found) != 1:
            what = "no branch" if not found else "several branches"
            hint = "set [neon] parent to the id of the branch that is dev"
            raise DatabaseError(f"Neon's project {self._settings.project} has {what} '{wanted}'", hint)
        return found[0]

    def _usable_dev(self) -> Remote:
        dev = self._dev()
        if dev.expires:
            text = f"the branch '{dev.name}' expires, and Neon lets no branch be made of such"
            raise DatabaseError(text, "remove its expiry in Neon's console")
        return dev

    def _names(self, dev: str) -> tuple[str, str]:
        """The database and the role of the settings, or the only ones there are. DatabaseError."""
        database = self._settings.database or _only("database", self._calls.databases(dev))
        return database, self._settings.role or _only("role", self._calls.roles(dev))

    def _ends(self, ttl: timedelta, now: datetime) -> datetime:
        """When Neon itself shall destroy a branch: after whoever asked for it was to release it."""
        return now + min(max(ttl, timedelta(hours=self._settings.expire_hours)), LONGEST)

    def doctor(self) -> list[Finding]:
        """See `Databases`. Reads at Neon, changes nothing."""
        if not self._settings.project:
            return [Finding(False, "no Neon project is configured", "set [neon] project in agents/config.toml")]
        findings: list[Finding] = []
        try:
            findings += self._project_findings()
            dev = self._usable_dev()
            moving = not self._head(dev).startswith(_STILL)
            state = "its compute runs, so no branch can be kept ready" if moving else "its compute is suspended"
            findings.append(Finding(True, f"dev is Neon's branch '{dev.name}': {state}"))
            database, role = self._names(dev.id)
            self.dev()
            findings.append(Finding(True, f"agents get the database '{database}' as the role '{role}'"))
        except (ConfigError, DatabaseError) as exc:
            findings.append(Finding(False, exc.message, exc.hint))
        return findings

    def _project_findings(self) -> list[Finding]:
        project, used = self._calls.project(), self._calls.count()
        stores = "" if project.stores_passwords else "let it store passwords, in the project's settings at Neon"
        text = f"Neon project {self._settings.project}: PostgreSQL {project.version}, the key works"
        full = project.branches and used >= project.branches
        return [
            Finding(not stores, text + (", but it stores no passwords" if stores else ""), stores),
            Finding(
                not full,
                f"it has {used} branches" + (f" of at most {project.branches}" if project.branches else ""),
                "delete branches in Neon's console, or take a larger plan" if full else "",
            ),
        ]


def _wanted(record: Record, now: datetime, alive: Callable[[str], bool]) -> bool:
    """Whether a branch stays. One that is not complete does not: its maker would hold the lock."""
    if not record.usable or record.expires_at <= now:
        return False
    return record.kind == READY or alive(record.owner)


def _generation(head: str) -> Generation:
    return Generation(f"g{sha256(head.encode()).hexdigest()[:12]}", head)


def _only(what: str, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    hint = f"set [neon] {what}" + (f" to one of {', '.join(sorted(names))}" if names else "")
    raise DatabaseError(f"dev has {len(names) or 'no'} {what}s at Neon", hint)
