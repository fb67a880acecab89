"""Ask the scheduler about the queue as it is now, for this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentq.config import Config
from agentq.core import schedule
from agentq.core.board import Board
from agentq.core.lifecycle import NEXT_STAGE, Stage
from agentq.core.schedule import Advice, Candidate, Host, Plan
from agentq.store import files
from agentq.store.runs import Runs

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Situation:
    """What a decision is made from: it is handed to the pure scheduler as it is."""

    board: Board
    host: Host
    additive: tuple[str, ...]
    plan: Plan | None = None

    def advice(self) -> Advice:
        return schedule.recommend(self.board, self.host, self.additive, self.plan)

    def batch(self, count: int) -> list[Candidate]:
        return schedule.batch(self.board, self.host, count, self.additive, self.plan)

    def advice_for(self, stage: Stage) -> Advice:
        """Only specs whose next stage is `stage` (mission row T2)."""
        advice = self.advice()
        fitting = tuple(one for one in advice.ranked if NEXT_STAGE[one.resumes or "ready"] == stage)
        return Advice(fitting, advice.held, advice.blocked)


def situation(
    board: Board, config: Config, runs: Runs, free_gb: float, monotonic: Callable[[], float]
) -> Situation:
    """Board, host and, under the lookahead policy, a plan."""
    machine = config.machine
    host = Host(machine.name, machine.instances, frozenset(runs.live()), free_gb, machine.agent_gb)
    plan = _plan(board, config, runs, monotonic) if config.schedule.policy == "lookahead" else None
    return Situation(board, host, config.overlap.additive, plan)


def _plan(board: Board, config: Config, runs: Runs, monotonic: Callable[[], float]) -> Plan:
    """A simulated order; the last one found is where the search begins, so that it never gets worse."""
    from agentq.core import lookahead

    seconds = config.schedule.lookahead_seconds
    path = runs.state / PLAN_FILE
    known: Any = files.read_json(path)
    incumbent: Sequence[str] = known if isinstance(known, list) and all(isinstance(i, str) for i in known) else ()
    deadline = monotonic() + 4 * seconds
    plan = lookahead.plan(
        board, config.machine.instances, config.overlap.additive,
        effort=int(seconds * lookahead.EFFORT_PER_SECOND), incumbent=incumbent,
        out_of_time=lambda: monotonic() > deadline,
    )  # fmt: skip
    files.write_json(path, sorted(plan.rank, key=plan.rank.__getitem__))
    return plan
