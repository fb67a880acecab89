"""The built-in agent (mission rows S1, S2): acts on this host, thinks at any server that speaks the Messages API.

It is a process of its own, `python -m agentq.agent`, whose format stands in `agentq/agent/__main__.py` and whose
job in `agentq/agent/job.py`; its tools run in the sandbox, it itself does not. A conversation's id is the path of
its trajectory, which lies beside the transcript.
"""

import importlib.metadata
import importlib.util
import json
import os
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

from agentq import process
from agentq.core.finding import Finding
from agentq.core.text import clean, one_line
from agentq.core.usage import Price, Usage
from agentq.drivers.base import (
    AgentResult,
    AgentTask,
    Began,
    Brain,
    Cause,
    Ending,
    Event,
    Retried,
    Said,
    UsedTokens,
    UsedTool,
    Window,
)
from agentq.drivers.runner import ended
from agentq.errors import DriverError
from agentq.sandbox import Use

KEY, SECRETS = "AGENTQ_AGENT_KEY", "AGENTQ_AGENT_SECRETS"
_CAUSES: Mapping[str, Cause] = {one: one for one in get_args(Cause)}
_OUTCOMES: Mapping[str, Ending] = {one: one for one in get_args(Ending)}


def _free(_brain: Brain) -> Price:
    return Price()


@dataclass(frozen=True)
class Builtin:
    """The dialect. price: what a brain costs; without one a limit in dollars cannot hold. sandbox, writable,
    readable: for its tools, as in `agentq.sandbox`. options: further fields of the job, such as `retries`."""

    price: Callable[[Brain], Price] = _free
    sandbox: Use = "auto"
    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    name = "builtin"
    program = sys.executable
    confines = True
    gated = True
    folders = ()

    def command(self, task: AgentTask, program: str) -> list[str]:
        """Writes the job beside the transcript. Raises DriverError for a brain it cannot use."""
        if task.brain.protocol not in ("", "anthropic"):
            raise DriverError(
                f"the built-in agent cannot think on a server that speaks '{task.brain.protocol}'",
                'give the tier another driver, or a bucket with protocol = "anthropic"',
            )
        if not task.brain.model:
            raise DriverError("the built-in agent has no model", "set [agent] model, or route to a tier")
        name = f"{task.transcript.stem}-{uuid.uuid4().hex[:8]}"
        job = task.transcript.absolute().with_name(f"{name}.job")
        job.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._job(task, job.with_suffix(".trajectory")), indent=1)
        fd = os.open(job, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        # It starts in the workspace: nothing there, and no PYTHONPATH that names it, may say what is imported.
        return [program, "-E", "-P", "-m", "agentq.agent", str(job)]

    def _job(self, task: AgentTask, trajectory: Path) -> dict[str, Any]:
        limits = task.limits
        return {
            "spec": task.spec_id, "stage": task.stage, "model": task.brain.model, "base_url": task.brain.base_url,
            "prompt": str(task.prompt_file.absolute()), "workspace": str(task.workspace.absolute()),
            "trajectory": str(trajectory), "session": task.session, "keep": task.keep, "network": task.network,
            "writable": [str(path) for path in (*task.writable, *self.writable)],
            "readable": [str(path) for path in self.readable],
            "hidden": [str(path) for path in self.hidden], "reach": [list(place) for place in task.reach],
            "sandbox": self.sandbox, "window": task.brain.window, "context_budget": task.context_budget,
            "seconds": limits.timeout, "turns": limits.turns, "tokens": limits.tokens, "cost": limits.cost,
            "price": asdict(self.price(task.brain)), "account": task.account, **self.options,
        }  # fmt: skip

    def env(self, task: AgentTask) -> dict[str, str]:
        secrets = {SECRETS: json.dumps(task.secrets)} if task.secrets else {}
        return {**secrets, **({KEY: task.brain.key} if task.brain.key else {})}

    def reader(self, task: AgentTask) -> "BuiltinReader":  # noqa: ARG002
        return BuiltinReader()

    def doctor(self, version: str) -> list[Finding]:
        if importlib.util.find_spec("anthropic") is None:
            return [Finding(False, "the package anthropic is not installed", "pip install agentq-trunk anew")]
        return [
            Finding(True, f"anthropic {importlib.metadata.version('anthropic')} talks to the model ({version})")
        ]

    def attach(self, session: str) -> list[str]:  # noqa: ARG002
        return []


class BuiltinReader:
    """Reads one run. Lines of any other form are passed over."""

    def __init__(self) -> None:
        self._session = ""
        self._result: AgentResult | None = None
        self._windows: dict[str, Window] = {}

    def feed(self, line: str) -> list[Event]:
        try:
            told = json.loads(line)
            return self._events(told) if isinstance(told, dict) else []
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return []

    def _events(self, told: dict[str, Any]) -> list[Event]:
        kind = told.get("event")
        if kind == "began":
            self._session = str(told["session"])
            return [Began(self._session, clean(str(told["model"])), clean(str(told["version"])))]
        if kind == "said":
            return [Said(clean(str(told["text"])))]
        if kind == "tool":
            return [UsedTool(one_line(str(told["name"])), one_line(str(told["detail"])))]
        if kind == "answer":
            return [UsedTokens(_usage(told["usage"]), clean(str(told["model"])))]
        if kind == "retry":
            message = one_line(str(told["message"]), 500)
            return [Retried(int(told["status"]), int(told["attempt"]), float(told["delay"]), message)]
        if kind == "compacted":
            return [
                Said(f"(context compacted: it held {int(told['tokens']):,} of {int(told['window']):,} tokens)")
            ]
        if kind == "window":
            window = Window(
                one_line(str(told["name"])), float(told["utilization"]), float(told["resets_at"]),
                one_line(str(told["status"])),
            )  # fmt: skip
            self._windows[window.name] = window
            return [window]
        if kind == "result":
            self._result = _result(told)
        return []

    def verdict(self, outcome: process.Outcome, errors: str) -> AgentResult:
        """The process alone tells when it was ended from outside; else both have to say the same."""
        found = replace(ended(outcome), session=self._session, windows=tuple(self._windows.values()))
        told = self._result
        if told is None:
            why = found.summary or one_line(errors, 500) or "the agent ended without a result"
            return replace(found, outcome="failed" if found.outcome == "done" else found.outcome, summary=why)
        found = replace(
            found, usage=told.usage, cost=told.cost, turns=told.turns, denied=told.denied, status=told.status,
            resets_at=told.resets_at,
        )  # fmt: skip
        if outcome.kind != "exited":
            return replace(found, summary=outcome.reason)
        ending = "failed" if told.outcome == "done" and outcome.returncode else told.outcome
        return replace(found, outcome=ending, cause=told.cause, summary=told.summary)


def _result(told: Mapping[str, Any]) -> AgentResult:
    """The event `result`. ValueError and the like for values that are none of its."""
    cost = told.get("cost")
    return AgentResult(
        outcome=_OUTCOMES.get(told["outcome"], "failed"), summary=clean(str(told.get("summary", ""))),
        returncode=None, seconds=0.0, leftovers=0, cause=_CAUSES.get(told.get("cause", ""), ""),
        usage=_usage(told["usage"]), cost=float(cost) if cost is not None else None,
        turns=int(told.get("turns", 0)), denied=tuple(one_line(str(one)) for one in told.get("denied", ())),
        status=int(told.get("status", 0)), resets_at=float(told.get("resets_at", 0)),
    )  # fmt: skip


def _usage(told: Mapping[str, Any]) -> Usage:
    return Usage(**{one.name: max(0, int(told.get(one.name) or 0)) for one in fields(Usage)})
