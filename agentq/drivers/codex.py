"""Codex (`codex exec`), tried with 0.169: an agent that brings its own sandbox, which works as root.

Its settings are ours alone: the person's config.toml and the workspace's `.codex` are not read, because a trusted
project's file could open the sandbox and start MCP servers outside of it. A login (`codex login`) is used. Its
tools get a permission profile: the workspace and a private temporary folder are writable, `.git` too but for what
names programs, so that an agent can commit (`-s workspace-write` closes the whole `.git`). No network means no
sockets at all: `task.reach` cannot be opened alone, so tests that need a database server need `task.network`.

Without `unbounded_connection_retries=false` it waits for a network for ever, and says so, so that no silence is
seen. Its login shell would reset the PATH. stdout tells tokens at the end alone; what is spent meanwhile, and the
windows of a plan, stand in its own record of the session, which is read along where it is there.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from agentq import hiding
from agentq.core import tomltext
from agentq.core.finding import Finding
from agentq.drivers import codex_said as said
from agentq.drivers.base import AgentTask, Brain
from agentq.drivers.runner import own_folder, temporary
from agentq.errors import DriverError

TRIED = (0, 169)  # the version whose settings these are; an older one may not know them
COMPACT_AT = 0.6  # of the window (mission row T15)
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
    "OPENAI_*", "CODEX_API_KEY", "CODEX_ACCESS_TOKEN", "ANTHROPIC_*", "CLAUDE_*", "GEMINI_*", "GOOGLE_*",
    "AWS_*", "AZURE_*", "GITHUB_*", "GH_*", "NEON_*",
)  # fmt: skip
# In `.git`: what git obeys. All of it has to be there: codex makes what is missing and takes it away again, so
# that two of its commands get in each other's way; and a `commondir` of the agent's could name its own config.
_STEERING_FOLDERS = ("hooks", "info", "branches", "remotes", "objects/info")
_STEERING_FILES = {"config": "", "config.worktree": "", "commondir": ".\n"}
_OWN_SECRETS = ("auth.json", "config.toml", "history.jsonl", "sessions", "archived_sessions", "memories")
_COMPACT = (
    "Your context is nearly full. Write a summary with which you, or another, can go on with the work without "
    "anything else: the task, its spec id, what is done, which tests pass and which fail, files modified, "
    "decisions made and why, what comes next."
)
_TOLD = """You work without a person: nobody answers questions or grants permissions; what is refused stays so.
Temporary files go to {temporary}. Nothing else outside of the workspace can be written, /tmp neither.
{network}
{keep}
"""
_NETWORK = {
    True: "Your commands may use the network.",
    False: "Your commands have no network, no local one either.",
}


@dataclass(frozen=True, slots=True)
class Codex:
    """The dialect. program: looked for on the PATH, unless it is a path."""

    program: str = "codex"

    name = "codex"
    confines = True
    folders = (".codex",)

    def command(self, task: AgentTask, program: str) -> list[str]:
        """Raises DriverError for a brain that does not speak the Responses API, or a temporary folder of somebody
        else's."""
        if task.brain.protocol not in ("", "openai"):
            raise DriverError(
                f"codex cannot think on a server that speaks '{task.brain.protocol}'",
                'give the tier another driver, or a bucket with protocol = "openai"',
            )
        own_folder(temporary(task))
        # It is hidden from the tools, and only what is there can be.
        (home() / "sessions").mkdir(mode=0o700, parents=True, exist_ok=True)
        again = ["resume"] if task.session else []
        flags = [program, "exec", *again, "--json", "--skip-git-repo-check"]
        flags += ["--strict-config", "--ignore-user-config", "--ignore-rules"]
        for key, value in _settings(task).items():
            flags += ["-c", f"{key}={tomltext.dump(value)}"]
        if task.brain.model:
            flags.append(f"--model={task.brain.model}")
        flags += ["--", *([task.session] if task.session else []), "-"]
        # The prompt is stdin: an argument ends at 128 KiB and is seen by everybody.
        return ["/bin/sh", "-c", 'exec "$@" < "$0"', str(task.prompt_file.absolute()), *flags]

    def env(self, task: AgentTask) -> dict[str, str]:
        own = {"CODEX_HOME": str(home()), "TMPDIR": str(temporary(task))}
        return {**own, KEY: task.brain.key} if task.brain.key else own

    def reader(self, task: AgentTask) -> said.CodexReader:
        return said.CodexReader(task, home())

    def doctor(self, version: str) -> list[Finding]:
        found = []
        if (numbers := said.version(version)) and numbers < TRIED:
            found.append(
                Finding(False, f"codex {version} is older than what was tried", "update it to 0.169 or later")
            )
        if (home() / "auth.json").is_file():
            return [*found, Finding(True, "codex is logged in")]
        return [
            *found,
            Finding(True, "codex is not logged in: it works for buckets with a key alone ('codex login')"),
        ]

    def attach(self, session: str) -> list[str]:
        return [self.program, "resume", session] if said.SESSION.fullmatch(session) else []


def home() -> Path:
    """Where codex keeps its login and its sessions."""
    return Path(os.environ.get("CODEX_HOME") or Path(os.environ.get("HOME") or "/") / ".codex")


def _settings(task: AgentTask) -> dict[str, object]:
    """What codex would take from its own configuration."""
    settings: dict[str, object] = {
        "approval_policy": "never",
        "default_permissions": _PROFILE,
        f"permissions.{_PROFILE}": {"filesystem": _files(task), "network": {"enabled": task.network}},
        "shell_environment_policy": {"inherit": "all", "exclude": list(_secret_names(task))},
        "allow_login_shell": False,
        "web_search": "live" if task.network else "disabled",
        "check_for_update_on_startup": False,
        "analytics.enabled": False,
    }
    settings |= {f"features.{name}": False for name in _OFF}
    settings |= _server(task.brain)
    settings["compact_prompt"] = "\n\n".join(part for part in (_COMPACT, task.keep) if part)
    told = _TOLD.format(temporary=temporary(task), network=_NETWORK[task.network], keep=task.keep)
    settings["developer_instructions"] = told.strip()  # stays in front through every compaction
    if task.brain.window:
        settings["model_context_window"] = task.brain.window
        settings["model_auto_compact_token_limit"] = int(task.brain.window * COMPACT_AT)
    return settings


def _secret_names(task: AgentTask) -> Iterator[str]:
    """Variables that the tools do not see. What the run itself was given stays: it may be its database's URL."""
    yield KEY
    for name in sorted(os.environ):
        if name not in task.env and any(fnmatchcase(name, pattern) for pattern in _SECRETS):
            yield name


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
    return files | _git(task.workspace / ".git")


def _git(git: Path) -> dict[str, str]:
    """A repository in which can be committed. One that is no folder stays closed."""
    if git.is_symlink() or not git.is_dir():
        return {}
    for name in _STEERING_FOLDERS:
        (git / name).mkdir(parents=True, exist_ok=True)
    for name, content in _STEERING_FILES.items():
        if not (git / name).exists():
            (git / name).write_text(content)
    closed = (*_STEERING_FOLDERS, *_STEERING_FILES)
    if linked := [name for name in closed if (git / name).is_symlink()]:
        raise DriverError(f"{git / linked[0]} is a symbolic link: it cannot be protected", "remove it")
    return {str(git): "write", **{str(git / name): "read" for name in closed}}


def _in_a_home(path: Path) -> bool:
    return any(path.is_relative_to(one) for one in hiding.homes())
