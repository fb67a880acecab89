"""Looking at real project layouts in real repositories, and writing what `agentq init` proposes."""

import json
import os
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import jsonschema
import pytest

from agentq.config import load, policy
from agentq.core.document import Reader
from agentq.core.sections import Machine
from agentq.core.tomltext import dump
from agentq.errors import GitError, UserError
from agentq.flows import detect, setup
from agentq.flows.detect import Commands

Layout = Mapping[str, str]


def git(root: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(root: Path, layout: Layout) -> None:
    for name, text in layout.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def repository(root: Path, layout: Layout | None = None, branch: str = "main") -> Path:
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", branch)
    write(root, layout or {"README": "hello\n"})
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def cloned(tmp_path: Path, branch: str = "main") -> Path:
    source = repository(tmp_path / "source", branch=branch)
    git(tmp_path, "clone", "-q", "--bare", str(source), "hub.git")
    git(tmp_path, "clone", "-q", "hub.git", "checkout")
    return tmp_path / "checkout"


def state(root: Path) -> dict[str, bytes]:
    """Every file below `root`, .git's own included, except what git rewrites when it only looks."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != "index"
    }


TEST_FILE = {"tests/test_one.py": "def test_one():\n    pass\n"}


def plan(root: Path, **more: object) -> setup.Plan:
    return setup.plan(root, root.parent / "spaces", os.environ, **more)  # type: ignore[arg-type]


def test_everything_written_can_be_read_by_agentq(tmp_path: Path) -> None:
    root = repository(tmp_path / "x", {**TEST_FILE, ".env": "APP_DB=sqlite:///dev.db\n"})
    written = setup.apply(plan(root))
    assert written == [
        "agents/config.toml", "agents/queue.json", "agents/queue.schema.json", ".machine", ".gitignore",
        "AGENTS.md",
    ]  # fmt: skip
    config = load(root, {})
    assert config.commands.verify and config.trunk.branch == "main"
    assert (config.database.provider, config.database.url, config.database.env) == (
        "sqlite",
        "sqlite:///dev.db",
        "APP_DB",
    )
    assert config.machine.instances >= 1 and config.machine.name and config.machine.type
    text = (root / "agents" / "queue.json").read_text()
    assert Reader().parse(text).queue.ready == ()
    schema = json.loads((root / "agents" / "queue.schema.json").read_text())
    jsonschema.validate(json.loads(text), schema)
    assert git(root, "status", "--porcelain", "--", ".machine") == ""


def test_the_agents_offered_in_config_toml_are_valid_when_uncommented(tmp_path: Path) -> None:
    text = plan(repository(tmp_path / "x")).changes[0].data.decode()
    offered = [line[2:] for line in text.splitlines() if line.startswith(("# driver =", "# command =", "# env ="))]
    assert len(offered) == 3
    for line in offered:
        assert policy(text.replace(f"# {line}", line), "config.toml").agent != policy(text, "config.toml").agent


def test_the_models_offered_in_config_toml_are_valid_when_uncommented(tmp_path: Path) -> None:
    text = plan(repository(tmp_path / "x")).changes[0].data.decode()
    block = text[text.index("# [bucket.anthropic]") :].partition("\n\n")[0]
    models = policy(text.replace(block, block.replace("# ", "")), "config.toml").models
    assert models is not None and list(models.tiers) == ["strong"]


def test_an_agent_that_is_installed_is_chosen(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    agent = tmp_path / "bin" / "codex"
    agent.write_text("#!/bin/sh\n")
    agent.chmod(0o755)
    root = repository(tmp_path / "x")
    made = setup.plan(root, tmp_path / "ws", {"PATH": str(agent.parent)})
    assert policy(made.changes[0].data.decode(), "config.toml").agent.driver == "codex"
    assert not any("choose an agent" in note for note in made.notes)
    assert any("choose an agent" in note for note in setup.plan(root, tmp_path / "ws", {"PATH": ""}).notes)


def test_strange_names_stay_texts_in_config_toml() -> None:
    trunk = detect.Trunk("up", 'we"ird', "")
    told = Commands("a && b", 'x "@DATABASE@" {files}', ("c\\d",), ("k",))
    data = tomllib.loads(setup.config_text(trunk, told, "X", "sqlite:///@TRUNK@.db"))
    assert data["trunk"] == {"remote": "up", "branch": 'we"ird'}
    assert data["commands"] == {"setup": "a && b", "test": told.test, "verify": ["c\\d"], "keep": ["k"]}
    assert data["database"] == {"provider": "sqlite", "url": "sqlite:///@TRUNK@.db", "env": "X"}
    assert dump(trunk.branch) in setup.config_text(trunk, told, "", "")


def test_twice_changes_nothing(tmp_path: Path) -> None:
    root = repository(tmp_path / "x", TEST_FILE)
    setup.apply(plan(root))
    before = state(root)
    again = plan(root)
    assert again.pending == () and again.notes == ()
    assert setup.apply(again) == []
    assert state(root) == before


def test_planning_changes_nothing(tmp_path: Path) -> None:
    root = cloned(tmp_path)
    before = state(tmp_path)
    assert len(plan(root).pending) == 6
    assert state(tmp_path) == before


def test_what_exists_is_kept(tmp_path: Path) -> None:
    mine = {
        "agents/config.toml": "# mine\n", "agents/queue.json": "{broken", "agents/queue.schema.json": "{}",
        ".machine": "instances = 7\n", ".gitignore": "*.pyc\n/.machine", "AGENTS.md": "# Rules\n\nBe kind.",
    }  # fmt: skip
    root = repository(tmp_path / "x", mine)
    made = plan(root)
    assert {one.path: one.action for one in made.changes} == {
        "agents/config.toml": "keep", "agents/queue.json": "keep", "agents/queue.schema.json": "keep",
        ".machine": "keep", ".gitignore": "append", "AGENTS.md": "append",
    }  # fmt: skip
    assert "schema --write" in made.changes[2].note
    setup.apply(made)
    for name in list(mine)[:4]:
        assert (root / name).read_text() == mine[name]
    assert (root / ".gitignore").read_text() == "*.pyc\n/.machine\n\n# agentq\nagents/.queue.json.*\n"
    assert (root / "AGENTS.md").read_text().startswith("# Rules\n\nBe kind.\n\n<!-- agentq -->\n")


def test_the_block_in_agents_md_is_renewed_and_nothing_else(tmp_path: Path) -> None:
    before = "# Top\n<!-- agentq -->\nold words\n<!-- /agentq -->\n\nBottom without newline"
    root = repository(tmp_path / "x", {"AGENTS.md": before})
    made = plan(root)
    assert made.changes[-1].action == "update"
    setup.apply(made)
    after = (root / "AGENTS.md").read_text()
    assert after.startswith("# Top\n<!-- agentq -->\n## agentq") and "old words" not in after
    assert after.endswith("<!-- /agentq -->\n\nBottom without newline")
    assert plan(root).changes[-1].action == "keep"


def test_a_half_block_in_agents_md_is_left_alone(tmp_path: Path) -> None:
    change = plan(repository(tmp_path / "x", {"AGENTS.md": "<!-- agentq -->\nwords\n"})).changes[-1]
    assert change.action == "keep" and "without" in change.note


@pytest.mark.parametrize("name", ["AGENTS.md", ".gitignore"])
def test_bytes_and_line_ends_of_a_person_stay(tmp_path: Path, name: str) -> None:
    root = repository(tmp_path / "x")
    before = b"caf\xe9\r\nline\r\n"
    (root / name).write_bytes(before)
    setup.apply(plan(root))
    after = (root / name).read_bytes()
    assert after.startswith(before + b"\r\n") and b"\n" not in after.replace(b"\r\n", b"")
    assert plan(root).pending == ()


def test_a_link_inside_the_checkout_is_followed(tmp_path: Path) -> None:
    root = repository(tmp_path / "x", {"CLAUDE.md": "hi\n"})
    (root / "AGENTS.md").symlink_to("CLAUDE.md")
    setup.apply(plan(root))
    assert (root / "AGENTS.md").is_symlink()
    assert (root / "CLAUDE.md").read_text().startswith("hi\n\n<!-- agentq -->")


def test_a_link_out_of_the_checkout_is_refused(tmp_path: Path) -> None:
    root = repository(tmp_path / "x")
    (tmp_path / "elsewhere").mkdir()
    (root / "agents").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="leads out of the repository"):
        plan(root)


def test_agents_that_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="agents is a file"):
        plan(repository(tmp_path / "x", {"agents": "smith\n"}))


def test_a_file_that_appears_after_the_plan_is_kept(tmp_path: Path) -> None:
    root = repository(tmp_path / "x")
    made = plan(root)
    write(root, {"agents/queue.json": "mine"})
    assert "agents/queue.json" not in setup.apply(made)
    assert (root / "agents" / "queue.json").read_text() == "mine"


def test_notes_tell_what_a_person_must_decide(tmp_path: Path) -> None:
    notes = "\n".join(plan(repository(tmp_path / "x", {".gitignore": "agents/\n"})).notes)
    assert "no test command" in notes and "choose an agent" in notes and "git ignores agents/" in notes
    notes = "\n".join(plan(repository(tmp_path / "y", {"Cargo.toml": ""})).notes)
    assert "takes no files" in notes and "does not ignore target" in notes
    layout = {"package.json": '{"scripts": {"test": "jest"}, "dependencies": {"a": "1"}}', "test_a.py": ""}
    notes = "\n".join(plan(repository(tmp_path / "z", layout)).notes)
    assert "does not ignore node_modules" in notes and "does not ignore __pycache__" in notes
    layout[".gitignore"] = "node_modules/\n*.pyc\n__pycache__\n"
    notes = "\n".join(plan(repository(tmp_path / "w", layout)).notes)
    assert "does not ignore" not in notes


def test_a_dirty_checkout_keeps_its_changes(tmp_path: Path) -> None:
    root = cloned(tmp_path)
    write(root, {"README": "changed\n", "staged": "s\n", "loose": "l\n"})
    git(root, "add", "staged")
    head, before = git(root, "rev-parse", "HEAD"), git(root, "status", "--porcelain").splitlines()
    setup.apply(plan(root))
    after = git(root, "status", "--porcelain").splitlines()
    assert set(before) < set(after) and git(root, "rev-parse", "HEAD") == head
    assert {line[3:] for line in set(after) - set(before)} == {".gitignore", "AGENTS.md", "agents/"}


# ------------------------------------------------------------ the hub


def test_a_hub_holds_the_trunk_and_becomes_origin(tmp_path: Path) -> None:
    root = repository(tmp_path / "proj", branch="trunk")
    made = plan(root)
    assert made.hub == tmp_path / "proj-hub.git" and made.trunk.remote == ""
    write(root, {"README": "dirty\n"})
    setup.make_hub(root, made.hub, "trunk")
    assert git(made.hub, "rev-parse", "HEAD") == git(root, "rev-parse", "HEAD")
    assert git(root, "rev-parse", "origin/trunk") == git(root, "rev-parse", "trunk")
    assert git(root, "status", "--porcelain") == "M README"
    assert plan(root).hub is None and plan(root, hub=made.hub).hub is None
    with pytest.raises(UserError, match="already has the remote"):
        plan(root, hub=tmp_path / "another.git")


def test_a_hub_that_was_begun_is_finished(tmp_path: Path) -> None:
    root, hub = repository(tmp_path / "proj"), tmp_path / "h.git"
    setup.make_hub(root, hub, "main")
    git(root, "remote", "remove", "origin")
    setup.make_hub(root, hub, "main")
    assert git(root, "remote", "get-url", "origin") == str(hub)


def _file(hub: Path) -> None:
    hub.write_text("x")


def _full(hub: Path) -> None:
    write(hub, {"letter": "x"})


def _other(hub: Path) -> None:
    git(repository(hub.parent / "other"), "clone", "-q", "--bare", ".", str(hub))


def _checkout(hub: Path) -> None:
    repository(hub)


@pytest.mark.parametrize("occupy", [_file, _full, _other, _checkout])
def test_a_place_that_is_taken_is_not_made_a_hub(tmp_path: Path, occupy: Callable[[Path], None]) -> None:
    root, hub = repository(tmp_path / "proj", {"a": "b"}), tmp_path / "h.git"
    occupy(hub)
    before = state(tmp_path)
    with pytest.raises(UserError, match=r"h\.git"):
        setup.make_hub(root, hub, "main")
    assert state(tmp_path) == before and git(root, "remote") == ""


def test_a_hub_inside_the_checkout_is_refused(tmp_path: Path) -> None:
    root = repository(tmp_path / "proj")
    with pytest.raises(UserError, match="inside the checkout"):
        setup.make_hub(root, root / "hub.git", "main")


def test_a_hub_that_cannot_be_pushed_to_leaves_no_remote(tmp_path: Path) -> None:
    root = repository(tmp_path / "proj")
    with pytest.raises(GitError):
        setup.make_hub(root, tmp_path / "h.git", "no-such-branch")
    assert git(root, "remote") == ""


# ------------------------------------------------------------ this host


def test_the_host_keeps_what_a_person_named(tmp_path: Path) -> None:
    host = setup.host(tmp_path, Machine(name="anvil", type="forge", workspaces="/srv/ws", instances=99))
    data = tomllib.loads(host.text)
    assert (data["name"], data["type"], data["workspaces"]) == ("anvil", "forge", "/srv/ws")
    assert data["instances"] == host.proposal.instances
    assert host.reason.endswith(".") and host.reason[0].isupper()


def test_a_remote_of_another_name_stands_in_config_toml(tmp_path: Path) -> None:
    root = cloned(tmp_path)
    git(root, "remote", "rename", "origin", "upstream")
    assert 'remote = "upstream"\nbranch = "main"' in plan(root).changes[0].data.decode()


def test_a_schema_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        setup.write_schema(tmp_path / "no" / "x.json")
    assert "folder must exist" in told.value.hint


@pytest.mark.parametrize(
    ("files", "tool", "push"),
    [
        ({"alembic.ini": "[alembic]\n"}, "alembic", ""),
        ({"manage.py": "", "shop/migrations/__init__.py": ""}, "django", ""),
        ({"drizzle.config.ts": ""}, "drizzle", "npx drizzle-kit push --force"),
        ({"prisma/schema.prisma": ""}, "prisma", "npx prisma db push"),
        ({"manage.py": ""}, "none", ""),
    ],
)
def test_a_server_and_a_migration_tool_are_proposed_without_the_secret(
    tmp_path: Path, files: dict[str, str], tool: str, push: str
) -> None:
    url = "postgresql://me:correct-horse@db.example/shop"
    root = repository(tmp_path / "x", {**TEST_FILE, **files, ".env": f"APP_DB={url}\n"})
    proposed = plan(root)
    setup.apply(proposed)
    config = load(root, {})
    assert (config.database.provider, config.database.url, config.database.env) == ("postgres", "", "APP_DB")
    assert (config.migrations.tool, config.database.push) == (tool, push)
    assert config.database.start == ("empty" if tool in ("alembic", "django") else "copy")
    assert "correct-horse" not in json.dumps(proposed.to_json())
    assert "correct-horse" not in (root / "agents" / "config.toml").read_text()


def test_without_a_database_no_migrations_are_proposed(tmp_path: Path) -> None:
    root = repository(tmp_path / "x", {**TEST_FILE, "alembic.ini": ""})
    setup.apply(plan(root))
    assert load(root, {}).migrations.tool == "none"
