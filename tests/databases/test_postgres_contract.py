import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from contracts.databases import DatabasesContract, World
from support.postgres import Server, postgres  # noqa: F401
from support.postgres_world import PostgresWorld, owned_world
from support.size import FULL

SEALS = {
    "nobody in dev": "dump", "dev in use": "dump", "dev in use, kicked": "kick", "a lesser role": "dump",
}  # fmt: skip
WORLDS = list(SEALS) if FULL else ["nobody in dev"]


class TestPostgres(DatabasesContract):
    @pytest.fixture(params=WORLDS)
    def world(self, request: pytest.FixtureRequest, postgres: Server, tmp_path: Path) -> Iterator[World]:  # noqa: F811
        seal = SEALS[request.param]
        lesser = request.param == "a lesser role"
        if lesser:  # which may not ask the server where its programs are
            os.environ["PATH"] = f"{postgres.bin}:{os.environ['PATH']}"
        world = owned_world(postgres, tmp_path) if lesser else PostgresWorld(postgres, tmp_path, seal)
        world.head_is_exact = world.seal == "dump"  # ending sessions moves it
        held = psycopg.connect(world.url, autocommit=True) if "in use" in request.param else None
        try:
            yield world
        finally:
            if held:
                held.close()
            world.destroy()
