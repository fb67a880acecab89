"""What the provider promises beside the contract: on the server, between hosts, and when something is missing."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from contracts.databases import HOUR, NOW, everyone, nobody
from support.accounts import python
from support.postgres import Server, postgres, server  # noqa: F401
from support.postgres_world import PostgresWorld, rows

from agentq.databases.postgres import PostgresDatabases
from agentq.databases.postgres_dump import PLACES
from agentq.errors import DatabaseError

CLOSE = """
import os, signal
with databases._server.session("closing dev") as db:
    databases._generations.seal(db)
    with databases._generations._closed(db):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def world(postgres: Server, tmp_path: Path) -> Iterator[PostgresWorld]:  # noqa: F811
    made = PostgresWorld(postgres, tmp_path)
    yield made
    made.destroy()


def another_host(world: PostgresWorld, tmp_path: Path) -> PostgresDatabases:
    return PostgresDatabases(world.url, tmp_path / "another host")


def test_two_devs_do_not_see_each_other(world: PostgresWorld, tmp_path: Path) -> None:
    other = PostgresWorld(world.server, tmp_path / "two")
    try:
        mine, theirs = (one.databases.acquire("one", HOUR, NOW, "me") for one in (world, other))
        world.databases.release(theirs.id)
        assert world.databases.reap(NOW, nobody) == [mine.id]
        assert other.databases.branches() == [theirs]
    finally:
        other.destroy()


# ---------------------------------------------------------------- what a copy lacks


