"""What happens to database branches beside the stages: whose end is whose to decide, and the chores of `work`."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import postgres
from support import project as projects
from support.project import Project

from agentq import process
from agentq.databases.base import Databases
from agentq.databases.postgres import PostgresDatabases
from agentq.databases.sqlite import SqliteDatabases
from agentq.errors import DatabaseError
from agentq.flows import branches, chores
from agentq.flows.recover import recover
from agentq.flows.services import BRANCH_TTL
from agentq.store.runs import Live

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
ME = process.identity(os.getpid()) or ""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = projects.build(tmp_path / "p", config='[database]\nprovider = "sqlite"\nurl = "sqlite:///dev.db"\n')
    with closing(sqlite3.connect(made.checkout / "dev.db")) as db, db:
        db.execute("CREATE TABLE t (a)")
    return made


def test_what_a_host_that_is_gone_left_on_a_server_is_reaped_when_its_time_is_over(tmp_path: Path) -> None:
    server = postgres.shared()
    url = server.url(server.create("dev"))
    ours, gone = (PostgresDatabases(url, tmp_path / name) for name in ("ours", "gone"))
    mine = ours.acquire("mine", BRANCH_TTL, NOW, ME)
    left = gone.acquire("left", HOUR, NOW, ME)
    shutil.rmtree(tmp_path / "gone")
    assert branches.reap(ours, NOW) == []
    assert branches.reap(ours, NOW + 2 * HOUR) == [left.id]
    assert [one.id for one in ours.branches()] == [mine.id]
    ours.release(mine.id)


def test_a_branch_may_live_longer_than_any_command(project: Project) -> None:
    made = projects.services(project)
    assert made.branch_ttl == BRANCH_TTL
    slow = replace(
        made, config=replace(made.config, agent=replace(made.config.agent, timeout_minutes=6 * 24 * 60))
    )
    assert slow.branch_ttl == timedelta(days=12)


def test_nobody_seals_while_dev_is_migrated(project: Project) -> None:
    dev = project.checkout / "dev.db"
    one, other = (SqliteDatabases("dev.db", project.checkout, project.root / "store") for _ in range(2))
    one.seal()
    done = threading.Event()
    with one.moving():
        with closing(sqlite3.connect(dev)) as db, db:
            db.execute("ALTER TABLE t ADD COLUMN b")
        waits = threading.Thread(target=lambda: (other.acquire("x", HOUR, NOW, "me"), done.set()))
        waits.start()
        assert not done.wait(0.5), "dev is half-way"
        with closing(sqlite3.connect(dev)) as db, db:
            db.execute("ALTER TABLE t ADD COLUMN c")
    waits.join(30)
    [made] = other.branches()
    with closing(sqlite3.connect(made.url.removeprefix("sqlite:///"))) as db:
        assert [row[1] for row in db.execute("PRAGMA table_info(t)")] == ["a", "b", "c"]


class Stuck:
    """A provider whose reaper cannot end its work. The rest is real."""

    def __init__(self, inner: Databases, error: Exception) -> None:
        self._inner, self._error = inner, error

    def reap(self, now: datetime, alive: Callable[[str], bool]) -> list[str]:
        self._inner.reap(now, alive)
        raise self._error

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


@pytest.mark.parametrize("error", [DatabaseError("a role stays"), RuntimeError("a bug")])
def test_the_warm_ones_are_kept_though_something_cannot_be_reaped(project: Project, error: Exception) -> None:
    made = projects.services(project)
    stuck = Stuck(made.databases, error)
    config = replace(made.config, machine=replace(made.config.machine, warm=2))
    said: list[str] = []
    services = replace(
        made,
        databases=stuck,
        config=config,
        observer=lambda event, data: said.append(f"{event}: {data.get('text')}"),
    )
    with chores.chores(services):
        end = datetime.now(UTC) + timedelta(seconds=30)
        while made.databases.warm(2) < 2 or not said:
            assert datetime.now(UTC) < end
    assert len(said) == 1 and str(getattr(error, "message", error)) in said[0]


def test_work_is_recovered_though_the_database_is_away(project: Project) -> None:
    project.add("alpha")
    made = projects.services(project)
    assert projects.run(project, "alpha", last="test").ended == "stopped"
    made.runs.announce(
        Live(
            "alpha", "r", "m.alpha.1.r", "999999/1/no-such-boot", 999999, 1, 1, "implement", "2026-01-01T00:00:00Z"
        )
    )
    stuck = replace(made, databases=Stuck(made.databases, DatabaseError("no route")))
    lines = recover(stuck).lines
    assert any("its run died" in line for line in lines) and any("no route" in line for line in lines)
