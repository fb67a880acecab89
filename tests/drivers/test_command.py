"""The command driver with real commands."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agentq import process
from agentq.drivers.base import AgentResult, AgentTask, Brain, Driver, Limits
from agentq.drivers.command import CommandDriver
from agentq.errors import ConfigError

SHOW = "import sys; print(len(sys.argv) - 1); [print(repr(each)) for each in sys.argv[1:]]"


@pytest.fixture
def task(tmp_path: Path) -> AgentTask:
    workspace = tmp_path / "a work space"
    workspace.mkdir()
    prompt = tmp_path / "the prompt's file.md"
    prompt.write_text("do it\n")
    return AgentTask(
        spec_id="csv-import", stage="implement", run_id=f"driver.{os.getpid()}.{time.monotonic_ns()}",
        workspace=workspace, prompt_file=prompt, transcript=tmp_path / "logs" / "transcript", env={},
        brain=Brain("big one"), limits=Limits(60),
    )  # fmt: skip


def run(driver: Driver, task: AgentTask, stop: Callable[[], str | None] = lambda: None) -> AgentResult:
    try:
        return driver.run(task, stop=stop, tick=lambda: None)
    finally:
        assert process.strays(task.run_id) == []


def sh(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def test_values_with_spaces_stay_one_argument(task: AgentTask) -> None:
    command = f'"{sys.executable}" -c "{SHOW}" --model={{model}} {{prompt_file}} "in {{workspace}}!" {{model}}'
    assert run(CommandDriver(command), task).outcome == "done"
    shown = [task.brain.model, str(task.prompt_file), f"in {task.workspace}!", task.brain.model]
    shown[0] = "--model=big one"
    assert task.transcript.read_text().splitlines() == ["4", *map(repr, shown)]


def test_nothing_is_expanded(task: AgentTask) -> None:
    driver = CommandDriver(
        f'"{sys.executable}" -c "{SHOW}" $HOME `id` ; * ${{model}} {{}} {{"a": 1}} {{MODEL}} {{1}}'
    )
    run(driver, task)
    expected = ["$HOME", "`id`", ";", "*", "${model}", "{}", "{a:", "1}", "{MODEL}", "{1}"]
    assert task.transcript.read_text().splitlines() == [str(len(expected)), *map(repr, expected)]


def test_a_value_is_not_filled_in_again(task: AgentTask) -> None:
    driver = CommandDriver(("agent", "{model}"))
    assert driver.arguments(task.prompt_file, task.workspace, "{workspace}") == ["agent", "{workspace}"]


def test_a_list_is_not_split(task: AgentTask) -> None:
    assert CommandDriver(("a b", "{model} c")).arguments(Path("p"), Path("w"), "m") == ["a b", "m c"]


def test_relative_paths_become_absolute() -> None:
    found = CommandDriver("agent {prompt_file} {workspace}").arguments(Path("-p"), Path("w"), "")
    assert found == ["agent", str(Path.cwd() / "-p"), str(Path.cwd() / "w")]


@pytest.mark.parametrize(
    ("command", "why", "hint"),
    [
        ("agent {promptfile}", "unknown placeholder '{promptfile}'", "did you mean 'prompt_file'?"),
        ("agent --x={zzz}", "unknown placeholder '{zzz}'", "known: {prompt_file}, {workspace}, {model}"),
        ("agent 'open", "no closing quotation", "quote it as for a shell"),
    ],
)
def test_templates_that_cannot_be_used(command: str, why: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CommandDriver(command)
    assert str(caught.value) == f"agents/config.toml: agent.command: {why}"
    assert caught.value.hint == hint


def test_an_empty_template_is_an_error_only_when_needed(task: AgentTask) -> None:
    driver = CommandDriver("")
    assert [finding.ok for finding in driver.doctor()] == [False]
    with pytest.raises(ConfigError, match="no agent command is set"):
        run(driver, task)


def test_a_model_cannot_be_an_option(task: AgentTask) -> None:
    with pytest.raises(ConfigError, match=r"agent\.model: '--yolo' begins with '-'"):
        run(CommandDriver("agent {model}"), replace(task, brain=Brain("--yolo")))


def test_environment(task: AgentTask, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_TOKEN", "GIT_DIR", "AGENT_KEY", "AGENTQ_SPEC"):
        monkeypatch.setenv(name, "from the host")
    given = {"DATABASE_URL": "sqlite:///x y", "AGENTQ_SPEC": "csv-import", "PLAYWRIGHT_WORKERS": "2"}
    run(CommandDriver(("env", "-0"), ["AGENT_*"]), replace(task, env=given))
    seen = dict(pair.split("=", 1) for pair in task.transcript.read_text().split("\0") if pair)
    assert {name: seen.get(name) for name in given} == given
    assert seen["AGENTQ_RUN"] == task.run_id and seen["AGENT_KEY"] == "from the host"
    assert not {"SECRET_TOKEN", "GIT_DIR"} & set(seen)
    assert seen["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(("code", "outcome"), [(0, "done"), (1, "failed"), (130, "failed")])
def test_exit_status(task: AgentTask, code: int, outcome: str) -> None:
    result = run(CommandDriver(sh(f"pwd; printf '\\033[32mall   green\\033[0m\\n\\n'; exit {code}")), task)
    assert (result.outcome, result.returncode, result.summary) == (outcome, code, "all green")
    assert (result.tokens, result.cost, result.leftovers) == (0, None, 0) and 0 < result.seconds < 60
    assert task.transcript.read_text().splitlines()[0] == str(task.workspace.resolve())


def test_an_agent_that_was_killed_has_failed(task: AgentTask) -> None:
    result = run(CommandDriver(sh("kill -9 $$")), task)
    assert (result.outcome, result.returncode, result.summary) == ("failed", -9, "")


def test_what_an_agent_leaves_running_is_killed(task: AgentTask) -> None:
    result = run(CommandDriver(sh("setsid sleep 600 & echo served")), task)
    assert (result.outcome, result.leftovers) == ("done", 1)


def test_limits(task: AgentTask) -> None:
    busy = CommandDriver(sh("while :; do echo busy with it; done"), max_output=10_000)
    assert run(busy, task).outcome == "output-limit"
    idle = CommandDriver(sh("echo waiting; sleep 600"))
    assert run(idle, replace(task, limits=Limits(0.2))).outcome == "timeout"
    silent = run(idle, replace(task, limits=Limits(60, 0.2)))
    assert (silent.outcome, silent.summary) == ("silent", "waiting")
    assert run(idle, task, stop=lambda: "paused").outcome == "stopped"


def test_a_silent_agent_is_summed_up_by_the_reason(task: AgentTask) -> None:
    assert run(CommandDriver(sh("sleep 600")), replace(task, limits=Limits(0.1))).summary == "not done after 0.1 s"


def test_missing_agent(task: AgentTask) -> None:
    result = run(CommandDriver("agentq-no-such-agent {prompt_file}"), task)
    assert (result.outcome, result.returncode) == ("missing", 127)
    assert result.summary == "agentq-no-such-agent: No such file or directory"


def test_doctor(tmp_path: Path) -> None:
    def look(command: str) -> tuple[bool, str]:
        (finding,) = CommandDriver(command).doctor()
        assert finding.ok or finding.hint
        return finding.ok, finding.text

    assert look("/bin/sh {prompt_file}") == (True, "agent command '/bin/sh' is /bin/sh")
    assert look("agentq-no-such-agent") == (False, "agent command 'agentq-no-such-agent' is not on the PATH")
    assert look("/nowhere/agent")[0] is False
    assert look("./agent.sh") == (True, "agent command './agent.sh' is looked up in each workspace")


def test_a_program_inside_the_workspace(task: AgentTask) -> None:
    script = task.workspace / "agent.sh"
    script.write_text('#!/bin/sh\ncat "$1"\n')
    script.chmod(0o700)
    assert run(CommandDriver("./agent.sh {prompt_file}"), task).summary == "do it"
