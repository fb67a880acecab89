"""Small real projects with a schema: users, and orders with a foreign key, an index, a unique column, defaults and a
check. One for each migration tool; each writes itself into a folder.

`project.write(definition)` writes the schema with changes (see `Definition`); `project.config` is the part of an
agents/config.toml that agentq needs; `project.env(url)` what the tool's commands need around them.
"""

import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agentq.core import tomltext

BIN = str(Path(sys.executable).parent)


@dataclass(frozen=True)
class Definition:
    """The schema. `extra_users` and `extra_orders`: further columns, texts that may be null; `name`: what the users'
    column for a name is called; `table`: a further table, with an id and a text; '' for none."""

    extra_users: tuple[str, ...] = ()
    extra_orders: tuple[str, ...] = ()
    name: str = "name"
    table: str = ""


@dataclass(frozen=True)
class SchemaProject:
    """`root`: the folder it was written into. `scheme`: what URLs of its SQLite database begin with."""

    root: Path
    tool: str
    push: str
    scheme: str

    def url(self, path: Path) -> str:
        return f"{self.scheme}{path}"

    @property
    def config(self) -> str:
        """[database] and [migrations] for the database dev.db at the top of the project."""
        return textwrap.dedent(f"""\
            [database]
            provider = "sqlite"
            url = "{self.url(self.root / "dev.db")}"
            push = {tomltext.dump(self.push)}
            [migrations]
            tool = "{self.tool}"
            """)

    def env(self, url: str = "") -> dict[str, str]:
        """The variables of this process, with the tools of its own Python first on the path."""
        path = os.pathsep.join((BIN, os.environ.get("PATH", os.defpath)))
        # npx looks for a newer npm first, wherever there is a network.
        quiet = {"NPM_CONFIG_UPDATE_NOTIFIER": "false"}
        return {**os.environ, "PATH": path, **quiet, **({"DATABASE_URL": url} if url else {})}

    def write(self, definition: Definition) -> None:
        {"alembic": _alembic_schema, "django": _django_schema, "drizzle": _drizzle_schema}[self.tool](
            self.root, definition
        )

    def run(self, command: str, url: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
        """A shell command at the top of the project, as agentq runs it: nothing on its input, output in one."""
        return subprocess.run(
            command, shell=True, cwd=self.root, env=self.env(url), stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False,
        )  # fmt: skip


def _put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))


# ------------------------------------------------------------ Alembic


def alembic(root: Path) -> SchemaProject:
    """Without any migration yet; its folder is `migrations/versions`."""
    push = f"{sys.executable} push.py"
    _put(root, {
        "alembic.ini": """
            [alembic]
            script_location = %(here)s/migrations
            path_separator = os
            """,
        "push.py": """
            import os
            from sqlalchemy import create_engine
            from models import metadata
            engine = create_engine(os.environ["DATABASE_URL"])
            metadata.create_all(engine)
            engine.dispose()
            """,
        "migrations/env.py": """
            import os
            import sys
            from pathlib import Path
            from alembic import context
            from sqlalchemy import create_engine
            sys.path.insert(0, str(Path(__file__).parents[1]))
            from models import metadata
            engine = create_engine(os.environ["DATABASE_URL"])
            with engine.connect() as connection:
                context.configure(connection=connection, target_metadata=metadata, render_as_batch=True,
                                  compare_server_default=True)
                with context.begin_transaction():
                    context.run_migrations()
            engine.dispose()
            """,
        "migrations/versions/.gitkeep": "",
    })  # fmt: skip
    shutil.copy(_alembic_template(), root / "migrations" / "script.py.mako")
    project = SchemaProject(root, "alembic", push, "sqlite:///")
    project.write(Definition())
    return project


def _alembic_template() -> Path:
    import alembic as package

    return Path(package.__file__).parent / "templates" / "generic" / "script.py.mako"


def _alembic_schema(root: Path, definition: Definition) -> None:
    users = "".join(f'    Column("{name}", Text),\n' for name in definition.extra_users)
    orders = "".join(f'    Column("{name}", Text),\n' for name in definition.extra_orders)
    table = definition.table and (
        f'Table("{definition.table}", metadata, Column("id", Integer, primary_key=True), Column("text", Text))\n'
    )
    (root / "models.py").write_text(
        "from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text\n"
        'metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", '
        '"uq": "uq_%(table_name)s_%(column_0_name)s", "ck": "ck_%(table_name)s_%(constraint_name)s", '
        '"fk": "fk_%(table_name)s_%(column_0_name)s", "pk": "pk_%(table_name)s"})\n'
        'Table("users", metadata,\n    Column("id", Integer, primary_key=True),\n'
        '    Column("email", String(200), nullable=False, unique=True),\n'
        f'    Column("{definition.name}", Text, nullable=False, server_default="nobody"),\n{users})\n'
        'Table("orders", metadata,\n    Column("id", Integer, primary_key=True),\n'
        '    Column("user_id", ForeignKey("users.id"), nullable=False),\n'
        '    Column("status", String(10), nullable=False, server_default="new"),\n'
        f"{orders}    CheckConstraint(\"status IN ('new', 'paid')\", name=\"status\"),\n"
        '    Index(None, "user_id", "status"),\n)\n' + table
    )


# ------------------------------------------------------------ Django


