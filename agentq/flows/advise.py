"""Ask the scheduler about the queue as it is now, for this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentq.config import Config
from agentq.core import graph, schedule
from agentq.core.board import Board
from agentq.core.lifecycle import NEXT_STAGE, Stage
from agentq.core.schedule import Advice, Candidate, Host, Plan
from agentq.core.text import hours, plural
from agentq.store import files
from agentq.store.runs import Runs

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Situation:
    """What a decision is made from: it is handed to the pure scheduler as it is. `age`: seconds since the queue
    was seen where it lives, 0 for now."""

    board: Board
    host: Host
    additive: tuple[str, ...]
    plan: Plan | None = None
    age: float = 0.0

    def advice(self) -> Advice:
        return schedule.recommend(self.board, self.host, self.additive, self.plan)

    def beside(self, specs: set[str]) -> "Situation":
        """The same, with other processes of this host at work on `specs`."""
        return replace(self, host=replace(self.host, live=self.host.live | specs))

    def batch(self, count: int) -> list[Candidate]:
        """Up to `count` specs that can start together here: no more than instances and memory are free for."""
        room = self.host.instances - len(self.host.live)
        if self.host.needed_gb > 0:
            fitting = int(self.host.free_gb / self.host.needed_gb)
            room = min(room, fitting if self.host.live else max(fitting, 1))
        if min(count, room) < 1:
            return []
        return schedule.batch(self.board, self.host, min(count, room), self.additive, self.plan)

    def advice_for(self, stage: Stage) -> Advice:
        """Only specs whose next stage is `stage` (mission row T2)."""
        advice = self.advice()
        fitting = tuple(one for one in advice.ranked if NEXT_STAGE[one.resumes or "ready"] == stage)
        return Advice(fitting, advice.held, advice.blocked)

    def longest_hours(self) -> float:
        """Hours on the critical path of everything that is not completed."""
        nodes = [*self.board.in_progress, *self.board.ready]
        order, dependents = graph.topological(
            graph.indices([node.id for node in nodes], (node.depends_on for node in nodes))
        )
        return max(graph.downstream_hours(order, dependents, [node.hours for node in nodes]), default=0.0)

    def in_words(self) -> Callable[[Candidate], list[str]]:
        """What speaks for a candidate, in plain words, strongest first."""
        longest = self.longest_hours()
        return lambda one: _words(one, one.critical_hours > longest - 1e-9)


def _words(one: Candidate, critical: bool) -> list[str]:
    lines = []
    if one.resumes:
        lines.append(f"already begun here: {one.resumes}")
    if one.priority:
        lines.append(f"pinned with priority {one.priority}")
    if one.saves_hours is not None:
        saves = f" and saves {hours(one.saves_hours)}" if one.saves_hours > 0.05 else ""
        lines.append(f"the simulated plan starts it now{saves}")
    lines.append(f"unlocks {one.unblocks}" if one.unblocks else "unlocks nothing else")
    if critical:
        lines.append(f"on the critical path, {hours(one.critical_hours)} left")
    elif one.unblocks:
        lines.append(f"{hours(one.critical_hours)} of work hang on it")
    else:
        lines.append(f"about {hours(one.hours)}")
    shared = f", shares some with {plural(one.overlaps, 'other eligible spec')}" if one.overlaps else ""
    lines.append(f"touches no file in use{shared}")
    return lines


def situation(
    board: Board, config: Config, runs: Runs, free_gb: float, monotonic: Callable[[], float], age: float = 0.0
) -> Situation:
    """Board, host and, under the lookahead policy, a plan."""
    machine = config.machine
    host = Host(machine.name, machine.instances, frozenset(runs.live()), free_gb, machine.agent_gb)
    plan = _plan(board, config, runs, monotonic) if config.schedule.policy == "lookahead" else None
    return Situation(board, host, config.overlap.additive, plan, age)


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
