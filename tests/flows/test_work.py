"""`agentq work`: several specs at once, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import hosts
from support import project as projects
from support.hosts import until
from support.project import Project

from agentq.core.board import Board, Node
from agentq.core.schedule import Host
from agentq.errors import AgentqError, ExternalError, QueueError
from agentq.flows import work as works
from agentq.flows.advise import Situation
from agentq.flows.work import Work, WorkReport


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


# ---------------------------------------------------------------- without the remote

AWAY = {
    "schema": "agentq/error/v1",
    "error": {"code": "external", "message": "the hub is away", "retryable": True},
}
LANDED = {"schema": "agentq/run/v1", "ended": "landed"}


class Bench:
    """`work` with runs that are small scripts: each says what its spec's `lines` tell and ends. While the file
    `away` is there, runs end at once because of it, with one more `tried`."""

    def __init__(self, folder: Path, specs: str, at_once: int = 2) -> None:
        self.folder, self.specs = folder, specs
        self.away = folder / "away"
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.requests, self.age = 0, 0.0
        self.tick: Callable[[], None] = lambda: None
        self.flow = Work(
            folder=folder, look=self.look, command=self.command, stops=lambda: self.requests,
            observer=lambda event, data: self.heard.append((event, data)), tick=lambda: self.tick(),
            at_once=at_once,
        )  # fmt: skip

    def look(self) -> Situation:
        done = {one["spec"] for one in self.flow.ended}
        nodes = tuple(Node(one, one, (), (f"{one}.txt",), 1.0) for one in self.specs if one not in done)
        return Situation(Board(nodes, (), frozenset(done)), Host("here", 4), (), age=self.age)

    def command(self, spec: str) -> list[str]:
        code = f"""
import json, sys, time
from pathlib import Path
def say(event, data): print(json.dumps({{"event": event, **data}}), flush=True)
with open({str(self.folder / "tried")!r}, "a") as tried: tried.write({spec!r})
if Path({str(self.away)!r}).exists():
    say("error", {AWAY!r}); sys.exit(1)
