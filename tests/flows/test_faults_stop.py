"""Requests to stop in every stage, clocks that are wrong, and texts that would move a cursor or be read as markup."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support import project as projects
from support.project import Project

GATE = """
import pathlib, subprocess, sys, time
root, here = pathlib.Path(sys.argv[1]), pathlib.Path.cwd().parent.name
if (root / "hold").exists() and (root / "hold").read_text() == here:
    deaf = "trap '' INT TERM HUP;" if here == "verify" else ""
    subprocess.Popen(["sh", "-c", deaf + "sleep 600"], start_new_session=True)
    (root / "begun").touch()
    time.sleep(600)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = projects.build(tmp_path / "p")
    made.add("alpha")
    return made


def gated(project: Project) -> None:
    """Verification that waits where `hold` says: in ws (the implement stage's proof) or verify (the last one)."""
    (project.root / "gate.py").write_text(GATE)
    config = project.checkout / "agents" / "config.toml"
    gate = f"{sys.executable} {project.root / 'gate.py'} {project.root}"
    config.write_text(config.read_text().replace("verify = [", f'verify = ["{gate}", '))
    project.git("commit", "-qam", "gate")
    project.git("push", "-q", "origin", "HEAD:main")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("stage", ["test", "implement", "verify"])
def test_a_request_to_stop_keeps_the_work_and_leaves_no_process(project: Project, stage: str, number: int) -> None:
    gated(project)
    begun = project.root / "begun"
    script = (project.scripts / "alpha.test.py").read_text()
    if stage == "test":
        wait = f'Path("half.txt").write_text("half"); Path({str(begun)!r}).touch(); time.sleep(600)\n'
        project.script("alpha", "test", "import time\n" + script.replace("commit()", "") + wait)
    else:
        (project.root / "hold").write_text({"implement": "ws", "verify": "verify"}[stage])
    run = subprocess.Popen(
        [sys.executable, "-m", "agentq", "run", "alpha", "--yes"], cwd=project.checkout, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < deadline and run.poll() is None, "it did not begin"
        time.sleep(0.02)
    run.send_signal(number)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 130, output
    assert project.strays("alpha") == [] and "Traceback" not in output and "agentq run alpha" in output
    entry = project.entry("alpha")
    assert entry["status"] == {"test": "testing", "implement": "implementing", "verify": "verifying"}[stage]
    assert entry.get("failures", 0) == 0 and project.landings() == []
    mirror = projects.services(project).mirror
    kept, path = {
        "test": ("refs/agentq/wip/alpha", "half.txt"), "implement": ("refs/agentq/wip/alpha", "alpha.txt"),
        "verify": ("refs/agentq/work/alpha/implement", "alpha.txt"),
    }[stage]  # fmt: skip
    assert mirror.show(mirror.ref(kept), path)
    assert not list((project.state / "live").glob("*.json")) and not list((project.state / "intents").glob("*"))
    (project.root / "hold").unlink(missing_ok=True)
    if stage == "test":
        project.script("alpha", "test", 'assert Path("half.txt").exists(); Path("half.txt").unlink(); commit()')
    if stage == "implement":
        project.script("alpha", "implement", 'assert Path("alpha.txt").exists(); commit()')
    project.agentq("run", "alpha", "--yes")
    assert project.landings() == ["alpha"]


# ---------------------------------------------------------------- clocks


class Wrong:
    """A clock that is `off` from the right one."""

    def __init__(self, off: timedelta) -> None:
        self.off = off

    def now(self) -> datetime:
        return datetime.now(UTC) + self.off

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_jumps_between_stages(project: Project, days: int) -> None:
    from agentq.flows.recover import recover
    from agentq.flows.run import run_spec

    project.add("beta", depends_on=["alpha"])
    assert projects.run(project, "alpha", last="test").ended == "stopped"
    made = projects.services(project)
    made.clock = Wrong(timedelta(days=days))
    if days < 0:  # with a clock ahead, recovery would give the spec back: its lease has expired
        recover(made)
    assert run_spec(made, "alpha", last="implement", confirm=lambda *_: True).ended == "stopped"
    for command in (("status",), ("show", "alpha"), ("why", "alpha"), ("next", "--json"), ("graph",)):
        done = project.agentq(*command, rc=None)
        assert done.returncode in (0, 3) and "Traceback" not in done.stderr and "bug" not in done.stderr, (
            done.stderr
        )
    rows = json.loads(project.agentq("status", "--json").stdout)
    assert rows["in_progress"][0]["id"] == "alpha"
    assert run_spec(made, "alpha", confirm=lambda *_: True).ended == "landed"
    assert project.landings() == ["alpha"] and "alpha" in project.agentq("status", "--all").stdout
    assert project.entry("alpha")["stages"]["verify"]["seconds"] >= 0
    project.agentq("run", "beta", "--yes")
    assert project.landings() == ["alpha", "beta"]


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize("bad", ["a\x1b[31mb", "a\x07", "a\u009b31m", "a\u202eb", "a\nb", "a\x00b", "a\ud800"])
def test_control_characters_in_a_title_are_refused(project: Project, bad: str) -> None:
    before = project.queue
    if "\0" not in bad and "\ud800" not in bad:
        done = project.agentq("add", "gamma", "--title", bad, rc=8)
        assert done.stderr.startswith("error: ") and not {"\x1b", "\x07", "\x9b", "\u202e"} & set(done.stderr)
        assert project.queue == before
    before["ready"][0]["title"] = bad
    project.write_queue(**before)
    for command in (("status",), ("next", "--json"), ("run", "alpha", "--yes")):
        done = project.agentq(*command, rc=8)
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(done.stdout + done.stderr)
    assert project.queue == before, "what cannot be used is left as it is"


def test_markup_in_a_title_is_shown_as_it_is(project: Project) -> None:
    title = "[bold]x[/foo] [link=http://a]"
    project.agentq("add", "gamma", "--title", title, "--file", "g.txt", rc=None)
    if "gamma" not in str(project.queue):
        project.write_queue(ready=[{"id": "gamma", "title": title}], in_progress=[], completed=[])
    queue = project.queue
    queue["ready"] = [entry for entry in queue["ready"] if entry["id"] == "gamma"]
    project.write_queue(**queue)
    for command in (("next", "--dry-run"), ("show", "gamma"), ("next", "-n", "2", "--dry-run")):
        assert title in project.agentq(*command).stdout, command
    assert "[bold]x[/foo]" in project.agentq("status").stdout
    assert "[bold]x[/foo]" in project.agentq("graph").stdout
    project.script("gamma", "test", 'Path("checks/g.py").write_text("open(\'g.txt\')"); commit()')
    project.script("gamma", "implement", 'Path("g.txt").write_text("g"); commit("[bold]x[/foo]")')
    assert project.agentq("work").returncode == 0 and project.landings() == ["gamma"]
    assert project.git("log", "-1", "--format=%s", "main", cwd=project.hub) == title