def django(root: Path) -> SchemaProject:
    """Without any migration yet; its app is `shop`."""
    _put(root, {
        "manage.py": """
            import os
            import sys
            from django.core.management import execute_from_command_line
            os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
            execute_from_command_line(sys.argv)
            """,
        "settings.py": """
            import os
            INSTALLED_APPS = ["shop"]
            from urllib.parse import unquote, urlsplit
            URL = urlsplit(os.environ.get("DATABASE_URL", ""))
            if URL.scheme.startswith("postgres"):
                DATABASES = {"default": {
                    "ENGINE": "django.db.backends.postgresql", "NAME": URL.path[1:], "HOST": URL.hostname,
                    "PORT": URL.port, "USER": URL.username, "PASSWORD": unquote(URL.password or ""),
                }}
            else:
                DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/" + URL.path.lstrip("/")}}
            DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
            USE_TZ = True
            # The schema push: tables from the models, without regard to migrations.
            if os.environ.get("PUSH"):
                MIGRATION_MODULES = {"shop": None}
            """,
        "shop/__init__.py": "",
        "shop/migrations/__init__.py": "",
    })  # fmt: skip
    push = "PUSH=1 python manage.py migrate --run-syncdb --noinput"
    project = SchemaProject(root, "django", push, "sqlite:///")
    project.write(Definition())
    return project


def _django_schema(root: Path, definition: Definition) -> None:
    def columns(names: tuple[str, ...]) -> str:
        return "".join(f"    {name} = models.TextField(null=True)\n" for name in names)

    table = definition.table and (
        f"\n\nclass {definition.table.title()}(models.Model):\n    text = models.TextField(null=True)\n"
    )
    (root / "shop" / "models.py").write_text(
        "from django.db import models\n\n\nclass User(models.Model):\n"
        "    email = models.CharField(max_length=200, unique=True)\n"
        f'    {definition.name} = models.TextField(default="")\n{columns(definition.extra_users)}\n\n'
        "class Order(models.Model):\n    user = models.ForeignKey(User, on_delete=models.CASCADE)\n"
        f'    status = models.CharField(max_length=10, default="new")\n{columns(definition.extra_orders)}\n'
        '    class Meta:\n        indexes = [models.Index(fields=["user", "status"], name="order_user_status")]\n'
        '        constraints = [models.CheckConstraint(condition=models.Q(status__in=["new", "paid"]), '
        f'name="order_status")]\n{table}'
    )


# ------------------------------------------------------------ Drizzle

NODE_PACKAGES = ("drizzle-kit@0.31.11", "drizzle-orm@0.45.4", "@libsql/client@0.18.0")


def drizzle(root: Path) -> SchemaProject:
    """Without any migration yet; its folder is `drizzle`. Without a check: on SQLite drizzle-kit pushes a table that
    has one anew each time. Raises LookupError where its packages cannot be had."""
    modules = node_modules()
    _put(root, {
        "drizzle.config.ts": """
            import { defineConfig } from "drizzle-kit";
            export default defineConfig({
              dialect: "sqlite", schema: "./schema.ts", out: "./drizzle",
              dbCredentials: { url: process.env.DATABASE_URL! },
            });
            """,
        ".gitignore": "node_modules\n",
    })  # fmt: skip
    (root / "node_modules").symlink_to(modules)
    project = SchemaProject(root, "drizzle", "npx drizzle-kit push --force", "file:")
    project.write(Definition())
    return project


def _drizzle_schema(root: Path, definition: Definition) -> None:
    def columns(names: tuple[str, ...]) -> str:
        return "".join(f'  {name}: text("{name}"),\n' for name in names)

    table = definition.table and (
        f'export const {definition.table} = sqliteTable("{definition.table}", '
        '{ id: integer("id").primaryKey(), text: text("text") });\n'
    )
    (root / "schema.ts").write_text(
        'import { index, integer, sqliteTable, text } from "drizzle-orm/sqlite-core";\n'
        'export const users = sqliteTable("users", {\n  id: integer("id").primaryKey({ autoIncrement: true }),\n'
        '  email: text("email").notNull().unique(),\n'
        f'  {definition.name}: text("{definition.name}").notNull().default(""),\n{columns(definition.extra_users)}}});\n'
        'export const orders = sqliteTable("orders", {\n  id: integer("id").primaryKey({ autoIncrement: true }),\n'
        '  userId: integer("user_id").notNull().references(() => users.id),\n'
        '  status: text("status", { enum: ["new", "paid"] }).notNull().default("new"),\n'
        f"{columns(definition.extra_orders)}"
        '}, (t) => [index("orders_user_status").on(t.userId, t.status)]);\n' + table
    )


@cache
def node_modules() -> Path:
    """NODE_PACKAGES, installed once for this host by npm. Raises LookupError with the reason where that fails."""
    if not shutil.which("npm") or not shutil.which("npx"):
        raise LookupError("npm is not installed")
    place = Path(os.environ.get("AGENTQ_TEST_CACHE") or f"{tempfile.gettempdir()}/agentq-test-cache-{os.getuid()}")
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = place / "drizzle"
    done, wanted = folder / "installed", "\n".join(NODE_PACKAGES)
    with (place / "drizzle.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text() != wanted:
            _install(folder)
            done.write_text(wanted)
    return folder / "node_modules"


def _install(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "package.json").write_text('{"name": "drizzle", "private": true}\n')
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-progress", "--ignore-scripts", *NODE_PACKAGES]
    # npm's settings and its cache are the person's, not those of a test's own home.
    env = {**os.environ, "HOME": pwd.getpwuid(os.getuid()).pw_dir}
    try:
        made = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
        )
    except subprocess.TimeoutExpired:
        raise LookupError("npm install did not end within 300 s") from None
    if made.returncode:
        raise LookupError(f"npm install failed: {(made.stderr.strip().splitlines() or ['?'])[-1]}")
