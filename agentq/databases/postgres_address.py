"""Where dev is, and what is made for it is called. Everything is named after dev, so several hosts can share a
server, and the server alone says what there is."""

import re
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import parse_qsl, quote, urlencode

from agentq.errors import DatabaseError

try:
    import psycopg
    from psycopg import pq
    from psycopg.conninfo import conninfo_to_dict
except ImportError as exc:
    raise DatabaseError(f"PostgreSQL needs psycopg 3: {exc}", "pip install 'agentq-trunk[postgres]'") from exc

_FORM = re.compile(
    r"(?P<scheme>postgres(?:ql)?(?:\+\w+)?)://(?:(?P<login>[^/?#]*)@)?(?P<hosts>[^/?#@]*)"
    r"(?:/(?P<name>[^?#]*))?(?:\?(?P<query>[^#]*))?"
)
# What libpq knows and a branch's client needs. Of what only drivers know, everything goes along but secrets.
_SHARED = frozenset((
    "host", "hostaddr", "port", "sslmode", "sslnegotiation", "sslrootcert", "sslcrl", "sslcrldir", "sslsni",
    "sslcompression", "ssl_min_protocol_version", "ssl_max_protocol_version", "gssencmode", "channel_binding",
    "require_auth", "requirepeer", "target_session_attrs", "load_balance_hosts", "connect_timeout",
    "client_encoding", "application_name", "fallback_application_name", "keepalives", "keepalives_idle",
    "keepalives_interval", "keepalives_count", "tcp_user_timeout", "min_protocol_version", "max_protocol_version",
    "options",
))  # fmt: skip
_SECRET = re.compile(r"pass|secret|token|key|identity|credential|user|role|sslcert", re.IGNORECASE)
_AS_ANOTHER = re.compile(r"\b(role|session_authorization)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """dev's URL in its parts. `name`: its database."""

    scheme: str
    hosts: str
    name: str
    query: tuple[tuple[str, str], ...] = field(repr=False)
    params: dict[str, str] = field(repr=False)

    def at(self, database: str, user: str, password: str) -> str:
        """The same form of URL for another database and role; a secret. What proves who we are is left out."""
        shared = [(key, value) for key, value in self.query if _goes_along(key, value)]
        kept = urlencode(shared, quote_via=quote, safe="/,:")
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
        return f"{self.scheme}://{login}@{self.hosts}/{quote(database, safe='')}{'?' if kept else ''}{kept}"


def _goes_along(key: str, value: str) -> bool:
    if key == "options":
        return not _AS_ANOTHER.search(value)
    return key in _SHARED or (key not in _known() and not _SECRET.search(key))


def _known() -> set[str]:
    return {option.keyword.decode() for option in pq.Conninfo.get_defaults()}


def locate(url: str) -> Address:
    """Read `postgres://`, `postgresql://` or `postgresql+driver://`. DatabaseError for anything else."""
    found = _FORM.fullmatch(url)
    if found is None:
        raise DatabaseError(
            "the database URL does not name a PostgreSQL database", "write postgresql://user@host/database"
        )
    if any("@" in (found[part] or "") for part in ("login", "hosts", "name")):  # the rest of a password
        raise DatabaseError(
            "the database URL cannot be read: there is an '@' too many in it",
            "encode the password: @ is %40, / is %2F, : is %3A, # is %23, ? is %3F, % is %25",
        )
    query = tuple(parse_qsl(found["query"] or "", keep_blank_values=True))
    known = _known()
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


@dataclass(frozen=True)
class Names:
    """Of everything made for one dev. A database and its role share a TOKEN of 8 hex digits for life:

    PREFIX + t_TOKEN            in the making, or on its way out
    PREFIX + g00000001_TOKEN    a generation
    PREFIX + w_TOKEN            ready for a command
    PREFIX + bCOMMAND_TOKEN     a command's branch; `e` for one without content
    PREFIX + r_TOKEN            the role of one of them
    PREFIX + own                the role that owns what is in them, and may log in nowhere
    PREFIX + home               the empty database that we work from and lock in; nobody else may connect to it
    """

    prefix: str

    @classmethod
    def of(cls, dev: str) -> "Names":
        return cls(f"aq_{sha256(dev.encode()).hexdigest()[:8]}_")

    @property
    def group(self) -> str:
        return f"{self.prefix}own"

    @property
    def home(self) -> str:
        return f"{self.prefix}home"

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


def is_an_agents(database: str) -> bool:
    """Whether it is a branch, or may be one day, of this dev or of another."""
    return bool(re.match(r"aq_[0-9a-f]{8}_", database))
