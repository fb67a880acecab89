import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from contracts.databases import DatabasesContract, World

from agentq.databases.base import Branch, Databases
from agentq.databases.none import NoDatabases
from agentq.databases.sqlite import SqliteDatabases

ACQUIRE = """
import os, sys, time
from contracts.databases import HOUR, NOW
from agentq.databases.sqlite import SqliteDatabases
from pathlib import Path
url, store, command_id = sys.argv[1:]
branch = SqliteDatabases(url, Path("/"), Path(store)).acquire(command_id, HOUR, NOW, str(os.getpid()))
print(branch.id, flush=True)
time.sleep(60)
"""
TESTS = str(Path(__file__).parents[1])
ROOT = str(Path(__file__).parents[2])


class NoWorld:
    stores = False

    def __init__(self) -> None:
        self.databases: Databases = NoDatabases()

    def add(self, branch: Branch | None) -> None:
        raise AssertionError("nothing to write to")

    def count(self, branch: Branch | None) -> int:
        raise AssertionError("nothing to read")

    def leftovers(self) -> list[str]:
        return []

    def acquirer(self, command_id: str) -> list[str]:
        raise AssertionError("nothing to acquire")


class SqliteWorld:
    stores = True

    def __init__(self, root: Path, journal: str) -> None:
        self.dev, self.store = root / "dev.db", root / "store"
        with closing(sqlite3.connect(self.dev)) as db:
            db.execute(f"PRAGMA journal_mode={journal}")
            db.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY)")
        self.databases: Databases = SqliteDatabases(str(self.dev), root, self.store)

    def add(self, branch: Branch | None) -> None:
        with closing(sqlite3.connect(branch.url if branch else self.dev)) as db, db:
            db.execute("INSERT INTO rows DEFAULT VALUES")

    def count(self, branch: Branch | None) -> int:
        with closing(sqlite3.connect(branch.url if branch else self.dev)) as db:
            return int(db.execute("SELECT count(*) FROM rows").fetchone()[0])

    def leftovers(self) -> list[str]:
        return sorted(p.name for p in (self.store / "branches").iterdir())

    def acquirer(self, command_id: str) -> list[str]:
        code = f"import sys; sys.path[:0] = [{ROOT!r}, {TESTS!r}]\n{ACQUIRE}"
        return [sys.executable, "-c", code, str(self.dev), str(self.store), command_id]


class SqliteWithAnOpenConnection(SqliteWorld):
    """dev is in use, so its write-ahead log is never folded back."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "wal")
        self.open = sqlite3.connect(self.dev)
        self.open.execute("SELECT * FROM rows").fetchall()


class TestDatabases(DatabasesContract):
    @pytest.fixture(params=["none", "sqlite-rollback", "sqlite-wal", "sqlite-wal-in-use"])
    def world(self, request: pytest.FixtureRequest, tmp_path: Path):
        if request.param == "none":
            yield NoWorld()
        elif request.param == "sqlite-wal-in-use":
            used = SqliteWithAnOpenConnection(tmp_path)
            yield used
            used.open.close()
        else:
            world: World = SqliteWorld(tmp_path, "wal" if request.param.endswith("wal") else "delete")
            yield world
