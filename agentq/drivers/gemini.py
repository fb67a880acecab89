"""Gemini CLI (`gemini -p`), tried with 0.61. It has no sandbox of its own that works here (it wants Docker).

A bucket's key needs a home of its own (GEMINI_CLI_HOME) with our settings: GOOGLE_GEMINI_BASE_URL alone is
"Invalid auth method selected". The workspace has to be trusted, or nothing is approved; then what a project
configures in `.gemini` is read, inside our sandbox. Its own scrubbing of the environment would take every URL with
a password, the database's too: bash takes the keys away from each of its commands instead (BASH_ENV). But they run
beside it, in the same sandbox and with its network, where a key can be found by who looks for it.

It ends with the HTTP status modulo 256: 173 is any 429, not a used up day alone. Tokens are told at the end only.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from agentq import process
from agentq.core.finding import Finding
from agentq.core.text import clean, one_line
from agentq.core.usage import Usage
from agentq.drivers.base import AgentResult, AgentTask, Began, Brain, Event, Said, UsedTokens, UsedTool
from agentq.drivers.reading import cause_of, count, entry, summary, table
from agentq.drivers.runner import ended
from agentq.errors import DriverError

COMPACT_AT = 0.6  # of the window (mission row T15)
DAY_ZONE = "America/Los_Angeles"  # where the provider's day begins
BEGIN = "Carry out this task."
_TURNS_PASSED, _NO_LOGIN = 53, 41  # exit statuses
_ATTEMPTS = 2  # its own default is 10
_CODE = re.compile(r'"code": ?(\d{3})')
_WEB_TOOLS = ("web_fetch", "google_web_search")
_SERVER = "https://generativelanguage.googleapis.com"
# A project's `.env` is read, but not for these: who chooses a proxy reads along.
_NOT_FROM_PROJECT = (
    "DEBUG", "DEBUG_MODE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
    "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "NODE_TLS_REJECT_UNAUTHORIZED",
)  # fmt: skip
_CLEAN = "unset GEMINI_API_KEY BASH_ENV ${!GOOGLE_@} ${!OPENAI_@} ${!ANTHROPIC_@} ${!AWS_@} ${!GITHUB_@}\n"


@dataclass(frozen=True, slots=True)
class Gemini:
    """The dialect. program: looked for on the PATH, unless it is a path."""

    program: str = "gemini"

    name = "gemini"
    confines = False
    folders = (".gemini",)

    def command(self, task: AgentTask, program: str) -> list[str]:
        """Raises DriverError for a brain that speaks another protocol."""
        if task.brain.protocol not in ("", "gemini"):
            raise DriverError(
                f"gemini cannot think on a server that speaks '{task.brain.protocol}'",
                'give the tier another driver, or a bucket with protocol = "gemini"',
            )
        folder = _folder(task)
        (folder / ".gemini").mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "clean.sh").write_text(_CLEAN)
        (folder / ".gemini" / "settings.json").write_text(json.dumps(_settings(task), indent=1))
        (folder / ".gemini" / "GEMINI.md").write_text(f"{task.keep}\n")  # it stays through a compaction
        model = [f"--model={task.brain.model}"] if task.brain.model else []
        again = [f"--session-file={task.session}"] if task.session else []
        flags = ["--prompt", BEGIN, "--output-format", "stream-json", "--yolo", *model, *again]
        # The prompt is stdin: an argument ends at 128 KiB and is seen by everybody.
        return ["/bin/sh", "-c", 'exec "$@" < "$0"', str(task.prompt_file.absolute()), program, *flags]

    def env(self, task: AgentTask) -> dict[str, str]:
        brain, folder = task.brain, _folder(task)
        env = {
            "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "GEMINI_CLI_NO_RELAUNCH": "true",
            "BASH_ENV": str(folder / "clean.sh"),
        }
        if _own(brain):
            env |= {"GEMINI_CLI_HOME": str(folder), "GEMINI_API_KEY": brain.key or "none"}
            # Always named: otherwise an address in the project's `.env` would get the key.
            env["GOOGLE_GEMINI_BASE_URL"] = brain.base_url or _SERVER
        return env

    def reader(self, task: AgentTask) -> "GeminiReader":
        return GeminiReader(task, (_folder(task) if _own(task.brain) else _home()) / ".gemini")

    def doctor(self, version: str) -> list[Finding]:  # noqa: ARG002
        if os.environ.get("GEMINI_API_KEY") or (_home() / ".gemini" / "oauth_creds.json").is_file():
            return [Finding(True, "gemini is logged in")]
        return [
            Finding(True, "gemini is not logged in: it works for buckets with a key alone (start 'gemini' once)")
        ]

    def attach(self, session: str) -> list[str]:
        return [self.program, f"--session-file={session}"] if session.startswith("/") else []


def _home() -> Path:
    return Path(os.environ.get("HOME") or "/")


def _folder(task: AgentTask) -> Path:
    """The home of one run, below the folder of gemini that the sandbox leaves open; its session stays there."""
    return _home() / ".gemini" / "agentq" / sha256(task.run_id.encode()).hexdigest()[:16]


def _own(brain: Brain) -> bool:
    return bool(brain.base_url or brain.key)


def _settings(task: AgentTask) -> dict[str, Any]:
    return {
        "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
        "model": {"compressionThreshold": COMPACT_AT, "maxSessionTurns": task.limits.turns or -1},
        "general": {"enableAutoUpdate": False, "maxAttempts": _ATTEMPTS, "retryFetchErrors": False},
        "tools": {"exclude": [] if task.network else list(_WEB_TOOLS)},
        "context": {"fileName": ["AGENTS.md", "GEMINI.md"]},
        "advanced": {"excludedEnvVars": list(_NOT_FROM_PROJECT)},
        "privacy": {"usageStatisticsEnabled": False},
        "hooksConfig": {"enabled": False},
        "telemetry": {"enabled": False},
        "ide": {"enabled": False},
    }


@dataclass(slots=True)
class GeminiReader:
    """One run. folder: where gemini keeps its conversations."""

    task: AgentTask
    folder: Path
    id: str = ""
    words: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    used: Usage = field(default_factory=Usage)
    calls: int = 0
    denied: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def feed(self, line: str) -> list[Event]:
        return list(self._events(entry(line)))

    def _events(self, told: dict[str, Any]) -> Iterator[Event]:
        kind = told.get("type")
        if kind != "message" and self.words and not self.words.endswith("\n"):
            yield Said(clean(self.words))
            self.words += "\n"  # what comes next is another message
        match kind:
            case "init":
                self.id = str(told.get("session_id", ""))
                yield Began(self.id, str(told.get("model", "")))
            case "message" if told.get("role") == "assistant":
                before = "" if self.words.endswith("\n") else self.words
                self.words = before + str(told.get("content", "")).rstrip("\n")
            case "tool_use":
                name, given = one_line(str(told.get("tool_name", "")), 60), table(told.get("parameters"))
                self.calls, self.names[str(told.get("tool_id"))] = self.calls + 1, name
                detail = given.get("command") or given.get("file_path") or given.get("pattern") or ""
                yield UsedTool(name, one_line(str(detail), 200))
            case "tool_result" if table(told.get("error")).get("type") == "invalid_tool_params":
                if "not in workspace" in str(told.get("output", "")):
                    self.denied.append(self.names.get(str(told.get("tool_id")), "?"))
            case "result":
                self.result = told
                self.used = _usage(table(told.get("stats")))
                if self.used.total:
                    yield UsedTokens(self.used, self.task.brain.model)

    def verdict(self, outcome: process.Outcome, errors: str) -> AgentResult:
        result = replace(
            ended(outcome), usage=self.used, session=self._session(), denied=tuple(dict.fromkeys(self.denied)),
            turns=self.calls + 1 if self.used.total else 0,
        )  # fmt: skip
        if outcome.kind in ("timeout", "silent") and not (self.words or self.calls):
            return replace(result, cause="network")
        if outcome.kind != "exited":
            return result
        if outcome.returncode == 0 and self.result.get("status") == "success":
            return replace(result, outcome="done", summary=summary(self.words))
        message = str(table(self.result.get("error")).get("message", "")) or errors
        told = replace(result, outcome="failed", summary=summary(_inner(message)) or "it said nothing")
        if outcome.returncode == _TURNS_PASSED:
            return replace(told, outcome="limit", cause="turns")
        status = status_of(outcome.returncode or 0, message)
        cause = "auth" if outcome.returncode == _NO_LOGIN else cause_of(status, message)
        until = midnight(time.time()) if cause == "usage-limit" and "daily" in message else 0.0
        return replace(told, cause=cause, status=status, resets_at=until)

    def _session(self) -> str:
        """The file of the conversation, by which it can be gone on with."""
        short = self.id[:8]
        found = self.folder.glob(f"tmp/*/chats/session-*-{short}.jsonl") if short.isalnum() else iter(())
        return str(next(found, "")) or self.task.session


def _usage(stats: dict[str, Any]) -> Usage:
    """`input_tokens` holds what the cache had; what was thought is in the total alone."""
    prompt, cached = count(stats, "input_tokens"), count(stats, "cached")
    output = max(count(stats, "output_tokens"), count(stats, "total_tokens") - prompt)
    return Usage(max(0, prompt - cached), output, cached)


def status_of(returncode: int, message: str) -> int:
    """The HTTP status that an end means; 0 if none."""
    if found := _CODE.search(message):
        return int(found[1])
    return returncode + 256 if 144 <= returncode <= 255 else 0


def _inner(message: str) -> str:
    """The sentence in `[API Error: {"error": {"message": …}}]`."""
    start, end = message.find("{"), message.rfind("}")
    told = table(entry(message[start : end + 1]).get("error")) if 0 <= start < end else {}
    return str(told.get("message", "")) or " ".join(message.split())


def midnight(now: float) -> float:
    """The next time the provider's day begins, seconds since 1970; 0 where time zones are not known."""
    from datetime import datetime, timedelta
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        here = datetime.fromtimestamp(now, ZoneInfo(DAY_ZONE))
    except ZoneInfoNotFoundError:
        return 0.0
    return datetime.combine(here.date() + timedelta(days=1), datetime.min.time(), here.tzinfo).timestamp()
