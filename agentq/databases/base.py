"""The port every database provider implements, and the values it speaks in.

A provider never clones a live `dev`: it seals a *generation* (an immutable copy that nobody is connected to)
and makes every *branch* from one. One command gets one fresh branch.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from agentq.core.finding import Finding

EMPTY = "empty"
_PORTS = {"postgres": 5432, "postgresql": 5432, "mysql": 3306, "mariadb": 3306, "redis": 6379}


@dataclass(frozen=True)
class Generation:
    """An immutable copy of dev. `head` is dev's identity at that moment, "" if that was unknown."""

    id: str
    head: str


@dataclass(frozen=True)
class Branch:
    """A private database of one command.

    `id` and `name` match `^[a-z][a-z0-9_]{0,50}$`. `url` is a secret ("" without a database), `env` holds it
    under the configured variables: neither appears in the repr. `generation` is the id it was made from.
    `expires_at` is aware. `owner` is the opaque identity of the process that asked for it. `warm`: it was claimed
    from those kept ready. One without content is of the generation EMPTY. `folder`: where its files are, if it is
    made of files; whoever uses it writes there.
    """

    id: str
    name: str
    generation: str
    url: str = field(repr=False)
    env: Mapping[str, str] = field(repr=False)
    expires_at: datetime
    owner: str
    warm: bool = field(default=False, compare=False)
    folder: Path | None = field(default=None, compare=False)


class Databases(Protocol):
    """Makes database branches. Safe to share between threads; safe between processes on one host.

    Every method raises DatabaseError when the database or its store fails, ConfigError when it is not set up.
    """

    name: str

    def doctor(self) -> list[Finding]:
        """What works and what does not. Raises nothing for a broken set-up: that is a finding."""
        ...

    def head(self) -> str:
        """A cheap identity of dev: another value whenever dev's content may have changed."""
        ...

    def seal(self) -> Generation:
        """The current generation: the existing one while dev's head stands still, else a new one."""
        ...

    def dev(self) -> Mapping[str, str]:
        """The variables that name dev itself: secret, for canonical migrations alone. {} without a database."""
        ...

    def moving(self) -> AbstractContextManager[None]:
        """While the block lasts we change dev: nobody on this host (or, where the database itself can say so, on
        any) copies it half-way or ends our session there."""
        ...

    def acquire(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        """A branch of the current generation. A repeat for the same command returns the same branch."""
        ...

    def empty(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        """A database without any content, as `acquire` in all else, but never the same branch as its."""
        ...

    def warm(self, count: int) -> int:
        """Make branches of the current generation until `count` are ready for `acquire`, and destroy ready ones
        of other generations. Returns how many are ready; 0 where nothing would be gained."""
        ...

    def release(self, branch_id: str) -> None:
        """Destroy a branch. One that is gone, or never was, is no error."""
        ...

    def branches(self) -> list[Branch]:
        """The complete branches, by name."""
        ...

    def reap(self, now: datetime, alive: Callable[[str], bool]) -> list[str]:
        """Destroy what a crash left and branches that expired or whose owner is dead; their ids, sorted."""
        ...


def command_key(command_id: str) -> str:
    """12 hex digits that stand for a command in names, which are never built from the text itself."""
    return sha256(command_id.encode()).hexdigest()[:12]


def places(branch: Branch) -> tuple[tuple[Path, ...], tuple[tuple[str, int], ...]]:
    """(folders, addresses) an agent needs for its database branch: where its files or its socket are, or where it
    listens."""
    if branch.folder is not None:
        return (branch.folder,), ()
    try:
        url = urlsplit(branch.url)
        host = unquote(parse_qs(url.query).get("host", [url.hostname or ""])[0])
        port = url.port or _PORTS.get(url.scheme.partition("+")[0], 0)
    except ValueError:
        return (), ()
    if host.startswith("/"):
        return (Path(host),), ()
    return (), (((host, port),) if host and port else ())
