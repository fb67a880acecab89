"""How close each policy comes to the lower bound on four real traces, with 4 and 8 agents in virtual time.

`python bench/makespan.py` prints the table; `rows()` returns it. Every policy is played through
`schedule.recommend`, decision by decision; `lookahead` searches once, at the first decision, for the default
half second, and its order is then kept. The lower bound is the longest of the critical path, the work ÷ agents
and the hours on the most contended file; no schedule need reach it.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT), str(ROOT / "tests")]

from support.traces import NAMES, board, drain, first_in, recommended  # noqa: E402

from agentq.core import lookahead  # noqa: E402
from bench import report  # noqa: E402

SECONDS = 0.5
AGENTS = (4, 8)
TARGET = 1.05


class Row(NamedTuple):
    """`bound` in hours; the policies as makespan ÷ bound; `seconds` the search took here."""

    trace: str
    agents: int
    bound: float
    fifo: float
    playbook: float
    lookahead: float
    seconds: float


def measure(name: str, agents: int, seconds: float = SECONDS) -> Row:
    queue = board(name)
    bound = lookahead.lower_bound(queue, agents)
    began = time.perf_counter()
    plan = lookahead.plan(queue, agents, (), effort=round(seconds * lookahead.EFFORT_PER_SECOND))
    took = time.perf_counter() - began
    policies = (first_in(agents), recommended(agents), recommended(agents, plan=plan))
    ratios = [drain(queue, agents, choose).makespan / bound for choose in policies]
    return Row(name, agents, bound, *ratios, took)


def rows(names: Sequence[str] = NAMES, agents: Sequence[int] = AGENTS, seconds: float = SECONDS) -> list[Row]:
    """A row for each trace with each number of agents, then the average of each number of agents."""
    found = []
    for number in agents:
        measured = [measure(name, number, seconds) for name in names]
        means = [sum(column) / len(measured) for column in list(zip(*measured, strict=True))[2:]]
        found += [*measured, Row("average", number, *means)]
    return found


def section(
    _folder: Path, names: Sequence[str] = NAMES, agents: Sequence[int] = AGENTS, seconds: float = SECONDS
) -> list[report.Row]:
    """For the report: the averages of lookahead, and the worst case of lookahead ÷ playbook."""
    found = rows(names, agents, seconds)
    traces = [row for row in found if row.trace != "average"]
    shown = []
    for mean in (row for row in found if row.trace == "average"):
        these = [row for row in traces if row.agents == mean.agents]
        raw = {row.trace: [row.fifo, row.playbook, row.lookahead] for row in these}
        each = ", ".join(f"{row.trace} {row.lookahead:.3f} ({row.playbook:.3f})" for row in these)
        details = (
            f"playbook {mean.playbook:.3f}, FIFO {mean.fifo:.3f}; search {mean.seconds:.2f} s",
            f"lookahead (playbook): {each}",
        )
        name = f"lookahead, {mean.agents} agents, average"
        shown.append(report.Row(name, mean.lookahead, TARGET, details=details, raw=raw))
    compared = {f"{row.trace}_{row.agents}": [row.lookahead / row.playbook] for row in traces}
    worst = max(ratio for (ratio,) in compared.values())
    return [*shown, report.Row("worst of lookahead ÷ playbook", worst, 1.0, raw=compared)]


def main() -> None:
    print(f"{'trace':<12} agents  bound h    FIFO  playbook  lookahead  search s")
    for row in rows():
        print(
            f"{row.trace:<12} {row.agents:>6} {row.bound:>8.2f} {row.fifo:>7.3f} {row.playbook:>9.3f}"
            f" {row.lookahead:>10.3f} {row.seconds:>9.2f}"
        )


if __name__ == "__main__":
    main()
