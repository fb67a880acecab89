"""The schema of the demo's project: its own tool makes the dev database, and at the end shows what has landed."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentq.core.text import plural
from agentq.databases import contents
from agentq.databases.contents import Contents
from agentq.errors import AgentqError, DatabaseError

MIGRATIONS = "migrations"
BOOKKEEPING = frozenset({"schema_migrations"})


@dataclass(frozen=True)
class Judgement:
    """What the landed migrations are worth, in lines for people."""

    good: bool
    lines: list[str]


def migrate(checkout: Path, command: str, url: str, python: str = sys.executable) -> None:
    """Run a command of the project's tool on the database at `url`. Raises DatabaseError with its words."""
    done = subprocess.run(
        [python, "-m", "notes.migrate", command], cwd=checkout, env={**os.environ, "DATABASE_URL": url},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise DatabaseError(f"'notes.migrate {command}' failed: {(done.stderr or done.stdout).strip()}", "")


def read(url: str) -> Contents:
    """What a database of the project holds. Dev may be read, too: nobody works with it before and after the
    specs, and this process has no connection of its own to lose."""
    return contents.read(url).without(BOOKKEEPING)


def judge(fresh: Path, empty: str, dev: str, before: Contents, events: Iterable[Mapping[str, Any]]) -> Judgement:
    """Build the schema from nothing with the migrations of the clone `fresh` in the database `empty`, and compare
    it with the one that followed the landings. `before`: what dev held before the specs; `events`: of all runs."""
    names = sorted(file.stem for file in (fresh / MIGRATIONS).glob("*.sql"))
    ends = " to ".join(dict.fromkeys(names[:1] + names[-1:]))
    lines = [f"{plural(len(names), 'file')} in one order: {ends}", *_clashes(events)]
    try:
        migrate(fresh, "upgrade", empty)
        migrate(fresh, "check", empty)
        built, followed = read(empty), read(dev)
    except AgentqError as error:
        return Judgement(False, [*lines, f"FAILED: {error}"])
    wrong = contents.differences(built, followed, ("what they build from nothing", "dev"))
    wrong += [f"in dev, {line}" for line in contents.lost(before, followed)]
    if wrong:
        return Judgement(False, [*lines, *(f"FAILED: {line}" for line in wrong)])
    kept = before.rows["notes"]
    return Judgement(True, [*lines, f"from nothing they build the schema that dev has; dev kept its {kept} notes"])


def _clashes(events: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line for each number that was written for more than one spec."""
    takers: dict[str, dict[str, None]] = {}
    for event in sorted((one for one in events if one["event"] == "migration"), key=lambda one: one["at"]):
        for path in event["paths"]:
            takers.setdefault(path.removeprefix(f"{MIGRATIONS}/")[:4], {})[event["of"]] = None
    return [
        f"{number} was written for {' and '.join(specs)}; the second to land was made anew"
        for number, specs in sorted(takers.items())
        if len(specs) > 1
    ]
