"""How a stage or a run ends, as values. A failure that people meet every day is not an exception."""

from dataclasses import dataclass
from typing import Literal

from agentq.core.lifecycle import Stage

# What a person must see to when it is not about the work: an exit code of its own each.
Why = Literal["", "budget", "credentials", "models"]


@dataclass(frozen=True)
class Proved:
    """The stage's proof holds. `notes` are worth showing but stop nothing."""

    notes: tuple[str, ...] = ()
    tokens: int = 0
    cost: float = 0.0
    landed: str = ""


@dataclass(frozen=True)
class Failed:
    """The stage's proof does not hold. `attention`: what a person must decide at once, or '' when another
    attempt may help. `charged`: the queue counts this failure already. `unready`: nothing was tested,
    since what comes before the tests failed. `why`: what else than the work is at fault."""

    problem: str
    hint: str = ""
    attention: str = ""
    charged: bool = False
    unready: bool = False
    tokens: int = 0
    cost: float = 0.0
    why: Why = ""


@dataclass(frozen=True)
class Interrupted:
    """Somebody asked to stop, or no model may be asked; the work is saved and the stage may begin again. tokens,
    cost: what the attempt took all the same."""

    reason: str
    hint: str = ""
    tokens: int = 0
    cost: float = 0.0
    why: Why = ""


StageOutcome = Proved | Failed | Interrupted


@dataclass(frozen=True)
class RunReport:
    """How far a run came. `ended`: landed, stopped (after the stage asked for), failed, attention,
    declined (a person said no to the push) or interrupted."""

    spec: str
    ended: Literal["landed", "stopped", "failed", "attention", "declined", "interrupted"]
    stage: Stage
    problem: str = ""
    hint: str = ""
    landed: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    why: Why = ""
