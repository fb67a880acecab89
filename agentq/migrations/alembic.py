"""Alembic: a graph of revisions, each naming the one before it. Two heads are no conflict for git."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from agentq.migrations import pysource
from agentq.migrations.base import Adapter, Commands, Files, Impossible, listed

_REVISES = re.compile(rb"^(Revises:[ \t]*)[^\r\n]*", re.MULTILINE)


class Unreadable(Exception):
    """A file that should say which revision it is, and does not. Never leaves this module."""


@dataclass(frozen=True)
class Revision:
    """`down`: the revisions it follows: several for a merge, none for the first."""

    path: str
    id: str
    down: tuple[str, ...]
    labels: tuple[str, ...]
    depends: tuple[str, ...]
    source: pysource.Source
    place: ast.expr | None

    def after(self, head: str) -> bytes:
        """The file with `head` as the revision it follows, in the code and in the docstring's "Revises:"."""
        assert self.place is not None
        like = self.source.text(self.place)
        start, end = self.source.span(self.place)
        new = pysource.literal(head, like if like[:1] in b"'\"" else b'"')
        return pysource.replaced(self.source.data, [(start, end, new), *self._revises(head)])

    def _revises(self, head: str) -> list[tuple[int, int, bytes]]:
        body = self.source.tree.body
        if not body or not isinstance(body[0], ast.Expr) or not isinstance(body[0].value, ast.Constant):
            return []
        start, end = self.source.span(body[0].value)
        found = _REVISES.search(self.source.data[:end], start)
        return [(*found.span(), found[1] + head.encode())] if found else []


class Alembic(Adapter):
    name = "alembic"
    bookkeeping = frozenset({"alembic_version"})
    usual = ("migrations/versions/*.py", "alembic/versions/*.py")
    defaults = Commands(
        upgrade="alembic upgrade head",
        generate="alembic revision --autogenerate -m {name} --rev-id {stamp}",
        check="alembic check",
    )
    repair = (
        "join the heads on trunk with an empty revision (alembic merge heads); never re-point one that has landed"
    )

    def owns(self, path: str) -> bool:
        return path.endswith(".py") and super().owns(path)

    def clash(self, files: Files) -> str:
        try:
            return _clash(_revisions(files))
        except Unreadable as error:
            return str(error)

    def _meant(self, new: Files, output: str, before: Files, after: Files) -> Files | Impossible:  # noqa: ARG002
        try:
            return {path: new[path] for path in new if not _idle(path, new[path])}
        except Unreadable as error:
            return Impossible(str(error), "alembic's own script.py.mako writes what agentq can read")

    def _moved(self, trunk: Files, ours: Files, own: Files) -> Files | Impossible:  # noqa: ARG002
        if trunk.keys().isdisjoint(own) and not self.clash({**trunk, **own}):
            return own
        landed = _revisions(trunk)
        mine = _revisions(own)
        taken = {revision.id for revision in landed}
        again = sorted(revision.id for revision in mine if revision.id in taken)
        if again:
            return Impossible(f"trunk has a revision {again[0]} of its own", "give yours another id")
        head = _heads(landed)[0].id
        ids = {revision.id for revision in mine}
        files: dict[str, bytes] = {}
        for revision in mine:
            root = not ids.intersection(revision.down)
            if len(revision.down) > 1 and not ids.issuperset(revision.down):
                return Impossible(
                    f"{revision.path} merges revisions that have landed",
                    "merge anew on trunk, if it is still needed",
                )
            data = revision.after(head) if root else revision.source.data
            files[_free(revision, trunk)] = data
        return files


def _free(revision: Revision, trunk: Files) -> str:
    """The revision's path; another one where trunk has a file of this name."""
    return revision.path if revision.path not in trunk else f"{revision.path[:-3]}_{revision.id}.py"


def _revisions(files: Files) -> list[Revision]:
    """Raises Unreadable."""
    return [_read(path, data) for path, data in sorted(files.items()) if _is_revision(path)]


def _is_revision(path: str) -> bool:
    return not path.rpartition("/")[2].startswith(("__init__", ".#"))


def _read(path: str, data: bytes) -> Revision:
    source = pysource.read(data)
    if source is None:
        raise Unreadable(f"{path} cannot be read: it is not Python in UTF-8")
    values = pysource.assigned(source.tree.body)
    ids = _texts(path, "revision", values)
    if len(ids) != 1:
        raise Unreadable(f"{path} does not say which revision it is")
    if "down_revision" not in values:
        raise Unreadable(f"{path} does not say which revision it follows")
    return Revision(
        path,
        ids[0],
        _texts(path, "down_revision", values),
        _texts(path, "branch_labels", values),
        _texts(path, "depends_on", values),
        source,
        values["down_revision"],
    )


def _texts(path: str, name: str, values: Mapping[str, ast.expr]) -> tuple[str, ...]:
    """A text, several, or None, as Alembic takes them."""
    try:
        value = ast.literal_eval(values[name]) if name in values else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise Unreadable(f"{path}: '{name}' is not written out") from None
    found = () if value is None else (value,) if isinstance(value, str) else value
    if not isinstance(found, tuple | list | set | frozenset) or not all(isinstance(one, str) for one in found):
        raise Unreadable(f"{path}: '{name}' is not a text, several, or None")
    return tuple(found)


def _heads(revisions: list[Revision]) -> list[Revision]:
    followed = {down for revision in revisions for down in revision.down}
    return [revision for revision in revisions if revision.id not in followed]


def _clash(revisions: list[Revision]) -> str:
    found: dict[str, Revision] = {}
    for revision in revisions:
        if revision.id in found:
            return f"{found[revision.id].path} and {revision.path} are both revision {revision.id}"
        found[revision.id] = revision
    for revision in revisions:
        for parent in revision.down:
            if parent not in found:
                return f"{revision.path} follows revision {parent}, which is not there"
        for wanted in revision.depends:
            if not _known(wanted, revisions):
                return f"{revision.path} depends on revision {wanted}, which is not there"
    try:
        TopologicalSorter({one.id: [*one.down, *found.keys() & one.depends] for one in revisions}).prepare()
    except CycleError as error:
        return f"revisions follow each other in a circle: {listed(set(error.args[1]))}"
    heads = _heads(revisions)
    if len(heads) > 1:
        return f"{len(heads)} heads: " + listed(f"{one.id} ({one.path})" for one in heads)
    return ""


def _known(wanted: str, revisions: list[Revision]) -> bool:
    """Whether a dependency can be found: an id, the beginning of one, a label, or label@id."""
    label, _, rest = wanted.rpartition("@")
    labels = {label for one in revisions for label in one.labels}
    if label and label not in labels:
        return False
    return rest in labels or rest in ("head", "heads") or any(one.id.startswith(rest) for one in revisions)


def _idle(path: str, data: bytes) -> bool:
    """Whether a new revision does nothing: Alembic writes one even where there is nothing to migrate."""
    revision = _read(path, data) if _is_revision(path) else None
    if revision is None or len(revision.down) > 1:
        return False
    steps = [one for one in revision.source.tree.body if isinstance(one, ast.FunctionDef)]
    return all(_empty(one) for one in steps if one.name in ("upgrade", "downgrade"))


def _empty(step: ast.FunctionDef) -> bool:
    return all(
        isinstance(one, ast.Pass) or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
        for one in step.body
    )
