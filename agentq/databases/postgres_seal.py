"""Generations: sealed copies of dev, templates that nobody can connect to, the newest two of them.

dev is copied as a template while nobody is in it. Otherwise by `pg_dump | pg_restore`, or, where it was
configured, after everybody in it has been thrown out.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic, sleep

from psycopg import errors, sql

from agentq.databases import postgres_adopt, postgres_drop, postgres_dump, postgres_head, postgres_roles
from agentq.databases import postgres_catalog as catalog
from agentq.databases.base import Generation
from agentq.databases.postgres_catalog import Entry
from agentq.databases.postgres_failure import Failures
from agentq.databases.postgres_server import Server, Session, closed, literal, many, q
from agentq.errors import DatabaseError

KEEP = 2  # generations
CROWD = 6  # at which sealing itself drops old ones; a drop is slow, so releasing a branch does it otherwise
LEAVE = 10.0  # s for those who were thrown out
KICKED = "dev is closed while it is copied"


@dataclass(frozen=True)
class Sealed:
    """A generation on the server. `settings`: what sessions in dev start with, (name, value)."""

    generation: Generation
    bytes: int
    settings: list[list[str]]


class Generations:
    def __init__(self, server: Server, kick: bool) -> None:
        self._server = server
        self._dev = server.address.name
        self._head = postgres_head.Head(server)
        self._kick = kick

    def head(self, db: Session) -> str:
        """dev's head. While somebody copies dev it may not be possible to look into it: that is waited for."""
        try:
            return self._head.read(db)[0]
        except DatabaseError as exc:
            if not exc.retryable:
                raise
        with db.locked("seal"):
            self.repair(db)
            return self._head.read(db)[0]

    def seal(self, db: Session) -> Sealed:
        with suppress(DatabaseError):  # somebody may be copying dev
            if found := self._current(db):
                return found
        with db.locked("seal"):
            self.repair(db)
            head, facts = self._head.once(db)
            return self._of(self._kept(db), head) or self._seal(db, head, facts)

    def _current(self, db: Session) -> Sealed | None:
        kept = self._kept(db)
        heads = (head for head, _ in self._head.readings(db))
        return next(filter(None, (self._of(kept, head) for head in heads)), None)

    @staticmethod
    def _of(kept: list[Entry], head: str) -> Sealed | None:
        return next((_sealed(one) for one in kept if postgres_head.same(one.meta["head"], head)), None)

    def _kept(self, db: Session) -> list[Entry]:
        """The newest first."""
        return [one for one in reversed(catalog.entries(db, "g")) if one.meta]

    def _seal(self, db: Session, head: str, facts: postgres_head.Facts) -> Sealed:
        """Copy dev, whose head was read before, into a new generation. The caller holds the sealing lock."""
        postgres_roles.ensure_group(db)
        numbers = [int(one.kind[1:]) for one in catalog.entries(db, "g")]
        token = db.names.new()
        temporary = db.names.name("t", token)
        name = db.names.name(f"g{max(numbers, default=0) + 1:08d}", token)
        with db.locked(temporary):
            try:
                self._copy(db, temporary)
                self._prepare(db, temporary)
                size = catalog.size(db, temporary)
                meta = {"head": head, "bytes": size, "settings": facts.settings}
                db.run(
                    q("ALTER DATABASE {} ALLOW_CONNECTIONS false", temporary),
                    q("ALTER DATABASE {} IS_TEMPLATE true", temporary),
                    catalog.comment(temporary, meta),
                    catalog.renamed(temporary, name),
                )
            except BaseException:
                _discard(self._server, db, temporary)
                raise
        if len(numbers) >= CROWD:
            with suppress(DatabaseError):  # `reap` says it
                self.prune(db)
        return Sealed(Generation(name, head), size, [list(pair) for pair in facts.settings])

    def _copy(self, db: Session, target: str) -> None:
        if not catalog.users(db, self._dev) and self._clone(db, target):
            return
        if self._kick:
            with self._closed(db):
                if self._clone(db, target):
                    return
            hint = "a worker of an extension or a prepared transaction may keep it; set seal = 'dump'"
            raise DatabaseError(f"dev database '{self._dev}' is still in use", hint, retryable=True)
        programs = postgres_dump.tools(db, self._server.local())
        catalog.blank(db, self._dev, target)
        db.run(*closed(target), q("ALTER DATABASE {} ALLOW_CONNECTIONS true", target))
        postgres_dump.copy(programs, self._server.address, target, db.superuser)

    def _clone(self, db: Session, target: str) -> bool:
        """False when somebody is connected to dev."""
        try:
            catalog.clone(db, self._dev, target, catalog.size(db, self._dev))
        except errors.ObjectInUse:
            return False
        db.run(*closed(target), q("ALTER DATABASE {} ALLOW_CONNECTIONS true", target))
        return True

    def _prepare(self, db: Session, name: str) -> None:
        with self._server.session(f"preparing the copy of dev '{self._dev}'", name) as inside:
            postgres_adopt.adopt(inside)
            analyze(inside)
        catalog.await_empty(db, name)

    # ------------------------------------------------------------ throwing people out of dev

    @contextmanager
    def _closed(self, db: Session) -> Iterator[None]:
        """Nobody is in dev, and nobody gets in. What is done is written down with it, so `repair` can undo it
        after a crash."""
        db.run(
            q("COMMENT ON ROLE {} IS {}", db.group, literal(KICKED)),
            q("ALTER DATABASE {} ALLOW_CONNECTIONS false", self._dev),
        )
        try:
            deadline = monotonic() + LEAVE
            while (found := [pid for pid in catalog.users(db, self._dev) if pid]) and monotonic() < deadline:
                for pid in found:
                    db.rows("SELECT pg_terminate_backend(%s)", pid)
                sleep(0.01)
            yield
        finally:
            self._open(db)

    def _open(self, db: Session) -> None:
        with suppress(errors.OperationalError):
            self._reopen(db)
            return
        with self._server.session("opening dev again") as other:
            self._reopen(other)

    def _reopen(self, db: Session) -> None:
        db.run(
            q("ALTER DATABASE {} ALLOW_CONNECTIONS true", self._dev),
            q("COMMENT ON ROLE {} IS NULL", db.group),
        )

    def is_kicked(self, db: Session) -> bool:
        found = db.rows("SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s", db.group)
        return found == [(KICKED,)]

    def repair(self, db: Session) -> None:
        """Open dev again if who closed it died. The caller holds the sealing lock."""
        if self.is_kicked(db):
            self._reopen(db)

    # ------------------------------------------------------------ the old ones

    def prune(self, db: Session) -> None:
        """Drop all but the newest. The server lets nobody drop one that is being copied. DatabaseError when all
        were tried."""
        kept = [one.name for one in self._kept(db)][:KEEP]
        failures = Failures()
        for one in catalog.entries(db, "g"):
            if one.name not in kept:
                with failures.of("dropping an old generation"):
                    postgres_drop.drop(self._server, db, one.name)
        failures.tell()

    def ids(self, db: Session) -> list[str]:
        return [one.name for one in self._kept(db)]


def analyze(inside: Session) -> None:
    """Make the statistics that a dump does not bring along."""
    found = inside.rows(
        """SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
           WHERE c.oid >= 16384 AND relkind IN ('r', 'm') AND reltuples < 0"""
    )
    for some in many([q("{}.{}", *names) for names in found]):
        inside.slow(q("ANALYZE {}", sql.SQL(", ").join(some)))


def _sealed(one: Entry) -> Sealed:
    return Sealed(Generation(one.name, one.meta["head"]), one.meta["bytes"], one.meta["settings"])


def _discard(server: Server, db: Session, name: str) -> None:
    """What was not finished, as far as that is possible; the rest is left to `reap`."""
    with suppress(DatabaseError, errors.Error):
        postgres_drop.drop(server, db, name)
