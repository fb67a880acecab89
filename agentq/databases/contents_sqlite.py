"""The contents of an SQLite database, read in one transaction. Never of dev: a connection in this process could
drop the locks of others on it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from agentq.databases import sqlite_text
from agentq.databases.contents import Contents, quoted
from agentq.databases.sqlite_seal import locate
from agentq.databases.sqlite_store import failed
from agentq.databases.sqlite_text import TableText, fold

PATIENCE = 10.0  # s to wait for a program that still has it open
VIRTUAL = "create virtual"
HIDDEN = {1: "hidden", 2: "virtual", 3: "stored"}  # pragma table_xinfo

Row = tuple[str, str, str]  # name, table, sql


def read(url: str, patience: float = PATIENCE) -> Contents:
    """See `contents.read`."""
    path = locate(url, Path()).path
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=patience)) as db:
            db.text_factory = lambda raw: raw.decode(errors="replace")
            db.execute("BEGIN")
            return _Reader(db).contents()
    except sqlite3.Error as exc:
        name = getattr(exc, "sqlite_errorname", "SQLITE_ERROR")
        raise failed(f"reading the schema of {path}", name, str(exc)) from exc


class _Reader:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._objects: dict[str, set[str]] = {}
        self._folded: dict[str, str] = {}
        """Of tables: folded name → name."""

    def contents(self) -> Contents:
        tables = self._made("table")
        self._folded = {fold(name): name for name, _, _ in tables}
        rows = {quoted(name): count for name, _, sql in tables if (count := self._count(name, sql)) is not None}
        for name, _, sql in tables:
            self._table(name, sql)
        for name, table, sql in self._made("index"):
            self._index(name, self._name(table), sql)
        for name, _, sql in self._made("view"):
            self._put(f"view {quoted(name)}", sqlite_text.definition(sql, "view"))
        for name, table, sql in self._made("trigger"):
            self._put(f"trigger {quoted(self._name(table), name)}", sqlite_text.definition(sql, "trigger"))
        return Contents({name: "; ".join(sorted(texts)) for name, texts in self._objects.items()}, rows)

    def _made(self, kind: str) -> list[Row]:
        """What somebody made; SQLite's own, and what holds the data of virtual tables, left out."""
        shadows = {
            fold(name) for (name,) in self._rows("SELECT name FROM pragma_table_list WHERE type = 'shadow'")
        }
        found = self._rows("SELECT name, tbl_name, sql FROM main.sqlite_master WHERE type = ? ORDER BY name", kind)
        return [
            (name, table, sql)
            for name, table, sql in found
            if sql and not fold(name).startswith("sqlite_") and fold(table) not in shadows
        ]

    def _rows(self, query: str, *values: str) -> Iterator[tuple]:  # type: ignore[type-arg]
        return iter(self._db.execute(query, values).fetchall())

    def _put(self, name: str, text: str) -> None:
        """Objects that differ in nothing but their name are one."""
        self._objects.setdefault(name, set()).add(text)

    def _name(self, table: str) -> str:
        """A table as it is written where it was made."""
        return self._folded.get(fold(table), table)

    def _count(self, table: str, sql: str) -> int | None:
        """None for a virtual table whose module is not loaded here."""
        try:
            return int(self._db.execute(f"SELECT count(*) FROM main.{_sql_name(table)}").fetchone()[0])
        except sqlite3.OperationalError as exc:
            if _is_virtual(sql) and "no such module" in str(exc):
                return None
            raise

    def _table(self, name: str, sql: str) -> None:
        if _is_virtual(sql):
            self._put(f"table {quoted(name)}", f"virtual {sqlite_text.definition(sql, 'table')}")
            return
        text = sqlite_text.table(sql)
        self._put(f"table {quoted(name)}", ", ".join(text.options))
        for check in text.checks:
            self._put(f"check {quoted(name)}({check})", "")
        self._columns(name, text)
        self._foreign_keys(name, text.deferred)
        self._constraints(name, text.autoincrement)

    def _columns(self, table: str, text: TableText) -> None:
        columns = list(self._rows("SELECT * FROM pragma_table_xinfo(?)", table))
        keys = [column for column in columns if column[5]]
        rowid = len(keys) == 1 and fold(keys[0][2]) == "integer"
        for _, name, kind, required, default, key, hidden in columns:
            words = [sqlite_text.normal(kind)]
            words += ["not null"] * bool(required or (rowid and key))
            words += _default(default)
            collation = text.collations.get(fold(name), "binary")
            words += [f"collate {collation}"] * (collation != "binary")
            if hidden:
                words += ["as", f"({text.generated.get(fold(name), '')})", HIDDEN.get(hidden, str(hidden))]
            self._put(f"column {quoted(table, name)}", " ".join(filter(None, words)))

    def _foreign_keys(self, table: str, deferred: list[bool]) -> None:
        """`deferred`: in the order of the text, which is the reverse of their numbers."""
        keys: dict[int, list[tuple]] = {}  # type: ignore[type-arg]
        for row in self._rows("SELECT * FROM pragma_foreign_key_list(?) ORDER BY id, seq", table):
            keys.setdefault(row[0], []).append(row)
        for number, rows in keys.items():
            target = self._name(rows[0][2])
            columns = ", ".join(quoted(row[3]) for row in rows)
            there = ", ".join(map(quoted, [row[4] for row in rows if row[4]] or self._key_of(target)))
            actions = [
                f"on {event} {fold(action)}"
                for event, action in (("update", rows[0][5]), ("delete", rows[0][6]))
                if action != "NO ACTION"
            ]
            place = len(keys) - 1 - number
            actions += ["deferred"] * (place < len(deferred) and deferred[place])
            name = f"foreign key {quoted(table)}({columns}) to {quoted(target)}({there})"
            self._put(name, ", ".join(actions))

    def _key_of(self, table: str) -> list[str]:
        found = self._rows("SELECT name FROM pragma_table_info(?) WHERE pk ORDER BY pk", table)
        return [name for (name,) in found]

    def _constraints(self, table: str, autoincrement: bool) -> None:
        """What UNIQUE and PRIMARY KEY made. A unique index on the same says no more, so it has the same name."""
        key = [quoted(name) for name in self._key_of(table)]  # a row id has no index
        for _, name, _, origin, _ in self._rows("SELECT * FROM pragma_index_list(?)", table):
            if origin == "u":
                self._put(f"unique {quoted(table)}({', '.join(self._terms(name))})", "")
            elif origin == "pk":
                key = self._terms(name)
        if key:
            self._put(f"primary key {quoted(table)}({', '.join(key)})", "autoincrement" if autoincrement else "")

    def _index(self, name: str, table: str, sql: str) -> None:
        [unique] = (row[2] for row in self._rows("SELECT * FROM pragma_index_list(?)", table) if row[1] == name)
        text = sqlite_text.index(sql)
        terms = ", ".join(self._terms(name, text.terms))
        if unique and not text.where:
            self._put(f"unique {quoted(table)}({terms})", "")
            return
        words = ["unique"] * unique + [f"where {text.where}"] * bool(text.where)
        self._put(f"index {quoted(table)}({terms})", " ".join(words))

    def _terms(self, index: str, texts: tuple[str, ...] = ()) -> list[str]:
        """`texts`: of the expressions, which have no name."""
        terms = []
        for place, _, name, descending, collation, key in self._rows(
            "SELECT * FROM pragma_index_xinfo(?) ORDER BY seqno", index
        ):
            if key:
                term = texts[place] if name is None else quoted(name)
                term += f" collate {fold(collation)}" * (fold(collation) != "binary" and name is not None)
                terms.append(term + " desc" * descending)
        return terms


def _default(text: str | None) -> list[str]:
    """A word in the place of a value is a text to SQLite."""
    if text is None or text.upper() == "NULL":
        return []
    found = sqlite_text.tokens(text)
    if len(found) == 1 and found[0].kind == "name":
        return [f"default '{text[1:-1]}'"]
    return [f"default {sqlite_text.shown(found)}"]


def _is_virtual(sql: str) -> bool:
    return [token.text for token in sqlite_text.tokens(sql[:200])[:2]] == VIRTUAL.split()


def _sql_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
