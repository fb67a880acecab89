"""Branches of a PostgreSQL database, on the server that dev is on. What there is, the server says, in the names
and comments of databases (see `postgres_catalog`), so several hosts may share one dev.

`store` holds what this host alone knows:

    postgres/secret    what passwords of branches are derived from
    postgres/host      the name by which owners of this host are told from others'

A database without content has no extensions but those that only an administrator may create: migrations bring
their own, and could not bring these.
"""

import random
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from psycopg import errors

from agentq.core.finding import Finding
from agentq.databases import postgres_adopt, postgres_doctor, postgres_drop, postgres_roles
from agentq.databases import postgres_catalog as catalog
from agentq.databases.base import EMPTY, Branch, Generation, command_key
from agentq.databases.postgres_catalog import Entry
from agentq.databases.postgres_failure import Failures
from agentq.databases.postgres_seal import Generations, Sealed
from agentq.databases.postgres_server import Server, Session, closed, q
from agentq.errors import DatabaseError
from agentq.repository import private_dir

ATTEMPTS = 5
MOST_READY = 64


class PostgresDatabases:
    """Satisfies `Databases` for the database at `url`, whose role needs CREATEDB and CREATEROLE.

    `env` is the variable that carries a branch's URL. `seal`: how dev is copied while somebody is connected to it,
    by pg_dump or after ending their sessions.
    """

    name = "postgres"

    def __init__(
        self, url: str, store: Path, env: str = "DATABASE_URL", seal: Literal["dump", "kick"] = "dump"
    ) -> None:
        self._url, self._env, self._kick = url, env, seal == "kick"
        self._server = Server(url)
        self._store = store / "postgres"
        self._generations = Generations(self._server, self._kick)

    # ------------------------------------------------------------ dev

    def head(self) -> str:
        with self._server.session("asking for dev's state") as db:
            return self._generations.head(db)

    def seal(self) -> Generation:
        with self._server.session("sealing dev") as db:
            return self._generations.seal(db).generation

    def dev(self) -> Mapping[str, str]:
        return {self._env: self._url}

    @contextmanager
    def moving(self) -> Iterator[None]:
        """See `Databases`: on any host."""
        with self._server.session("changing dev") as db, db.locked("seal"):
            yield

    # ------------------------------------------------------------ branches

    def acquire(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        """See `Databases`. A repeat takes the branch over for its owner, of whatever host, and never shortens its
        life. One that has expired is replaced by a fresh one."""
        key = f"b{command_key(command_id)}"
        with self._server.session("making a database branch") as db, db.locked(key):
            kept = self._kept(db, key, now, ttl, owner)
            return kept or self._fresh(db, key, self._meta(owner, now + ttl))

    def empty(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        key = f"e{command_key(command_id)}"
        with self._server.session("making an empty database") as db, db.locked(key):
            kept = self._kept(db, key, now, ttl, owner)
            return kept or self._make_empty(db, key, self._meta(owner, now + ttl))

    def _meta(self, owner: str, expires_at: datetime) -> dict[str, Any]:
        return {"owner": owner, "host": self._host, "expires_at": expires_at.isoformat()}

    def _kept(self, db: Session, key: str, now: datetime, ttl: timedelta, owner: str) -> Branch | None:
        """The command's branch, if there is a good one. The caller holds its lock."""
        for entry in catalog.entries(db, f"{key}_"):
            if entry.meta and entry.expires_at > now:
                meta = entry.meta | self._meta(owner, max(entry.expires_at, now + ttl))
                role = db.names.role(entry.name)
                db.run(catalog.comment(entry.name, meta), postgres_roles.set_password(db, role, self._secret))
                return self._branch(entry.name, meta)
            postgres_drop.drop(self._server, db, entry.name)
        return None

    def _fresh(self, db: Session, key: str, meta: dict[str, Any]) -> Branch:
        for _ in range(ATTEMPTS):
            sealed = self._generations.seal(db)
            mine = meta | {"generation": sealed.generation.id}
            if claimed := self._claim(db, key, mine):
                return claimed
            try:
                name = self._copy(db, sealed, key, mine)
            except errors.InvalidCatalogName:
                continue  # the generation was pruned under us
            return self._branch(name, mine)
        raise DatabaseError("dev changes faster than it can be copied", "try again", retryable=True)

    def _claim(self, db: Session, key: str, meta: dict[str, Any]) -> Branch | None:
        """One of those kept ready. Renaming it is what decides between two who want it."""
        ready = [one for one in catalog.entries(db, "w") if one.meta.get("generation") == meta["generation"]]
        random.shuffle(ready)
        for one in ready:
            name = db.names.name(key, one.token)
            mine = meta | {"warm": True}
            statements = [catalog.renamed(one.name, name), catalog.comment(name, mine)]
            if one.meta["host"] != self._host:
                statements.append(postgres_roles.set_password(db, db.names.role(name), self._secret))
            with suppress(errors.InvalidCatalogName, errors.ObjectInUse):
                db.run(*statements)
                return self._branch(name, mine)
        return None

    def _copy(self, db: Session, sealed: Sealed, kind: str, meta: dict[str, Any]) -> str:
        def fill(temporary: str) -> None:
            for attempt in range(ATTEMPTS):
                try:
                    return catalog.clone(db, sealed.generation.id, temporary, sealed.bytes)
                except errors.ObjectInUse:  # a worker of an extension looked in
                    if attempt == ATTEMPTS - 1:
                        raise
            return None

        return self._make(db, kind, meta, fill, sealed.settings)

    def _make_empty(self, db: Session, key: str, meta: dict[str, Any]) -> Branch:
        def fill(temporary: str) -> None:
            with db.locked("seal"):
                postgres_roles.ensure_group(db)
            catalog.blank(db, self._server.address.name, temporary)
            db.run(*closed(temporary), q("ALTER DATABASE {} ALLOW_CONNECTIONS true", temporary))
            postgres_adopt.furnish(self._server, temporary)
            db.run(q("ALTER DATABASE {} ALLOW_CONNECTIONS false", temporary))
            catalog.await_empty(db, temporary)

        mine = meta | {"generation": EMPTY}
        return self._branch(self._make(db, key, mine, fill, []), mine)

    def _make(
        self,
        db: Session,
        kind: str,
        meta: dict[str, Any],
        fill: Callable[[str], None],
        settings: list[list[str]],
    ) -> str:
        """The name of a new database that `fill` made, and that its role alone may use."""
        token = db.names.new()
        temporary, name = db.names.name("t", token), db.names.name(kind, token)
        with db.locked(temporary):
            try:
                fill(temporary)
                postgres_roles.settings(db, temporary, settings)
                db.run(
                    *postgres_roles.open_to(db, temporary, db.names.role(name), self._secret),
                    catalog.comment(temporary, meta),
                    catalog.renamed(temporary, name),
                )
            except BaseException:
                with suppress(DatabaseError, errors.Error):
                    postgres_drop.drop(self._server, db, temporary)
                raise
        return name

    def _branch(self, name: str, meta: dict[str, Any]) -> Branch:
        role = self._server.names.role(name)
        url = self._server.address.at(name, role, postgres_roles.password(self._secret, role))
        expires_at = datetime.fromisoformat(meta["expires_at"])
        warm = bool(meta.get("warm"))
        return Branch(name, name, meta["generation"], url, {self._env: url}, expires_at, meta["owner"], warm)

    def warm(self, count: int) -> int:
        """See `Databases`. Of this host: other hosts keep their own, though any command may claim one."""
        with self._server.session("keeping database branches ready") as db, db.locked("warm"):
            failures = Failures()
            if count <= 0:
                self._trim(db, self._generations.ids(db), 0, failures)
                failures.tell()
                return 0
            sealed = self._generations.seal(db)
            ready = self._trim(db, [sealed.generation.id], count, failures)
            meta = {"generation": sealed.generation.id, "host": self._host}
            for _ in range(count - ready):
                try:
                    self._copy(db, sealed, "w", meta)
                except errors.InvalidCatalogName:
                    break  # dev moved on
                ready += 1
            failures.tell()
            return ready

    def _trim(self, db: Session, generations: list[str], most: int, failures: Failures) -> int:
        """How many this host keeps ready; those above `most` are dropped, and everybody's of other generations."""
        ready = 0
        for one in catalog.entries(db, "w"):
            current = one.meta.get("generation") in generations
            mine = one.meta.get("host") == self._host
            if current and mine and ready < most:
                ready += 1
            elif mine or not current:
                with failures.of("dropping a copy that was kept ready"):
                    postgres_drop.drop(self._server, db, one.name)
        return ready

    def release(self, branch_id: str) -> None:
        parsed = self._server.names.parse(branch_id)
        if parsed is None or parsed[0][0] not in "be":
            return
        failures = Failures()
        with self._server.session("releasing a database branch") as db, db.locked(parsed[0]):
            with failures.of("releasing a database branch"):
                postgres_drop.drop(self._server, db, branch_id)
            with db.tried("seal") as held, failures.of("releasing a database branch"):
                if held:
                    self._generations.prune(db)
        failures.tell()

    def branches(self) -> list[Branch]:
        """See `Databases`. Those of this host: nobody else knows their passwords."""
        with self._server.session("listing database branches") as db:
            found = [one for one in catalog.entries(db) if one.branch and one.meta]
            return [self._branch(one.name, one.meta) for one in found if one.meta["host"] == self._host]

    # ------------------------------------------------------------ what a crash left

    def reap(self, now: datetime, alive: Callable[[str], bool]) -> list[str]:
        """See `Databases`. What anybody is working on right now is left for the next time. Owners of other hosts
        count as alive: their branches go when they expire.

        What cannot be dropped does not keep the rest: one DatabaseError says it after all was tried. Of a role
        that stays when its branch goes this is said once; it may not log in, and `doctor` goes on about it.
        """
        removed: list[str] = []
        failures = Failures()
        with self._server.session("reaping database branches") as db:
            for entry in catalog.entries(db):
                if entry.kind[0] in "tbe":
                    with failures.of("reaping database branches"):
                        removed += self._reap(db, entry, now, alive)
            self._sweep(db, failures)
        failures.tell()
        return sorted(removed)

    def _reap(self, db: Session, entry: Entry, now: datetime, alive: Callable[[str], bool]) -> list[str]:
        with db.tried(entry.kind if entry.branch else entry.name) as held:
            current = next((one for one in catalog.entries(db, entry.name[len(db.names.prefix) :])), None)
            if not held or current is None or (entry.branch and self._wanted(current, now, alive)):
                return []
            postgres_drop.drop(self._server, db, entry.name)
            return [entry.name]

    def _wanted(self, entry: Entry, now: datetime, alive: Callable[[str], bool]) -> bool:
        if not entry.meta or entry.expires_at <= now:
            return False
        return entry.meta["host"] != self._host or alive(entry.meta["owner"])

    def _sweep(self, db: Session, failures: Failures) -> None:
        """What is not a branch: a dev that stayed closed, old generations, those kept ready for them, roles."""
        doing = "cleaning up after database branches"
        with db.tried("seal") as held:
            if held:
                with failures.of(doing):
                    self._generations.repair(db)
                with failures.of(doing):
                    self._generations.prune(db)
        with db.tried("warm") as held:
            if held:
                self._trim(db, self._generations.ids(db), MOST_READY, failures)
        with failures.of(doing):
            postgres_drop.sweep_roles(self._server, db)

    def doctor(self) -> list[Finding]:
        return postgres_doctor.findings(self._server, self._generations, self._kick)

    # ------------------------------------------------------------ what this host alone knows

    @property
    def _secret(self) -> bytes:
        return bytes.fromhex(self._own("secret"))

    @property
    def _host(self) -> str:
        return self._own("host")

    def _own(self, name: str) -> str:
        """64 hex digits, made on first use and never changed. DatabaseError."""
        path = self._store / name
        try:
            if not path.exists():
                temporary = private_dir(self._store) / f"{name}.{secrets.token_hex(8)}"
                temporary.touch(mode=0o600)
                temporary.write_text(secrets.token_hex(32))
                with suppress(FileExistsError):
                    path.hardlink_to(temporary)
                temporary.unlink()
            text = path.read_text()
            if len(bytes.fromhex(text)) != 32:
                raise ValueError(f"{path} is damaged")
        except (OSError, ValueError) as exc:
            raise DatabaseError(
                f"the store of database branches cannot be used: {exc}", f"see {self._store}"
            ) from exc
        return text
