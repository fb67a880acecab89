"""opencode (`opencode run`), tried with 1.18: an agent for many providers. It has no sandbox.

What a project configures (`opencode.json`, plugins, MCP servers) is not read, and neither is AGENTS.md then: the
prompt says to read it. The key of a bucket stands in its own environment only: bash takes it away from each of
its commands (BASH_ENV). But they run beside it, in the same sandbox and with its network, where it can be found by
who looks for it.

It asks again after 429 and 5xx, five times and more with growing pauses, tells nobody, and cannot be told not to:
a server that is overloaded is seen late, by the time-out.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agentq import process
from agentq.core.finding import Finding
from agentq.core.text import clean, one_line
from agentq.core.usage import Usage
from agentq.drivers.base import AgentResult, AgentTask, Began, Brain, Event, Said, UsedTokens, UsedTool
from agentq.drivers.reading import cause_of, count, entry, summary, table
from agentq.drivers.runner import ended

KEY = "AGENTQ_OPENCODE_KEY"  # carries a bucket's key to opencode
COMPACT_AT = 0.6  # of the window (mission row T15)
BEGIN = (
    "Carry out the task in the attached file. Read AGENTS.md at the top of the repository first, where it exists."
)
_WINDOW, _ANSWER = 128_000, 32_000  # tokens, for a model whose limits nobody told
_PACKAGES = {"": "@ai-sdk/openai-compatible", "openai": "@ai-sdk/openai-compatible",
             "anthropic": "@ai-sdk/anthropic", "gemini": "@ai-sdk/google"}  # fmt: skip
_SERVERS = {
    "": "https://api.openai.com/v1", "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1", "gemini": "https://generativelanguage.googleapis.com/v1beta",
}  # fmt: skip
_SWITCHES = {
    "OPENCODE_DISABLE_PROJECT_CONFIG": "1", "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "OPENCODE_DISABLE_CLAUDE_CODE": "1", "OPENCODE_DISABLE_LSP_DOWNLOAD": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
}  # fmt: skip
_CLEAN = (
    f"unset {KEY} OPENCODE_CONFIG_CONTENT BASH_ENV ${{!ANTHROPIC_@}} ${{!OPENAI_@}} ${{!GEMINI_@}} "
    "${!GOOGLE_@} ${!AWS_@} ${!GITHUB_@}\n"
)
_COMPACT = (
    "Summarize the conversation so that the work can go on without it: the task, its spec id, what is done, which "
    "tests pass and which fail, files modified, decisions made and why, what comes next."
)


@dataclass(frozen=True, slots=True)
class Opencode:
    """The dialect. program: looked for on the PATH, unless it is a path."""

    program: str = "opencode"

    name = "opencode"
    confines = False
    folders = (".local/share/opencode", ".config/opencode", ".cache/opencode", ".local/state/opencode")

    def command(self, task: AgentTask, program: str) -> list[str]:
        for name in self.folders:  # what is not there cannot be given to a sandbox
            (_home() / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        _clean_file().write_text(_CLEAN)
        model = f"agentq/{task.brain.model}" if _own(task.brain) else task.brain.model
        again = [f"--session={task.session}"] if task.session else []
        chosen = [f"--model={model}"] if model else []
        flags = ["run", "--format", "json", "--auto", "--pure", *again, *chosen]
        return [program, *flags, "--file", str(task.prompt_file.absolute()), "--", BEGIN]

    def env(self, task: AgentTask) -> dict[str, str]:
        key = {KEY: task.brain.key} if task.brain.key else {}
        shell = {"SHELL": "/bin/bash", "BASH_ENV": str(_clean_file())}
        return {**_SWITCHES, **shell, **key, "OPENCODE_CONFIG_CONTENT": json.dumps(_settings(task))}

    def reader(self, task: AgentTask) -> "OpencodeReader":
        return OpencodeReader(task)

    def doctor(self, version: str) -> list[Finding]:  # noqa: ARG002
        if (_home() / ".local/share/opencode/auth.json").is_file():
            return [Finding(True, "opencode is logged in to a provider")]
        return [
            Finding(True, "opencode is not logged in: it works for buckets with a key ('opencode auth login')")
        ]

    def attach(self, session: str) -> list[str]:
        return [self.program, "--session", session] if session.startswith("ses_") else []


def _home() -> Path:
    return Path(os.environ.get("HOME") or "/")


def _clean_file() -> Path:
    return _home() / ".local/share/opencode/agentq-clean.sh"


def _own(brain: Brain) -> bool:
    return bool(brain.base_url or brain.key)


def _settings(task: AgentTask) -> dict[str, Any]:
    """They count more than the person's own."""
    brain = task.brain
    window = brain.window or _WINDOW
    settings: dict[str, Any] = {
        "autoupdate": False, "share": "disabled", "snapshot": False, "lsp": False, "formatter": False,
        "compaction": {"auto": True, "reserved": window - int(window * COMPACT_AT)},
        "agent": {"compaction": {"prompt": "\n\n".join(part for part in (_COMPACT, task.keep) if part)}},
        "permission": {} if task.network else {"webfetch": "deny", "websearch": "deny"},
    }  # fmt: skip
    if not _own(brain):
        return settings
    url = brain.base_url and brain.base_url + ("/v1" if brain.protocol == "anthropic" else "")
    # Always named: otherwise an address in the environment, or in the project's `.env`, would get the key.
    options = {"apiKey": f"{{env:{KEY}}}" if brain.key else "none", "baseURL": url or _SERVERS[brain.protocol]}
    limit = {"context": window, "output": min(_ANSWER, window // 4)}
    models = {brain.model: {"name": brain.model, "limit": limit}}
    provider = {"npm": _PACKAGES[brain.protocol], "name": "agentq", "options": options, "models": models}
    return {**settings, "enabled_providers": ["agentq"], "provider": {"agentq": provider}}


@dataclass(slots=True)
class OpencodeReader:
    """One run."""

    task: AgentTask
    session: str = ""
    words: str = ""
    reason: str = ""
    cost: float = 0.0
    used: Usage = field(default_factory=Usage)
    turns: int = 0
    error: dict[str, Any] = field(default_factory=dict)
    denied: list[str] = field(default_factory=list)

    def feed(self, line: str) -> list[Event]:
        return list(self._events(entry(line)))

    def _events(self, told: dict[str, Any]) -> Iterator[Event]:
        session, part = told.get("sessionID"), table(told.get("part"))
        if isinstance(session, str) and not self.session:
            self.session = session
            yield Began(session, self.task.brain.model)
        match told.get("type"):
            case "text":
                self.words = str(part.get("text", ""))
                yield Said(clean(self.words))
            case "tool_use":
                yield from self._tool(str(part.get("tool", "")), table(part.get("state")))
            case "step_finish":
                self.reason, self.error = str(part.get("reason", "")), {}
                cost = part.get("cost")
                self.cost += cost if isinstance(cost, int | float) else 0
                used = _usage(table(part.get("tokens")))
                self.used, self.turns = self.used + used, self.turns + 1
                yield UsedTokens(used, self.task.brain.model)
            case "error":
                self.error = table(told.get("error")) or {"name": "error"}

    def _tool(self, name: str, state: dict[str, Any]) -> Iterator[Event]:
        given = table(state.get("input"))
        detail = given.get("command") or given.get("filePath") or given.get("pattern") or state.get("title") or ""
        if state.get("status") == "error" and "permission" in str(state.get("error", "")).lower():
            self.denied.append(name)
        yield UsedTool(one_line(name, 60), one_line(str(detail), 200))

    def verdict(self, outcome: process.Outcome, errors: str) -> AgentResult:
        result = replace(
            ended(outcome), session=self.session, usage=self.used, turns=self.turns, cost=self.cost or None,
            denied=tuple(dict.fromkeys(self.denied)),
        )  # fmt: skip
        if outcome.kind in ("timeout", "silent") and not self.turns:
            return replace(result, cause="network")
        if outcome.kind != "exited":
            return result
        if self.error:
            data = table(self.error.get("data"))
            message, status = str(data.get("message") or self.error.get("name", "")), count(data, "statusCode")
            cause = "context" if "ContextOverflow" in str(self.error.get("name")) else cause_of(status, message)
            return replace(result, outcome="failed", summary=summary(message), cause=cause, status=status)
        if outcome.returncode == 0 and self.turns and self.reason not in ("length", "error", "content-filter"):
            return replace(result, outcome="done", summary=summary(self.words))
        why = summary(errors) or (f"the model's answer ended: {self.reason}" if self.reason else "")
        return replace(result, outcome="failed", summary=why or summary(result.summary) or "it said nothing")


def _usage(tokens: dict[str, Any]) -> Usage:
    cache = table(tokens.get("cache"))
    output = count(tokens, "output") + count(tokens, "reasoning")
    return Usage(count(tokens, "input"), output, count(cache, "read"), count(cache, "write"))
