"""What an agent can do with the URL of its branch, on a server that asks for passwords."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from contracts.databases import HOUR, NOW, nobody
from psycopg import errors
from support.postgres import Server, installed, server
from support.postgres_world import PostgresWorld, owned_world, rows
from support.size import FULL

from agentq.errors import DatabaseError

PASSWORD = "s:cr@t/é%"
KINDS = """
CREATE SCHEMA shop; CREATE TYPE mood AS ENUM ('ok'); CREATE DOMAIN price AS numeric; CREATE TYPE pair AS (a int);
CREATE TYPE span AS RANGE (subtype = int); CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY, n int);
CREATE VIEW shop.seen AS SELECT 1 AS n; CREATE MATERIALIZED VIEW summed AS SELECT 1 AS n; CREATE SEQUENCE numbers;
CREATE FUNCTION one(int) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE PROCEDURE two() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int); CREATE COLLATION plain (locale = 'C');
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq); CREATE STATISTICS st ON id, n FROM shop.orders;
CREATE OPERATOR FAMILY fam USING btree; CREATE TEXT SEARCH CONFIGURATION words (COPY = simple);
CREATE TEXT SEARCH DICTIONARY dict (TEMPLATE = simple); CREATE TABLE parted (n int) PARTITION BY LIST (n);
CREATE TABLE part PARTITION OF parted FOR VALUES IN (1); SELECT lo_from_bytea(4711, 'abc');
CREATE EXTENSION citext; CREATE EXTENSION pg_buffercache; CREATE TABLE mails (m citext); CREATE SCHEMA "odd Name";
CREATE TABLE "odd Name"."odd ""Table" (n int);
"""
OWN = [
    "ALTER TABLE rows ADD more text", "TRUNCATE accounts", "DROP TABLE accounts", "CREATE TABLE mine (n serial)",
    "ALTER TYPE mood ADD VALUE 'sad'", "ALTER DOMAIN price SET NOT NULL", "ALTER TYPE pair ADD ATTRIBUTE b int",
    "DROP TYPE span", "ALTER TABLE shop.orders RENAME TO bought", "CREATE OR REPLACE VIEW shop.seen AS SELECT 2 AS n",
    "REFRESH MATERIALIZED VIEW summed", "ALTER SEQUENCE numbers RESTART", "DROP FUNCTION one(int)", "DROP PROCEDURE two()",
    "DROP AGGREGATE total(int)", "DROP COLLATION plain", "DROP OPERATOR === (int, int)", "DROP STATISTICS st",
    "DROP OPERATOR FAMILY fam USING btree", "DROP TEXT SEARCH CONFIGURATION words", "DROP TEXT SEARCH DICTIONARY dict",
    "ALTER TABLE part ADD CHECK (n > 0)", "SELECT lo_unlink(4711)", "CREATE EXTENSION hstore", "CREATE SCHEMA own",
    'ALTER SCHEMA "odd Name" RENAME TO even', 'DROP TABLE even."odd ""Table"', "ANALYZE", "CREATE TEMP TABLE t (n int)",
    "DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "CREATE TABLE public.again (n int)",
]  # fmt: skip
DENIED = [
    "DROP DATABASE {dev} WITH (FORCE)", "DROP DATABASE {other} WITH (FORCE)", "DROP DATABASE {own} WITH (FORCE)",
    "DROP DATABASE {generation}", "ALTER DATABASE {other} RENAME TO x", "ALTER DATABASE {generation} RENAME TO x",
    "ALTER DATABASE {dev} ALLOW_CONNECTIONS false", "ALTER DATABASE {own} SET work_mem = '1MB'",
    "COMMENT ON DATABASE {own} IS 'x'", "COPY rows TO PROGRAM 'cat'", "COPY rows TO '/tmp/x'",
    "SELECT * FROM pg_authid", "SELECT pg_read_file('PG_VERSION')", "SET ROLE postgres", "SET ROLE {other_role}",
    "SET SESSION AUTHORIZATION postgres", "ALTER ROLE {role} SUPERUSER", "ALTER ROLE {role} CREATEDB",
    "ALTER ROLE {role} CREATEROLE", "ALTER ROLE {other_role} PASSWORD 'x'", "DROP ROLE {other_role}",
    "ALTER ROLE {other_role} SET work_mem = '1MB'", "CREATE ROLE friend", "CREATE DATABASE mine",
    "CREATE DATABASE mine TEMPLATE {generation}", "GRANT {group} TO pg_monitor", "GRANT {other_role} TO {role}",
    "GRANT pg_read_all_data TO {role}", "ALTER SYSTEM SET work_mem = '1MB'", "CREATE EXTENSION dblink",
    "SELECT pg_terminate_backend({other_pid})", "SELECT pg_cancel_backend({other_pid})",
]  # fmt: skip


@pytest.fixture(scope="module", params=["18", "another"] if FULL else ["18"])
def strict(request: pytest.FixtureRequest) -> Iterator[Server]:
    programs = installed() if request.param == "another" else None
    if request.param == "another" and programs is None:
        pytest.skip("no other server is installed")
    with server(programs, PASSWORD) as made:
        yield made


@pytest.fixture(params=["superuser", "owner"])
def world(request: pytest.FixtureRequest, strict: Server, tmp_path: Path) -> Iterator[PostgresWorld]:
    """`owner`: the URL's role is none that may do everything, as on a managed server."""
    made = owned_world(strict, tmp_path, KINDS) if request.param == "owner" else PostgresWorld(strict, tmp_path)
    if request.param == "superuser":
        strict.run(KINDS, made.name)
    strict.run(f"REVOKE CONNECT ON DATABASE {made.name} FROM PUBLIC")
    yield made
    made.destroy()


