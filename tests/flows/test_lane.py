"""The landing lane on real repositories, with one process for each spec."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import project as projects
from support.project import RUN_ALL, Project, run


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return counting(projects.build(tmp_path / "p", instances=8))


def counting(project: Project, more: str = "") -> Project:
    """Each run of the verify command leaves a line with the files it saw; `more` is run before the checks."""
    log = project.root / "runs.log"
    (project.checkout / "run_all.py").write_text(
        "import os\n"
        f"with open({str(log)!r}, 'a') as file:\n    file.write(' '.join(sorted(os.listdir('.'))) + '\\n')\n"
        f"{more}{RUN_ALL}"
    )
    project.git("commit", "-qam", "count the runs")
    project.git("push", "-q", "origin", "main")
    return project


def runs(project: Project) -> list[set[str]]:
    """The files that each run of the verify command saw, oldest first."""
    log = project.root / "runs.log"
    return [set(line.split()) for line in log.read_text().splitlines()] if log.exists() else []


def implemented(project: Project, *names: str, check: str = "") -> None:
    """Specs up to their verification; `check` replaces what their tests say."""
    for name in names:
        project.add(name)
        if check:
            text = f'Path("checks/{name}.py").write_text({check!r}); commit()\n'
            project.script(name, "test", f'Path("checks").mkdir(exist_ok=True)\n{text}')
        assert run(project, name, last="implement").ended == "stopped"


def verifying(project: Project, name: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-m", "agentq", "verify", name, "--yes"], cwd=project.checkout, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def eventually(holds: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def in_lane(project: Project) -> list[str]:
    placed = [entry for entry in project.queue["in_progress"] if "place" in entry]
    return [entry["id"] for entry in sorted(placed, key=lambda entry: entry["place"]["number"])]


@pytest.fixture
def line_up(project: Project) -> Iterator[Any]:
    """Let specs enter the lane in this order while nobody may lead; then let go. Ends what still runs."""
    started: list[Any] = []

    def start(*names: str) -> Sequence[Any]:
        services = projects.services(project)
        with services.runs.landing() as ours:
            assert ours
            for count, name in enumerate(names, 1):
                started.append(verifying(project, name))
                eventually(lambda count=count: len(in_lane(project)) == count)
        return started[-len(names) :]

    yield start
    for child in started:
        if child.poll() is None:
            child.kill()
        child.communicate()


def ended(children: Sequence[Any]) -> list[int]:
    return [(child.communicate(timeout=60), child.returncode)[1] for child in children]


def test_what_waits_lands_together_with_one_run(project: Project, line_up: Any) -> None:
    names = ("alpha", "beta", "gamma", "delta", "epsilon")
    implemented(project, *names)
    before = len(runs(project))
    children = line_up(*names)
    assert ended(children) == [0] * 5
    lane_runs = runs(project)[before + 5 :]  # five off the lane, one for each
    assert len(lane_runs) == 1 and {f"{name}.txt" for name in names} <= lane_runs[0]
    assert project.landings() == list(names)
    assert [done["id"] for done in project.queue["completed"]] == list(names)
    commits = project.git("log", "--format=%H", "--reverse", "main", cwd=project.hub).splitlines()[-5:]
    assert [done["landed"] for done in project.queue["completed"]] == commits
    assert project.queue["lane"]["recent"] == "11111" and "leader" not in project.queue["lane"]


def test_one_spec_on_an_unmoved_trunk_costs_no_run_in_the_lane(project: Project) -> None:
    implemented(project, "alpha")
    before = len(runs(project))
    assert run(project, "alpha").ended == "landed"
    assert len(runs(project)) == before + 1


def test_two_that_fail_only_together_the_later_one_is_ejected(project: Project, line_up: Any) -> None:
    both = "import os\nassert not (os.path.exists('alpha.txt') and os.path.exists('beta.txt')), 'both'\n"
    implemented(project, "alpha", check="import os\nassert os.path.exists('alpha.txt')\n" + both)
    implemented(project, "beta", check="import os\nassert os.path.exists('beta.txt')\n")
    implemented(project, "gamma")
    alpha, beta, gamma = line_up("alpha", "beta", "gamma")
    assert ended([alpha, gamma]) == [0, 0]
    said, _ = beta.communicate(timeout=60)
    assert beta.returncode == 6 and "left the lane" in said and "both" in said
    assert project.landings() == ["alpha", "gamma"]
    entry = project.entry("beta")
    assert entry["failures"] == 2 and "both" in entry["problem"] and "place" not in entry
    assert project.queue["lane"]["recent"].count("0") == 1
    logs = list((project.state / "runs" / "beta").rglob("lane-*.log"))
    assert any("both" in log.read_text() for log in logs), logs


def test_a_red_trunk_freezes_the_lane_and_blames_nobody(project: Project, line_up: Any) -> None:
    implemented(project, "alpha", "beta")
    services = projects.services(project)
    with services.runs.landing():
        children = [verifying(project, name) for name in ("alpha", "beta")]
        eventually(lambda: len(in_lane(project)) == 2)
        project.move_trunk("checks/broken.py", "assert False, 'somebody broke trunk'\n")
    eventually(lambda: project.queue.get("lane", {}).get("frozen"))
    assert "somebody broke trunk" in project.queue["lane"]["frozen"]
    assert "lane is frozen" in project.agentq("lane").stdout
    assert len(in_lane(project)) == 2 and project.landings() == []
    project.move_trunk("checks/broken.py", "assert True\n")
    assert ended(children) == [0, 0]
    assert sorted(project.landings()) == ["alpha", "beta"]
    assert "failures" not in str(project.queue["completed"]) and "0" not in project.queue["lane"]["recent"]


def test_a_flake_ejects_nobody(project: Project, line_up: Any) -> None:
    flaked = project.root / "flaked"
    once = (
        "if os.path.exists('alpha.txt') and os.path.exists('beta.txt'):\n"
        f"    if not os.path.exists({str(flaked)!r}):\n        open({str(flaked)!r}, 'w'); raise SystemExit('flake')\n"
    )
    counting(project, once)
    implemented(project, "alpha", "beta", "gamma")
    assert ended(line_up("alpha", "beta", "gamma")) == [0, 0, 0]
    assert flaked.exists() and project.landings() == ["alpha", "beta", "gamma"]
    assert project.queue["lane"]["recent"] == "111"


@pytest.mark.parametrize("victim", [0, 1])
def test_the_lane_survives_the_death_of_who_leads_it(project: Project, line_up: Any, victim: int) -> None:
    slow = project.root / "slow"
    text = (project.checkout / "run_all.py").read_text()
    (project.checkout / "run_all.py").write_text(
        f"import os, time\nwhile os.path.exists({str(slow)!r}): time.sleep(0.05)\n{text}"
    )
    project.git("commit", "-qam", "wait while told to")
    project.git("push", "-q", "origin", "main")
    names = ("alpha", "beta", "gamma")
    implemented(project, *names)
    services = projects.services(project)
    with services.runs.landing():
        children = []
        for count, name in enumerate(names, 1):
            children.append(verifying(project, name))
            eventually(lambda count=count: len(in_lane(project)) == count)
        slow.touch()
    eventually(lambda: project.queue["lane"].get("testing"))
    leader = _leader(project, children)
    victims = [child for child in children if child.pid == leader] if victim == 0 else children[1:2]
    for child in victims:
        child.send_signal(signal.SIGKILL)
    slow.unlink()
    rest = [child for child in children if child not in victims]
    assert ended(rest) == [0] * len(rest)
    for child in victims:
        child.communicate()
    project.agentq("recover")
    for name in names:
        if project.entry(name)["array"] != "completed":
            project.agentq("run", name, "--yes")
    assert sorted(project.landings()) == sorted(names)
    assert sorted(done["id"] for done in project.queue["completed"]) == sorted(names)


def _leader(project: Project, children: Sequence[Any]) -> int:
    """The process that holds the landing lock."""
    inode = os.stat(project.state / "locks" / "landing.lock").st_ino
    held = [line.split() for line in Path("/proc/locks").read_text().splitlines() if f":{inode} " in line]
    pids = {int(words[4]) for words in held if words[1] != "->"}
    return next(child.pid for child in children if child.pid in pids)


def test_freeze_and_thaw_by_a_person(project: Project) -> None:
    implemented(project, "alpha")
    project.agentq("lane", "freeze", "release day")
    child = verifying(project, "alpha")
    eventually(lambda: in_lane(project) == ["alpha"])
    time.sleep(0.5)
    assert project.landings() == [] and "release day" in project.agentq("lane").stdout
    assert "frozen already" in project.agentq("lane", "freeze", rc=1).stderr
    project.agentq("lane", "thaw")
    assert ended([child]) == [0] and project.landings() == ["alpha"]


def test_a_batch_of_one_tests_each_tree(project: Project, line_up: Any) -> None:
    config = (project.checkout / "agents" / "config.toml").read_text()
    (project.checkout / "agents" / "config.toml").write_text(config + "\n[lane]\nbatch = 1\n")
    project.git("commit", "-qam", "each alone")
    project.git("push", "-q", "origin", "main")
    names = ("alpha", "beta", "gamma")
    implemented(project, *names)
    before = len(runs(project))
    assert ended(line_up(*names)) == [0, 0, 0]
    lane_runs = runs(project)[before + 3 :]
    assert [sorted(seen & {f"{name}.txt" for name in names}) for seen in lane_runs] == [
        ["alpha.txt", "beta.txt"],
        ["alpha.txt", "beta.txt", "gamma.txt"],
    ]
    assert project.landings() == list(names)


def test_a_conflict_in_the_lane_goes_back_to_verification_and_to_its_owner(project: Project, line_up: Any) -> None:
    implemented(project, "alpha", "beta", "gamma")
    # The same line, declared by neither: only the merge sees it.
    for name in ("delta", "epsilon"):
        project.add(name, files_modified=[])
        script = f'import re; p = Path("shared.txt"); p.write_text(p.read_text().replace("line 7", "{name}")); '
        project.script(name, "implement", f'{script}Path("{name}.txt").write_text("{name}\\n"); commit()\n')
        assert run(project, name, last="implement").ended == "stopped"
    children = line_up("alpha", "delta", "epsilon", "gamma")
    assert [child.wait(timeout=60) for child in (children[0], children[1], children[3])] == [0, 0, 0]
    said, _ = children[2].communicate(timeout=60)
    assert children[2].returncode == 6 and "conflicts with trunk in shared.txt" in said
    assert project.landings() == ["alpha", "delta", "gamma"]
    assert project.queue["lane"]["recent"] == "111"  # a conflict is no failed test


def test_stopping_leaves_the_lane(project: Project) -> None:
    implemented(project, "alpha")
    project.agentq("lane", "freeze")
    child = verifying(project, "alpha")
    eventually(lambda: in_lane(project) == ["alpha"])
    child.send_signal(signal.SIGINT)
    assert ended([child]) == [130] and in_lane(project) == []
    project.agentq("lane", "thaw")
    assert run(project, "alpha").ended == "landed"
