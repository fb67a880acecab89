"""`agentq next --json`, started as a person starts it, against importing typer and pydantic.

The import is what any command line of this kind pays before it does anything; both are timed A B A B. A call
after a hand edit is timed apart: the queue's bytes were then not validated before.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import Row, alternately, ratio, seconds_of, took

GLOBS = 10  # specs with a glob: people who plan this much name their files
SIZES = (  # (specs, of them with a glob, pairs, target)
    (150, GLOBS, 7, 1.5),
    (10_000, GLOBS, 5, 3.0),
    (100_000, GLOBS, 3, 30.0),
    (10_000, 10 * GLOBS, 5, None),  # patterns are compared one by one: what many of them cost
)
EDITS = {150: 3, 10_000: 3}  # calls after a hand edit; elsewhere one
IN_PROGRESS = 8
_BASELINE = [sys.executable, "-c", "import typer, pydantic"]
_STAMP = "2026-01-31T12:00:00Z"


def section(folder: Path, sizes: Sequence[tuple[int, int, int, float | None]] = SIZES) -> list[Row]:
    return [measure(folder / f"{size[0]}-{size[1]}", *size) for size in sizes]


def measure(folder: Path, count: int, globs: int, pairs: int, target: float | None) -> Row:
    """The median ratio of `pairs` pairs, and of the calls after a hand edit to the same imports."""
    project(folder, queue(count, globs))
    call(folder)
    subprocess.run(_BASELINE, check=True)
    edits = min(EDITS.get(count, 1), pairs)
    cold, before = alternately(edits, lambda number: _after_edit(folder, number), lambda _: _imports())
    ours, imports = alternately(pairs, lambda _: call(folder), lambda _: _imports())
    details = (
        f"{took(median(ours))} to {took(median(imports))}, {pairs} pairs; first call after a hand edit"
        f" {took(median(cold))} ({ratio(cold, before):.2f})",
    )
    raw = {"next": ours, "imports": imports, "next_after_edit": cold, "imports_beside_edits": before}
    return Row(f"{count:,} specs, {globs} with globs", ratio(ours, imports), target, details=details, raw=raw)


def _imports() -> float:
    return seconds_of(lambda: subprocess.run(_BASELINE, check=True))


def call(folder: Path) -> float:
    """Seconds of one call. Raises when it fails or recommends nothing."""
    done: list[subprocess.CompletedProcess[bytes]] = []
    command = [str(_console_script()), "next", "--json"]
    seconds = seconds_of(lambda: done.append(subprocess.run(command, cwd=folder, capture_output=True, check=True)))
    answer = json.loads(done[0].stdout)
    if not answer["pick"]:
        raise RuntimeError(f"next recommends nothing: {answer['blocked']}")
    return seconds


def _console_script() -> Path:
    path = Path(sys.executable).with_name("agentq")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: install agentq into this environment")
    return path


def _after_edit(folder: Path, number: int) -> float:
    """A call after the title of one spec was changed by hand."""
    path = folder / "agents" / "queue.json"
    before, after = (f'"title": "Spec 7{mark}' for mark in ("!" * number, "!" * (number + 1)))
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    return call(folder)


def project(folder: Path, content: dict[str, Any]) -> None:
    """A repository with one commit, and `content` as its queue."""
    (folder / "agents").mkdir(parents=True)
    (folder / "agents" / "config.toml").write_text('[commands]\nverify = ["true"]\n')
    (folder / ".gitignore").write_text(".machine\nagents/queue.json\n")
    (folder / ".machine").write_text('name = "host"\ninstances = 4\nagent_gb = 0.1\n')
    (folder / "agents" / "queue.json").write_text(json.dumps(content, indent=2) + "\n")
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "base"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, env=dict(os.environ))


def queue(count: int, globs: int = GLOBS) -> dict[str, Any]:
    """`count` specs in families of ten: a chain of four, a diamond of four behind it, two on their own; every
    fourth family waits for an earlier one. The first fifth is completed, eight are in progress on another
    machine. Drawn from a fixed seed: the same count gives the same queue."""
    draw = random.Random(count)
    specs = [_spec(number, count, draw) for number in range(count)]
    for spec in draw.sample(specs[count // 2 :], min(globs, count - count // 2)):
        spec["files_modified"][0] = f"docs/part{draw.randrange(count)}/**/*.md"
    landed = count // 5 // 10 * 10
    busy = min(IN_PROGRESS, (count - landed) // 30)
    started = {landed + 10 * family for family in range(busy)}
    for epoch, number in enumerate(sorted(started)):
        specs[number] |= {"status": "implementing", "lease": _lease(landed + epoch + 1), "depends_on": []}
    return {
        "epoch": landed + busy,
        "ready": [spec for number, spec in enumerate(specs) if number >= landed and number not in started],
        "in_progress": [specs[number] for number in sorted(started)],
        "completed": [{**spec, **_landing(number + 1)} for number, spec in enumerate(specs[:landed])],
    }


def _spec(number: int, count: int, draw: random.Random) -> dict[str, Any]:
    place = number % 10
    needs = {1: [1], 2: [1], 3: [1], 4: [1], 5: [1], 6: [2], 7: [1, 2]}.get(place, [])
    depends_on = [_name(number - back) for back in needs]
    if place == 0 and number >= 40 and number % 40 == 0:
        depends_on.append(_name(draw.randrange(number // 10) * 10 + 7))
    modules = max(count // 2, 20)  # a file is wanted by about three specs
    files = dict.fromkeys(
        f"src/package{module % 97}/module{module}.py"
        for module in (draw.randrange(modules) for _ in range(draw.randint(1, 3)))
    )
    return {
        "id": _name(number), "title": f"Spec {number}", "depends_on": depends_on,
        "files_modified": [*files, f"tests/test_{_name(number)}.py"],
        "estimate_hours": draw.choice([1.0, 2.5, 4.0, 6.0, 8.0]),
    }  # fmt: skip


def _name(number: int) -> str:
    return f"feature-{number}"


def _lease(epoch: int) -> dict[str, Any]:
    return {
        "machine": "other",
        "instance": 1,
        "epoch": epoch,
        "acquired": _STAMP,
        "expires": "2099-01-01T00:00:00Z",
    }


def _landing(epoch: int) -> dict[str, Any]:
    sha = f"{epoch:040x}"
    return {"landed": sha, "epoch": epoch, "machine": "host", "claimed_at": _STAMP, "landed_at": _STAMP}
