"""A provider for the fake Neon, and the world of the contract around it.

Test modules import both fixtures: `neon_fixture` here, `neon_document` from support.neon_document.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from contracts.databases import NOW, World
from contracts.sqlite_files import TRANSFER
from support.accounts import python, sound
from support.neon import KEY, PROJECT, NeonServer
from support.neon_document import checker

from agentq.core.sections import Neon
from agentq.databases.neon import NeonDatabases
from agentq.databases.neon_api import Timing


class Clock:
    """Time that passes only by being slept through. `slept` holds every sleep (s); the first waits at `barrier`."""

    def __init__(self, barrier: threading.Barrier | None = None) -> None:
        self.now, self.slept, self.barrier = 1000.0, list[float](), barrier
        self._lock = threading.Lock()

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds
            self.slept.append(seconds)
            first = len(self.slept) == 1
        if first and self.barrier:
            self.barrier.wait()
        time.sleep(0.0005)  # let the others go on

    def timing(self, random: float = 0.5) -> Timing:
        return Timing(lambda: self.now, self.sleep, lambda: random, lambda: datetime(2026, 1, 2, tzinfo=UTC))


def provider(
    url: str, store: Path, clock: Clock | None = None, patience: float = 30.0, **settings: object
) -> NeonDatabases:
    chosen = Neon(**({"project": PROJECT, "api": url} | settings))  # type: ignore[arg-type]
    return NeonDatabases(
        chosen, store, "DATABASE_URL", {"NEON_API_KEY": KEY}, (clock or Clock()).timing(), patience
    )


class NeonWorld(World):
    """Content is real, behind SQLite files: every access goes through the URL that was handed out. Whoever uses
    dev wakes its compute, which is suspended again at once."""

    def __init__(self, server: NeonServer, store: Path, **settings: object) -> None:
        self.server, self.store, self.clock = server, store, Clock()
        self.url = server.dev_url()
        self.databases = provider(server.url, store, self.clock, **settings)

    def _run(self, url: str, statement: str) -> list[tuple[str | int, ...]]:
        with closing(sqlite3.connect(self.server.open(url))) as db, db:
            return db.execute(statement).fetchall()

    def add(self, url: str) -> None:
        self._run(url, "INSERT INTO rows DEFAULT VALUES")

    def count(self, url: str) -> int:
        return int(self._run(url, "SELECT count(*) FROM rows")[0][0])

    def tables(self, url: str) -> list[str]:
        return [str(name) for (name,) in self._run(url, "SELECT name FROM sqlite_master WHERE type = 'table'")]

    def create(self, url: str) -> None:
        self._run(url, "CREATE TABLE rows (n INTEGER PRIMARY KEY)")

    def sound(self, url: str) -> bool:
        return sound(self.server.open(url))

    def leftovers(self) -> list[str]:
        folder = self.store / "neon" / PROJECT / "branches"
        return self.server.left() + sorted(path.name for path in folder.glob("*"))

    def source(self) -> str:
        return (
            "from pathlib import Path\nfrom support.neon_world import provider\n"
            f"databases = provider({self.server.url!r}, Path({str(self.store)!r}))\n"
        )

    def writer(self) -> list[str]:
        """From now on dev's compute runs."""
        self.server.dev.active = True
        return python(TRANSFER, self.server.open(self.url))


@pytest.fixture(name="neon")
def neon_fixture(neon_document: dict[str, Any], tmp_path: Path) -> Iterator[NeonWorld]:
    """A world whose every request and response fits Neon's document."""
    with NeonServer(tmp_path / "neon", checker(), NOW) as server:
        yield NeonWorld(server, tmp_path / "store")
        assert server.violations == []