def denied(url: str, statement: str) -> bool:
    """Also to the branch's role itself, which is not the one it works as."""
    for before in ("SELECT 1", "SET ROLE NONE"):
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(before)  # type: ignore[arg-type]
            try:
                db.execute(statement)  # type: ignore[arg-type]
            except (errors.InsufficientPrivilege, errors.WrongObjectType, errors.ObjectInUse):
                continue
            return False
    return True


def enters(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def test_an_agent_owns_its_branch(world: PostgresWorld) -> None:
    branch = world.databases.acquire("one", HOUR, NOW, "me")
    with psycopg.connect(branch.url, autocommit=True) as db:
        for statement in OWN:
            db.execute(statement)  # type: ignore[arg-type]


def test_an_agent_does_nothing_elsewhere(world: PostgresWorld) -> None:
    databases = world.databases
    one, two = (databases.acquire(name, HOUR, NOW, "me") for name in ("one", "two"))
    world.databases.warm(1)
    place = {"dev": world.name, "own": one.name, "other": two.name, "generation": one.generation}
    place |= {
        "role": world.names.role(one.name),
        "other_role": world.names.role(two.name),
        "group": world.names.group,
    }
    with psycopg.connect(two.url) as other:
        place["other_pid"] = str(other.info.backend_pid)
        allowed = [statement for statement in DENIED if not denied(one.url, statement.format(**place))]
        assert allowed == []
        assert other.execute("SELECT 1").fetchone() == (1,)
    warm = [name for name in world.everything() if name.startswith(f"{world.names.prefix}w")]
    assert len(warm) == 1
    for database in (world.name, two.name, one.generation, *warm):
        assert not enters(one.url.replace(one.name, database)), database
    assert enters(one.url)
    assert not enters(one.url.replace("@", "x@")), "the password counts"


def test_a_new_database_is_closed_before_it_is_named(world: PostgresWorld) -> None:
    """No role gets in between making and closing: what is made takes no connections until it is closed."""
    one = world.databases.acquire("one", HOUR, NOW, "me")
    acl = world.server.run("SELECT datname, datacl::text FROM pg_database WHERE datname LIKE 'aq@_%' ESCAPE '@'")
    assert acl
    assert not [name for name, text in acl if text is None or ",=" in str(text) or str(text).startswith("{=")]
    assert one.url


def test_a_branch_in_use_is_released_with_all_that_is_in_it(world: PostgresWorld) -> None:
    one = world.databases.acquire("one", HOUR, NOW, "me")
    empty = world.databases.empty("one", HOUR, NOW, "me")
    rows(one.url, "SET ROLE NONE; CREATE TABLE loose (n int)")
    with psycopg.connect(one.url), psycopg.connect(empty.url):
        world.databases.release(one.id)
        world.databases.release(empty.id)
    assert world.leftovers() == []


def test_warm_ones_stale_ones_and_the_dead_are_gone(world: PostgresWorld) -> None:
    assert world.databases.warm(2) == 2
    world.databases.acquire("one", HOUR, NOW, "me")
    world.add(world.url)
    assert world.databases.warm(1) == 1
    assert len(world.databases.reap(NOW, nobody)) == 1
    assert world.databases.warm(0) == 0
    assert world.leftovers() == []


def test_an_empty_one_has_what_only_an_administrator_could_bring(world: PostgresWorld) -> None:
    if world.url != world.server.url(world.name):
        pytest.skip("this role cannot bring it either")
    empty = world.databases.empty("one", HOUR, NOW, "me")
    found = rows(empty.url, "SELECT extname FROM pg_extension ORDER BY 1")
    assert found == [("pg_buffercache",), ("plpgsql",)], "citext is trusted: migrations can bring it"
    rows(empty.url, "CREATE EXTENSION IF NOT EXISTS pg_buffercache; CREATE EXTENSION citext; CREATE SCHEMA mine")


def test_the_doctor_knows_the_role_and_that_dev_is_closed(world: PostgresWorld) -> None:
    found = world.databases.doctor()
    assert [one for one in found if not one.ok] == []
    assert not [one for one in found if world.name in one.hint or "without a password" in one.text]
    [others] = [one for one in found if "FROM PUBLIC" in one.hint]
    assert "'postgres', 'template1'" in others.text
    world.server.run(f"GRANT CONNECT ON DATABASE {world.name} TO PUBLIC")
    [warning] = [one for one in world.databases.doctor() if "PUBLIC" in one.hint]
    assert f"'{world.name}', 'postgres'" in warning.text
    assert f'REVOKE CONNECT ON DATABASE "{world.name}" FROM PUBLIC' in warning.hint


@pytest.mark.parametrize(("has", "lacks"), [("CREATEROLE", "CREATEDB"), ("CREATEDB", "CREATEROLE")])
def test_a_role_that_may_not_is_told_so(strict: Server, tmp_path: Path, has: str, lacks: str) -> None:
    strict.run(f"DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN {has} PASSWORD 'weak'")
    world = PostgresWorld(strict, tmp_path, url=strict.url("{}", "weak", "weak"))
    strict.run(f"ALTER DATABASE {world.name} OWNER TO weak")
    try:
        with pytest.raises(DatabaseError) as caught:
            world.databases.acquire("one", HOUR, NOW, "me")
        assert "permission denied" in caught.value.message
        assert "CREATEDB and CREATEROLE" in caught.value.hint
        assert not caught.value.retryable
        [bad] = [one for one in world.databases.doctor() if not one.ok]
        assert f"lacks {lacks}" in bad.text
        assert world.leftovers() == []
    finally:
        world.destroy()
        strict.run("DROP ROLE weak")
