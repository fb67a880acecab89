"""What is the same for every agent that is a program: a toy one is a shell script that prints its events."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from agentq import process
from agentq.core.usage import Usage
from agentq.drivers.base import AgentResult, AgentTask, Brain, Event, Limits, Said, UsedTokens
from agentq.drivers.runner import MAX_LINE, AgentProgram, Lines, ended, own_folder, temporary
from agentq.errors import DriverError

KEY = "sk-toy-0123456789"


class Reader:
    """A line is {"say": TEXT} or {"used": TOKENS}."""

    def feed(self, line: str) -> list[Event]:
        try:
            said = json.loads(line)
        except ValueError:
            return []
        return [Said(said["say"])] if "say" in said else [UsedTokens(Usage(said["used"]))]

    def verdict(self, outcome: process.Outcome, errors: str) -> AgentResult:
        return replace(ended(outcome), summary=outcome.reason or errors)


@dataclass
class Toy:
    script: str
    fails: bool = False
    confines: bool = False
    name = program = "sh"
    folders = (".toy",)

    def command(self, task: AgentTask, program: str) -> list[str]:
        own_folder(temporary(task))
        if self.fails:
            raise DriverError("no", "hint")
        return [program, "-c", self.script]

    def env(self, task: AgentTask) -> dict[str, str]:
        return {"TOY_KEY": task.brain.key, "TOY_TEMP": str(temporary(task))}

    def reader(self, _task: AgentTask) -> Reader:
        return Reader()

    def doctor(self, _version: str) -> list[Any]:
        return []

    def attach(self, session: str) -> list[str]:
        return [session]


@pytest.fixture
def task(tmp_path: Path) -> AgentTask:
    brain = Brain(key=KEY)
    name = f"toy-{os.getpid()}-{tmp_path.name}"
    return AgentTask("s", "test", name, tmp_path, tmp_path / "p", tmp_path / "test.log", {}, Limits(30), brain)


def run(toy: Toy, task: AgentTask, hear: Callable[[Event], None] = lambda _event: None) -> AgentResult:
    result = AgentProgram(toy).run(task, stop=lambda: None, tick=lambda: None, hear=hear)
    assert not temporary(task).exists() and process.strays(task.run_id) == []
    return result


def test_events_are_heard_noted_and_counted_and_the_key_is_not_written(task: AgentTask) -> None:
    script = 'echo nonsense; echo "{\\"say\\": \\"$TOY_KEY\\"}"; echo \'{"used": 7}\'; printf \'{"used": 5}\'; echo "oh $TOY_KEY" >&2'
    heard: list[Event] = []
    result = run(Toy(script), task, heard.append)
    assert (result.outcome, result.usage, result.turns) == ("done", Usage(12), 2)
    assert [event for event in heard if isinstance(event, UsedTokens)] == [
        UsedTokens(Usage(7)),
        UsedTokens(Usage(5)),
    ]
    files = [path for path in task.transcript.parent.iterdir() if path.is_file()]
    assert sorted(path.suffix for path in files) == [".err", ".log", ".ndjson"]
    assert not [path for path in files if KEY in path.read_text()] and KEY not in result.summary


@pytest.mark.parametrize(
    ("limits", "cause", "usage"),
    [(Limits(30, tokens=100), "budget", 120), (Limits(30, turns=2), "turns", 120)],
)
def test_an_agent_that_knows_no_limits_is_ended_at_one(
    task: AgentTask, limits: Limits, cause: str, usage: int
) -> None:
    script = "for n in 1 2 3; do echo '{\"used\": 40}'; done; exec tail -f /dev/null"
    result = run(Toy(script), replace(task, limits=limits))
    assert (result.outcome, result.cause, result.usage) == ("limit", cause, Usage(usage))
    assert result.summary.startswith("more than")


def test_the_temporary_folder_goes_whatever_happens(task: AgentTask) -> None:
    with pytest.raises(DriverError):
        run(Toy("", fails=True), task)
    assert not temporary(task).exists()
    assert run(Toy('echo x > "$TOY_TEMP/x"; mkdir "$TOY_TEMP/d"; exit 3'), task).outcome == "failed"


def test_a_temporary_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    own_folder(tmp_path / "mine")
    own_folder(tmp_path / "mine")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(DriverError, match="somebody else"):
        own_folder(tmp_path / "link")
    if os.getuid() == 0:
        (tmp_path / "theirs").mkdir()
        os.chown(tmp_path / "theirs", 12345, 12345)
        with pytest.raises(DriverError, match="somebody else"):
            own_folder(tmp_path / "theirs")


def test_only_an_agent_without_a_sandbox_is_wrapped(task: AgentTask) -> None:
    wrapped: list[tuple[Path, ...]] = []

    def wrap(command: list[str], _task: AgentTask, folders: tuple[Path, ...]) -> list[str]:
        wrapped.append(folders)
        return command

    for confines in (True, False):
        driver = AgentProgram(Toy("true", confines=confines), wrap=wrap)
        assert driver.run(task, stop=lambda: None, tick=lambda: None).outcome == "done"
    assert wrapped == [(Path(os.environ["HOME"]) / ".toy",)]


def test_lines_of_a_growing_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = Lines(path)
    assert lines.new() == []
    with path.open("ab", buffering=0) as file:
        file.write(b"one\ntw")
        assert lines.new() == ["one"]
        file.write(b"o\n\xff\nrest")
        assert lines.new() == ["two", "\N{REPLACEMENT CHARACTER}"]
        # What is too long to be an event is skipped, however it arrives.
        file.write(b"x" * (MAX_LINE + 1))
        assert lines.new() == []
        file.write(b"tail of it\nnext\nlast")
        assert lines.new() == ["next"]
        assert lines.new(last=True) == ["last"] and lines.new(last=True) == []
    assert Lines(path).new() == []
