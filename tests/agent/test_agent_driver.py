"""The driver of the built-in agent: its command line, its events, its verdicts."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_harness import KEY, MODEL
from support.messages_stub import MessagesStub, always, fail, in_order, say, use

from agentq import process
from agentq.agent import __main__ as program
from agentq.agent import job as jobs
from agentq.core.usage import Price, Usage
from agentq.drivers import builtin
from agentq.drivers.base import (
    AgentResult,
    AgentTask,
    Began,
    Brain,
    Event,
    Limits,
    Retried,
    Said,
    UsedTokens,
    UsedTool,
    Window,
)
from agentq.drivers.builtin import Builtin, BuiltinReader
from agentq.drivers.runner import AgentProgram
from agentq.errors import DriverError

PRICE = Price(1.0, 10.0)
QUICK = Builtin(price=lambda brain: PRICE, sandbox="off", options={"retries": 0})


@pytest.fixture
def task(tmp_path: Path) -> AgentTask:
    (tmp_path / "ws").mkdir()
    (tmp_path / "prompt.md").write_text("Make it so.\n")
    return AgentTask(
        spec_id="csv-import", stage="implement", run_id=f"builtin.{os.getpid()}.{time.monotonic_ns()}",
        workspace=tmp_path / "ws", prompt_file=tmp_path / "prompt.md", transcript=tmp_path / "logs/implement.log",
        env={"PROJECT": "yes"}, limits=Limits(60), brain=Brain(MODEL, "anthropic", "", KEY, 200_000),
        secrets=("hunter2-hunter2",), context_budget=5000, keep="keep this",
    )  # fmt: skip


def run(
    task: AgentTask, stub: MessagesStub, dialect: Builtin = QUICK, **how: Any
) -> tuple[AgentResult, list[Event]]:
    seen: list[Event] = []
    brain = replace(task.brain, base_url=stub.url)
    task = replace(task, brain=brain, run_id=f"{task.run_id}.{time.monotonic_ns()}")
    try:
        ways = {"stop": lambda: None, "tick": lambda: None, **how}
        return AgentProgram(dialect).run(task, hear=seen.append, **ways), seen
    finally:
        assert process.strays(task.run_id) == []


def test_a_run_from_its_events_to_its_result(task: AgentTask) -> None:
    headers = {"anthropic-ratelimit-unified-5h-utilization": "0.5"}
    script = in_order(
        [
            use(
                "bash",
                {"command": "echo $PROJECT hunter2-hunter2 [$AGENTQ_AGENT_KEY]"},
                "I look.",
                headers=headers,
            ),
            use("read", {"file_path": "/etc/passwd"}),
            say("All done.\nReally."),
        ]
    )
    with MessagesStub(script) as stub:
        result, seen = run(task, stub)
        assert stub.asked[1].last_tool_results[0]["text"] == "yes *** []"
    assert (result.outcome, result.summary, result.cause, result.returncode) == (
        "done",
        "All done.\nReally.",
        "",
        0,
    )
    assert result.usage == Usage(300, 60) and result.turns == 3 and result.denied == ("read",)
    assert result.cost == pytest.approx(0.0009) and result.windows == (Window("five_hour", 0.5),)
    kinds = [Began, Window, UsedTokens, Said, UsedTool, UsedTokens, UsedTool, UsedTokens, Said]
    assert [type(event) for event in seen] == kinds
    assert seen[0] == Began(result.session, MODEL, seen[0].version) and Path(result.session).is_file()  # type: ignore[union-attr]
    written = "".join(path.read_text() for path in task.transcript.parent.iterdir())
    assert KEY not in written and "hunter2" not in written
    assert "I look." in task.transcript.read_text()


def test_causes_and_times(task: AgentTask) -> None:
    reset = {"anthropic-ratelimit-unified-status": "rejected", "anthropic-ratelimit-unified-reset": "1800000000"}
    with MessagesStub(always(fail(429, headers=reset))) as stub:
        result, _ = run(task, stub)
    assert (result.outcome, result.cause, result.status) == ("failed", "usage-limit", 429)
    assert result.resets_at == 1_800_000_000.0 and result.returncode == 1


def test_a_stop_from_outside_keeps_what_was_used(task: AgentTask) -> None:
    script = in_order([use("bash", {"command": "touch on; sleep 600"})])
    with MessagesStub(script) as stub:
        result, _ = run(task, stub, stop=lambda: "paused" if (task.workspace / "on").exists() else None)
    assert (result.outcome, result.summary, result.usage) == ("stopped", "paused", Usage(100, 20))
    assert json.loads(Path(result.session).read_text().splitlines()[-1])["outcome"] == "stopped"


# ---------------------------------------------------------------- without a process


def test_the_job_says_everything_but_secrets(task: AgentTask, tmp_path: Path) -> None:
    given = replace(
        task, session="/x/y.trajectory", network=True, writable=(tmp_path,), reach=(("db", 5432),),
        limits=Limits(60, 5, 7, 8, 9.5), brain=replace(task.brain, base_url="http://h:1"),
    )  # fmt: skip
    command = QUICK.command(given, "/py")
    assert command[:5] == ["/py", "-E", "-P", "-m", "agentq.agent"]
    file = Path(command[5])
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent == task.transcript.parent
    assert KEY not in file.read_text() and "hunter2" not in file.read_text() and KEY not in str(command)
    job = jobs.load(file)
    assert (job.spec, job.stage, job.model, job.base_url, job.keep) == (
        "csv-import", "implement", MODEL, "http://h:1", "keep this",
    )  # fmt: skip
    assert (job.seconds, job.turns, job.tokens, job.cost, job.price) == (60, 7, 8, 9.5, PRICE)
    assert (job.network, job.writable, job.reach, job.sandbox) == (True, (tmp_path,), (("db", 5432),), "off")
    assert (job.window, job.context_budget, job.session, job.retries) == (200_000, 5000, "/x/y.trajectory", 0)
    assert job.trajectory.parent == file.parent and QUICK.command(given, "/py")[5] != command[5]
    assert QUICK.env(given) == {program.KEY: KEY, program.SECRETS: '["hunter2-hunter2"]'}
    assert (builtin.KEY, builtin.SECRETS) == (program.KEY, program.SECRETS)
    assert QUICK.env(replace(task, secrets=(), brain=Brain("m"))) == {}


@pytest.mark.parametrize(
    ("brain", "why"), [(Brain("m", "openai"), "speaks 'openai'"), (Brain("", "anthropic"), "has no model")]
)
def test_a_brain_it_cannot_use(task: AgentTask, brain: Brain, why: str) -> None:
    with pytest.raises(DriverError, match=why):
        QUICK.command(replace(task, brain=brain), "/py")


def ended(code: int | None = 0, kind: Any = "exited", reason: str = "") -> process.Outcome:
    return process.Outcome(kind, code, 1.0, 0, "", reason)


def result(**fields: Any) -> str:
    return json.dumps({"event": "result", "outcome": "done", "summary": "fine", "usage": {"input": 5}, **fields})


@pytest.mark.parametrize(
    ("lines", "outcome", "expected"),
    [
        ([result()], ended(0), ("done", "", "fine")),
        ([result()], ended(1), ("failed", "", "fine")),
        ([result(turns="many")], ended(0), ("failed", "", "boom")),
        ([], ended(0), ("failed", "", "boom")),
        ([], ended(1), ("failed", "", "boom")),
        ([result(outcome="failed", cause="auth")], ended(1), ("failed", "auth", "fine")),
        ([result(outcome="limit", cause="budget")], ended(3), ("limit", "budget", "fine")),
        ([result(outcome="odd", cause="odd")], ended(0), ("failed", "", "fine")),
        (
            [result(outcome="stopped")],
            ended(143, "timeout", "not done after 5 s"),
            ("timeout", "", "not done after 5 s"),
        ),
        ([result()], ended(-9, "stopped", "paused"), ("stopped", "", "paused")),
        ([result(summary="\x1b[31mred")], ended(0), ("done", "", "red")),
    ],
)
def test_verdicts(lines: list[str], outcome: process.Outcome, expected: tuple[str, str, str]) -> None:
    reader = BuiltinReader()
    for line in lines:
        assert reader.feed(line) == []
    told = reader.verdict(outcome, "boom")
    assert (told.outcome, told.cause, told.summary) == expected
    assert told.usage.input == (0 if told.summary == "boom" else 5)


@pytest.mark.parametrize(
    "line", ["", "x", "[]", "5", '{"event": "said"}', '{"event": "answer", "usage": 5}', '{"event": "odd"}',
             '{"event": "retry", "status": "x", "attempt": 1, "delay": 1, "message": ""}', "[" * 100_000],
)  # fmt: skip
def test_lines_that_are_no_events_are_passed_over(line: str) -> None:
    assert BuiltinReader().feed(line) == []


def test_what_events_say_is_safe_to_show() -> None:
    reader = BuiltinReader()
    line = '{"event": "tool", "name": "b\\u001b[2Jash", "detail": "a\\nb\\u202e"}'
    assert reader.feed(line) == [UsedTool("bash", "b")]
    retry = '{"event": "retry", "status": 529, "attempt": 2, "delay": 1.5, "message": "busy"}'
    assert reader.feed(retry) == [Retried(529, 2, 1.5, "busy")]


def test_doctor() -> None:
    findings = AgentProgram(Builtin()).doctor()
    assert all(finding.ok for finding in findings) and "anthropic" in findings[1].text
    assert Builtin().attach("x") == []
