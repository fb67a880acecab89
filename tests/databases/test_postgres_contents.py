"""What a PostgreSQL database holds does not tell how it came to be."""

from collections.abc import Callable, Iterator

import pytest
from support.postgres import Server, postgres  # noqa: F401

from agentq.databases.contents import Contents, differences, lost, read
from agentq.errors import DatabaseError

WHOLE = """
CREATE EXTENSION citext; CREATE SCHEMA shop;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); CREATE DOMAIN price AS numeric CHECK (VALUE >= 0);
CREATE TYPE pair AS (a int, b text); CREATE TYPE span AS RANGE (subtype = int);
CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL DEFAULT 'x', mail citext UNIQUE, mood mood,
  upper_name text GENERATED ALWAYS AS (upper(name)) STORED, code text COLLATE "C",
  CONSTRAINT sane CHECK (name <> ''));
CREATE TABLE shop.orders (id bigint GENERATED ALWAYS AS IDENTITY, owner int NOT NULL REFERENCES users ON DELETE CASCADE,
  cost price, during tsrange, PRIMARY KEY (id), EXCLUDE USING gist (during WITH &&));
CREATE INDEX first_index ON users (lower(name)) WHERE name <> 'a';
CREATE UNIQUE INDEX ON shop.orders (owner, cost);
CREATE VIEW happy AS SELECT id, name FROM users WHERE mood = 'happy';
CREATE MATERIALIZED VIEW totals AS SELECT owner, sum(cost) AS cost FROM shop.orders GROUP BY owner;
CREATE SEQUENCE numbers START 5;
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE users ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON users FOR SELECT USING (name = current_user);
CREATE STATISTICS related ON name, code FROM users;
INSERT INTO users (name) VALUES ('a'), ('b');
"""

ALTERED = """
CREATE SCHEMA shop; CREATE EXTENSION citext;
CREATE TYPE mood AS ENUM ('sad', 'happy'); ALTER TYPE mood ADD VALUE 'ok' BEFORE 'happy';
CREATE DOMAIN price AS numeric; ALTER DOMAIN price ADD CONSTRAINT other CHECK (VALUE >= 0);
CREATE TYPE pair AS (b text); ALTER TYPE pair ADD ATTRIBUTE a int, DROP ATTRIBUTE b, ADD ATTRIBUTE b text;
CREATE TYPE span AS RANGE (subtype = int);
CREATE TABLE people (gone int, code text COLLATE "C", mood mood, name varchar(9), mail citext, id serial);
ALTER TABLE people RENAME TO users; ALTER TABLE users DROP gone;
ALTER TABLE users ALTER name TYPE text, ALTER name SET DEFAULT 'x', ALTER name SET NOT NULL,
  ADD CONSTRAINT k PRIMARY KEY (id), ADD CONSTRAINT u UNIQUE (mail), ADD CONSTRAINT c CHECK (name <> ''),
  ADD upper_name text GENERATED ALWAYS AS (upper(name)) STORED;
CREATE TABLE shop.orders (during tsrange, cost price, owner int, id bigint NOT NULL);
ALTER TABLE shop.orders ALTER id ADD GENERATED ALWAYS AS IDENTITY, ADD PRIMARY KEY (id), ALTER owner SET NOT NULL,
  ADD CONSTRAINT fk FOREIGN KEY (owner) REFERENCES users (id) ON DELETE CASCADE,
  ADD CONSTRAINT overlap EXCLUDE USING gist (during WITH &&);
CREATE UNIQUE INDEX renamed ON shop.orders USING btree (owner, cost);
CREATE INDEX second_index ON users (lower(name)) WHERE name <> 'a';
CREATE VIEW happy AS SELECT id, name FROM users
  WHERE mood = 'happy';
CREATE MATERIALIZED VIEW totals AS SELECT owner, sum(cost) AS cost FROM shop.orders GROUP BY owner;
CREATE SEQUENCE numbers; ALTER SEQUENCE numbers START 5;
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 2';
CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER touched BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
CREATE POLICY mine ON users FOR SELECT USING (name = current_user); ALTER TABLE users ENABLE ROW LEVEL SECURITY;
CREATE STATISTICS other ON name, code FROM users;
"""

Make = Callable[[str], str]


@pytest.fixture
def make(postgres: Server) -> Iterator[Make]:  # noqa: F811
    """The URL of a fresh database on which a script was run."""
    made: list[str] = []

    def database(script: str) -> str:
        made.append(postgres.create("contents"))
        postgres.run(script, made[-1]) if script else None
        return postgres.url(made[-1])

    yield database
    for name in made:
        postgres.drop(name)


def differing(one: Contents, other: Contents) -> list[str]:
    return differences(one, other, ("one", "other"))


