import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from contracts.databases import ENV, HOUR, NOW, DatabasesContract, everyone, nobody
from contracts.sqlite_files import SqliteFiles

from agentq.databases.command import CommandDatabases
from agentq.databases.command_same import same_database
from agentq.errors import DatabaseError

# What a company might have: databases are files of a folder, copied by SQLite's own means.
SCRIPT = """
import os, sqlite3, sys
from pathlib import Path
what, name, folder = sys.argv[1:]
target = Path(folder) / f"{name}.db"
if what == "create":
    print("copying", file=sys.stderr)
    source = sqlite3.connect(os.environ["DATABASE_URL"], timeout=30)
    out = sqlite3.connect(target)
    source.backup(out)
    out.close()
if what == "empty":
    assert "DATABASE_URL" not in os.environ
    target.touch()
if what == "drop":
    assert "DATABASE_URL" not in os.environ
    for suffix in ("", "-journal"):
        Path(f"{target}{suffix}").unlink(missing_ok=True)
else:
    print("made", os.environ["AGENTQ_DATABASE"])
    print(target)
"""


class CommandWorld(SqliteFiles):
    head_is_exact = warms = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.folder = root / "company's"
        self.folder.mkdir()
        (root / "db.py").write_text(SCRIPT)
        self.databases = eval(self._call(), {"CommandDatabases": CommandDatabases, "Path": Path})

    def _call(self) -> str:
        """Of the constructor, as source."""
        create, empty, drop = (
            f'{sys.executable} db.py {what} {{name}} "{self.folder}"' for what in ("create", "empty", "drop")
        )
        return (
            f"CommandDatabases({create!r}, {empty!r}, '', {drop!r}, Path({str(self.store)!r}), url={self.url!r}, "
            f"root=Path({str(self.root)!r}))"
        )

    def source(self) -> str:
        return (
            "from pathlib import Path\nfrom agentq.databases.command import CommandDatabases\n"
            f"databases = {self._call()}\n"
        )

    def leftovers(self) -> list[str]:
        files = [*self.folder.iterdir(), *self.store.glob("branches/*"), *self.store.glob("output/*")]
        return sorted(path.name for path in files)


class TestCommands(DatabasesContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> CommandWorld:
        return CommandWorld(tmp_path)


def databases(root: Path, **commands: str) -> CommandDatabases:
    """Each command notes its name in a file `log`; what is not given is a plain one."""
    plain = {
        "create": "echo sqlite:////data/{name}", "create_empty": "echo sqlite:////data/{name}",
        "locate": "", "drop": "true", "url": "sqlite:////data/dev",
    }  # fmt: skip
    chosen = {
        what: f"echo {what} >> log; {command}" if command and what != "url" else command
        for what, command in (plain | commands).items()
    }
    return CommandDatabases(**chosen, store=root / "store", root=root)


def log(root: Path) -> list[str]:
    return (root / "log").read_text().split() if (root / "log").exists() else []


def papers(root: Path) -> list[Path]:
    return sorted((root / "store" / "branches").iterdir())


def test_the_url_is_the_last_line_or_what_locate_prints(tmp_path: Path) -> None:
    talks = databases(tmp_path, create="echo one; echo two >&2; echo 'pg://u:p@h/{name}?x=a b'; echo; exit 0")
    branch = talks.acquire("one", HOUR, NOW, "me")
    assert branch.url == f"pg://u:p@h/{branch.name}?x=a b"
    located = databases(tmp_path, locate='echo "pg://h/$AGENTQ_DATABASE"')
    branch = located.acquire("two", HOUR, NOW, "me")
    assert branch.url == f"pg://h/{branch.name}"
    assert log(tmp_path) == ["create", "create", "locate"]


def test_a_command_may_be_several_lines_with_any_quotes(tmp_path: Path) -> None:
    made = databases(
        tmp_path, create="# make it\ncat <<EOF  # here\n'pg'\nEOF\nif true; then echo \"pg://h/{name}\"; fi"
    )
    branch = made.acquire("one", HOUR, NOW, "me")
    assert branch.url == f"pg://h/{branch.name}"


@pytest.mark.parametrize(
    ("create", "why"),
    [
        ("true", "printed no URL"),
        ("echo created ok", "printed no URL"),
        ("echo done: branch is ready", "printed no URL"),
        ("printf 'pg://h/\\033[31m{name}'", "printed no URL"),
        ("echo sqlite:////data/dev", "the URL of dev"),
        ("echo sqlite:////data/dev?mode=ro", "the URL of dev"),
        ("echo sqlite:////data/{name}; exit 3", r"failed \(exit status 3\)"),
        ("/nowhere/at/all", "exit status 127"),
    ],
)
def test_a_create_that_gives_no_branch_is_refused_and_dropped(tmp_path: Path, create: str, why: str) -> None:
    made = databases(tmp_path, create=create)
    with pytest.raises(DatabaseError, match=why) as caught:
        made.acquire("one", HOUR, NOW, "me")
    assert caught.value.hint
    assert log(tmp_path) == ["create", "drop"]
    assert papers(tmp_path) == []
    assert made.branches() == []


DEV = "postgresql+asyncpg://me:pw@localhost/dev?sslmode=require"


@pytest.mark.parametrize(
    "other",
    [
        "postgresql://you@localhost:5432/dev", "postgres://127.0.0.1/dev", "postgresql://[::1]/dev",
        "postgresql://LOCALHOST/%64ev", "postgresql:///dev", "postgresql://x/y?host=localhost&dbname=dev",
        "postgresql://far,localhost:5432/dev", "postgresql://far:1,near:2/dev?host=localhost&port=5432",
    ],
)  # fmt: skip
def test_dev_is_known_however_its_url_is_written(other: str) -> None:
    assert same_database(DEV, other) and same_database(other, DEV)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (DEV, "postgresql://localhost/dev2"), (DEV, "postgresql://localhost:5433/dev"), (DEV, "postgresql://far/dev"),
        ("postgresql:///app?host=/run/aq_1", "postgresql:///app?host=/run/aq_2"),
        ("mysql://h/a", "mysql://h/b"), ("sqlite:////data/a", "sqlite:////data/b"), ("/data/a", "/data/b"),
        (DEV, ""), ("postgresql://[broken/dev", DEV),
    ],
)  # fmt: skip
def test_other_databases_are_others(one: str, other: str) -> None:
    assert not same_database(one, other) and not same_database(other, one)


