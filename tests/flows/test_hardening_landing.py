"""What lands and what completes: what once went wrong stays right."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import crash
from support import project as projects
from support.project import Project, run

from agentq.errors import AgentqError


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.build(tmp_path / "p")


def _killed_after_the_push(project: Project) -> None:
    """alpha is on trunk, its run was killed before the queue heard of it."""
    twin = projects.build(project.root / "twin")
    twin.add("alpha", **{k: v for k, v in project.entry("alpha").items() if k in ("tests", "files_modified")})
    twin.script("alpha", "implement", (project.scripts / "alpha.implement.py").read_text())
    names = subprocess.run(
        [sys.executable, crash.__file__, str(twin.checkout), "alpha", "0"], capture_output=True, text=True,
        check=True, stdin=subprocess.DEVNULL,
    ).stdout.splitlines()  # fmt: skip
    step = names.index("after the push") + 1
    done = subprocess.run(
        [sys.executable, crash.__file__, str(project.checkout), "alpha", str(step)], capture_output=True, text=True,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    assert project.landings() == ["alpha"] and project.entry("alpha")["status"] == "verifying"


def test_retry_from_implement_after_an_unsettled_push_does_not_wedge_every_command(project: Project) -> None:
    project.add("alpha")
    project.add("beta")
    _killed_after_the_push(project)
    project.agentq("retry", "alpha", "--from", "implement", rc=None)
    done = project.agentq("run", "beta", "--yes", rc=None)
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.entry("alpha")["array"] == "completed"


def test_release_after_an_unsettled_push_does_not_forget_the_landing(project: Project) -> None:
    project.add("alpha")
    _killed_after_the_push(project)
    project.agentq("release", "alpha", "--yes", rc=None)
    project.agentq("recover")
    assert project.entry("alpha")["array"] == "completed", project.entry("alpha")


def test_retry_from_implement_during_a_live_verify_does_not_half_land(project: Project) -> None:
    project.add("alpha")
    project.add("beta")

    def confirm(_spec: str, _summary: str) -> bool:
        project.agentq("retry", "alpha", "--from", "implement", rc=None)
        return True

    try:
        run(project, "alpha", confirm=confirm)
    except AgentqError as error:
        print("run:", error)
    landed, array = project.landings() == ["alpha"], project.entry("alpha")["array"]
    assert landed == (array == "completed"), f"on trunk: {landed}, in the queue: {array}"
    done = project.agentq("run", "beta", "--yes", rc=None)
    assert done.returncode == 0, done.stdout + done.stderr


def test_trunks_config_without_verify_commands_lands_nothing(project: Project) -> None:
    """The checkout's config names commands, trunk's (which is the one that counts) names none."""
    config = (project.checkout / "agents" / "config.toml").read_text()
    project.move_trunk(
        "agents/config.toml",
        "\n".join(line for line in config.splitlines() if not line.startswith("verify")),
    )
    project.add("alpha")
    project.script("alpha", "implement", 'Path("alpha.txt").write_text("wrong"); commit()\n')
    try:
        report = run(project, "alpha")
        print(report)
    except AgentqError as error:
        print(error)
    assert project.landings() == [], "landed although no command proved it"


def test_an_agent_cannot_replace_the_script_that_trunks_verify_command_calls(project: Project) -> None:
    """run_all.py is what `verify` runs; the spec did not declare it (facts 16, 19)."""
    project.add("alpha")
    project.script(
        "alpha", "implement",
        'Path("alpha.txt").write_text("wrong"); Path("run_all.py").write_text("pass\\n"); commit()\n',
    )  # fmt: skip
    run(project, "alpha")
    assert project.landings() == []


def test_an_agent_cannot_delete_another_specs_landed_test(project: Project) -> None:
    project.add("alpha")
    project.add("beta")
    run(project, "beta")
    project.script(
        "alpha", "implement",
        'Path("alpha.txt").write_text("alpha\\n"); Path("checks/beta.py").unlink(); '
        'Path("beta.txt").write_text("broken"); commit()\n',
    )  # fmt: skip
    run(project, "alpha")
    assert project.landings() == ["beta"]


def test_a_locked_test_turned_into_a_link_is_put_back(tmp_path: Path) -> None:
    """Same blob, mode 120000: a dangling link that most collectors (here: is_file) skip."""
    project = projects.build(tmp_path / "p")
    (project.checkout / "run_all.py").write_text(
        "import runpy\nfrom pathlib import Path\n"
        "for path in sorted(Path('checks').glob('*.py')):\n    path.is_file() and runpy.run_path(str(path))\n"
    )
    project.git("commit", "-qam", "collector")
    project.git("push", "-q", "origin", "main")
    project.add("alpha")
    project.script(
        "alpha", "implement", """
