"""Runs of the real Claude Code against the stub of the Messages API, in a small repository."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from support import agents
from support.messages_stub import MessagesStub, Request, Script

from agentq import process, sandbox
from agentq.drivers.base import AgentResult, AgentTask, Brain, Event, Limits
from agentq.drivers.claude import Claude
from agentq.drivers.runner import AgentProgram, temporary

KEY = "sk-ant-api03-not-a-real-key"
MODEL = "claude-sonnet-4-5"  # one whose window is 200,000 in every version
_numbers = count()


@dataclass
class Ran:
    task: AgentTask
    result: AgentResult
    events: list[Event]
    requests: list[Request]
    stub: MessagesStub

    @property
    def results(self) -> list[str]:
        """What its tools said, in order."""
        asked = [request for request in self.requests if request.tools]
        return [found["text"] for found in asked[-1].tool_results] if asked else []

    def said(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@dataclass
class World:
    """root: a private folder with the workspace `ws`. allow: variables the agent sees. own: its own sandbox."""

    root: Path
    allow: tuple[str, ...] = ()
    own: bool = False
    claude: Path = field(default_factory=agents.claude)
    walls: sandbox.Sandbox = field(default_factory=lambda: sandbox.find("auto"))

    @property
    def workspace(self) -> Path:
        return self.root / "ws"

    def __post_init__(self) -> None:
        self.workspace.mkdir()
        for words in (
            ["init", "-q", "-b", "main"],
            ["config", "user.name", "a"],
            ["config", "user.email", "a@b.c"],
        ):
            subprocess.run(["git", *words], cwd=self.workspace, check=True)

    def wrap(self, command: list[str], task: AgentTask, folders: tuple[Path, ...]) -> list[str]:
        return self.walls.wrap(
            command,
            sandbox.Walls(task.workspace, (*folders, *task.writable), network=task.network, reach=task.reach),
        )

    def driver(self) -> AgentProgram:
        return AgentProgram(
            Claude(str(self.claude), tools=None if self.own else self.wrap, own=self.own), self.allow
        )

    def run(
        self, script: Script, limits: Limits | None = None, prompt: str = "Do the work.", *, key: str = KEY,
        model: str = MODEL, url: str | None = None, stop: Callable[[], str | None] = lambda: None,
        tick: Callable[[], None] = lambda: None, **more: Any,
    ) -> Ran:  # fmt: skip
        """One run to its end. Nothing of it is left: no process, no temporary folder, no key in its files."""
        name = f"t-{os.getpid()}-{next(_numbers)}"
        folder = self.root / name
        folder.mkdir()
        (folder / "prompt.md").write_text(prompt)
        events: list[Event] = []
        with MessagesStub(script) as stub:
            brain = Brain(model, "anthropic", stub.url if url is None else url, key)
            task = AgentTask(
                "spec-1", "implement", name, self.workspace, folder / "prompt.md", folder / "implement.log",
                {"DATABASE_URL": "sqlite:///x", **more.pop("env", {})}, limits or Limits(60), brain, **more,
            )  # fmt: skip
            result = self.driver().run(task, stop=stop, tick=tick, hear=events.append)
            requests = stub.requests
        assert process.strays(name) == []
        assert not temporary(task).exists()
        assert not key or not [path for path in folder.rglob("*") if path.is_file() and key in path.read_text()]
        return Ran(task, result, events, requests, stub)
