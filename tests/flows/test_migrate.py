"""Specs that change the schema, on real Alembic and Django projects with SQLite and PostgreSQL, from ready to landed."""

import sys
from pathlib import Path
from typing import Any

import pytest
from support import project as projects
from support import schema_runs
from support.project import run
from support.schema_runs import COLUMN, MODELS, VERSIONS, SchemaRuns
from support.size import FULL

from agentq.databases import contents

ALL = [(tool, kind) for tool in ("alembic", "django") for kind in ("sqlite", "postgres")]


def _build(tmp_path: Path, param: tuple[str, str], more: str = "") -> SchemaRuns:
    tool, kind = param
    place = schema_runs.Files(tmp_path) if kind == "sqlite" else schema_runs.Served()
    return schema_runs.build(tmp_path, tool, place, more=more)


@pytest.fixture(params=ALL if FULL else [("alembic", "sqlite")], ids="-".join)
def runs(request: pytest.FixtureRequest, tmp_path: Path) -> SchemaRuns:
    return _build(tmp_path, request.param)


SOME = [("alembic", "postgres"), ("django", "sqlite"), ("drizzle", "sqlite")]


@pytest.fixture(params=[*ALL, SOME[-1]] if FULL else [SOME[0], SOME[-1]], ids="-".join)
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> SchemaRuns:
    """With every tool, and on both kinds of databases."""
    return _anywhere(tmp_path, request.param)


def _anywhere(tmp_path: Path, param: tuple[str, str]) -> SchemaRuns:
    try:
        return _build(tmp_path, param)
    except LookupError as error:
        pytest.skip(f"Drizzle cannot be had: {error}")


@pytest.fixture(params=ALL if FULL else [("django", "postgres")], ids="-".join)
def following(request: pytest.FixtureRequest, tmp_path: Path) -> SchemaRuns:
    return _build(tmp_path, request.param, 'apply_to_dev = "*"\n')


def landed(report: Any) -> None:
    assert report.ended == "landed", (report.problem, report.hint)


def test_a_change_lands_with_its_canonical_migration_and_not_with_the_agents(runs: SchemaRuns) -> None:
    path, after, line = COLUMN[runs.tool, "users"]
    own = f"Path('{VERSIONS[runs.tool]}/0099_mine.py').write_text('raise SystemExit')"
    runs.edit("add-nick", path, after, after + line.format(name="nick"), more=own)
    before = runs.migrations()
    landed(run(runs.project, "add-nick"))
    (new,) = set(runs.migrations()) - set(before)
    assert "add_nick" in new and "nick" in runs.on_trunk(new)
    assert runs.columns() == {"id", "email", "name"}, "dev was not to be touched"
    runs.assert_one_order()


ORDERS = ["ab", "ba"]
BOTH = [(*one, order) for one in [*ALL, SOME[-1]] for order in ORDERS]
EACH = [(*one, order) for one, order in zip(SOME, ORDERS, strict=False)]


@pytest.mark.parametrize("case", BOTH if FULL else EACH, ids="-".join)
def test_two_changes_side_by_side_land_in_both_orders(tmp_path: Path, case: tuple[str, str, str]) -> None:
    *where, order = case
    runs = _anywhere(tmp_path, (where[0], where[1]))
    runs.column("a", "users", "nick")
    runs.column("b", "orders", "note")
    for name in ("a", "b"):
        assert run(runs.project, name, last="implement").ended == "stopped"
    for name in order:
        landed(run(runs.project, name))
    assert len(runs.migrations()) == 3
    runs.assert_one_order()


def test_two_changes_land_in_one_batch_the_second_made_anew(anywhere: SchemaRuns) -> None:
    runs = anywhere
    project = runs.project
    runs.column("a", "users", "nick")
    runs.column("b", "orders", "note")
    codes, said = schema_runs.together(runs, ("a", "b"))
    assert codes == [0, 0], said
    assert project.landings() == ["a", "b"]
    assert len(runs.migrations()) == 3
    runs.assert_one_order()
    events = [event for name in ("a", "b") for event in projects.services(project).runs.events(name)]
    assert [event["specs"] for event in events if event["event"] == "pushing"] == [["a", "b"]]
    anew = [event["paths"] for event in events if event["event"] == "migration" and event["of"] == "b"]
    assert len(anew) == 2, "once in its own verification, once behind a"
    assert runs.on_trunk("beside.txt")


def test_dev_follows_the_landings_with_its_rows(following: SchemaRuns) -> None:
    following.column("a", "users", "nick")
    landed(run(following.project, "a"))
    assert "nick" in following.columns()
    following.column("b", "orders", "note")
    landed(run(following.project, "b"))
    assert "note" in following.columns("orders")
    following.assert_one_order()


def test_dev_may_move_while_a_migration_is_made(tmp_path: Path) -> None:
    """Another landing is applied to dev between two steps: that is no difference of this spec's migration."""
    ahead = tmp_path / "ahead.py"
    ahead.write_text(
        f"import sqlite3\ndb = sqlite3.connect({str(tmp_path / 'p' / 'checkout' / 'dev.db')!r})\n"
        "db.execute('CREATE TABLE IF NOT EXISTS ahead (id INTEGER PRIMARY KEY)')\ndb.close()\n"
    )
    upgrade = f"alembic upgrade head && {sys.executable} {ahead}"
    runs = _build(tmp_path, ("alembic", "sqlite"), f"upgrade = '{upgrade}'\n")
    runs.column("a", "users", "nick")
    landed(run(runs.project, "a"))
    assert "nick" in runs.on_trunk(runs.migrations()[-1])
    assert "table ahead" in contents.read(runs.place.url(runs.schema, "dev")).objects


