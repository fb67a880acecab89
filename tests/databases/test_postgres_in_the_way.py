"""What agents, other hosts and processes that do not go on leave in the way of the others."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from contracts.databases import NOW, nobody
from psycopg import sql
from support.accounts import python, running
from support.postgres import FLAGS, Server, server
from support.postgres_strict import PASSWORD, acquired, elsewhere, owner, prepare, strict, superuser, world  # noqa: F401
from support.postgres_world import PostgresWorld, owned_world, rows
from support.size import FULL

from agentq.databases import postgres_drop as drop
from agentq.databases.postgres import PostgresDatabases
from agentq.databases.postgres_catalog import entries
from agentq.errors import DatabaseError

HOLDER = """
import sys, time
with databases._server.session("holding") as db, db.locked("seal"):
    print(db.one("SELECT pg_backend_pid()"), flush=True)
    time.sleep(60)
"""
WARMER = """
print("ready", flush=True)
while True:
    databases.warm(3)
    databases.warm(1)
"""


# ---------------------------------------------------------------- what is left elsewhere


def test_what_a_role_leaves_elsewhere_keeps_nothing(world: PostgresWorld) -> None:  # noqa: F811
    one, two = acquired(world), acquired(world, "two")
    for place in ("postgres", "template1", world.name):
        rows(elsewhere(one, place), "SELECT lo_create(0)")
        rows(elsewhere(one, place), "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    rows(two.url, f"GRANT SELECT ON rows TO {world.names.role(one.name)}")
    with pytest.raises(DatabaseError, match=f"it has something in '{two.name}'"):
        world.databases.release(one.id)
    assert world.databases.reap(NOW, nobody) == [two.id]
    assert world.leftovers() == []


def test_a_branch_of_another_dev_is_not_entered_either(world: PostgresWorld, tmp_path: Path) -> None:  # noqa: F811
    other = PostgresWorld(world.server, tmp_path / "other")
    try:
        mine, theirs = acquired(world), acquired(other)
        rows(theirs.url, f"GRANT SELECT ON rows TO {world.names.role(mine.name)}")
        with pytest.raises(DatabaseError, match=f"it has something in '{theirs.name}'") as caught:
            world.databases.release(mine.id)
        assert "when that branch does" in caught.value.hint
        other.databases.release(theirs.id)
        assert world.databases.reap(NOW, nobody) == []
        assert world.leftovers() == []
    finally:
        other.destroy()


def test_who_is_released_is_out_of_everywhere(world: PostgresWorld) -> None:  # noqa: F811
    branch = acquired(world)
    with psycopg.connect(elsewhere(branch, "postgres"), autocommit=True) as stays:
        world.databases.release(branch.id)
        with pytest.raises(psycopg.OperationalError):
            stays.execute("SELECT 1")


def test_locks_are_nobody_elses(world: PostgresWorld) -> None:  # noqa: F811
    branch = acquired(world)
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(elsewhere(branch, world.names.home))
    with psycopg.connect(elsewhere(branch, "postgres"), autocommit=True) as held:
        for name in ("seal", "drop", "warm"):
            held.execute("SELECT pg_advisory_lock(%s, %s)", world.names.lock(name))
        world.add(world.url)
        two = acquired(world, "two")
        world.databases.release(two.id)


def test_the_home_is_made_once_and_finished_if_it_is_not(world: PostgresWorld, tmp_path: Path) -> None:  # noqa: F811
    home = world.names.home
    admin = sql.Identifier(world.url.split("//")[1].split(":")[0])

    def look() -> list[tuple[object, ...]]:
        return world.server.run(
            "SELECT datallowconn, has_database_privilege('public', oid, 'CONNECT') FROM pg_database"
            f" WHERE datname = '{home}'"
        )

    for half in ("", "CREATE DATABASE {} OWNER {} ALLOW_CONNECTIONS false"):
        world.server.drop(home)
        if half:
            world.server.run(sql.SQL(half).format(sql.Identifier(home), admin).as_string())  # type: ignore[arg-type]
        hosts = [PostgresDatabases(world.url, tmp_path / str(n)) for n in range(6)]
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(lambda host: host.branches(), hosts)) == [[]] * 6
        assert look() == [(True, False)]
    assert world.databases.reap(NOW, nobody) == []
    assert look() == [(True, False)]
    assert [one for one in world.databases.doctor() if home in one.text + one.hint] == []


# ---------------------------------------------------------------- exhaustion, and those who do not go on


def test_one_branch_does_not_take_all_connections(tmp_path: Path) -> None:
    with server(password=PASSWORD, flags=(*FLAGS, "max_connections=60")) as small:
        world = owned_world(small, tmp_path)
        branch = acquired(world)
        held: list[psycopg.Connection[tuple[object, ...]]] = []
        try:
            with pytest.raises(psycopg.OperationalError, match="too many connections"):
                held.extend(psycopg.connect(branch.url) for _ in range(60))
            assert world.databases.branches() == [branch]
            with pytest.raises(psycopg.OperationalError, match=r"too many clients|reserved"):
                held.extend(psycopg.connect(world.url) for _ in range(60))
            with pytest.raises(DatabaseError) as caught:
                PostgresDatabases(world.url, tmp_path / "other").branches()
            assert caught.value.retryable
            assert "max_connections" in caught.value.hint
        finally:
            for one in held:
                one.close()
        world.databases.release(branch.id)


def test_a_suspended_holder_is_named(superuser: PostgresWorld) -> None:  # noqa: F811
    with running(python(superuser.source() + HOLDER)) as [child]:
        assert child.stdout is not None
        pid = child.stdout.readline().strip()
        child.send_signal(signal.SIGSTOP)
        try:
            with (
                superuser.databases._server.session("sealing dev") as db,
                pytest.raises(DatabaseError, match=f"process {pid} \\('agentq database branches' from 127.0.0.1"),
                db.locked("seal", 0.3),
            ):
                raise AssertionError("two hold it")
        finally:
            child.send_signal(signal.SIGCONT)


def test_a_read_only_admin_writes(strict: Server, owner: PostgresWorld) -> None:  # noqa: F811
    os.environ["PATH"] = f"{strict.bin}:{os.environ['PATH']}"
    strict.run("ALTER ROLE app SET default_transaction_read_only = on")
    try:
        branch = acquired(owner)
        with psycopg.connect(owner.url):
            rows(branch.url, "INSERT INTO rows DEFAULT VALUES")
            strict.run("INSERT INTO rows DEFAULT VALUES", owner.name)
            dumped = acquired(owner, "dumped")
        assert owner.count(dumped.url) == 1
        owner.databases.release(branch.id)
    finally:
        strict.run("ALTER ROLE app RESET default_transaction_read_only")


# ---------------------------------------------------------------- those kept ready


def test_one_that_was_claimed_is_not_dropped(world: PostgresWorld) -> None:  # noqa: F811
    """Whoever drops it had seen it ready before."""
    world.databases.warm(1)
    with world.databases._server.session("dropping") as db:
        [ready] = entries(db, "w")
        branch = acquired(world)
        assert branch.warm
        drop.drop(world.databases._server, db, ready.name)
    assert world.count(branch.url) == 0


def test_claims_and_drops_do_not_meet(superuser: PostgresWorld) -> None:  # noqa: F811
    """In two processes."""
    with running(python(superuser.source() + WARMER)) as [child]:
        assert child.stdout is not None
        child.stdout.readline()
        warm = 0
        for n in range(120 if FULL else 25):
            branch = acquired(superuser, str(n))
            warm += branch.warm
            assert superuser.count(branch.url) == 0
            superuser.databases.release(branch.id)
            assert child.poll() is None
    assert warm


def test_hosts_keep_their_own_ready(world: PostgresWorld, tmp_path: Path) -> None:  # noqa: F811
    other = PostgresDatabases(world.url, tmp_path / "other")
    assert (world.databases.warm(2), other.warm(1)) == (2, 1)
    assert other.warm(0) == 0
    ready = [name for name in world.everything() if name.startswith(f"{world.names.prefix}w")]
    assert len(ready) == 2
    assert world.databases.warm(2) == 2
    assert set(ready) <= set(world.everything()), "they are the same"
    world.add(world.url)
    assert other.warm(1) == 1
    assert not set(ready) & set(world.everything()), "they are old"
    assert world.databases.reap(NOW, nobody) == []
