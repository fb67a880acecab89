import sqlite3
from pathlib import Path

import pytest
from contracts.databases import DatabasesContract, World
from contracts.sqlite_files import SqliteFiles

from agentq.databases.none import NoDatabases
from agentq.databases.sqlite import SqliteDatabases


class NoWorld(World):
    stores = warms = False

    def __init__(self) -> None:
        self.databases = NoDatabases()

    def leftovers(self) -> list[str]:
        return []


class SqliteWorld(SqliteFiles):
    def __init__(self, root: Path, journal: str) -> None:
        super().__init__(root, journal)
        self.databases = SqliteDatabases(self.url, root, self.store)

    def source(self) -> str:
        return (
            "from pathlib import Path\nfrom agentq.databases.sqlite import SqliteDatabases\n"
            f"databases = SqliteDatabases({self.url!r}, Path('/'), Path({str(self.store)!r}))\n"
        )


class SqliteWithAnOpenConnection(SqliteWorld):
    """dev is in use, so its write-ahead log holds something and is never folded back."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "wal")
        self.open = sqlite3.connect(self.url)
        self.open.execute("SELECT * FROM rows").fetchall()
        self.add(self.url)


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
            yield SqliteWorld(tmp_path, "wal" if request.param.endswith("wal") else "delete")
