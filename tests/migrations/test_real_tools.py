"""The adapters with the tools themselves: real projects, real SQLite databases, the commands that agentq runs."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import schema_projects
from support.schema_projects import Definition, SchemaProject

from agentq.databases import contents
from agentq.databases.contents import Contents
from agentq.migrations.base import Files, Impossible, Tool
from agentq.migrations.tools import tool

STAMPS = {"add-age": "a1a1a1a1a1a1", "add-note": "b2b2b2b2b2b2", "add-base": "c3c3c3c3c3c3"}
AGE, NOTE = Definition(extra_users=("age",)), Definition(extra_orders=("note",))
BOTH = Definition(extra_users=("age",), extra_orders=("note",))
RENAMED = Definition(name="full_name")


@dataclass
class World:
    """A project at a base migration, and a database that was brought there."""

    project: SchemaProject
    tool: Tool
    base: Files
    dev: Path
    databases: int = 0

    @property
    def root(self) -> Path:
        return self.project.root

    def files(self) -> Files:
        found = {str(path.relative_to(self.root)): path for path in self.root.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in sorted(found.items()) if self.tool.owns(name)}

    def place(self, files: Files) -> None:
        """Exactly these migrations."""
        for name in self.files():
            (self.root / name).unlink()
        for name, data in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(data)

    def database(self, copy: Path | None = None) -> Path:
        """An empty database, or a copy of one."""
        self.databases += 1
        path = self.root / f"database{self.databases}.db"
        if copy:
            shutil.copy(copy, path)
        return path

    def run(self, command: str, database: Path) -> "tuple[int, str]":
        ended = self.project.run(command, self.project.url(database))
        return ended.returncode, ended.stdout

    def upgrade(self, database: Path) -> Path:
        status, output = self.run(self.commands("add-base").upgrade, database)
        assert status == 0, output
        return database

    def commands(self, spec: str) -> Any:
        return self.tool.commands(spec, STAMPS[spec])

    def generate(self, spec: str, trunk: Files, definition: Definition) -> "Files | Impossible":
        """As a landing does it: trunk's migrations, the spec's definition, an empty database brought to trunk."""
        self.project.write(definition)
        self.place(trunk)
        database = self.database(copy=self.dev if trunk == self.base and trunk else None)
        if trunk != self.base:
            self.upgrade(database)
        status, output = self.run(self.commands(spec).generate, database)
        return self.tool.written(status, output, trunk, self.files())

    def unchanged(self, database: Path) -> bool:
        return self.tool.unchanged(*self.run(self.commands("add-base").check, database))

    def contents(self, database: Path) -> Contents:
        return contents.read(self.project.url(database)).without(self.tool.bookkeeping)

    def pushed(self) -> Contents:
        database = self.database()
        status, output = self.run(self.project.push, database)
        assert status == 0, output
        return self.contents(database)


def begin(kind: str, root: Path) -> World:
    try:
        project: SchemaProject = getattr(schema_projects, kind)(root)
    except LookupError as error:
        pytest.skip(str(error))
    world = World(project, tool(kind), {}, root / "dev.db")
    made = world.generate("add-base", {}, Definition())
    assert not isinstance(made, Impossible), made
    world.base = made
    world.place(made)
    world.upgrade(world.dev)
    return world


@pytest.fixture(scope="module", params=["alembic", "django", "drizzle"])
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return begin(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def world(begun: World, tmp_path: Path) -> World:
    """A copy that a test may change."""
    root = tmp_path / "project"
    shutil.copytree(begun.root, root, symlinks=True)
    project = SchemaProject(root, begun.project.tool, begun.project.push, begun.project.scheme)
    return World(project, begun.tool, begun.base, root / "dev.db")


def only(kind: str) -> Callable[[Any], Any]:
    return pytest.mark.parametrize("begun", [kind], indirect=True)


def equal(one: Contents, other: Contents) -> bool:
    return contents.differences(one, other, ("one", "other")) == []


def names(files: "Files | Impossible") -> list[str]:
    assert not isinstance(files, Impossible), files
    return [Path(name).name for name in files]


def migrations(files: "Files | Impossible") -> list[str]:
    return [name for name in names(files) if not name.endswith(".json")]


# ------------------------------------------------------------ what is generated


def test_the_first_migration_holds_what_a_push_makes(world: World) -> None:
    world.place(world.base)
    world.project.write(Definition())
    assert len(migrations(world.base)) == 1 and "add_base" in migrations(world.base)[0]
    assert world.tool.clash(world.base) == ""
    assert equal(world.contents(world.dev), world.pushed())
    assert world.unchanged(world.dev)


def test_nothing_to_migrate_gives_no_file(world: World) -> None:
    assert world.generate("add-age", world.base, Definition()) == {}


def test_one_migration_named_after_the_spec(world: World) -> None:
    world.project.write(AGE)
    world.place(world.base)
    assert not world.unchanged(world.dev), "the check sees what is missing"
    made = world.generate("add-age", world.base, AGE)
    assert len(migrations(made)) == 1 and "add_age" in migrations(made)[0]
    assert all(world.tool.owns(name) for name in made)


def test_the_second_of_two_specs_is_generated_on_the_first(world: World) -> None:
    first, other = (world.generate(*row) for row in (("add-age", world.base, AGE), ("add-note", world.base, NOTE)))
    assert not isinstance(first, Impossible) and not isinstance(other, Impossible)
    assert world.tool.clash({**world.base, **first, **other}) != "", "side by side they have no order"
    trunk = {**world.base, **first}
    second = world.generate("add-note", trunk, BOTH)
    assert not isinstance(second, Impossible) and len(migrations(second)) == 1
    landed = {**trunk, **second}
    assert world.tool.clash(landed) == ""
    world.place(trunk)
    dev = world.upgrade(world.database(copy=world.dev))
    world.place(landed)
    fresh = world.upgrade(world.database())
    assert equal(world.contents(fresh), world.contents(world.upgrade(dev)))
    assert equal(world.contents(fresh), world.pushed())
    assert world.unchanged(fresh)


# ------------------------------------------------------------ handwritten ones

SQL = "UPDATE users SET name = upper(name)"
BODIES = {
    "alembic": f"""def upgrade() -> None:
    op.execute("{SQL}")  # ümläut


