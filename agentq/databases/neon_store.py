"""What a host keeps about its branches at Neon. One directory holds everything, mode 0700:

    id                    8 hex digits that stand in the name of each branch this directory made
    branches/NAME.json    whose a branch is; written before it is asked for, removed after it is gone
    locks/changes.lock    held by whoever changes something at Neon; never removed

Neon's own annotations can be set when a branch is made, but not changed, so what changes (owner, end) is kept
here. No secret is: of a password only a digest. Whoever holds the lock and finds a record that is not complete
knows that its maker is gone.
"""

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from agentq import locks
from agentq.errors import DatabaseError
from agentq.repository import private_dir

BRANCH, EMPTY, READY = "b", "e", "w"
NAME = re.compile(r"agentq_([bew])([0-9a-f]{12})_([0-9a-f]{8})_[0-9a-f]{8}")
TURN = 900.0  # s to wait for the lock: others' branches are made one after the other


@dataclass(frozen=True)
class Record:
    """`id`, `parent`: Neon's ids. `ends` is when Neon itself destroys it. `proof` is the digest of the password,
    "" until the branch is complete. `doomed`: it was released."""

    name: str
    owner: str
    generation: str
    expires_at: datetime
    ends: datetime
    parent: str
    id: str = ""
    database: str = ""
    role: str = ""
    proof: str = ""
    warm: bool = False
    doomed: bool = False

    @property
    def kind(self) -> str:
        return self.name[len("agentq_")]

    @property
    def usable(self) -> bool:
        return bool(self.proof) and not self.doomed


def digest(branch: str, password: str) -> str:
    """What is kept of a password, which is long and random."""
    return sha256(f"{branch} {password}".encode()).hexdigest()


class Busy(DatabaseError):
    """The lock was not free in time."""


class NeonStore:
    """The directory of one project. Raises DatabaseError when it cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()

    @contextmanager
    def changes(self, seconds: float = TURN) -> Iterator[None]:
        """Exclude the threads and processes of this host: parallel changes meet 423 (databases facts, Neon)."""
        from filelock import Timeout

        with ExitStack() as stack:
            try:
                private_dir(private_dir(self._path.parent) / self._path.name)
                stack.enter_context(locks.lock(self._path / "locks", "changes", seconds))
            except Timeout:
                text = f"another process has been changing branches at Neon for {seconds:.0f} s"
                raise Busy(text, "try again", retryable=True) from None
            except OSError as exc:
                raise self._failed(exc) from exc
            yield

    def used(self) -> bool:
        """Whether anything was ever made from here."""
        return (self._path / "id").exists()

    def id(self) -> str:
        """Who made a branch; two directories never have the same. Made on first use, under the lock."""
        path = self._path / "id"
        with self._failing():
            if not path.exists():
                self._put(path, secrets.token_hex(4))
            found = path.read_text()
        if not re.fullmatch(r"[0-9a-f]{8}", found):
            raise DatabaseError(f"{path} is damaged", "remove it; what it had made, Neon ends by itself")
        return found

    def new_name(self, kind: str, key: str) -> str:
        return f"agentq_{kind}{key}_{self.id()}_{secrets.token_hex(4)}"

    def mine(self, name: str) -> bool:
        """Whether a name is one of those this directory gave."""
        found = NAME.fullmatch(name)
        return found is not None and self.used() and found[3] == self.id()

    def names(self, prefix: str = "") -> list[str]:
        """Branches of which there is a record."""
        with self._failing():
            try:
                files = os.listdir(self._path / "branches")  # noqa: PTH208
            except FileNotFoundError:
                return []
        names = (file.removesuffix(".json") for file in files if file.endswith(".json"))
        return sorted(name for name in names if NAME.fullmatch(name) and name.startswith(prefix))

    def read(self, name: str) -> Record | None:
        """None when absent or unreadable: then nobody can own the branch."""
        with self._failing():
            try:
                raw = json.loads(self._file(name).read_bytes())
                moments = {key: datetime.fromisoformat(raw[key]) for key in ("expires_at", "ends")}
                record = Record(**(raw | moments))
            except (FileNotFoundError, ValueError, KeyError, TypeError):
                return None
        return record if record.name == name else None

    def write(self, record: Record) -> Record:
        with self._failing():
            private_dir(self._path / "branches")
            self._put(self._file(record.name), json.dumps(asdict(record), default=datetime.isoformat))
        return record

    def drop(self, name: str) -> None:
        with self._failing(), suppress(FileNotFoundError):
            self._file(name).unlink()

    def sweep(self) -> None:
        """Remove what writers that were killed left. Under the lock."""
        with self._failing():
            for stale in (self._path / "branches").glob(".*.tmp"):
                stale.unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._path / "branches" / f"{name}.json"

    def _put(self, path: Path, text: str) -> None:
        """A reader sees the old or the new. The lock keeps writers apart."""
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(text)
        temporary.chmod(0o600)
        temporary.rename(path)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise self._failed(exc) from exc

    def _failed(self, exc: OSError) -> DatabaseError:
        return DatabaseError(f"{self._path} cannot be used: {exc.strerror}", "check the disk and the permissions")
