"""Branches made by commands of your own: a container, a hosted service, a script of the company.

    create        makes the database `{name}`, a copy of dev as it is then
    create_empty  makes the database `{name}` without content
    locate        prints the URL of `{name}`; without it, `create` prints it on its last line
    drop          destroys `{name}`; one that is gone is no error, nor is one that was made in part

`{name}` is also in the environment, as AGENTQ_DATABASE. `create` finds dev's URL there, under the configured
variable; the others do not find that variable at all, so what `drop` or `create_empty` clears is never dev.
Otherwise the commands get the whole environment of agentq, unlike those of a project: they use your credentials,
whose names nobody else knows, and run none of an agent's code.

The processes of a command end with it. What serves the database must not be one of them: a container and a service
are not.

`branches/NAME.json` below the store says whose a branch is. It is on disk before `create` starts and goes after
`drop` succeeded, so whatever a crash left is dropped by the next `reap`, by its name.
"""

import json
import os
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

from agentq import process
from agentq.core.finding import Finding
from agentq.databases.base import EMPTY, Branch, Generation, command_key
from agentq.databases.command_run import Runner, findings
from agentq.databases.command_same import same_database
from agentq.databases.sqlite_store import Busy, Store, failed_os
from agentq.errors import DatabaseError

NAME = re.compile(r"aq_([be])([0-9a-f]{12})_[0-9a-f]{8}")
LIVE = "live"  # the generation of every branch that is not empty: dev is copied, not a sealed copy of it
LOCK_LIMIT = 1200.0  # s; a create and a drop may be before us


@dataclass(frozen=True)
class _Paper:
    """Whose a branch is. `url` is "" until it is complete, and again once it is to be dropped."""

    command_id: str
    owner: str
    expires_at: datetime
    url: str = field(default="", repr=False)


