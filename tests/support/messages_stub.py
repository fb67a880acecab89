"""A local server that speaks the Messages API and answers as a script says.

    with MessagesStub(in_order([use("Bash", {"command": "ls"}), say("done")])) as stub:
        ...                         # a client with base URL stub.url and any key
        stub.requests[0].body

A script is a function from a request to a reply; `in_order`, `always` and `writes` make one. It is called by several
threads. The server refuses, as the real one does, requests that no real server would take (see `complaint`).
"""

import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from support.messages_format import USED, Reply, Request, complaint, message_of, model_row, stream, tokens

from agentq.core.usage import Usage

WINDOW = 200_000  # tokens: `max_input_tokens` of every model, unless the stub is told another
_SOME = "ok"  # what a request without tools is told: agents ask for titles and the like beside their work

Script = Callable[[Request], Reply]


# ---------------------------------------------------------------- replies


def say(text: str, usage: Usage = USED, headers: Mapping[str, str] | None = None, stop: str = "end_turn") -> Reply:
    return Reply(({"type": "text", "text": text},), usage, stop, headers=headers or {})


def use(
    name: str, arguments: Mapping[str, Any], text: str = "", id: str = "", usage: Usage = USED,
    headers: Mapping[str, str] | None = None,
) -> Reply:  # fmt: skip
    """One tool call. id: made up when empty; unique per answer."""
    said = ({"type": "text", "text": text},) if text else ()
    call = {"type": "tool_use", "id": id, "name": name, "input": dict(arguments)}
    return Reply((*said, call), usage, "tool_use", headers=headers or {})


def together(*replies: Reply) -> Reply:
    """One answer with the contents of several: text and tool calls side by side."""
    blocks = tuple(block for reply in replies for block in reply.blocks)
    calls = any(block["type"] == "tool_use" for block in blocks)
    return replace(replies[-1], blocks=blocks, stop_reason="tool_use" if calls else "end_turn")


def fail(
    status: int,
    kind: str = "",
    message: str = "",
    headers: Mapping[str, str] | None = None,
    *,
    begun: bool = False,
) -> Reply:
    """An error. begun: as an event of a stream that began well (status 200 by then)."""
    kind = kind or KINDS.get(status, "api_error")
    return Reply(status=status, kind=kind, message=message or kind, headers=headers or {}, begun=begun)


def hang(seconds: float = 3600.0, *, begun: bool = False) -> Reply:
    """Takes the request and sends nothing for so long, or until the stub closes."""
    return Reply(({"type": "text", "text": "late"},), silent=seconds, begun=begun)


def cut() -> Reply:
    """Breaks the connection in the middle of the answer."""
    return replace(say("this sentence has no end"), broken=True)


KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error",
    504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip


# ---------------------------------------------------------------- scripts


def always(reply: Reply) -> Script:
    return lambda _request: reply


def in_order(replies: Sequence[Reply], aside: Reply | None = None) -> Script:
    """The replies one after the other, to requests that offer tools; then an error that says the script is over.
    aside: the answer to requests without tools."""
    left, lock = list(replies), threading.Lock()

    def script(request: Request) -> Reply:
        if not request.tools:
            return aside or say(_SOME)
        with lock:
            return left.pop(0) if left else fail(400, message=f"the script of {len(replies)} replies is over")

    return script


def writes(files: Mapping[str, str], then: str = "done", message: str = "work") -> Script:
    """An agent that writes `files` (path in the workspace -> text) with whatever tool the client offers, commits them
    in its shell, and ends saying `then`. What a tool refuses is tried once more in the shell, then told as it is.

    It looks only at the conversation it is sent, so one script serves several at a time.
    """

    def script(request: Request) -> Reply:
        if not request.tools:
            return say(_SOME)
        done = request.tool_results
        failed = [result for result in done if result.get("is_error")]
        step = len(done) - len(failed)
        if len(failed) > step + 1 or (len(done) >= 2 and all(result.get("is_error") for result in done[-2:])):
            return say(f"it does not work: {failed[-1]['text']}")
        if step < len(files):
            path, text = list(files.items())[step]
            again = bool(done) and bool(done[-1].get("is_error"))
            return write(request, path, text, by_shell=again)
        if step == len(files):
            return shell(request, f"git add -A && git commit -q -m {_quoted(message)}")
        return say(then)

    return script


def write(request: Request, path: str, text: str, *, by_shell: bool = False) -> Reply:
    """A call that writes a file, by the tool that the client offers for it."""
    tool = next((tool for tool in request.tools if tool.get("name") in ("Write", "write", "write_file")), None)
    if tool is None or by_shell:
        return shell(request, f'mkdir -p "$(dirname {path})" && printf %s {_quoted(text)} > {path}')
    fields = tool["input_schema"]["properties"]
    names = [
        next(name for name in known if name in fields) for known in (("file_path", "path"), ("content", "text"))
    ]
    return use(tool["name"], {names[0]: path, names[1]: text})