def test_a_rename_is_not_taken_for_a_loss_nor_a_loss_for_a_rename(runs: SchemaRuns) -> None:
    _, before, _ = COLUMN[runs.tool, "users"]
    runs.edit("rename", MODELS[runs.tool], before, before.replace("name", "title", 1))
    report = run(runs.project, "rename")
    assert report.ended == "attention"
    assert "would lose data" in report.problem and "name is dropped" in report.problem
    assert "handwritten" in report.hint
    assert runs.project.landings() == []


def test_a_loss_that_is_meant_lands(runs: SchemaRuns) -> None:
    _, before, _ = COLUMN[runs.tool, "users"]
    runs.edit("drop", MODELS[runs.tool], before, "", migration="destructive")
    landed(run(runs.project, "drop"))
    runs.assert_one_order()


HANDWRITTEN = {
    "alembic": '''"""rename by hand

Revises: {parent}
"""
from alembic import op

revision = "renamed"
down_revision = "{parent}"


def upgrade():
    # By hand, and   kept as it is.
    with op.batch_alter_table("users") as table:
        table.alter_column("name", new_column_name="title")


def downgrade():
    pass
''',
    "django": """from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("shop", "{parent}")]

    # By hand, and   kept as it is.
    operations = [migrations.RenameField("user", "name", "title")]
""",
}


# Drizzle's snapshots are never moved.
@pytest.mark.parametrize("anywhere", ALL if FULL else SOME[:1], indirect=True, ids="-".join)
def test_a_handwritten_rename_follows_what_landed_before_it_and_keeps_its_rows(anywhere: SchemaRuns) -> None:
    runs = anywhere
    _, before, _ = COLUMN[runs.tool, "users"]
    parent = "000000000000" if runs.tool == "alembic" else Path(runs.migrations()[-1]).stem
    name = "renamed.py" if runs.tool == "alembic" else "0002_rename.py"
    text = HANDWRITTEN[runs.tool].replace("{parent}", parent)
    own = f"Path({VERSIONS[runs.tool] + '/' + name!r}).write_text({text!r})"
    after = before.replace("name", "title", 1)
    runs.edit("rename", MODELS[runs.tool], before, after, more=own, migration="handwritten")
    runs.column("a", "orders", "note")
    assert run(runs.project, "rename", last="implement").ended == "stopped"
    landed(run(runs.project, "a"))
    landed(run(runs.project, "rename"))
    found = next(path for path in runs.migrations() if "rename" in path)
    assert "# By hand, and   kept as it is." in runs.on_trunk(found)
    runs.assert_one_order()
    upgraded = runs.deployed("again", "upgraded")
    assert upgraded.rows[schema_runs.USERS[runs.tool]] == 3


@pytest.mark.parametrize(
    "runs", [("alembic", "sqlite"), ("django", "sqlite")][: 1 + FULL], indirect=True, ids="-".join
)
def test_what_the_push_makes_and_the_migrations_do_not_stops(runs: SchemaRuns) -> None:
    """A push that does more than the definition says: the two schemas are not the same."""
    config = runs.project.checkout / "agents" / "config.toml"
    more = "import os,sqlite3; sqlite3.connect('/'+os.environ['DATABASE_URL'].split(':',1)[1].lstrip('/'))"
    text = config.read_text()
    push = next(line for line in text.splitlines() if line.startswith("push"))
    script = runs.project.checkout / "more.py"
    script.write_text(more + ".execute('create table beside (a)')\n")
    config.write_text(text.replace(push, push[:-1] + f" && {sys.executable} more.py" + push[-1]))
    runs.project.git("add", "-A")
    runs.project.git("commit", "-qm", "a push that does more")
    runs.project.git("push", "-q", "origin", "main")
    runs.column("a", "users", "nick")
    report = run(runs.project, "a")
    assert report.ended == "attention"
    assert "migrations and pushed schema differ" in report.problem and "beside" in report.problem


def test_a_spec_without_a_change_of_the_schema_gets_no_migration(runs: SchemaRuns) -> None:
    before = runs.migrations()
    runs.project.add("plain", tests="none")
    landed(run(runs.project, "plain"))
    assert runs.migrations() == before


def test_a_dev_that_cannot_follow_is_said_and_tried_again_at_the_next_landing(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    upgrade = f"case $DATABASE_URL in *checkout/dev.db) test ! -e {broken};; esac && alembic upgrade head"
    runs = _build(tmp_path, ("alembic", "sqlite"), f"apply_to_dev = \"*\"\nupgrade = '{upgrade}'\n")
    broken.write_text("")
    runs.column("a", "users", "nick")
    landed(run(runs.project, "a"))
    assert "nick" not in runs.columns()
    assert "dev does not follow trunk's migrations" in runs.project.agentq("doctor", rc=None).stdout
    broken.unlink()
    runs.project.add("plain", tests="none")
    landed(run(runs.project, "plain"))
    assert "nick" in runs.columns()
    assert "dev does not follow" not in runs.project.agentq("doctor", rc=None).stdout


def test_without_a_database_nothing_is_guessed(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", config='[migrations]\ntool = "alembic"\n')
    project.add("a", tests="none")
    report = run(project, "a")
    assert report.ended == "attention" and "without a database" in report.problem
    assert "migrations of 'alembic' need a database" in project.agentq("doctor", rc=1).stdout
