"""The built-in agent against servers that are not ours; opt-in.

AGENTQ_TEST_MESSAGES_URL with AGENTQ_TEST_MESSAGES_MODEL and AGENTQ_TEST_MESSAGES_KEY: any server that speaks the
Messages API, with a model that can call tools. AGENTQ_TEST_LITELLM: the program `litellm` (of `litellm[proxy]`, in
an environment of its own); it translates for a small server here that speaks the Chat Completions API from a script.
"""

import json
import os
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from agent_harness import World, world

URL, LITELLM = os.environ.get("AGENTQ_TEST_MESSAGES_URL", ""), os.environ.get("AGENTQ_TEST_LITELLM", "")
MODEL = os.environ.get("AGENTQ_TEST_MESSAGES_MODEL", "")
SERVER_KEY = os.environ.get("AGENTQ_TEST_MESSAGES_KEY", "")
TASK = """Do these steps with your tools, one after the other.
1. With the tool bash, run: echo 4711 > made.txt
2. With the tool read, read made.txt.
3. Say the number that is in it."""


class Server:
    def __init__(self, url: str) -> None:
        self.url = url


def done(here: World, server: Server, model: str, key: str, **more: Any) -> dict[str, Any]:
    (here.root / "prompt.md").write_text(TASK)
    return here.work(server, key=key, model=model, window=0, turns=20, seconds=300, **more)  # type: ignore[arg-type]


@pytest.mark.skipif(not URL, reason="AGENTQ_TEST_MESSAGES_URL is not set")
def test_a_server_of_your_own(tmp_path: Path) -> None:
    here = world(tmp_path)
    told = done(here, Server(URL), MODEL, SERVER_KEY)
    assert told["outcome"] == "done", told
    assert (here.workspace / "made.txt").read_text() == "4711\n" and "4711" in told["summary"]
    assert told["usage"]["output"] > 0


# ---------------------------------------------------------------- LiteLLM


class Chat(BaseHTTPRequestHandler):
    """A model that speaks the Chat Completions API: it does TASK, and forgets at once what it was told to sum up."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(asked)  # type: ignore[attr-defined]
        if "busy" in asked["model"]:
            return self._send(429, {"error": {"message": "slow down", "type": "rate_limit_error", "code": "429"}})
        results = [message for message in asked["messages"] if message["role"] == "tool"]
        steps = [("bash", {"command": "echo 4711 > made.txt"}), ("read", {"file_path": "made.txt"})]
        call = steps[len(results)] if len(results) < len(steps) else None
        text = None if call else f"The tool said: {results[-1]['content']}"
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if call:
            function = {"name": call[0], "arguments": json.dumps(call[1])}
            message["tool_calls"] = [{"id": f"c{len(results)}", "type": "function", "function": function}]
        usage = {"prompt_tokens": 50, "completion_tokens": 9, "total_tokens": 59}
        end = "tool_calls" if call else "stop"
        if not asked.get("stream"):
            return self._send(200, self._chunk("chat.completion", {"message": message}, end, usage))
        if call:
            message["tool_calls"][0]["index"] = 0
        parts = [
            self._chunk("chat.completion.chunk", {"delta": message}, None, None),
            self._chunk("chat.completion.chunk", {"delta": {}}, end, None),
            {**self._chunk("chat.completion.chunk", {}, None, usage), "choices": []},
        ]
        data = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"
        return self._answer(200, data.encode(), "text/event-stream")

    def _chunk(self, kind: str, choice: dict[str, Any], end: str | None, usage: Any) -> dict[str, Any]:
        choices = [{"index": 0, "finish_reason": end, **choice}]
        return {"id": "x", "object": kind, "created": 1, "model": "m", "choices": choices, "usage": usage}

    def _send(self, status: int, value: Any) -> None:
        self._answer(status, json.dumps(value).encode(), "application/json")

    def _answer(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def chat() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proxy(chat: Any, tmp_path: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = f"http://127.0.0.1:{chat.server_address[1]}/v1"
    models = [
        {"model_name": name, "litellm_params": {"model": f"hosted_vllm/{name}", "api_base": base, "api_key": "x"}}
        for name in ("scripted", "busy")
    ]
    config = {
        "model_list": models,
        "general_settings": {"master_key": "sk-proxy"},
        "litellm_settings": {"num_retries": 0},
    }
    (tmp_path / "proxy.yaml").write_text(json.dumps(config))
    with (tmp_path / "proxy.log").open("w") as log:
        child = subprocess.Popen(
            [LITELLM, "--config", str(tmp_path / "proxy.yaml"), "--host", "127.0.0.1", "--port", str(port)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=tmp_path,
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "DISABLE_ADMIN_UI": "True"},
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while not _answers(f"{url}/health/liveliness"):
            assert child.poll() is None and time.monotonic() < end, (tmp_path / "proxy.log").read_text()[-3000:]
            time.sleep(0.3)
        yield Server(url)
    finally:
        child.terminate()
        child.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.skipif(not LITELLM, reason="AGENTQ_TEST_LITELLM is not set")
def test_litellm_as_the_server(proxy: Server, chat: Any, tmp_path: Path) -> None:
    here = world(tmp_path / "world")
    told = done(here, proxy, "scripted", "sk-proxy")
    assert (told["outcome"], told["turns"]) == ("done", 3), told
    assert (here.workspace / "made.txt").read_text() == "4711\n" and "4711" in told["summary"]
    assert [len(asked["tools"]) for asked in chat.asked] == [6, 6, 6] and chat.asked[0]["stream"]
    assert told["usage"]["output"] == 27, told
    told = done(here, proxy, "scripted", "sk-wrong")
    # Without a database it cannot look a key up, and calls that the request's fault.
    assert told["outcome"] == "failed" and (told["cause"], told["status"]) in (("auth", 401), ("request", 400)), (
        told
    )
    told = done(here, proxy, "nobody", "sk-proxy")
    assert (told["outcome"], told["cause"]) == ("failed", "request")
    told = done(here, proxy, "busy", "sk-proxy")
    assert (told["outcome"], told["cause"], told["status"]) == ("failed", "rate-limit", 429)
