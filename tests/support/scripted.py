"""A driver whose agent does the project's scripts, and whose model does what a test says."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from agentq.core.finding import Finding
from agentq.core.usage import Usage
from agentq.drivers.base import AgentResult, AgentTask, Event, UsedTokens, ignore


@dataclass
class Turn:
    """One run of the agent: what it says, then whether its scripts run, then how it ends. patient: it goes on until
    somebody stops it."""

    events: list[Event] = field(default_factory=list)
    works: bool = True
    patient: bool = False
    ends: dict[str, Any] = field(default_factory=dict)


TURNS: list[Turn] = []
TASKS: list[AgentTask] = []


def used(tokens: int, model: str = "m") -> UsedTokens:
    return UsedTokens(Usage(input=tokens), model)


class Scripted:
    """Takes its turns from TURNS; an ordinary one when there is none. Its tasks are kept in TASKS."""

    name = "scripted"
    gated = False

    def doctor(self) -> list[Finding]:
        return [Finding(True, "scripted")]

    def attach(self, session: str) -> list[str]:
        return ["scripted", "--resume", session]

    def run(
        self,
        task: AgentTask,
        *,
        stop: Callable[[], str | None],
        tick: Callable[[], None],
        hear: Callable[[Event], None] = ignore,
    ) -> AgentResult:
        TASKS.append(task)
        turn = TURNS.pop(0) if TURNS else Turn()
        if turn.works:
            scripts = (
                next(parent for parent in task.workspace.parents if (parent / "scripts").is_dir()) / "scripts"
            )
            subprocess.run(
                [sys.executable, str(scripts / "agent.py"), str(task.prompt_file), str(scripts)],
                cwd=task.workspace, env={**os.environ, **task.env}, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        result, total = AgentResult("done", "fine", 0, 0.1, 0), Usage()
        for event in turn.events:
            hear(event)
            if isinstance(event, UsedTokens):
                total = total + event.usage
            if why := stop():
                return replace(result, outcome="stopped", summary=why, usage=total)
            tick()
        while turn.patient:
            if why := stop():
                return replace(result, outcome="stopped", summary=why, usage=total)
        return replace(result, usage=total, **turn.ends)


class Other(Scripted):
    """Another agent, of another bucket's tiers."""

    name = "other"
