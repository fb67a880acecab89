"""What an agent could try with the URL of its branch, beyond what it may do: each was a way out once."""

import threading

import psycopg
import pytest
from contracts.databases import HOUR, NOW
from psycopg import errors
from support.postgres import Server
from support.postgres_strict import PASSWORD, acquired, elsewhere, owner, prepare, strict, superuser, world  # noqa: F401
from support.postgres_world import PostgresWorld, rows

from agentq.databases.postgres import PostgresDatabases
from agentq.databases.postgres_sequences import _beginnings
from agentq.errors import DatabaseError


def superusers(server: Server) -> list[object]:
    return [name for (name,) in server.run("SELECT rolname FROM pg_roles WHERE rolsuper")]


# ---------------------------------------------------------------- code that waits for the URL's role


def test_event_triggers_stay_behind(superuser: PostgresWorld) -> None:  # noqa: F811
    """dev's own at the login: agents own the tables it writes to, and so could make it do anything."""
    kind = "login" if superuser.server.run("SHOW server_version_num")[0][0] >= "170000" else "ddl_command_end"  # type: ignore[operator]
    superuser.server.run(
        "CREATE TABLE logins (who text);"
        "CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS"
        " 'BEGIN INSERT INTO logins VALUES (session_user); END';"
        f"CREATE EVENT TRIGGER audit ON {kind} EXECUTE FUNCTION audit()",
        superuser.name,
    )
    branch = acquired(superuser)
    assert rows(branch.url, "SELECT evtname FROM pg_event_trigger") == []
    found = rows(branch.url, "SELECT pg_get_userbyid(proowner), prosecdef FROM pg_proc WHERE proname = 'audit'")
    assert found == [("postgres", False)]
    with pytest.raises(errors.InsufficientPrivilege):
        rows(branch.url, "ALTER FUNCTION audit() SECURITY DEFINER")
    with psycopg.connect(superuser.url):
        superuser.add(superuser.url)
        dumped = acquired(superuser, "dumped")
    assert rows(dumped.url, "SELECT evtname FROM pg_event_trigger") == []


def test_the_admin_does_not_enter_an_agents_database(strict: Server, owner: PostgresWorld) -> None:  # noqa: F811
    """With a lesser role, event triggers come along: this one says who logs in."""
    if strict.run("SHOW server_version_num")[0][0] < "170000":  # type: ignore[operator]
        pytest.skip("a login runs nothing here")
    strict.run(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN IF session_user = 'app'"
        " AND EXISTS (SELECT FROM pg_class WHERE relname = 'trap') THEN RAISE 'app was here'; END IF; END $$;"
        "CREATE EVENT TRIGGER refuse ON login EXECUTE FUNCTION refuse()",
        owner.name,
    )
    for name, before in (("as group", "SELECT 1"), ("as role", "SET ROLE NONE")):
        branch = acquired(owner, name)
        rows(branch.url, "CREATE TABLE trap (n int)")
        with pytest.raises(psycopg.OperationalError, match="app was here"):
            psycopg.connect(owner.url.replace(owner.name, branch.name))
        prepare(branch.url, name, "SELECT lo_create(0)", before)
        owner.databases.release(branch.id)
    assert owner.leftovers() == []


def test_prepared_transactions_keep_no_branch(world: PostgresWorld) -> None:  # noqa: F811
    """Also when their maker has shut the door behind it."""
    branch = acquired(world)
    role = world.names.role(branch.name)
    prepare(branch.url, "its own")
    prepare(elsewhere(branch, "postgres"), "elsewhere", "SELECT lo_create(0)")
    rows(branch.url, f"SET ROLE NONE; ALTER ROLE {role} PASSWORD 'mine'; ALTER ROLE {role} SET statement_timeout = 1;"
                     f"ALTER ROLE {role} SET default_transaction_read_only = on")  # fmt: skip
    world.databases.release(branch.id)
    assert world.leftovers() == []
    assert world.server.run("SELECT gid FROM pg_prepared_xacts") == []


