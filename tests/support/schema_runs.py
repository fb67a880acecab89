"""A whole project with a schema, a dev database with rows, and specs that change the schema."""

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from support import postgres, schema_projects
from support import project as projects
from support.project import Project
from support.schema_projects import BIN, SchemaProject

from agentq.databases import contents
from agentq.databases.contents import Contents
from agentq.migrations.tools import tool

# What a check of the landed project runs: every column of the definition can be read.
CHECK = {
    "alembic": """
import os
from sqlalchemy import create_engine, select
from models import metadata
engine = create_engine(os.environ["DATABASE_URL"])
with engine.connect() as connection:
    for table in metadata.sorted_tables:
        connection.execute(select(table)).fetchall()
engine.dispose()
""",
    "django": """
import os, sys
sys.path.insert(0, ".")
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
from django.apps import apps
for model in apps.get_app_config("shop").get_models():
    list(model.objects.all())
""",
}
CHECK["drizzle"] = """
import os, re, sqlite3
declared = set(re.findall(r'(?:text|integer)\\("(\\w+)"', open("schema.ts").read()))
db = sqlite3.connect(os.environ["DATABASE_URL"].removeprefix("file:"))
held = {row[1] for table in ("users", "orders") for row in db.execute(f"PRAGMA table_info({table})")}
db.close()
assert declared <= held, (declared, held)
"""
# Where a column goes, and how it is written: (file, line that comes before it, the new line).
COLUMN = {
    ("alembic", "users"): (
        "models.py",
        '    Column("name", Text, nullable=False, server_default="nobody"),\n',
        '    Column("{name}", Text),\n',
    ),
    ("alembic", "orders"): (
        "models.py",
        '    Column("status", String(10), nullable=False, server_default="new"),\n',
        '    Column("{name}", Text),\n',
    ),
    ("django", "users"): (
        "shop/models.py",
        '    name = models.TextField(default="")\n',
        "    {name} = models.TextField(null=True)\n",
    ),
    ("django", "orders"): (
        "shop/models.py",
        '    status = models.CharField(max_length=10, default="new")\n',
        "    {name} = models.TextField(null=True)\n",
    ),
}
COLUMN |= {
    ("drizzle", "users"): (
        "schema.ts",
        '  name: text("name").notNull().default(""),\n',
        '  {name}: text("{name}"),\n',
    ),
    ("drizzle", "orders"): (
        "schema.ts",
        '  status: text("status", {{ enum: ["new", "paid"] }}).notNull().default("new"),\n'.format(),
        '  {name}: text("{name}"),\n',
    ),
}
MODELS = {"alembic": "models.py", "django": "shop/models.py", "drizzle": "schema.ts"}
USERS = {"alembic": "users", "django": "shop_user", "drizzle": "users"}
ORDERS = {"alembic": "orders", "django": "shop_order", "drizzle": "orders"}
VERSIONS = {"alembic": "migrations/versions", "django": "shop/migrations", "drizzle": "drizzle"}


class Place(Protocol):
    """Where databases are: those of dev, and fresh ones for deployments."""

    provider: str

    def url(self, schema: SchemaProject, name: str) -> str:
        """The URL of the database `name`, which is made if it is not there, as the project writes it."""
        ...

    def copy(self, name: str) -> None:
        """Copy dev to a new database."""
        ...

    def run(self, name: str, *statements: str) -> None: ...


class Files:
    """SQLite files in a folder; dev is the checkout's dev.db."""

    provider = "sqlite"

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, name: str) -> Path:
        return self._root / "p" / "checkout" / "dev.db" if name == "dev" else self._root / f"{name}.db"

    def url(self, schema: SchemaProject, name: str) -> str:
        return schema.url(self._path(name))

    def copy(self, name: str) -> None:
        with (
            closing(sqlite3.connect(self._path("dev"))) as source,
            closing(sqlite3.connect(self._path(name))) as to,
        ):
            source.backup(to)

    def run(self, name: str, *statements: str) -> None:
        with closing(sqlite3.connect(self._path(name))) as db, db:
            for statement in statements:
                db.execute(statement)


class Served:
    """Databases of a PostgreSQL server."""

    provider = "postgres"

    def __init__(self) -> None:
        self._server = postgres.shared()
        self._names: dict[str, str] = {}

    def url(self, schema: SchemaProject, name: str) -> str:
        if name not in self._names:
            self._names[name] = self._server.create(name)
        url = self._server.url(self._names[name])
        return url.replace("postgresql:", "postgresql+psycopg:", 1) if schema.tool == "alembic" else url

    def copy(self, name: str) -> None:
        made = self._names[name] = self._server.create(name)
        self._server.drop(made)
        self._server.run(f'CREATE DATABASE "{made}" TEMPLATE "{self._names["dev"]}"')

    def run(self, name: str, *statements: str) -> None:
        for statement in statements:
            self._server.run(statement, self._names[name])


