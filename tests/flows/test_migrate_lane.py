"""Specs that change the schema, where trunk, dev or a person moves between their proof and their landing."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from support import project as projects
from support import schema_runs
from support.project import run
from support.schema_runs import COLUMN, SchemaRuns

from agentq.flows.run import run_spec
from agentq.migrations.tools import tool

HEADER = '''"""by hand

Revises: 000000000000
"""
import sqlalchemy as sa
from alembic import op

revision = "mine"
down_revision = "000000000000"

'''
# Works on an empty database as long as nothing landed before it.
FRAGILE = (
    HEADER
    + """
def upgrade():
    op.add_column("orders", sa.Column("note", sa.Text()))
    columns = [one["name"] for one in sa.inspect(op.get_bind()).get_columns("users")]
    if "nick" in columns and not op.get_bind().execute(sa.text("select count(*) from users")).scalar():
        raise SystemExit("it needs a user")
"""
)


def _alembic(root: Path, more: str = "") -> SchemaRuns:
    return schema_runs.build(root, "alembic", schema_runs.Files(root), more=more)


def _handwritten(runs: SchemaRuns, text: str) -> None:
    """The spec b adds the column `note` by a migration of its own."""
    path, after, line = COLUMN["alembic", "orders"]
    own = f"Path('migrations/versions/mine.py').write_text({text!r})"
    runs.edit("b", path, after, after + line.format(name="note"), more=own, migration="handwritten")


def _events(runs: SchemaRuns, name: str) -> list[dict[str, Any]]:
    return projects.services(runs.project).runs.events(name)


def _deploy(runs: SchemaRuns) -> int:
    """The exit status of all of trunk's migrations on an empty database."""
    clone = runs.clone("deployed")
    return clone.run(tool("alembic").commands("x", "0" * 12).upgrade, runs.place.url(clone, "deployed")).returncode


def test_a_handwritten_migration_is_proved_anew_behind_what_landed_before_it(tmp_path: Path) -> None:
    runs = _alembic(tmp_path)
    runs.column("a", "users", "nick")
    _handwritten(runs, FRAGILE)
    codes, said = schema_runs.together(runs, ("a", "b"))
    assert runs.project.landings() == ["a"], said
    assert codes[0] == 0 and codes[1] != 0
    assert "it needs a user" in runs.project.entry("b")["attention"]
    assert _deploy(runs) == 0


def test_what_only_two_specs_together_need_does_not_land_without_a_migration(tmp_path: Path) -> None:
    """One adds a table that uses a mixin, the other changes the mixin, which no table used before."""
    runs = _alembic(tmp_path)
    project = runs.project
    models = project.checkout / "models.py"
    (project.checkout / "common.py").write_text(
        "from sqlalchemy import Column, Text\n\ndef more():\n    return []\n"
    )
    models.write_text("from common import more\n" + models.read_text())
    project.git("add", "-A")
    project.git("commit", "-qm", "a mixin")
    project.git("push", "-q", "origin", "main")
    table = 'Table("logs", metadata, Column("id", Integer, primary_key=True), *more())\n'
    project.add("a", tests="none", files_modified=["models.py"])
    project.script("a", "implement", f"p = Path('models.py'); p.write_text(p.read_text() + {table!r}); commit()\n")
    project.add("b", tests="none", files_modified=["common.py"])
    project.script(
        "b", "implement",
        "p = Path('common.py'); p.write_text(p.read_text().replace('[]', '[Column(\"tz\", Text)]')); commit()\n",
    )  # fmt: skip
    codes, said = schema_runs.together(runs, ("a", "b"))
    assert codes == [0, 0], said
    assert project.landings() == ["a", "b"]
    assert len(runs.migrations()) == 3, "the second was sent back, and made the migration that was missing"
    clone = runs.clone("fresh")
    commands = tool("alembic").commands("x", "0" * 12)
    url = runs.place.url(clone, "fresh")
    for command in (commands.upgrade, commands.check):
        done = clone.run(command, url)
        assert done.returncode == 0, done.stdout


def test_a_dev_that_is_away_freezes_the_lane_and_ends_no_run_that_waits(tmp_path: Path) -> None:
    runs = _alembic(tmp_path)
    project = runs.project
    runs.column("a", "users", "nick")
    runs.column("b", "orders", "note")
    away, dev = tmp_path / "away.db", project.checkout / "dev.db"
    for name in ("a", "b"):
        assert run(project, name, last="implement").ended == "stopped"
    made = projects.services(project)
    seen: list[str] = []

    def observe(event: str, data: dict[str, Any]) -> None:
        seen.append(event)
        if event == "lane-entered":
            project.move_trunk("beside.txt", "x\n")
            dev.rename(away)
        if event == "lane-frozen":
            away.rename(dev)
            project.agentq("lane", "thaw")

    report = run_spec(replace(made, observer=observe), "a", confirm=lambda *_: True)
    assert report.ended == "landed", (report.problem, seen)
    assert "lane-frozen" in seen and project.landings() == ["a"]