def shell(request: Request, command: str) -> Reply:
    """A call of the shell that the client offers."""
    tool = next(tool for tool in request.tools if str(tool.get("name")).lower() == "bash")
    return use(tool["name"], {"command": command})


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# ---------------------------------------------------------------- the server


class MessagesStub:
    """The server; it listens from construction to `close`. requests: all that came, in order.

    Thread-safe. `close` ends every connection and waits for their threads.
    """

    def __init__(
        self, script: Script, window: int = WINDOW, models: Sequence[str] = ("claude-sonnet-5-5",)
    ) -> None:
        self.script, self.window, self.models = script, window, models
        self.lock, self.closing = threading.Lock(), threading.Event()
        self.raised: list[Exception] = []
        self._requests: list[Request] = []
        self._connections: set[socket.socket] = set()
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def __enter__(self) -> "MessagesStub":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Raises what the script raised, if nothing else went wrong."""
        self.close()
        if self.raised and kind is None:
            raise self.raised[0]

    @property
    def requests(self) -> list[Request]:
        with self.lock:
            return list(self._requests)

    @property
    def asked(self) -> list[Request]:
        """The requests to /v1/messages that offer tools: those of the work itself."""
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
        asks = method == "POST" and urlsplit(path).path.endswith("/v1/messages")
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

    def __init__(self, stub: MessagesStub) -> None:
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
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            return self._error(400, "invalid_request_error", "the body is no JSON")
        request = self.stub.record(self.command, self.path, headers, body)
        path = urlsplit(self.path).path
        if request.number >= 0:
            return self._messages(request)
        if self.command == "POST" and path.endswith("/v1/messages/count_tokens"):
            return self._json(200, {"input_tokens": tokens(request)})
        if path.endswith("/v1/models") or "/v1/models/" in path:
            return self._models(path.partition("/v1/models")[2].strip("/"))
        return self._json(200, {"message": "hello"})

    do_GET = do_HEAD = do_POST = handle_request

    def _models(self, wanted: str) -> None:
        rows = [model_row(name, self.stub.window) for name in self.stub.models]
        if wanted:
            row = next((row for row in rows if row["id"] == wanted), None)
            return self._json(200, row) if row else self._error(404, "not_found_error", f"model: {wanted}")
        names = [row["id"] for row in rows]
        return self._json(200, {"data": rows, "has_more": False, "first_id": names[0], "last_id": names[-1]})

    def _messages(self, request: Request) -> None:
        if wrong := complaint(request.body):
            return self._error(400, "invalid_request_error", wrong)
        if not request.key:
            return self._error(401, "authentication_error", "x-api-key header is required")
        try:
            reply = self.stub.script(request)
        except Exception as error:
            self.stub.raised.append(error)
            return self._error(500, "api_error", f"the script raised {error!r}")
        if reply.silent and not reply.begun:
            self.stub.closing.wait(reply.silent)
        if reply.status != 200 and not reply.begun:
            return self._error(reply.status, reply.kind, reply.message, reply.headers)
        message = message_of(request, reply)
        if request.body.get("stream"):
            return self._stream(message, reply)
        if reply.broken or reply.begun:
            return self._break(message, reply)
        return self._json(200, message, reply.headers)

    def _stream(self, message: dict[str, Any], reply: Reply) -> None:
        self._head(
            200,
            {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"},
            reply.headers,
        )
        events = list(stream(message))
        for count, (name, data) in enumerate(events):
            if reply.begun and count == 2 and self._middle(reply):
                return
            if reply.broken and count == len(events) // 2:
                self.close_connection = True
                return
            self._chunk(name, data)
        self.wfile.write(b"0\r\n\r\n")

    def _middle(self, reply: Reply) -> bool:
        """What happens after the first events; whether the answer is over."""
        if reply.silent:
            self.stub.closing.wait(reply.silent)
            return self.stub.closing.is_set()
        self._chunk("error", {"type": "error", "error": {"type": reply.kind, "message": reply.message}})
        self.wfile.write(b"0\r\n\r\n")
        return True

    def _break(self, message: dict[str, Any], reply: Reply) -> None:
        """Half of an answer that is not a stream."""
        data = json.dumps(message).encode()
        self._head(200, {"content-type": "application/json", "content-length": str(len(data))}, reply.headers)
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self.stub.closing.wait(reply.silent)
        self.close_connection = True

    def _chunk(self, name: str, data: dict[str, Any]) -> None:
        text = f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
        self.wfile.flush()

    def _error(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_stub"}
        self._json(status, error, headers)

    def _json(self, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self._head(status, {"content-type": "application/json", "content-length": str(len(data))}, headers or {})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: int, own: Mapping[str, str], headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**own, "request-id": "req_stub", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _end(connection: socket.socket) -> None:
    with suppress(OSError):  # the client was first
        connection.shutdown(socket.SHUT_RDWR)
