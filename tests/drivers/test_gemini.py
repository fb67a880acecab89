"""Gemini CLI: what 0.61 was seen to say; and the real one, where it is on the PATH (AGENTQ_TEST_FULL=1)."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from support.size import FULL

from agentq import process, sandbox
from agentq.core.usage import Usage
from agentq.drivers.base import AgentTask, Began, Brain, Limits, Said, UsedTokens, UsedTool
from agentq.drivers.gemini import Gemini, GeminiReader, midnight, status_of
from agentq.drivers.runner import AgentProgram
from agentq.errors import DriverError

SECRET = "AIza-stub-0123456789"
REAL = shutil.which("gemini") if FULL else None
SEEN = """
{"type":"init","timestamp":"t","session_id":"5b5c5abb-fe91-4fda-bf53-f851434fc839","model":"gemini-2.5-pro"}
{"type":"message","timestamp":"t","role":"user","content":"do it"}
{"type":"message","timestamp":"t","role":"assistant","content":"I ","delta":true}
{"type":"message","timestamp":"t","role":"assistant","content":"look. ","delta":true}
{"type":"tool_use","timestamp":"t","tool_name":"run_shell_command","tool_id":"r0","parameters":{"command":"git commit"}}
{"type":"tool_result","timestamp":"t","tool_id":"r0","status":"success","output":"OK"}
{"type":"tool_use","timestamp":"t","tool_name":"write_file","tool_id":"w0","parameters":{"file_path":"/outside","content":"b"}}
{"type":"tool_result","timestamp":"t","tool_id":"w0","status":"error","output":"Path not in workspace: …","error":{"type":"invalid_tool_params","message":"…"}}
{"type":"message","timestamp":"t","role":"assistant","content":"all done","delta":true}
{"type":"result","timestamp":"t","status":"success","stats":{"total_tokens":375,"input_tokens":300,"output_tokens":60,"cached":120,"input":180,"duration_ms":766,"tool_calls":2,"models":{}}}
"""


def task(root: Path, **more: Any) -> AgentTask:
    (root / "ws").mkdir(exist_ok=True)
    (root / "prompt.md").write_text("--Do it.\n")
    return AgentTask(
        "alpha", "test", f"{os.getpid()}-{root.name}", root / "ws", root / "prompt.md", root / "log",
        {"AGENTQ_SPEC": "alpha", "DATABASE_URL": "postgres://u:secret-pw@h/d"}, more.pop("limits", Limits(90)),
        secrets=(SECRET,), **more,
    )  # fmt: skip


def ended(code: int = 0, kind: process.Kind = "exited") -> process.Outcome:
    return process.Outcome(kind, code, 1.0, 0, "", "")


def failed(root: Path, message: str, code: int) -> Any:
    reader = GeminiReader(task(root), root)
    reader.feed(
        json.dumps({"type": "result", "status": "error", "error": {"type": "unknown", "message": message}})
    )
    return reader.verdict(ended(code), "")


def test_what_it_says_becomes_events_and_a_result(tmp_path: Path) -> None:
    chats = tmp_path / "tmp" / "ws" / "chats"
    chats.mkdir(parents=True)
    (chats / "session-2026-11-21T18-22-5b5c5abb.jsonl").touch()
    reader = GeminiReader(task(tmp_path), tmp_path)
    heard = [event for line in SEEN.splitlines() for event in reader.feed(line)]
    assert [type(event) for event in heard] == [Began, Said, UsedTool, UsedTool, Said, UsedTokens]
    assert [event.text for event in heard if isinstance(event, Said)] == ["I look. ", "all done"]
    assert heard[2] == UsedTool("run_shell_command", "git commit")
    result = reader.verdict(ended(), "")
    assert (result.outcome, result.summary, result.denied, result.turns) == (
        "done",
        "all done",
        ("write_file",),
        3,
    )
    assert result.usage == Usage(180, 75, 120) and result.cost is None
    assert result.session.endswith("5b5c5abb.jsonl")


OWN = '[API Error: {"error":{"code":%d,"message":"%s","status":"X","details":[]}}]'


@pytest.mark.parametrize(
    ("message", "code", "cause", "status", "words"),
    [
        (OWN % (400, "API key not valid. Please pass a valid API key."), 144, "auth", 400, "API key not valid"),
        (OWN % (400, "bad"), 144, "request", 400, "bad"),
        (OWN % (403, "denied"), 147, "auth", 403, "denied"),
        (OWN % (500, "boom"), 244, "overloaded", 500, "boom"),
        ("[API Error: The model is overloaded.]", 247, "overloaded", 503, "overloaded"),
        ("[API Error: Quota exceeded for metric per minute\nSuggested retry after 2s.]\nPlease wait", 173, "rate-limit", 429, "Quota"),
        ("[API Error: You exceeded your current quota, please check your plan and billing details.]", 173, "rate-limit", 429, "quota"),
        ("[API Error: You have exhausted your daily quota on this model.]\nPlease wait", 173, "usage-limit", 429, "daily"),
        ("[API Error: fetch failed]", 1, "network", 0, "fetch"),
        ("Invalid auth method selected.", 41, "auth", 0, "auth"),
    ],
)  # fmt: skip
def test_why_it_failed(tmp_path: Path, message: str, code: int, cause: str, status: int, words: str) -> None:
    result = failed(tmp_path, message, code)
    assert (result.outcome, result.cause, result.status) == ("failed", cause, status), result
    assert words in result.summary
    assert (result.resets_at > time.time()) is (cause == "usage-limit")


def test_a_day_begins_where_the_provider_is() -> None:
    at = datetime(2026, 11, 21, 23, 30, tzinfo=ZoneInfo("America/Los_Angeles"))
    assert midnight(at.timestamp()) - at.timestamp() == 1800
    saved = datetime(2026, 11, 1, 0, 30, tzinfo=ZoneInfo("America/Los_Angeles"))  # a day of 25 hours
    assert midnight(saved.timestamp()) - saved.timestamp() == 24.5 * 3600


def test_ends_that_are_no_success(tmp_path: Path) -> None:
    assert GeminiReader(task(tmp_path), tmp_path).verdict(ended(), "").outcome == "failed"
    assert GeminiReader(task(tmp_path), tmp_path).verdict(ended(0, "timeout"), "").cause == "network"
    limit = failed(tmp_path, "Reached max session turns", 53)
    assert (limit.outcome, limit.cause) == ("limit", "turns")
    reader = GeminiReader(task(tmp_path), tmp_path)
    for line in [
        "",
        "x",
        "[]",
        '{"type": {}}',
        '{"type": "result", "stats": 5}',
        '{"type": "init", "session_id": "../../*"}',
    ]:
        reader.feed(line)
    assert reader.verdict(ended(), "").outcome == "failed"
    assert status_of(1, "") == status_of(130, "") == 0


def test_its_settings(tmp_path: Path) -> None:
    made = task(
        tmp_path, brain=Brain("m", "gemini", "http://127.0.0.1:1", SECRET), keep="KEEP", session="/s.jsonl"
    )
    command, env = Gemini().command(made, "gemini"), Gemini().env(made)
    assert SECRET not in str(command) and "--Do it." not in str(command) and "--session-file=/s.jsonl" in command
    home = Path(env["GEMINI_CLI_HOME"]) / ".gemini"
    settings = json.loads((home / "settings.json").read_text())
    assert settings["model"]["compressionThreshold"] == 0.6 and "KEEP" in (home / "GEMINI.md").read_text()
    assert settings["tools"]["exclude"] == ["web_fetch", "google_web_search"]
    assert "GEMINI_CLI_HOME" not in Gemini().env(task(tmp_path))
    with pytest.raises(DriverError, match="speaks 'openai'"):
        Gemini().command(task(tmp_path, brain=Brain("m", "openai", "http://x", SECRET)), "gemini")
    assert Gemini().attach("--x") == [] and Gemini().attach("/s.jsonl") == ["gemini", "--session-file=/s.jsonl"]


# ---------------------------------------------------------------- the real one

real = pytest.mark.skipif(REAL is None, reason="AGENTQ_TEST_FULL=1 and gemini on the PATH")
Answer = Callable[[dict[str, Any]], tuple[int, Any]]


@contextmanager
def server(answer: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """As much of generateContent as gemini needs: (url, bodies)."""
    bodies: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            bodies.append(body)
            status, told = answer(body)
            data = json.dumps(told)
            if status == 200:
                used = {
                    "promptTokenCount": 100,
                    "cachedContentTokenCount": 40,
                    "candidatesTokenCount": 20,
                    "totalTokenCount": 120,
                }
                content = {"role": "model", "parts": told}
                whole = {"candidates": [{"content": content, "finishReason": "STOP"}], "usageMetadata": used}
                data = f"data: {json.dumps(whole)}\r\n\r\n"
            self.send_response(status)
            self.send_header("content-type", "text/event-stream" if status == 200 else "application/json")
            self.end_headers()
            self.wfile.write(data.encode())

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_port}", bodies
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


def run(made: AgentTask) -> Any:
    def walls(command: list[str], made: AgentTask, folders: tuple[Path, ...]) -> list[str]:
        package = Path(str(REAL)).resolve().parents[4]
        allowed = sandbox.Walls(made.workspace, folders, (made.prompt_file, package, Path(str(REAL))), True)
        return sandbox.find("required").wrap(command, allowed)

    Path(os.environ["HOME"], ".gemini").mkdir(exist_ok=True)
    return AgentProgram(Gemini(str(REAL)), wrap=walls).run(made, stop=lambda: None, tick=lambda: None)


@real
def test_it_works_in_the_sandbox_and_goes_on_with_a_conversation(tmp_path: Path) -> None:
    tries = f"echo hi > a.txt; echo x > {tmp_path}/outside; echo x >> .git/config; env > seen; git add -A; git commit -qm w"

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        done = "functionResponse" in str(body["contents"])
        call = {"functionCall": {"name": "run_shell_command", "args": {"command": tries}}}
        return 200, [{"text": "done"} if done else call]

    subprocess.run(["git", "init", "-q", str(tmp_path / "ws")], check=True)
    for key, value in (("user.name", "a"), ("user.email", "a@localhost")):
        subprocess.run(["git", "-C", str(tmp_path / "ws"), "config", key, value], check=True)
    before = (tmp_path / "ws/.git/config").read_text()
    (tmp_path / "ws/AGENTS.md").write_text("THESE WORDS")
    (tmp_path / "ws/.env").write_text("HTTP_PROXY=http://127.0.0.1:9\nGOOGLE_GEMINI_BASE_URL=http://127.0.0.1:9\n")
    with server(answer) as (url, bodies):
        made = task(tmp_path, brain=Brain("gemini-2.5-pro", "gemini", url, SECRET), keep="KEEP THIS")
        result = run(made)
        assert (result.outcome, result.summary, result.turns) == ("done", "done", 2), result
        assert all(words in json.dumps(bodies[0]) for words in ("--Do it.", "THESE WORDS", "KEEP THIS"))
        assert result.usage == Usage(120, 40, 80)
        again = run(task(tmp_path, brain=made.brain, session=result.session))
        assert again.outcome == "done" and len(bodies[-1]["contents"]) > len(bodies[0]["contents"])
    assert (tmp_path / "ws/a.txt").read_text() == "hi\n" and not (tmp_path / "outside").exists()
    assert (tmp_path / "ws/.git/config").read_text() == before
    seen = (tmp_path / "ws/seen").read_text()
    assert SECRET not in seen and "AGENTQ_SPEC=alpha" in seen and "secret-pw" in seen
    assert process.strays(made.run_id) == []


@real
@pytest.mark.parametrize(("status", "cause"), [(403, "auth"), (429, "rate-limit"), (503, "overloaded")])
def test_the_real_one_tells_why(tmp_path: Path, status: int, cause: str) -> None:
    with server(lambda _body: (status, {"error": {"code": status, "message": "no", "status": "X"}})) as (
        url,
        bodies,
    ):
        result = run(task(tmp_path, brain=Brain("gemini-2.5-pro", "gemini", url, SECRET)))
    assert (result.outcome, result.cause, result.status) == ("failed", cause, status), result
    assert len(bodies) <= 2