say("agent-started", {{"spec": {spec!r}}})
while Path({str(self.folder / "wait")!r}).exists(): time.sleep(0.02)
say("result", {LANDED!r})
"""
        return [sys.executable, "-c", code]

    @property
    def tried(self) -> str:
        path = self.folder / "tried"
        return path.read_text() if path.exists() else ""

    def told(self) -> list[str]:
        return [str(data["text"]) for event, data in self.heard if event == "note"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(works, "PAUSES", (0.3, 0.6))
    monkeypatch.setattr(works, "POLL_SECONDS", 0.02)
    return Bench(tmp_path, "abcdef")


def ended(report: WorkReport) -> str:
    return "".join(sorted(one["spec"] for one in report.ended if one["ended"] == "landed"))


def test_an_outage_gives_no_spec_up(bench: Bench) -> None:
    bench.away.touch()
    began = time.monotonic()

    def tick() -> None:
        if time.monotonic() - began > 1.5:
            bench.away.unlink(missing_ok=True)

    bench.tick = tick
    report = bench.flow.run()
    assert ended(report) == "abcdef" and len(report.ended) == 6
    assert bench.told() == ["the hub is away: trying again in 0.3 s, then less often"], "once"
    assert len(bench.tried) - 6 <= 2 * 4, "after 0.3, 0.6 and 0.6 s, two at once each time"
    assert bench.flow.pause == 0


def test_runs_that_meet_an_outage_together_make_one_pause(bench: Bench) -> None:
    for _ in range(4):
        bench.flow._back_off("the hub is away")
    assert bench.flow.pause == 0.3 and len(bench.told()) == 1
    for expected in (0.6, 0.6):
        bench.flow.resume_at = 0.0
        bench.flow._back_off("the hub is away")
        assert bench.flow.pause == expected


def test_nothing_is_started_on_an_old_copy_of_the_queue(bench: Bench) -> None:
    bench.age = 12.0

    def tick() -> None:
        assert not (bench.age and bench.tried)
        if bench.flow.pause == 0.6:
            bench.age = 0.0

    bench.tick = tick
    assert ended(bench.flow.run()) == "abcdef"


def test_ctrl_c_ends_an_outage(bench: Bench) -> None:
    bench.away.touch()

    def tick() -> None:
        bench.requests = int(bool(bench.flow.pause) and not bench.flow.workers)

    bench.tick = tick
    began = time.monotonic()
    assert bench.flow.run().interrupted and time.monotonic() - began < 10


@pytest.mark.parametrize("error", [
    ExternalError("the hub is away", retryable=True), ExternalError("no rights"), QueueError("it is torn"),
])  # fmt: skip
def test_a_look_that_fails_ends_no_run(bench: Bench, error: AgentqError) -> None:
    """Healthy runs go on and end as they would; what stays broken is raised after them."""
    gate = bench.folder / "wait"
    gate.touch()
    bench.specs, look, failed = "a", bench.flow.look, 0

    def broken() -> Situation:
        nonlocal failed
        begun = any(event == "agent-started" for event, _ in bench.heard)
        if not begun or (failed == 2 and error.retryable):
            return look()
        failed += 1
        if failed == 2:
            gate.unlink()
        raise error

    bench.flow.look = broken
    if error.retryable:
        bench.flow.run()
    else:
        with pytest.raises(type(error)):
            bench.flow.run()
    assert [one["ended"] for one in bench.flow.ended] == ["landed"] and failed >= 2
    assert bench.told() == [f"{error.message}: trying again in 0.3 s, then less often"]


def test_an_outage_of_the_hub_while_work_runs(tmp_path: Path) -> None:
    one = hosts.build(tmp_path, "one")[0]
    one.put("alpha")
    one.put("beta")
    gate = one.root / "gate"
    one.script("alpha", "implement", f"""
import time
Path({str(gate.with_suffix(".began"))!r}).write_text("")
while not Path({str(gate)!r}).exists():
    time.sleep(0.05)
Path("alpha.txt").write_text("alpha\\n"); commit()
""")  # fmt: skip
    work = one.start("work", "-n", "1")
    until(gate.with_suffix(".began").exists)
    away = one.hub.with_name("away")
    one.hub.rename(away)
    gate.touch()
    lines: list[str] = []
    assert work.stdout is not None
    while "trying again in 5 s" not in " ".join(lines[-3:]):
        line = work.stdout.readline()
        assert line, lines
        lines.append(line)
    away.rename(one.hub)
    said = work.communicate(timeout=60)[0]
    assert work.returncode == 0, "".join(lines) + said
    assert sorted(one.landings()) == ["alpha", "beta"]


def test_two_clones_of_one_host_leave_each_other_alone(tmp_path: Path) -> None:
    """What the other one runs is no idle spec of this machine: `work` begins with something else."""
    one = hosts.build(tmp_path, "one")[0]
    one.put("alpha")
    clone = hosts._host(tmp_path / "clone", "one", one, 4)
    clone.variables["HOME"] = str(one.home)
    gate = one.root / "gate"
    one.script("alpha", "implement", f"""
import time
while not Path({str(gate)!r}).exists():
    time.sleep(0.05)
Path("alpha.txt").write_text("alpha\\n"); commit()
""")  # fmt: skip
    run = one.start("run", "alpha", "--yes")
    until(lambda: (one.beat() or {}).get("runs", {}).get("alpha", {}).get("stage") == "implement")
    one.put("beta")
    lines = [json.loads(line) for line in clone.agentq("work", "--json").stdout.splitlines()]
    assert {line["spec"] for line in lines if line.get("event") == "started"} == {"beta"}
    assert [one["spec"] for one in lines[-1]["ended"]] == ["beta"] and clone.landings() == ["beta"]
    gate.touch()
    assert run.communicate(timeout=60) and run.returncode == 0
