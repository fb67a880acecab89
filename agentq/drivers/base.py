"""The port to whatever writes code: one agent, one spec's stage, one workspace."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from agentq.core.finding import Finding

Ending = Literal["done", "failed", "timeout", "silent", "stopped", "missing", "output-limit"]


@dataclass(frozen=True, slots=True)
class AgentTask:
    """What an agent is asked to do.

    run_id: the agent's processes carry it as AGENTQ_RUN; unique among live runs. env: added to the allowed
    variables. transcript: file that takes stdout and stderr. timeout, silence (0: unlimited): seconds.
    """

    spec_id: str
    stage: str
    run_id: str
    workspace: Path
    prompt_file: Path
    transcript: Path
    env: Mapping[str, str]
    model: str
    timeout: float
    silence: float


@dataclass(frozen=True, slots=True)
class AgentResult:
    """How an agent ended. `done` says it exited with 0, not that the work is right.

    summary: last line of the transcript, safe to show; why, if there is none. leftovers: processes killed
    beside the agent. tokens, cost (US dollars): 0 when the driver cannot tell.
    """

    outcome: Ending
    summary: str
    returncode: int | None
    seconds: float
    leftovers: int
    tokens: int = 0
    cost: float = 0.0


class Driver(Protocol):
    """Starts agents. When `run` is over, none of the agent's processes is left."""

    @property
    def name(self) -> str: ...

    def doctor(self) -> list[Finding]:
        """Whether an agent could be started here."""
        ...

    def run(self, task: AgentTask, *, stop: Callable[[], str | None], tick: Callable[[], None]) -> AgentResult:
        """Blocks until the agent ended. `stop`, `tick`: called often; a reason from `stop` ends the agent."""
        ...
