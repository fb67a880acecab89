"""SIGKILL at every step of a run and of its push, then the same command again: no lost, doubled or half-landed
spec (reliability facts 1, 3, 10, 14, 15)."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import crash
from support import project as projects
from support.project import Project
from support.size import FULL

# All steps with AGENTQ_TEST_FULL=1; else all from the push on, and every fortieth before it.
STRIDE = 1 if FULL else 40


def _crash(project: Project, step: int) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, crash.__file__, str(project.checkout), "alpha", str(step)], capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=120, check=False,
    )  # fmt: skip


def _settled(project: Project) -> None:
    """Everything that must hold once the same command ran again."""
    assert project.landings() == ["alpha"]
    queue = project.queue
    assert (
        [one["id"] for one in queue["completed"]] == ["alpha"] and not queue["ready"] and not queue["in_progress"]
    )
    assert queue["completed"][0]["landed"] == project.git("rev-parse", "main", cwd=project.hub)
    assert project.git("rev-list", "--count", "main", cwd=project.hub) == "2"
    assert project.git("show", "main:alpha.txt", cwd=project.hub) == "alpha"
    assert not list((project.state / "intents").glob("*")) and not list((project.state / "live").glob("*"))
    assert project.strays("alpha") == []
    assert project.git("status", "--porcelain") == ""


def _after_the_crash(project: Project) -> None:
    deadline = time.monotonic() + 20
    while project.strays("alpha") and time.monotonic() < deadline:
        time.sleep(0.05)
    done = project.agentq("run", "alpha", "--yes", rc=None)
    if done.returncode:  # landed before it died: the command that comes next only settles it
        assert "complete" in done.stderr, done.stdout + done.stderr
        project.agentq("recover")
    _settled(project)


def _steps(tmp_path: Path) -> Sequence[str]:
    project = projects.build(tmp_path / "count")
    project.add("alpha")
    done = _crash(project, 0)
    assert done.returncode == 0, done.stderr
    _settled(project)
    return done.stdout.splitlines()


def test_killed_at_every_step(tmp_path: Path) -> None:
    names = _steps(tmp_path)
    push = names.index("event pushing")
    chosen = [n for n in range(1, len(names) + 1) if n % STRIDE == 0 or n >= push - 1]
    assert len(names) > 60 and len(chosen) > 12
    for step in chosen:
        project = projects.build(tmp_path / str(step))
        project.add("alpha")
        done = _crash(project, step)
        assert done.returncode == -9, f"step {step} ({names[step - 1]}): {done.stdout}{done.stderr}"
        try:
            _after_the_crash(project)
        except AssertionError as error:
            raise AssertionError(f"killed at step {step}: {names[step - 1]}") from error


@pytest.mark.parametrize(("hook", "lands"), [("pre-receive", False), ("post-receive", True)])
def test_killed_while_the_remote_works_on_the_push(tmp_path: Path, hook: str, lands: bool) -> None:
    project = projects.build(tmp_path / "p")
    project.add("alpha")
    victim = project.root / "victim"
    script = project.hub / "hooks" / hook
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"#!/bin/sh\n[ -f {victim} ] || exit 0\nkill -9 $(cat {victim}); rm {victim}; sleep 30\n")
    script.chmod(0o755)
    code = (
        "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); sys.argv[1:] = ['run', 'alpha', '--yes']; "
        "from agentq.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(victim)],
        cwd=project.checkout,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -9
    assert (project.landings() == ["alpha"]) is lands
    done2 = project.agentq("run", "alpha", "--yes", rc=None)
    if lands:
        assert "its push had landed" in done2.stdout + done2.stderr or "completed" in done2.stderr
    _settled(project)


def test_an_old_epoch_lands_nothing(tmp_path: Path) -> None:
    """A worker that wakes up after its lease was taken over stops and changes nothing."""
    from agentq.core import queue as transitions
    from agentq.errors import Stale
    from agentq.flows.run import run_spec

    project = projects.build(tmp_path / "p")
    project.add("alpha")
    made = projects.services(project)

    def taken_over(_spec: str, _summary: str) -> bool:
        made.store.update(lambda queue: transitions.take_over(queue, "alpha", made.claim(2)))
        return True

    with pytest.raises(Stale, match="no longer leased under epoch 1"):
        run_spec(made, "alpha", confirm=taken_over)
    assert project.landings() == [] and project.entry("alpha")["lease"]["epoch"] == 2
    _after_the_crash(project)


def test_an_expired_lease_gives_the_spec_back_and_saves_its_work(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", config="[schedule]\nlease_hours = 0.01\n")
    project.add("alpha")
    projects.run(project, "alpha", last="test")
    queue = project.queue
    queue["in_progress"][0]["lease"]["expires"] = "2020-01-01T00:00:00Z"
    project.write_queue(**queue)
    done = project.agentq("recover")
    assert "its lease expired" in done.stdout
    assert project.entry("alpha")["array"] == "ready" and len(project.salvaged()) == 1
    assert "checks/alpha.py" in project.git("show", "--stat", project.salvaged()[0])
    assert not (project.workspaces / "ws" / "alpha").exists()
    project.agentq("run", "alpha", "--yes")
    assert project.entry("alpha")["epoch"] == 2 and project.landings() == ["alpha"]


def test_giving_back_saves_what_is_unfinished(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p")
    project.add("alpha")
    projects.run(project, "alpha", last="test")
    (project.workspaces / "ws" / "alpha" / "draft.txt").write_text("by hand")
    done = project.agentq("release", "alpha", "--yes")
    assert "ready again" in done.stdout and project.entry("alpha")["array"] == "ready"
    shown = [
        project.git("show", f"{ref}:draft.txt")
        for ref in project.salvaged()
        if "draft.txt" in project.git("ls-tree", "--name-only", ref)
    ]
    assert shown == ["by hand"]


def test_a_workspace_of_a_spec_that_is_gone_is_saved_and_removed(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p")
    project.add("alpha")
    projects.run(project, "alpha", last="test")
    (project.workspaces / "ws" / "alpha" / "draft.txt").write_text("by hand")
    queue = project.queue
    queue["ready"], queue["in_progress"] = [{"id": "other", "title": "Other"}], []
    project.write_queue(**queue)
    done = project.agentq("recover")
    assert "removed a workspace" in done.stdout and not (project.workspaces / "ws" / "alpha").exists()
    assert any("draft.txt" in project.git("ls-tree", "--name-only", ref) for ref in project.salvaged())
