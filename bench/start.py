"""From the claim to the first instruction of the agent, in a repository of 5,000 files.

The clock starts when `run_spec` is called, just before the claim, and stops at the first statement of the
agent, which writes `time.time_ns()` to a file: the start of its Python is included. Cold: the first spec of a
machine, no mirror and no workspace. Reused: the next spec, after that one landed. Beside them, in the same
run, a `git clone --shared` of the same origin: the least a fresh workspace costs.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import Row, ratio, seconds_of, took

FILES, SIZE, ROUNDS = 5000, 2048, 3
_FIRST_ACT = """import time
first_act = time.time_ns()
import os, sys
with open(os.path.join(sys.argv[2], f"{os.environ['AGENTQ_SPEC']}.{os.environ['AGENTQ_STAGE']}.at"), "w") as file:
    file.write(str(first_act))
"""
STEPS = ("claimed", "agent_started", "first_act")


def section(folder: Path, files: int = FILES, rounds: int = ROUNDS) -> list[Row]:
    """A row for the cold and one for the reused workspace, in seconds, the clone as their measure."""
    project = project_of(folder, files)
    cold, reused, clones = [], [], []
    for number in range(rounds):
        shutil.rmtree(project.workspaces, ignore_errors=True)
        os.sync()  # what was written and removed before is nobody's cost
        clones.append(seconds_of(lambda: _clone(project, folder / "clone")))
        shutil.rmtree(folder / "clone")
        os.sync()
        cold.append(first_act(project, f"cold-{number}"))
        reused.append(first_act(project, f"reused-{number}"))
    return [_row("cold: first spec of a machine", cold, clones), _row("reused workspace", reused, clones)]


def project_of(folder: Path, files: int, **more: Any) -> Any:
    """The tests' project with `files` more files of 2 KB on its trunk, in folders of 50."""
    from support import project as projects

    project = projects.build(folder / "project", **more)
    for number in range(files):
        path = project.checkout / "src" / f"part{number // 50}" / f"module{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"value_{number} = 0  # {number}\n" * (SIZE // (len(str(number)) * 2 + 15)))
    project.git("add", "-A")
    if files:
        project.git("commit", "-qm", "many files")
        project.git("push", "-q", "origin", "main")
    agent = project.scripts / "agent.py"
    agent.write_text(_FIRST_ACT + agent.read_text())
    return project


def _clone(project: Any, target: Path) -> None:
    subprocess.run(["git", "clone", "-q", "--shared", str(project.hub), str(target)], check=True)


def first_act(project: Any, spec_id: str) -> list[float]:
    """Run a spec until it landed; seconds from the call of `run_spec` to each of STEPS."""
    from support import project as projects

    from agentq import wiring
    from agentq.flows.run import run_spec

    project.add(spec_id)
    at: dict[str, int] = {}
    observer = wiring.recording(lambda event, _data: at.setdefault(event, time.time_ns()) and None)
    services = projects.services(project)
    services.observer = observer
    began = time.time_ns()
    report = run_spec(services, spec_id, confirm=lambda _id, _summary: True)
    if report.ended != "landed":
        raise RuntimeError(f"{spec_id}: {report.ended}, {report.problem}")
    act = int((project.scripts / f"{spec_id}.test.at").read_text())
    return [(moment - began) / 1e9 for moment in (at["claimed"], at["agent-started"], act)]


def _row(name: str, measured: Sequence[Sequence[float]], clones: Sequence[float]) -> Row:
    claimed, started, act = (list(column) for column in zip(*measured, strict=True))
    details = (
        f"claimed after {took(median(claimed))}, agent started after {took(median(started))}; "
        f"{ratio(act, clones):.2f} of 'git clone --shared' ({took(median(clones))}), {len(act)} rounds",
    )
    raw = {"claimed": claimed, "agent_started": started, "first_act": act, "clone": list(clones)}
    return Row(name, median(act), unit="s", details=details, raw=raw)
