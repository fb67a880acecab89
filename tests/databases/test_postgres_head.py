"""dev's head moves whenever dev did; and stands still enough to be of use."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from contracts.databases import HOUR, NOW
from support.postgres import Server, installed, postgres, server  # noqa: F401
from support.postgres_world import PostgresWorld, rows
from support.size import FULL

from agentq.databases.postgres_head import same

CHANGES = [
    "INSERT INTO rows DEFAULT VALUES", "UPDATE accounts SET money = money WHERE id = 1",
    "DELETE FROM accounts WHERE id = 2", "TRUNCATE rows", "CREATE TABLE t (n int)", "ALTER TABLE t ADD m int",
    "CREATE SCHEMA s", "ALTER SCHEMA s RENAME TO z", "CREATE SEQUENCE q", "SELECT nextval('q')", "SELECT setval('q', 7)",
    "SELECT setval('q', 7, false)", "SELECT nextval('rows_n_seq')", "SELECT lo_from_bytea(0, 'x')",
    "CREATE TYPE e AS ENUM ('a')", "ALTER TYPE e ADD VALUE 'b'", "COMMENT ON TABLE t IS 'x'",
    "GRANT SELECT ON t TO PUBLIC", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DROP TABLE t",
    "CREATE INDEX ON accounts (money)", "ALTER DATABASE {dev} SET work_mem = '7MB'", "ALTER DATABASE {dev} RESET work_mem",
    "ALTER ROLE postgres IN DATABASE {dev} SET work_mem = '8MB'",
    "COMMENT ON DATABASE {dev} IS 'x'", "GRANT CREATE ON DATABASE {dev} TO PUBLIC",
]  # fmt: skip


@pytest.fixture(params=["18", "another"] if FULL else ["18"])
def world(request: pytest.FixtureRequest, postgres: Server, tmp_path: Path) -> Iterator[PostgresWorld]:  # noqa: F811
    if request.param == "18":
        made = PostgresWorld(postgres, tmp_path)
        yield made
        made.destroy()
        return
    if (programs := installed()) is None:
        pytest.skip("no other server is installed")
    with server(programs) as other:
        yield PostgresWorld(other, tmp_path)


def settled(world: PostgresWorld) -> str:
    """dev's head when everybody has left."""
    deadline = time.monotonic() + 10
    while "+" in (head := world.databases.head()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return head


def money(world: PostgresWorld) -> object:
    return rows(world.url, "SELECT money FROM accounts WHERE id = 1")[0][0]


def test_every_change_moves_it(world: PostgresWorld) -> None:
    before = settled(world)
    for change in CHANGES:
        rows(world.url, change.format(dev=world.name))
        after = world.databases.head()
        assert not same(before, after), change
        before = settled(world)
        assert not same(after, before) or "+" not in after


def test_what_changes_nothing_leaves_it(world: PostgresWorld) -> None:
    before = settled(world)
    rows(world.url, "SELECT * FROM accounts")
    rows(world.url, "BEGIN; LOCK accounts; COMMIT")
    assert settled(world) == before
    branch = world.databases.acquire("one", HOUR, NOW, "me")
    world.add(branch.url)
    rows(
        branch.url,
        f"SET ROLE NONE; ALTER ROLE {world.names.role(branch.name)} IN DATABASE {world.name} SET work_mem = '1MB'",
    )
    other = world.server.create("other")
    world.server.run("CREATE TABLE t AS SELECT generate_series(1, 100)", other)
    world.server.drop(other)
    assert settled(world) == before
    with psycopg.connect(world.url, autocommit=True) as held:
        held.execute("SELECT 1")
        during = world.databases.head()
        assert during != before, "it has not reported yet whether it changed anything"
        assert world.databases.head() == during
        assert world.databases.seal().id != branch.generation
    assert settled(world) == before
    assert world.databases.seal().head.partition("+")[0] == before


def sessions(world: PostgresWorld) -> object:
    return world.server.run(f"SELECT sessions FROM pg_stat_database WHERE datname = '{world.name}'")[0][0]


def test_nobody_looks_into_a_dev_where_nobody_was(world: PostgresWorld) -> None:
    """What sequences say counts until another transaction has ended there."""
    before = settled(world)
    settled(world)
    seen = sessions(world)
    assert {world.databases.head() for _ in range(5)} == {before}
    assert sessions(world) == seen
    rows(world.url, "SELECT nextval('rows_n_seq')")
    after = settled(world)
    assert after != before
    assert settled(world) == after
    assert sessions(world) != seen


def test_a_sequence_is_not_what_it_was_while_somebody_is_there(world: PostgresWorld) -> None:
    """Nothing may have been counted yet; here of a session that passes for ours."""
    rows(world.url, "CREATE SEQUENCE q")
    name = f"{world.url}?application_name=agentq%20database%20branches"
    with psycopg.connect(name, autocommit=True) as held:
        held.execute("SELECT pg_stat_force_next_flush()")
        heads = [settled(world)]
        for _ in range(5):
            held.execute("SELECT nextval('q')")
            heads.append(world.databases.head())
    assert len(set(heads)) == 6


def test_a_transaction_that_was_prepared_is_not_counted_yet(world: PostgresWorld) -> None:
    rows(world.url, "CREATE SEQUENCE q")
    with psycopg.connect(world.url, autocommit=True) as held:
        held.execute("SELECT pg_stat_force_next_flush()")
        before = world.databases.head().partition("+")[0]
        held.execute("BEGIN")
        held.execute("SELECT nextval('q')")
        held.execute("PREPARE TRANSACTION 'gift'")
    try:
        assert settled(world) != before
    finally:
        rows(world.url, "ROLLBACK PREPARED 'gift'")


def test_a_commit_of_a_moment_ago_moves_it(world: PostgresWorld) -> None:
    """Of connections that stay open, at every distance from their last report; autocommit, transactions, chains."""
    update = "UPDATE accounts SET money = money + 1 WHERE id = {}"
    ways = (
        update,
        f"BEGIN; {update}; COMMIT",
        f"BEGIN; {update}; COMMIT AND CHAIN",
        f"COMMIT; {update}; COMMIT; BEGIN",
    )
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    with psycopg.connect(world.url, autocommit=True) as one, psycopg.connect(world.url, autocommit=True) as two:
        heads: list[str] = [world.databases.head()]
        for n in range(400 if FULL else 40):
            row = chance.choice((1, 2))
            (one, two)[row - 1].execute(chance.choice(ways).format(row))  # type: ignore[arg-type]
            head = world.databases.head()
            assert not [old for old in heads if same(old, head)], f"seed {seed}, step {n}"
            heads.append(head)
            time.sleep(chance.choice((0, 0, 0.01, 0.3)))


def test_a_commit_of_somebody_who_goes_at_once_moves_it(world: PostgresWorld) -> None:
    """The server ends a session after its client has gone: meanwhile it may have reported, or not."""
    before = settled(world)
    for _ in range(200 if FULL else 20):
        rows(world.url, "UPDATE accounts SET money = money + 1 WHERE id = 1")
        after = world.databases.head()
        assert not same(before, after)
        before = after


def test_one_statement_that_commits_and_goes_on_moves_it(world: PostgresWorld) -> None:
    """Its session is active all the while, and reports at its end."""
    with psycopg.connect(world.url, autocommit=True) as one:
        work = "UPDATE accounts SET money = money + 1 WHERE id = 1; COMMIT; SELECT pg_sleep(0.5)"
        heads, counts = [world.databases.head()], [money(world)]
        thread = threading.Thread(target=lambda: one.execute(f"{work}; {work}"))
        thread.start()
        while thread.is_alive():
            heads.append(world.databases.head())
            counts.append(money(world))
        thread.join()
        heads.append(world.databases.head())
    moved = [n for n in range(len(counts) - 1) if counts[n] != counts[n + 1]]
    assert moved
    assert not [n for n in moved if same(heads[n], heads[n + 2])]


@pytest.mark.skipif(not FULL, reason="waits for the server's clock")
def test_it_is_exact_again_when_all_have_reported(world: PostgresWorld) -> None:
    with psycopg.connect(world.url, autocommit=True) as held:
        for _ in range(3):
            held.execute("INSERT INTO rows DEFAULT VALUES")
        assert "+" in world.databases.head()
        time.sleep(16)
        exact = world.databases.head()
        assert "+" not in exact
    assert settled(world) == exact


def test_a_crash_of_the_server_moves_it(tmp_path: Path) -> None:
    """Counters begin anew."""
    with server() as own:
        world = PostgresWorld(own, tmp_path)
        before = settled(world)
        with pytest.raises(psycopg.OperationalError):
            own.run("COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'")
        for _ in range(200):
            try:
                assert not same(before, settled(world))
                return
            except Exception:
                time.sleep(0.05)
        raise AssertionError("the server did not come back")


def test_sessions_that_cannot_be_seen_count_as_working(world: PostgresWorld, tmp_path: Path) -> None:
    """A role that may not read others' state cannot tell an idle session from a working one."""
    world.server.run("DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN CREATEDB CREATEROLE")
    world.server.run("GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO plain", world.name)
    from agentq.databases.postgres import PostgresDatabases

    databases = PostgresDatabases(world.server.url(world.name, "plain", "x"), tmp_path / "other")
    with psycopg.connect(world.url, autocommit=True) as held:
        before = databases.head()
        held.execute("INSERT INTO rows DEFAULT VALUES")
        assert not same(before, databases.head())
        assert [one for one in databases.doctor() if "pg_read_all_stats" in one.hint]
    world.server.run("REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM plain; DROP OWNED BY plain", world.name)
    world.server.drop(world.names.home)
    world.server.run("DROP ROLE plain")
