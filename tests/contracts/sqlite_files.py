"""SQLite files as a provider's dev and branches."""

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from contracts.databases import World
from support.accounts import make_accounts, python, sound

# Moves money between two accounts for ever; the sum never changes.
TRANSFER = """
import random, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
db.execute("PRAGMA wal_autocheckpoint = 10")
db.execute("PRAGMA synchronous = OFF")
while True:
    one, two = random.sample(range(200), 2)
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE accounts SET money = money - 1 WHERE id = ?", (one,))
    db.execute("UPDATE accounts SET money = money + 1 WHERE id = ?", (two,))
    db.execute("COMMIT")
    time.sleep(0.0002)
"""


class SqliteFiles(World):
    """Whatever names SQLite files by their paths."""

    def __init__(self, root: Path, journal: str = "delete") -> None:
        self.root, self.store = root, root / "store"
        self.url = str(root / "dev.db")
        make_accounts(root / "dev.db", journal, padding=8_000)
        self.create(self.url)

    def create(self, url: str) -> None:
        with closing(sqlite3.connect(url)) as db, db:
            db.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY)")

    def add(self, url: str) -> None:
        with closing(sqlite3.connect(url)) as db, db:
            db.execute("INSERT INTO rows DEFAULT VALUES")

    def count(self, url: str) -> int:
        with closing(sqlite3.connect(url)) as db:
            return int(db.execute("SELECT count(*) FROM rows").fetchone()[0])

    def tables(self, url: str) -> list[str]:
        with closing(sqlite3.connect(url)) as db:
            return [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]

    def sound(self, url: str) -> bool:
        return sound(url)

    def leftovers(self) -> list[str]:
        return sorted(p.name for folder in ("branches", "warm") for p in self.store.glob(f"{folder}/*"))

    def writer(self) -> list[str]:
        return python(TRANSFER, self.url)

    def naive(self) -> bool:
        copy = self.root / "naive.db"
        for suffix in ("", "-wal", "-shm", "-journal"):
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copyfile(f"{self.url}{suffix}", f"{copy}{suffix}")
        return sound(copy)
