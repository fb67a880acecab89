"""What Claude Code says (`--output-format stream-json`), understood: events, and how a run ended.

Every answer of the model comes twice: as it grows (`stream_event`, where its tokens are exact
at the end) and in pieces (`assistant`, one for each block, whose output tokens are a guess). Only a `result` says
that it ended by itself; an API error has `subtype: "success"`, `is_error: true`, and an interrupt gives status 0
and no result.
Invariant: nothing it says raises here; what is not understood counts for nothing.
"""

import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

from agentq import process
from agentq.core.text import clean, one_line
from agentq.core.usage import Usage
from agentq.drivers.base import (
    AgentResult,
    AgentTask,
    Began,
    Cause,
    Event,
    Retried,
    Said,
    UsedTokens,
    UsedTool,
    Window,
)
from agentq.drivers.runner import ended

SESSION = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SYNTHETIC = "<synthetic>"  # the model of messages that claude itself wrote: what went wrong
_SHOWN = 200  # characters of a tool's argument, of a reason
_SUMMARY = 2000  # characters
_MOST_DENIED = 20
_EPOCH = re.compile(r"\|(\d{9,11})\b")  # "Claude AI usage limit reached|1760000000"
_LIMIT = re.compile(r"(?:usage|session|weekly|\d-hour|hourly|daily) limit|hit your [\w ]*limit", re.IGNORECASE)
_DETAILS = ("command", "file_path", "notebook_path", "path", "pattern", "url", "query", "description", "skill")


@dataclass(slots=True)
class Answer:
    """An answer of the model that is on its way."""

    id: str
    model: str
    usage: Usage


@dataclass(slots=True)
class Heard:
    """What was heard so far. awaits: whether the model has the next word. error: claude's own name for what went
    wrong. counted: ids of the answers that are in `usage`."""

    session: str = ""
    usage: Usage = field(default_factory=Usage)
    counted: set[str] = field(default_factory=set)
    growing: dict[str, Answer] = field(default_factory=dict)
    windows: dict[str, Window] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    awaits: bool = False
    error: str = ""
    status: int = 0


