"""Commands of the agent: inside the sandbox, without keys, with a time-out, and nothing of them left
afterwards."""

import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentq import process

MAX_OUTPUT = 64 * 1024 * 1024  # bytes after which a command is ended
HEAD, TAIL = 16 * 1024, 64 * 1024  # bytes of an output that are read back
GRACE = 1.0  # s from SIGTERM to SIGKILL: the agent itself has few to end in
_QUIET = 10.0  # s between two signs of life
# What opens a provider's account is not for tools (agents fact, "Sandbox").
_KEYS = re.compile(r"(ANTHROPIC|CLAUDE|OPENAI|CODEX|GEMINI|GOOGLE|AWS|AZURE|GITHUB|GH|NEON|AGENTQ_AGENT)_.*")


@dataclass(frozen=True)
class Run:
    """One command. output: what it printed, its middle left out when long. why: how it ended, '' for exit status
    0."""

    command: str
    output: str
    why: str = ""

    @property
    def good(self) -> bool:
        return not self.why

    @property
    def told(self) -> str:
        output = self.output.rstrip("\n")
        return "\n".join(part for part in (output, f"({self.why})" if self.why else "") if part) or "(no output)"


class Shell:
    """Runs commands in `workspace`, one at a time. wrap: puts a command into the sandbox. scratch: file for
    output. left: seconds the agent has itself. alive: called now and then while a command prints."""

    def __init__(
        self, workspace: Path, env: Mapping[str, str], scratch: Path, *,
        wrap: Callable[[Sequence[str]], list[str]], seconds: float, left: Callable[[], float],
        alive: Callable[[], None], secrets: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self._workspace, self._env, self._scratch, self._wrap = workspace, without_keys(env), scratch, wrap
        self._seconds, self._left, self._alive, self._secrets = seconds, left, alive, tuple(secrets)

    def run(self, command: str, seconds: float | None = None) -> Run:
        """Its end, however it comes. ValueError for what no shell takes; OSError; Refused by the sandbox."""
        if "\0" in command or len(command) > 100_000:
            raise ValueError("a command has no NUL characters and at most 100,000 characters; write a script")
        limit = max(0.1, min(seconds or self._seconds, self._seconds, self._left()))
        self._scratch.unlink(missing_ok=True)
        program = shutil.which("bash", path=self._env.get("PATH")) or "/bin/sh"
        try:
            outcome = process.run(
                self._wrap([program, "-c", command]), cwd=self._workspace, env=self._env, output=self._scratch,
                # The agent's own mark: whoever ends the agent finds its commands, too.
                marker=os.environ.get(process.MARKER) or f"agent-{os.getpid()}",
                timeout=limit, max_output=MAX_OUTPUT, tick=self._watch(), grace=GRACE, secrets=self._secrets,
            )  # fmt: skip
            output = _ends(self._scratch)
        finally:
            self._scratch.unlink(missing_ok=True)
        why = outcome.reason if outcome.kind != "exited" else ""
        if not why and outcome.returncode:
            why = f"exit status {outcome.returncode}"
        if outcome.kind == "exited" and outcome.leftovers:
            why += f"{'; ' if why else ''}ended what it left running: {outcome.leftovers}"
        return Run(command, output, why)

    def _watch(self) -> Callable[[], None]:
        size, told = 0, time.monotonic()

        def tick() -> None:
            nonlocal size, told
            if time.monotonic() - told < _QUIET:
                return
            told = time.monotonic()
            now = self._scratch.stat().st_size if self._scratch.exists() else 0
            if now != size:
                size = now
                self._alive()

        return tick


def without_keys(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not _KEYS.fullmatch(name)}


def _ends(path: Path) -> str:
    """The beginning and the end of a file, as text."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= HEAD + TAIL:
            return file.read().decode(errors="replace")
        head = file.read(HEAD)
        file.seek(size - TAIL)
        middle = f"\n[… {size - HEAD - TAIL:,} bytes left out …]\n".encode()
        return (head + middle + file.read()).decode(errors="replace")
