"""What is on the server for one dev: databases, told apart by their names and comments; making them.

A database is complete when it has its final name, which it gets in the same transaction as its comment and its
role. So a crash leaves databases in the making (`t_`) and nothing else.
"""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic, sleep
from typing import Any

from psycopg import errors, sql

from agentq.databases.postgres_server import APPLICATION, Session, Statement, literal, q

SMALL = 50_000_000  # bytes: up to here pages are copied through the log, which needs no checkpoint
LEAVE = 5.0  # s to wait for whoever is leaving a database


@dataclass(frozen=True)
class Entry:
    """A database of ours. `kind`: t, w, gNNNNNNNN, bCOMMAND or eCOMMAND (see `Names`). `meta`: its comment, {}
    when it cannot be read."""

    name: str
    kind: str
    token: str
    meta: dict[str, Any] = field(compare=False)

    @property
    def branch(self) -> bool:
        return self.kind[0] in "be"

    @property
    def expires_at(self) -> datetime:
        return datetime.fromisoformat(self.meta["expires_at"])


def entries(db: Session, prefix: str = "") -> list[Entry]:
    """Those whose names begin with ours and `prefix`, by name."""
    found = db.rows(
        """SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database
           WHERE starts_with(datname::text, %s) ORDER BY datname COLLATE "C\"""",
        db.names.prefix + prefix,
    )
    parsed = ((name, db.names.parse(name), text) for name, text in found)
    return [Entry(name, *kind, _meta(kind[0], text)) for name, kind, text in parsed if kind]


def _meta(kind: str, text: str | None) -> dict[str, Any]:
    needed = {"b": _BRANCH, "e": _BRANCH, "w": ("generation", "host"), "g": ("head", "bytes", "settings")}
    try:
        meta: dict[str, Any] = json.loads(text or "")
        if any(key not in meta for key in needed.get(kind[0], ())):
            return {}
        if "expires_at" in meta:
            datetime.fromisoformat(meta["expires_at"])
    except (ValueError, TypeError):
        return {}
    return meta


_BRANCH = ("owner", "host", "generation", "expires_at")


def comment(name: str, meta: dict[str, Any]) -> Statement:
    return q("COMMENT ON DATABASE {} IS {}", name, literal(json.dumps(meta)))


def renamed(old: str, new: str) -> Statement:
    return q("ALTER DATABASE {} RENAME TO {}", old, new)


def size(db: Session, name: str) -> int:
    return int(db.one("SELECT pg_database_size(%s)", name))


def clone(db: Session, source: str, target: str, size: int) -> None:
    """Copy a database that nobody is connected to; the copy takes no connections."""
    how = sql.SQL("")
    if db.version >= 150000:
        how = sql.SQL("STRATEGY wal_log" if size < SMALL else "STRATEGY file_copy")
    if db.version >= 180000 and size >= SMALL:
        with suppress(errors.InvalidParameterValue):  # not every build can
            db.rows("SELECT set_config('file_copy_method', 'clone', false)")
    db.slow(q("CREATE DATABASE {} TEMPLATE {} {} ALLOW_CONNECTIONS false", target, source, how))


def blank(db: Session, like: str, target: str) -> None:
    """A database without content, with encoding, collation and place of `like`; it takes no connections."""
    version = db.version
    provider = "datlocprovider" if version >= 150000 else "'c'"
    locale = "datlocale" if version >= 170000 else "daticulocale" if version >= 150000 else "NULL"
    rules = "daticurules" if version >= 160000 else "NULL"
    row = db.rows(
        sql.SQL(
            """SELECT pg_encoding_to_char(encoding), datcollate, datctype, {}::text, {}, {}, spcname
               FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = {}"""
        ).format(sql.SQL(provider), sql.SQL(locale), sql.SQL(rules), literal(like))
    )[0]
    encoding, collate, ctype, kind, named, icu_rules, place = row
    options = [q("ENCODING {} LC_COLLATE {} LC_CTYPE {}", *map(literal, (encoding, collate, ctype)))]
    options += [q("TABLESPACE {}", place)] if place != "pg_default" else []  # which may not be named by all
    if kind == "i":
        options += [q("LOCALE_PROVIDER icu ICU_LOCALE {}", literal(named))]
        options += [q("ICU_RULES {}", literal(icu_rules))] if icu_rules else []
    elif kind == "b":
        options += [q("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", literal(named))]
    text = q(
        "CREATE DATABASE {} TEMPLATE template0 {} ALLOW_CONNECTIONS false", target, sql.SQL(" ").join(options)
    )
    db.slow(text)


def ourselves() -> Statement:
    """A condition on pg_stat_activity: a session like ours. Anybody can take our name, but not our role."""
    return q("coalesce(usename = current_user AND application_name = {}, false)", literal(APPLICATION))


def users(db: Session, name: str) -> list[int]:
    """The sessions that keep `name` from being copied, 0 for a prepared transaction. Ours, which leave at once, do
    not count, nor does autovacuum, which gives way."""
    found = db.rows(
        q(
            """SELECT pid FROM pg_stat_activity WHERE datname = {} AND pid <> pg_backend_pid()
                 AND NOT {} AND backend_type IS DISTINCT FROM 'autovacuum worker'
               UNION ALL SELECT 0 FROM pg_prepared_xacts WHERE database = {}""",
            *(literal(name), ourselves(), literal(name)),
        )
    )
    return [pid for (pid,) in found]


def await_empty(db: Session, name: str) -> None:
    """Until everybody who is leaving `name` has left: the server itself looks only ten times a second."""
    deadline = monotonic() + LEAVE
    while monotonic() < deadline and db.rows(
        "SELECT FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", name
    ):
        sleep(0.002)
