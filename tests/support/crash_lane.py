"""A lane of three specs whose leader dies by SIGKILL at step N, or at the first step of a given name.

Steps: every event; every git command (before, and after a push); every change of the queue, every state of a shared
one and every intent (before and after). What the heart does at its own time is no step: it would make the count
differ. A server with everything loaded forks a child for each order, so that a death costs little:

    crash_lane.py serve                     orders and answers are lines of JSON: {do, checkout, spec, step, env}
    crash_lane.py run CHECKOUT SPEC STEP TOKEN    a run that dies at STEP, a name, if it can remove the file TOKEN
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import hosts
from support import project as projects
from support.project import Project

NAMES = ("alpha", "beta", "gamma")
LINES = {"alpha": 3, "beta": 14, "gamma": 25}


class Steps:
    def __init__(self, dies: Callable[[int, str], bool]) -> None:
        self.names: list[str] = []
        self._dies = dies

    def __call__(self, name: str) -> None:
        if threading.current_thread().name != "heart":
            self.names.append(name)
            if self._dies(len(self.names), name):
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, method: str, name: Callable[..., str], *, after: bool = True) -> None:
        original = getattr(owner, method)

        def call(*args: Any, **more: Any) -> Any:
            what = name(*args)
            self(f"before {what}")
            answer = original(*args, **more)
            if after or what == "git push":
                self(f"after {what}")
            return answer

        setattr(owner, method, call)


def counted(checkout: Path, steps: Steps) -> Any:
    """Services of a run whose steps are counted."""
    from agentq import wiring
    from agentq.flows import lead
    from agentq.store.waiting import Waiting
    from agentq.trunk.git import Git

    lead.POLL_SECONDS = 60.0  # a look at the queue each moment would make the number of steps a matter of time
    observer = wiring.recording(lambda event, _data: steps(f"event {event}"))
    made = wiring.services(wiring.base(checkout), observer)
    steps.around(made.store, "update", lambda *_: "a queue change")
    steps.around(made.store, "land", lambda *_: "a landing")
    for method in ("intend", "settled"):
        steps.around(made.runs, method, lambda *_, method=method: method)
    for method in ("put", "drop"):
        steps.around(Waiting, method, lambda _self, what, *_, method=method: f"{method} {what}")
    steps.around(Git, "ask", lambda _self, first, *_: f"git {first}", after=False)
    return made


def lead(checkout: Path, spec: str, dies: Callable[[int, str], bool]) -> list[str]:
    """Run a spec to its end; the steps it took."""
    from agentq.flows.recover import recover
    from agentq.flows.run import run_spec

    steps = Steps(dies)
    made = counted(checkout, steps)
    recover(made)
    report = run_spec(made, spec, confirm=lambda _spec, _summary: True)
    assert report.ended == "landed", report
    return steps.names


def settle(checkout: Path) -> list[str]:
    """What a person does after a crash: `agentq recover`, then `agentq run` for what has not landed. Returns what
    recovering said."""
    from agentq import wiring
    from agentq.flows.recover import recover
    from agentq.flows.run import run_spec

    lines = recover(wiring.services(wiring.base(checkout))).lines
    for name in NAMES:
        made = wiring.services(wiring.base(checkout))
        if name not in [done.id for done in made.store.read().queue.completed]:
            report = run_spec(made, name, confirm=lambda _spec, _summary: True)
            assert report.ended == "landed", report
    return lines


# ---------------------------------------------------------------- the server


def serve() -> None:
    from agentq import wiring  # noqa: F401 - loaded once, for all children
    from agentq.flows import recover, run  # noqa: F401

    for line in sys.stdin:
        order, said = json.loads(line), Path(json.loads(line)["said"])
        child = os.fork()
        if not child:
            _obey(order, said)
        rc = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"rc": rc, "said": said.read_text()}), flush=True)


def _obey(order: Mapping[str, Any], said: Path) -> None:
    """In a child: never returns."""
    rc = 1
    try:
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.environ.clear()
        os.environ.update(order["env"])
        checkout = Path(order["checkout"])
        if order["do"] == "lead":
            lines = lead(checkout, order["spec"], lambda count, _name: count == order["step"])
        else:
            lines = settle(checkout)
        os.write(1, "\n".join(lines).encode())
        rc = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(rc)


class Server:
    def __init__(self, folder: Path) -> None:
        self._said = folder / "said"
        self._said.touch()
        self._child = subprocess.Popen(
            [sys.executable, __file__, "serve"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __call__(self, do: str, project: Project, spec: str = "", step: int = 0) -> tuple[int, str]:
        assert self._child.stdin and self._child.stdout
        env = project.environment() if isinstance(project, hosts.Host) else dict(os.environ)
        order = {"do": do, "checkout": str(project.checkout), "spec": spec, "step": step, "env": env}
        print(json.dumps({**order, "said": str(self._said)}), file=self._child.stdin, flush=True)
        answer = json.loads(self._child.stdout.readline())
        return answer["rc"], answer["said"]

    def close(self) -> None:
        self._child.communicate()


# ---------------------------------------------------------------- the world


@dataclass
class World:
    """A project whose lane holds `alpha` and `beta`; `gamma` is implemented. `again` puts it back as it was."""

    project: Project
    folder: Path

    @property
    def _kept(self) -> Path:
        return self.folder.with_name("kept")

    def keep(self) -> None:
        shutil.copytree(self.folder, self._kept, symlinks=True)

    def again(self) -> Project:
        shutil.rmtree(self.folder)
        shutil.copytree(self._kept, self.folder, symlinks=True)
        return self.project


def world(root: Path, *, shared: bool, config: str = "") -> World:
    """In the folder `root`/w, and a copy of it beside."""
    if shared:
        host = hosts.build(root / "w", "one", config=config)[0]
        host.variables |= {"AGENTQ_SHARED_HEARTBEAT_SECONDS": "60", "AGENTQ_SHARED_DEAD_AFTER_SECONDS": "600"}
        project: Project = host
    else:
        project = projects.build(root / "w" / "one", config=config)
    for name in NAMES:
        add(project, name)
        up_to(project, name, "implement")
    for name in NAMES[:2]:
        line_up(project, name)
    project.move_trunk("other.txt", "so nobody's own proof stands, and all three are one batch\n")
    made = World(project, root / "w")
    made.keep()
    return made


def add(project: Project, name: str) -> None:
    """A spec that writes its file and its own line of a file that all of them change."""
    if isinstance(project, hosts.Host):
        project.put(name)
    else:
        project.add(name)
    project.script(
        name, "implement", f"""
