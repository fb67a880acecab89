import hashlib
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from contracts.databases import HOUR, NOW, everyone
from support.accounts import EACH, give, make_accounts, money, python, sound

from agentq.databases import sqlite_copy
from agentq.databases.sqlite import SqliteDatabases
from agentq.errors import DatabaseError


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""


@pytest.fixture(params=["delete", "wal"])
def dev(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    make_accounts(tmp_path / "dev.db", request.param)
    return tmp_path / "dev.db"


@pytest.fixture
def databases(dev: Path) -> SqliteDatabases:
    return SqliteDatabases(str(dev), dev.parent, dev.parent / "store")


def files(dev: Path, folder: str) -> list[str]:
    return sorted(p.name for p in (dev.parent / "store").glob(f"{folder}/*"))


# -- generations


def test_a_generation_is_immutable_and_two_are_kept(dev: Path, databases: SqliteDatabases) -> None:
    for n in range(4):
        give(dev)
        branch = databases.acquire(str(n), HOUR, NOW, "me")
        give(branch.url)
    sealed = files(dev, "generations")
    assert len(sealed) == 2
    newest = dev.parent / "store" / "generations" / sealed[-1]
    assert newest.name == f"{branch.generation}.db"
    assert newest.stat().st_mode & 0o777 == 0o444
    assert (money(dev), money(branch.url)) == (EACH + 4, EACH + 5)
    assert money(databases.acquire("again", HOUR, NOW, "me").url) == EACH + 4


def test_sealing_changes_nothing_in_dev(tmp_path: Path) -> None:
    """Also when a log was left behind that the last connection to close would fold back."""
    dev = tmp_path / "dev.db"
    make_accounts(dev, "wal")
    leave = "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1])\n"
    leave += "with db: db.execute('UPDATE accounts SET money = money + 1 WHERE id = 1')\nos._exit(0)"
    subprocess.run(python(leave, dev), check=True)
    log = tmp_path / "dev.db-wal"
    before = digest(dev), digest(log), dev.stat().st_mtime_ns
    assert log.stat().st_size > 0
    databases = SqliteDatabases(str(dev), tmp_path, tmp_path / "store")
    assert databases.doctor()[0].ok
    assert money(databases.acquire("one", HOUR, NOW, "me").url) == EACH + 1
    assert (digest(dev), digest(log), dev.stat().st_mtime_ns) == before
    assert money(dev) == EACH + 1


def test_an_idle_dev_is_left_without_litter(dev: Path, databases: SqliteDatabases) -> None:
    databases.doctor()
    databases.seal()
    assert sorted(p.name for p in dev.parent.iterdir()) == ["dev.db", "store"]


def test_a_writer_that_holds_dev_delays_but_never_corrupts(dev: Path) -> None:
    databases = SqliteDatabases(str(dev), dev.parent, dev.parent / "store", patience=0.1)
    with closing(sqlite3.connect(dev, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE accounts SET money = money + 1 WHERE id = 1")
        during = databases.acquire("during", HOUR, NOW, "me")
        assert money(during.url) == EACH
        assert databases.seal().head == ""  # dev could not be held still, so the next one looks again
        writer.execute("COMMIT")
    assert money(databases.acquire("after", HOUR, NOW, "me").url) == EACH + 1
    assert sound(during.url)


def test_an_exclusive_holder_is_waited_for_and_then_named(tmp_path: Path) -> None:
    make_accounts(tmp_path / "dev.db", "delete")
    databases = SqliteDatabases("dev.db", tmp_path, tmp_path / "store", patience=0.1)
    with closing(sqlite3.connect(tmp_path / "dev.db", isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseError, match="locked") as caught:
            databases.seal()
    assert caught.value.retryable
    assert "another program" in caught.value.hint
    assert databases.seal().head


def test_dev_is_free_once_the_time_box_is_over(dev: Path, tmp_path: Path) -> None:
    request = {"op": "copy", "source": str(dev), "target": str(tmp_path / "copy.db"), "wait": 1.0}
    request |= {"mutex": str(tmp_path / "mutex"), "parent": os.getpid(), "hold": 1e-6}
    argv = [sys.executable, "-I", "-S", sqlite_copy.__file__, json.dumps(request)]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGALRM
    with closing(sqlite3.connect(dev, timeout=0, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
    for path in tmp_path.glob("copy.db*"):
        path.unlink()
    argv[-1] = json.dumps(request | {"hold": 0})
    answer = json.loads(subprocess.run(argv, check=True, capture_output=True).stdout)
    assert answer == {"head": "", "how": "backup"}
    assert sound(tmp_path / "copy.db")


def test_head_moves_with_every_kind_of_change(dev: Path, databases: SqliteDatabases) -> None:
    seen = [databases.head()]
    give(dev)
    seen.append(databases.head())
    with closing(sqlite3.connect(dev)) as db:
        with db:
            db.execute("UPDATE accounts SET money = 0 WHERE id = 1")
        seen.append(databases.head())
    stamp = dev.stat()
    shutil.copyfile(dev, dev.with_name("new"))
    os.utime(dev.with_name("new"), ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    dev.with_name("new").rename(dev)
    seen.append(databases.head())
    assert len(set(seen)) == len(seen)
    assert databases.head() == seen[-1]


def test_two_writes_within_one_tick_of_the_clock_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "dev.db"
    for n in range(50):
        path.write_bytes(b"%8d" % n)
        head = sqlite_copy.settled_identity(str(path))
        with path.open("r+b") as file:
            file.write(b"x")
        assert head
        assert sqlite_copy.identity(str(path)) != head


# -- branches


@pytest.mark.parametrize(
    ("url", "prefix", "query"),
    [
        ("sqlite:///{dir}/dev.db", "sqlite:///", ""),
        ("sqlite:///dev.db", "sqlite:///", ""),
        ("sqlite+aiosqlite:///dev.db?timeout=5", "sqlite+aiosqlite:///", "?timeout=5"),
        ("sqlite:dev.db", "sqlite:", ""),
        ("sqlite3:./dev.db", "sqlite3:", ""),
        ("file:{dir}/dev.db?cache=private&mode=rw", "file:", "?cache=private&mode=rw"),
        ("file:./dev.db", "file:", ""),
        ("file:%64ev.db", "file:", ""),
        ("file://{dir}/dev.db", "file://", ""),
        ("file://localhost{dir}/dev.db", "file://localhost", ""),
        ("{dir}/dev.db", "", ""),
        ("dev.db", "", ""),
    ],
)
def test_a_branch_url_has_the_form_of_the_configured_one(
    tmp_path: Path, url: str, prefix: str, query: str
) -> None:
    make_accounts(tmp_path / "dev.db", "delete")
    databases = SqliteDatabases(url.format(dir=tmp_path), tmp_path, tmp_path / "store", env="DB")
    branch = databases.acquire("one", HOUR, NOW, "me")
    path = f"{tmp_path}/store/branches/{branch.name}/data.db"
    assert branch.url == f"{prefix}{path}{query}"
    assert branch.env == {"DB": branch.url}
    assert sound(path)


@pytest.mark.parametrize(
    "url", ["", ":memory:", "sqlite://", "sqlite:///:memory:", "file:x?mode=memory", "postgres://h/d", "http:x"]
)
def test_a_url_without_an_sqlite_file_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(DatabaseError, match="does not name an SQLite file") as caught:
        SqliteDatabases(url, tmp_path, tmp_path / "store")
    assert "sqlite:////absolute/path" in caught.value.hint


def test_a_branch_of_an_earlier_boot_or_with_lost_papers_is_not_trusted(
    dev: Path, databases: SqliteDatabases
) -> None:
    first = databases.acquire("one", HOUR, NOW, "me")
    paper = dev.parent / "store" / "branches" / f"{first.id}.json"
    paper.write_text(json.dumps(json.loads(paper.read_text()) | {"boot": "another"}))
    second = databases.acquire("one", HOUR, NOW, "me")
    assert second.id != first.id
    paper.with_name(f"{second.id}.json").write_text("")
    assert databases.branches() == []
    assert databases.reap(NOW, everyone) == [second.id]
    assert files(dev, "branches") == []


def test_what_is_not_ours_stays_and_what_is_half_made_goes(dev: Path, databases: SqliteDatabases) -> None:
    whole = databases.acquire("one", HOUR, NOW, "me")
    store = dev.parent / "store"
    (store / "branches" / "notes.txt").write_text("mine")
    (store / "branches" / "b00000000000a_00000001.tmp").mkdir()
    (store / "branches" / "b00000000000b_00000001.json").write_text("{}")
    (store / "branches" / f"{whole.id}.json.tmp").write_text("{")
    (store / "generations" / "tmp_0123.db-wal").write_text("")
    assert databases.reap(NOW, everyone) == ["b00000000000a_00000001", "b00000000000b_00000001"]
    assert files(dev, "branches") == [whole.id, f"{whole.id}.json", "notes.txt"]
    assert files(dev, "generations") == [f"{whole.generation}.db"]


def test_the_store_is_private(dev: Path, databases: SqliteDatabases) -> None:
    branch = databases.acquire("one", HOUR, NOW, "me")
    store = dev.parent / "store"
    for path in (store, store / "locks", store / "branches", store / "branches" / branch.id):
        assert path.stat().st_mode & 0o777 == 0o700
    assert Path(branch.url).stat().st_mode & 0o777 == 0o600


def test_dev_is_named_by_its_absolute_path(tmp_path: Path) -> None:
    make_accounts(tmp_path / "dev.db", "delete")
    databases = SqliteDatabases("sqlite:///dev.db?timeout=5", tmp_path, tmp_path / "store", env="DB")
    assert databases.dev() == {"DB": f"sqlite:///{tmp_path}/dev.db?timeout=5"}


# -- kept ready


def test_warm_copies_of_another_generation_and_torn_ones_go(dev: Path, databases: SqliteDatabases) -> None:
    databases.warm(2)
    store = dev.parent / "store"
    old = files(dev, "warm")
    (store / "warm" / f"{old[0]}.tmp").mkdir()
    (store / "warm" / f"{old[0]}.tmp" / "data.db").write_text("half")
    databases.reap(NOW, everyone)
    assert files(dev, "warm") == old
    give(dev)
    databases.reap(NOW, everyone)
    assert files(dev, "warm") == []
    databases.warm(1)
    [new] = files(dev, "warm")
    (store / "warm" / new).rename(store / "warm" / old[0])  # as an earlier boot left it: its head names the boot
    assert not databases.acquire("one", HOUR, NOW, "me").warm
    assert databases.warm(1) == 1
    assert old[0] not in files(dev, "warm")


def test_a_claimed_copy_is_as_private_as_any(dev: Path, databases: SqliteDatabases) -> None:
    databases.warm(1)
    branch = databases.acquire("one", HOUR, NOW, "me")
    assert branch.warm
    assert files(dev, "warm") == []
    assert Path(branch.url).stat().st_mode & 0o777 == 0o600
    assert Path(branch.url).parent.stat().st_mode & 0o777 == 0o700
    assert databases.acquire("one", HOUR, NOW, "me").warm
    assert [b.warm for b in databases.branches()] == [True]


def test_none_is_kept_ready_while_dev_cannot_be_recognized(dev: Path) -> None:
    databases = SqliteDatabases(str(dev), dev.parent, dev.parent / "store", patience=0.1)
    with closing(sqlite3.connect(dev, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert databases.warm(2) == 0
    assert files(dev, "warm") == []


def test_a_dev_that_is_away_does_not_stop_the_reaper(dev: Path, databases: SqliteDatabases) -> None:
    databases.warm(1)
    branch = databases.acquire("one", HOUR, NOW, "me")
    databases.warm(1)
    dev.rename(dev.with_name("away.db"))
    assert databases.reap(NOW, lambda owner: False) == [branch.id]
    dev.with_name("away.db").rename(dev)
    assert databases.warm(1) == 1


# -- failures


def test_a_missing_dev_says_so(tmp_path: Path) -> None:
    databases = SqliteDatabases("nowhere.db", tmp_path, tmp_path / "store")
    for act in (databases.head, databases.seal, lambda: databases.acquire("one", HOUR, NOW, "me")):
        with pytest.raises(DatabaseError, match=r"nowhere\.db does not exist") as caught:
            act()
        assert "migrations" in caught.value.hint
    assert not databases.doctor()[0].ok
    assert not (tmp_path / "nowhere.db").exists()


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    (tmp_path / "dev.db").write_text("hello " * 1000)
    databases = SqliteDatabases("dev.db", tmp_path, tmp_path / "store")
    with pytest.raises(DatabaseError, match="not a database") as caught:
        databases.acquire("one", HOUR, NOW, "me")
    assert "right file" in caught.value.hint
    assert not databases.doctor()[0].ok
    assert list((tmp_path / "store" / "generations").iterdir()) == []
    (tmp_path / "dev.db").unlink()
    (tmp_path / "dev.db").mkdir()
    with pytest.raises(DatabaseError):
        databases.seal()


def test_an_empty_file_is_an_empty_database(tmp_path: Path) -> None:
    (tmp_path / "dev.db").touch()
    branch = SqliteDatabases("dev.db", tmp_path, tmp_path / "store").acquire("one", HOUR, NOW, "me")
    with closing(sqlite3.connect(branch.url)) as db:
        assert db.execute("SELECT * FROM sqlite_master").fetchall() == []


@pytest.mark.parametrize("sealed", [False, True])
def test_a_full_disk_leaves_nothing_half_made(dev: Path, databases: SqliteDatabases, sealed: bool) -> None:
    """A limit on file sizes stands in for the disk: the kernel refuses the write in the same way."""
    before = [f"{databases.seal().id}.db"] if sealed else []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DatabaseError) as caught:
            databases.acquire("one", HOUR, NOW, "me")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.hint
    assert files(dev, "generations") == before
    assert not (dev.parent / "store" / "branches").exists() or files(dev, "branches") == []
    assert sound(databases.acquire("one", HOUR, NOW, "me").url)


def test_an_unreadable_dev_says_so(dev: Path, databases: SqliteDatabases) -> None:
    dev.chmod(0)
    if os.access(dev, os.R_OK):
        pytest.skip("root may read everything")
    with pytest.raises(DatabaseError, match="unable to open") as caught:
        databases.seal()
    assert "can be read" in caught.value.hint


def test_a_store_that_cannot_be_made_says_so(dev: Path) -> None:
    (dev.parent / "store").write_text("in the way")
    databases = SqliteDatabases(str(dev), dev.parent, dev.parent / "store")
    with pytest.raises(DatabaseError, match="store"):
        databases.acquire("one", timedelta(hours=1), NOW, "me")
    assert [f.ok for f in databases.doctor()] == [True, False]
