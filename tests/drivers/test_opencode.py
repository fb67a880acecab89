"""opencode: what 1.18 was seen to say; and the real binary, where it is on the PATH (AGENTQ_TEST_FULL=1)."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.messages_format import Reply, Request
from support.messages_stub import MessagesStub, fail, say, use
from support.size import FULL

from agentq import process, sandbox
from agentq.core.usage import Usage
from agentq.drivers.base import AgentTask, Began, Brain, Limits, Said, UsedTokens, UsedTool
from agentq.drivers.opencode import KEY, Opencode, OpencodeReader
from agentq.drivers.runner import AgentProgram

SECRET = "sk-stub-0123456789abcdef"
REAL = shutil.which("opencode") if FULL else None
SEEN = """
{"type":"step_start","timestamp":1,"sessionID":"ses_e00","part":{"id":"prt_1","type":"step-start"}}
{"type":"text","timestamp":2,"sessionID":"ses_e00","part":{"id":"prt_2","type":"text","text":"I look."}}
{"type":"tool_use","timestamp":3,"sessionID":"ses_e00","part":{"type":"tool","tool":"bash","callID":"c","state":{"status":"completed","input":{"command":"echo hi > a.txt","description":"x"},"output":"","title":"echo"}}}
{"type":"step_finish","timestamp":4,"sessionID":"ses_e00","part":{"reason":"tool-calls","type":"step-finish","tokens":{"total":127,"input":60,"output":20,"reasoning":5,"cache":{"write":2,"read":40}},"cost":0.5}}
{"type":"step_start","timestamp":5,"sessionID":"ses_e00","part":{"type":"step-start"}}
{"type":"text","timestamp":6,"sessionID":"ses_e00","part":{"type":"text","text":"all \\u001b[31mdone"}}
{"type":"step_finish","timestamp":7,"sessionID":"ses_e00","part":{"reason":"stop","type":"step-finish","tokens":{"total":120,"input":100,"output":20,"reasoning":0,"cache":{"write":0,"read":0}},"cost":0.25}}
"""


def task(root: Path, **more: Any) -> AgentTask:
    (root / "ws").mkdir(exist_ok=True)
    (root / "prompt.md").write_text("--Do it.\n")
    return AgentTask(
        "alpha", "test", f"{os.getpid()}-{root.name}", root / "ws", root / "prompt.md", root / "log",
        {"AGENTQ_SPEC": "alpha"}, more.pop("limits", Limits(90)), secrets=(SECRET,), **more,
    )  # fmt: skip


def ended(code: int = 0, kind: process.Kind = "exited") -> process.Outcome:
    return process.Outcome(kind, code, 1.0, 0, "", "")


def test_what_it_says_becomes_events_and_a_result(tmp_path: Path) -> None:
    reader = OpencodeReader(task(tmp_path))
    heard = [event for line in SEEN.splitlines() for event in reader.feed(line)]
    assert [type(event) for event in heard] == [Began, Said, UsedTool, UsedTokens, Said, UsedTokens]
    assert heard[2] == UsedTool("bash", "echo hi > a.txt") and heard[4] == Said("all done")
    result = reader.verdict(ended(), "")
    assert (result.outcome, result.summary, result.session, result.turns) == ("done", "all done", "ses_e00", 2)
    assert result.usage == Usage(160, 45, 40, 2) and result.cost == 0.75


@pytest.mark.parametrize(
    ("error", "cause", "status"),
    [
        ({"name": "APIError", "data": {"message": "authentication_error", "statusCode": 401}}, "auth", 401),
        ({"name": "APIError", "data": {"message": "invalid_request_error", "statusCode": 400}}, "request", 400),
        ({"name": "APIError", "data": {"message": "prompt is too long", "statusCode": 400}}, "context", 400),
        ({"name": "APIError", "data": {"message": "rate_limit_error", "statusCode": 429}}, "rate-limit", 429),
        ({"name": "APIError", "data": {"message": "overloaded_error", "statusCode": 529}}, "overloaded", 529),
        ({"name": "APIError", "data": {"message": "Your credit balance is too low", "statusCode": 400}}, "billing", 400),
        ({"name": "UnknownError", "data": {"message": "Unable to connect. Is the computer able to access the url?"}}, "network", 0),
        ({"name": "ContextOverflowError", "data": {"message": "x"}}, "context", 0),
        ({"name": "UnknownError"}, "", 0),
    ],
)  # fmt: skip
def test_why_it_failed(tmp_path: Path, error: dict[str, Any], cause: str, status: int) -> None:
    reader = OpencodeReader(task(tmp_path))
    reader.feed(json.dumps({"type": "error", "sessionID": "ses_e", "error": error}))
    result = reader.verdict(ended(1), "")
    assert (result.outcome, result.cause, result.status) == ("failed", cause, status) and result.summary


def test_an_end_without_an_answer_is_no_success(tmp_path: Path) -> None:
    assert OpencodeReader(task(tmp_path)).verdict(ended(), "").outcome == "failed"
    assert OpencodeReader(task(tmp_path)).verdict(ended(0, "silent"), "").cause == "network"
    reader = OpencodeReader(task(tmp_path))
    for line in [
        "",
        "no",
        "[]",
        '{"type": []}',
        '{"type": "tool_use", "part": 5}',
        '{"type": "error", "error": 1}',
    ]:
        reader.feed(line)
    assert reader.verdict(ended(), "").outcome == "failed"
    cut_off = OpencodeReader(task(tmp_path))
    cut_off.feed('{"type":"step_finish","part":{"reason":"length","tokens":{"input":1e400}}}')
    assert cut_off.verdict(ended(), "").outcome == "failed"


def test_its_key_is_in_no_argument_and_its_settings_are_ours(tmp_path: Path) -> None:
    brain = Brain("m1", "anthropic", "http://127.0.0.1:1", SECRET, 100_000)
    made = task(tmp_path, brain=brain, session="ses_x", keep="KEEP THIS")
    command, env = Opencode().command(made, "/bin/opencode"), Opencode().env(made)
    settings = json.loads(env["OPENCODE_CONFIG_CONTENT"])
    assert SECRET not in str(command) + env["OPENCODE_CONFIG_CONTENT"] and env[KEY] == SECRET
    assert "--model=agentq/m1" in command and "--session=ses_x" in command
    assert settings["compaction"]["reserved"] == 40_000 and "KEEP THIS" in str(settings["agent"])
    assert settings["provider"]["agentq"]["options"]["baseURL"] == "http://127.0.0.1:1/v1"
    assert settings["permission"] == {"webfetch": "deny", "websearch": "deny"}
    own = task(tmp_path, brain=Brain("anthropic/claude"))
    assert "provider" not in json.loads(Opencode().env(own)["OPENCODE_CONFIG_CONTENT"])
    assert "--model=anthropic/claude" in Opencode().command(own, "opencode")


# ---------------------------------------------------------------- the real one


real = pytest.mark.skipif(REAL is None, reason="AGENTQ_TEST_FULL=1 and opencode on the PATH")


def walls(command: list[str], made: AgentTask, folders: tuple[Path, ...]) -> list[str]:
    allowed = sandbox.Walls(
        made.workspace, folders, (made.prompt_file, Path(str(REAL)).resolve().parents[2]), True
    )
    return sandbox.find("required").wrap(command, allowed)


@real
def test_it_works_in_the_sandbox_and_goes_on_with_a_conversation(tmp_path: Path) -> None:
    def script(request: Request) -> Reply:
        if not request.tools:
            return say("a title")
        tries = f"echo hi > a.txt; echo x > {tmp_path}/outside; echo x >> .git/config; env > seen; git add -A; git commit -qm w"
        done = request.tool_results
        return say("done") if done else use("bash", {"command": tries, "description": "work"})

    subprocess.run(["git", "init", "-q", str(tmp_path / "ws")], check=True)
    for key, value in (("user.name", "a"), ("user.email", "a@localhost")):
        subprocess.run(["git", "-C", str(tmp_path / "ws"), "config", key, value], check=True)
    before = (tmp_path / "ws/.git/config").read_text()
    (tmp_path / "ws/.env").write_text(
        "HTTP_PROXY=http://127.0.0.1:9\nOPENCODE_CONFIG_CONTENT={}\nOF_THE_PROJECT=1\n"
    )
    (tmp_path / "ws/opencode.json").write_text('{"mcp":{"evil":{"type":"local","command":["touch","EVIL"]}}}')
    with MessagesStub(script) as stub:
        made = task(tmp_path, brain=Brain("m1", "anthropic", stub.url, SECRET, 100_000))
        driver = AgentProgram(Opencode(str(REAL)), wrap=walls)
        result = driver.run(made, stop=lambda: None, tick=lambda: None)
        assert (result.outcome, result.summary, result.turns) == ("done", "done", 2), result
        assert "--Do it." in stub.asked[0].text
        again = task(tmp_path, brain=made.brain, session=result.session)
        assert driver.run(again, stop=lambda: None, tick=lambda: None).session == result.session
        assert len(stub.asked[-1].messages) > len(stub.asked[0].messages)
    assert (tmp_path / "ws/a.txt").read_text() == "hi\n" and not (tmp_path / "outside").exists()
    assert (tmp_path / "ws/.git/config").read_text() == before and not (tmp_path / "ws/EVIL").exists()
    seen = (tmp_path / "ws/seen").read_text()
    assert SECRET not in seen and "AGENTQ_SPEC=alpha" in seen and "OF_THE_PROJECT" not in seen
    assert process.strays(made.run_id) == []


@real
@pytest.mark.parametrize(("status", "cause"), [(401, "auth"), (400, "request")])
def test_the_real_one_tells_why(tmp_path: Path, status: int, cause: str) -> None:
    with MessagesStub(lambda request: fail(status) if request.tools else say("t")) as stub:
        made = task(tmp_path, brain=Brain("m1", "anthropic", stub.url, SECRET, 100_000))
        result = AgentProgram(Opencode(str(REAL))).run(made, stop=lambda: None, tick=lambda: None)
    assert (result.outcome, result.cause, result.status) == ("failed", cause, status)
