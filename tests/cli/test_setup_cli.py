"""The set-up commands as a person runs them: real processes in real repositories."""

import json
import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import project as projects

Done = subprocess.CompletedProcess[str]


def git(root: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def agentq(root: Path, *args: str, rc: int = 0, **env: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "agentq", *args], cwd=root, capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=60, check=False, env={**os.environ, **env},
    )  # fmt: skip
    assert done.returncode == rc, f"{args}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def on_terminal(root: Path, *args: str, answers: str) -> tuple[int, str]:
    """Run on a terminal of its own; (exit status, everything shown). `answers` are typed ahead."""
    master, slave = pty.openpty()
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "agentq", *args], cwd=root, stdin=slave, stdout=slave, stderr=slave
        )
        os.close(slave)
        os.write(master, answers.encode())
        shown = b""
        while True:
            try:
                piece = os.read(master, 4096)
            except OSError:  # Linux says EIO when the other side is closed
                break
            if not piece:
                break
            shown += piece
        return child.wait(timeout=60), shown.decode().replace("\r\n", "\n")
    finally:
        os.close(master)


def files(root: Path) -> set[str]:
    found = (path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(root)) for path in found}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "proj"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


MADE = {
    ".machine", ".gitignore", "AGENTS.md", "agents/config.toml", "agents/queue.json", "agents/queue.schema.json",
}  # fmt: skip


def test_outside_a_repository(tmp_path: Path) -> None:
    for command in (["init", "--yes"], ["doctor"]):
        done = agentq(tmp_path, *command, rc=2)
        assert "is not inside a git repository" in done.stderr and "hint: " in done.stderr
    error = json.loads(agentq(tmp_path, "init", "--json", rc=2).stdout)
    assert error["schema"] == "agentq/error/v1" and error["error"]["hint"]


def test_in_a_bare_repository(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "x.git")
    assert "bare repository" in agentq(tmp_path / "x.git", "init", "--yes", rc=2).stderr


def test_without_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    done = agentq(tmp_path, "init", "--yes", rc=2)
    assert "no commit yet" in done.stderr and "git commit" in done.stderr


def test_init_without_a_terminal_needs_a_yes(root: Path) -> None:
    before = files(root)
    done = agentq(root, "init", rc=2)
    assert "pass --yes" in done.stderr and "create     agents/config.toml" in done.stdout
    assert files(root) == before


def test_init_dry_run_shows_all_and_does_nothing(root: Path) -> None:
    before = files(root)
    done = agentq(root, "init", "--dry-run", "--yes", "--hub", "../hub.git")
    assert "create     AGENTS.md" in done.stdout and "dry run: nothing was changed" in done.stdout
    assert files(root) == before and git(root, "remote") == "" and not (root.parent / "hub.git").exists()


def test_init_yes_makes_the_files_and_no_hub_unasked(root: Path) -> None:
    done = agentq(root, "init", "--yes")
    assert files(root) == MADE | {"pyproject.toml"}
    assert "python" in tomllib.loads((root / "agents" / "config.toml").read_text())["commands"]["test"]
    assert git(root, "remote") == "" and files(root.parent) == {f"proj/{name}" for name in files(root)}
    assert "agentq init --hub PATH" in done.stdout and "git commit -m" in done.stdout
    assert ".machine" not in done.stdout.partition("git add")[2]
    again = agentq(root, "init", "--yes")
    assert "all files are there already" in again.stdout and "git add" not in again.stdout


def test_init_from_a_subfolder_sets_up_the_top(root: Path) -> None:
    (root / "deep").mkdir()
    agentq(root / "deep", "init", "--yes", "--hub", "../../hub.git")
    assert files(root) == MADE | {"pyproject.toml"} and (root.parent / "hub.git").is_dir()


def test_init_with_a_hub_leads_to_a_project_that_lands(root: Path) -> None:
    told = json.loads(agentq(root, "init", "--yes", "--json", "--hub", "../hub.git").stdout)
    hub = root.parent / "hub.git"
    assert told["schema"] == "agentq/init/v1" and told["hub_made"] and set(told["written"]) == MADE
    assert told["trunk"]["branch"] == "main" and told["hub"] == str(hub)
    assert git(root, "remote", "get-url", "origin") == str(hub)
    assert git(root, "rev-parse", "HEAD") == git(hub, "rev-parse", "main")
    git(root, "add", "agents", ".gitignore", "AGENTS.md")
    git(root, "commit", "-qm", "Set up agentq")
    git(root, "push", "-q", "origin", "main")
    assert git(root, "status", "--porcelain") == ""
    done = agentq(root, "doctor", rc=1)
    assert done.stdout.count("\nbad ") == 1 and "bad    no agent command" in done.stdout
    agentq(root, "add", "one", "--title", "One")
    assert json.loads((root / "agents" / "queue.json").read_text())["$schema"] == "./queue.schema.json"
    assert agentq(root, "init", "--yes", "--hub", "../hub.git").stdout.count("keep ") == 6


def test_init_json_without_yes_writes_nothing(root: Path) -> None:
    before = files(root)
    assert json.loads(agentq(root, "init", "--json", rc=2).stdout)["error"]["hint"] == "pass --yes"
    told = json.loads(agentq(root, "init", "--json", "--dry-run").stdout)
    assert told["dry_run"] and told["written"] == [] and len(told["changes"]) == 6
    assert files(root) == before


