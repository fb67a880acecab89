"""The database branches of this host, as people see and use them: `agentq db`.

The owner of a branch is the process that works with it, or a person. A process owns it as long as it lives, a
person until a time that the owner's text names: so a branch made by hand is not reaped as if its maker had died.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from agentq import process
from agentq.databases.base import EMPTY, Branch, Databases
from agentq.errors import UserError
from agentq.store.runs import Live

PERSON = "person until "


@dataclass(frozen=True)
class Row:
    """One branch. `who`: the spec and stage it serves, a person, or a process that is gone."""

    name: str
    generation: str
    who: str
    expires: datetime


def alive(owner: str, now: datetime) -> bool:
    """Whether whoever owns a branch may still use it."""
    if owner.startswith(PERSON):
        return datetime.fromisoformat(owner.removeprefix(PERSON)) > now
    return process.alive(owner)


def reap(databases: Databases, now: datetime) -> list[str]:
    """Destroy what dead owners left, and what lived longer than anything may; the names. DatabaseError."""
    return databases.reap(now, lambda owner: alive(owner, now))


def rows(databases: Databases, live: Mapping[str, Live], now: datetime) -> list[Row]:
    """Every branch, by name. DatabaseError."""
    working = {run.owner: f"{run.spec} ({run.stage})" for run in live.values()}
    return [
        Row(one.name, one.generation, working.get(one.owner) or _who(one.owner, now), one.expires_at)
        for one in databases.branches()
    ]


def _who(owner: str, now: datetime) -> str:
    if owner.startswith(PERSON):
        return "a person" if alive(owner, now) else "a person, expired"
    return f"process {owner.partition('/')[0]}" if process.alive(owner) else "nobody: reaped soon"


def make(databases: Databases, root: Path, label: str, hours: float, now: datetime, *, empty: bool) -> Branch:
    """A branch for a person; the same one again for the same label in the same repository, whose folder is `root`.
    DatabaseError, UserError."""
    _needs_database(databases)
    until = now + timedelta(hours=hours)
    acquire = databases.empty if empty else databases.acquire
    # Other hosts, and other clones of this one, may share dev; each has its own.
    place = f"{platform.node()}:{root.absolute()}"
    return acquire(
        f"person-{label}-{place}", timedelta(hours=hours), now, PERSON + until.isoformat(timespec="seconds")
    )


def find(databases: Databases, name: str) -> Branch:
    """Raises UserError when there is no such branch."""
    _needs_database(databases)
    found = databases.branches()
    for one in found:
        if name in (one.name, one.id):
            return one
    known = "; ".join(one.name for one in found[:5])
    raise UserError(f"there is no database branch '{name}'", f"there are: {known}" if known else "there is none")


def _needs_database(databases: Databases) -> None:
    if databases.name == "none":
        raise UserError("no database is configured", "set [database] provider and url in agents/config.toml")


def in_words(found: list[Row], provider: str, warm: int, now: datetime) -> list[str]:
    """The table of `db list`, at most 80 columns where names allow."""
    lines = [f"provider {provider}" + (f", {warm} kept ready" if warm else "")]
    width = max((len(row.name) for row in found), default=0)
    for row in found:
        what = "empty" if row.generation == EMPTY else row.generation
        lines.append(f"{row.name:<{width}}  {_left(row.expires - now):>8}  {row.who}  [{what}]")
    return lines if found else [*lines, "no branches"]


def _left(left: timedelta) -> str:
    minutes = int(left.total_seconds() // 60)
    if minutes < 0:
        return "expired"
    return f"{minutes // 60} h {minutes % 60:02} m" if minutes >= 60 else f"{minutes} m"
