"""An SQLite database whose invariant is easy to check: money moves between accounts, and the sum stays."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
ACCOUNTS, EACH = 200, 100


def python(code: str, *args: object) -> list[str]:
    path = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n"
    return [sys.executable, "-c", path + code, *map(str, args)]


@contextmanager
def running(*commands: list[str]) -> Iterator[list[subprocess.Popen[str]]]:
    children = [subprocess.Popen(c, stdout=subprocess.PIPE, text=True) for c in commands]
    try:
        yield children
    finally:
        for child in children:
            child.kill()
            child.communicate()


def make_accounts(path: Path, journal: str, padding: int = 900) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"PRAGMA journal_mode={journal}")
        db.execute("CREATE TABLE accounts (id INTEGER PRIMARY KEY, money INTEGER, padding TEXT)")
        rows = ((n, EACH, "x" * padding) for n in range(ACCOUNTS))
        db.executemany("INSERT INTO accounts VALUES (?, ?, ?)", rows)


def sound(path: str | Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as db:
            check = db.execute("PRAGMA integrity_check").fetchall()
            total = db.execute("SELECT sum(money) FROM accounts").fetchone()[0]
    except sqlite3.DatabaseError:
        return False
    return check == [("ok",)] and total == ACCOUNTS * EACH


def money(path: str | Path, account: int = 1) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT money FROM accounts WHERE id = ?", (account,)).fetchone()[0])


def give(path: str | Path, account: int = 1) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE accounts SET money = money + 1 WHERE id = ?", (account,))
