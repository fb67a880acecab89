"""The port to a migration tool: which files are its own, which commands it needs, what a clash looks like.

A tool runs nothing and reads no files: it is asked about a set of files (path → content) and answers with values;
the commands are run by the flow in a clean checkout, with the database they work on in the environment.
"""

import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from agentq.core import paths

Files = Mapping[str, bytes]
_PLACEHOLDER = re.compile(r"(?<!\$)\{(name|stamp)\}")
_STAMP = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Commands:
    """Shell commands, run at the top of a checkout. Their exit status alone proves nothing (databases fact 4):
    ask `written` and `unchanged`.

    upgrade: applies every migration to the database. generate: writes the migration for what the definition of the
    schema has and the database, which is at the newest migration, has not. check: whether they are the same; where
    they are not it may leave files behind."""

    upgrade: str = ""
    generate: str = ""
    check: str = ""


@dataclass(frozen=True)
class Impossible:
    """Why something cannot be done without a person. `hint`: what they can do."""

    why: str
    hint: str = ""


class Tool(Protocol):
    """`bookkeeping`: the tables the tool keeps for itself, as `Contents` names them."""

    name: str
    bookkeeping: frozenset[str]

    def owns(self, path: str) -> bool:
        """Whether a file is written by the tool: migrations, snapshots, its journal."""
        ...

    def commands(self, spec_id: str, stamp: str) -> Commands:
        """`stamp`: 12 hex digits, the same for the same spec on the same trunk; where the tool lets ids be chosen
        it is the id."""
        ...

    def written(self, returncode: int, output: str, before: Files, after: Files) -> Files | Impossible:
        """What `generate`, which ended so and made `after` of `before` (all that `owns` names), adds: to be put on
        `before` under the paths given, which may not be those it was written to. {} when there is nothing to
        migrate."""
        ...

    def unchanged(self, returncode: int, output: str) -> bool:
        """Whether `check`, which ended so, said that nothing is missing."""
        ...

    def clash(self, files: Files) -> str:
        """Why these migrations (all that `owns` names) have no single order: two heads, a number twice, a journal
        that names what is not there, a file that cannot be read. '' when they have one."""
        ...

    def rebase(self, trunk: Files, ours: Files, base: Files) -> Files | Impossible:
        """Put handwritten migrations after trunk's: the files to put on `trunk`, re-parented or renumbered and
        otherwise untouched. `ours`: the spec's whole set; `base`: the set both began with."""
        ...


class Adapter(ABC):
    """What all tools share. A subclass says what is its own in the class variables below."""

    name: str
    bookkeeping: frozenset[str]
    usual: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Commands] = Commands()
    # Files that every migration changes.
    shared: ClassVar[tuple[str, ...]] = ()
    # What to do when trunk itself has no single order.
    repair: ClassVar[str] = "repair trunk first; migrations that have landed keep their place"

    def __init__(self, files: tuple[str, ...] = (), overrides: Commands | None = None) -> None:
        self.files = files or self.usual
        given = overrides or Commands()
        self.templates = Commands(
            given.upgrade or self.defaults.upgrade,
            given.generate or self.defaults.generate,
            given.check or self.defaults.check,
        )

    def owns(self, path: str) -> bool:
        return any(paths.matches(glob, path) or path.startswith(glob.rstrip("/") + "/") for glob in self.files)

    def commands(self, spec_id: str, stamp: str) -> Commands:
        if not _STAMP.fullmatch(stamp):
            raise ValueError(f"not a stamp: {stamp!r}")
        values = {"name": shlex.quote(migration_name(spec_id)), "stamp": stamp}

        def fill(template: str) -> str:
            return _PLACEHOLDER.sub(lambda match: values[match[1]], template)

        made = self.templates
        return Commands(fill(made.upgrade), fill(made.generate), fill(made.check))

    def written(self, returncode: int, output: str, before: Files, after: Files) -> Files | Impossible:
        if returncode:
            return Impossible(f"the command that generates a migration failed with exit status {returncode}")
        new = added(before, after, before, self.shared, "the command that generates a migration")
        return new if isinstance(new, Impossible) else self._meant(new, output, before, after)

    def unchanged(self, returncode: int, output: str) -> bool:  # noqa: ARG002
        return returncode == 0

    def rebase(self, trunk: Files, ours: Files, base: Files) -> Files | Impossible:
        own = added(trunk, ours, base, self.shared)
        if isinstance(own, Impossible) or not own:
            return own
        if why := self.clash(trunk):
            # What the spec adds may be the very repair.
            repaired = trunk.keys().isdisjoint(own) and not self.clash({**trunk, **own})
            return own if repaired else Impossible(f"on trunk: {why}", self.repair)
        if why := self.clash(ours):
            return Impossible(f"among the spec's own migrations: {why}", "put them into one order")
        moved = self._moved(trunk, ours, own)
        if isinstance(moved, Impossible):
            return moved
        if taken := [path for path in moved if path in trunk and not _is(path, self.shared)]:
            return Impossible(f"trunk has another {listed(taken)}", "give the file another name")
        if why := self.clash({**trunk, **moved}):
            return Impossible(f"after the move behind trunk's migrations: {why}", "write them anew on trunk")
        return moved

    @abstractmethod
    def clash(self, files: Files) -> str: ...

    @abstractmethod
    def _moved(self, trunk: Files, ours: Files, own: Files) -> Files | Impossible:
        """`own`, the migrations of `ours` that are not on trunk, behind all of trunk's. Neither set clashes."""

    def _meant(self, new: Files, output: str, before: Files, after: Files) -> Files | Impossible:  # noqa: ARG002
        """What of the `new` files counts: without migrations that do nothing."""
        return new


def migration_name(spec_id: str) -> str:
    """The spec's name for every tool: [a-z][a-z0-9_]*, at most 65 characters, an identifier as Django wants it."""
    name = re.sub(r"[^a-z0-9_]", "_", spec_id.lower())
    return name if re.match(r"[a-z]", name) else f"m{name}"


def added(
    trunk: Files, ours: Files, base: Files, shared: Iterable[str] = (), who: str = "the spec"
) -> dict[str, bytes] | Impossible:
    """Files of `ours` that neither `base` nor `trunk` has, without those whose name is `shared`. What has landed
    stays as it is: databases were brought to it."""
    names = tuple(shared)
    for path in sorted(base):
        if ours.get(path) not in (base[path], trunk.get(path)) and not _is(path, names):
            what = "changes" if path in ours else "removes"
            return Impossible(
                f"{who} {what} {path}, which has landed", "leave it as it is on trunk and add a migration"
            )
    return {
        path: data
        for path, data in sorted(ours.items())
        if path not in base and trunk.get(path) != data and not _is(path, names)
    }


def _is(path: str, names: tuple[str, ...]) -> bool:
    return path.rpartition("/")[2] in names


def listed(names: Iterable[str], limit: int = 4) -> str:
    """Some names for a message: "a, b and 3 more"."""
    found = sorted(names)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more
