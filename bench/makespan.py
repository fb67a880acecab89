"""How close each policy comes to the lower bound on four real traces, with 4 and 8 agents in virtual time.

`python bench/makespan.py` prints the table; `rows()` returns it. Every policy is played through
`schedule.recommend`, decision by decision; `lookahead` searches once, at the first decision, for the default
half second, and its order is then kept. The lower bound is the longest of the critical path, the work ÷ agents
and the hours on the most contended file; no schedule need reach it.
"""

import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.traces import NAMES, board, drain, first_in, recommended  # noqa: E402

from agentq.core import lookahead  # noqa: E402

SECONDS = 0.5
AGENTS = (4, 8)


class Row(NamedTuple):
    """`bound` in hours; the policies as makespan ÷ bound; `seconds` the search took here."""

    trace: str
    agents: int
    bound: float
    fifo: float
    playbook: float
    lookahead: float
    seconds: float


def measure(name: str, agents: int) -> Row:
    queue = board(name)
    bound = lookahead.lower_bound(queue, agents)
    began = time.perf_counter()
    plan = lookahead.plan(queue, agents, (), effort=round(SECONDS * lookahead.EFFORT_PER_SECOND))
    took = time.perf_counter() - began
    policies = (first_in(agents), recommended(agents), recommended(agents, plan=plan))
    ratios = [drain(queue, agents, choose).makespan / bound for choose in policies]
    return Row(name, agents, bound, *ratios, took)


def rows() -> list[Row]:
    """A row for each trace with each number of agents, then the average of each number of agents."""
    found = []
    for agents in AGENTS:
        measured = [measure(name, agents) for name in NAMES]
        means = [sum(column) / len(measured) for column in list(zip(*measured, strict=True))[2:]]
        found += [*measured, Row("average", agents, *means)]
    return found


def main() -> None:
    print(f"{'trace':<12} agents  bound h    FIFO  playbook  lookahead  search s")
    for row in rows():
        print(
            f"{row.trace:<12} {row.agents:>6} {row.bound:>8.2f} {row.fifo:>7.3f} {row.playbook:>9.3f}"
            f" {row.lookahead:>10.3f} {row.seconds:>9.2f}"
        )


if __name__ == "__main__":
    main()
