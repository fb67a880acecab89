"""A server that asks for passwords, and devs on it: with a superuser's URL, and as recommended.

In a test module: `from support.postgres_strict import strict, world  # noqa: F401`, and others as needed.
"""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from contracts.databases import HOUR, NOW
from support.postgres import FLAGS, Server, installed, server
from support.postgres_world import PostgresWorld, owned_world
from support.size import FULL

from agentq.databases.base import Branch

PASSWORD = "s:cr@t/é%"


@pytest.fixture(scope="module", params=["18", "another"] if FULL else ["18"])
def strict(request: pytest.FixtureRequest) -> Iterator[Server]:
    programs = installed() if request.param == "another" else None
    if request.param == "another" and programs is None:
        pytest.skip("no other server is installed")
    with server(programs, PASSWORD, FLAGS) as made:
        made.run("CREATE ROLE low LOGIN PASSWORD 'low'")
        yield made


@pytest.fixture
def superuser(strict: Server, tmp_path: Path) -> Iterator[PostgresWorld]:
    made = PostgresWorld(strict, tmp_path)
    yield made
    made.destroy()


@pytest.fixture
def owner(strict: Server, tmp_path: Path) -> Iterator[PostgresWorld]:
    made = owned_world(strict, tmp_path)
    yield made
    made.destroy()


@pytest.fixture(params=["superuser", "owner"])
def world(request: pytest.FixtureRequest, strict: Server, tmp_path: Path) -> Iterator[PostgresWorld]:
    made = owned_world(strict, tmp_path) if request.param == "owner" else PostgresWorld(strict, tmp_path)
    yield made
    made.destroy()


def acquired(world: PostgresWorld, name: str = "one") -> Branch:
    return world.databases.acquire(name, HOUR, NOW, "me")


def elsewhere(branch: Branch, database: str) -> str:
    return branch.url.replace(f"/{branch.name}", f"/{database}")


def prepare(url: str, name: str, work: str = "CREATE TABLE gift (n int)", before: str = "SELECT 1") -> None:
    with psycopg.connect(url, autocommit=True) as db:
        for statement in (before, "BEGIN", work, f"PREPARE TRANSACTION '{name}'"):
            db.execute(statement)  # type: ignore[arg-type]
