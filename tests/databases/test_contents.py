import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.databases import contents_sqlite
from agentq.databases.contents import Contents, differences, kind, lost, quoted, read
from agentq.errors import DatabaseError

NAMES = ("pushed", "migrated")


@pytest.fixture
def made(tmp_path: Path) -> Iterator[object]:
    """Contents of a fresh database after a script."""
    yield lambda script: contents(tmp_path / f"{len(list(tmp_path.iterdir()))}.db", script)


def contents(path: Path, script: str) -> Contents:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)
    return read(str(path))


def in_memory(script: str, folder: Path) -> Contents:
    path = folder / "h.db"
    path.unlink(missing_ok=True)
    return contents(path, script)


# ------------------------------------------------------------ different means, same end

SAME = [
    ("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)", "CREATE TABLE t (a INTEGER PRIMARY KEY); ALTER TABLE t ADD COLUMN b TEXT"),
    ("CREATE TABLE t (a INT, b INT)", "CREATE TABLE t (b INT, a INT)"),
    ("CREATE TABLE t (a INT, b INT)", "CREATE TABLE t (a INT, x INT); ALTER TABLE t RENAME COLUMN x TO b"),
    ("CREATE TABLE t (a INT CHECK (a > 0))", 'CREATE TABLE u ("a" int, CONSTRAINT c CHECK (("a">0))); ALTER TABLE u RENAME TO t'),
    ("CREATE TABLE t (a INT, CHECK (a <> 1 -- no, not 2\n))", "CREATE TABLE [t] (`a` /* one */ INT check(A != 1))"),
    ("CREATE TABLE t (a INT UNIQUE)", "CREATE TABLE t (a INT); CREATE UNIQUE INDEX whatever ON t (a)"),
    ("CREATE TABLE t (a INT); CREATE INDEX i ON t (a)", "CREATE TABLE t (a INT); CREATE INDEX j ON t (a)"),
    ("CREATE TABLE t (a INTEGER NOT NULL PRIMARY KEY)", "CREATE TABLE t (a INTEGER, PRIMARY KEY (a))"),
    ("CREATE TABLE t (a INT DEFAULT 0)", "CREATE TABLE t (a INT DEFAULT (0))"),
    ("CREATE TABLE t (a INT DEFAULT NULL)", "CREATE TABLE t (a INT)"),
    ("CREATE TABLE t (a TEXT DEFAULT 'x')", 'CREATE TABLE t (a TEXT DEFAULT "x")'),
    ("CREATE TABLE t (a VARCHAR(20))", 'CREATE TABLE t ("a" varchar ( 20 ))'),
    (
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (a INT REFERENCES p)",
        "CREATE TABLE p (id INTEGER PRIMARY KEY); CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES P (id))",
    ),
    ("CREATE TABLE t (a); CREATE VIEW v AS SELECT a FROM t", 'CREATE TABLE t (a); CREATE VIEW v AS select "a"\n from t'),
    (
        "CREATE TABLE t (a); CREATE TRIGGER g AFTER INSERT ON t BEGIN DELETE FROM t WHERE a = 'B'; END",
        "CREATE TABLE t (a); CREATE TRIGGER g after insert on [t]\nbegin delete from t where a='B' ; end",
    ),
    ("CREATE TABLE t (a)", "CREATE TABLE t (a); CREATE TABLE u (b INTEGER PRIMARY KEY AUTOINCREMENT); DROP TABLE u; ANALYZE"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_end_by_different_means_is_equal(made, one: str, other: str) -> None:
    assert differences(made(one), made(other), NAMES) == []


BASE = """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'x', age INT, mail TEXT COLLATE nocase,
    twice INT AS (age * 2) VIRTUAL, CHECK (age > 0), UNIQUE (name, age));
CREATE TABLE posts (id INTEGER PRIMARY KEY, author INT REFERENCES users (id) ON DELETE CASCADE, text TEXT);
CREATE INDEX by_age ON users (age DESC, lower(name)) WHERE age > 5;
CREATE INDEX by_text ON posts (text);
CREATE VIEW old AS SELECT * FROM users WHERE age > 99;
CREATE TRIGGER stamp AFTER INSERT ON posts BEGIN UPDATE posts SET text = 'A'; END;
"""
CHANGES = [
    ("TEXT NOT NULL", "TEXT"), ("DEFAULT 'x'", "DEFAULT 'X'"), ("DEFAULT 'x'", ""), ("age INT,", "age INTEGER,"),
    ("COLLATE nocase", ""), ("COLLATE nocase", "COLLATE rtrim"), ("age * 2", "age * 3"), ("VIRTUAL", "STORED"),
    (" AS (age * 2) VIRTUAL", ""), ("CHECK (age > 0)", "CHECK (age >= 0)"), ("CHECK (age > 0), ", ""),
    ("UNIQUE (name, age)", "UNIQUE (name)"), ("id INTEGER PRIMARY KEY, name", "id INT PRIMARY KEY, name"),
    ("id INTEGER PRIMARY KEY, name", "id INTEGER PRIMARY KEY AUTOINCREMENT, name"),
    ("ON DELETE CASCADE", "ON DELETE SET NULL"), ("ON DELETE CASCADE", ""), ("REFERENCES users (id)", "REFERENCES posts (id)"),
    ("ON DELETE CASCADE", "ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED"), ("age DESC", "age"),
    ("lower(name)", "upper(name)"), ("WHERE age > 5", "WHERE age > 6"), (" WHERE age > 5", ""),
    ("CREATE INDEX by_text", "CREATE UNIQUE INDEX by_text"), ("(text)", "(text COLLATE nocase)"),
    ("age > 99", "age > 9"), ("text = 'A'", "text = 'a'"), ("AFTER INSERT", "BEFORE INSERT"),
    ("author INT", "writer INT"), ("(name, age));", "(name, age)) STRICT;"),
    ("(name, age));", "(name, age)) WITHOUT ROWID;"), ("UNIQUE (name, age)", "UNIQUE (name, age) ON CONFLICT IGNORE"),
    ("CREATE VIEW old AS SELECT * FROM users WHERE age > 99;", ""), ("CREATE INDEX by_text ON posts (text);", ""),
    ("posts", '"po.sts"'),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_a_real_difference_is_seen(made, before: str, after: str) -> None:
    assert before in BASE
    assert differences(made(BASE), made(BASE.replace(before, after)), NAMES)


ODD = st.text(
    st.sampled_from("ab. \"'`[](),;-*/é😀\n%?#"), min_size=1, max_size=6
).filter(lambda name: name.strip() and "\0" not in name)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(table=ODD, column=ODD, other=ODD)
def test_any_name_is_read_and_told_from_another(tmp_path_factory, table: str, column: str, other: str) -> None:
    folder = tmp_path_factory.getbasetemp()

    def script(name: str) -> str:
        def sql(text: str) -> str:
            return '"' + text.replace('"', '""') + '"'

        return (
            f"CREATE TABLE {sql(table)} ({sql(name)} INT NOT NULL CHECK ({sql(name)} > 0) UNIQUE);"
            f"CREATE INDEX {sql('i' + table)} ON {sql(table)} ({sql(name)} DESC);"
            f"INSERT INTO {sql(table)} VALUES (1)"
        )

    one = in_memory(script(column), folder)
    assert one.rows == {quoted(table): 1}
    assert one.without(frozenset({quoted(table)})) == Contents()
    two = in_memory(script(other), folder)
    assert bool(differences(one, two, NAMES)) == (column != other)
    assert lost(one, two) == ([f"column {quoted(table, column)} is dropped"] if column != other else [])


def test_the_rows_and_what_is_sqlites_own(made) -> None:
    found = made(
        "CREATE TABLE t (a INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO t VALUES (1), (2); ANALYZE;"
        "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('a')"
    )
    assert found.rows == {"t": 2, "f": 1}
    assert found.objects == {
        "table t": "", "column t.a": "integer not null", "primary key t(a)": "autoincrement",
        "table f": "virtual using fts5(x)",
    }  # fmt: skip


def test_a_table_of_a_tool_goes_with_all_that_belongs_to_it(made) -> None:
    tool = (
        "CREATE TABLE key (a INT REFERENCES app (b), CHECK (a > 0), UNIQUE (a)); CREATE INDEX i ON key (a DESC);"
        "CREATE TRIGGER g AFTER INSERT ON key BEGIN SELECT 1; END;"
    )
    app = "CREATE TABLE app (b INTEGER PRIMARY KEY, key INT);"
    assert made(tool + app).without(frozenset({"key"})) == made(app)


def test_what_is_lost_is_told(made) -> None:
    before = made(
        "CREATE TABLE a (x, y); CREATE TABLE b (z); INSERT INTO a VALUES (1, 2), (3, 4); INSERT INTO b VALUES (1)"
    )
    after = made("CREATE TABLE a (x, w); INSERT INTO a VALUES (1, 2)")
    assert lost(before, after) == [
        "column a.y is dropped", "column b.z is dropped", "table b is dropped", "table a loses 1 of 2 rows",
    ]  # fmt: skip
    assert lost(before, before) == []


# ------------------------------------------------------------ the tools themselves


def test_sqlalchemy_whole_equals_alembic_step_by_step(tmp_path: Path) -> None:
    import sqlalchemy as sa
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    meta = sa.MetaData()
    sa.Table(
        "team", meta, sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(40), unique=True)
    )
    sa.Table(
        "person", meta,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(80), nullable=False, index=True),
        sa.Column("age", sa.Integer, server_default="0", nullable=False),
        sa.Column("team_id", sa.ForeignKey("team.id", ondelete="CASCADE")),
        sa.CheckConstraint("age >= 0", name="grown"),
    )  # fmt: skip
    whole, steps = (sa.create_engine(f"sqlite:///{tmp_path / name}") for name in ("whole.db", "steps.db"))
    meta.create_all(whole)
    with steps.begin() as connection:
        op = Operations(MigrationContext.configure(connection))
        op.create_table("team", sa.Column("id", sa.Integer, nullable=False), sa.PrimaryKeyConstraint("id"))
        op.create_table("human", sa.Column("id", sa.Integer, primary_key=True), sa.Column("nick", sa.Text))
        op.rename_table("human", "person")
        op.add_column("person", sa.Column("age", sa.Integer, server_default="0", nullable=False))
        with op.batch_alter_table("person") as batch:
            batch.drop_column("nick")
            batch.add_column(sa.Column("name", sa.String(80), nullable=False))
            batch.add_column(sa.Column("team_id", sa.Integer))
            batch.create_foreign_key("to_team", "team", ["team_id"], ["id"], ondelete="CASCADE")
            batch.create_check_constraint("grown", "age >= 0")
        with op.batch_alter_table("team") as batch:
            batch.add_column(sa.Column("name", sa.String(40)))
            batch.create_unique_constraint("one_name", ["name"])
        op.create_index("ix_person_name", "person", ["name"])
    for engine in (whole, steps):
        engine.dispose()
    one, two = (read(f"sqlite:///{tmp_path / name}") for name in ("whole.db", "steps.db"))
    assert differences(one, two, NAMES) == []
    assert len(one.objects) == 14


def test_a_rebuilt_table_equals_one_made_at_once(made) -> None:
    """As Django does it: a new table, the rows moved over, the old name."""
    whole = (
        'CREATE TABLE "t" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "n" integer unsigned NOT NULL '
        'CHECK ("n" >= 0), "o_id" bigint NULL REFERENCES "t" ("id") DEFERRABLE INITIALLY DEFERRED);'
        'CREATE INDEX "t_o_id_1a" ON "t" ("o_id");'
    )
    rebuilt = (
        'CREATE TABLE "t" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "o_id" bigint NULL);'
        'CREATE TABLE "new__t" ("o_id" bigint NULL REFERENCES "t" ("id") DEFERRABLE INITIALLY DEFERRED, '
        '"n" integer unsigned NOT NULL CHECK ("n" >= 0), "id" integer NOT NULL PRIMARY KEY AUTOINCREMENT);'
        'INSERT INTO "new__t" ("id", "o_id", "n") SELECT "id", "o_id", 0 FROM "t"; DROP TABLE "t";'
        'ALTER TABLE "new__t" RENAME TO "t"; CREATE INDEX "t_o_id_2b" ON "t" ("o_id");'
    )
    assert differences(made(whole), made(rebuilt), NAMES) == []


# ------------------------------------------------------------ what cannot be read


def test_what_cannot_be_read_is_never_taken_for_empty(tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_text("hello " * 1000)
    for name, why in (("nowhere.db", "unable to open"), ("broken.db", "not a database")):
        with pytest.raises(DatabaseError, match=why):
            read(f"sqlite:///{tmp_path / name}")
    assert not (tmp_path / "nowhere.db").exists()


def test_reading_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a b%?#.db"
    contents(path, "PRAGMA journal_mode = wal; CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    before = path.read_bytes()
    assert read(str(path)).rows == {"t": 1}
    assert path.read_bytes() == before
    assert read(str(path)).rows == {"t": 1}


def test_a_locked_database_is_waited_for_and_then_named(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    contents(path, "CREATE TABLE t (a)")
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseError, match="locked") as caught:
            contents_sqlite.read(str(path), 0.1)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///a.db", "sqlite"), ("sqlite+aiosqlite:////a.db", "sqlite"), ("file:/a", "sqlite"), ("a.db", "sqlite"),
        ("/a:b.db", "sqlite"), ("postgres://u@h/d", "postgres"), ("postgresql+psycopg://u@h/d", "postgres"),
    ],
)  # fmt: skip
def test_the_kind_is_in_the_form_of_the_url(url: str, expected: str) -> None:
    assert kind(url) == expected


def test_another_kind_is_refused_without_its_password() -> None:
    with pytest.raises(DatabaseError, match="mysql") as caught:
        read("mysql://u:hunter22@h/d")
    assert "hunter22" not in caught.value.message
