"""dev's identity. It may move too often; it never stands still while dev moves.

The counters of changed rows see every change of tables and catalogs, also a rolled back one, and neither reads nor
what happens in branches. They do not see sequences, which are read, and what is kept outside of dev (its settings,
owner, rights, comment). Two things make them late: a session reports when it has nothing else to do, at the latest
10 s after it fell idle, and not inside a transaction; and one that is working has not reported yet. For the first,
the time it last did anything becomes part of the head; for the second, the place in the write-ahead log.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from time import sleep
from typing import Any

from psycopg import errors, sql

from agentq.databases.postgres_server import APPLICATION, Server, Session, literal, q
from agentq.errors import DatabaseError

FLUSHED = 15  # s: an idle session has reported, with time to spare
COUNTERS_SINCE = 150000  # before, counters could be lost on their way
SETTLE = (0.004, 0.008, 0.016)  # s to give sessions that are just leaving
IGNORED = ("autovacuum worker", "autovacuum launcher", "walsender", "parallel worker")


@dataclass(frozen=True)
class Facts:
    """What the server tells about dev. `open`: it can be connected to. `counted`: the counters can be trusted."""

    open: bool
    stable: str
    counted: bool
    settings: tuple[tuple[str, str], ...]


class Closed(DatabaseError):
    """dev takes no connections."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"dev database '{name}' takes no connections",
            f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true',
            retryable=True,
        )


def read(server: Server, db: Session) -> tuple[str, Facts]:
    """dev's head, and the facts it was made from. "EXACT" or "EXACT+MOVING", see `same`."""
    return list(readings(server, db))[-1]


def readings(server: Server, db: Session) -> Iterator[tuple[str, Facts]]:
    """The head, again after a moment while it is not exact: who has just left dev may not be gone yet."""
    for seconds in (*SETTLE, 0):
        head, facts = once(server, db)
        yield head, facts
        if "+" not in head:
            return
        sleep(seconds)


def same(sealed: str, now: str) -> bool:
    """Whether dev is what it was. The counters include everything once everybody has reported: then it does not
    matter who had not at the time of sealing."""
    return sealed == now or ("+" not in now and sealed.partition("+")[0] == now)


def once(server: Server, db: Session) -> tuple[str, Facts]:
    name = server.address.name
    moving = _moving(db, name)  # first: who is not there any more has reported before the counters are read
    found = facts(db, name)
    if not found.open:
        raise Closed(name)
    with server.session(f"reading the sequences of dev database '{name}'", name) as dev:
        sequences, readable = _sequences(dev)
    if not readable or not found.counted:
        moving.append(_position(db))
    head = _digest([found.stable, sequences])
    return (f"{head}+{_digest(moving)}" if moving else head), found


def _digest(facts: list[Any]) -> str:
    return sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]


def _moving(db: Session, name: str) -> list[Any]:
    """What stands for changes that sessions have not reported yet."""
    found = db.rows(
        """SELECT pid, backend_start, state, state_change, backend_type = 'client backend',
                  clock_timestamp() - state_change < make_interval(secs => %s)
           FROM pg_stat_activity
           WHERE datname = %s AND pid <> pg_backend_pid() AND application_name IS DISTINCT FROM %s
             AND (backend_type IS NULL OR backend_type <> ALL (%s)) ORDER BY pid""",
        *(FLUSHED, name, APPLICATION, list(IGNORED)),
    )
    moving: list[Any] = []
    for pid, started, state, changed, client, recent in found:
        if not client or not (state or "").startswith("idle"):
            moving.append(_position(db))
        elif state != "idle" or recent:
            moving.append([pid, started, changed])
    return moving


def _position(db: Session) -> str:
    return str(db.rows("SELECT pg_current_wal_insert_lsn()")[0][0])


def facts(db: Session, name: str) -> Facts:
    """DatabaseError when dev does not exist."""
    found = db.rows(
        """SELECT d.oid, d.datallowconn, d.datdba, d.datacl::text, shobj_description(d.oid, 'pg_database'),
                  s.tup_inserted, s.tup_updated, s.tup_deleted, s.stats_reset,
                  pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter),
                  current_setting('track_counts')::bool AND NOT EXISTS (
                    SELECT FROM pg_db_role_setting WHERE setconfig::text ~ 'track_counts'),
                  (SELECT jsonb_agg(to_jsonb(setconfig) ORDER BY setrole <> 0, setdatabase <> 0)
                   FROM pg_db_role_setting
                   WHERE setdatabase IN (0, d.oid) AND (setdatabase <> 0 OR setrole <> 0)
                     AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user)))
           FROM pg_database d JOIN pg_stat_database s ON s.datid = d.oid WHERE d.datname = %s""",
        name,
    )
    if not found:
        hint = "create it with your migrations, or correct the URL"
        raise DatabaseError(f"dev database '{name}' does not exist", hint)
    oid, is_open, *more, counted, configured = found[0]
    settings = _settings(configured or [])
    counted = counted and db.version >= COUNTERS_SINCE
    return Facts(is_open, _digest([oid, more, settings]), counted, settings)


def _settings(configured: list[list[str]]) -> tuple[tuple[str, str], ...]:
    """What a session of ours in dev starts with: the role's, over the database's, and both together over these.
    A role of its own cannot be taken along."""
    merged = dict(entry.split("=", 1) for config in configured for entry in config)
    return tuple(
        sorted((key, value) for key, value in merged.items() if key not in ("role", "session_authorization"))
    )


def _sequences(dev: Session) -> tuple[list[Any], bool]:
    """Where every sequence stands, and whether all could be read."""
    while True:
        found = dev.rows(
            """SELECT c.oid::int8, n.nspname, c.relname, has_sequence_privilege(c.oid, 'SELECT')
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY c.oid"""
        )
        readable = [row for row in found if row[3]]
        parts = [
            q("SELECT {}, last_value, is_called FROM {}.{}", literal(oid), schema, name)
            for oid, schema, name, _ in readable
        ]
        try:
            values = [
                row
                for start in range(0, len(parts), 200)
                for row in dev.rows(sql.SQL(" UNION ALL ").join(parts[start : start + 200]))
            ]
        except (errors.UndefinedTable, errors.InvalidSchemaName):
            continue  # one was dropped meanwhile
        return values, len(readable) == len(found)
