import fcntl
import random
import signal
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from contracts.databases import HOUR, NOW, everyone
from support.accounts import make_accounts, python, running, sound

from agentq.databases.sqlite import SqliteDatabases

# Moves dev and acquires, for ever; every other branch is released.
CHURN = """
import os, sqlite3, sys
from contextlib import closing
from pathlib import Path
from contracts.databases import HOUR, NOW
from agentq.databases.sqlite import SqliteDatabases
dev, store = sys.argv[1:]
databases = SqliteDatabases(dev, Path("/"), Path(store))
print("ready", flush=True)
for n in range(10**9):
    with closing(sqlite3.connect(dev, timeout=30)) as db, db:
        db.execute("UPDATE accounts SET money = money WHERE id = 1")
    branch = databases.acquire(f"{os.getpid()} {n}", HOUR, NOW, str(os.getpid()))
    if n % 2:
        databases.release(branch.id)
"""

SEAL = """
import sys
from pathlib import Path
from agentq.databases.sqlite import SqliteDatabases
SqliteDatabases(sys.argv[1], Path("/"), Path(sys.argv[2]), patience=0.5).seal()
"""

ACQUIRE_MANY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from contracts.databases import HOUR, NOW
from agentq.databases.sqlite import SqliteDatabases
dev, store, who = sys.argv[1:]
databases = SqliteDatabases(dev, Path("/"), Path(store))
with ThreadPoolExecutor(4) as pool:
    for branch in pool.map(lambda n: databases.acquire(f"{who} {n}", HOUR, NOW, "me"), range(4)):
        print(branch.url)
"""


@pytest.fixture(params=["delete", "wal"])
def dev(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make_accounts(tmp_path / "dev.db", request.param, padding=8_000)
    return tmp_path / "dev.db"


@pytest.fixture
def databases(dev: Path) -> SqliteDatabases:
    return SqliteDatabases(str(dev), dev.parent, dev.parent / "store")


def files(dev: Path, folder: str) -> list[str]:
    return sorted(p.name for p in (dev.parent / "store").glob(f"{folder}/*"))


def test_sixteen_acquirers_in_four_processes_get_sixteen_branches(dev: Path, databases: SqliteDatabases) -> None:
    with running(*[python(ACQUIRE_MANY, dev, dev.parent / "store", n) for n in range(4)]) as children:
        urls = [url for child in children for url in child.communicate(timeout=30)[0].split()]
    assert len(set(urls)) == 16
    assert all(sound(url) for url in urls)
    assert len(databases.branches()) == 16
    assert len(files(dev, "generations")) == 1


def test_nothing_leaks_when_the_maker_is_killed_anywhere(dev: Path, databases: SqliteDatabases) -> None:
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    for _ in range(6):
        with running(python(CHURN, dev, dev.parent / "store")) as [child]:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(chance.uniform(0, 0.12))
            child.send_signal(signal.SIGKILL)
            child.wait()
        databases.reap(NOW, lambda owner: False)
        assert files(dev, "branches") == [], f"seed {seed}"
        sealed = files(dev, "generations")
        assert [name for name in sealed if name.startswith("tmp")] == [], f"seed {seed}"
        assert len(sealed) <= 2
        assert sound(databases.acquire("after", HOUR, NOW, "me").url), f"seed {seed}"
        databases.reap(NOW, lambda owner: False)


def held(lock: Path) -> bool:
    with suppress(FileNotFoundError), lock.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_the_reaper_waits_for_a_copy_whose_maker_was_killed(dev: Path, databases: SqliteDatabases) -> None:
    copying = dev.parent / "store" / "locks" / "copy.lock"
    with closing(sqlite3.connect(dev, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with running(python(SEAL, dev, dev.parent / "store")) as [child]:
            deadline = time.monotonic() + 10
            while not held(copying) and time.monotonic() < deadline:
                time.sleep(0.005)
            assert held(copying)
            child.send_signal(signal.SIGKILL)
            child.wait()
        databases.reap(NOW, everyone)
        assert not held(copying)
        assert files(dev, "generations") == []


def test_an_acquire_is_fast(tmp_path: Path) -> None:
    dev = tmp_path / "dev.db"
    make_accounts(dev, "wal", padding=55_000)
    assert dev.stat().st_size > 10_000_000
    databases = SqliteDatabases(str(dev), tmp_path, tmp_path / "store")
    databases.seal()
    took = []
    for n in range(5):
        start = time.perf_counter()
        databases.acquire(str(n), HOUR, NOW, "me")
        took.append(time.perf_counter() - start)
    assert min(took) < 0.2
