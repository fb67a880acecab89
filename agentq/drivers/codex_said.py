"""What codex says: its events on stdout, its own record of a session, and what its end means.

The record (`sessions/…/rollout-…-ID.jsonl`) is codex's own and may change: what is not understood is left out, and
stdout alone still gives a verdict.
"""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
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
from agentq.drivers.reading import count, entry, summary, table
from agentq.drivers.runner import Lines, ended

SESSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{7,63}")
_WINDOWS = {300: "five_hour", 10_080: "seven_day"}  # minutes -> name
_LOOKS = 50  # lines of stdout after which the record is not looked for any more
_RECONNECT = re.compile(r"Reconnecting\.\.\. (?:(\d+)/\d+|waiting for network) \((.*)\)", re.DOTALL)
_STATUS = re.compile(r'(?:unexpected|last) status:? (\d{3})|http_status_code": (\d{3})')
_AT = re.compile(r"try again at (?:([A-Z][a-z]{2}) (\d{1,2})(?:st|nd|rd|th), (\d{4}) )?(\d{1,2}):(\d{2})\s([AP])M")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_REJECTED = re.compile(r"error=(\w+) failed: [^\n]*?Rejected\(")
# The message and, after it, codex's own name for the error. The first that matches counts.
_CAUSES: tuple[tuple[str, Cause], ...] = (
    (r"quota exceeded|billing details|insufficient_quota", "billing"),
    (r"usage limit|usage_limit", "usage-limit"),
    (r"context window|context_window", "context"),
    (
        r"(unexpected|last) status:? 40[13]|http_status_code\": 40[13]|unauthorized|not logged in|log in again",
        "auth",
    ),
    (r"(unexpected|last) status:? 402|http_status_code\": 402", "billing"),
    (r"(unexpected|last) status:? 429|http_status_code\": 429|rate limit", "rate-limit"),
    (r"(unexpected|last) status:? 408|http_status_code\": 408", "network"),
    (r"(unexpected|last) status:? 5|http_status_code\": 5", "overloaded"),
    (r"(unexpected|last) status:? 4|http_status_code\": 4", "request"),
    (r"at capacity|high demand|overloaded|internal_server_error", "overloaded"),
    (r"stream disconnected|connection[ _]failed|error sending request|timed? ?out|disconnected", "network"),
    (r"missing environment variable|access token", "auth"),
    (r"^\{|invalid_prompt|bad_request|model_not_found", "request"),
)


class CodexReader:
    """One run. folder: codex's home."""

    def __init__(self, task: AgentTask, folder: Path) -> None:
        self._task, self._record = task, Record(folder, task.session)
        self._session, self._words, self._failure, self._known_as = task.session, "", "", ""
        self._finished = False
        self._sum: Usage | None = None
        self._seen, self._answers = Usage(), 0
        self._running: set[str] = set()
        self._windows: dict[str, Window] = {}

    def feed(self, line: str) -> list[Event]:
        heard = [*self._event(entry(line)), *self._along()]
        if self._sum is not None and not self._answers and not self._record.found:
            heard.append(self._used(self._sum - self._task.before.usage))
        return heard

    def _event(self, event: dict[str, Any]) -> Iterator[Event]:
        match event.get("type"):
            case "thread.started":
                self._session = str(event.get("thread_id", ""))
                yield Began(self._session, self._task.brain.model)
            case "item.started" | "item.updated" | "item.completed":
                yield from self._item(str(event["type"]), table(event.get("item")))
            case "turn.completed":
                self._finished, self._failure = True, ""
                self._sum = usage_of(table(event.get("usage")))
            case "turn.failed":
                self._failure = str(table(event.get("error")).get("message", "")) or "it failed"
            case "error":
                yield from self._error(str(event.get("message", "")))

    def _item(self, when: str, item: dict[str, Any]) -> Iterator[Event]:
        kind, name = str(item.get("type")), str(item.get("id", ""))
        if kind == "agent_message" and when == "item.completed":
            self._words = str(item.get("text", ""))
            yield Said(clean(self._words))
        elif kind in _TOOLS:
            first = name not in self._running
            (self._running.discard if when == "item.completed" else self._running.add)(name)
            if first and (when == "item.started" or kind == "web_search"):
                yield UsedTool(_TOOLS[kind], one_line(_detail(item), 200))

    def _error(self, message: str) -> Iterator[Event]:
        if again := _RECONNECT.fullmatch(message):
            yield Retried(status_of(again[2]), int(again[1] or 1), message=summary(again[2]))
        else:
            self._failure = message

    def _along(self) -> Iterator[Event]:
        """What the record has meanwhile."""
        for kind, payload in self._record.new(self._session):
            if kind == "token_usage_record":
                if (used := usage_of(table(payload.get("usage")))).total:
                    yield self._used(used)
            elif kind == "token_count":
                for window in windows_of(table(payload.get("rate_limits"))):
                    if self._windows.get(window.name) != window:
                        self._windows[window.name] = window
                        yield window
            elif error := table(payload.get("error")).get("codex_error_info"):
                self._known_as = json.dumps(error)

    def _used(self, used: Usage) -> UsedTokens:
        self._seen, self._answers = self._seen + used, self._answers + 1
        return UsedTokens(used, self._task.brain.model)

    def verdict(self, outcome: process.Outcome, errors: str) -> AgentResult:
        list(self._along())
        whole = replace(
            ended(outcome),
            usage=self._seen if self._sum is None else self._sum - self._task.before.usage,
            turns=self._answers,
            session=self._session,
            windows=tuple(self._windows.values()),
            denied=tuple(dict.fromkeys(_REJECTED.findall(errors))),
        )
        if outcome.kind == "exited":
            return self._exited(whole, errors)
        return replace(whole, cause="network") if self._unanswered(outcome.kind) else whole

    def _exited(self, whole: AgentResult, errors: str) -> AgentResult:
        if whole.returncode == 0 and self._finished and not self._failure:
            return replace(whole, outcome="done", summary=summary(self._words))
        if not self._failure:
            why = summary(errors) or summary(whole.summary) or "it ended in the middle"
            return replace(whole, outcome="failed", summary=why)
        told = f"{self._failure} {self._known_as}"
        cause = cause_of(told)
        words = summary(_inner(self._failure))
        until = self._resets(self._failure) if cause == "usage-limit" else 0.0
        return replace(
            whole, outcome="failed", cause=cause, summary=words, status=status_of(told), resets_at=until
        )

    def _resets(self, message: str) -> float:
        """The end of the window that is used up; else what the message says, to the minute."""
        used_up = [window.resets_at for window in self._windows.values() if window.utilization >= 1]
        return max(used_up, default=0.0) or again_at(message, time.time())

    def _unanswered(self, kind: str) -> bool:
        """Whether it was the model that did not answer: at all, or while no tool ran."""
        return (kind == "timeout" and not (self._answers or self._words or self._running)) or (
            kind == "silent" and not self._running
        )