def downgrade() -> None:
    pass
""",
    "django": f"""    operations = [
        migrations.RunSQL("{SQL.replace("users", "shop_user")}", ""),  # ümläut
    ]
""",
    "drizzle": f"-- ümläut\n{SQL};\n",
}


def handwritten(world: World) -> Files:
    """The spec's set: the base, and a data migration on top of it."""
    world.place(world.base)
    body = BODIES[world.tool.name]
    if world.tool.name == "django":
        (world.root / "shop/migrations/0002_shout.py").write_text(
            "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
            f'    dependencies = [("shop", "0001_add_base")]\n{body}'
        )
        return world.files()
    command = {
        "alembic": "alembic revision -m shout --rev-id d4d4",
        "drizzle": "npx drizzle-kit generate --custom --name shout",
    }
    status, output = world.run(command[world.tool.name], world.dev)
    assert status == 0, output
    new = next(name for name in world.files() if "shout" in name)
    text = (world.root / new).read_text()
    head = text[: text.index("def upgrade")] if world.tool.name == "alembic" else ""
    (world.root / new).write_text(head + body)
    return world.files()


def test_a_handwritten_migration_goes_behind_those_that_landed(world: World) -> None:
    made = world.generate("add-age", world.base, AGE)
    ours = handwritten(world)
    assert not isinstance(made, Impossible)
    trunk = {**world.base, **made}
    assert world.tool.clash({**trunk, **{name: ours[name] for name in ours if name not in world.base}}) != ""
    placed = world.tool.rebase(trunk, ours, world.base)
    assert not isinstance(placed, Impossible) and len(migrations(placed)) == 1
    landed = {**trunk, **placed}
    assert world.tool.clash(landed) == ""
    moved = next(data for name, data in placed.items() if "shout" in name)
    assert moved.endswith(BODIES[world.tool.name].encode())
    world.project.write(AGE)
    world.place(trunk)
    dev = world.upgrade(world.database(copy=world.dev))
    users = "shop_user" if world.tool.name == "django" else "users"
    with closing(sqlite3.connect(dev)) as db, db:
        db.execute(f"INSERT INTO {users} (email, name) VALUES ('e', 'loud')")
    world.place(landed)
    world.upgrade(dev)
    with closing(sqlite3.connect(dev)) as db:
        assert db.execute(f"SELECT name, age FROM {users}").fetchall() == [("LOUD", None)]
    assert equal(world.contents(dev), world.contents(world.upgrade(world.database())))
    assert world.generate("add-note", landed, AGE) == {}, "the tool finds nothing missing behind it"


# ------------------------------------------------------------ traps


