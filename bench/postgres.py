"""A branch of a PostgreSQL database: ready ones and fresh ones, beside what people type, alternately.

The server is a fresh one with its usual settings: what it commits is on the disk. With
AGENTQ_TEST_FULL=1 also at 1 GB.
"""

import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from bench.report import Row, ratio, seconds_of, took

MEGABYTES = 11
PAIRS = 9
FULL = os.environ.get("AGENTQ_TEST_FULL") == "1"
BIG = 1000  # MB, with FULL
BIG_PAIRS = 2
WARM = 0.1  # of a fresh one
IN_USE = 1.0  # s
_HOUR = timedelta(hours=1)


def section(folder: Path) -> list[Row]:
    from support.postgres import DURABLE, server

    rows = []
    with server(flags=DURABLE) as made:
        rows += _rows(made, folder, MEGABYTES, PAIRS)
        if FULL:
            if shutil.disk_usage(folder).free < 12 * BIG * 1e6:
                raise OSError(f"the {BIG} MB part needs {12 * BIG / 1000:.0f} GB")
            rows += _rows(made, folder, BIG, BIG_PAIRS)
    return rows


def _rows(server: "Server", folder: Path, megabytes: int, pairs: int) -> list[Row]:  # type: ignore[name-defined] # noqa: F821
    import psycopg

    from agentq.databases.postgres import PostgresDatabases

    dev = server.create("dev")
    # 8 kB hold 7 of these rows; an empty database takes 7.5 MB itself.
    lines = int((megabytes - 7.5) * 1e6 / 1170)
    server.run(f"CREATE TABLE t AS SELECT n, repeat('x', 1100) AS text FROM generate_series(1, {lines}) n", dev)
    databases = PostgresDatabases(server.url(dev), folder / f"store-{megabytes}")
    size = int(str(server.run(f"SELECT pg_database_size('{dev}')")[0][0])) / 1e6

    def acquire(name: str) -> float:
        made = []
        now = datetime.now(UTC)
        seconds = seconds_of(lambda: made.append(databases.acquire(name, _HOUR, now, "bench")))
        databases.release(made[0].id)
        return seconds

    def plain(*commands: str) -> float:
        target = f"plain_{dev}"
        environment = {**os.environ, "PGURL": server.url(dev), "TARGET": server.url(target)}
        text = " && ".join(commands).format(bin=server.bin, admin=server.url("postgres"), dev=dev, target=target)
        seconds = seconds_of(
            lambda: subprocess.run(["sh", "-c", text], check=True, capture_output=True, env=environment)
        )
        server.drop(target)
        return seconds

    create = "{bin}/createdb --maintenance-db '{admin}'"
    copy, dump = f"{create} -T {{dev}} {{target}}", "{bin}/pg_dump -Fc $PGURL | {bin}/pg_restore -d $TARGET"
    acquire("first")
    cold, warm, copies = [], [], []
    for n in range(pairs):
        cold.append(acquire(f"cold {n}"))
        databases.warm(1)
        warm.append(acquire(f"warm {n}"))
        copies.append(plain(copy))
    changed, dumps = [], []
    with psycopg.connect(server.url(dev), autocommit=True) as held:
        for n in range(pairs):
            held.execute("UPDATE t SET n = n WHERE n = 1")
            changed.append(acquire(f"changed {n}"))
            dumps.append(plain(f"{create} -T template0 {{target}}", dump))
    small = megabytes == MEGABYTES
    name = f"{size:.0f} MB"
    return [
        Row(
            f"{name}: one kept ready, to a fresh one", ratio(warm, cold), WARM if small else None,
            details=(f"{took(median(warm))} to {took(median(cold))}, {pairs} pairs",),
            raw={"warm": warm, "cold": cold},
        ),
        Row(
            f"{name}: a fresh one, to createdb -T", ratio(cold, copies),
            details=(f"{took(median(cold))} to {took(median(copies))}, {pairs} pairs",),
            raw={"cold": cold, "createdb": copies},
        ),
        Row(
            f"{name}: dev changed and in use", median(changed), IN_USE if small else None, "s",
            details=(f"createdb and pg_dump | pg_restore alone {took(median(dumps))}, {pairs} pairs",),
            raw={"acquire": changed, "dump": dumps},
        ),
    ]  # fmt: skip