class ClaudeReader:
    """Understands one run."""

    def __init__(self, task: AgentTask) -> None:
        self._task, self.heard = task, Heard()

    def feed(self, line: str) -> list[Event]:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            return []
        if not isinstance(event, dict):
            return []
        understand = {
            "system": self._system,
            "stream_event": self._growing,
            "assistant": self._assistant,
            "user": self._user,
            "rate_limit_event": self._window,
            "result": self._result,
        }.get(_text(event.get("type")))
        return understand(event) if understand else []

    def verdict(self, outcome: process.Outcome, errors: str) -> AgentResult:
        heard, result = self.heard, self.heard.result or {}
        usage, cost = self._spent(result)
        told = replace(
            ended(outcome), usage=usage, cost=cost, turns=len(heard.counted), session=heard.session,
            denied=_denied(result), windows=tuple(heard.windows.values()), status=heard.status,
            summary=_summary(outcome, result, errors),
        )  # fmt: skip
        if outcome.kind != "exited":
            return replace(told, cause=self._unanswered(outcome.kind), status=0)
        subtype = _text(result.get("subtype"))
        if subtype == "error_max_turns":
            return replace(told, outcome="limit", cause="turns")
        if subtype == "error_max_budget_usd":
            return replace(told, outcome="limit", cause="budget")
        if heard.result is None or result.get("is_error") is not False:
            cause = self._cause(result)
            resets = self._resets(result) if cause == "usage-limit" else 0
            return replace(told, outcome="failed", cause=cause, resets_at=resets)
        if not heard.counted:
            # A text that claude takes for a command of its own (`/x`) ends well and asks no model.
            return replace(told, outcome="failed", summary=told.summary or "it asked its model nothing")
        return told

    # ------------------------------------------------------------ events

    def _system(self, event: dict[str, Any]) -> list[Event]:
        subtype = event.get("subtype")
        if subtype == "init":
            self.heard.session, self.heard.awaits = _text(event.get("session_id")), True
            return [Began(self.heard.session, _text(event.get("model")), _text(event.get("claude_code_version")))]
        if subtype == "api_retry":
            self.heard.status = _int(event.get("error_status"))
            delay = _number(event.get("retry_delay_ms")) / 1000
            message = _text(event.get("error"))
            return [Retried(self.heard.status, _int(event.get("attempt")) or 1, delay, message)]
        return []

    def _growing(self, event: dict[str, Any]) -> list[Event]:
        """An answer as it grows. Those of helpers that claude starts have a parent."""
        growing, parent, step = (
            self.heard.growing,
            _text(event.get("parent_tool_use_id")),
            _map(event.get("event")),
        )
        kind = step.get("type")
        if kind == "message_start":
            message = _map(step.get("message"))
            model, usage = _text(message.get("model")), _usage(message.get("usage"), Usage())
            growing[parent] = Answer(_text(message.get("id")), model, usage)
        elif kind == "message_delta" and parent in growing:
            growing[parent].usage = _usage(step.get("usage"), growing[parent].usage)
        elif kind == "message_stop" and parent in growing:
            answer = growing.pop(parent)
            self.heard.awaits = False
            return self._count(answer)
        return []

    def _assistant(self, event: dict[str, Any]) -> list[Event]:
        message, heard = _map(event.get("message")), self.heard
        if message.get("model") == _SYNTHETIC:
            heard.error = _text(event.get("error"))
            return []
        events: list[Event] = []
        for block in _maps(message.get("content")):
            if block.get("type") == "text" and _text(block.get("text")).strip():
                events.append(Said(_text(block["text"])))
            elif block.get("type") == "tool_use":
                events.append(UsedTool(_text(block.get("name")), _detail(_map(block.get("input")))))
        name = _text(message.get("id"))
        if name not in {answer.id for answer in heard.growing.values()}:
            answer = Answer(name, _text(message.get("model")), _usage(message.get("usage"), Usage()))
            events += self._count(answer)
        return events

    def _count(self, answer: Answer) -> list[Event]:
        """Its tokens, the first time it is complete."""
        if answer.id in self.heard.counted:
            return []
        self.heard.counted.add(answer.id)
        self.heard.usage += answer.usage
        self.heard.status = 0
        return [UsedTokens(answer.usage, answer.model)]

    def _user(self, _event: dict[str, Any]) -> list[Event]:
        self.heard.awaits = True
        return []

    def _window(self, event: dict[str, Any]) -> list[Event]:
        info = _map(event.get("rate_limit_info"))
        named = {name: _map(each) for name, each in _map(info.get("unifiedWindows")).items()}
        if not named and info.get("rateLimitType"):
            named = {_text(info["rateLimitType"]): info}
        found = [window for name, each in named.items() if (window := _window_of(name, each))]
        self.heard.windows |= {window.name: window for window in found}
        return list(found)

    def _result(self, event: dict[str, Any]) -> list[Event]:
        self.heard.result, self.heard.awaits = event, False
        self.heard.session = self.heard.session or _text(event.get("session_id"))
        self.heard.status = _int(event.get("api_error_status")) or self.heard.status
        return []

    # ------------------------------------------------------------ the end

    def _spent(self, result: dict[str, Any]) -> tuple[Usage, float | None]:
        """What this run used and cost. What claude reports holds helpers and compactions too, and in some versions
        (2.1.330, not 2.1.197) the whole conversation since its first run: then what was before comes off."""
        seen = sum((answer.usage for answer in self.heard.growing.values()), self.heard.usage)
        reported = Usage()
        for used in _map(result.get("modelUsage")).values():
            reported += _reported(_map(used))
        cost = _number(result["total_cost_usd"]) if "total_cost_usd" in result else None
        before = self._task.before
        if self._task.session and reported.total >= before.usage.total + seen.total:
            reported, cost = reported - before.usage, None if cost is None else max(0.0, cost - (before.cost or 0))
        return (reported if reported.total >= seen.total else seen), cost

    def _unanswered(self, kind: str) -> Cause:
        """`network` when it was the model's turn to speak, and it did not."""
        never = not self.heard.counted
        return "network" if self.heard.awaits and (kind == "silent" or (kind == "timeout" and never)) else ""

    def _cause(self, result: dict[str, Any]) -> Cause:
        """Why the model did not answer, '' when that was not it."""
        status, error, text = self.heard.status, self.heard.error, _said(result).lower()
        if status == 402 or error == "billing_error" or "credit balance" in text:
            return "billing"
        if status in (401, 403) or error == "authentication_failed":
            return "auth"
        if status == 429 or error == "rate_limit":
            return "usage-limit" if self._resets(result) or _LIMIT.search(text) else "rate-limit"
        if status == 413 or result.get("terminal_reason") == "prompt_too_long" or "prompt is too long" in text:
            return "context"
        if status >= 500:
            return "overloaded"
        if status == 408 or (not status and error == "server_error"):
            return "network"
        return "request" if status else ""

    def _resets(self, result: dict[str, Any]) -> float:
        """When the limit that stopped it ends, 0 if it does not say."""
        times = [window.resets_at for window in self.heard.windows.values() if window.status == "rejected"]
        times += [float(match[1]) for match in _EPOCH.finditer(_said(result))]
        return max(times, default=0)