@pytest.mark.parametrize("what", ["create_empty", "drop", "locate"])
def test_only_create_learns_where_dev_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setenv("DATABASE_URL", "sqlite:////data/dev")
    monkeypatch.setenv("AGENTQ_DATABASE_URL", "sqlite:////data/dev")
    seen = tmp_path / "seen"
    made = databases(tmp_path, **{what: f"env > {seen}; echo sqlite:////data/{{name}}"})
    made.release(made.empty("one", HOUR, NOW, "me").id)
    assert "AGENTQ_DATABASE=" in seen.read_text() and "/data/dev" not in seen.read_text()


def test_two_branches_never_share_a_database(tmp_path: Path) -> None:
    made = databases(tmp_path, create="echo pg://u$$@h/same")
    first = made.acquire("one", HOUR, NOW, "me")
    with pytest.raises(DatabaseError, match="another branch"):
        made.acquire("two", HOUR, NOW, "me")
    assert made.branches() == [first]


def test_no_secret_is_in_a_message(tmp_path: Path) -> None:
    create = (
        "echo pg://u:hunter22@h/{name}; set -x; false --password=swordfish pg://u:hunter22@h/{name} 'x hunter22'"
    )
    with pytest.raises(DatabaseError) as caught:
        databases(tmp_path, create=create).acquire("one", HOUR, NOW, "me")
    assert "***" in caught.value.message
    for secret in ("hunter22", "swordfish", "pg://"):
        assert secret not in caught.value.message
    with pytest.raises(DatabaseError) as caught:
        databases(tmp_path, create='echo "cannot reach $DATABASE_URL" >&2; false').acquire("2", HOUR, NOW, "me")
    assert "cannot reach ***" in caught.value.message
    with pytest.raises(DatabaseError) as caught:
        databases(tmp_path, create="echo no mysql://a:b@c/d >&2; false").acquire("3", HOUR, NOW, "me")
    assert caught.value.message.endswith("no ***")
    for said in ("Authorization: Bearer swordfish", "curl -u me:swordfish", "PGPASSWORD='x swordfish' psql"):
        with pytest.raises(DatabaseError) as caught:
            databases(tmp_path, create=f'echo "{said}" >&2; false').acquire("4", HOUR, NOW, "me")
        assert "swordfish" not in caught.value.message and "***" in caught.value.message


