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

from agentq.databases.postgres_catalog import ourselves
from agentq.databases.postgres_sequences import Sequences
from agentq.databases.postgres_server import Server, Session, literal, q
from agentq.errors import DatabaseError

FLUSHED = 15  # s: an idle session has reported, with time to spare
COUNTERS_SINCE = 150000  # before, counters could be lost on their way
SETTLE = (0.004, 0.008, 0.016)  # s to give sessions that are just leaving
NOT_TAKEN = ("role", "session_authorization", "default_transaction_read_only")
IGNORED = ("autovacuum worker", "autovacuum launcher", "walsender", "parallel worker")


@dataclass(frozen=True)
class Facts:
    """What the server tells about dev. `open`: it can be connected to. `counted`: the counters can be trusted.
    `transactions`: how many have ended in it."""

    open: bool
    stable: str
    counted: bool
    transactions: int
    settings: tuple[tuple[str, str], ...]


class Closed(DatabaseError):
    """dev takes no connections."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"dev database '{name}' takes no connections",
            f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true',
            retryable=True,
        )


def same(sealed: str, now: str) -> bool:
    """Whether dev is what it was. The counters include everything once everybody has reported: then it does not
    matter who had not at the time of sealing."""
    return sealed == now or ("+" not in now and sealed.partition("+")[0] == now)


class Head:
    """Reads dev's. Safe to share between threads."""

    def __init__(self, server: Server) -> None:
        self._name = server.address.name
        self._sequences = Sequences(server)

    def read(self, db: Session) -> tuple[str, Facts]:
        """dev's head, and the facts it was made from. "EXACT" or "EXACT+MOVING", see `same`."""
        return list(self.readings(db))[-1]

    def readings(self, db: Session) -> Iterator[tuple[str, Facts]]:
        """The head, again after a moment while it is not exact: who has just left dev may not be gone yet."""
        for seconds in (*SETTLE, 0):
            head, facts = self.once(db)
            yield head, facts
            if "+" not in head:
                return
            sleep(seconds)

    def once(self, db: Session) -> tuple[str, Facts]:
        # First who is there: who is not there any more has reported before the counters are read.
        last = self._sequences.last
        moving, alone = _moving(db, self._name)
        found = facts(db, self._name)
        if not found.open:
            raise Closed(self._name)
        transactions = found.transactions if found.counted else None
        sequences, readable = self._sequences.read(found.stable, transactions, last if alone else None)
        if not readable or not found.counted:
            moving.append(_position(db))
        head = _digest([found.stable, sequences])
        return (f"{head}+{_digest(moving)}" if moving else head), found


def _digest(facts: list[Any]) -> str:
    return sha256(json.dumps(facts, default=str).encode()).hexdigest()[:16]


def _moving(db: Session, name: str) -> tuple[list[Any], bool]:
    """What stands for changes that sessions have not reported yet; and whether nobody at all is connected, and
    nothing is prepared."""
    found = db.rows(
        q(
            """SELECT pid, backend_start, state, state_change, backend_type = 'client backend',
                      clock_timestamp() - state_change < make_interval(secs => {}),
                      NOT {} AND (backend_type IS NULL OR backend_type <> ALL ({}))
               FROM pg_stat_activity WHERE datname = {} AND pid <> pg_backend_pid()
               UNION ALL SELECT 0, NULL, NULL, NULL, NULL, NULL, false FROM pg_prepared_xacts WHERE database = {}
               ORDER BY 1""",
            *(literal(FLUSHED), ourselves(), literal(list(IGNORED)), literal(name), literal(name)),
        )
    )
    moving: list[Any] = []
    for pid, started, state, changed, client, recent, counts in found:
        if not counts:
            continue
        if not client or not (state or "").startswith("idle"):
            moving.append(_position(db))
        elif state != "idle" or recent:
            moving.append([pid, started, changed])
    return moving, not found


def _position(db: Session) -> str:
    return str(db.rows("SELECT pg_current_wal_insert_lsn()")[0][0])


def facts(db: Session, name: str) -> Facts:
    """DatabaseError when dev does not exist."""
    found = db.rows(
        """SELECT d.oid, d.datallowconn, s.xact_commit + s.xact_rollback,
                  d.datdba, d.datacl::text, shobj_description(d.oid, 'pg_database'),
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
    oid, is_open, transactions, *more, counted, configured = found[0]
    settings = _settings(configured or [])
    counted = counted and db.version >= COUNTERS_SINCE
    return Facts(is_open, _digest([oid, more, settings]), counted, transactions, settings)


def _settings(configured: list[list[str]]) -> tuple[tuple[str, str], ...]:
    """What a session of ours in dev starts with: the role's, over the database's, and both together over these.
    A role of its own cannot be taken along, and branches are there to be written."""
    merged = dict(entry.split("=", 1) for config in configured for entry in config)
    return tuple(sorted((key, value) for key, value in merged.items() if key not in NOT_TAKEN))