# ---------------------------------------------------------------- parts


def _window_of(name: str, said: dict[str, Any]) -> Window | None:
    """None where it says neither how much is used nor that it is used up: that is no news about the window."""
    status = _text(said.get("status"))
    if status != "rejected" and not isinstance(said.get("utilization"), int | float):
        return None
    used = 1.0 if status == "rejected" else _number(said.get("utilization"))
    return Window(name, used, _number(said.get("resetsAt")), status)


def _usage(said: object, before: Usage) -> Usage:
    """Tokens of an answer; what it does not name stays as it was before."""
    words = _map(said)
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    kept = (before.input, before.output, before.cache_read, before.cache_write)
    return Usage(*(_int(words[name]) if name in words else old for name, old in zip(names, kept, strict=True)))


def _reported(used: dict[str, Any]) -> Usage:
    names = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")
    return Usage(*(_int(used.get(name)) for name in names))


def _detail(arguments: dict[str, Any]) -> str:
    """A line about a call: its telling argument."""
    told = next((_text(arguments[name]) for name in _DETAILS if arguments.get(name)), "")
    lines = [line for line in told.splitlines() if line.strip()]
    return one_line(lines[0], _SHOWN) + (" …" if len(lines) > 1 else "") if lines else ""


def _denied(result: dict[str, Any]) -> tuple[str, ...]:
    found = [
        f"{_text(each.get('tool_name'))} {_detail(_map(each.get('tool_input')))}".strip()
        for each in _maps(result.get("permission_denials"))
    ]
    return tuple(dict.fromkeys(found))[:_MOST_DENIED]


def _said(result: dict[str, Any]) -> str:
    """Its last words, or its list of errors."""
    errors = result.get("errors")
    return _text(result.get("result")) or "; ".join(map(_text, errors if isinstance(errors, list) else []))


def _summary(outcome: process.Outcome, result: dict[str, Any], errors: str) -> str:
    if outcome.kind != "exited":
        return outcome.reason
    told = _said(result).strip() or one_line(errors, _SHOWN)
    return told[:_SUMMARY] or (f"it ended without a result (status {outcome.returncode})" if not result else "")


def _map(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _maps(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _number(value: object) -> float:
    """A finite number that is not negative, else 0."""
    ok = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15
    return float(value) if ok else 0.0  # type: ignore[arg-type]


def _int(value: object) -> int:
    return int(_number(value))