_TOOLS = {
    "command_execution": "shell", "file_change": "edit", "mcp_tool_call": "mcp", "web_search": "web_search",
}  # fmt: skip


def _detail(item: dict[str, Any]) -> str:
    changes = item.get("changes")
    if isinstance(changes, list):
        return ", ".join(str(table(change).get("path", "")) for change in changes)
    return " ".join(str(item[key]) for key in ("command", "server", "tool", "query") if item.get(key))


class Record:
    """What codex writes down about one session, from now on. session: '' for one that does not exist yet."""

    def __init__(self, folder: Path, session: str) -> None:
        self._folder, self._looks = folder, 0
        path = self._find(session) if session else None
        self._lines = Lines(path) if path else None

    @property
    def found(self) -> bool:
        return self._lines is not None

    def new(self, session: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(kind, payload) of what is new and of use here."""
        if self._lines is None and session and self._looks < _LOOKS:
            self._looks += 1
            path = self._find(session)
            self._lines = _FromStart(path) if path else None
        for line in self._lines.new() if self._lines else []:
            if any(f'"{kind}"' in line[:250] for kind in ("token_usage_record", "token_count", "task_complete")):
                told = entry(line)
                payload = table(told.get("payload"))
                yield str(told.get("type") if told.get("type") != "event_msg" else payload.get("type")), payload

    def _find(self, session: str) -> Path | None:
        if not SESSION.fullmatch(session):
            return None
        return next((self._folder / "sessions").glob(f"*/*/*/rollout-*-{session}.jsonl"), None)


class _FromStart(Lines):
    """All lines of a file, those it has already too."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._offset = 0


# ---------------------------------------------------------------- values


def usage_of(told: dict[str, Any]) -> Usage:
    """Codex counts cached tokens in `input_tokens`, too."""
    read, written = count(told, "cached_input_tokens"), count(told, "cache_write_input_tokens")
    fresh = max(0, count(told, "input_tokens") - read - written)
    return Usage(fresh, count(told, "output_tokens"), read, written)


def windows_of(limits: dict[str, Any]) -> Iterator[Window]:
    for window in (table(limits.get("primary")), table(limits.get("secondary"))):
        used, minutes = window.get("used_percent"), count(window, "window_minutes")
        if isinstance(used, int | float) and minutes:
            name = _WINDOWS.get(minutes, f"{minutes}_minutes")
            yield Window(name, used / 100, count(window, "resets_at"), "rejected" if used >= 100 else "allowed")


def cause_of(told: str) -> Cause:
    return next((cause for pattern, cause in _CAUSES if re.search(pattern, told, re.IGNORECASE)), "")


def status_of(told: str) -> int:
    found = _STATUS.search(told)
    return int(found[1] or found[2]) if found else 0


def again_at(message: str, now: float) -> float:
    """When a usage limit ends, seconds since 1970; 0 when the message does not say. It tells local time to the
    minute, and the day only if it is not today."""
    found = _AT.search(message)
    if not found or (found[1] and found[1] not in _MONTHS):
        return 0.0
    today = time.localtime(now)
    year, month, day = today.tm_year, today.tm_mon, today.tm_mday
    if found[1]:
        year, month, day = int(found[3]), _MONTHS.index(found[1]) + 1, int(found[2])
    hour = int(found[4]) % 12 + (12 if found[6] == "P" else 0)
    until = time.mktime((year, month, day, hour, int(found[5]) + 1, 0, 0, 0, -1))
    if not found[1] and until < now:
        until = time.mktime((year, month, day + 1, hour, int(found[5]) + 1, 0, 0, 0, -1))
    return until


def version(text: str) -> tuple[int, ...]:
    """`codex-cli 0.169.0` -> (0, 169, 0); () when there is none."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else ()


def _inner(message: str) -> str:
    """The sentence in an error that is JSON."""
    return str(table(entry(message).get("error")).get("message", "")) or message
