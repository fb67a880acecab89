"""Claude Code (`claude -p`), tried with 2.1.197 and 2.1.330.

Nothing that the workspace holds steers it: settings, hooks, MCP servers and skills of a project run outside any
sandbox and are not read (`--setting-sources user`, `--strict-mcp-config`). Its own file tools stay in the
workspace by its permissions (`acceptEdits`: neither outside, nor through links, nor in `.git/hooks`, `.claude`,
`.mcp.json`); each command of its shell runs inside agentq's sandbox by CLAUDE_CODE_SHELL_PREFIX. Its own sandbox
reaches no database and needs socat; CLAUDE_CODE_SUBPROCESS_ENV_SCRUB needs it too, so what commands may see is
cleaned here.

The prompt comes on stdin after a sentence of ours: an argument ends at 128 KiB and stands in `ps`; a prompt that
begins with '/' is taken for a command; and files that a prompt names by '@' would be read without any permission
(CLAUDE_CODE_DISABLE_ATTACHMENTS). Without CLAUDE_CODE_MAX_RETRIES it asks ten times, also after 401.
"""

import json
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentq import process
from agentq.core.finding import Finding
from agentq.drivers.base import AgentTask
from agentq.drivers.claude_said import SESSION, ClaudeReader
from agentq.drivers.runner import Wrap, own_folder, temporary
from agentq.errors import DriverError

TRIED = (2, 1, 197)  # the oldest version whose flags these are
COMPACT_AT = "60"  # percent of the window, less what an answer needs (mission row T15)
# Without it the percentage counts for nothing in 2.1.330. The smaller of it and the model's window counts; 1000000
# itself is taken for none.
_LARGEST_WINDOW = 999_999
BEGIN = "Carry out the following task."
_LOGIN_LIMIT = 20.0  # s for `claude auth status`; it takes 0.6
# No helpers and nothing in the background: while claude checks a path and writes to it, no command may run that
# could put a link there.
_TOOLS = (
    "Bash", "Read", "Edit", "Write", "NotebookEdit", "Glob", "Grep", "TodoWrite", "TaskCreate", "TaskGet",
    "TaskList", "TaskUpdate",
)  # fmt: skip
_WEB_TOOLS = ("WebFetch", "WebSearch")  # they run in claude itself, outside the sandbox
_SWITCHES = {
    "CLAUDE_CODE_MAX_RETRIES": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_AUTOCOMPACT_PCT_OVERRIDE": COMPACT_AT,
    "CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(_LARGEST_WINDOW),
    "DISABLE_AUTOUPDATER": "1",
    "ENABLE_TOOL_SEARCH": "false",
}
# Beginnings of names that commands do not see, unless the run itself was given them.
_SECRETS = (
    "ANTHROPIC", "CLAUDE", "OPENAI", "CODEX", "GEMINI", "GOOGLE_API", "AWS_", "AZURE_", "GITHUB_", "GH_", "NEON_",
)  # fmt: skip
_SYSTEM = """You work without a person: nobody answers questions or grants permissions; what is refused stays so.
Read CLAUDE.md and AGENTS.md at the top of the repository first, where they exist.
Each shell command starts in {workspace}, and what it started ends with it: a server and the test that
needs it go into one command. Temporary files go to {temporary}; /tmp is emptied after each command.
{network}
{keep}
"""
_NETWORK = {True: "Your commands may use the network.", False: "Your commands have no network."}


