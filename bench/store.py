"""Updates a second of the file store, from one process and from many at once.

Each update takes the lock, changes one spec, validates the whole text, writes it with fsync and keeps a
backup. Beside it, in the same run, what the disk alone allows: the same bytes written with fsync and renamed.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench import ROOT
from bench.report import Row

SPECS = 2000
PROCESSES = (1, 8, 64)
SECONDS = 4.0


def section(
    folder: Path, specs: int = SPECS, processes: Sequence[int] = PROCESSES, seconds: float = SECONDS
) -> list[Row]:
    """Updates a second for each number of processes; the queue has `specs` specs."""
    from support.queues import write_queue

    path = write_queue(folder / "agents", max(specs, *processes))
    bare = _bare(path, min(seconds, 1.0))
    rows = []
    for count in processes:
        answers = contend(path, folder / "state", count, seconds)
        updates = [one.updates for one in answers]
        rate = sum(updates) / (max(one.ended for one in answers) - min(one.began for one in answers))
        details = (
            f"{rate / bare:.2f} of bare fsync and rename of the same bytes ({bare:.0f} a second); "
            f"longest wait {max(one.longest for one in answers):.2f} s, {min(updates)} to {max(updates)}"
            " updates a process",
        )
        columns = zip(*answers, strict=True)
        raw = {
            key: [float(value) for value in column] for key, column in zip(Answer._fields, columns, strict=True)
        }
        name = f"{count} process{'es' if count > 1 else ''}"
        rows.append(Row(name, rate, unit="a second", details=details, raw={**raw, "bare_a_second": [bare]}))
    return rows


class Answer(NamedTuple):
    """One process: its updates, the seconds of the longest, and when it began and ended."""

    updates: int
    longest: float
    began: float
    ended: float


def contend(path: Path, state: Path, count: int, seconds: float) -> list[Answer]:
    """What each of `count` processes that share the queue for `seconds` got done."""
    command = [sys.executable, "-m", "bench.contend", str(path), str(state), str(count), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=seconds + 200)
    return [Answer(*one) for one in json.loads(done.stdout)]


def _bare(path: Path, seconds: float) -> float:
    """How often a second the bytes of `path` can be replaced, each time with fsync of file and folder."""
    from agentq.store import files

    data, target = path.read_bytes(), path.with_name("bare.json")
    began, writes = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        files.replace(target, data)
        writes += 1
    target.unlink()
    return writes / passed
