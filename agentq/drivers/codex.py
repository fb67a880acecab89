"""Codex (`codex exec`), tried with 0.169: an agent that brings its own sandbox, which works as root.

Its settings are ours alone: the person's config.toml and the workspace's `.codex` are not read, because a trusted
project's file could open the sandbox and start MCP servers outside of it. A login (`codex login`) is used. Its
tools get a permission profile: the workspace and a private temporary folder are writable, `.git` too but for what
names programs, so that an agent can commit (`-s workspace-write` closes the whole `.git`). No network means no
unix sockets either: a test that needs a database server needs `task.network`.

Without `unbounded_connection_retries=false` it waits for a network for ever, and says so, so that no silence is
seen. Its login shell would reset the PATH. stdout tells tokens at the end alone; what is spent meanwhile, and the
windows of a plan, stand in its own record of the session, which is read along where it is there.
"""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from agentq import hiding, process
from agentq.core import tomltext
from agentq.core.finding import Finding
from agentq.core.text import clean, one_line
from agentq.core.usage import Usage
from agentq.drivers import codex_said as said
from agentq.drivers.base import (
    AgentResult,
    AgentTask,
    Began,
    Brain,
    Event,
    Retried,
    Said,
    UsedTokens,
    UsedTool,
    Window,
)
from agentq.drivers.runner import Lines, ended
from agentq.errors import DriverError

TRIED = (0, 169)  # the version whose settings these are; an older one may not know them
COMPACT_AT = 0.6  # of the window (mission row T15)
MAX_PROMPT = 100_000  # bytes of one argument; Linux takes 128 KiB
KEY = "AGENTQ_CODEX_KEY"  # carries a bucket's key to codex, and to none of its tools
_PROFILE = "agentq"
# Its own retries would hide from a breaker what happens; one more attempt at a torn stream saves a long run.
_RETRIES = {"request_max_retries": 0, "stream_max_retries": 1}
# Waits for a network for ever; reads the person's shell; brings tools and programs that nobody asked for.
_OFF = (
    "unbounded_connection_retries", "shell_snapshot", "hooks", "apps", "plugins", "multi_agent", "browser_use",
    "computer_use", "image_generation", "in_app_browser", "goals", "tool_suggest", "skill_search",
)  # fmt: skip
_SECRETS = (
    KEY, "OPENAI_*", "CODEX_API_KEY", "CODEX_ACCESS_TOKEN", "ANTHROPIC_*", "CLAUDE_*", "GEMINI_*", "GOOGLE_*",
    "AWS_*", "AZURE_*", "GITHUB_*", "GH_*", "NEON_*",
)  # fmt: skip
# In `.git`: what git obeys. `commondir` has to be there, or an agent could make one that names its own config.
_STEERING = (
    "config", "config.worktree", "hooks", "info", "branches", "remotes", "commondir", "objects/info",
)  # fmt: skip
_OWN_SECRETS = ("auth.json", "config.toml", "history.jsonl", "sessions", "archived_sessions", "memories")
_COMPACT = """Your context is nearly full. Write a summary with which you, or another, can go on with the work without
anything else: the task, its spec id, what is done, which tests pass and which fail, files modified, decisions made and
why, what comes next."""


@dataclass(frozen=True, slots=True)
class Codex:
    """The dialect. program: looked for on the PATH, unless it is a path."""

    program: str = "codex"

    name = "codex"
    confines = True
    folders = (".codex",)

    def command(self, task: AgentTask, program: str) -> list[str]:
        """Raises DriverError for a brain that does not speak the Responses API, or a temporary folder that somebody
        else made."""
        if task.brain.protocol not in ("", "openai"):
            raise DriverError(
                f"codex cannot think on a server that speaks '{task.brain.protocol}'",
                "give the tier another driver, or a bucket with protocol = \"openai\"",
            )
        _own_folder(temporary(task))
        home().mkdir(mode=0o700, parents=True, exist_ok=True)
        again = ["resume"] if task.session else []
        command = [program, "exec", *again, "--json", "--skip-git-repo-check"]
        command += ["--strict-config", "--ignore-user-config", "--ignore-rules"]
        for key, value in _settings(task).items():
            command += ["-c", f"{key}={tomltext.dump(value)}"]
        if task.brain.model:
            command.append(f"--model={task.brain.model}")
        return [*command, "--", *([task.session] if task.session else []), _prompt(task)]

    def env(self, task: AgentTask) -> dict[str, str]:
        own = {"CODEX_HOME": str(home()), "TMPDIR": str(temporary(task))}
        return {**own, KEY: task.brain.key} if task.brain.key else own

    def reader(self, task: AgentTask) -> "CodexReader":
        return CodexReader(task)

    def doctor(self, version: str) -> list[Finding]:
        found = []
        if (numbers := said.version(version)) and numbers < TRIED:
            found.append(Finding(False, f"codex {version} is older than what was tried", "update it to 0.169 or later"))
        if (home() / "auth.json").is_file():
            return [*found, Finding(True, "codex is logged in")]
        return [*found, Finding(True, "codex is not logged in: it works for buckets with a key alone ('codex login')")]

    def attach(self, session: str) -> list[str]:
        return [self.program, "resume", session] if said.SESSION.fullmatch(session) else []


