"""Any agent that is a command line: a template in the settings, filled in for each run. No shell runs it."""

import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from agentq import process
from agentq.core import redact
from agentq.core.finding import Finding
from agentq.core.text import did_you_mean, one_line
from agentq.drivers.base import AgentResult, AgentTask, Ending, Event, ignore
from agentq.drivers.runner import Wrap, missing, walled
from agentq.errors import ConfigError

PLACEHOLDERS = ("prompt_file", "workspace", "model")
_FILE, _KEY = "agents/config.toml", "agent.command"
# `${name}` is left for a shell that the command itself may start.
_PLACEHOLDER = re.compile(r"(?<!\$)\{([a-z_][a-z0-9_]*)\}")
_EXAMPLE = "for example: my-agent --model {model} --prompt {prompt_file}"


class CommandDriver:
    """Runs `command` in the workspace. {prompt_file}, {workspace} and {model} are filled in per argument.

    command: arguments, or a text that is split as by a shell (quotes, no expansion). allow: names (globs) of
    variables the agent may see beside process.BASE_ENV. wrap: puts the agent into a sandbox. Raises ConfigError
    for a template that cannot be used; for an empty one only when it is needed.
    """

    name = "command"
    gated = False

    def __init__(
        self,
        command: str | tuple[str, ...],
        allow: Iterable[str] = (),
        max_output: int = process.MAX_OUTPUT,
        wrap: Wrap | None = None,
    ) -> None:
        self.template = _split(command)
        self.allow = (*process.BASE_ENV, *allow)
        self.max_output = max_output
        self._wrap = wrap
        for argument in self.template:
            for word in _PLACEHOLDER.findall(argument):
                if word not in PLACEHOLDERS:
                    known = "known: " + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
                    hint = did_you_mean(word, PLACEHOLDERS) or known
                    raise ConfigError(_FILE, _KEY, f"unknown placeholder '{{{word}}}'", hint)

    def doctor(self) -> list[Finding]:
        if not self.template:
            return [Finding(False, "no agent command", f"set {_KEY} in {_FILE}, {_EXAMPLE}")]
        program = self.template[0]
        if _PLACEHOLDER.search(program) or ("/" in program and not program.startswith("/")):
            return [Finding(True, f"agent command '{program}' is looked up in each workspace")]
        found = shutil.which(program, path=self._env({}).get("PATH"))
        if found:
            return [Finding(True, f"agent command '{program}' is {found}")]
        return [Finding(False, f"agent command '{program}' is not on the PATH", f"install it or change {_KEY}")]

    def run(
        self,
        task: AgentTask,
        *,
        stop: Callable[[], str | None],
        tick: Callable[[], None],
        hear: Callable[[Event], None] = ignore,  # noqa: ARG002 (its output has no known form)
    ) -> AgentResult:
        command, env = self.arguments(task.prompt_file, task.workspace, task.brain.model), self._env(task.env)
        if self._wrap:
            if (why := missing(command[0], task.workspace, env)) is not None:
                return why
            command = self._wrap(command, task, ())
        outcome = process.run(
            command,
            cwd=task.workspace,
            env=env,
            output=task.transcript,
            marker=task.run_id,
            timeout=task.limits.timeout,
            silence=task.limits.silence,
            max_output=self.max_output,
            stop=stop,
            tick=tick,
            secrets=(*task.secrets, *redact.passwords(task.env.values())),
        )
        if self._wrap:
            walled(outcome)
        ended: Ending = "done" if outcome.returncode == 0 else "failed"
        return AgentResult(
            outcome=ended if outcome.kind == "exited" else outcome.kind,
            summary=one_line(outcome.tail) or one_line(outcome.reason),
            returncode=outcome.returncode,
            seconds=outcome.seconds,
            leftovers=outcome.leftovers,
        )

    def attach(self, session: str) -> list[str]:  # noqa: ARG002
        return []

    def arguments(self, prompt_file: Path, workspace: Path, model: str) -> list[str]:
        """The command line. Raises ConfigError when it is empty or `model` would be taken for an option."""
        if not self.template:
            raise ConfigError(_FILE, _KEY, "no agent command is set", _EXAMPLE)
        if model.startswith("-"):
            raise ConfigError(_FILE, "agent.model", f"'{model}' begins with '-'", "a model is a name")
        values = {
            "prompt_file": str(prompt_file.absolute()),
            "workspace": str(workspace.absolute()),
            "model": model,
        }
        # One pass: what a value contains is never taken for a placeholder.
        return [_PLACEHOLDER.sub(lambda match: values[match[1]], argument) for argument in self.template]

    def _env(self, extra: Mapping[str, str]) -> dict[str, str]:
        return process.clean_env(self.allow, extra)


def _split(command: str | tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(command, str):
        return tuple(command)
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise ConfigError(_FILE, _KEY, str(error).lower(), "quote it as for a shell") from error