def test_somebody_elses_prepared_transaction_is_named(world: PostgresWorld) -> None:  # noqa: F811
    branch = acquired(world)
    admin = world.server.url(branch.name)
    prepare(admin, "a person")
    with pytest.raises(DatabaseError, match=r"prepared transaction 'a person' of role 'postgres'"):
        world.databases.release(branch.id)
    with psycopg.connect(admin, autocommit=True) as db:
        db.execute("ROLLBACK PREPARED 'a person'")
    again = acquired(world)
    assert again.id == branch.id, "it is still the command's"
    assert world.count(again.url) == 0
    world.databases.release(branch.id)
    assert world.leftovers() == []


def test_a_view_in_the_place_of_a_sequence_is_not_read(strict: Server, superuser: PostgresWorld) -> None:  # noqa: F811
    low = superuser.url.replace(strict.url().split("//")[1].split("@")[0], "low:low")
    strict.run("CREATE SCHEMA lo AUTHORIZATION low", superuser.name)
    rows(
        low,
        "CREATE SEQUENCE lo.s; CREATE TABLE lo.log (who text);"
        "CREATE FUNCTION lo.f() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN IF current_user <> 'low' THEN"
        " INSERT INTO lo.log VALUES (current_user); END IF; RETURN 1; END $$;"
        "CREATE VIEW lo.v AS SELECT lo.f() AS last_value, true AS is_called",
    )
    with superuser.databases._server.session("reading", superuser.name) as dev:
        assert _beginnings(dev, [(1, "lo", "v")]) == ([], False)
    over = threading.Event()

    def swap() -> None:
        with psycopg.connect(low, autocommit=True) as db:
            while not over.is_set():
                db.execute("BEGIN; ALTER SEQUENCE lo.s RENAME TO x; ALTER VIEW lo.v RENAME TO s; COMMIT")
                db.execute("BEGIN; ALTER VIEW lo.s RENAME TO v; ALTER SEQUENCE lo.x RENAME TO s; COMMIT")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(60):
            superuser.databases.head()
    finally:
        over.set()
        thread.join()
    assert strict.run("SELECT * FROM lo.log", superuser.name) == []


def test_a_dump_is_restored_with_owners(strict: Server, superuser: PostgresWorld) -> None:  # noqa: F811
    """So what it calls works as its owner, who here is nobody in particular, and may read what was granted."""
    low = superuser.url.replace(strict.url().split("//")[1].split("@")[0], "low:low")
    strict.run("CREATE SCHEMA lo AUTHORIZATION low; GRANT SELECT ON accounts TO low", superuser.name)
    rows(
        low,
        "CREATE FUNCTION lo.g() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'ALTER ROLE low SUPERUSER'; END $$;"
        "CREATE FUNCTION lo.f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN"
        " IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN PERFORM lo.g(); END IF; RETURN $1; END $$;"
        "CREATE MATERIALIZED VIEW lo.mv AS SELECT lo.f(1) AS n, count(*) FROM public.accounts;"
        "CREATE TABLE lo.t AS SELECT 1 AS n; CREATE INDEX ON lo.t (lo.f(n))",
    )
    with psycopg.connect(superuser.url):
        branch = acquired(superuser)
    assert superusers(strict) == ["postgres"]
    assert rows(branch.url, "SELECT n FROM lo.mv") == [(1,)]
    assert rows(branch.url, "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relname IN ('mv', 't', 'rows')") \
        == [(superuser.names.group,)]  # fmt: skip


# ---------------------------------------------------------------- what is closed in dev stays closed


def test_routines_of_untrusted_languages_stay_closed(superuser: PostgresWorld) -> None:  # noqa: F811
    superuser.server.run(
        "CREATE FUNCTION read(text) RETURNS text LANGUAGE internal STRICT AS 'pg_read_file_all';"
        "CREATE FUNCTION who() RETURNS name LANGUAGE internal SECURITY DEFINER AS 'current_user';"
        "CREATE FUNCTION mine() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN current_user; END';"
        "CREATE AGGREGATE reads(text) (SFUNC = textcat, STYPE = text);"
        "REVOKE EXECUTE ON FUNCTION read(text) FROM PUBLIC",
        superuser.name,
    )
    branch = acquired(superuser)
    for statement in ("SELECT read('PG_VERSION')", "GRANT EXECUTE ON FUNCTION read(text) TO PUBLIC",
                      "ALTER FUNCTION read(text) RENAME TO mine"):  # fmt: skip
        with pytest.raises(errors.InsufficientPrivilege):
            rows(branch.url, statement)
            rows(branch.url, "SELECT read('PG_VERSION')")
    group = superuser.names.group
    assert rows(branch.url, "SELECT who(), mine()") == [(group, group)]