def test_created_whole_and_altered_into_shape_are_the_same(make: Make) -> None:
    whole, altered = read(make(WHOLE)), read(make(ALTERED))
    assert differing(whole, altered) == []
    assert (whole.rows["users"], altered.rows["users"], whole.rows["shop.orders"]) == (2, 0, 0)
    assert lost(whole, altered) == ["table users loses 2 of 2 rows"]


def test_every_kind_of_object_is_seen(make: Make) -> None:
    objects = read(make(WHOLE)).objects
    assert objects["column users.id"] == "integer not null default of its own sequence"
    assert objects["column users.code"] == 'text collate "C"'
    assert objects["column shop.orders.id"] == "bigint not null generated always as identity"
    assert objects["type mood"] == "enum ('sad', 'ok', 'happy')"
    kinds = {name.partition("(")[0].rpartition(" ")[0] for name in objects}
    assert kinds == {
        "schema", "extension", "type", "domain", "table", "column", "primary key", "unique", "check", "foreign key",
        "exclude", "index", "view", "materialized view", "sequence", "function", "trigger", "policy", "statistics",
    }  # fmt: skip
    assert not [name for name in objects if "citext_" in name], "members of extensions are not ours"


CHANGES = {
    "ALTER TABLE users ALTER name DROP NOT NULL": "column users.name",
    "ALTER TABLE users ALTER name SET DEFAULT 'y'": "column users.name",
    "ALTER TABLE users ALTER code TYPE varchar(3)": "column users.code",
    "ALTER TABLE shop.orders ALTER id SET GENERATED BY DEFAULT": "column shop.orders.id",
    "ALTER TABLE users DROP CONSTRAINT sane": "check users",
    "ALTER TABLE shop.orders DROP CONSTRAINT orders_owner_fkey": "foreign key shop.orders",
    "DROP INDEX first_index": "index users",
    "ALTER TABLE users DROP CONSTRAINT users_mail_key": "unique users",
    "ALTER TYPE mood ADD VALUE 'mad'": "type mood",
    "ALTER DOMAIN price SET NOT NULL": "domain price",
    "CREATE OR REPLACE VIEW happy AS SELECT id, name FROM users": "view happy",
    "DROP MATERIALIZED VIEW totals": "materialized view totals",
    "CREATE OR REPLACE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 3'": "function one",
    "ALTER TABLE users DISABLE TRIGGER touched": "trigger users.touched",
    "ALTER TABLE users DISABLE ROW LEVEL SECURITY": "table users",
    "DROP POLICY mine ON users": "policy users",
    "ALTER SEQUENCE numbers INCREMENT 3": "sequence numbers",
    "CREATE RULE silent AS ON DELETE TO users DO INSTEAD NOTHING": "rule users",
    "ALTER TABLE shop.orders SET UNLOGGED": "table shop.orders",
    "CREATE EXTENSION hstore": "extension hstore",
}


def test_each_change_is_one_difference(make: Make, postgres: Server) -> None:  # noqa: F811
    url = make(WHOLE)
    before = read(url)
    for change, name in CHANGES.items():
        postgres.run(change, url.rpartition("/")[2])
        after = read(url)
        [line] = differing(before, after)
        assert line.startswith(name), change
        before = after


def test_what_is_gone_is_told(make: Make) -> None:
    before = read(make(WHOLE))
    after = read(make(WHOLE + "; DROP TABLE shop.orders CASCADE; ALTER TABLE users DROP code"))
    assert lost(before, after) == [
        *(f"column shop.orders.{name} is dropped" for name in ("cost", "during", "id", "owner")),
        "column users.code is dropped",
        "table shop.orders is dropped",
    ]


def test_a_tools_own_table_can_be_left_out(make: Make) -> None:
    one = read(make("CREATE TABLE t (n int)"))
    other = read(make('CREATE TABLE t (n int); CREATE TABLE alembic_version (v text PRIMARY KEY); CREATE SCHEMA "a.b";'
                      'CREATE TABLE "a.b".log (n serial PRIMARY KEY, CHECK (n > 0))'))  # fmt: skip
    kept = other.without(frozenset({"alembic_version", '"a.b".log'}))
    assert differing(one, kept) == ['schema "a.b" is only in other']


def test_what_cannot_be_read_is_never_taken_for_empty(make: Make) -> None:
    url = make("")
    assert read(url) == Contents()
    with pytest.raises(DatabaseError, match="does not exist"):
        read(url + "_not")
    with pytest.raises(DatabaseError) as caught:
        read("postgresql://me:hush@127.0.0.1:1/dev")
    assert caught.value.retryable
    assert "hush" not in str(caught.value)
