"""dev into an empty database by `pg_dump | pg_restore`, which leaves dev's connections alone.

Passwords go by environment, never by argument.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

from psycopg import errors
from psycopg.conninfo import make_conninfo

from agentq.databases.postgres_address import Address
from agentq.databases.postgres_server import APPLICATION, LONG, Session
from agentq.errors import DatabaseError

PLACES = (
    "/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/opt/homebrew/opt/postgresql@{}/bin",
    "/usr/local/opt/postgresql@{}/bin", "/Applications/Postgres.app/Contents/Versions/{}/bin",
    "/usr/local/pgsql/bin", "/opt/homebrew/opt/libpq/bin", "/usr/local/opt/libpq/bin",
)  # fmt: skip
NEWEST = 25  # a version to look for
_DUMP = ("--format=custom", "--compress=0", "--no-subscriptions", "--lock-wait-timeout=60s")
_ANONYMOUS = ("--no-owner", "--no-privileges")


def tools(db: Session, local: bool) -> Path:
    """The directory of pg_dump and pg_restore for the server: of its own version, else the oldest that is newer.
    `local`: the server's own programs may be here. DatabaseError when there are none."""
    major = db.version // 10000
    found: dict[int, Path] = {}
    for folder in _folders(db, major, local):
        have = version(str(folder / "pg_dump")) if (folder / "pg_restore").is_file() else 0
        if have == major:
            return folder
        found.setdefault(have, folder)
    usable = sorted(one for one in found if one > major)
    if usable:
        return found[usable[0]]
    there = f"there is only version {max(found)}" if any(found) else "there is none"
    raise DatabaseError(
        f"copying dev while it is in use takes pg_dump and pg_restore of version {major} or newer; {there}",
        f"install the client programs of PostgreSQL {major}, close dev's connections, or set seal = 'kick'",
    )


def _folders(db: Session, major: int, local: bool) -> Iterator[Path]:
    yield from (Path(folder) for folder in os.get_exec_path() if folder)
    for number in range(major, max(major, NEWEST) + 1):
        yield from (Path(place.format(number)) for place in PLACES)
    if local:
        try:
            rows = db.rows("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
        except errors.InsufficientPrivilege:
            return
        yield from (Path(setting) for (setting,) in rows)


@cache
def version(program: str) -> int:
    """The major version of pg_dump; 0 when it cannot be run."""
    if not shutil.which(program):
        return 0
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r"(\d+)", done.stdout)
    return int(found[1]) if found else 0


def copy(programs: Path, address: Address, target: str, superuser: bool) -> None:
    """The whole of dev into the empty database `target`.

    Restoring calls functions of dev: for materialized views, indexes, constraints. With owners and rights
    the first two work as their owner, which takes a superuser; without, and the others, as the URL's role.
    """
    dump = [str(programs / "pg_dump"), *_DUMP, "--dbname", _target(address, address.name)]
    restore = [str(programs / "pg_restore"), "--exit-on-error", *(() if superuser else _ANONYMOUS)]
    restore += ["--dbname", _target(address, target, _FAST)]
    environment = _environment(address)
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as answered:
        with (
            _running(dump, environment, subprocess.DEVNULL, said) as source,
            _running(restore, environment, source.stdout, answered) as sink,
        ):
            assert source.stdout is not None
            source.stdout.close()  # so that pg_dump ends when pg_restore does
            deadline = time.monotonic() + LONG
            try:
                restored = sink.wait(LONG)
                dumped = source.wait(max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired as exc:
                raise DatabaseError(f"pg_dump took longer than {LONG} s", retryable=True) from exc
        if dumped and _said(said) and "Broken pipe" not in _said(said):
            raise _failed("pg_dump", _said(said))
        if restored:
            raise _failed("pg_restore", _said(answered) or f"exit status {restored}")
        if dumped:
            raise _failed("pg_dump", f"exit status {dumped}")


_FAST = " -c synchronous_commit=off -c default_transaction_read_only=off"


def _target(address: Address, database: str, options: str = "") -> str:
    params = {key: value for key, value in address.params.items() if key not in ("password", "sslpassword")}
    params |= {"dbname": database, "application_name": APPLICATION}
    params |= {"options": (params.get("options", "") + options).strip()} if options else {}
    return make_conninfo("", **params)


def _environment(address: Address) -> dict[str, str]:
    password = address.params.get("password")
    return {**os.environ, "LC_ALL": "C", **({"PGPASSWORD": password} if password else {})}


@contextmanager
def _running(
    command: list[str], environment: dict[str, str], stdin: int | IO[bytes] | None, errors_to: IO[bytes]
) -> "Iterator[subprocess.Popen[bytes]]":
    """A child that does not outlive the context. One that only reads has its output in a pipe."""
    stdout = subprocess.PIPE if stdin == subprocess.DEVNULL else subprocess.DEVNULL
    try:
        child = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=errors_to, env=environment)
    except OSError as exc:
        raise DatabaseError(f"{command[0]} cannot be started: {exc}") from exc
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def _said(file: IO[bytes]) -> str:
    """The first error in it, or its last line."""
    file.seek(0)
    lines = file.read().decode("utf-8", "replace").strip().splitlines()
    found = [line for line in lines if "error:" in line] or lines[-1:]
    return found[0].partition("error: ")[2] or found[0] if found else ""


def _failed(program: str, why: str) -> DatabaseError:
    hint = ""
    if "permission denied" in why or "must be" in why:
        hint = "connect as the owner of dev and of all that is in it, or as a superuser"
    elif "lock" in why:
        hint = "a transaction holds a table of dev; end that, then try again"
    elif "unrecognized configuration parameter" in why:
        hint = "install the client programs of the server's own version"
    return DatabaseError(f"{program}: {why}", hint, retryable="lock" in why or "connection" in why)
