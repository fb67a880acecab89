"""aider: what 0.86 was seen to print; and the real one, where it is on the PATH (AGENTQ_TEST_FULL=1)."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.messages_format import Reply, Request
from support.messages_stub import MessagesStub, fail, say
from support.size import FULL

from agentq import process, sandbox
from agentq.core.usage import Usage
from agentq.drivers.aider import Aider, AiderReader
from agentq.drivers.base import AgentTask, Brain, Limits, Retried, Said, UsedTokens, UsedTool
from agentq.drivers.runner import AgentProgram

SECRET = "sk-stub-0123456789abcdef"
REAL = shutil.which("aider") if FULL else None
SEEN = """
Aider v0.86.2
I add it.

Tokens: 12k sent, 2.0k cache write, 1.5k cache hit, 900 received.
Cost: $0.05 message, $0.10 session.

a.txt
Applied edit to a.txt
Commit ecb2ed4 feat: add a
"""
REFUSED = 'litellm.AuthenticationError: AnthropicException - {"type": "error", "error": \nThe API provider is not able to authenticate you. Check your API key.\n'


def task(root: Path, **more: Any) -> AgentTask:
    (root / "ws").mkdir(exist_ok=True)
    (root / "prompt.md").write_text("--Do it.\n")
    return AgentTask(
        "alpha", "test", f"{os.getpid()}-{root.name}", root / "ws", root / "prompt.md", root / "log",
        {"AGENTQ_SPEC": "alpha"}, more.pop("limits", Limits(90)), secrets=(SECRET,), **more,
    )  # fmt: skip


def ended(code: int = 0, kind: process.Kind = "exited") -> process.Outcome:
    return process.Outcome(kind, code, 1.0, 0, "", "")


def test_what_it_prints_becomes_events_and_a_result(tmp_path: Path) -> None:
    reader = AiderReader(task(tmp_path))
    heard = [event for line in SEEN.splitlines() for event in reader.feed(line)]
    used = Usage(8500, 900, 1500, 2000)
    assert [event for event in heard if not isinstance(event, Said)] == [
        UsedTokens(used),
        UsedTool("edit", "a.txt"),
    ]
    assert Said("I add it.") in heard
    result = reader.verdict(ended(), "")
    assert (result.outcome, result.summary, result.turns, result.usage) == ("done", "edited a.txt", 1, used)
    assert result.cost == 0.10
    one_line = AiderReader(task(tmp_path))
    one_line.feed("Tokens: 100 sent, 20 received. Cost: $0.0012 message, $0.0034 session.")
    assert (one_line.used, one_line.cost) == (Usage(100, 20), 0.0034)


@pytest.mark.parametrize(
    ("printed", "cause", "status"),
    [
        (REFUSED, "auth", 401),
        ("litellm.RateLimitError: AnthropicException - x", "rate-limit", 429),
        ("litellm.InternalServerError: AnthropicException - x", "overloaded", 500),
        ("litellm.InternalServerError: AnthropicException - [Errno 111] Connection refused", "network", 0),
        ("litellm.APIConnectionError: x", "network", 0),
        ("litellm.Timeout: x", "network", 0),
        ("litellm.BadRequestError: x", "request", 400),
        ("Model anthropic/m1 has hit a token limit!", "context", 400),
        ("The LLM did not conform to the edit format.", "", 0),
        ("", "", 0),
    ],
)
def test_it_ends_with_0_whatever_its_model_answered(tmp_path: Path, printed: str, cause: str, status: int) -> None:
    reader = AiderReader(task(tmp_path))
    for line in printed.splitlines():
        reader.feed(line)
    result = reader.verdict(ended(), "")
    assert (result.outcome, result.cause, result.status) == ("failed", cause, status) and result.summary


def test_an_error_after_an_answer_counts(tmp_path: Path) -> None:
    reader = AiderReader(task(tmp_path))
    for line in ["Tokens: 100 sent, 20 received.", *REFUSED.splitlines()]:
        reader.feed(line)
    result = reader.verdict(ended(), "")
    assert (result.outcome, result.cause, result.usage) == ("failed", "auth", Usage(100, 20))


def test_an_error_before_an_answer_does_not_count(tmp_path: Path) -> None:
    reader = AiderReader(task(tmp_path))
    lines = [
        "litellm.RateLimitError: x",
        "Retrying in 2.0 seconds...",
        "litellm.RateLimitError: x",
        "Retrying in 4.0 seconds...",
    ]
    heard = [event for line in lines for event in reader.feed(line)]
    assert [(event.status, event.attempt, event.delay) for event in heard if isinstance(event, Retried)] == [
        (429, 1, 2.0), (429, 2, 4.0),
    ]  # fmt: skip
    assert reader.verdict(ended(0, "timeout"), "").cause == "rate-limit"
    reader.feed("Tokens: 100 sent, 20 received.")
    assert reader.verdict(ended(), "").outcome == "done"
    assert AiderReader(task(tmp_path)).verdict(ended(0, "silent"), "").cause == "network"
    for line in [
        "Tokens: many sent, . received.",
        "Cost: $.. message, $... session.",
        "Applied edit to ",
        "\x1b[31m",
    ]:
        reader.feed(line)
    assert reader.verdict(ended(1), "").outcome == "failed"


def test_its_key_is_in_no_argument_and_no_file_of_the_project_steers_it(tmp_path: Path) -> None:
    made = task(tmp_path, brain=Brain("m1", "anthropic", "http://127.0.0.1:1", SECRET))
    command, env = Aider().command(made, "aider"), Aider().env(made)
    assert SECRET not in str(command) and env["ANTHROPIC_API_KEY"] == SECRET
    told = next(word for word in command if word.startswith("--env-file=")).partition("=")[2]
    assert (
        "ANTHROPIC_API_BASE=http://127.0.0.1:1\n" in Path(told).read_text()
        and SECRET not in Path(told).read_text()
    )
    assert env["ANTHROPIC_API_BASE"] == "http://127.0.0.1:1" and "--model=anthropic/m1" in command
    assert any(word.startswith("--config=") for word in command) and any(
        w.startswith("--env-file=") for w in command
    )
    assert Aider().attach("x") == [] and Aider().doctor("0.86")[0].ok
    own = task(tmp_path, brain=Brain("sonnet"))
    assert "--model=sonnet" in Aider().command(own, "aider") and "OPENAI_API_KEY" not in Aider().env(own)


# ---------------------------------------------------------------- the real one

real = pytest.mark.skipif(REAL is None, reason="AGENTQ_TEST_FULL=1 and aider on the PATH")


def run(made: AgentTask) -> Any:
    def walls(command: list[str], made: AgentTask, folders: tuple[Path, ...]) -> list[str]:
        package = Path(str(REAL)).absolute().parents[1]
        return sandbox.find("required").wrap(
            command, sandbox.Walls(made.workspace, folders, (made.prompt_file, package), True)
        )

    return AgentProgram(Aider(str(REAL)), wrap=walls).run(made, stop=lambda: None, tick=lambda: None)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "ws"
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    for key, value in (("user.name", "a"), ("user.email", "a@localhost")):
        subprocess.run(["git", "-C", str(folder), "config", key, value], check=True)
    (folder / "x.txt").write_text("x\n")
    (folder / ".aider.conf.yml").write_text("test-cmd: touch EVIL\nauto-test: true\n")
    (folder / ".env").write_text("ANTHROPIC_API_BASE=http://127.0.0.1:9\n")
    subprocess.run(["git", "-C", str(folder), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(folder), "commit", "-qm", "base"], check=True)
    return folder


def said(folder: Path, *args: str) -> str:
    return subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=True).stdout


@real
def test_it_edits_and_commits_in_the_sandbox(tmp_path: Path, workspace: Path) -> None:
    def script(request: Request) -> Reply:
        if "commit message" in request.system.lower():
            return say("feat: add a")
        return say("I add it.\n\na.txt\n```\nhi\n```\n")  # an unknown model answers with whole files

    with MessagesStub(script) as stub:
        made = task(tmp_path, brain=Brain("m1", "anthropic", stub.url, SECRET))
        result = run(made)
        assert (result.outcome, result.summary, result.turns) == ("done", "edited a.txt", 1), result
        assert "--Do it." in stub.requests[0].text and stub.requests[0].key == SECRET
    assert said(workspace, "log", "-1", "--format=%s") == "feat: add a\n"
    assert said(workspace, "status", "--short") == ""
    assert (workspace / "a.txt").read_text() == "hi\n" and not (workspace / "EVIL").exists()
    assert process.strays(made.run_id) == []


@real
def test_the_real_one_tells_why(tmp_path: Path, workspace: Path) -> None:
    with MessagesStub(lambda _request: fail(401)) as stub:
        result = run(task(tmp_path, brain=Brain("m1", "anthropic", stub.url, SECRET)))
    assert (result.outcome, result.cause, result.status, result.returncode) == ("failed", "auth", 401, 0), result
