"""The port to whatever writes code: one agent, one spec's stage, one workspace.

A driver starts an agent, passes on what it says as events, ends it when asked, and judges how it ended. All
drivers give the same events and the same result, whatever their agent's own format.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from agentq.core.finding import Finding
from agentq.core.usage import Usage

# How the process ended, and `limit`: the agent ended because a limit that it was given is reached.
Ending = Literal["done", "failed", "limit", "timeout", "silent", "stopped", "missing", "output-limit"]
# Why an agent did not end well, where that is not about the work itself:
# rate-limit (429), overloaded (529, 5xx), network (not reached, timed out): a breaker counts them;
# auth (401, 403), billing (402), usage-limit (a window of a plan is used up): the bucket sleeps;
# request (400: the request itself is wrong), context (it no longer fits), turns, budget: count for nothing.
Cause = Literal[
    "", "rate-limit", "overloaded", "network", "auth", "billing", "usage-limit", "request", "context", "turns",
    "budget",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Brain:
    """Where an agent thinks. Empty: the agent's own login and default.

    protocol: what the server speaks: `anthropic`, `openai` or `gemini`. key: a secret; it is never printed.
    window: tokens of context the model takes; 0: unknown. price is not known here: the ledger has it.
    """

    model: str = ""
    protocol: str = ""
    base_url: str = ""
    key: str = field(default="", repr=False)
    window: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """When an agent has to end. timeout, silence (0: unlimited): seconds. turns, tokens, cost (US dollars): 0 is
    unlimited. An agent that has no such limit of its own is ended when its events say that one is passed."""

    timeout: float
    silence: float = 0
    turns: int = 0
    tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What a conversation used so far. cost: US dollars as the agent says, None when it says nothing."""

    usage: Usage = field(default_factory=Usage)
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class AgentTask:
    """What an agent is asked to do.

    run_id: the agent's processes carry it as AGENTQ_RUN; unique among live runs. env: added to the allowed
    variables. transcript: file that people read; what the agent itself wrote stands beside it (`.ndjson`,
    `.err`). session: the agent's own id of a conversation to go on with, '' for a new one; before: what that
    conversation had used and cost when it was left. context_budget: tokens of context that the spec's author
    expects, 0: not said. keep: what a compaction must not lose (mission row T15). network: whether the agent's
    tools may use the network. secrets: values that must not be written anywhere.
    writable: what the agent may write beside its workspace. reach: (host, port) of its database branch, which
    tools may reach without the network. account: for an agent that asks before each request (`Driver.gated`),
    else ''.
    """

    spec_id: str
    stage: str
    run_id: str
    workspace: Path
    prompt_file: Path
    transcript: Path
    env: Mapping[str, str]
    limits: Limits
    brain: Brain = field(default_factory=Brain)
    session: str = ""
    before: Spent = field(default_factory=Spent)
    context_budget: int = 0
    keep: str = ""
    network: bool = False
    secrets: tuple[str, ...] = field(default=(), repr=False)
    writable: tuple[Path, ...] = ()
    reach: tuple[tuple[str, int], ...] = ()
    account: str = ""


# ---------------------------------------------------------------- events: what an agent does, as it does it


@dataclass(frozen=True, slots=True)
class Said:
    """The agent said something to people. Cleaned."""

    text: str


@dataclass(frozen=True, slots=True)
class UsedTool:
    """The agent called a tool; `detail` is a line about it. Cleaned."""

    name: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class UsedTokens:
    """One answer of the model is complete."""

    usage: Usage
    model: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """What the provider says about one window of a plan: `five_hour`, `seven_day` or another name. utilization:
    0 to 1. resets_at: seconds since 1970, 0: unknown. status: allowed, allowed_warning, rejected, or ''."""

    name: str
    utilization: float
    resets_at: float = 0
    status: str = ""


@dataclass(frozen=True, slots=True)
class Retried:
    """The agent asks its model again. status: HTTP status, 0: no answer. delay: seconds it waits."""

    status: int
    attempt: int = 1
    delay: float = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Began:
    """The agent's own id of the conversation, which `AgentTask.session` takes; its model and version."""

    session: str
    model: str = ""
    version: str = ""


Event = Said | UsedTool | UsedTokens | Window | Retried | Began


# ---------------------------------------------------------------- the end


@dataclass(frozen=True, slots=True)
class AgentResult:
    """How an agent ended. `done` says it ended as an agent ends that is content, not that the work is right.

    summary: its last words, safe to show; why, if there are none. leftovers: processes killed beside the agent.
    usage, cost: of this run alone, 0 and None when the agent does not tell. turns: answers of the model.
    denied: tools it was refused. resets_at: when a usage limit ends, seconds since 1970; 0: unknown.
    status: the HTTP status of the model's server that ended it, 0: none.
    """

    outcome: Ending
    summary: str
    returncode: int | None
    seconds: float
    leftovers: int
    cause: Cause = ""
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    turns: int = 0
    session: str = ""
    denied: tuple[str, ...] = ()
    resets_at: float = 0
    status: int = 0
    windows: tuple[Window, ...] = ()

    @property
    def tokens(self) -> int:
        return self.usage.total


def ignore(_event: Event) -> None:
    """The listener of those who do not listen."""


class Driver(Protocol):
    """Starts agents. When `run` is over, none of the agent's processes is left."""

    @property
    def name(self) -> str: ...

    @property
    def gated(self) -> bool:
        """Whether its agent asks `AgentTask.account` before each request, and charges it itself."""
        ...

    def doctor(self) -> list[Finding]:
        """Whether an agent could be started here: installed, logged in, at which version."""
        ...

    def run(
        self,
        task: AgentTask,
        *,
        stop: Callable[[], str | None],
        tick: Callable[[], None],
        hear: Callable[[Event], None] = ignore,
    ) -> AgentResult:
        """Start the agent, pass on its events, return when it ended. `stop`, `tick`: called often; a reason from
        `stop` ends the agent. `hear` may stop it too, by what `stop` says next."""
        ...

    def attach(self, session: str) -> list[str]:
        """The command line with which a person goes on with a conversation; [] where the agent cannot."""
        ...
