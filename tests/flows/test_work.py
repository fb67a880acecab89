"""`agentq work`: several specs at once, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import project as projects
from support.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return projects.build(tmp_path / "p")


def _wait(condition, seconds: float = 30) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def _start(project: Project, *args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "agentq", *args], cwd=project.checkout, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip


def _slow(project: Project, spec_id: str, stage: str = "test") -> Path:
    """Let the agent of a stage say that it began, leave half a file and wait."""
    begun = project.root / f"{spec_id}.begun"
    project.script(
        spec_id,
        stage,
        f"""
import time
Path("half.txt").write_text("unfinished"); open({str(begun)!r}, "w").close(); time.sleep(120)
""",
    )
    return begun


def test_drains_a_queue_with_dependencies_and_overlaps(project: Project) -> None:
    project.add("a")
    project.add("b", depends_on=["a"])
    project.add("c", depends_on=["a"])
    project.add("d", depends_on=["b", "c"])
    project.add("e", files_modified=["e.txt", "checks/e.py", "shared.txt"])
    project.add("f", files_modified=["f.txt", "checks/f.py", "shared.txt"])
    project.add("g")
    done = project.agentq("work", "-n", "4")
    landed = project.landings()
    assert sorted(landed) == list("abcdefg"), done.stdout
    assert landed.index("a") < landed.index("b") < landed.index("d") and landed.index("c") < landed.index("d")
    queue = project.queue
    assert not queue["ready"] and not queue["in_progress"]
    assert {one["id"]: one["landed"] for one in queue["completed"]}.keys() == set("abcdefg")
    spans = {one["id"]: (one["claimed_at"], one["landed_at"]) for one in queue["completed"]}
    first, second = sorted([spans["e"], spans["f"]])
    assert first[1] <= second[0], "specs that overlap run one after the other"
    assert "Traceback" not in done.stdout + done.stderr
    assert project.git("fsck", "--strict", "--no-dangling", cwd=project.hub) == ""


def test_one_that_fails_takes_nothing_with_it(project: Project) -> None:
    for name in "abc":
        project.add(name)
    project.add("d", depends_on=["b"])
    project.script("b", "implement", "import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    done = project.agentq("work", "-n", "3", rc=6)
    assert sorted(project.landings()) == ["a", "c"]
    assert project.entry("b")["attention"] and project.entry("d")["array"] == "ready"
    assert "d waits: waits for b" in done.stdout


def test_json_is_a_stream_and_a_summary(project: Project) -> None:
    project.add("a")
    lines = [json.loads(line) for line in project.agentq("work", "--json").stdout.splitlines()]
    assert {"started", "claimed", "landed", "ended"} <= {line.get("event") for line in lines}
    assert lines[-1]["schema"] == "agentq/work/v1" and lines[-1]["ended"][0]["ended"] == "landed"


def test_nothing_eligible_is_exit_3_and_pause_is_honoured(project: Project) -> None:
    assert "queue is empty" in project.agentq("next", rc=3).stdout
    project.add("a")
    project.agentq("pause", "--why", "release day")
    assert "release day" in project.agentq("work", rc=3).stdout
    assert project.entry("a")["array"] == "ready"
    project.agentq("resume")
    project.agentq("work")
    assert project.landings() == ["a"]


def test_first_ctrl_c_finishes_what_runs_and_claims_nothing_new(project: Project) -> None:
    for name in "abc":
        project.add(name)
    go = project.root / "go"
    begun = project.root / "begun"
    project.script(
        "a",
        "test",
        f"""
import time
open({str(begun)!r}, "w").close()
while not Path({str(go)!r}).exists(): time.sleep(0.02)
"""
        + (project.scripts / "a.test.py").read_text(),
    )
    work = _start(project, "work", "-n", "1")
    _wait(begun.exists)
    work.send_signal(signal.SIGINT)
    time.sleep(0.3)
    go.touch()
    output, _ = work.communicate(timeout=60)
    assert work.returncode == 130, output
    assert project.landings() == ["a"] and "stopped on request" in output


def test_second_ctrl_c_stops_agents_and_keeps_their_work(project: Project) -> None:
    project.add("a")
    begun = _slow(project, "a")
    work = _start(project, "work", "-n", "1")
    _wait(begun.exists)
    work.send_signal(signal.SIGINT)
    time.sleep(0.3)
    work.send_signal(signal.SIGINT)
    output, _ = work.communicate(timeout=60)
    assert work.returncode == 130, output
    assert project.strays("a") == []
    made = projects.services(project)
    assert made.mirror.show(made.mirror.ref("refs/agentq/wip/a"), "half.txt") == b"unfinished"
    assert project.entry("a")["status"] == "testing" and project.entry("a").get("failures", 0) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killing_work_leaves_no_process_and_the_next_command_goes_on(project: Project, number: int) -> None:
    project.add("a")
    begun = _slow(project, "a")
    work = _start(project, "work", "-n", "1")
    _wait(begun.exists)
    if number == signal.SIGTERM:
        work.send_signal(number)  # as the first Ctrl-C: it waits for the agent, so end the agent's run too
        work.send_signal(number)
        time.sleep(0.2)
        work.send_signal(number)
    else:
        work.kill()
    work.communicate(timeout=60)
    _wait(lambda: project.strays("a") == [], 20)
    project.script(
        "a",
        "test",
        'assert Path("half.txt").exists(), "the unfinished work is back"\n'
        'Path("half.txt").unlink(); Path("checks/a.py").write_text("open(\'a.txt\')"); commit()',
    )
    _wait(lambda: not projects.services(project).runs.live(), 20)
    project.agentq("work")
    assert project.landings() == ["a"]


def test_a_killed_run_is_resumed_under_a_new_epoch(project: Project) -> None:
    project.add("a")
    begun = _slow(project, "a")
    run = _start(project, "run", "a", "--yes")
    _wait(begun.exists)
    run.kill()
    run.communicate()
    _wait(lambda: project.strays("a") == [], 20)
    project.script(
        "a", "test", 'Path("half.txt").unlink(); Path("checks/a.py").write_text("open(\'a.txt\')"); commit()'
    )
    done = project.agentq("run", "a", "--yes")
    assert "recovered: a: its run died in the test stage" in done.stdout
    assert project.entry("a")["epoch"] == 2 and project.landings() == ["a"]


def test_never_more_than_the_machine_allows(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p", instances=2)
    for name in "abcd":
        project.add(name)
    project.agentq("work", "-n", "9")
    assert sorted(project.landings()) == list("abcd")
    events = sorted(
        (json.loads(line)["at"], json.loads(line)["event"])
        for path in project.state.glob("runs/*/*/events.ndjson")
        for line in path.read_text().splitlines()
        if json.loads(line)["event"] in ("evidence", "landed")
    )
    running = most = 0
    for _, event in events:
        running += 1 if event == "evidence" else -1
        most = max(most, running)
    assert most == 2


def test_a_full_machine_refuses_one_more(project: Project) -> None:
    project.add("a")
    made = projects.services(project, **{"machine.instances": 1})
    with made.runs.slot(1):
        os.environ["AGENTQ_MACHINE_INSTANCES"] = "1"
        done = project.agentq("run", "a", "--yes", rc=1)
    assert "already runs 1 of 1" in done.stderr and project.entry("a")["array"] == "ready"
