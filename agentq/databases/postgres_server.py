"""The PostgreSQL server that holds dev and its branches: sessions on it, and locks.

We work from a database of our own, `Names.home`, which nobody else may connect to: who can connect to a database
can take the locks in it. The URL's role enters dev, what is copied from it, and where a role left something;
never a database that an agent has had.
"""

import os
import secrets
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from typing import Any, LiteralString

import psycopg
from psycopg import errors, pq, sql

from agentq.databases.postgres_address import Names, locate
from agentq.databases.postgres_failure import answered, telling
from agentq.errors import DatabaseError

APPLICATION = "agentq database branches"
CONNECT_LIMIT = 10  # s
IDLE = 2  # sessions to keep
SHORT = 30  # s for a statement that copies nothing
LONG = 1800  # s for one that copies a database, or waits for somebody who does
MAINTENANCE = ("postgres", "template1")
TRIES = 8
_KEEPALIVE = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
_OURSELVES = ("user", "password", "passfile", "service", "scram_client_key", "scram_server_key", "options")

# The server, too, notices when the other side is gone: what it had locked must not stay so.
_SETTINGS = (
    "SET search_path = pg_catalog, pg_temp; SET client_min_messages = warning; SET jit = off; "
    f"SET statement_timeout='{SHORT}s'; SET lock_timeout='{SHORT}s'; "
    "SET idle_in_transaction_session_timeout='60s'; SET client_encoding='UTF8'; "
    "SET default_transaction_read_only = off; "
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; "
    "SET tcp_user_timeout = 30000"
)

Statement = sql.Composed
Connection = psycopg.Connection[tuple[Any, ...]]
Idle = deque[Connection]


def q(text: LiteralString, *parts: object) -> Statement:
    """`text` with each {} filled in: a `str` as an identifier, anything Composable as it is."""
    return sql.SQL(text).format(*(sql.Identifier(part) if isinstance(part, str) else part for part in parts))


def literal(value: object) -> sql.Literal:
    return sql.Literal(value)