def test_the_url_is_kept_in_private_files_alone(tmp_path: Path) -> None:
    made = databases(tmp_path, create="echo pg://u:hunter22@h/{name}")
    branch = made.acquire("one", HOUR, NOW, "me")
    holders = [p for p in (tmp_path / "store").rglob("*") if p.is_file() and b"hunter22" in p.read_bytes()]
    assert [p.name for p in holders] == [f"{branch.name}.json"]
    assert holders[0].stat().st_mode & 0o777 == 0o600
    assert holders[0].parent.stat().st_mode & 0o777 == 0o700
    assert "hunter22" not in repr(branch)


def test_a_drop_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    made = databases(tmp_path, drop="test -e works || { echo no route to host >&2; exit 1; }")
    one = made.acquire("one", HOUR, NOW, "me")
    two = made.acquire("two", 2 * HOUR, NOW, "me")
    with pytest.raises(DatabaseError, match="no route to host"):
        made.release(one.id)
    assert made.branches() == [two]
    with pytest.raises(DatabaseError, match="no route to host"):
        made.reap(NOW, everyone)
    fresh = made.acquire("one", HOUR, NOW, "me")
    assert fresh.id != one.id
    (tmp_path / "works").touch()
    assert made.reap(NOW, everyone) == [one.id]
    assert sorted(made.reap(NOW, nobody)) == sorted([two.id, fresh.id])
    assert papers(tmp_path) == []


def test_what_a_lost_paper_may_stand_for_is_dropped(tmp_path: Path) -> None:
    made = databases(tmp_path)
    branch = made.acquire("one", HOUR, NOW, "me")
    (tmp_path / "store" / "branches" / f"{branch.id}.json").write_text("{")
    (tmp_path / "store" / "branches" / "notes.txt").write_text("mine")
    assert made.branches() == []
    assert made.reap(NOW, everyone) == [branch.id]
    assert [p.name for p in papers(tmp_path)] == ["notes.txt"]
    assert log(tmp_path) == ["create", "drop"]


@pytest.mark.parametrize("missing", ["create", "drop", "create_empty"])
def test_what_is_not_configured_is_said_before_anything_is_made(tmp_path: Path, missing: str) -> None:
    made = databases(tmp_path, **{missing: ""})
    with pytest.raises(DatabaseError, match=rf"\[database\] {missing} is empty") as caught:
        (made.empty if missing == "create_empty" else made.acquire)("one", HOUR, NOW, "me")
    assert "{name}" in caught.value.hint
    assert log(tmp_path) == []
    findings = {finding.text: finding.ok for finding in made.doctor()}
    assert any(f"{missing} is empty" in text for text in findings)
    assert all(findings.values()) == (missing == "create_empty")


def test_dev_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError, match="url is empty"):
        databases(tmp_path, url="").dev()
    assert databases(tmp_path).dev() == {ENV: "sqlite:////data/dev"}


def test_the_check_up_looks_for_the_programs(tmp_path: Path) -> None:
    (tmp_path / "mk").write_text("#!/bin/sh\n")
    (tmp_path / "mk").chmod(0o755)
    made = CommandDatabases(
        "HOST=a ./mk {name}", "cd x && y", "$TOOL x", "nowhere-to-be-found", tmp_path / "s", root=tmp_path
    )
    assert [finding.ok for finding in made.doctor()] == [True, True, True, False]
    made = CommandDatabases("docker 'run", "", "", "true", tmp_path / "s", root=tmp_path)
    assert "quote" in made.doctor()[0].text


def test_a_process_of_create_does_not_outlive_it(tmp_path: Path) -> None:
    made = databases(tmp_path, create="sleep 1000 & echo $! > pid; echo pg://h/{name}")
    made.acquire("one", HOUR, NOW, "me")
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


def test_an_expired_branch_is_dropped_for_a_fresh_one(tmp_path: Path) -> None:
    made = databases(tmp_path)
    first = made.acquire("one", HOUR, NOW, "me")
    second = made.acquire("one", HOUR, NOW + timedelta(hours=1), "me")
    assert second.id != first.id
    assert [p.name for p in papers(tmp_path)] == [f"{second.id}.json"]
    assert json.loads(papers(tmp_path)[0].read_text())["owner"] == "me"
