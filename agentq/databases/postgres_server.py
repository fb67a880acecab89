"""The PostgreSQL server that holds dev and its branches: its address, sessions on it, locks, failures in words.

Everything is named after dev (see `Names`), so several hosts can share a server, and the server alone says what
there is.
"""

import os
import re
import secrets
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any, LiteralString
from urllib.parse import parse_qsl, quote, urlencode

from agentq.errors import DatabaseError

try:
    import psycopg
    from psycopg import pq, sql
    from psycopg.conninfo import conninfo_to_dict
except ImportError as exc:
    raise DatabaseError(f"PostgreSQL needs psycopg 3: {exc}", "pip install 'agentq-trunk[postgres]'") from exc

APPLICATION = "agentq database branches"
CONNECT_LIMIT = 10  # s
IDLE = 2  # sessions to keep
SHORT = 30  # s for a statement that copies nothing
LONG = 1800  # s for one that copies a database, or waits for somebody who does
MAINTENANCE = ("postgres", "template1")
_KEEPALIVE = {"keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}
_FORM = re.compile(
    r"(?P<scheme>postgres(?:ql)?(?:\+\w+)?)://(?:(?P<login>[^/?#]*)@)?(?P<hosts>[^/?#@]*)"
    r"(?:/(?P<name>[^?#]*))?(?:\?(?P<query>[^#]*))?"
)
_OURS = ("user", "password", "dbname", "passfile")
_RETRY = ("08", "40", "53", "57P", "55006", "55P03", "57014", "25006")
_HINTS = {
    "3D000": "create it with your migrations, or correct the URL",
    "42501": "connect as a role with CREATEDB and CREATEROLE that owns dev and what is in it, or as a superuser",
    "53100": "free some space on the server, then try again",
    "53300": "raise max_connections, or run fewer agents at once",
    "55006": "a worker of an extension may be connected; try again",
    "55P03": "another transaction holds it; end that, then try again",
    "57014": "the server is too slow, or something is locked; try again",
}

Statement = sql.Composed
Connection = psycopg.Connection[tuple[Any, ...]]
Idle = deque[Connection]


@dataclass(frozen=True)
class Address:
    """dev's URL in its parts. `name`: its database."""

    scheme: str
    hosts: str
    name: str
    query: tuple[tuple[str, str], ...] = field(repr=False)
    params: dict[str, str] = field(repr=False)

    def at(self, database: str, user: str, password: str) -> str:
        """The same form of URL for another database and role; a secret."""
        kept = urlencode(
            [(key, value) for key, value in self.query if key not in _OURS], quote_via=quote, safe="/,:"
        )
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"{self.scheme}://{login}@{self.hosts}/{quote(database, safe='')}{'?' if kept else ''}{kept}"


def locate(url: str) -> Address:
    """Read `postgres://`, `postgresql://` or `postgresql+driver://`. DatabaseError for anything else."""
    found = _FORM.fullmatch(url)
    if found is None:
        raise DatabaseError(
            "the database URL does not name a PostgreSQL database", "write postgresql://user@host/database"
        )
    query = tuple(parse_qsl(found["query"] or "", keep_blank_values=True))
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    ours = urlencode([(key, value) for key, value in query if key in known], quote_via=quote)
    login = f"{found['login']}@" if found["login"] else ""
    try:
        plain = f"postgresql://{login}{found['hosts']}/{found['name'] or ''}?{ours}"
        params = {key: str(value) for key, value in conninfo_to_dict(plain).items() if value}
    except psycopg.Error:  # which may quote the URL
        raise DatabaseError(
            "the database URL cannot be read", "is a character of the password not encoded?"
        ) from None
    if not params.get("dbname"):
        raise DatabaseError("the database URL names no database", "write postgresql://user@host/database")
    return Address(found["scheme"], found["hosts"], params["dbname"], query, params)


def failed(doing: str, exc: psycopg.Error) -> DatabaseError:
    state = exc.sqlstate or ""
    why = (exc.diag.message_primary or str(exc).strip() or type(exc).__name__).split("\n")[0]
    outage = isinstance(exc, psycopg.OperationalError) and not state and not _refused(exc)
    hint = _HINTS.get(state, "is the server running, and the URL right?" if not state else "")
    retry = outage or state.startswith(_RETRY) or "concurrently" in why
    return DatabaseError(f"{doing}: {why}", hint, retryable=retry)


def _refused(exc: psycopg.Error) -> bool:
    """Whether a server answered an attempt to connect, with a no. (No state comes with it.)"""
    return "FATAL" in str(exc) and not re.search(r"starting up|shutting down|recovery|too many|reserved", str(exc))


@contextmanager
def telling(doing: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as exc:
        raise failed(doing, exc) from exc


def q(text: LiteralString, *parts: object) -> Statement:
    """`text` with each {} filled in: a `str` as an identifier, anything Composable as it is."""
    return sql.SQL(text).format(*(sql.Identifier(part) if isinstance(part, str) else part for part in parts))


def literal(value: object) -> sql.Literal:
    return sql.Literal(value)


class Session:
    """One connection in autocommit mode; what it locks is free when it ends."""

    def __init__(self, connection: Connection, names: "Names") -> None:
        self.connection = connection
        self.names = names

    @property
    def version(self) -> int:
        """180004 for 18.4."""
        return self.connection.info.server_version

    @property
    def database(self) -> str:
        return self.connection.info.dbname

    @cached_property
    def superuser(self) -> bool:
        return bool(self.one("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))

    @property
    def group(self) -> str:
        return self.names.group

    def rows(self, text: LiteralString | Statement, *args: object) -> list[tuple[Any, ...]]:
        return self.connection.execute(text, args or None).fetchall()

    def one(self, text: LiteralString | Statement, *args: object) -> Any:
        """The first column of the first row."""
        return self.rows(text, *args)[0][0]

    def run(self, *statements: Statement) -> None:
        """All of them or none, in one message."""
        self.connection.execute(sql.SQL("; ").join(statements))

    def slow(self, statement: Statement | LiteralString, *args: object) -> None:
        """One that may take as long as a copy; it cannot be part of a transaction."""
        self.limits(LONG)
        try:
            self.connection.execute(statement, args or None)
        finally:
            with suppress(psycopg.OperationalError):
                self.limits(SHORT)

    def limits(self, seconds: int) -> None:
        """How long a statement and a wait may take from now on."""
        self.connection.execute(f"SET statement_timeout='{seconds}s'; SET lock_timeout='{seconds}s'")

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Exclude every other session of any host. Order: a command or the warm pool, sealing, dropping."""
        key = self.names.lock(name)
        if not self.one("SELECT pg_try_advisory_lock(%s, %s)", *key):
            self.slow("SELECT pg_advisory_lock(%s, %s)", *key)
        try:
            yield
        finally:
            with suppress(psycopg.OperationalError):  # then it is free
                self.rows("SELECT pg_advisory_unlock(%s, %s)", *key)

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
        self._maintenance: str | None = None
        self._idle: Idle = deque(maxlen=IDLE)
        self._process = os.getpid()
        weakref.finalize(self, _close, self._idle)

    @contextmanager
    def session(self, doing: str, database: str = "") -> Iterator[Session]:
        """A session in `database`; without one, in a database where we are in nobody's way. What fails in it
        becomes a DatabaseError that begins with `doing`."""
        with telling(doing):
            connection = self._connect(database) if database else self._kept() or self._aside()
            try:
                yield Session(connection, self.names)
            except BaseException:
                connection.close()
                raise
            if database or not self._keep(connection):
                connection.close()

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
        """Only where it is in nobody's way: one in a template keeps it from being copied."""
        idle = connection.info.transaction_status == pq.TransactionStatus.IDLE
        if (
            not idle
            or self._maintenance != MAINTENANCE[0]
            or self._process != os.getpid()
            or len(self._idle) >= IDLE
        ):
            return False
        self._idle.append(connection)
        return True

    def _aside(self) -> Connection:
        """dev itself only where nothing else lets us in: whoever is in it keeps it from being copied."""
        if self._maintenance:
            return self._connect(self._maintenance)
        for name in MAINTENANCE:
            try:
                connection = self._connect(name)
            except psycopg.OperationalError as exc:
                if not _refused(exc):
                    raise
            else:
                self._maintenance = name
                return connection
        return self._connect(self.address.name)

    def _connect(self, database: str) -> Connection:
        params = {"connect_timeout": str(CONNECT_LIMIT), **_KEEPALIVE, **self.address.params}
        params |= {"dbname": database, "application_name": APPLICATION}
        connection = psycopg.connect(**params, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
        try:
            connection.execute(
                "SET search_path = pg_catalog, pg_temp; SET client_min_messages = warning; SET jit = off; "
                f"SET statement_timeout='{SHORT}s'; SET lock_timeout='{SHORT}s'; "
                "SET idle_in_transaction_session_timeout='60s'; SET client_encoding='UTF8'"
            )
        except BaseException:
            connection.close()
            raise
        return connection

    def asks_no_password(self) -> bool:
        """Whether a wrong password will do."""
        params = {**self.address.params, "connect_timeout": str(CONNECT_LIMIT), "password": secrets.token_hex(16)}
        try:
            psycopg.connect(**params | {"dbname": self._maintenance or self.address.name}).close()  # type: ignore[arg-type]
        except psycopg.OperationalError:
            return False
        return True

    def local(self) -> bool:
        """Whether the server runs on this machine, as far as the URL tells."""
        host = self.address.params.get("host", "") or self.address.params.get("hostaddr", "")
        return not host or host.startswith(("/", "@", "127.")) or host in ("localhost", "::1")


@dataclass(frozen=True)
class Names:
    """Of everything made for one dev. A database and its role share a TOKEN of 8 hex digits for life:

    PREFIX + t_TOKEN            in the making
    PREFIX + g00000001_TOKEN    a generation
    PREFIX + w_TOKEN            ready for a command
    PREFIX + bCOMMAND_TOKEN     a command's branch; `e` for one without content
    PREFIX + r_TOKEN            the role of one of them
    PREFIX + own                the role that owns what is in them, and may log in nowhere
    """

    prefix: str

    @classmethod
    def of(cls, dev: str) -> "Names":
        return cls(f"aq_{sha256(dev.encode()).hexdigest()[:8]}_")

    @property
    def group(self) -> str:
        return f"{self.prefix}own"

    def new(self) -> str:
        return secrets.token_hex(4)

    def name(self, kind: str, token: str) -> str:
        return f"{self.prefix}{kind}_{token}"

    def parse(self, name: str) -> tuple[str, str] | None:
        """(kind, token); None for a name that is not one of these."""
        found = re.fullmatch(r"([twr]|g\d{8}|[be][0-9a-f]{12})_([0-9a-f]{8})", name.removeprefix(self.prefix))
        return (found[1], found[2]) if found and name.startswith(self.prefix) else None

    def role(self, name: str) -> str:
        """Of the database `name`."""
        return f"{self.prefix}r_{name[-8:]}"

    def lock(self, name: str) -> tuple[int, int]:
        digest = sha256(f"{self.prefix}{name}".encode()).digest()
        return int.from_bytes(digest[:4], signed=True), int.from_bytes(digest[4:8], signed=True)


def many(statements: Sequence[Statement], at_once: int = 200) -> Iterator[Sequence[Statement]]:
    """In pieces that do not need more locks than a server has."""
    for start in range(0, len(statements), at_once):
        yield statements[start : start + at_once]