class Session:
    """One connection in autocommit mode; what it locks is free when it ends."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self.connection = connection
        self.names = names
        self.statements = 0  # sent by `rows` and `run`, each a transaction

    @property
    def version(self) -> int:
        """180004 for 18.4."""
        return self.connection.info.server_version

    @cached_property
    def superuser(self) -> bool:
        return bool(self.one("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))

    @property
    def group(self) -> str:
        return self.names.group

    def rows(self, text: LiteralString | Statement, *args: object) -> list[tuple[Any, ...]]:
        self.statements += 1
        return self.connection.execute(text, args or None).fetchall()

    def one(self, text: LiteralString | Statement, *args: object) -> Any:
        """The first column of the first row."""
        return self.rows(text, *args)[0][0]

    def run(self, *statements: Statement) -> None:
        """All of them or none, in one message."""
        self.statements += 1
        self.connection.execute(sql.SQL("; ").join(statements))

    def slow(self, statement: Statement | LiteralString, *args: object) -> None:
        """One that may take as long as a copy; it cannot be part of a transaction."""
        self.limits(LONG)
        try:
            self.connection.execute(statement, args or None)
        finally:
            with suppress(psycopg.OperationalError):
                self.limits(SHORT)

    def limits(self, seconds: float) -> None:
        """How long a statement and a wait may take from now on."""
        limit = int(seconds * 1000)
        self.connection.execute(f"SET statement_timeout={limit}; SET lock_timeout={limit}")

    @contextmanager
    def locked(self, name: str, patience: float = LONG) -> Iterator[None]:
        """Exclude every other session of any host. Order: a command or the warm pool, sealing, dropping.
        DatabaseError that names the holder when it takes longer than `patience`, in s."""
        key = self.names.lock(name)
        if not self.one("SELECT pg_try_advisory_lock(%s, %s)", *key):
            self._wait(key, patience)
        try:
            yield
        finally:
            with suppress(psycopg.OperationalError):  # then it is free
                self.rows("SELECT pg_advisory_unlock(%s, %s)", *key)

    def _wait(self, key: tuple[int, int], patience: float) -> None:
        try:
            self.limits(patience)
            self.rows("SELECT pg_advisory_lock(%s, %s)", *key)
        except (errors.LockNotAvailable, errors.QueryCanceled) as exc:
            self.limits(SHORT)
            text = f"waited {patience:g} s for {self._holder(key)}"
            hint = "is that process suspended? End it, or its session: SELECT pg_terminate_backend(PID)"
            raise DatabaseError(text, hint, retryable=True) from exc
        finally:
            with suppress(psycopg.OperationalError):
                self.limits(SHORT)

    def _holder(self, key: tuple[int, int]) -> str:
        found = self.rows(
            """SELECT a.pid, a.application_name, coalesce(host(a.client_addr), 'this machine'), a.backend_start
               FROM pg_locks l JOIN pg_stat_activity a USING (pid)
               WHERE locktype = 'advisory' AND granted AND objsubid = 2
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (classid::int8, objid::int8) = (%s, %s)""",
            *(part % 2**32 for part in key),
        )
        for pid, application, host, since in found:
            return f"the server's process {pid} ('{application}' from {host}, since {since:%Y-%m-%d %H:%M})"
        return "another process, which has just ended"

    @contextmanager
    def tried(self, name: str) -> Iterator[bool]:
        """As `locked`, without waiting. Gives whether it is held."""
        key = self.names.lock(name)
        held = bool(self.one("SELECT pg_try_advisory_lock(%s, %s)", *key))
        try:
            yield held
        finally:
            if held:
                with suppress(psycopg.OperationalError):
                    self.rows("SELECT pg_advisory_unlock(%s, %s)", *key)


def _close(idle: Idle) -> None:
    while idle:
        idle.pop().close()


class Server:
    """Opens sessions. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.address = locate(url)
        self.names = Names.of(self.address.name)
        self._idle: Idle = deque(maxlen=IDLE)
        self._process = os.getpid()
        weakref.finalize(self, _close, self._idle)

    @contextmanager
    def session(self, doing: str, database: str = "", *, make: bool = True) -> Iterator[Session]:
        """A session in `database`; without one, at home. What fails in it becomes a DatabaseError that begins with
        `doing`. `make`: the home is made if there is none; else it is a session somewhere."""
        with telling(doing):
            connection = self._connect(database) if database else self._kept() or self._at_home(make)
            try:
                yield Session(connection, self.names)
            except BaseException:
                connection.close()
                raise
            if database or not self._keep(connection):
                connection.close()

    @contextmanager
    def as_role(self, doing: str, database: str, role: str, password: str) -> Iterator[Session]:
        """A session of a branch's role, with its rights and no other; what it set for itself does not count."""
        limits = f"-c statement_timeout={SHORT * 1000} -c lock_timeout={SHORT * 1000} -c role=none"
        with telling(doing), closing(self._connect(database, role, password, limits)) as connection:
            yield Session(connection, self.names)

    def _kept(self) -> Connection | None:
        """A session of before that still lives: opening one costs more than most of what is asked."""
        if self._process != os.getpid():
            return None  # what a fork brought along belongs to the parent
        while self._idle:
            with suppress(IndexError, psycopg.OperationalError):
                connection = self._idle.pop()
                connection.execute("SELECT 1")
                return connection
        return None

    def _keep(self, connection: Connection) -> bool:
        """Only at home: one anywhere else is in somebody's way."""
        idle = connection.info.transaction_status == pq.TransactionStatus.IDLE
        home = connection.info.dbname == self.names.home
        if not idle or not home or self._process != os.getpid() or len(self._idle) >= IDLE:
            return False
        self._idle.append(connection)
        return True

    def _at_home(self, make: bool) -> Connection:
        try:
            return self._connect(self.names.home)
        except psycopg.OperationalError as exc:
            if not answered(exc):
                raise
            failure = exc
        for name in (*MAINTENANCE, self.address.name):
            try:
                connection = self._connect(name)
            except psycopg.OperationalError as exc:
                failure = exc
                continue
            if not make:
                return connection
            with closing(connection):
                settle(Session(connection, self.names))
            return self._connect(self.names.home)
        raise failure

    def _connect(self, database: str, role: str = "", password: str = "", options: str = "") -> Connection:
        params = {"connect_timeout": str(CONNECT_LIMIT), **_KEEPALIVE, **self.address.params}
        if role:
            params = {key: value for key, value in params.items() if key not in _OURSELVES}
            params |= {"user": role, "password": password, "options": options}
        params |= {"dbname": database, "application_name": APPLICATION}
        connection = psycopg.connect(**params, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
        try:
            connection.execute(_SETTINGS)
        except BaseException:
            connection.close()
            raise
        return connection

    def asks_no_password(self) -> bool:
        """Whether a wrong password will do."""
        params = {**self.address.params, "connect_timeout": str(CONNECT_LIMIT), "password": secrets.token_hex(16)}
        try:
            psycopg.connect(**params).close()  # type: ignore[arg-type]
        except psycopg.OperationalError:
            return False
        return True

    def local(self) -> bool:
        """Whether the server runs on this machine, as far as the URL tells."""
        host = self.address.params.get("host", "") or self.address.params.get("hostaddr", "")
        return not host or host.startswith(("/", "@", "127.")) or host in ("localhost", "::1")


def settle(db: Session) -> None:
    """Make the home, or finish one that somebody did not: nobody can connect to it before it is ours alone.
    Others may be at it, too."""
    home = db.names.home
    for _ in range(TRIES):
        found = db.rows(
            """SELECT datallowconn, has_database_privilege('public', oid, 'CONNECT'),
                 has_database_privilege(oid, 'CONNECT'), pg_get_userbyid(datdba)
               FROM pg_database WHERE datname = %s""",
            home,
        )
        with suppress(
            errors.DuplicateDatabase, errors.UniqueViolation, errors.InternalError
        ):  # another was faster
            if not found:
                db.slow(q("CREATE DATABASE {} TEMPLATE template0 ALLOW_CONNECTIONS false", home))
            elif not found[0][0] or found[0][1]:
                db.run(*closed(home), q("ALTER DATABASE {} ALLOW_CONNECTIONS true", home))
            elif not found[0][2]:
                text = (
                    f"the database '{home}' belongs to role '{found[0][3]}', as everything made for this dev may"
                )
                raise DatabaseError(text, f"connect as that role, or: DROP DATABASE {home}, when nothing is left")
            else:
                return
    raise DatabaseError(f"the database '{home}' cannot be made", "try again", retryable=True)


def closed(database: str) -> list[Statement]:
    return [q("REVOKE ALL ON DATABASE {} FROM PUBLIC", database)]


def many(statements: Sequence[Statement], at_once: int = 200) -> Iterator[Sequence[Statement]]:
    """In pieces that do not need more locks than a server has."""
    for start in range(0, len(statements), at_once):
        yield statements[start : start + at_once]
