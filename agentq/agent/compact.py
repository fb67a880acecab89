"""Compaction at 60 % of the model's window (mission row T15): the conversation becomes its task, what the harness
knows, and a summary the model writes in a fixed form.

Invariant: it happens between two steps, so no call is torn from its results, and the new conversation is one
message."""

from collections.abc import Sequence
from pathlib import Path

from agentq.agent import talk
from agentq.agent.memory import Memory
from agentq.agent.talk import Message
from agentq.agent.tools import MAX_RESULT, MIN_RESULT, shorten
from agentq.core.usage import Usage

FULL = 0.6  # of the window
MIN_MESSAGES = 4  # fewer than these hold nothing to summarise
RESULT = 0.1  # of the window, for one tool's result
ROOM = 0.15  # of the window, for what the harness knows, and again for the summary
SHRUNK = 0.4  # of the window, for a conversation that was too long for the server

ASK = """Your context window is getting full. Write down what you need to go on; what you do not write is lost. \
Do not call tools. Use exactly this form, with short lines:

## Done
## Decisions
- each decision you made, with its reason
## Tests
which pass, which fail, and why
## Files
which you changed or still have to change
## Next steps"""

_GO_ON = """{task}

# So far

Your context was compacted ({count} so far). The work goes on where it stopped; nothing has to be repeated.

## What is known for sure (kept by the program that runs you)

{facts}

## Your own summary

{summary}"""


class Compaction:
    """When to compact, and what stays.

    window: tokens the model takes. budget: tokens of context the spec's author expects, 0: not said; more than
    that is compacted early. A budget so small that the task alone nearly fills it would compact without end, so
    what follows a compaction must at least have doubled."""

    def __init__(self, window: int, budget: int = 0) -> None:
        self.window, self._budget = window, budget
        self._fill = 0
        self._floor = 0

    @property
    def result_size(self) -> int:
        """Characters that one tool may answer."""
        return min(MAX_RESULT, max(MIN_RESULT, int(RESULT * self.window * talk.CHARACTERS)))

    @property
    def fill(self) -> int:
        """Tokens of the conversation, as far as known."""
        return self._fill

    def answered(self, usage: Usage, messages: Sequence[Message]) -> None:
        """The last answer tells how full it is (agents fact, "anthropic SDK"); a server that counts nothing does
        not, so it is estimated."""
        self._fill = usage.total or talk.size(messages)
        self._floor = self._floor or self._fill

    def added(self, tokens: int) -> None:
        """What was said since then, estimated."""
        self._fill += tokens

    def due(self, messages: Sequence[Message]) -> bool:
        if len(messages) < MIN_MESSAGES:
            return False
        early = 0 < self._budget <= self._fill and self._fill >= 2 * self._floor
        return self._fill >= FULL * self.window or early

    def shrunk(self, messages: Sequence[Message]) -> list[Message]:
        """A conversation that the server found too long, so short that it can be summarised."""
        return talk.shrunk(messages, int(SHRUNK * self.window))

    def done(self, task: str, memory: Memory, workspace: Path) -> list[Message]:
        """The new conversation, from `memory`, which has the summary."""
        most = int(ROOM * self.window * talk.CHARACTERS)
        told = _GO_ON.format(
            task=task, count=memory.compactions, facts=shorten(memory.facts(workspace), most),
            summary=shorten(memory.summary, most),
        )  # fmt: skip
        self._fill = self._floor = 0
        return [{"role": "user", "content": [talk.text(told)]}]


def spoken(messages: Sequence[Message], most: int = 4_000) -> str:
    """The model's last words in a conversation, for when it writes no summary."""
    said = [
        block["text"]
        for message in messages
        if message["role"] == "assistant"
        for block in talk.blocks(message, "text")
    ]
    return shorten("\n".join(said[-10:]), most) or "(none was written)"
