"""drizzle-kit 0.x: SQL files, a snapshot of the schema for each, and a journal that puts them into an order.

The migrator applies what the journal dates later than the last migration of the database, and passes over the rest
in silence: so the newest entry must have the newest date.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentq.migrations.base import Adapter, Commands, Files, Impossible, listed

_JOURNAL = "_journal.json"
_NO_PARENT = "00000000-0000-0000-0000-000000000000"
_PREFIX = re.compile(r"(\d+)(_.*)?", re.DOTALL)
_NOTHING = "No schema changes"


class Unreadable(Exception):
    """A journal or snapshot that is not what drizzle-kit writes. Never leaves this module."""


@dataclass(frozen=True)
class Entry:
    """A migration of the journal. `row`: the entry as it is written; `when`: milliseconds."""

    idx: int
    tag: str
    when: int
    row: Mapping[str, Any]

    @property
    def snapshot(self) -> str:
        """The name of its snapshot: by the part of the tag before the first underscore."""
        return f"{self.tag.partition('_')[0]}_snapshot.json" if _PREFIX.fullmatch(self.tag) else "_snapshot.json"


@dataclass(frozen=True)
class Folder:
    """A folder with `meta/_journal.json`. `snapshots`: file name → content."""

    root: str
    journal: Mapping[str, Any]
    entries: tuple[Entry, ...]
    sql: frozenset[str]
    snapshots: Mapping[str, Mapping[str, Any]]

    def last(self) -> Mapping[str, Any] | None:
        return self.snapshots[self.entries[-1].snapshot] if self.entries else None


class Drizzle(Adapter):
    """Without a terminal drizzle-kit drops its questions (is this column new, or renamed?) and exits with 0: its
    words count, not its status."""

    name = "drizzle"
    bookkeeping = frozenset({"__drizzle_migrations", "drizzle.__drizzle_migrations"})
    usual = ("drizzle/**",)
    shared = (_JOURNAL,)
    defaults = Commands(
        upgrade="npx drizzle-kit migrate",
        generate="npx drizzle-kit generate --name {name}",
        check="npx drizzle-kit check && npx drizzle-kit generate --name {name}",
    )

    def owns(self, path: str) -> bool:
        return path.endswith((".sql", ".json")) and super().owns(path)  # a schema.ts beside them is the project's

    def unchanged(self, returncode: int, output: str) -> bool:
        return returncode == 0 and _NOTHING in output

    def clash(self, files: Files) -> str:
        try:
            return next((why for folder in _folders(files) if (why := _clash(folder))), "")
        except Unreadable as error:
            return str(error)

    def _meant(self, new: Files, output: str, before: Files, after: Files) -> Files | Impossible:
        if not new and _NOTHING not in output:
            return Impossible(
                "drizzle-kit wrote nothing, and did not say that nothing changed: it had a question",
                "rename in steps (add the new one, copy, remove the old one) or in a handwritten migration",
            )
        try:
            old = {folder.root: folder.entries for folder in _folders(before)}
            for folder in _folders(after):
                entries = old.get(folder.root, ())
                if folder.entries[: len(entries)] != entries:
                    return Impossible(
                        f"drizzle-kit changed entries of {folder.root}meta/{_JOURNAL} that have landed"
                    )
        except Unreadable as error:
            return Impossible(str(error))
        journals = {path: data for path, data in after.items() if path.endswith(f"/{_JOURNAL}")}
        return (
            {**new, **{path: data for path, data in journals.items() if before.get(path) != data}} if new else {}
        )

    def _moved(self, trunk: Files, ours: Files, own: Files) -> Files | Impossible:
        landed = {folder.root: folder for folder in _folders(trunk)}
        files: dict[str, bytes] = {}
        for folder in _folders(ours):
            tags = [entry for entry in folder.entries if f"{folder.root}{entry.tag}.sql" in own]
            if not tags:
                continue
            made = _behind(landed.get(folder.root), folder, tags, ours)
            if isinstance(made, Impossible):
                return made
            files.update(made)
        return files


def _behind(trunk: Folder | None, ours: Folder, tags: list[Entry], files: Files) -> Files | Impossible:
    """The entries `tags` of `ours` at the end of trunk's journal, with trunk's last schema as their snapshots."""
    before = ours.entries[: ours.entries.index(tags[0])]
    parent = ours.snapshots[before[-1].snapshot] if before else None
    landed = trunk.entries if trunk else ()
    if before == landed or (trunk and before and parent and parent["id"] == (trunk.last() or {}).get("id")):
        own = [f"{ours.root}{tag.tag}.sql" for tag in tags] + [f"{ours.root}meta/{tag.snapshot}" for tag in tags]
        return {path: files[path] for path in [*own, f"{ours.root}meta/{_JOURNAL}"]}
    last = trunk.last() if trunk else None
    if trunk is None or last is None or parent is None:
        return Impossible(f"{ours.root}{tags[0].tag}.sql begins the migrations, and so does one on trunk")
    made: dict[str, bytes] = {}
    rows = [dict(entry.row) for entry in landed]
    for tag in tags:
        snapshot = ours.snapshots[tag.snapshot]
        if _schema(snapshot) != _schema(parent):
            return Impossible(
                f"{ours.root}{tag.tag}.sql changes the schema, and trunk has newer migrations",
                "land the schema's part as a generated migration, and the handwritten SQL "
                "(drizzle-kit generate --custom) in a spec behind it",
            )
        parent, previous = snapshot, rows[-1]
        name = _renamed(tag.tag, str(previous["tag"]))
        row = {**tag.row, "idx": previous["idx"] + 1, "tag": name, "when": max(tag.when, previous["when"] + 1)}
        entry = Entry(row["idx"], name, row["when"], row)
        last = {**last, "id": snapshot["id"], "prevId": last["id"]}
        rows.append(row)
        made[f"{ours.root}{name}.sql"] = files[f"{ours.root}{tag.tag}.sql"]
        made[f"{ours.root}meta/{entry.snapshot}"] = _dumped(last)
    return {**made, f"{ours.root}meta/{_JOURNAL}": _dumped({**trunk.journal, "entries": rows})}


def _renamed(tag: str, previous: str) -> str:
    """The tag with the number after that of `previous`; one without a number keeps its name."""
    mine, last = _PREFIX.fullmatch(tag), _PREFIX.fullmatch(previous)
    if not mine or not last or (int(mine[1]) > int(last[1]) and len(mine[1]) > 9):
        return tag
    return f"{int(last[1]) + 1:0{len(mine[1])}d}{mine[2] or ''}"


def _schema(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in snapshot.items() if key not in ("id", "prevId")}


def _dumped(value: object) -> bytes:
    """As drizzle-kit writes it."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


