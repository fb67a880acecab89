"""What the harness itself knows about the work, so that no compaction depends on a model's word for it (mission
row T15): the spec, the task, files modified, which tests pass and fail, decisions made."""

import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentq.agent.shell import Run

MAX_FILES = 200
MAX_RUNS = 6  # test commands; the newest run of each
MAX_TAIL = 1_500  # characters of a test run's end
MAX_FAILING = 30  # lines
MAX_DECISIONS = 80
MAX_WIDTH = 300  # characters of one line
_MAX_ENTRIES = 50_000
_TESTS = re.compile(
    r"(?i)(?:^|[\W_])(?:tests?|spec|checks?|verify|pytest|unittest|tox|nox|jest|vitest|mocha|playwright|cypress|rspec"
    r"|phpunit|ctest|gotestsum)(?:[\W_]|$)"
)
_FAILING = re.compile(
    r"(\bFAIL(ED|URES?)?\b|\bERRORS?\b|^not ok\b|[✗✕×✖]|\bpanicked\b|AssertionError)", re.MULTILINE
)
_DECISIONS = re.compile(r"^#+\s*decisions\b[^\n]*\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL | re.IGNORECASE)
_NOISE = frozenset(
    {".git", "node_modules", "__pycache__", ".venv", "venv", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
)


@dataclass
class Memory:
    """spec, stage, keep: as told. files: what tools wrote, oldest first. tests: command -> its newest run.
    summary: the model's own words at the last compaction; decisions: all it ever named. since: when the work
    began, seconds since 1970."""

    spec: str
    stage: str
    keep: str = ""
    files: list[str] = field(default_factory=list)
    tests: dict[str, dict[str, Any]] = field(default_factory=dict)
    decisions: list[str] = field(default_factory=list)
    summary: str = ""
    compactions: int = 0
    since: float = field(default_factory=time.time)

    def wrote(self, name: str) -> None:
        if name not in self.files:
            self.files = [*self.files, name][-MAX_FILES:]

    def ran(self, run: Run) -> None:
        """Keep what a test command said; other commands say nothing that lasts."""
        if not _TESTS.search(run.command):
            return
        command = " ".join(run.command.split())[:MAX_WIDTH]
        failing = [line.strip()[:MAX_WIDTH] for line in run.output.splitlines() if _FAILING.search(line)]
        self.tests.pop(command, None)
        self.tests[command] = {
            "ended": run.why or "exit status 0", "failing": failing[:MAX_FAILING],
            "tail": run.output[-MAX_TAIL:].strip(),
        }  # fmt: skip
        self.tests = dict(list(self.tests.items())[-MAX_RUNS:])

    def summarised(self, text: str) -> None:
        """The model's summary. Decisions add up: one that a later summary forgets stays."""
        self.compactions += 1
        self.summary = text
        for part in _DECISIONS.findall(text):
            for line in part.splitlines():
                decision = line.strip().lstrip("-*•").strip()[:MAX_WIDTH]
                if decision and decision not in self.decisions:
                    self.decisions.append(decision)
        self.decisions = self.decisions[-MAX_DECISIONS:]

    def facts(self, workspace: Path) -> str:
        """All of it as text, for the conversation that goes on."""
        parts = [f"Spec: {self.spec} (stage {self.stage})"]
        if self.keep:
            parts.append(self.keep)
        parts.append("Files you wrote: " + (", ".join(self.files) or "none"))
        if others := [name for name in changed(workspace, self.since) if name not in self.files]:
            parts.append("Other files changed since you began: " + ", ".join(others))
        parts.append("Tests, newest run of each command:" + ("" if self.tests else " none was run"))
        for command, run in self.tests.items():
            lines = [f"- `{command}`: {run['ended']}", *(f"  failing: {line}" for line in run["failing"])]
            parts.append(
                "\n".join([*lines, "  its last lines:", *(f"  | {line}" for line in run["tail"].splitlines())])
            )
        if self.decisions:
            parts.append("Decisions made:\n" + "\n".join(f"- {one}" for one in self.decisions))
        return "\n".join(parts)


def changed(workspace: Path, since: float) -> list[str]:
    """Files that were written after `since` (seconds since 1970), by whatever; at most MAX_FILES. Commands leave
    no other trace of what they changed."""
    found: list[str] = []
    seen = 0
    for folder, folders, names in os.walk(workspace):
        folders[:] = sorted(one for one in folders if one not in _NOISE)
        for name in sorted(names):
            seen += 1
            if seen > _MAX_ENTRIES or len(found) >= MAX_FILES:
                return found
            path = Path(folder, name)
            try:
                status = path.lstat()
            except OSError:
                continue
            if max(status.st_mtime, status.st_ctime) >= since and not name.endswith((".pyc", ".log")):
                found.append(str(path.relative_to(workspace)))
    return found