class CommandDatabases:
    """Satisfies `Databases` with the commands of `[database]`, run by a shell in `root`.

    `store`, made on first use with mode 0700, holds the papers. `env` is the variable that carries a URL, `url` is
    dev's. There are no generations and none is kept ready: nobody here can tell whether dev moved.
    """

    name = "command"

    def __init__(
        self,
        create: str,
        create_empty: str,
        locate: str,
        drop: str,
        store: Path,
        env: str = "DATABASE_URL",
        url: str = "",
        root: Path = Path(),
    ) -> None:
        self._commands = {"create": create, "create_empty": create_empty, "locate": locate, "drop": drop}
        self._store = Store(store)
        self._env = env
        self._url = url
        self._runner = Runner(root.absolute(), env, url)

    def head(self) -> str:
        """Another one each time, because dev may have moved each time."""
        return secrets.token_hex(8)

    def seal(self) -> Generation:
        return Generation(LIVE, "")

    def dev(self) -> Mapping[str, str]:
        if not self._url:
            raise DatabaseError(
                "[database] url is empty, so there is no dev to migrate",
                "set it, best in the environment: AGENTQ_DATABASE_URL",
            )
        return {self._env: self._url}

    def moving(self) -> AbstractContextManager[None]:
        """Only `create` can tell what it copies."""
        return nullcontext()

    def warm(self, count: int) -> int:  # noqa: ARG002
        return 0

    def acquire(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        """See `Databases`. A repeat takes the branch over for its owner and never shortens its life."""
        return self._take("b", command_id, ttl, now, owner)

    def empty(self, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        return self._take("e", command_id, ttl, now, owner)

    # ------------------------------------------------------------ making

    def _take(self, kind: str, command_id: str, ttl: timedelta, now: datetime, owner: str) -> Branch:
        """`kind`: b for a copy of dev, e for one without content."""
        key = command_key(command_id)
        with self._lock(key, LOCK_LIMIT):
            for name in self._names(f"aq_{kind}{key}_"):
                paper = self._read(name)
                if paper and paper.url and paper.expires_at > now:
                    paper = replace(paper, owner=owner, expires_at=max(paper.expires_at, now + ttl))
                    self._write(name, paper)
                    return self._branch(name, paper)
                with suppress(DatabaseError):  # a drop that fails is the reaper's to tell
                    self._remove(name)
            name = f"aq_{kind}{key}_{secrets.token_hex(4)}"
            return self._make(name, _Paper(command_id, owner, now + ttl))

    def _make(self, name: str, paper: _Paper) -> Branch:
        """A fresh branch. The caller holds its lock."""
        what = "create" if name[3] == "b" else "create_empty"
        for needed in (what, "drop"):
            if not self._commands[needed]:
                raise DatabaseError(
                    f"[database] {needed} is empty, and the provider 'command' cannot do without it",
                    f"write the command that {'destroys' if needed == 'drop' else 'makes'} the database {{name}}",
                )
        self._write(name, paper)
        try:
            printed = self._run(what, name)
            url = self._run("locate", name) if self._commands["locate"] else printed
            return self._branch(name, self._complete(name, paper, url))
        except BaseException:
            with suppress(DatabaseError):  # the paper stays, so the reaper tries again
                self._remove(name)
            raise

    def _complete(self, name: str, paper: _Paper, url: str) -> _Paper:
        """The paper with the URL on it. DatabaseError if that cannot be the branch's."""
        what = "locate" if self._commands["locate"] else "create"
        if not url:
            raise DatabaseError(
                f"[database] {what} printed no URL for {name}", "its last line must be the URL, and nothing else"
            )
        with self._store.lock("urls", LOCK_LIMIT):
            if same_database(url, self._url):
                raise DatabaseError(f"[database] {what} gave the URL of dev for {name}", "it must make a copy")
            papers = (self._read(other) for other in self._names() if other != name)
            if any(other and same_database(url, other.url) for other in papers):
                raise DatabaseError(
                    f"[database] {what} gave the URL of another branch for {name}", "it must depend on {name}"
                )
            complete = replace(paper, url=url)
            self._write(name, complete)
            return complete

    def _run(self, what: str, name: str) -> str:
        """The last line of what one of the commands prints. DatabaseError when it fails."""
        return self._runner.run(what, self._commands[what], name, self._store.folder("output"))

    # ------------------------------------------------------------ the end

    def release(self, branch_id: str) -> None:
        found = NAME.fullmatch(branch_id)
        if found is None:
            return
        with self._lock(found[2], LOCK_LIMIT):
            if branch_id in self._names():
                self._remove(branch_id)

    def branches(self) -> list[Branch]:
        papers = ((name, self._read(name)) for name in self._names())
        return [self._branch(name, paper) for name, paper in papers if paper and paper.url]

    def reap(self, now: datetime, alive: Callable[[str], bool]) -> list[str]:
        """See `Databases`. What another process is working on right now is left for the next time.

        A branch that cannot be dropped does not keep the others: DatabaseError comes after all were tried.
        """
        removed: list[str] = []
        failure: DatabaseError | None = None
        for name in self._names():
            try:
                with self._lock(name[4:16], 0):
                    if name in self._names() and not self._wanted(name, now, alive):
                        self._remove(name)
                        removed.append(name)
            except Busy:
                continue
            except DatabaseError as exc:
                failure = failure or exc
        if failure:
            raise failure
        return removed

    def _wanted(self, name: str, now: datetime, alive: Callable[[str], bool]) -> bool:
        """Whether a branch stays; an unfinished one does not: its lock is ours, so its maker is gone."""
        paper = self._read(name)
        return bool(paper and paper.url and paper.expires_at > now and alive(paper.owner))

    def _remove(self, name: str) -> None:
        """Out of sight first, its paper last. The caller holds its lock. DatabaseError."""
        # A maker that was killed may have left a command that is still at it.
        process.kill_strays(self._runner.marker(name))
        paper = self._read(name)
        if paper and paper.url:
            self._write(name, replace(paper, url=""))
        if self._commands["drop"]:
            self._run("drop", name)
        else:
            raise DatabaseError(f"database {name} stays: [database] drop is empty", "write the command")
        try:
            for suffix in (".json.tmp", ".json"):
                (self._store.path / "branches" / f"{name}{suffix}").unlink(missing_ok=True)
        except OSError as exc:
            raise failed_os(f"removing branch {name}", exc) from exc

    # ------------------------------------------------------------ papers

    def _lock(self, key: str, seconds: float) -> AbstractContextManager[None]:
        return self._store.lock(f"branch_{key[:2]}", seconds)

    def _branch(self, name: str, paper: _Paper) -> Branch:
        generation = EMPTY if name[3] == "e" else LIVE
        return Branch(name, name, generation, paper.url, {self._env: paper.url}, paper.expires_at, paper.owner)

    def _names(self, prefix: str = "aq_") -> list[str]:
        """Branches that may exist."""
        stems = {name.partition(".")[0] for name in self._store.listing("branches") if name.startswith(prefix)}
        return sorted(stem for stem in stems if NAME.fullmatch(stem))

    def _read(self, name: str) -> _Paper | None:
        """None when absent or unreadable: then nobody can own the branch."""
        try:
            data = json.loads((self._store.path / "branches" / f"{name}.json").read_bytes())
            return _Paper(**{**data, "expires_at": datetime.fromisoformat(data["expires_at"])})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        except OSError as exc:
            raise failed_os(f"reading who owns {name}", exc) from exc

    def _write(self, name: str, paper: _Paper) -> None:
        """On disk when it returns: the database outlives a power cut. It holds a secret."""
        folder = self._store.folder("branches")
        temporary = folder / f"{name}.json.tmp"
        text = json.dumps({**asdict(paper), "expires_at": paper.expires_at.isoformat()})
        try:
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "w") as out:
                out.write(text)
                out.flush()
                os.fsync(out.fileno())
            temporary.rename(folder / f"{name}.json")
            directory = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as exc:
            raise failed_os(f"writing down who owns {name}", exc) from exc

    def doctor(self) -> list[Finding]:
        return findings(self._commands, self._runner.root)