def test_init_asks_on_a_terminal(root: Path) -> None:
    before = files(root)
    code, shown = on_terminal(root, "init", answers="n\n")
    assert code == 2 and "Write these files? [y/N]" in shown and files(root) == before
    code, shown = on_terminal(root, "init", answers="y\nn\n")
    assert code == 0 and "Make a bare repository" in shown and git(root, "remote") == ""
    code, shown = on_terminal(root, "init", answers="y\n")
    assert code == 0 and "Write these files?" not in shown and git(root, "remote") == "origin"
    assert (root.parent / "proj-hub.git").is_dir()


def test_init_on_a_detached_head(root: Path) -> None:
    git(root, "checkout", "-q", "--detach")
    done = agentq(root, "init", "--yes")
    assert "trunk      'main' (by its name)" in done.stdout and "git push" not in done.stdout


def test_init_leaves_a_dirty_checkout_as_it_is(root: Path) -> None:
    (root / "pyproject.toml").write_text("[tool.pytest.ini_options]\n# half done\n")
    (root / "staged").write_text("s")
    git(root, "add", "staged")
    index = git(root, "ls-files", "--stage")
    agentq(root, "init", "--yes", "--hub", "../hub.git")
    assert git(root, "ls-files", "--stage") == index
    assert (root / "pyproject.toml").read_text().endswith("# half done\n")
    assert git(root, "rev-list", "--count", "--all") == "1"


def test_init_in_a_linked_worktree(root: Path) -> None:
    git(root, "worktree", "add", "-q", "-b", "side", "../side")
    done = agentq(root.parent / "side", "init", "--yes", "--branch", "main")
    assert files(root.parent / "side") - {".git"} == MADE | {"pyproject.toml"} and "'main'" in done.stdout
    assert files(root) == {"pyproject.toml"}


def test_control_characters_in_a_project_do_not_reach_the_terminal(root: Path) -> None:
    (root / ".env").write_text("DATABASE_URL=sqlite:///a\x1b[31m.db\n")
    assert "\x1b" not in agentq(root, "init", "--dry-run").stdout


# ------------------------------------------------------------ schema


def test_schema_is_the_one_init_writes(root: Path) -> None:
    agentq(root, "init", "--yes")
    printed = agentq(root, "schema").stdout
    assert printed == (root / "agents" / "queue.schema.json").read_text()
    (root / "agents" / "queue.schema.json").write_text("{}")
    agentq(root, "schema", "--write", "agents/queue.schema.json")
    assert (root / "agents" / "queue.schema.json").read_text() == printed


# ------------------------------------------------------------ machine, config


def test_machine_setup_writes_once(root: Path) -> None:
    done = agentq(root, "machine", "setup", rc=2)
    assert "set aside" in done.stdout and "pass --yes" in done.stderr and not (root / ".machine").exists()
    agentq(root, "machine", "setup", "--yes")
    proposed = tomllib.loads((root / ".machine").read_text())
    mine = 'name = "anvil"\ninstances = 200\n'
    (root / ".machine").write_text(mine)
    assert "is kept" in agentq(root, "machine", "setup", "--yes").stdout
    assert (root / ".machine").read_text() == mine
    told = json.loads(agentq(root, "machine", "setup", "--yes", "--force", "--json").stdout)
    assert told["written"] and told["limits"]["instances"] == proposed["instances"] and told["reason"]
    assert tomllib.loads((root / ".machine").read_text()) == {**proposed, "name": "anvil"}


def test_machine_setup_asks_on_a_terminal(root: Path) -> None:
    code, shown = on_terminal(root, "machine", "setup", answers="y\n")
    assert code == 0 and "Write .machine? [y/N]" in shown and (root / ".machine").exists()


def test_machine_show_tells_limits_problems_and_slots(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", instances=250)
    me = project.state / "live" / "alpha.json"
    from agentq.process import identity

    live = {
        "spec": "alpha", "run": "r", "marker": "m", "owner": identity(os.getpid()), "pid": os.getpid(), "epoch": 1,
        "instance": 3, "stage": "implement", "since": "2026-01-31T12:00:00Z", "transcript": "",
    }  # fmt: skip
    me.parent.mkdir(parents=True)
    me.write_text(json.dumps(live))
    shown = project.agentq("machine", "show").stdout
    assert "slot 3     implement of alpha" in shown.replace("alpha (implement since", "implement of alpha (")
    assert "warn: instances is 250" in shown and "machine.instances" in shown and ".machine:2" in shown
    told = json.loads(project.agentq("machine", "show", "--json").stdout)
    assert told["schema"] == "agentq/machine/v1" and told["instances"] == 250 and told["problems"]
    assert told["slots"] == [
        {"instance": 3, "spec": "alpha", "stage": "implement", "since": live["since"], "pid": os.getpid()}
    ]


def test_config_show_tells_origins_and_hides_passwords(root: Path) -> None:
    (root / "agents").mkdir()
    (root / "agents" / "config.toml").write_text('[trunk]\nbranch = "dev"\n[database]\nurl = "x://u:secret@h/d"\n')
    shown = agentq(root, "config", "show", "--origin", AGENTQ_AGENT_MODEL="m1").stdout
    assert "secret" not in shown and "x://u:***@h/d" in shown
    lines = {line.split(" = ")[0].strip(): line for line in shown.splitlines() if " = " in line}
    assert lines["trunk.branch"].endswith("policy: agents/config.toml:2")
    assert lines["agent.model"].endswith("env: AGENTQ_AGENT_MODEL")
    assert lines["trunk.remote"].endswith("default")
    told = json.loads(agentq(root, "config", "show", "--json").stdout)
    (branch,) = [row for row in told["settings"] if row["name"] == "trunk.branch"]
    assert branch == {
        "name": "trunk.branch", "value": '"dev"', "origin": "policy", "place": "agents/config.toml:2",
    }  # fmt: skip
    assert "secret" not in json.dumps(told)
