"""A job for the built-in agent against the stub of the Messages API, run in this process or as one of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.messages_stub import MessagesStub

from agentq.agent.job import parse
from agentq.agent.trajectory import records
from agentq.agent.work import work

MODEL = "claude-sonnet-5-5"
KEY = "sk-test-0123456789abcdef"


@dataclass
class World:
    """A workspace with a prompt; every run has a trajectory of its own."""

    root: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    runs: int = 0

    @property
    def workspace(self) -> Path:
        return self.root / "ws"

    @property
    def trajectory(self) -> Path:
        """That of the newest run."""
        return self.root / f"logs/run-{self.runs}.trajectory"

    @property
    def records(self) -> list[dict[str, Any]]:
        return records(self.trajectory)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    def job(self, stub: MessagesStub | None = None, **more: Any) -> dict[str, Any]:
        self.runs += 1
        return {
            "spec": "csv-import", "stage": "implement", "model": MODEL, "base_url": stub.url if stub else "",
            "prompt": str(self.root / "prompt.md"), "workspace": str(self.workspace),
            "trajectory": str(self.trajectory), "window": 200_000, "sandbox": "off", "retries": 0, **more,
        }  # fmt: skip

    def work(
        self, stub: MessagesStub, *, key: str = KEY, secrets: tuple[str, ...] = (), **more: Any
    ) -> dict[str, Any]:
        """Do it here; the events are in `events`."""
        self.events.clear()
        return work(parse(self.job(stub, **more)), key, secrets, dict(os.environ), self.events.append)

    def start(self, stub: MessagesStub, env: dict[str, str] | None = None, **more: Any) -> "subprocess.Popen[str]":
        file = self.root / "job.json"
        file.write_text(json.dumps(self.job(stub, **more)))
        return subprocess.Popen(
            [sys.executable, "-E", "-P", "-m", "agentq.agent", str(file)], cwd=self.workspace, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "AGENTQ_AGENT_KEY": KEY, **(env or {})},
        )  # fmt: skip


def world(root: Path, prompt: str = "Make it so.\n") -> World:
    (root / "ws").mkdir(parents=True)
    (root / "prompt.md").write_text(prompt)
    return World(root)
