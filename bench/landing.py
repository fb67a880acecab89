"""A landing against a bare `git push` of one new commit to the same origin, alternately.

A landing is the verify stage of a spec that is implemented: fetch, rebase, proof in a clean checkout with the
check `true`, push, the queue, tidying up. The specs are implemented beforehand on one trunk, so every landing
but the first has to be rebased on the one before it, as with agents that work in parallel.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import Row, alternately, ratio, seconds_of, took
from bench.start import project_of

SIZES = ((0, 10, 8.0), (5000, 3, None))  # (files besides the project's own eight, pairs, target)


def section(folder: Path, sizes: Sequence[tuple[int, int, float | None]] = SIZES) -> list[Row]:
    return [measure(folder / str(files), files, pairs, target) for files, pairs, target in sizes]


def measure(folder: Path, files: int, pairs: int, target: float | None) -> Row:
    project = project_of(folder, files)
    _check_true(project)
    for number in range(pairs):
        _implement(project, f"spec-{number}")
    clone = _clone(project, folder / "pusher")
    landings, pushes = alternately(
        pairs, lambda number: _land(project, f"spec-{number}"), lambda number: _push(clone, number)
    )
    landed = len(project.landings())
    if landed != pairs:
        raise RuntimeError(f"{landed} of {pairs} landings are on trunk")
    name = f"repository of {files:,} files" if files else "small repository"
    details = (f"{took(median(landings))} to {took(median(pushes))}, {pairs} pairs",)
    raw = {"landing": landings, "push": pushes}
    return Row(name, ratio(landings, pushes), target, details=details, raw=raw)


def _check_true(project: Any) -> None:
    """Make `true` what proves a landing, on trunk too: trunk's own policy is the one in force."""
    config = project.checkout / "agents" / "config.toml"
    lines = [
        'verify = ["true"]' if line.startswith("verify") else line for line in config.read_text().splitlines()
    ]
    config.write_text("\n".join(lines) + "\n")
    project.git("commit", "-qam", "check true")
    project.git("push", "-q", "origin", "main")


def _implement(project: Any, spec_id: str) -> None:
    from support.project import run

    project.add(spec_id)
    report = run(project, spec_id, last="implement")
    if report.ended != "stopped":
        raise RuntimeError(f"{spec_id}: {report.ended}, {report.problem}")


def _land(project: Any, spec_id: str) -> float:
    from support.project import services

    from agentq.flows.run import run_spec

    made = services(project)
    reports: list[Any] = []
    seconds = seconds_of(lambda: reports.append(run_spec(made, spec_id, confirm=lambda _id, _summary: True)))
    if reports[0].ended != "landed":
        raise RuntimeError(f"{spec_id}: {reports[0].ended}, {reports[0].problem}")
    return seconds


def _clone(project: Any, target: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(project.hub), str(target)], check=True)
    return target


def _push(clone: Path, number: int) -> float:
    """Push one new commit to a branch of its own, so that trunk only moves by landings."""
    (clone / "pushed.txt").write_text(f"{number}\n")
    for arguments in (["add", "-A"], ["commit", "-qm", f"push {number}"]):
        subprocess.run(["git", *arguments], cwd=clone, check=True)
    command = ["git", "push", "-q", "origin", "HEAD:refs/heads/pushed"]
    return seconds_of(lambda: subprocess.run(command, cwd=clone, check=True))
