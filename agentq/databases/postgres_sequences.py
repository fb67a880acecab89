"""Where dev's sequences stand, which no counter tells. Only a session in dev can read them, and opening one takes
longer than everything else that is asked before a branch is handed out. So what was read counts until another
transaction has ended in dev.
"""

from dataclasses import dataclass
from typing import Any

from psycopg import errors, sql

from agentq.databases.postgres_server import Server, Session, literal, q

BY_NUMBER_SINCE = 180000  # pg_get_sequence_data


@dataclass(frozen=True)
class Reading:
    """`transactions`: how many have ended in dev when the last of ours has. `stable`: with which `Facts`."""

    stable: str
    transactions: int
    values: list[Any]
    readable: bool


class Sequences:
    """Safe to share between threads."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.last: Reading | None = None

    def read(self, stable: str, transactions: int | None, last: Reading | None) -> tuple[list[Any], bool]:
        """Where every sequence stands, and whether all could be read.

        `stable` and `transactions` are of now; None when counting is not to be trusted. `last`: an earlier
        reading, if between it and now nobody was in dev, nor was anything prepared there. So everybody had
        reported, we too, and a transaction that ended since that reading would be one more than ours.
        """
        if last and (last.stable, last.transactions) == (stable, transactions):
            return last.values, last.readable
        name = self._server.address.name
        with self._server.session(f"reading the sequences of dev database '{name}'", name) as dev:
            before = None if transactions is None else _count(dev)
            ours = dev.statements
            values, readable = _read(dev)
            ours = dev.statements - ours + 1  # and the count itself
        self.last = None if before is None else Reading(stable, before + ours, values, readable)
        return values, readable


def _count(dev: Session) -> int:
    """The transactions that have ended in dev, without this one, and with all of ours before."""
    dev.rows("SELECT pg_stat_force_next_flush()")
    return int(
        dev.one("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()")
    )


def _read(dev: Session) -> tuple[list[Any], bool]:
    """Where every sequence stands, and whether all could be read. By number, not by name: after a look, a name can
    come to mean a view, and whoever made that would work with our rights."""
    if dev.version >= BY_NUMBER_SINCE:
        values = dev.rows(
            """SELECT c.oid::int8, s.last_value, s.is_called
               FROM pg_class c LEFT JOIN LATERAL pg_get_sequence_data(c.oid) s ON true
               WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY c.oid"""
        )
        return values, all(last is not None for _, last, _ in values)
    found = dev.rows(
        """SELECT c.oid::int8,
             CASE WHEN has_sequence_privilege(c.oid, 'SELECT') THEN pg_sequence_last_value(c.oid) END,
             n.nspname, c.relname
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE c.relkind = 'S' AND c.relpersistence <> 't' ORDER BY c.oid"""
    )
    unused = [(oid, schema, name) for oid, last, schema, name in found if last is None]
    begins, readable = _beginnings(dev, unused)
    return [[oid, last] for oid, last, *_ in found] + begins, readable


def _beginnings(dev: Session, unused: list[tuple[int, str, str]]) -> tuple[list[Any], bool]:
    """Where sequences stand that nobody has called yet, which older servers tell by name alone, so only where the
    server refuses to read a view."""
    parts = [
        q("SELECT {}, last_value, is_called FROM {}.{}", literal(oid), schema, name)
        for oid, schema, name in unused
    ]
    values: list[Any] = []
    try:
        if parts:
            dev.run(q("SET restrict_nonsystem_relation_kind = 'view, foreign-table'"), q("SET row_security = off"))
        for start in range(0, len(parts), 200):
            values += dev.rows(sql.SQL(" UNION ALL ").join(parts[start : start + 200]))
    except errors.Error:  # no rights, an old server, or one that was dropped meanwhile
        return [], False
    return values, True
