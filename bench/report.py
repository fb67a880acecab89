"""Rows, how they are measured and how they are shown: 80 columns, one line a figure and its details below.

Invariant: a row is made from numbers of this run; `raw` holds all of them, in seconds unless its key says so.
"""

import json
import os
import platform
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

WIDTH = 80
NAME_WIDTH = 42


@dataclass(frozen=True)
class Row:
    """`reached` in `unit` ("" for a ratio); `target` is what it may reach at most, None if nobody set one."""

    name: str
    reached: float
    target: float | None = None
    unit: str = ""
    details: tuple[str, ...] = ()
    raw: dict[str, list[float]] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        return None if self.target is None else self.reached <= self.target + 1e-9


@dataclass(frozen=True)
class Result:
    """One section as it ran. `problem` says why it could not, or ""; `seconds` is what it took."""

    name: str
    title: str
    rows: tuple[Row, ...]
    seconds: float
    problem: str = ""


Section = Callable[[Path], list[Row]]


def run(name: str, title: str, section: Section, folder: Path) -> Result:
    """The section in a folder of its own. Whatever it raises becomes the `problem` of its result."""
    print(f"bench: {name} …", end="", file=sys.stderr, flush=True)
    began = time.perf_counter()
    rows: list[Row] = []
    problem = ""
    try:
        folder.mkdir(parents=True)
        rows = section(folder)
    except Exception as error:
        problem = f"{type(error).__name__}: {_said(error)}"[:400]
    seconds = time.perf_counter() - began
    print(f" {'could not run' if problem else 'done'} after {seconds:.0f} s", file=sys.stderr, flush=True)
    return Result(name, title, tuple(rows), seconds, problem)


def _said(error: Exception) -> str:
    """The last line of what went wrong; of a command, what it said itself."""
    said: str | bytes = str(error)
    if isinstance(error, subprocess.CalledProcessError):
        said = error.stderr or error.stdout or said
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return text.strip().rpartition("\n")[2]


# ---------------------------------------------------------------- measuring


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def alternately(pairs: int, first: Callable[[int], float], second: Callable[[int], float]) -> list[list[float]]:
    """[seconds of `first`, seconds of `second`], taken A B A B: what else the machine does meets both."""
    both: list[list[float]] = [[], []]
    for number in range(pairs):
        both[0].append(first(number))
        both[1].append(second(number))
    return both


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the ratios pair by pair."""
    return median(a / b for a, b in zip(over, under, strict=True))


def took(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"


# ---------------------------------------------------------------- showing


def machine() -> dict[str, str]:
    """What the figures depend on, in words."""
    with suppress(AttributeError):
        cores = len(os.sched_getaffinity(0))
        return _machine(cores)
    return _machine(os.cpu_count() or 1)


def _machine(cores: int) -> dict[str, str]:
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "cores": str(cores),
        "load": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
        "git": git.removeprefix("git version "),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def header(facts: dict[str, str]) -> str:
    line = (
        f"agentq bench · {facts['cores']} cores, load {facts['load']} before the first section ·"
        f" Python {facts['python']} · git {facts['git']} · {facts['system']}"
    )
    return textwrap.fill(line, WIDTH)


def shown(result: Result) -> str:
    lines = ["", *textwrap.wrap(f"{result.name}: {result.title}", WIDTH, subsequent_indent="  ")]
    for row in result.rows:
        lines += _row(row)
    if result.problem:
        lines += _wrapped(f"could not run: {result.problem}", "  ")
    return "\n".join(lines)


def _row(row: Row) -> list[str]:
    figure = f"{row.reached:.2f}" if row.reached < 100 else f"{row.reached:.0f}"
    figure += f" {row.unit}" if row.unit else ""
    if row.target is not None:
        figure += f" of at most {row.target:g}"
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    lines = [f"  {row.name:<{NAME_WIDTH}} {figure:<24} {verdict}".rstrip()]
    for detail in row.details:
        lines += _wrapped(detail, "      ")
    return lines


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ")


def closing(results: Sequence[Result]) -> str:
    """One line: how many targets were met."""
    judged = [row for result in results for row in result.rows if row.met is not None]
    missed = [row.name for row in judged if not row.met]
    broken = [result.name for result in results if result.problem]
    text = f"{len(judged) - len(missed)} of {len(judged)} targets met"
    text += f"; missed: {', '.join(missed)}" if missed else ""
    text += f"; could not run: {', '.join(broken)}" if broken else ""
    return "\n".join(["", *textwrap.wrap(f"{text}. {sum(r.seconds for r in results):.0f} s.", WIDTH)])


def write_json(path: Path, facts: dict[str, str], results: Sequence[Result]) -> None:
    """The document agentq/bench/v1: the facts of the machine and every number of every row."""
    sections = [
        {**asdict(result), "rows": [{**asdict(row), "met": row.met} for row in result.rows]} for result in results
    ]
    document = {"schema": "agentq/bench/v1", "machine": facts, "sections": sections}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
