"""SIGKILL between any two steps of the landing of a batch of three, for both kinds of queue: whoever comes next
brings all of it to its end, once (reliability facts 1, 3, 10; landing facts 8, 9; gastown#2321)."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import crash_lane, hosts
from support.crash_lane import NAMES, Server, World, settled
from support.hosts import Host, until
from support.project import Project
from support.size import FULL

# All steps with AGENTQ_TEST_FULL=1; else those around the push, and some of the others.
STRIDE = 1 if FULL else 61
AROUND = range(-1, 7)
MODES = pytest.mark.parametrize("shared", [False, True], ids=["file", "shared"])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def _tried(world: World, server: Server, step: int, name: str) -> None:
    project = world.again()
    rc, said = server("lead", project, "gamma", step)
    assert rc == -9, f"step {step} ({name}): {rc}\n{said}"
    before = project.landings()
    assert before in ([], list(NAMES)), f"step {step} ({name}): half a batch: {before}"
    rc, said = server("settle", project)
    assert rc == 0, f"killed at step {step} ({name}): {said}"
    try:
        settled(project)
    except AssertionError as error:
        raise AssertionError(f"killed at step {step}: {name}") from error


@MODES
def test_killed_at_every_step(tmp_path: Path, server: Server, shared: bool) -> None:
    world = crash_lane.world(tmp_path, shared=shared)
    rc, said = server("lead", world.project, "gamma", 0)
    assert rc == 0, said
    settled(world.project)
    names = said.splitlines()
    push = names.index("event pushing")
    chosen = [step for step in range(1, len(names) + 1) if step % STRIDE == 0 or step - push in AROUND]
    assert len(names) > (180 if shared else 70) and names.count("event pushing") == 1
    print(f"{'shared' if shared else 'file'}: {len(chosen)} of {len(names)} steps")
    failed = []
    for step in chosen:
        try:
            _tried(world, server, step, names[step - 1])
        except AssertionError as error:
            failed.append(f"{error}: {error.__cause__}")
            print(failed[-1], flush=True)
    assert not failed, f"{len(failed)} of {len(chosen)}:\n" + "\n".join(failed)


def test_a_dead_leader_does_not_stay(tmp_path: Path, server: Server) -> None:
    """Its push had landed and nothing is left to lead: `agentq lane` would show for ever what it tests."""
    world = crash_lane.world(tmp_path, shared=False)
    names = server("lead", world.project, "gamma")[1].splitlines()
    project = world.again()
    assert server("lead", project, "gamma", names.index("after git push") + 1)[0] == -9
    assert server("settle", project)[0] == 0
    settled(project)


# ---------------------------------------------------------------- the push itself


def _kill_the_push(project: Project, hook: str, end: int) -> Path:
    """The next push of trunk is killed while the hub is in `hook`, which then goes on with status `end`."""
    once, script = project.hub / "once", project.hub / "hooks" / hook
    once.touch()
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"""#!/bin/sh
grep -q refs/heads/main && rm {once} 2>/dev/null || exit 0
pid=$PPID
while [ "$pid" -gt 1 ]; do
  tr '\\0' ' ' < /proc/$pid/cmdline | grep -q ' push ' && kill -9 $pid && break
  pid=$(awk '{{print $4}}' /proc/$pid/stat)
done
sleep 0.3
exit {end}
""")
    script.chmod(0o755)
    return once


@MODES
@pytest.mark.parametrize(
    ("hook", "end", "applied"), [("pre-receive", 1, False), ("post-receive", 0, True)], ids=["lost", "applied"]
)
def test_the_push_is_killed(
    tmp_path: Path, server: Server, shared: bool, hook: str, end: int, applied: bool
) -> None:
    """`git push` ends without an answer: trunk is read before anything is tried again (landing fact 9)."""
    project = crash_lane.world(tmp_path, shared=shared).project
    once = _kill_the_push(project, hook, end)
    rc, said = server("lead", project, "gamma", 0)
    assert not once.exists()
    if applied or shared:  # a shared queue is read back, and what did not arrive is pushed again at once
        assert rc == 0 and said.splitlines().count("event pushing") == (1 if applied else 2), said
        settled(project)
    else:
        assert rc == 1 and "the push did not go through: git push ended without an answer" in said, said
        assert project.landings() == []
    assert server("settle", project)[0] == 0
    settled(project)


# ---------------------------------------------------------------- those who wait


STEPS = ["event lane-tested", "before git push", "after git push", "after a landing"]
DEATHS = [(step, shared) for step in STEPS for shared in (False, True)]
SOME = [("event lane-tested", True), ("before git push", False), ("after git push", True)]


@pytest.mark.parametrize(("step", "shared"), DEATHS if FULL else SOME)
def test_those_who_wait_go_on_when_their_leader_dies(tmp_path: Path, shared: bool, step: str) -> None:
    """Real processes, for a shared queue on two hosts: the leader dies at `step`, nobody else does anything."""
    project: Any
    if shared:
        project, other = hosts.build(tmp_path, "one", "two")
        places: dict[str, Any] = {"alpha": other, "beta": project, "gamma": project}
    else:
        project = crash_lane.projects.build(tmp_path / "p")
        places = dict.fromkeys(NAMES, project)
    token = tmp_path / "token"
    with _frozen(project):
        runs = {name: _waiting(place, name, step, token) for name, place in places.items()}
        assert until(lambda: len([one for one in project.queue["in_progress"] if "place" in one]) == 3, 60)
        project.move_trunk("other.txt", "so that all three are tested\n")
        token.touch()
    ended = {name: (run.communicate(timeout=90)[0], run.returncode) for name, run in runs.items()}
    dead = [name for name, (_, code) in ended.items() if code == -9]
    assert len(dead) == 1 and not token.exists(), ended
    assert [code for name, (_, code) in ended.items() if name not in dead] == [0, 0], ended
    # Those who waited have landed the dead one's proved work too, and its host only has to tidy up.
    assert sorted(project.landings()) == sorted(NAMES)
    for one in dict.fromkeys(map(id, places.values())):
        next(place for place in places.values() if id(place) == one).agentq("recover")
    settled(project)


class _frozen:
    """The lane is frozen while the block lasts, so that all three wait in it before one of them leads."""

    def __init__(self, project: Project) -> None:
        self.project = project

    def __enter__(self) -> None:
        self.project.agentq("lane", "freeze", "until all are here")

    def __exit__(self, *_: object) -> None:
        self.project.agentq("lane", "thaw")


def _waiting(project: Project, name: str, step: str, token: Path) -> "subprocess.Popen[str]":
    crash_lane.add(project, name)
    return subprocess.Popen(
        [sys.executable, crash_lane.__file__, "run", str(project.checkout), name, step, str(token)], text=True,
        env=project.environment() if isinstance(project, Host) else None,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
