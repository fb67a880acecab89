"""`agentq db`, as a person uses it, on SQLite; and what is done in the background."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import project as projects
from support.project import Project

from agentq.databases.kept import Kept
from agentq.databases.sqlite import SqliteDatabases
from agentq.flows import branches

HOUR = timedelta(hours=1)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = projects.build(tmp_path / "p", config='[database]\nprovider = "sqlite"\nurl = "sqlite:///dev.db"\n')
    with closing(sqlite3.connect(made.checkout / "dev.db")) as db, db:
        db.execute("CREATE TABLE t (a)")
        db.execute("INSERT INTO t VALUES (1)")
    return made


def rows(url: str) -> list[tuple[int]]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
        return db.execute("SELECT a FROM t").fetchall()


def test_a_person_makes_a_branch_and_destroys_it(project: Project) -> None:
    assert "no branches" in project.agentq("db", "list").stdout
    name = project.agentq("db", "branch", "mine").stdout.strip()
    assert project.agentq("db", "branch", "mine").stdout.strip() == name
    other = project.agentq("db", "branch", "other", "--empty").stdout.strip()
    listed = project.agentq("db", "list").stdout
    assert name in listed and other in listed and "a person" in listed and "[empty]" in listed
    assert max(len(line) for line in listed.splitlines()) <= 80
    url = project.agentq("db", "url", name).stdout.strip()
    assert rows(url) == [(1,)]
    assert "needs a yes" in project.agentq("db", "drop", name, rc=2).stderr
    project.agentq("db", "drop", name, "--yes")
    found = json.loads(project.agentq("db", "list", "--json").stdout)
    assert [one["name"] for one in found["branches"]] == [other]
    assert "there is no database branch" in project.agentq("db", "url", name, rc=2).stderr


def test_a_persons_branch_outlives_its_maker_but_not_its_time(project: Project) -> None:
    name = project.agentq("db", "branch").stdout.strip()
    assert project.agentq("db", "reap").stdout == "nothing to destroy\n"
    project.agentq("recover")
    databases = SqliteDatabases("dev.db", project.checkout, project.workspaces / "databases")
    assert branches.reap(databases, datetime.now(UTC) + timedelta(hours=7)) == []
    assert branches.reap(databases, datetime.now(UTC) + timedelta(hours=9)) == [name]


def test_what_a_dead_process_left_is_reaped(project: Project) -> None:
    databases = SqliteDatabases("dev.db", project.checkout, project.workspaces / "databases")
    made = databases.acquire("x", HOUR, datetime.now(UTC), "1/1/no-such-process")
    assert "nobody: reaped soon" in project.agentq("db", "list").stdout
    assert project.agentq("db", "reap").stdout == f"destroyed: {made.name}\n"


def test_seal_and_warm(project: Project) -> None:
    sealed = project.agentq("db", "seal").stdout
    assert project.agentq("db", "seal").stdout == sealed
    assert project.agentq("db", "warm", "2").stdout == "2 ready\n"
    found = json.loads(project.agentq("db", "branch", "--json").stdout)
    assert found["warm"] is True
    assert project.agentq("db", "warm").stdout == "0 ready\n"


def test_without_a_database_a_branch_is_refused(tmp_path: Path) -> None:
    plain = projects.build(tmp_path / "plain")
    assert "no database is configured" in plain.agentq("db", "branch", rc=2).stderr
    assert "no branches" in plain.agentq("db", "list").stdout


def test_releases_wait_for_no_stage_and_are_done_at_the_end(project: Project) -> None:
    inner = SqliteDatabases("dev.db", project.checkout, project.workspaces / "databases")
    kept = Kept(inner, 2)
    now = datetime.now(UTC)
    first = kept.acquire("one", HOUR, now, "me")
    kept.release(first.id)
    kept.close()
    assert inner.branches() == []
    again = Kept(inner, 2)
    inner.warm(2)
    assert again.acquire("two", HOUR, now, "me").warm is True
    again.close()
