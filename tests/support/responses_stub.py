"""A local server that speaks the Responses API and answers as a script says.

    with ResponsesStub(in_order([use("exec_command", {"cmd": "ls"}), say("done")])) as stub:
        ...                         # a client with base URL stub.url and any key
        stub.requests[0].body

A script is a function from a request to a reply; `in_order`, `always` and `writes` make one. It is called by several
threads. The server refuses, as the real one does, requests that no real server would take (see `complaint`).
"""

import json
import shlex
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from support.responses_format import USED, Reply, Request, complaint, items_of, response_of, stream

from agentq.core.usage import Usage

Script = Callable[[Request], Reply]


# ---------------------------------------------------------------- replies


def say(text: str, usage: Usage = USED, headers: Mapping[str, str] | None = None) -> Reply:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return Reply(({"type": "message", "role": "assistant", "content": [part]},), usage, headers=headers or {})


def think(text: str) -> Reply:
    """A reasoning item, for `together`."""
    summary = [{"type": "summary_text", "text": text}]
    return Reply(({"type": "reasoning", "summary": summary, "encrypted_content": "c3R1Yg=="},))


def use(
    name: str, arguments: Mapping[str, Any], usage: Usage = USED, headers: Mapping[str, str] | None = None
) -> Reply:
    call = {"type": "function_call", "name": name, "arguments": json.dumps(arguments)}
    return Reply((call,), usage, headers=headers or {})


def together(*replies: Reply) -> Reply:
    """One answer with the output of several."""
    return replace(replies[-1], items=tuple(item for reply in replies for item in reply.items))


def fail(
    status: int,
    message: str = "",
    headers: Mapping[str, str] | None = None,
    *,
    begun: bool = False,
    **error: Any,
) -> Reply:
    """An error; `error`: further fields of it (type, code, resets_at). begun: as the event `response.failed` of a
    stream that began well."""
    return Reply(
        status=status,
        error={"message": message or f"status {status}", "type": "error", **error},
        headers=headers or {},
        begun=begun,
    )


def hang(seconds: float = 3600.0, *, begun: bool = False) -> Reply:
    """Takes the request and sends nothing for so long, or until the stub closes."""
    return replace(say("late"), silent=seconds, begun=begun)


def cut() -> Reply:
    """Breaks the connection in the middle of the answer."""
    return replace(say("this sentence has no end"), broken=True)


# ---------------------------------------------------------------- scripts


def always(reply: Reply) -> Script:
    return lambda _request: reply


def in_order(replies: Sequence[Reply], aside: Reply | None = None) -> Script:
    """The replies one after the other, to requests that offer tools; then an error that says the script is over.
    aside: the answer to requests without tools (a compaction)."""
    left, lock = list(replies), threading.Lock()

    def script(request: Request) -> Reply:
        if not request.tools:
            return aside or say("ok")
        with lock:
            return left.pop(0) if left else fail(400, f"the script of {len(replies)} replies is over")

    return script


def writes(files: Mapping[str, str], then: str = "done", message: str = "work") -> Script:
    """An agent that writes `files` (path in the workspace -> text) in the client's shell, commits them there, and ends
    saying `then`; it ends early when a command fails, saying what that printed.

    It looks only at the conversation it is sent, so one script serves several at a time.
    """
    steps = [f"mkdir -p $(dirname {shlex.quote(path)}) && printf %s {shlex.quote(text)} > {shlex.quote(path)}"
             for path, text in files.items()]  # fmt: skip
    steps += [f"git add -A && git commit -q -m {shlex.quote(message)}"]

    def script(request: Request) -> Reply:
        if not request.tools:
            return say("ok")
        done = request.tool_results
        if done and "STEP-OK" not in done[-1]:
            return say(f"it does not work: {done[-1]}")
        return shell(request, f"{steps[len(done)]} && echo STEP-OK") if len(done) < len(steps) else say(then)

    return script


def shell(request: Request, command: str) -> Reply:
    """A call of the shell that the client offers."""
    names = {tool.get("name") for tool in request.tools}
    if "exec_command" in names:
        return use("exec_command", {"cmd": command})
    return use("shell", {"command": ["/bin/sh", "-c", command]})


# ---------------------------------------------------------------- the server


class ResponsesStub:
    """The server; it listens from construction to `close`. url: the base URL, with /v1. requests: all that came.

    Thread-safe. `close` ends every connection and waits for their threads.
    """

    def __init__(self, script: Script, models: Sequence[str] = ("stub-model",)) -> None:
        self.script, self.models = script, models
        self.lock, self.closing = threading.Lock(), threading.Event()
        self._requests: list[Request] = []
        self._connections: set[socket.socket] = set()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def __enter__(self) -> "ResponsesStub":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def requests(self) -> list[Request]:
        with self.lock:
            return list(self._requests)

    @property
    def asked(self) -> list[Request]:
        """The requests that offer tools: those of the work itself."""
        return [request for request in self.requests if request.number >= 0 and request.tools]

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        with self.lock:
            open_ones = list(self._connections)
        for connection in open_ones:
            _end(connection)
        self._server.server_close()

    def record(self, method: str, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> Request:
        asks = method == "POST" and urlsplit(path).path.endswith("/responses")
        with self.lock:
            number = sum(request.number >= 0 for request in self._requests) if asks else -1
            request = Request(method, path, headers, body, number)
            self._requests.append(request)
        return request

    def opened(self, connection: socket.socket) -> None:
        with self.lock:
            self._connections.add(connection)
        if self.closing.is_set():
            _end(connection)

    def closed(self, connection: socket.socket) -> None:
        with self.lock:
            self._connections.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = False, True, 128

    def __init__(self, stub: ResponsesStub) -> None:
        self.stub = stub
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def setup(self) -> None:
        super().setup()
        self.stub = self.server.stub
        self.stub.opened(self.connection)

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.stub.closed(self.connection)

    def handle_request(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            return self._json(400, {"error": {"message": "the body is no JSON"}})
        request = self.stub.record(self.command, self.path, headers, body)
        if request.number >= 0:
            return self._responses(request)
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "stub"} for name in self.stub.models]
        return self._json(200, {"object": "list", "data": rows})

    do_GET = do_HEAD = do_POST = handle_request

    def _responses(self, request: Request) -> None:
        if wrong := complaint(request):
            return self._json(400, {"error": {"message": wrong, "type": "invalid_request_error", "code": None}})
        reply = self.stub.script(request)
        if reply.silent and not reply.begun:
            self.stub.closing.wait(reply.silent)
        if reply.error and not reply.begun:
            return self._json(reply.status, {"error": reply.error}, reply.headers)
        if request.body.get("stream"):
            return self._stream(request, reply)
        return self._json(200, response_of(request, reply, items_of(request, reply)), reply.headers)

    def _stream(self, request: Request, reply: Reply) -> None:
        head = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
        self._head(200, head, reply.headers)
        events = list(stream(request, reply))
        for count, (name, data) in enumerate(events):
            if reply.silent and reply.begun and count == 1:
                self.stub.closing.wait(reply.silent)
            if reply.broken and count == len(events) // 2:
                self.close_connection = True
                return
            text = f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self._head(status, {"content-type": "application/json", "content-length": str(len(data))}, headers or {})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: int, own: Mapping[str, str], headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**own, "x-request-id": "req_stub", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _end(connection: socket.socket) -> None:
    with suppress(OSError):  # the client was first
        connection.shutdown(socket.SHUT_RDWR)
