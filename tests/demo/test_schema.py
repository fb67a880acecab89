"""The schema of the demo's project: its own small migration tool, and what is said of the landed migrations."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from agentq import wiring
from agentq.cli import demo_
from agentq.core.paths import matches_any
from agentq.databases import contents
from agentq.demo import schema

CHANGING = ["tags", "trash", "pins", "import"]
TAGS = """\
CREATE TABLE tags (
    note_id INTEGER NOT NULL REFERENCES notes (id) ON DELETE CASCADE,
    tag TEXT NOT NULL
);
CREATE INDEX tags_by_tag ON tags (tag);
"""


@pytest.fixture
def space(shared, tmp_path):
    """A workspace whose schema a test may change."""
    return shared.workspace(tmp_path / "space", "origin/main")


def execute(path, *statements):
    with closing(sqlite3.connect(path)) as db, db:
        for one in statements:
            db.execute(one)


def ask(path, query):
    with closing(sqlite3.connect(path)) as db:
        return [row[0] for row in db.execute(query)]


def files(space):
    return sorted(one.name for one in (space / "migrations").iterdir())


def declare(space, column, more=""):
    """Add a column to the notes, and the file `more` to the schema."""
    notes = space / "notes" / "schema" / "notes.sql"
    notes.write_text(notes.read_text().replace("    created", f"    {column},\n    created"))
    if more:
        (space / "notes" / "schema" / "tags.sql").write_text(more)


def same(one, other):
    return contents.differences(schema.read(one), schema.read(other), ("one", "other"))


# ---------------------------------------------------------------- the tool


def test_migrations_and_schema_are_one_at_the_beginning(shared, space, tmp_path):
    built, pushed = f"sqlite:///{tmp_path / 'built.db'}", f"sqlite:///{tmp_path / 'pushed.db'}"
    assert shared.migrate(space, built, "upgrade").stdout == "0001_notes.sql\n"
    assert shared.migrate(space, built, "upgrade").stdout == ""
    assert shared.migrate(space, pushed, "push").returncode == 0
    assert ask(tmp_path / "built.db", "SELECT name FROM schema_migrations") == ["0001_notes.sql"]
    assert same(built, pushed) == same(built, shared.demo.dev_url) == []
    for url in (built, pushed, shared.branch(tmp_path / "copy.db")):
        assert shared.migrate(space, url, "check").returncode == 0
    assert shared.migrate(space, built, "generate", "nothing").stdout == ""
    assert files(space) == ["0001_notes.sql"]


def test_what_the_schema_has_more_becomes_the_next_migration(shared, space, tmp_path):
    url, pushed = f"sqlite:///{tmp_path / 'built.db'}", f"sqlite:///{tmp_path / 'pushed.db'}"
    copy = shared.branch(tmp_path / "copy.db")
    shared.migrate(space, url, "upgrade")
    declare(space, "stars INTEGER NOT NULL DEFAULT 0 CHECK (stars < 6)", TAGS)
    assert "no such" not in shared.migrate(space, url, "check").stderr
    assert shared.migrate(space, url, "check").returncode == 1
    assert shared.migrate(space, url, "generate", "add_tags").stdout == "0002_add_tags.sql\n"
    assert shared.migrate(space, url, "check").returncode == 1, "writing it down changes no database"
    for one in (url, copy):
        assert shared.migrate(space, one, "upgrade").stdout == "0002_add_tags.sql\n"
        assert shared.migrate(space, one, "check").returncode == 0
    shared.migrate(space, pushed, "push")
    assert same(url, pushed) == same(url, copy) == []
    assert schema.read(copy).rows == {"notes": 210, "tags": 0}
    assert shared.migrate(space, url, "generate", "again").stdout == ""


def test_push_adds_to_a_copy_of_dev_and_leaves_what_dev_has_more(shared, space, tmp_path):
    url = shared.branch(tmp_path / "copy.db")
    execute(tmp_path / "copy.db", "CREATE TABLE later (id INTEGER)", "ALTER TABLE notes ADD COLUMN later TEXT")
    declare(space, "stars INTEGER", TAGS)
    for _ in range(2):
        assert shared.migrate(space, url, "push").returncode == 0
        assert schema.read(url).rows == {"notes": 210, "tags": 0, "later": 0}
    assert {"later", "stars"} <= set(ask(tmp_path / "copy.db", "SELECT name FROM pragma_table_info('notes')"))


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("CREATE TABLE more (id INTEGER)", "table more is too much"),
        ("ALTER TABLE notes ADD COLUMN more TEXT", "notes.more is too much"),
        ("DROP INDEX notes_by_time", "missing: CREATE INDEX notes_by_time"),
        ("ALTER TABLE notes DROP COLUMN body", "missing: ALTER TABLE notes ADD COLUMN body TEXT"),
    ],
)
def test_check_sees_every_difference(shared, space, tmp_path, statement, said):
    url = shared.branch(tmp_path / "copy.db")
    execute(tmp_path / "copy.db", statement)
    done = shared.migrate(space, url, "check")
    assert done.returncode == 1 and said in done.stderr
    if "too much" in said:
        assert shared.migrate(space, url, "generate", "x").returncode == 1
        assert files(space) == ["0001_notes.sql"]


def test_another_form_is_no_addition(shared, space, tmp_path):
    url = shared.branch(tmp_path / "copy.db")
    notes = space / "notes" / "schema" / "notes.sql"
    notes.write_text(notes.read_text().replace("body TEXT", "body BLOB").replace("(created, id)", "(created)"))
    for command in (["push"], ["generate", "x"], ["check"]):
        done = shared.migrate(space, url, *command)
        assert done.returncode == 1 and "notes.body is another; index notes_by_time is another" in done.stderr
    assert files(space) == ["0001_notes.sql"]


def test_a_migration_that_fails_leaves_nothing(shared, space, tmp_path):
    url = f"sqlite:///{tmp_path / 'built.db'}"
    broken = space / "migrations" / "0002_broken.sql"
    broken.write_text("CREATE TABLE half (id INTEGER);\nINSERT INTO nowhere VALUES (1);\n")
    done = shared.migrate(space, url, "upgrade")
    assert (done.returncode, done.stderr) == (1, "migrate: no such table: nowhere\n")
    assert ask(tmp_path / "built.db", "SELECT name FROM schema_migrations") == ["0001_notes.sql"]
    assert "half" not in ask(tmp_path / "built.db", "SELECT name FROM sqlite_master")
    broken.write_text("CREATE TABLE half (id INTEGER)\n;-- now whole")
    assert shared.migrate(space, url, "upgrade").returncode == 0
    assert "half" in ask(tmp_path / "built.db", "SELECT name FROM sqlite_master")


def test_one_order_or_none(shared, space, tmp_path):
    url = f"sqlite:///{tmp_path / 'built.db'}"
    for name in ("0002_tags.sql", "0002_trash.sql"):
        (space / "migrations" / name).write_text(f"CREATE TABLE {name[5:-4]} (id INTEGER);\n")
    done = shared.migrate(space, url, "upgrade")
    assert (done.returncode, done.stderr) == (1, "migrate: 0002_trash.sql should be number 3\n")
    assert not ask(tmp_path / "built.db", "SELECT name FROM sqlite_master WHERE name LIKE 't%' OR name = 'notes'")
    (space / "migrations" / "0002_tags.sql").rename(space / "migrations" / "0003_tags.sql")
    assert shared.migrate(space, url, "generate", "x").returncode == 1, "what was not applied is not missing"
    assert shared.migrate(space, url, "upgrade").returncode == 0


def test_another_migration_of_a_number_dev_has_had_is_not_taken_for_it(shared, space, tmp_path):
    url = shared.branch(tmp_path / "copy.db")
    execute(tmp_path / "copy.db", "INSERT INTO schema_migrations VALUES ('0002_trash.sql')")
    (space / "migrations" / "0002_tags.sql").write_text("CREATE TABLE tags (id INTEGER);\n")
    assert shared.migrate(space, url, "upgrade").stdout == "0002_tags.sql\n"


@pytest.mark.parametrize("args", [[], ["generate"], ["check", "x"], ["drop"]])
def test_wrong_usage_touches_nothing(shared, space, tmp_path, args):
    assert shared.migrate(space, f"sqlite:///{tmp_path / 'none.db'}", *args).returncode == 2
    assert not (tmp_path / "none.db").exists()


# ---------------------------------------------------------------- the specs


def test_four_specs_change_the_schema_and_would_take_the_same_number(prepared, tmp_path):
    """Each of them alone on the trunk it begins with. Two are ready at once from the beginning."""
    bench, taken = prepared.bench, {}
    for spec in bench.specs:
        base, head = prepared.result(spec)
        if bench.git("diff", "--name-only", base, head, "--", "notes/schema"):
            space, url = bench.workspace(tmp_path / spec, head), f"sqlite:///{tmp_path / spec}.db"
            bench.migrate(space, url, "upgrade")
            taken[spec] = bench.migrate(space, url, "generate", spec).stdout.strip()
        assert not bench.git("diff", "--name-only", base, head, "--", "migrations")
    assert taken == {spec: f"0002_{spec}.sql" for spec in CHANGING}
    assert not bench.specs["tags"].depends_on and not bench.specs["trash"].depends_on
    assert not bench.clashes("tags", "trash")
    assert not [spec for spec in bench.specs.values() if matches_any(spec.files_modified, "migrations/0002_a.sql")]


# ---------------------------------------------------------------- what is said at the end


def event(spec, name, at):
    return {"event": "migration", "of": spec, "paths": [f"migrations/{name}"], "at": at}


def judge(bench, folder, dev, events=()):
    """As if what is in `folder`/fresh had landed."""
    before = schema.read(bench.demo.dev_url)
    return schema.judge(folder / "fresh", f"sqlite:///{folder / 'empty.db'}", dev, before, events)


def test_what_is_said_when_all_is_well(shared, tmp_path):
    shared.workspace(tmp_path / "fresh", "origin/main")
    events = [
        {"event": "landed", "at": "1", "commit": "c"},
        event("trash", "0003_trash.sql", "4"),
        event("trash", "0002_trash.sql", "3"),
        event("tags", "0002_tags.sql", "2"),
    ]
    judged = judge(shared, tmp_path, shared.demo.dev_url, events)
    assert judged.good
    assert judged.lines == [
        "1 file in one order: 0001_notes",
        "0002 was written for tags and trash; the second to land was made anew",
        "from nothing they build the schema that dev has; dev kept its 210 notes",
    ]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM notes WHERE id = 7", "FAILED: in dev, table notes loses 1 of 210 rows"),
        ("ALTER TABLE notes ADD COLUMN more TEXT", "FAILED: column notes.more is only in dev"),
        ("DROP INDEX notes_by_time", "FAILED: index notes(created, id) is only in what they build from nothing"),
    ],
)
def test_a_dev_that_is_not_what_it_should_be(shared, tmp_path, statement, said):
    shared.workspace(tmp_path / "fresh", "origin/main")
    dev = shared.branch(tmp_path / "dev.db")
    execute(tmp_path / "dev.db", statement)
    judged = judge(shared, tmp_path, dev)
    assert not judged.good and judged.lines[1:] == [said]


def test_migrations_that_do_not_build_the_schema(shared, tmp_path):
    declare(shared.workspace(tmp_path / "fresh", "origin/main"), "stars INTEGER")
    judged = judge(shared, tmp_path, shared.demo.dev_url)
    assert not judged.good and "'notes.migrate check' failed: migrate: missing: ALTER TABLE" in judged.lines[-1]


def test_no_migrations_build_nothing(shared, tmp_path):
    shutil.rmtree(shared.workspace(tmp_path / "fresh", "origin/main") / "migrations")
    judged = judge(shared, tmp_path, shared.demo.dev_url)
    assert not judged.good and judged.lines[0].startswith("0 files")


def test_a_migration_that_is_no_sql(shared, tmp_path):
    fresh = shared.workspace(tmp_path / "fresh", "origin/main")
    (fresh / "migrations" / "0002_x.sql").write_text("CREATE;\n")
    judged = judge(shared, tmp_path, shared.demo.dev_url)
    assert not judged.good and judged.lines[-1].startswith("FAILED: 'notes.migrate upgrade' failed: migrate: near")


@pytest.mark.parametrize("kept", [True, False])
def test_what_did_not_come_out_well_is_told_and_is_no_success(bench, capsys, kept):
    before = schema.read(bench.demo.dev_url)
    if not kept:
        execute(bench.demo.checkout / "data" / "dev.db", "DELETE FROM notes WHERE id = 7")
    assert demo_.prove_landed(wiring.base(bench.demo.checkout), bench.demo, before) is kept
    told = capsys.readouterr().out
    assert ("FAILED: in dev, table notes loses 1 of 210 rows" in told) is not kept
    assert ("dev kept its 210 notes" in told) is kept
    assert "Ran 12 tests" in told and "OK" in told


def test_a_red_suite_is_no_success(bench, capsys):
    (bench.demo.checkout / "tests" / "test_red.py").write_text("import nothing_of_this_name\n")
    bench.git("add", "-A", cwd=bench.demo.checkout)
    bench.git("commit", "-qm", "red", cwd=bench.demo.checkout)
    bench.git("push", "-q", cwd=bench.demo.checkout)
    before = schema.read(bench.demo.dev_url)
    assert not demo_.prove_landed(wiring.base(bench.demo.checkout), bench.demo, before)
    assert "FAILED (errors=1)" in capsys.readouterr().out