def home() -> Path:
    """Where codex keeps its login and its sessions."""
    return Path(os.environ.get("CODEX_HOME") or Path(os.environ.get("HOME") or "/") / ".codex")


def temporary(task: AgentTask) -> Path:
    """The folder for temporary files of one run. It is gone when the run is over."""
    return Path(tempfile.gettempdir()) / f"agentq-{sha256(task.run_id.encode()).hexdigest()[:16]}"


def _own_folder(path: Path) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise DriverError(f"{path} belongs to somebody else", "remove it, or set TMPDIR to a folder of your own")


def _prompt(task: AgentTask) -> str:
    """The prompt, or where it is when it is too long for a command line."""
    text = task.prompt_file.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    if len(text.encode()) <= MAX_PROMPT:
        return text
    return f"Your task is in the file {task.prompt_file.absolute()}. Read all of it, then do what it says."


def _settings(task: AgentTask) -> dict[str, object]:
    """What codex would take from its own configuration."""
    settings: dict[str, object] = {
        "approval_policy": "never",
        "default_permissions": _PROFILE,
        f"permissions.{_PROFILE}": {"filesystem": _files(task), "network": {"enabled": task.network}},
        "shell_environment_policy": {"inherit": "all", "exclude": list(_SECRETS)},
        "allow_login_shell": False,
        "web_search": "live" if task.network else "disabled",
        "check_for_update_on_startup": False,
        "analytics.enabled": False,
    }
    settings |= {f"features.{name}": False for name in _OFF}
    settings |= _server(task.brain)
    keep = "\n\n".join(part for part in (_COMPACT, task.keep) if part)
    settings["compact_prompt"] = keep
    if task.keep:  # stays in front of the conversation through every compaction
        settings["developer_instructions"] = task.keep
    if task.brain.window:
        settings["model_context_window"] = task.brain.window
        settings["model_auto_compact_token_limit"] = int(task.brain.window * COMPACT_AT)
    return settings


def _server(brain: Brain) -> dict[str, object]:
    """The provider of a bucket; nothing where codex thinks with its own login, whose retries cannot be set."""
    if not (brain.base_url or brain.key):
        return {}
    server = {"name": "agentq", "base_url": brain.base_url or "https://api.openai.com/v1", "wire_api": "responses"}
    key = {"env_key": KEY} if brain.key else {}
    return {"model_provider": "agentq", "model_providers.agentq": {**server, **key, **_RETRIES}}


def _files(task: AgentTask) -> dict[str, str]:
    """What the tools may read and write: path -> read, write, none. A longer path wins over a shorter one."""
    hidden = [path for path in hiding.places() if task.network or _in_a_home(path)]
    hidden += [home() / name for name in _OWN_SECRETS]
    files = {":root": "read"}
    # The folder of codex itself holds what starts its sandbox.
    files |= {str(path): "none" for path in hidden if path.exists() and path.resolve() != home().resolve()}
    files |= {str(path): "read" for path in hiding.kept(task.network) if task.network and path.exists()}
    files |= {str(path): "write" for path in (*task.writable, task.workspace, temporary(task))}
    git = task.workspace / ".git"
    if git.is_dir() and not git.is_symlink():
        common = git / "commondir"
        if not common.exists():
            common.write_text(".\n")
        files[str(git)] = "write"
        files |= {str(git / name): "read" for name in _STEERING}
    return files


def _in_a_home(path: Path) -> bool:
    return any(path.is_relative_to(one) for one in hiding.homes())
