"""aider, tried with 0.86: a pair programmer that edits files and commits them; it runs no commands here.

It ends with 0 whatever its model answers, also after 401: what counts is what it prints, which is plain text for
people. It asks again after 429 and 5xx for a minute and says so. A conversation cannot be gone on with.

A project's `.aider.conf.yml` is not read: a test command there would be run. Its `.env` is, whatever the flags
say, and goes before the environment: an address in it would get the key. Ours, read last, has the addresses again.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from agentq import process
from agentq.core.finding import Finding
from agentq.core.text import clean, one_line
from agentq.core.usage import Usage
from agentq.drivers.base import AgentResult, AgentTask, Brain, Cause, Event, Retried, Said, UsedTokens, UsedTool
from agentq.drivers.reading import summary
from agentq.drivers.runner import ended

_FLAGS = (
    "--yes-always", "--no-stream", "--no-pretty", "--no-fancy-input", "--no-check-update", "--analytics-disable",
    "--no-show-release-notes", "--no-show-model-warnings", "--no-gitignore", "--no-suggest-shell-commands",
    "--no-detect-urls", "--no-auto-lint", "--no-auto-test", "--auto-commits", "--no-dirty-commits",
    "--no-attribute-author", "--no-attribute-committer", "--no-attribute-co-authored-by",
)  # fmt: skip
_CACHE = ".aider.tags.cache.v*"  # it makes this in the repository and cannot be told another place
_TOKENS = re.compile(r"^Tokens: .+? received\.")
_COST = re.compile(r"Cost: \$[\d.]+ message, \$([\d.]+) session\.")
_NUMBER = re.compile(r"([\d.,]+)([kM]?) (sent|cache write|cache hit|received)")
_TIMES = {"": 1, "k": 1_000, "M": 1_000_000}
_ERROR = re.compile(r"litellm\.(?:exceptions\.)?(\w+)(?:Error)?:")
_AGAIN = re.compile(r"Retrying in ([\d.]+) seconds")
_LIMIT = re.compile(r"has hit a token limit!")
_NOTHING = re.compile(r"^(Only \d+ reflections allowed, stopping\.|The LLM did not conform to the edit format\.)")
_CAUSES: dict[str, tuple[Cause, int]] = {
    "AuthenticationError": ("auth", 401), "PermissionDeniedError": ("auth", 403),
    "RateLimitError": ("rate-limit", 429), "BudgetExceededError": ("billing", 0),
    "InternalServerError": ("overloaded", 500), "ServiceUnavailableError": ("overloaded", 503),
    "BadGatewayError": ("overloaded", 502), "APIConnectionError": ("network", 0), "Timeout": ("network", 0),
    "ContextWindowExceededError": ("context", 400), "BadRequestError": ("request", 400),
    "NotFoundError": ("request", 404),
}  # fmt: skip
_KEYS = {"anthropic": "ANTHROPIC", "openai": "OPENAI", "gemini": "GEMINI", "": "OPENAI"}


@dataclass(frozen=True, slots=True)
class Aider:
    """The dialect. program: looked for on the PATH, unless it is a path."""

    program: str = "aider"

    name = "aider"
    confines = False
    folders = (".aider",)

    def command(self, task: AgentTask, program: str) -> list[str]:
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "agentq.yml").write_text("{}\n")
        _env_file(task).write_text("".join(f"{name}={value}\n" for name, value in _addresses(task.brain).items()))
        model = _model(task.brain)
        chosen = [f"--model={model}", f"--weak-model={model}", f"--editor-model={model}"] if model else []
        places = [
            f"--config={folder / 'agentq.yml'}", f"--env-file={_env_file(task)}",
            f"--chat-history-file={folder / 'chat.md'}", f"--input-history-file={folder / 'input'}",
        ]  # fmt: skip
        return [program, *_FLAGS, *places, *chosen, f"--message-file={task.prompt_file.absolute()}"]

    def env(self, task: AgentTask) -> dict[str, str]:
        name = _KEYS[task.brain.protocol]
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        if task.brain.key or task.brain.base_url:
            env[f"{name}_API_KEY"] = task.brain.key or "none"
        return env | _addresses(task.brain)

    def reader(self, task: AgentTask) -> "AiderReader":
        return AiderReader(task)

    def doctor(self, version: str) -> list[Finding]:  # noqa: ARG002
        return [Finding(True, "aider has no login: it works for buckets with a key")]

    def attach(self, session: str) -> list[str]:  # noqa: ARG002
        return []


def _folder() -> Path:
    return Path(os.environ.get("HOME") or "/") / ".aider"


def _env_file(task: AgentTask) -> Path:
    return _folder() / f"agentq-{sha256(task.run_id.encode()).hexdigest()[:16]}.env"


def _addresses(brain: Brain) -> dict[str, str]:
    """Where each protocol is spoken, and the proxies; '' is the provider's own address."""
    names = [f"{name}_{kind}" for name in set(_KEYS.values()) for kind in ("API_BASE", "BASE_URL")]
    names += ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
    known = {name: os.environ.get(name, "") for name in names}
    own = (f"{_KEYS[brain.protocol]}_API_BASE", f"{_KEYS[brain.protocol]}_BASE_URL")
    return known | (dict.fromkeys(own, brain.base_url) if brain.base_url or brain.key else {})


