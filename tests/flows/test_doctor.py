"""What the check-up finds in real projects, and what its fixes do."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import project as projects
from support.project import Project

from agentq import process, wiring
from agentq.core import queue as transitions
from agentq.flows import doctor
from agentq.flows.doctor import Finding
from agentq.repository import find
from agentq.store.runs import Intent, Live, Runs

DEAD = "1/2/another-boot"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.build(tmp_path / "p", instances=1)


def check(project: Project) -> list[Finding]:
    return doctor.checks(wiring, find(project.checkout))


def bad(project: Project) -> list[str]:
    return [finding.text for finding in check(project) if not finding.ok]


def about(project: Project, words: str) -> Finding:
    """The one finding whose text holds `words`."""
    found = [finding for finding in check(project) if words in finding.text]
    assert len(found) == 1, [finding.text for finding in check(project)]
    return found[0]


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_healthy_project_has_no_problem(project: Project) -> None:
    found = check(project)
    assert [finding.text for finding in found if finding.level == "bad"] == []
    assert not any(finding.fix for finding in found)
    told = "\n".join(finding.text for finding in found)
    for words in (
        "git version",
        "trunk is 'main' on 'origin'",
        "agent command",
        "no database",
        "0 ready",
        "GB free",
    ):
        assert words in told


def test_agents_that_are_here_and_not_used_are_told_too(project: Project, tmp_path: Path) -> None:
    agent = tmp_path / "bin" / "gemini"
    agent.parent.mkdir()
    agent.write_text("#!/bin/sh\necho 'a warning' >&2\necho 0.61.0\n")
    agent.chmod(0o755)
    os.environ["PATH"] = f"{agent.parent}{os.pathsep}{os.environ['PATH']}"
    found = about(project, "not used: gemini 0.61.0 is ")
    assert (found.level, str(agent) in found.text) == ("ok", True)
    agent.write_text("#!/bin/sh\nexit 1\n")
    assert about(project, "does not start").level == "ok"


def test_looking_changes_nothing_in_the_checkout(project: Project) -> None:
    before = project.git("status", "--porcelain", "--ignored")
    head, refs = project.git("rev-parse", "HEAD"), project.git("for-each-ref")
    check(project)
    assert project.git("status", "--porcelain", "--ignored") == before
    assert (project.git("rev-parse", "HEAD"), project.git("for-each-ref")) == (head, refs)
    assert not project.workspaces.exists()


def test_an_old_git(project: Project, tmp_path: Path) -> None:
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "git version 2.37.9"\n')
    fake.chmod(0o755)
    os.environ["PATH"] = f"{fake.parent}:{os.environ['PATH']}"
    finding = about(project, "git version 2.37.9 is too old")
    assert not finding.ok and "2.38" in finding.hint


def test_no_remote(project: Project) -> None:
    project.git("remote", "remove", "origin")
    finding = about(project, "no remote 'origin'")
    assert not finding.ok and "agentq init" in finding.hint


def test_a_remote_that_does_not_answer(project: Project) -> None:
    shutil.rmtree(project.hub)
    finding = about(project, "remote 'origin' does not answer")
    assert not finding.ok and "git ls-remote origin" in finding.hint


def test_a_remote_that_never_answers_is_given_up(project: Project, tmp_path: Path) -> None:
    hangs = tmp_path / "ssh"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    project.git("config", "core.sshCommand", str(hangs))
    project.git("remote", "set-url", "origin", "ssh://nowhere.invalid/x.git")
    found = doctor.checks(wiring, find(project.checkout), patience=0.3)
    assert [f.level for f in found if "'origin' does not answer: no answer within" in f.text] == ["bad"]


def test_a_remote_without_the_trunk(project: Project) -> None:
    project.git("branch", "-m", "main", "old", cwd=project.hub)
    finding = about(project, "has no branch 'main'")
    assert not finding.ok and "git push origin main" in finding.hint


def test_settings_that_cannot_be_read_end_the_check_up_with_their_line(project: Project) -> None:
    (project.checkout / "agents" / "config.toml").write_text('[commands]\nverfy = ["x"]\n')
    assert any("agents/config.toml:2" in text for text in bad(project))


def test_settings_that_prove_nothing(project: Project) -> None:
    (project.checkout / "agents" / "config.toml").write_text("")
    assert not about(project, "verify is empty").ok
    (project.checkout / "agents" / "config.toml").write_text('[commands]\nverify = ["true"]\n')
    assert about(project, "test is empty").level == "warn"
    (project.checkout / "agents" / "config.toml").unlink()
    assert "agentq init" in about(project, "there is no agents/config.toml").hint


def test_settings_that_differ_from_trunk(project: Project) -> None:
    file = project.checkout / "agents" / "config.toml"
    file.write_text(file.read_text() + "# mine\n")
    assert about(project, "differs from trunk's").level == "warn"


def test_settings_that_trunk_does_not_have(project: Project) -> None:
    project.git("rm", "-q", "--cached", "agents/config.toml")
    project.git("commit", "-qm", "without")
    project.git("push", "-q", "origin", "main")
    assert about(project, "not on trunk yet").level == "warn"


def test_settings_on_trunk_that_cannot_be_read(project: Project) -> None:
    file = project.checkout / "agents" / "config.toml"
    good = file.read_text()
    file.write_text("[commands]\nverfy = 1\n")
    project.git("commit", "-qam", "broken")
    project.git("push", "-q", "origin", "main")
    file.write_text(good)
    assert not about(project, "agents/config.toml on trunk:2").ok


def test_a_trunk_this_checkout_has_not_fetched(project: Project) -> None:
    other = project.root / "other"
    project.git("clone", "-q", str(project.hub), str(other))
    (other / "new").write_text("x")
    project.git("add", "-A", cwd=other)
    project.git("commit", "-qm", "new", cwd=other)
    project.git("push", "-q", "origin", "main", cwd=other)
    assert about(project, "was not compared").ok


def test_a_missing_machine_file_is_written_by_the_fix(project: Project) -> None:
    (project.checkout / ".machine").unlink()
    finding = about(project, "there is no .machine")
    assert finding.level == "warn"
    assert doctor.repair([finding]) == ["wrote .machine"]
    assert "instances = " in (project.checkout / ".machine").read_text()


def test_a_machine_file_that_promises_too_much(project: Project) -> None:
    replace_in(project.checkout / ".machine", "agent_gb = 0.1", "agent_gb = 4096")
    finding = about(project, "instances is 1")
    assert finding.level == "warn" and "machine setup --force" in finding.hint


def test_an_agent_that_is_not_there(project: Project) -> None:
    replace_in(project.checkout / "agents" / "config.toml", f'"{sys.executable}", "', '"no-such-agent", "')
    assert not about(project, "'no-such-agent' is not on the PATH").ok


def test_a_database_that_is_not_there(project: Project) -> None:
    with (project.checkout / "agents" / "config.toml").open("a") as file:
        file.write('[database]\nprovider = "sqlite"\nurl = "sqlite:///dev.db"\n')
    assert not about(project, "dev.db does not exist").ok


def test_workspaces_inside_the_checkout_are_said_once(project: Project) -> None:
    replace_in(project.checkout / ".machine", str(project.workspaces.parent), str(project.checkout / "ws"))
    assert not about(project, "lies inside the checkout").ok


def test_workspaces_below_a_file(project: Project) -> None:
    project.workspaces.parent.write_text("a file")
    assert any("workspaces cannot be made" in text for text in bad(project))


def test_a_queue_with_a_mistake_is_told_with_its_place_and_left_alone(project: Project) -> None:
    file = project.checkout / "agents" / "queue.json"
    file.write_text('{"ready": [\n  {"id": "a"}\n], "in_progress": [], "completed": []}\n')
    finding = about(project, "queue.json:2")
    assert not finding.ok and finding.fix is None


def test_a_missing_queue(project: Project) -> None:
    (project.checkout / "agents" / "queue.json").unlink()
    assert "agentq init" in about(project, "queue.json is missing").hint


def test_an_unreadable_queue_is_set_aside_and_restored(project: Project) -> None:
    project.add("alpha")
    store = wiring.base(project.checkout).store
    store.update(lambda queue: transitions.pause(queue, "lunch"))
    file = project.checkout / "agents" / "queue.json"
    good = file.read_bytes()
    file.write_bytes(b"\0" * len(good))
    finding = about(project, "holds no text")
    assert not finding.ok
    (said,) = doctor.repair([finding])
    assert file.read_bytes() == good and "queue.unreadable-" in said
    assert about(project, "1 ready").ok


def test_an_unreadable_queue_without_a_backup_is_kept(project: Project) -> None:
    file = project.checkout / "agents" / "queue.json"
    file.write_bytes(b"\xff\xfe")
    (said,) = doctor.repair(check(project))
    assert said.startswith("not fixed: no readable backup") and file.read_bytes() == b"\xff\xfe"


# ------------------------------------------------------------ what a crash leaves


def leave_lease(project: Project, spec_id: str, hours: float) -> None:
    """A lease taken yesterday that ends `hours` from now."""
    project.add(spec_id)
    taken = datetime.now(UTC) - timedelta(days=1)
    who = transitions.Claim("host", 1, taken, timedelta(days=1, hours=hours))
    wiring.base(project.checkout).store.update(lambda queue: transitions.claim(queue, spec_id, who))


@contextmanager
def stray(marker: str) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, "AGENTQ_RUN": marker})
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def test_a_dead_run_and_its_strays_are_settled(project: Project) -> None:
    runs = Runs(project.state)
    runs.announce(Live("alpha", "r", "alpha.1.r", DEAD, 1, 1, 1, "implement", "2026-01-01T00:00:00Z"))
    with stray("alpha.1.r") as child:
        finding = about(project, "alpha: its run died in the implement stage and left 1 process")
        assert finding.level == "warn"
        said = doctor.repair([finding])
        assert said and said[0].startswith("alpha: its run died")
        assert child.wait(timeout=10) != 0
    assert about(project, "nothing left behind").ok


def test_a_living_run_is_no_leftover(project: Project) -> None:
    me = process.identity(os.getpid()) or ""
    Runs(project.state).announce(Live("alpha", "r", "alpha.1.r", me, os.getpid(), 1, 1, "test", "now"))
    assert about(project, "nothing left behind").ok


def test_an_expired_lease_and_a_forgotten_workspace_are_settled_once(project: Project) -> None:
    leave_lease(project, "late", -1)
    leave_lease(project, "fresh", 5)
    (project.workspaces / "ws" / "gone").mkdir(parents=True)
    (project.workspaces / "ws" / "fresh").mkdir()
    found = check(project)
    left = [finding.text for finding in found if finding.level == "warn"]
    assert left == ["late: its lease expired", "gone: a workspace nobody uses"]
    said = doctor.repair(found)
    assert len(said) == 2
    assert project.entry("late")["array"] == "ready" and project.entry("fresh")["array"] == "in_progress"
    assert not (project.workspaces / "ws" / "gone").exists()
    assert about(project, "nothing left behind").ok


def test_a_lease_of_another_host_is_its_own_business(project: Project) -> None:
    leave_lease(project, "late", -1)
    replace_in(project.checkout / ".machine", 'name = "host"', 'name = "other"')
    assert about(project, "nothing left behind").ok


def test_a_push_nobody_wrote_down_is_settled(project: Project) -> None:
    head = project.git("rev-parse", "main", cwd=project.hub)
    Runs(project.state).intend(Intent("alpha", 1, head, head, "alpha.1.r"))
    finding = about(project, "alpha: nobody wrote down how its push ended")
    doctor.repair([finding])
    assert about(project, "nothing left behind").ok


def test_a_fix_that_fails_says_so(project: Project) -> None:
    Runs(project.state).intend(Intent("alpha", 1, "0" * 40, "0" * 40, "alpha.1.r"))
    found = check(project)
    shutil.rmtree(project.hub)
    (said,) = doctor.repair(found)
    assert said.startswith("not fixed: ")


# ------------------------------------------------------------ the command


def test_the_command_ends_with_1_only_for_problems(project: Project) -> None:
    (project.checkout / ".machine").unlink()
    done = project.agentq("doctor", rc=0)
    assert "warn   there is no .machine" in done.stdout and "0 problems, 1 warning\n" in done.stdout
    assert "--fix" in done.stdout
    told = json.loads(project.agentq("doctor", "--fix", "--json", rc=0).stdout)
    assert told["schema"] == "agentq/doctor/v1" and told["ok"] and told["fixed"] == ["wrote .machine"]
    project.git("remote", "remove", "origin")
    done = project.agentq("doctor", rc=1)
    assert "bad    the repository has no remote 'origin'\n       hint: " in done.stdout
    told = json.loads(project.agentq("doctor", "--json", rc=1).stdout)
    assert not told["ok"] and {"level", "text", "hint", "fixable"} == set(told["findings"][0])
