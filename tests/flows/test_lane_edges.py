"""The lane where something outside goes wrong: set-up, the remote, a release in the wrong moment, new commands."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import crash_lane
from support import project as projects
from support.crash_lane import NAMES, services, settled
from support.project import Project, run

from agentq.core import lane as rules
from agentq.errors import GitError, Stale
from agentq.flows import lane, lead, recover
from agentq.flows.run import run_spec

YES = {"confirm": lambda _spec, _summary: True}


def three(tmp_path: Path, shared: bool = False) -> Project:
    """alpha and beta wait in the lane, gamma is implemented; trunk has moved since."""
    return crash_lane.world(tmp_path, shared=shared).project


def when(made: Any, wanted: str, what: Callable[[dict[str, Any]], None]) -> Any:
    """Do something at the first event of this name."""
    heard, done = made.observer, []

    def observer(event: str, data: dict[str, Any]) -> None:
        heard(event, data)
        if event == wanted and not done:
            done.append(event)
            what(data)

    made.observer = observer
    return made


def set_up(project: Project, command: str) -> None:
    """From now on trunk has this set-up command."""
    text = (project.checkout / "agents" / "config.toml").read_text()
    project.move_trunk("agents/config.toml", text.replace("[commands]", f"[commands]\nsetup = '{command}'"))


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


# ---------------------------------------------------------------- commands


def test_a_spec_is_tested_by_the_commands_of_the_trunk_it_lands_on(tmp_path: Path) -> None:
    """alpha brings a verify command that beta fails: one test run of both would not have asked it."""
    project = projects.build(tmp_path / "p")
    config = "agents/config.toml"
    project.add("alpha", files_modified=["alpha.txt", "checks/alpha.py", config])
    project.script("alpha", "implement", f"""
text = Path("{config}").read_text()
Path("{config}").write_text(text.replace("verify = [", "verify = ['test ! -e beta.txt', ", 1))
Path("alpha.txt").write_text("alpha\\n"); commit()
""")  # fmt: skip
    project.add("beta")
    for name in ("alpha", "beta"):
        report = run(project, name, last="implement")
        assert report.ended == "stopped", report
    crash_lane.line_up(project, "alpha")
    project.move_trunk("other.txt", "so no own proof stands\n")
    report = run(project, "beta")
    assert project.landings() == ["alpha"]
    assert report.ended != "landed" and "test ! -e beta.txt" in report.problem, report


def test_who_is_stopped_during_the_set_up_has_not_failed(tmp_path: Path) -> None:
    project = three(tmp_path)
    set_up(project, "echo begun && sleep 60")
    stopped: list[str] = []
    made = when(services(project), "command", lambda _: stopped.append("enough"))
    made.stop = lambda: stopped[0] if stopped else None
    assert run_spec(made, "gamma", **YES).ended == "interrupted"
    assert not project.entry("gamma").get("failures") and "problem" not in project.entry("gamma")


def _broken_set_up(tmp_path: Path, shared: bool) -> tuple[Project, Any, Path]:
    """The set-up works until somebody leads the lane."""
    flag = tmp_path / "no-registry"
    project = three(tmp_path, shared)
    set_up(project, f"test ! -e {flag}")
    return project, when(services(project), "lane-testing", lambda _: flag.touch()), flag


def test_a_set_up_that_fails_everywhere_is_no_red_trunk(tmp_path: Path) -> None:
    project, made, flag = _broken_set_up(tmp_path, shared=False)
    frozen: list[str] = []
    when(made, "lane-frozen", lambda data: frozen.append(data["text"]))
    made.stop = lambda: "enough" if frozen else None
    assert run_spec(made, "gamma", **YES).ended == "interrupted"
    assert "tests cannot be run on" in frozen[0] and "set-up command failed" in frozen[0]
    assert "red" not in project.queue["lane"]
    assert not any(project.entry(name).get("failures") for name in NAMES)
    flag.unlink()
    services(project).store.update(rules.thaw)
    assert run_spec(services(project), "gamma", **YES).ended == "landed"


def test_a_machine_that_cannot_test_stands_aside_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other machines that share the queue may lead meanwhile."""
    monkeypatch.setattr(lead, "ASIDE_SECONDS", 1.0)
    project, made, flag = _broken_set_up(tmp_path, shared=True)
    notes: list[str] = []

    def note(data: dict[str, Any]) -> None:
        notes.append(data["text"])
        assert "leader" not in project.queue["lane"] or not project.queue["lane"].get("frozen")
        flag.unlink()

    assert run_spec(when(made, "note", note), "gamma", **YES).ended == "landed"
    assert "tests cannot be run on" in notes[0] and "tries again" in notes[0]
    recover.recover(services(project))
    settled(project)