lines = Path("shared.txt").read_text().splitlines(keepends=True)
lines[{LINES[name]}] = "line of {name}\\n"
Path("shared.txt").write_text("".join(lines)); Path("{name}.txt").write_text("{name}\\n"); commit()
"""
    )  # fmt: skip


def services(project: Project) -> Any:
    return project.services() if isinstance(project, hosts.Host) else projects.services(project)


def up_to(project: Project, name: str, last: Any) -> None:
    from agentq.flows.run import run_spec

    report = run_spec(services(project), name, last=last, confirm=lambda _spec, _summary: True)
    assert report.ended == "stopped", report


def line_up(project: Project, name: str) -> None:
    """Put a spec in the lane and leave it there, as a run that was killed while it waited."""
    from agentq.flows import lane
    from agentq.flows.outcome import Interrupted
    from agentq.flows.run import run_spec

    def enter(session: Any, candidate: Any) -> Interrupted:
        lane._enter(session, candidate)
        return Interrupted("it waits")

    land, lane.land = lane.land, enter  # type: ignore[assignment]
    try:
        report = run_spec(services(project), name, confirm=lambda _spec, _summary: True)
    finally:
        lane.land = land
    assert report.ended == "interrupted", report


def trunk(project: Project) -> str:
    return project.git("rev-parse", "main", cwd=project.hub)


def closed(project: Project) -> bool:
    """Whether the queue says of every landing what its trailers say: who, and under which epoch."""
    keys = ("Agentq-Spec", "Agentq-Epoch")
    form = "--format=" + " ".join(f"%(trailers:key={key},valueonly,separator=%x2C)" for key in keys)
    rows = [row.split() for row in project.git("log", form, "main", cwd=project.hub).splitlines()]
    done = project.queue["completed"]
    return {row[0]: int(row[1]) for row in rows if row} == {one["id"]: one["epoch"] for one in done}


def settled(project: Project, names: tuple[str, ...] = NAMES) -> None:
    """Everything that must hold in the end: each landed once, as its own change and nothing else, and the queue
    knows; nothing is left."""
    queue, git = project.queue, project.git
    rows = git("log", "--first-parent", "--reverse", "--format=%H %P", "main", cwd=project.hub).splitlines()
    landed = dict(zip(project.landings(), rows[-len(names) :], strict=False))
    assert sorted(project.landings()) == sorted(names), project.landings()
    assert {done["id"]: done["landed"] for done in queue["completed"]} == {
        name: row.split()[0] for name, row in landed.items()
    }
    assert queue["ready"] == [] and queue["in_progress"] == []
    assert "leader" not in queue["lane"] and "testing" not in queue["lane"], queue["lane"]
    for name, row in landed.items():
        commit, parent = row.split()
        changed = git("diff-tree", "-r", "--name-status", parent, commit, cwd=project.hub).splitlines()
        wanted = [f"A\t{name}.txt", f"A\tchecks/{name}.py", "M\tshared.txt"]
        assert sorted(changed) == sorted(wanted), (name, changed)
        stat = git("diff-tree", "--numstat", parent, commit, "--", "shared.txt", cwd=project.hub).split()
        assert stat == ["1", "1", "shared.txt"], (name, stat)
    text = git("show", "main:shared.txt", cwd=project.hub).splitlines()
    assert all(text[LINES[name]] == f"line of {name}" for name in names)
    assert not list((project.state / "intents").glob("*")) and not list((project.state / "live").glob("*"))
    assert all(project.strays(name) == [] for name in names)
    assert git("status", "--porcelain") == ""
    if isinstance(project, hosts.Host):
        from support import shared

        shared.sound(project.hub)


def main() -> None:
    if sys.argv[1] == "serve":
        serve()
        return
    _, _, checkout, spec, step, token = sys.argv

    def dies(_count: int, name: str) -> bool:
        try:
            return name == step and not Path(token).unlink()
        except FileNotFoundError:
            return False

    lead(Path(checkout), spec, dies)


if __name__ == "__main__":
    main()