@dataclass(frozen=True, slots=True)
class Claude:
    """The dialect. program: looked for on the PATH, unless it is a path. tools: puts the commands of its shell
    into a sandbox. own: it shall use its own, where there is no `tools` (macOS has it built in)."""

    program: str = "claude"
    tools: Wrap | None = None
    own: bool = False

    name = "claude"
    folders = (".claude", ".claude.json")

    @property
    def confines(self) -> bool:
        return self.tools is not None or self.own

    def command(self, task: AgentTask, program: str) -> list[str]:
        """Writes the files of this run beside its transcript. Raises DriverError for a brain that does not speak
        the Messages API, or a temporary folder that somebody else made; Refused as the sandbox does."""
        if task.brain.protocol not in ("", "anthropic"):
            raise DriverError(
                f"claude cannot think on a server that speaks '{task.brain.protocol}'",
                'give the tier another driver, or a bucket with protocol = "anthropic"',
            )
        own_folder(temporary(task))
        files = _files(task)
        files.mkdir(mode=0o700, parents=True, exist_ok=True)
        (files / "settings.json").write_text(json.dumps(self._settings(task), indent=1))
        (files / "system.md").write_text(_system(task))
        _write_program(files / "shell", self._shell(task))
        # sh gives it the prompt as stdin: it is not in the arguments, which everybody sees.
        return ["/bin/sh", "-c", 'exec "$@" < "$0"', str(task.prompt_file.absolute()), program, *_flags(task)]

    def env(self, task: AgentTask) -> dict[str, str]:
        brain = task.brain
        env = {**_SWITCHES, "CLAUDE_CODE_SHELL_PREFIX": str(_files(task) / "shell")}
        # How long a command may ask for; 10 minutes otherwise, and long tests cannot go to the background.
        env["BASH_MAX_TIMEOUT_MS"] = str(int(task.limits.timeout * 1000))
        if brain.key:
            env["ANTHROPIC_API_KEY"] = brain.key
        if brain.base_url:
            # The login of a person must not go to another server. Some take the key as a bearer.
            env |= dict.fromkeys(("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"), brain.key or "none")
            env["ANTHROPIC_BASE_URL"] = brain.base_url
            if brain.model:
                # It may ask a small model for something small, which that server need not have.
                env["ANTHROPIC_DEFAULT_HAIKU_MODEL"] = brain.model
        if brain.window:
            env["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] = str(brain.window)
            env["CLAUDE_CODE_AUTO_COMPACT_WINDOW"] = str(min(brain.window, _LARGEST_WINDOW))
        return env

    def reader(self, task: AgentTask) -> ClaudeReader:
        return ClaudeReader(task)

    def doctor(self, version: str) -> list[Finding]:
        return [*_age(version), _login(self.program), self._walls()]

    def attach(self, session: str) -> list[str]:
        """To be started in the folder where the conversation was: elsewhere claude does not find it."""
        return [self.program, "--resume", session] if SESSION.fullmatch(session) else []

    def _walls(self) -> Finding:
        if self.tools:
            return Finding(True, "claude's commands run inside agentq's sandbox")
        if self.own:
            return Finding(True, "claude's commands run inside claude's own sandbox")
        return Finding(True, "claude's commands run without a sandbox of their own")

    def _settings(self, task: AgentTask) -> dict[str, object]:
        """They count more than those of the person. Only one sandbox: they cannot be nested."""
        sandbox: dict[str, object] = {"enabled": self.own and not self.tools}
        if sandbox["enabled"]:
            sandbox |= {
                "autoAllowBashIfSandboxed": True,
                "failIfUnavailable": True,
                "allowUnsandboxedCommands": False,
            }
            sandbox["filesystem"] = {"allowWrite": [str(path) for path in (*task.writable, temporary(task))]}
            sandbox["network"] = {"allowedDomains": ["*"] if task.network else []}
        settings: dict[str, object] = {"sandbox": sandbox}
        if task.keep:
            # What this prints becomes an instruction of the compaction.
            hook = {"type": "command", "command": f"printf %s {shlex.quote(task.keep)}"}
            settings["hooks"] = {"PreCompact": [{"hooks": [hook]}]}
        return settings

    def _shell(self, task: AgentTask) -> str:
        """A program that runs its argument as a shell command, in the sandbox, without keys."""
        bash = shutil.which("bash") or "/bin/bash"
        command = ["/usr/bin/env", f"TMPDIR={temporary(task)}", bash, "-c"]
        if self.tools:
            command = self.tools(command, task, (temporary(task),))
        found = " ".join(f"${{!{name}@}}" for name in _SECRETS)
        given = "|".join(shlex.quote(name) for name in task.env) or "''"
        return (
            f"#!{bash}\nfor name in {found}; do\n"
            f'  case "$name" in {given}) ;; *) unset "$name" ;; esac\ndone\n'
            f'exec {shlex.join(command)} "$1"\n'
        )


def _files(task: AgentTask) -> Path:
    return task.transcript.absolute().with_suffix(".claude")


def _flags(task: AgentTask) -> Iterator[str]:
    files, limits = _files(task), task.limits
    web = _WEB_TOOLS if task.network else ()
    yield from ("-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages")
    yield from ("--permission-mode", "acceptEdits", "--setting-sources", "user", "--strict-mcp-config")
    yield from ("--disable-slash-commands", f"--tools={','.join((*_TOOLS, *web))}")
    yield from (f"--allowedTools={','.join(('Bash', *web))}", f"--add-dir={temporary(task)}")
    yield from (f"--settings={files / 'settings.json'}", f"--append-system-prompt-file={files / 'system.md'}")
    if task.brain.model:
        yield f"--model={task.brain.model}"
    if limits.turns:
        yield f"--max-turns={limits.turns}"
    if limits.cost:
        yield f"--max-budget-usd={limits.cost:.6f}"
    if task.session:
        yield f"--resume={task.session}"
    yield from ("--", BEGIN)


def _system(task: AgentTask) -> str:
    return _SYSTEM.format(
        workspace=task.workspace, temporary=temporary(task), network=_NETWORK[task.network], keep=task.keep
    )


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o700)


def _age(version: str) -> list[Finding]:
    """A finding if this version is older than what was tried."""
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if not numbers or tuple(map(int, numbers.groups())) >= TRIED:
        return []
    tried = ".".join(map(str, TRIED))
    return [Finding(False, f"claude {version} is older than what was tried", f"update it to {tried} or later")]


def _login(program: str) -> Finding:
    """Whether it has a login of its own. It asks no server."""
    marker = f"login-{os.getpid()}-{time.monotonic_ns()}"
    with tempfile.TemporaryDirectory() as folder:
        outcome = process.run(
            [program, "auth", "status"], cwd=Path(folder), env=process.clean_env(process.BASE_ENV, {}),
            output=Path(folder) / "status", marker=marker, timeout=_LOGIN_LIMIT,
        )  # fmt: skip
    if outcome.returncode == 0:
        return Finding(True, "claude is logged in")
    return Finding(True, "claude is not logged in: it works for buckets with a key alone ('claude auth login')")
