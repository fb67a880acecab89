"""Five specs that are ready to be verified at once, with a check of one second: all landed, in seconds.

Each is a process of its own, as `agentq work` starts them, on one host. Beside it, in the same run, the same five
one after the other: what a landing costs where nobody shares a test run.
"""

import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import Row, seconds_of

COUNT, CHECK, ROUNDS, TARGET = 5, "sleep 1", 3, 3.5


def section(folder: Path, rounds: int = ROUNDS) -> list[Row]:
    together, serial = [], []
    for number in range(rounds):
        together.append(_landed(folder / f"together-{number}", at_once=True))
        serial.append(_landed(folder / f"serial-{number}", at_once=False))
    details = (f"{median(serial):.1f} s one after the other, {rounds} rounds",)
    raw = {"together": together, "serial": serial}
    name = f"{COUNT} specs at once, check '{CHECK}'"
    return [Row(name, median(together), TARGET, "s", details, raw)]


def _landed(folder: Path, *, at_once: bool) -> float:
    """Seconds from the first command to the last landing."""
    project = _ready(folder)
    names = [f"spec-{number}" for number in range(COUNT)]

    def work() -> None:
        if at_once:
            children = [_verify(project, name) for name in names]
            codes = [child.wait(timeout=120) for child in children]
        else:
            codes = [_verify(project, name).wait(timeout=120) for name in names]
        if any(codes):
            raise RuntimeError(f"exit codes {codes}")

    seconds = seconds_of(work)
    if sorted(project.landings()) != names:
        raise RuntimeError(f"landed: {project.landings()}")
    return seconds


def _ready(folder: Path) -> Any:
    """A project with five implemented specs; the check becomes slow only then."""
    from support.project import build, run

    project = build(folder, instances=COUNT + 1)
    for number in range(COUNT):
        project.add(f"spec-{number}")
        report = run(project, f"spec-{number}", last="implement")
        if report.ended != "stopped":
            raise RuntimeError(f"spec-{number}: {report.ended}, {report.problem}")
    config = project.checkout / "agents" / "config.toml"
    lines = [
        f'verify = ["{CHECK}"]' if line.startswith("verify") else line for line in config.read_text().splitlines()
    ]
    config.write_text("\n".join(lines) + "\n")
    project.git("commit", "-qam", "a check of a second")
    project.git("push", "-q", "origin", "main")
    return project


def _verify(project: Any, spec_id: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "agentq", "verify", spec_id, "--yes"], cwd=project.checkout,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
