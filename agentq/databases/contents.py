"""What a database holds, in a form that does not tell how it came to be: two databases with equal contents were
built by different means to the same end (databases fact 4).

Column order, names of constraints and of indexes, and quoting do not count: they differ between a table that was
created whole and one that was altered into shape.

An object is called "KIND TABLE", "KIND TABLE.NAME" (columns, triggers) or "KIND TABLE(...)". Names in it are
written by `quoted`, so that a dot or a parenthesis in one is told from ours.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agentq.errors import DatabaseError


@dataclass(frozen=True)
class Contents:
    """`objects`: name → definition in a normal form, for instance "column users.name" → "text not null",
    "index users(name)" → "unique"; `rows`: table → number of rows. Tables are named "schema.table" unless they are
    in the default schema; both names as by `quoted`."""

    objects: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[str, int] = field(default_factory=dict)

    def without(self, tables: frozenset[str]) -> "Contents":
        """The same without what belongs to `tables` (a migration tool's own)."""
        kept = {name: text for name, text in self.objects.items() if _table(name) not in tables}
        return Contents(kept, {name: count for name, count in self.rows.items() if name not in tables})


def quoted(*names: str) -> str:
    """Names joined by dots. One that is more than letters, digits and underscores stands in double quotes."""
    return ".".join(name if re.fullmatch(r"\w+", name) else '"' + name.replace('"', '""') + '"' for name in names)


_NAME = r'(?:"(?:[^"]|"")*"|[^\s."(]+)'
_OBJECT = re.compile(rf"(?P<kind>[a-z]+(?: [a-z]+)??) (?P<name>{_NAME}(?:\.{_NAME})*)(?=\(|\Z)")


def _table(name: str) -> str:
    """The table an object belongs to: "column a.users.name" → "a.users", "index users(name)" → "users"."""
    found = _OBJECT.match(name)
    if found is None:
        return ""
    parts = re.findall(_NAME, found["name"])
    return ".".join(parts[:-1] if found["kind"] in ("column", "trigger") else parts)


def differing(one: Contents, other: Contents) -> frozenset[str]:
    """The names of the objects that are not the same in both."""
    return frozenset(
        name for name in {*one.objects, *other.objects} if one.objects.get(name) != other.objects.get(name)
    )


def differences(
    one: Contents, other: Contents, names: tuple[str, str], besides: frozenset[str] = frozenset()
) -> list[str]:
    """A line for each object that is not the same in both, by name; [] when the schemas are equal. `names`: what
    the two are called in the lines; `besides`: objects that are passed over."""
    lines = []
    for name in sorted(differing(one, other) - besides):
        here, there = one.objects.get(name), other.objects.get(name)
        if here is None:
            lines.append(f"{name} is only in {names[1]}")
        elif there is None:
            lines.append(f"{name} is only in {names[0]}")
        else:
            lines.append(f"{name} is '{here}' in {names[0]}, '{there}' in {names[1]}")
    return lines


def lost(before: Contents, after: Contents) -> list[str]:
    """A line for each table, column and row that was there before and is not any more."""
    lines = [
        f"{name} is dropped"
        for name in sorted(before.objects)
        if name not in after.objects and name.startswith(("table ", "column "))
    ]
    for table, count in sorted(before.rows.items()):
        left = after.rows.get(table)
        if left is not None and left < count:
            lines.append(f"table {table} loses {count - left} of {count} rows")
    return lines


_READERS: Mapping[str, str] = {"sqlite": "contents_sqlite", "postgres": "contents_postgres"}


def read(url: str) -> Contents:
    """The contents of the database at `url` (a secret). Raises DatabaseError when it cannot be read, or is of a
    kind nobody here can read."""
    from importlib import import_module

    name = _READERS[kind(url)]
    reader: Callable[[str], Contents] = import_module(f"agentq.databases.{name}").read
    return reader(url)


def kind(url: str) -> str:
    """'sqlite' or 'postgres', by the form of `url`. Raises DatabaseError for others."""
    scheme = re.match(r"([a-z0-9]+)(\+\w+)?:", url)
    if scheme is None or scheme[1] in ("sqlite", "sqlite3", "file"):
        return "sqlite"
    if scheme[1] in ("postgres", "postgresql"):
        return "postgres"
    raise DatabaseError(
        f"schemas of '{scheme[1]}' databases cannot be compared",
        "migrations are proved on SQLite and PostgreSQL",
    )