@dataclass
class SchemaRuns:
    """`project`: a checkout with its hub; `schema`: the same checkout as a project with a schema."""

    project: Project
    schema: SchemaProject
    place: Place

    @property
    def tool(self) -> str:
        return self.schema.tool

    def column(self, spec_id: str, table: str, name: str, **fields: object) -> None:
        """A spec that adds a column."""
        path, after, line = COLUMN[self.tool, table]
        self.edit(spec_id, path, after, after + line.format(name=name), **fields)

    def edit(self, spec_id: str, path: str, old: str, new: str, more: str = "", **fields: object) -> None:
        """A spec that replaces `old` by `new` in a file; `more`: further lines of its script."""
        self.project.add(spec_id, **{"tests": "none", "files_modified": [path], **fields})
        self.project.script(
            spec_id, "implement",
            f"path = Path({path!r}); text = path.read_text(); assert {old!r} in text\n"
            f"path.write_text(text.replace({old!r}, {new!r}))\n{more}\ncommit()\n",
        )  # fmt: skip

    def migrations(self) -> list[str]:
        """The migration files on trunk, by name."""
        owner = tool(self.tool)
        suffix = ".sql" if self.tool == "drizzle" else ".py"
        return [path for path in self.project.trunk_files() if owner.owns(path) and path.endswith(suffix)]

    def on_trunk(self, path: str) -> str:
        return self.project.git("show", f"main:{path}", cwd=self.project.hub)

    def clone(self, name: str) -> SchemaProject:
        """Trunk as it is, in a folder of its own."""
        place = self.project.root / name
        self.project.git("clone", "-q", str(self.project.hub), str(place))
        if self.tool == "drizzle":
            (place / "node_modules").symlink_to(schema_projects.node_modules())
        return SchemaProject(place, self.tool, self.schema.push, self.schema.scheme)

    def deployed(self, name: str, database: str) -> Contents:
        """What `database` holds after all of trunk's migrations."""
        clone = self.clone(name)
        url = self.place.url(clone, database)
        done = clone.run(tool(self.tool).commands("x", "0" * 12).upgrade, url)
        assert done.returncode == 0, done.stdout
        return contents.read(url).without(tool(self.tool).bookkeeping)

    def assert_one_order(self) -> None:
        """Trunk's migrations have one order; a fresh and an upgraded deployment end with equal schemas, all rows
        are still there."""
        owner = tool(self.tool)
        files = {path: self.on_trunk(path).encode() for path in self.project.trunk_files() if owner.owns(path)}
        assert owner.clash(files) == ""
        fresh = self.deployed("fresh", "fresh")
        self.place.copy("upgraded")
        upgraded = self.deployed("upgraded", "upgraded")
        assert contents.differences(fresh, upgraded, ("fresh", "upgraded")) == []
        assert upgraded.rows[USERS[self.tool]] == 3
        assert upgraded.rows[ORDERS[self.tool]] == 3

    def columns(self, table: str = "users") -> set[str]:
        """The columns of a table of dev."""
        start = f"column {(USERS if table == 'users' else ORDERS)[self.tool]}."
        held = contents.read(self.place.url(self.schema, "dev")).objects
        return {name.removeprefix(start) for name in held if name.startswith(start)}


def build(root: Path, name: str, place: Place, *, more: str = "") -> SchemaRuns:
    """`name`: the tool. Trunk has one migration, dev is at it and holds three users and three orders.
    `more`: lines for [migrations]."""
    os.environ["PATH"] = os.pathsep.join((BIN, os.environ["PATH"]))
    probe = getattr(schema_projects, name)(root / "probe")
    config = probe.config.replace("[migrations]", 'start = "empty"\n[migrations]')
    wanted = place.url(probe, "dev")
    config = re.sub(r'url = ".*"', f'url = "{wanted}"', config).replace('"sqlite"', f'"{place.provider}"')
    if name == "drizzle":  # its push alters a copy of dev
        config = config.replace('start = "empty"', 'start = "copy"')
    overlap = f'[overlap]\nadditive = ["{MODELS[name]}"]\n'
    made = projects.build(root / "p", config=config + more + overlap, instances=8)
    if name == "drizzle":
        settings = made.checkout / "agents" / "config.toml"
        setup = f'[commands]\nsetup = "ln -sfn {schema_projects.node_modules()} node_modules"\n'
        settings.write_text(settings.read_text().replace("[commands]\n", setup))
    schema = getattr(schema_projects, name)(made.checkout)
    (made.checkout / "checks" / "schema.py").write_text(CHECK[name])
    with (made.checkout / ".gitignore").open("a") as file:
        file.write("dev.db\n__pycache__/\nnode_modules\n")
    runs = SchemaRuns(made, schema, place)
    commands = tool(name).commands("first", "0" * 12)
    # Alembic generates against a database, Django against its own files.
    for command in (commands.generate, commands.upgrade):
        done = schema.run(command, wanted)
        assert done.returncode == 0, done.stdout
    _fill(runs)
    made.git("add", "-A")
    made.git("commit", "-qm", "a schema")
    made.git("push", "-q", "origin", "main")
    return runs


def _fill(runs: SchemaRuns) -> None:
    users, orders = USERS[runs.tool], ORDERS[runs.tool]
    for number in (1, 2, 3):
        runs.place.run(
            "dev",
            f"INSERT INTO {users} (id, email, name) VALUES ({number}, '{number}@example', 'x')",
            f"INSERT INTO {orders} (id, user_id, status) VALUES ({number}, {number}, 'new')",
        )


def together(
    runs: SchemaRuns, names: Sequence[str], meanwhile: Callable[[], None] = lambda: None
) -> tuple[list[int], list[str]]:
    """Verify specs side by side while nobody may lead the lane, in this order, until each has its place there;
    then trunk moves and they land. Their exit codes, and what they said."""
    project = runs.project
    for name in names:
        assert projects.run(project, name, last="implement").ended == "stopped"
    started = []
    with projects.services(project).runs.landing() as ours:
        assert ours
        for name in names:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "agentq", "verify", name, "--yes"], cwd=project.checkout, text=True,
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )
            )  # fmt: skip
            eventually(lambda name=name: "place" in project.entry(name), started[-1])
        project.move_trunk("beside.txt", "what was proved is not trunk's next any more\n")
        meanwhile()
    said = [process.communicate(timeout=180)[0] for process in started]
    return [process.returncode for process in started], said


def eventually(holds: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 90) -> None:
    """Wait until it holds while `process` runs."""
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
