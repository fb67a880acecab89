"""Who may do what. Every branch has a role of its own that may log in there and nowhere else.

What is in a branch belongs to one role for all of dev's branches, the group: it may log in nowhere, owns no
database and nothing outside of branches, and every branch's role is a member and works as it. So a copy needs no
change to become somebody's. The admin stays the owner of the database itself: its users cannot drop or rename it,
nor open it to others.
"""

import re
from hashlib import sha256
from hmac import HMAC

from psycopg import errors, sql

from agentq.databases.postgres_server import Session, Statement, closed, literal, q

# Connections of one branch's role: a SHARE of the server's.
LEAST, MOST, SHARE = 10, 100, 5
_LISTS = ("search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries")


def ensure_group(db: Session) -> None:
    """Make the group, and us a member. The caller holds a lock."""
    known = bool(db.rows("SELECT FROM pg_roles WHERE rolname = %s", db.group))
    made = [] if known else [q("CREATE ROLE {} NOLOGIN", db.group)]
    member = known and db.one("SELECT pg_has_role(%s, 'USAGE')", db.group)
    if statements := made + ([] if member else _join(db, db.group)):
        db.run(*statements)


def ensure_member(db: Session, role: str) -> None:
    if not db.superuser and not db.one("SELECT pg_has_role(%s, 'USAGE')", role):
        db.run(*_join(db, role))


def _join(db: Session, role: str) -> list[Statement]:
    """Make us a member of `role`: only then may we give it things and end its sessions. A superuser needs not."""
    if db.superuser:
        return []
    if db.version < 160000:
        return [q("GRANT {} TO CURRENT_USER", role)]
    return [q("GRANT {} TO CURRENT_USER WITH INHERIT TRUE, SET TRUE", role)]


def password(secret: bytes, role: str) -> str:
    """Of a branch's role: the same whenever it is asked for."""
    return HMAC(secret, role.encode(), sha256).hexdigest()[:40]


def set_password(db: Session, role: str, secret: bytes) -> Statement:
    return with_password(db, role, password(secret, role))


def with_password(db: Session, role: str, word: str) -> Statement:
    """`role` may log in with `word`, which is encrypted here, so that it is in no log of the server."""
    encrypted = db.connection.pgconn.encrypt_password(word.encode(), role.encode(), b"scram-sha-256").decode()
    return q("ALTER ROLE {} LOGIN PASSWORD {}", role, literal(encrypted))


def open_to(db: Session, database: str, role: str, secret: bytes) -> list[Statement]:
    """What makes `role`, and lets it and nobody else into `database`, which takes no connections yet."""
    return [
        q(
            "CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
            " CONNECTION LIMIT {} IN ROLE {}",
            role, literal(connections(db)), db.group,
        ),
        set_password(db, role, secret),
        *_join(db, role),
        q("ALTER ROLE {} IN DATABASE {} SET role = {}", role, database, literal(db.group)),
        *closed(database),
        q("GRANT CREATE, TEMPORARY ON DATABASE {} TO {}", database, db.group),
        q("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {} TO {}", database, role),
        q("ALTER DATABASE {} ALLOW_CONNECTIONS true", database),
    ]  # fmt: skip


def connections(db: Session) -> int:
    """How many one branch's role may have: one agent must not take them all."""
    most = int(db.one("SELECT current_setting('max_connections')"))
    return min(MOST, max(LEAST, most // SHARE))


def settings(db: Session, database: str, wanted: list[list[str]]) -> None:
    """`ALTER DATABASE … SET`, which copies lack. One that only a superuser may set is left out."""
    for name, value in wanted:
        try:
            db.run(q("ALTER DATABASE {} SET {} TO {}", database, _quoted(name), _values(name, value)))
        except errors.InsufficientPrivilege:
            continue


def _quoted(name: str) -> Statement:
    return sql.Composed([sql.SQL(".").join(sql.Identifier(part) for part in name.split("."))])


def _values(name: str, value: str) -> sql.Composable:
    """Lists of names are kept as they would be written; everything else as it is."""
    if name not in _LISTS:
        return literal(value)
    parts = re.findall(r'"((?:[^"]|"")*)"|([^",\s]+)', value)
    return sql.SQL(", ").join(literal((quoted or plain).replace('""', '"')) for quoted, plain in parts)