import os
text = Path("checks/alpha.py").read_text(); Path("checks/alpha.py").unlink(); os.symlink(text, "checks/alpha.py")
Path("alpha.txt").write_text("wrong"); commit()
""",
    )  # fmt: skip
    run(project, "alpha")
    print(project.git("ls-tree", "-r", "main", cwd=project.hub))
    assert project.landings() == []


def test_a_neighbour_cannot_overtake_who_holds_the_landing_turn(project: Project) -> None:
    """flows/verify.py: 'a later one holds the landing lock, so that a neighbour cannot overtake it again'."""
    project.add("beta")
    made = projects.services(project)
    run(project, "beta", last="implement")
    with made.runs.landing():
        child = subprocess.Popen(
            [sys.executable, "-m", "agentq", "run", "beta", "--yes"], cwd=project.checkout,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 8
        while time.monotonic() < end and not project.landings() and child.poll() is None:
            time.sleep(0.1)
        overtook = project.landings()
    child.wait(60)
    assert overtook == []


def test_a_conflicting_spec_can_be_done_again_by_its_agent(project: Project) -> None:
    """'decide, then agentq retry': with --from implement the agent should get the newest trunk."""
    project.add("alpha", files_modified=["alpha.txt", "shared.txt", "checks/alpha.py"])
    body = """
text = Path("shared.txt").read_text()
Path("shared.txt").write_text(text.replace("7\\n", "7 alpha\\n", 1)); Path("alpha.txt").write_text("alpha\\n")
commit()
"""
    project.script("alpha", "implement", body)
    run(project, "alpha", last="implement")
    lines = "".join(f"line {i}\n" if i != 7 else "trunk's 7\n" for i in range(30))
    project.move_trunk("shared.txt", lines)
    assert run(project, "alpha").ended == "attention"
    done = project.agentq("retry", "alpha", "--from", "implement", "--yes", rc=None)
    assert done.returncode == 0, done.stdout + done.stderr
    assert project.landings() == ["alpha"]


def test_line_ends_of_the_agents_files_survive_trunks_attributes(project: Project) -> None:
    """info/attributes outranks a .gitattributes further down: the snapshot changes the file's bytes."""
    project.move_trunk(".gitattributes", "* text=auto\n")
    project.move_trunk("fixtures/.gitattributes", "* -text\n")
    project.add("alpha", files_modified=["alpha.txt", "fixtures/a.dat", "checks/alpha.py"])
    project.script(
        "alpha", "implement",
        'Path("alpha.txt").write_text("alpha\\n"); Path("fixtures/a.dat").write_bytes(b"a\\r\\nb\\r\\n"); commit()\n',
    )  # fmt: skip
    report = run(project, "alpha")
    print(report)
    assert report.ended == "landed"
    raw = subprocess.run(
        ["git", "cat-file", "blob", "main:fixtures/a.dat"], cwd=project.hub, capture_output=True, check=True
    )
    assert raw.stdout == b"a\r\nb\r\n"


def test_a_file_name_that_is_not_utf8_is_no_crash(project: Project) -> None:
    project.add("alpha")
    project.script(
        "alpha", "implement",
        'import os\nPath("alpha.txt").write_text("alpha\\n"); open(b"caf\\xe9.txt", "w").close(); commit()\n',
    )  # fmt: skip
    done = project.agentq("run", "alpha", "--yes", rc=None)
    assert done.returncode in (0, 6), f"{done.returncode} {done.stderr}"


def test_a_stale_lock_in_the_mirror_does_not_stop_the_host_for_ever(project: Project) -> None:
    """git was killed (time-out, power) while it held refs/agentq/trunk.lock (fact 8)."""
    project.add("alpha")
    run(project, "alpha", last="test")
    lock = project.workspaces / "mirror.git" / "refs" / "agentq" / "trunk.lock"
    lock.write_text("")
    os.utime(lock, (1, 1))
    project.move_trunk("other.txt", "1")
    project.agentq("recover", rc=None)
    done = project.agentq("run", "alpha", "--yes", rc=None)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_spec_whose_push_was_not_settled_never_lands_twice(project: Project) -> None:
    """Killed after its push, released (which settles nothing), run again: it lands a second time."""
    project.add("alpha", tests="none", files_modified=["log.txt"])
    project.script("alpha", "implement", 'open("log.txt", "a").write("entry\\n"); commit()\n')
    _killed_after_the_push(project)
    project.agentq("release", "alpha", "--yes", rc=None)
    project.agentq("run", "alpha", "--yes", rc=None)
    assert project.landings() == ["alpha"]