# ---------------------------------------------------------------- the remote


def test_a_remote_that_is_away_for_a_moment_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "AWAY_SECONDS", 0.05)
    project = three(tmp_path)
    made = services(project)
    fetch, away = made.mirror.fetch, [3]

    def flaky(*args: Any) -> Any:
        if away[0]:
            away[0] -= 1
            raise GitError(["fetch"], 128, "connection refused", retryable=True)
        return fetch(*args)

    def cut(_: Any) -> None:
        made.mirror.fetch = flaky

    assert run_spec(when(made, "lane-entered", cut), "gamma", **YES).ended == "landed"
    assert away == [0]
    recover.recover(services(project))
    settled(project)


def test_a_leader_that_waits_for_tests_does_not_ask_the_remote_all_the_time(tmp_path: Path) -> None:
    project = three(tmp_path, shared=True)
    project.move_trunk("checks/slow.py", "import time\ntime.sleep(3)\n")
    made = services(project)
    update, times = made.store.update, []

    def counted(change: Any) -> Any:
        times.append(time.monotonic())
        return update(change)

    made.store.update = counted
    assert run_spec(made, "gamma", **YES).ended == "landed"
    assert len(times) < 12, "a change for each look at the tests"


# ---------------------------------------------------------------- people


def test_released_while_its_push_is_under_way(tmp_path: Path) -> None:
    """It is on trunk then, and ready in the queue: nobody may do it again."""
    project = three(tmp_path)
    made = services(project)
    push = made.mirror.push

    def released(*args: Any) -> Any:
        recover.give_back(services(project), "alpha")
        return push(*args)

    made.mirror.push = released
    assert run_spec(made, "gamma", **YES).ended == "landed"
    assert project.landings() == list(NAMES)
    entry = project.entry("alpha")
    assert entry["array"] == "ready" and "on trunk already" in str(entry["held"])


def test_a_lease_of_another_machine_under_our_epoch_is_not_ours(tmp_path: Path) -> None:
    """A queue that was put back hands out epochs again."""
    project = three(tmp_path)
    other = services(project)

    def put_back(_: Any) -> None:
        def change(queue: Any) -> Any:
            entry = next(one for one in queue.in_progress if one.id == "gamma")
            lease = entry.lease.model_copy(update={"machine": "else"})
            changed = entry.model_copy(update={"lease": lease})
            rest = tuple(changed if one.id == "gamma" else one for one in queue.in_progress)
            return queue.model_copy(update={"in_progress": rest})

        other.store.update(change)

    with pytest.raises(Stale, match="leased by else"):
        run_spec(when(services(project), "proved", put_back), "gamma", **YES)
    assert "gamma" not in project.landings()


def test_who_waits_behind_a_suspended_run_is_told(tmp_path: Path) -> None:
    project = three(tmp_path)
    project.move_trunk("checks/slow.py", "import time\ntime.sleep(3)\n")
    made = services(project)
    command = [sys.executable, "-m", "agentq", "verify", "alpha", "--yes"]
    child = subprocess.Popen(command, cwd=project.checkout, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        eventually(lambda: "testing" in project.queue["lane"])
        time.sleep(0.5)  # now it only waits for its tests, and holds no lock but the lane's
        child.send_signal(signal.SIGSTOP)
        notes: list[str] = []
        when(made, "note", lambda data: (notes.append(data["text"]), child.send_signal(signal.SIGCONT))[0])
        assert run_spec(made, "gamma", **YES).ended == "landed"
        assert f"kill -CONT {child.pid}" in notes[0] and "alpha" in notes[0]
        child.communicate(timeout=60)
    finally:
        child.kill()
        child.communicate()
    assert sorted(project.landings()) == list(NAMES)