def _model(brain: Brain) -> str:
    """litellm's name: what is before the slash is the protocol."""
    if not brain.model or not (brain.base_url or brain.key):
        return brain.model
    return f"{brain.protocol or 'openai'}/{brain.model}"


@dataclass(slots=True)
class AiderReader:
    """One run."""

    task: AgentTask
    error: str = ""
    told: str = ""
    cost: float | None = None
    used: Usage = field(default_factory=Usage)
    turns: int = 0
    retries: int = 0
    edited: list[str] = field(default_factory=list)

    def feed(self, line: str) -> list[Event]:
        return list(self._events(clean(line).strip()))

    def _events(self, line: str) -> Iterator[Event]:
        if found := _COST.search(line):
            self.cost = _decimal(found[1])
        if found := _TOKENS.search(line):
            self.error = self.told = ""
            self.turns, self.retries = self.turns + 1, 0
            used = _usage(found[0])
            self.used = self.used + used
            yield UsedTokens(used, self.task.brain.model)
        elif found := _ERROR.search(line):
            self.error, self.told = found[1], line
            if "Connection" in line and self.error == "InternalServerError":
                self.error = "APIConnectionError"  # a server that is not there is the same to litellm
        elif found := _AGAIN.search(line):
            self.retries += 1
            yield Retried(_meaning(self.error)[1], self.retries, float(found[1]), summary(self.told))
        elif _LIMIT.search(line):
            self.error, self.told = "ContextWindowExceededError", line
        elif _NOTHING.search(line):
            self.error, self.told = "edits", line
        elif line.startswith("Applied edit to "):
            self.edited.append(line.removeprefix("Applied edit to "))
            self.error = self.told = ""
            yield UsedTool("edit", one_line(self.edited[-1], 200))
        elif line:
            yield Said(line)

    def verdict(self, outcome: process.Outcome, errors: str) -> AgentResult:
        for cache in self.task.workspace.glob(_CACHE):
            shutil.rmtree(cache, ignore_errors=True)
        _env_file(self.task).unlink(missing_ok=True)
        result = replace(ended(outcome), usage=self.used, turns=self.turns, cost=self.cost)
        cause, status = _meaning(self.error)
        if outcome.kind in ("timeout", "silent"):
            return replace(result, cause=cause if self.error else "" if self.turns else "network", status=status)
        if outcome.kind != "exited":
            return result
        if self.error or not self.turns or outcome.returncode:
            why = summary(self.told) or summary(errors) or summary(result.summary) or "its model said nothing"
            return replace(result, outcome="failed", cause=cause, status=status, summary=why)
        names = ", ".join(dict.fromkeys(self.edited))
        return replace(result, outcome="done", summary=summary(f"edited {names}") if names else "edited nothing")


def _meaning(error: str) -> tuple[Cause, int]:
    return _CAUSES.get(error, ("", 0))


def _usage(told: str) -> Usage:
    """`Tokens: 12k sent, 1.5k cache hit, 900 received.`: rounded, and what was cached is in what was sent."""
    found = {kind: _number(digits, unit) for digits, unit, kind in _NUMBER.findall(told)}
    read, written = found.get("cache hit", 0), found.get("cache write", 0)
    return Usage(max(0, found.get("sent", 0) - read - written), found.get("received", 0), read, written)


def _number(digits: str, unit: str) -> int:
    return round(_decimal(digits.replace(",", "")) * _TIMES[unit])


def _decimal(digits: str) -> float:
    try:
        return float(digits.rstrip("."))
    except ValueError:
        return 0.0
