"""Migrations whose place is the number or time their name begins with: most tools that are not a graph.

`0007_a.sql`, `000007_a.up.sql` with its `.down.sql`, `V7__a.sql`, `20260102030405_a/migration.sql`.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from agentq.migrations.base import Files, Impossible

Version = tuple[int, ...]
_VERSION = r"\d{4}-\d{2}-\d{2}(?:-\d+)?|\d+(?:\.\d+)*"
# Flyway: a letter, a version with '.' or '_' in it, two underscores.
_FLYWAY = re.compile(r"(?P<before>[VUB])(?P<version>\d+(?:[._]\d+)*)(?P<after>__.*)", re.DOTALL)
_PLAIN = re.compile(rf"(?P<before>)(?P<version>{_VERSION})(?P<after>(?:[_.-].*)?)", re.DOTALL)
_TIME = "%Y%m%d%H%M%S"


@dataclass(frozen=True)
class Numbered:
    """A file's place. `folder` + `before` + `version` + `after` is its path; `label`: what two files of one
    migration (up and down) have in common."""

    folder: str
    before: str
    version: str
    after: str

    @property
    def number(self) -> Version:
        return tuple(int(part) for part in re.split(r"[._-]", self.version))

    @property
    def label(self) -> str:
        name = self.after.partition("/")[0] if "/" in self.after else self.after.partition(".")[0]
        return name.strip("_-")

    def at(self, version: str) -> str:
        return f"{self.folder}{self.before}{version}{self.after}"


def place(path: str) -> Numbered | None:
    """Where a file stands: by its own name, else by that of the folder it lies in. None without a number."""
    folder, _, name = path.rpartition("/")
    above, _, parent = folder.rpartition("/")
    for head, part in ((folder, name), (above, f"{parent}/{name}")):
        found = _FLYWAY.fullmatch(part) or _PLAIN.fullmatch(part)
        if found:
            return Numbered(f"{head}/" if head else "", found["before"], found["version"], found["after"])
    return None


def places(files: Files) -> dict[str, Numbered]:
    """path → place, for files that have one."""
    return {path: found for path in sorted(files) if (found := place(path))}


def clash(files: Files) -> str:
    """'' or two migrations of one folder that have the same number."""
    first: dict[tuple[str, Version], tuple[str, str]] = {}
    for path, found in places(files).items():
        label, before = first.setdefault((found.folder, found.number), (found.label, path))
        if label != found.label:
            return f"{before} and {path} have the same number"
    return ""


def moved(trunk: Files, own: Files) -> dict[str, bytes] | Impossible:
    """`own` with numbers behind all of trunk's in their folder, in order; those that are there stay."""
    ours, names = places(own), {path: path for path in own}
    for folder in sorted({found.folder for found in ours.values()}):
        landed = [found.number for found in places(trunk).values() if found.folder == folder]
        mine = {path: found for path, found in ours.items() if found.folder == folder}
        if landed and min(found.number for found in mine.values()) <= max(landed):
            versions = _following(max(landed), mine)
            if isinstance(versions, Impossible):
                return versions
            names.update({path: found.at(versions[found.number]) for path, found in mine.items()})
    return {names[path]: data for path, data in own.items()}


def _following(last: Version, mine: Mapping[str, Numbered]) -> dict[Version, str] | Impossible:
    """Old number → new version, as wide as it was and written in the same way."""
    spelled: dict[Version, str] = {}
    for found in mine.values():
        spelled.setdefault(found.number, found.version)
    versions = {}
    for number in sorted(spelled):
        if len(number) != len(last):
            return Impossible(
                f"versions {'.'.join(map(str, last))} and {spelled[number]} are not of one kind",
                "give the migration a version behind trunk's last one",
            )
        last = _next(last, spelled[number])
        widths = [len(part) for part in re.split(r"[._-]", spelled[number])]
        marks = re.findall(r"[._-]", spelled[number])
        parts = [f"{value:0{width}d}" for value, width in zip(last, widths, strict=True)]
        versions[number] = "".join(part + mark for part, mark in zip(parts, [*marks, ""], strict=True))
    return versions


def _next(last: Version, like: str) -> Version:
    """The number after `last`: a second later where numbers are times."""
    if len(last) == 1 and len(like) == 14:
        try:
            return (int((datetime.strptime(str(last[0]), _TIME) + timedelta(seconds=1)).strftime(_TIME)),)
        except (ValueError, OverflowError):
            pass
    return (*last[:-1], last[-1] + 1)


def folders(files: Files) -> dict[str, list[str]]:
    """The numbered folders that hold migrations, and the names in each."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(files):
        folder, _, name = path.rpartition("/")
        found[folder].append(name)
    return found