def test_settings_of_dev_hold_in_branches(world: PostgresWorld) -> None:
    world.server.run(
        f'ALTER DATABASE {world.name} SET search_path = shop, "$user", "odd, \'name";'
        f"ALTER DATABASE {world.name} SET app.word = 'it''s'; ALTER DATABASE {world.name} SET work_mem = '5MB';"
        f"ALTER ROLE postgres IN DATABASE {world.name} SET work_mem = '6MB';"
        f"ALTER DATABASE {world.name} SET role = 'pg_monitor'"
    )
    for warm in (0, 1):
        world.databases.warm(warm)
        branch = world.databases.acquire(str(warm), HOUR, NOW, "me")
        names = ("search_path", "app.word", "work_mem", "role")
        found = rows(branch.url, "SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
        assert found == [('shop, "$user", "odd, \'name"', "it's", "6MB", world.names.group)]


def test_a_dump_holds_what_a_copy_holds(world: PostgresWorld) -> None:
    from agentq.databases.contents import differences, read

    world.server.run(
        "CREATE SCHEMA shop; CREATE TABLE shop.orders (id serial, t text COLLATE \"C\"); CREATE EXTENSION hstore;"
        "INSERT INTO shop.orders (t) SELECT 'x' FROM generate_series(1, 9); CREATE VIEW v AS SELECT 1 AS n;"
        "SELECT lo_from_bytea(4711, 'abc')",
        world.name,
    )  # fmt: skip
    copied = world.databases.acquire("copied", HOUR, NOW, "me")
    with psycopg.connect(world.url):
        world.add(world.url)
        dumped = world.databases.acquire("dumped", HOUR, NOW, "me")
    assert dumped.generation != copied.generation
    one, two = read(copied.url), read(dumped.url)
    assert differences(one, two, ("copy", "dump")) == []
    assert (one.rows["rows"], two.rows["rows"]) == (0, 1)
    assert one.rows["shop.orders"] == two.rows["shop.orders"] == 9
    for url in (copied.url, dumped.url):
        assert rows(url, "INSERT INTO shop.orders (t) VALUES ('y') RETURNING id") == [(10,)]
        assert rows(url, "SELECT lo_get(4711)") == [(b"abc",)]
        assert rows(url, "SELECT reltuples FROM pg_class WHERE relname = 'accounts'") != [(-1.0,)]


def test_dev_in_use_is_left_alone(world: PostgresWorld) -> None:
    with psycopg.connect(world.url, autocommit=True) as held:
        held.execute("CREATE TEMP TABLE mine (n int)")
        began = time.monotonic()
        world.databases.acquire("one", HOUR, NOW, "me")
        assert time.monotonic() - began < 4, "the server waits 5 s for others to leave a database that is copied"
        held.execute("INSERT INTO mine VALUES (1)")


# ---------------------------------------------------------------- hosts


def test_another_hosts_owner_is_not_judged_here(world: PostgresWorld, tmp_path: Path) -> None:
    other = another_host(world, tmp_path)
    mine, theirs = world.databases.acquire("one", HOUR, NOW, "me"), other.acquire("two", HOUR, NOW, "them")
    assert world.databases.reap(NOW, nobody) == [mine.id]
    assert other.branches() == [theirs]
    assert world.databases.branches() == []
    assert world.databases.reap(NOW + 2 * HOUR, everyone) == [theirs.id]
    assert world.leftovers() == []


def test_a_command_goes_on_at_another_host(postgres: Server, tmp_path: Path) -> None:  # noqa: F811
    with server(password="x") as strict:
        world = PostgresWorld(strict, tmp_path)
        other = another_host(world, tmp_path)
        first = world.databases.acquire("one", HOUR, NOW, "me")
        world.add(first.url)
        second = other.acquire("one", HOUR, NOW, "them")
        assert (second.id, second.owner, other.branches()) == (first.id, "them", [second])
        assert world.count(second.url) == 1
        assert second.url != first.url
        world.databases.warm(1)
        assert other.acquire("two", HOUR, NOW, "them").warm
        assert world.count(other.acquire("two", HOUR, NOW, "them").url) == 0


def test_hosts_that_need_the_same_generation_seal_once(world: PostgresWorld, tmp_path: Path) -> None:
    hosts = [world.databases, *(PostgresDatabases(world.url, tmp_path / str(n)) for n in range(5))]
    with ThreadPoolExecutor(6) as pool:
        sealed = list(pool.map(lambda host: host.seal(), hosts))
    assert len({one.id for one in sealed}) == 1


def test_while_we_change_dev_nobody_copies_it(world: PostgresWorld, tmp_path: Path) -> None:
    with another_host(world, tmp_path)._server.session("sealing dev") as db:
        with world.databases.moving(), db.tried("seal") as held:
            assert not held
        with db.tried("seal") as held:
            assert held


# ---------------------------------------------------------------- after a crash


@pytest.mark.parametrize("how", ["reap", "doctor", "seal", "head"])
def test_dev_does_not_stay_closed(postgres: Server, tmp_path: Path, how: str) -> None:  # noqa: F811
    world = PostgresWorld(postgres, tmp_path, "kick")
    try:
        child = subprocess.run(python(world.source() + CLOSE), capture_output=True, check=False)
        assert child.returncode == -signal.SIGKILL, child.stderr
        is_open = f"SELECT datallowconn FROM pg_database WHERE datname = '{world.name}'"
        assert postgres.run(is_open) == [(False,)]
        deadline = time.monotonic() + 10
        while postgres.run(is_open) == [(False,)] and time.monotonic() < deadline:
            {
                "reap": lambda: world.databases.reap(NOW, everyone),
                "doctor": world.databases.doctor,
                "seal": world.databases.seal,
                "head": world.databases.head,
            }[how]()
        assert world.count(world.url) == 0
    finally:
        world.destroy()


def test_a_dev_that_somebody_closed_stays_closed(world: PostgresWorld) -> None:
    world.databases.seal()
    world.server.run(f"ALTER DATABASE {world.name} ALLOW_CONNECTIONS false")
    with pytest.raises(DatabaseError, match="takes no connections"):
        world.databases.acquire("one", HOUR, NOW, "me")
    world.databases.reap(NOW, everyone)
    [bad] = [one for one in world.databases.doctor() if not one.ok]
    assert "ALLOW_CONNECTIONS true" in bad.hint


def test_kicking_ends_sessions_and_lets_them_in_again(postgres: Server, tmp_path: Path) -> None:  # noqa: F811
    world = PostgresWorld(postgres, tmp_path, "kick")
    try:
        with psycopg.connect(world.url, autocommit=True) as held:
            world.databases.seal()
            with pytest.raises(psycopg.OperationalError):
                held.execute("SELECT 1")
        world.add(world.url)
        stop = threading.Event()

        def come_back() -> None:
            while not stop.is_set():
                try:
                    with psycopg.connect(world.url, autocommit=True) as db:
                        db.execute("INSERT INTO rows DEFAULT VALUES")
                        stop.wait(0.05)
                except psycopg.OperationalError:
                    continue

        threads = [threading.Thread(target=come_back) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for n in range(3):
                before = world.count(world.url)
                branch = world.databases.acquire(str(n), HOUR, NOW, "me")
                assert world.count(branch.url) >= before
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    finally:
        world.destroy()


def test_what_others_work_on_is_left_and_the_rest_is_reaped(world: PostgresWorld) -> None:
    databases = world.databases
    databases.seal()
    left, used = (f"{world.names.prefix}t_{token}" for token in ("0" * 8, "1" * 8))
    for name in (left, used):
        world.server.run(f"CREATE DATABASE {name}")
    world.server.run(f"CREATE ROLE {world.names.prefix}r_{'2' * 8}")
    with world.server.connect(world.names.home) as other, psycopg.connect(world.server.url(left)):
        other.execute("SELECT pg_advisory_lock(%s, %s)", world.names.lock(used))
        assert databases.reap(NOW, everyone) == [left]
        assert world.leftovers() == [used]
    deadline = time.monotonic() + 10
    while world.leftovers() and time.monotonic() < deadline:
        databases.reap(NOW, everyone)
    assert world.leftovers() == []


def test_one_that_cannot_be_dropped_does_not_keep_the_others(world: PostgresWorld) -> None:
    names = sorted(world.databases.acquire(str(n), HOUR, NOW, "me").id for n in range(3))
    role, more = (world.names.role(name) for name in names[:2])
    world.server.run(f"GRANT CONNECT ON DATABASE {world.name} TO {more}")
    other = world.server.create("other")
    world.server.run(f"CREATE TABLE t (n int); GRANT SELECT ON t TO {role}", other)
    world.server.run(f"ALTER DATABASE {other} ALLOW_CONNECTIONS false")  # so the role cannot be dropped
    with pytest.raises(DatabaseError, match=role) as caught:
        world.databases.reap(NOW, nobody)
    assert f"'{other}'" in caught.value.message
    assert world.leftovers() == [role]
    assert world.databases.reap(NOW, nobody) == [], "it was said once"
    [kept] = [one for one in world.databases.doctor() if role in one.text]
    assert f"'{other}'" in kept.text
    assert f'DROP OWNED BY "{role}"' in kept.hint
    assert world.server.run(f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{role}'") == [(False,)]
    world.server.drop(other)
    world.databases.reap(NOW, nobody)
    assert world.leftovers() == []


def test_generations_are_two_and_templates(world: PostgresWorld) -> None:
    for _ in range(4):
        world.add(world.url)
        sealed = world.databases.seal()
    world.databases.release(world.databases.acquire("one", HOUR, NOW, "me").id)
    names = [name for name in world.everything() if name.startswith(f"{world.names.prefix}g")]
    assert len(names) == 2
    assert names[-1] == sealed.id
    found = world.server.run("SELECT DISTINCT datistemplate, datallowconn FROM pg_database WHERE starts_with(datname, "
                             f"'{world.names.prefix}g')")  # fmt: skip
    assert found == [(True, False)]


# ---------------------------------------------------------------- what is missing


def test_without_the_programs_a_used_dev_is_told_so(world: PostgresWorld) -> None:
    """This address of the machine looks like another's, where the server's own programs are not."""
    os.environ["PATH"] = "/nowhere"
    databases = PostgresDatabases(world.url.replace("127.0.0.1", "0.0.0.0"), world.store)
    if not databases.head() or [place for place in PLACES if (Path(place.format(18)) / "pg_dump").exists()]:
        pytest.skip("this machine has the programs")
    assert databases.acquire("one", HOUR, NOW, "me").url
    with psycopg.connect(world.url):
        world.add(world.url)
        with pytest.raises(DatabaseError, match=r"pg_dump and pg_restore of version \d+ or newer; there is none"):
            databases.acquire("two", HOUR, NOW, "me")
        [bad] = [one for one in databases.doctor() if not one.ok]
        assert "client programs" in bad.hint
    assert len(world.leftovers()) == 2


def test_programs_that_are_too_old_are_passed_over(world: PostgresWorld, tmp_path: Path) -> None:
    for version, name in ((12, "pg_dump"), (12, "pg_restore")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}.1'\n")
        program.chmod(0o755)
    os.environ["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    with psycopg.connect(world.url):
        world.add(world.url)
        assert world.count(world.databases.acquire("two", HOUR, NOW, "me").url) == 1


def test_a_server_that_is_away_is_worth_another_try(tmp_path: Path) -> None:
    databases = PostgresDatabases("postgresql://me:hush@127.0.0.1:1/dev", tmp_path)
    for ask in (databases.head, databases.seal, databases.branches):
        with pytest.raises(DatabaseError) as caught:
            ask()
        assert caught.value.retryable
        assert "hush" not in str(caught.value)
    [bad] = databases.doctor()
    assert not bad.ok


def test_a_dev_that_is_not_there_is_not_worth_it(postgres: Server, tmp_path: Path) -> None:  # noqa: F811
    databases = PostgresDatabases(postgres.url("no_such_dev"), tmp_path)
    with pytest.raises(DatabaseError, match="'no_such_dev' does not exist") as caught:
        databases.acquire("one", HOUR, NOW, "me")
    assert not caught.value.retryable
    assert [one.ok for one in databases.doctor()] == [False]


def test_the_secret_is_for_its_owner_alone(world: PostgresWorld) -> None:
    branch = world.databases.acquire("one", HOUR, NOW, "me")
    files = list((world.store / "postgres").iterdir())
    assert sorted(file.name for file in files) == ["host", "secret"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (world.store / "postgres").stat().st_mode & 0o777 == 0o700
    (world.store / "postgres" / "secret").write_text("")
    with pytest.raises(DatabaseError, match="damaged"):
        world.databases.acquire("one", HOUR, NOW, "me")
    (world.store / "postgres" / "secret").unlink()
    assert world.databases.acquire("one", HOUR, NOW, "me").url != branch.url
    assert world.count(world.databases.branches()[0].url) == 0


def test_no_password_is_ever_an_argument(world: PostgresWorld) -> None:
    """Of pg_dump and pg_restore, as anyone on this machine can see them."""
    with server(password="top secret word") as strict:
        own = PostgresWorld(strict, world.store)
        seen: list[str] = []
        strict.run("CREATE TABLE big AS SELECT generate_series(1, 200000) n", own.name)
        with psycopg.connect(own.url):
            thread = threading.Thread(target=lambda: own.databases.acquire("one", HOUR, NOW, "me"))
            thread.start()
            while thread.is_alive():
                for process in Path("/proc").glob("[0-9]*/cmdline"):
                    try:
                        text = process.read_bytes().decode(errors="replace")
                    except OSError:
                        continue
                    if "pg_dump" in text or "pg_restore" in text:
                        seen.append(text)
            thread.join()
        assert seen
        assert not [text for text in seen if "secret" in text]