# ------------------------------------------------------------ reading


def _folders(files: Files) -> list[Folder]:
    """Raises Unreadable, also for migrations without a journal."""
    roots = [path.removesuffix(f"meta/{_JOURNAL}") for path in sorted(files) if path.endswith(f"meta/{_JOURNAL}")]
    lost = [path for path in files if not path.startswith(tuple(roots))] if roots else list(files)
    lost = [path for path in lost if path.endswith((".sql", ".json"))]
    if lost:
        raise Unreadable(f"{listed(lost)}: no meta/{_JOURNAL} names it, as drizzle-kit 0.x would")
    return [_folder(root, files) for root in roots]


def _folder(root: str, files: Files) -> Folder:
    path = f"{root}meta/{_JOURNAL}"
    journal = _json(path, files)
    rows = journal.get("entries")
    if not isinstance(rows, list) or not all(_is_row(row) for row in rows):
        raise Unreadable(f"{path} is not a journal of drizzle-kit 0.x")
    names = {name.removeprefix(root) for name in files if name.startswith(root)}
    snapshots = {
        name.removeprefix("meta/"): _json(root + name, files)
        for name in sorted(names)
        if name.startswith("meta/") and name.endswith("_snapshot.json")
    }
    for name, snapshot in snapshots.items():
        if not all(isinstance(snapshot.get(key), str) for key in ("id", "prevId")):
            raise Unreadable(f"{root}meta/{name} is not a snapshot of drizzle-kit 0.x")
    entries = tuple(Entry(row["idx"], row["tag"], row["when"], row) for row in rows)
    sql = frozenset(name.removesuffix(".sql") for name in names if name.endswith(".sql") and "/" not in name)
    return Folder(root, journal, entries, sql, snapshots)


def _is_row(row: object) -> bool:
    kinds = {"idx": int, "tag": str, "when": int}
    return isinstance(row, dict) and all(type(row.get(key)) is kind for key, kind in kinds.items())


def _json(path: str, files: Files) -> dict[str, Any]:
    try:
        value = json.loads(files[path], object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise Unreadable(f"{path} cannot be read: it is not an object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _clash(folder: Folder) -> str:
    return _journal_clash(folder) or _chain_clash(folder)


def _journal_clash(folder: Folder) -> str:
    """Numbers, tags and dates of the journal, and whether its files are there."""
    path = f"{folder.root}meta/{_JOURNAL}"
    seen: set[object] = set()
    for entry in folder.entries:
        for value in (entry.idx, entry.tag, f"number {entry.snapshot.partition('_')[0]}"):
            if value in seen and value != "number ":
                return f"{path} has {value} twice"
            seen.add(value)
        if entry.tag not in folder.sql:
            return f"{path} names {entry.tag}.sql, which is not there"
    if [entry.idx for entry in folder.entries] != sorted(entry.idx for entry in folder.entries):
        return f"{path} has its entries out of order"
    if lost := folder.sql - {entry.tag for entry in folder.entries}:
        return f"{path} does not name {listed(f'{tag}.sql' for tag in lost)}"
    if len(folder.entries) > 1 and folder.entries[-1].when <= max(entry.when for entry in folder.entries[:-1]):
        return f"{path} dates {folder.entries[-1].tag} before a migration it follows, so it would be passed over"
    return ""


def _chain_clash(folder: Folder) -> str:
    """Each snapshot follows the one before it."""
    where, previous = f"{folder.root}meta/", _NO_PARENT
    for entry in folder.entries:
        snapshot = folder.snapshots.get(entry.snapshot)
        if snapshot is None:
            return f"{where}{entry.snapshot} is not there"
        if snapshot["prevId"] != previous:
            return f"{where}{entry.snapshot} does not follow the snapshot before it"
        previous = snapshot["id"]
    if lost := folder.snapshots.keys() - {entry.snapshot for entry in folder.entries}:
        return f"{where}{_JOURNAL} has no migration for {listed(lost)}"
    return ""