def test_a_rename_without_a_person_is_no_rename(world: World) -> None:
    made = world.generate("add-age", world.base, RENAMED)
    if world.tool.name == "drizzle":
        assert isinstance(made, Impossible) and "question" in made.why
        return
    assert not isinstance(made, Impossible)
    before = world.contents(world.dev)
    world.place({**world.base, **made})
    after = world.contents(world.upgrade(world.database(copy=world.dev)))
    users = "shop_user" if world.tool.name == "django" else "users"
    assert contents.lost(before, after) == [f"column {users}.name is dropped"]


@only("drizzle")
def test_drizzle_exits_with_0_and_does_nothing(world: World) -> None:
    world.place(world.base)
    world.project.write(RENAMED)
    before = world.contents(world.dev)
    for command in (world.project.push, world.commands("add-age").generate):
        status, output = world.run(command, world.dev)
        assert status == 0 and "No schema changes" not in output and "No changes detected" not in output
    assert equal(before, world.contents(world.dev)) and world.files() == world.base
    status, output = world.run(world.commands("add-age").check, world.dev)
    assert status == 0 and not world.tool.unchanged(status, output)


@only("drizzle")
def test_drizzle_passes_over_what_is_dated_before_the_last(world: World) -> None:
    made = world.generate("add-age", world.base, AGE)
    assert not isinstance(made, Impossible)
    journal = json.loads(made["drizzle/meta/_journal.json"])
    journal["entries"][-1]["when"] = journal["entries"][0]["when"] - 1
    landed = {**world.base, **made, "drizzle/meta/_journal.json": json.dumps(journal).encode()}
    world.place(landed)
    dev = world.upgrade(world.database(copy=world.dev))
    assert "column users.age" not in world.contents(dev).objects, "applied nothing, and said nothing"
    assert "passed over" in world.tool.clash(landed)


@only("drizzle")
def test_drizzle_snapshots_are_written_as_it_writes_them(world: World) -> None:
    ours = handwritten(world)
    made = world.generate("add-age", world.base, AGE)
    assert not isinstance(made, Impossible)
    placed = world.tool.rebase({**world.base, **made}, ours, world.base)
    assert not isinstance(placed, Impossible)
    old, new = made["drizzle/meta/0001_snapshot.json"], placed["drizzle/meta/0002_snapshot.json"]
    assert len(old.splitlines()) == len(new.splitlines())
    assert sum(one != other for one, other in zip(old.splitlines(), new.splitlines(), strict=True)) == 2


@only("drizzle")
def test_drizzle_does_not_move_a_handwritten_change_of_the_schema(world: World) -> None:
    made, other = (world.generate(*row) for row in (("add-age", world.base, AGE), ("add-note", world.base, NOTE)))
    assert not isinstance(made, Impossible) and not isinstance(other, Impossible)
    placed = world.tool.rebase({**world.base, **made}, {**world.base, **other}, world.base)
    assert isinstance(placed, Impossible) and "changes the schema" in placed.why
    assert world.tool.rebase(world.base, {**world.base, **other}, world.base) == other


@pytest.mark.parametrize(
    ("begun", "status", "words"),
    [("alembic", 255, "Multiple head revisions"), ("django", 1, "multiple leaf nodes")],
    indirect=["begun"],
)
def test_two_heads_stop_the_tool_but_not_git(world: World, status: int, words: str) -> None:
    made = [world.generate(spec, world.base, change) for spec, change in (("add-age", AGE), ("add-note", NOTE))]
    assert not any(isinstance(one, Impossible) for one in made)
    both = {**world.base, **made[0], **made[1]}  # type: ignore[dict-item]
    assert len(both) == 3, "different files: git sees no conflict"
    world.place(both)
    ended, output = world.run(world.commands("add-base").upgrade, world.database())
    assert ended == status and words in output


@only("alembic")
def test_alembic_check_on_drift(world: World) -> None:
    world.place(world.base)
    world.project.write(AGE)
    status, output = world.run(world.commands("add-base").check, world.dev)
    assert status == 255 and "New upgrade operations" in output


@only("django")
def test_django_passes_over_an_app_without_a_migrations_package(world: World) -> None:
    assert not world.tool.owns("shop/migrations/__init__.py"), "it is the spec's: without it nothing is generated"
    (world.root / "shop/migrations/__init__.py").unlink()
    (world.root / "shop/migrations/0001_add_base.py").unlink()
    (world.root / "shop/migrations").rmdir()
    status, output = world.run(world.commands("add-age").generate, world.database())
    assert status == 0 and "No changes detected" in output