def test_a_dev_that_is_out_of_order_is_no_fault_of_a_spec(tmp_path: Path) -> None:
    runs = _alembic(tmp_path)
    runs.column("a", "users", "nick")
    assert run(runs.project, "a").ended == "landed"
    with closing(sqlite3.connect(runs.project.checkout / "dev.db")) as db, db:
        db.execute("ALTER TABLE users ADD COLUMN nick TEXT")  # what the migration will want to add
    runs.project.add("plain", tests="none")
    said = runs.project.agentq("run", "plain", "--yes", rc=None)
    assert said.returncode not in (0, None) and "no spec is to blame" in said.stderr, (said.stdout, said.stderr)
    assert "attention" not in runs.project.entry("plain") and not runs.project.entry("plain").get("failures")
    with closing(sqlite3.connect(runs.project.checkout / "dev.db")) as db, db:
        db.execute("ALTER TABLE users DROP COLUMN nick")
    assert run(runs.project, "plain").ended == "landed"


def test_a_spec_that_breaks_the_upgrade_is_to_blame(tmp_path: Path) -> None:
    runs = _alembic(tmp_path)
    runs.project.add("a", tests="none", files_modified=["migrations/env.py"])
    runs.project.script(
        "a", "implement", "Path('migrations/env.py').write_text('raise SystemExit(9)'); commit()\n"
    )
    report = run(runs.project, "a")
    assert report.ended == "attention" and "with this spec's changes" in report.problem


def test_a_migration_of_dev_that_was_stopped_has_not_failed(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    wait = f"if test -e {slow}; then touch {slow}.began; sleep 60; fi"
    upgrade = f"case $DATABASE_URL in *checkout/dev.db) {wait};; esac && alembic upgrade head"
    runs = _alembic(tmp_path, f"apply_to_dev = \"*\"\nupgrade = '{upgrade}'\n")
    runs.column("a", "users", "nick")
    made = replace(
        projects.services(runs.project),
        observer=lambda event, _: slow.touch() if event == "landed" else None,
        stop=lambda: "asked to" if Path(f"{slow}.began").exists() else None,
    )
    assert run_spec(made, "a", confirm=lambda *_: True).ended == "landed"
    assert "nick" not in runs.columns()
    assert "dev does not follow" not in runs.project.agentq("doctor", rc=None).stdout
    slow.unlink()
    runs.project.add("plain", tests="none")
    assert run(runs.project, "plain", last="implement").ended == "stopped"  # trunk stands where it stood
    assert "nick" in runs.columns()


def test_what_an_edit_of_the_spec_forbids_does_not_land(tmp_path: Path) -> None:
    runs = _alembic(tmp_path)
    _handwritten(runs, HEADER + '\ndef upgrade():\n    op.add_column("orders", sa.Column("note", sa.Text()))\n')
    assert run(runs.project, "b", last="implement").ended == "stopped"
    runs.project.agentq("edit", "b", "--migration", "generated")
    assert run(runs.project, "b").ended == "landed"
    assert not any("mine" in path for path in runs.project.trunk_files())
    assert len(runs.migrations()) == 2


def test_what_rules_resolved_in_the_tests_is_said_by_the_commit_that_lands(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", config='[overlap]\nadditive = ["checks/reg.py"]\n')
    (project.checkout / "checks" / "reg.py").write_text("R = [\n    'base',\n]\n")
    project.git("add", "-A")
    project.git("commit", "-qm", "a registry")
    project.git("push", "-q", "origin", "main")
    project.add("a", files_modified=["a.txt", "checks/a.py", "checks/reg.py"])
    project.script(
        "a", "test",
        "Path('checks/a.py').write_text('assert open(\"a.txt\").read()\\n'); p = Path('checks/reg.py')\n"
        "p.write_text(p.read_text().replace(\"    'base',\\n\", \"    'base',\\n    'a',\\n\")); commit()\n",
    )  # fmt: skip
    assert run(project, "a", last="test").ended == "stopped"
    project.move_trunk("checks/reg.py", "R = [\n    'base',\n    'other',\n]\n")
    assert run(project, "a").ended == "landed"
    assert "Agentq-Resolved: additive: checks/reg.py" in project.git(
        "log", "-1", "--format=%B", "main", cwd=project.hub
    )
