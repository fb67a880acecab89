"""Tools whose migrations are put into an order by number: `prisma` and `command`, and what all tools share."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentq.errors import ConfigError
from agentq.migrations.base import Files, Impossible, migration_name
from agentq.migrations.tools import tool

COMMAND = tool("command", ("db/",), "up", "new {name} {stamp}", "same")
PRISMA = tool("prisma")
STAMP = "0123456789ab"


def files(*names: str, folder: str = "db/") -> dict[str, bytes]:
    return {folder + name: name.encode() for name in names}


@pytest.mark.parametrize(
    ("names", "fits"),
    [
        (("0007_a.sql", "0007_b.sql"), False),
        (("0007_a.sql", "7_b.sql"), False),
        (("V7__a.sql", "V7__b.sql"), False),
        (("V7.0__a.sql", "V7_0__b.sql"), False),
        (("20260102030405_a.rb", "20260102030405_b.rb"), False),
        (("2026-01-02-030405_a/up.sql", "2026-01-02-030405_b/up.sql"), False),
        (("7.sql", "07.sql"), True),
        (("0007_a.up.sql", "0007_a.down.sql"), True),
        (("V7__a.sql", "U7__a.sql"), True),
        (("V1.1__a.sql", "V1.2__b.sql", "V1_3__c.sql"), True),
        (("2026-01-02-030405_a/up.sql", "2026-01-02-030405_a/down.sql", "2026-01-02-030406_b/up.sql"), True),
        (("0007_a.sql", "0008_b.sql", "README.md", "schema.sql", "R__view.sql"), True),
        (("one/0007_a.sql", "two/0007_b.sql"), True),
    ],
)
def test_two_of_one_number_in_a_folder_clash(names: tuple[str, ...], fits: bool) -> None:
    assert (COMMAND.clash(files(*names)) == "") == fits


@pytest.mark.parametrize(
    ("trunk", "own", "moved"),
    [
        (["0007_t.sql"], ["0007_o.sql"], ["0008_o.sql"]),
        (["0007_t.sql"], ["0007_o.sql", "0008_p.sql"], ["0008_o.sql", "0009_p.sql"]),
        (["0009_t.sql"], ["0008_p.sql", "0007_o.sql"], ["0010_o.sql", "0011_p.sql"]),
        (["0007_t.sql"], ["0007_o.up.sql", "0007_o.down.sql"], ["0008_o.up.sql", "0008_o.down.sql"]),
        (["V7__t.sql"], ["V7__o.sql", "U7__o.sql"], ["V8__o.sql", "U8__o.sql"]),
        (["V1.2__t.sql"], ["V1.2__o.sql"], ["V1.3__o.sql"]),
        (["99_t.sql"], ["99_o.sql"], ["100_o.sql"]),
        (["20261231235959_t.rb"], ["20261231000000_o.rb"], ["20270101000000_o.rb"]),
        (["2026-01-02-030405_t/up.sql"], ["2026-01-01-030405_o/up.sql"], ["2026-01-02-030406_o/up.sql"]),
        (["0007_t.sql"], ["0009_o.sql"], ["0009_o.sql"]),
        ([], ["0007_o.sql"], ["0007_o.sql"]),
        (["0007_t.sql"], ["view.sql"], ["view.sql"]),
        (["one/0007_t.sql"], ["two/0001_o.sql"], ["two/0001_o.sql"]),
    ],
)
def test_the_own_ones_go_behind_trunks(trunk: list[str], own: list[str], moved: list[str]) -> None:
    base = files("0001_base.sql", folder="db/other/")
    found = COMMAND.rebase({**base, **files(*trunk)}, {**base, **files(*own)}, base)
    assert not isinstance(found, Impossible)
    assert sorted(found) == sorted(f"db/{name}" for name in moved)
    assert sorted(found.values()) == sorted(name.encode() for name in own), "contents are not touched"


def test_numbers_are_not_texts() -> None:
    moved = COMMAND.rebase(files("10_t.sql"), files("9_o.sql", "10_p.sql"), {})
    assert moved == {"db/11_o.sql": b"9_o.sql", "db/12_p.sql": b"10_p.sql"}


numbers = st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True)


@settings(max_examples=80)
@given(numbers, numbers)
def test_any_order_ends_in_one(trunk: list[int], own: list[int]) -> None:
    landed, ours = files(*(f"{n:03d}_t.sql" for n in trunk)), files(*(f"{n:03d}_o.sql" for n in own))
    moved = COMMAND.rebase(landed, ours, {})
    assert not isinstance(moved, Impossible) and COMMAND.clash({**landed, **moved}) == ""
    assert min(moved) > max(landed)
    assert [moved[path] for path in sorted(moved)] == [ours[path] for path in sorted(ours)]


def test_versions_of_two_kinds_are_not_guessed() -> None:
    refused = COMMAND.rebase(files("V2.1__t.sql"), files("V1__o.sql"), {})
    assert isinstance(refused, Impossible) and "not of one kind" in refused.why


def test_what_has_landed_stays_as_it_is() -> None:
    base = files("0001_a.sql", "0002_b.sql")
    for ours, what in (({**base, "db/0002_b.sql": b"x"}, "changes"), (files("0001_a.sql"), "removes")):
        refused = COMMAND.rebase(base, ours, base)
        assert isinstance(refused, Impossible) and f"{what} db/0002_b.sql, which has landed" in refused.why
        assert isinstance(COMMAND.rebase({**base, "db/0002_b.sql": b"y"}, ours, base), Impossible)
    same = {**base, "db/0002_b.sql": b"x"}
    assert COMMAND.rebase(same, same, base) == {}, "both sides made the same change"


def test_what_a_generator_wrote_goes_behind_trunks_too() -> None:
    before = files("20261231235959_t.sql")
    late = {**before, **files("20260101000000_o.sql")}
    assert COMMAND.written(0, "", before, late) == {"db/20270101000000_o.sql": b"20260101000000_o.sql"}
    assert COMMAND.written(0, "", before, {**before, "db/1_empty.sql": b"\n"}) == {}
    assert isinstance(COMMAND.written(2, "", before, late), Impossible)
    assert isinstance(COMMAND.written(0, "", before, {}), Impossible), "it removed one that has landed"


# ------------------------------------------------------------ Prisma (its engine is not on any package registry)


def prisma(*times: str, lock: bytes = b'# comment\nprovider = "sqlite"\n') -> dict[str, bytes]:
    home = "prisma/migrations/"
    made = {f"{home}{time}/migration.sql": f"SELECT '{time}';".encode() for time in times}
    return {**made, f"{home}migration_lock.toml": lock}


def test_prisma_clashes() -> None:
    good = prisma("0_init", "20260101000000_a")
    assert PRISMA.clash(good) == ""
    assert "same number" in PRISMA.clash(prisma("20260101000000_a", "20260101000000_b"))
    assert "does not name one provider" in PRISMA.clash(prisma("0_init", lock=b""))
    merged = b'<<<<<<< a\nprovider = "sqlite"\n=======\nprovider = "mysql"\n>>>>>>> b\n'
    assert "does not name one provider" in PRISMA.clash(prisma("0_init", lock=merged))
    assert "has no migration.sql" in PRISMA.clash({**good, "prisma/migrations/20260102000000_b/README.md": b""})


def test_prisma_folders_move_behind_trunks() -> None:
    base = prisma("20260101000000_a")
    trunk = prisma("20260101000000_a", "20260105000000_t")
    moved = PRISMA.rebase(trunk, prisma("20260101000000_a", "20260102000000_o", "20260103000000_p"), base)
    assert moved == {
        "prisma/migrations/20260105000001_o/migration.sql": b"SELECT '20260102000000_o';",
        "prisma/migrations/20260105000002_p/migration.sql": b"SELECT '20260103000000_p';",
    }


def test_prisma_writes_a_file_for_nothing() -> None:
    before = prisma("20260101000000_a")
    for text, kept in ((b"-- This is an empty migration.", 0), (b"-- AlterTable\nALTER TABLE x;", 1)):
        after = {**before, "prisma/migrations/20260102000000_o/migration.sql": text}
        written = PRISMA.written(0, "", before, after)
        assert not isinstance(written, Impossible) and len(written) == kept
    late = {**before, "prisma/migrations/20250101000000_o/migration.sql": b"ALTER TABLE x;"}
    assert PRISMA.written(0, "", before, late) == {
        "prisma/migrations/20260101000001_o/migration.sql": b"ALTER TABLE x;"
    }


# ------------------------------------------------------------ what all share


@pytest.mark.parametrize("kind", ["alembic", "django", "drizzle", "prisma", "command"])
@given(spec=st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True))
def test_names_fit_every_tool(kind: str, spec: str) -> None:
    name = migration_name(spec)
    assert name.isidentifier() and name.isascii() and len(name) <= 65
    made = (COMMAND if kind == "command" else tool(kind)).commands(spec, STAMP)
    assert name in made.generate


def test_settings_go_before_the_tools_own_commands() -> None:
    made = tool("django", ("app/migrations/",), check="./check {name} {stamp} ${name} {other}")
    commands = made.commands("7-a", STAMP)
    assert commands.check == f"./check m7_a {STAMP} ${{name}} {{other}}"
    assert commands.upgrade == "python manage.py migrate --noinput"
    assert made.owns("app/migrations/x.py") and not made.owns("other/migrations/x.py")
    with pytest.raises(ValueError, match="not a stamp"):
        made.commands("a", "$(reboot)")


def test_a_name_is_one_word_for_the_shell() -> None:
    command = tool("command", ("db/",), "up", "printf '[%s]' {name}", "same").commands("a;touch x $(b)", STAMP)
    assert (
        subprocess.run(command.generate, shell=True, capture_output=True, check=True).stdout == b"[a_touch_x___b_]"
    )


def test_the_tool_command_needs_its_settings() -> None:
    for given_settings in (((), "u", "g", "c"), (("db/",), "", "g", "c"), (("db/",), "u", "g", "")):
        with pytest.raises(ConfigError, match="not set"):
            tool("command", *given_settings)


def test_files_are_folders_or_globs() -> None:
    for glob in ("db", "db/", "db/**", "db/*.sql"):
        assert tool("command", (glob,), "u", "g", "c").owns("db/1_a.sql")
        assert not tool("command", (glob,), "u", "g", "c").owns("dbs/1_a.sql")


def test_the_check_is_believed_by_its_status_only_where_that_is_true() -> None:
    for kind in ("alembic", "django", "prisma"):
        assert tool(kind).unchanged(0, "") and not tool(kind).unchanged(1, "No schema changes")
    drizzle = tool("drizzle")
    assert drizzle.unchanged(0, "No schema changes, nothing to migrate")
    assert not drizzle.unchanged(0, "") and not drizzle.unchanged(1, "No schema changes")


def empty() -> Files:
    return {}


@pytest.mark.parametrize("kind", ["alembic", "django", "drizzle", "prisma"])
def test_no_migrations_at_all(kind: str) -> None:
    assert tool(kind).clash(empty()) == "" and tool(kind).rebase(empty(), empty(), empty()) == {}


def test_what_stands_beside_the_migrations_is_the_projects() -> None:
    names = ("20260101000000_a/migration.sql", "migration_lock.toml", "README.md", "seed.ts")
    assert [PRISMA.owns(f"prisma/migrations/{name}") for name in names] == [True, True, False, False]