SERVERS = """
CREATE SERVER prod FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{port}', dbname '{dev}');
CREATE USER MAPPING FOR PUBLIC SERVER prod OPTIONS (user 'postgres', password '{password}');
CREATE USER MAPPING FOR CURRENT_USER SERVER prod OPTIONS (user 'postgres', password '{password}');
CREATE FOREIGN TABLE far (n int) SERVER prod OPTIONS (schema_name 'public', table_name 'rows');
"""


@pytest.mark.parametrize("whose", ["ours", "another's"])
def test_foreign_servers_lead_nowhere(world: PostgresWorld, whose: str) -> None:  # noqa: F811
    admin = world.server.url(world.name)
    port = world.server.admin.rpartition(":")[2].partition("/")[0]
    text = SERVERS.format(port=port, dev=world.name, password=PASSWORD)
    rows(admin, "CREATE EXTENSION postgres_fdw; GRANT USAGE ON FOREIGN DATA WRAPPER postgres_fdw TO PUBLIC")
    rows(world.url if whose == "ours" else admin, text)
    if world.url != admin and whose != "ours":
        rows(admin, "ALTER FOREIGN TABLE far OWNER TO app")
    [warned] = [one for one in world.databases.doctor() if "foreign servers" in one.text]
    assert "prod" in warned.text
    branch = acquired(world)
    for statement in (
        "SELECT * FROM far", "INSERT INTO far VALUES (4711)", "ALTER SERVER prod OPTIONS (SET host 'evil')",
        "CREATE FOREIGN TABLE more (n int) SERVER prod OPTIONS (table_name 'rows')",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER prod",
    ):  # fmt: skip
        with pytest.raises((errors.InsufficientPrivilege, errors.UndefinedObject)):
            rows(branch.url, statement)
    assert world.count(world.url) == 0
    if world.url == admin or whose == "ours":
        assert rows(branch.url, "SELECT srvname FROM pg_user_mappings") == []
        rows(branch.url, "DROP FOREIGN TABLE far")


# ---------------------------------------------------------------- dev itself


def test_who_takes_our_name_in_dev_is_seen(superuser: PostgresWorld) -> None:  # noqa: F811
    """`kick` ends its session, and does not wait for one that never leaves."""
    databases = PostgresDatabases(superuser.url, superuser.store, seal="kick")
    branch = acquired(superuser)
    name = "?application_name=agentq%20database%20branches"
    with psycopg.connect(elsewhere(branch, superuser.name) + name, autocommit=True) as spy:
        before = databases.head()
        assert "+" in before, "it may have changed something"
        superuser.add(superuser.url)
        assert superuser.count(databases.acquire("two", HOUR, NOW, "me").url) == 1
        with pytest.raises(psycopg.OperationalError):
            spy.execute("SELECT 1")


def test_the_doctor_fails_where_agents_can_plant_functions(world: PostgresWorld) -> None:  # noqa: F811
    assert [one for one in world.databases.doctor() if not one.ok] == []
    world.server.run("GRANT CREATE ON SCHEMA public TO PUBLIC", world.name)
    [bad] = [one for one in world.databases.doctor() if not one.ok]
    assert "in schema public" in bad.text
    assert f'REVOKE CONNECT ON DATABASE "{world.name}" FROM PUBLIC' in bad.hint
    world.server.run(f"REVOKE CONNECT ON DATABASE {world.name} FROM PUBLIC")
    assert [one for one in world.databases.doctor() if not one.ok] == []
