"""How the fake Neon hears and answers; each request and each answer is held against the document."""

import json
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from openapi_core.testing import MockRequest
from support.neon_document import BASE, HOST

KEY = "napi_the_key_nobody_may_see"
PROJECT = "shiny-wind-028834"


class Answer(Exception):
    def __init__(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


def error(message: str) -> dict[str, str]:
    return {"code": "", "message": message, "request_id": "1"}


def handler(server: Any) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet: else each answer waits for an acknowledgement

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                self.close_connection = True  # whoever asked was killed

        def _answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query))
            method, path = self.command, parts.path.removeprefix(BASE)
            request = MockRequest(
                HOST, method.lower(), parts.path, args=query, headers=dict(self.headers), data=raw or None
            )
            server.headers_seen.append(f"{self.path} {raw.decode()} {self.headers.get('Authorization')}")
            server.violations += [f"{method} {path}: {text}" for text in server.checker.request(request)]
            if self.headers.get("Authorization") != f"Bearer {KEY}":
                answer = Answer(401, error("this key is not valid"))
            else:
                answer = self._handled(method, path, query, raw)
            server.log.append((method, path.removeprefix(f"/projects/{PROJECT}"), answer.status))
            if not answer.status:
                self.close_connection = True
                return
            body = b"" if answer.body is None else json.dumps(answer.body).encode()
            problems = server.checker.response(request, answer.status, body)
            server.violations += [f"{method} {path} → {answer.status}: {text}" for text in problems]
            self._send(answer, body)

        @staticmethod
        def _handled(method: str, path: str, query: dict[str, str], raw: bytes) -> Answer:
            try:
                answer: Answer = server.handle(method, path, query, json.loads(raw) if raw else None)
            except Exception as exc:
                server.violations.append(f"the fake broke at {method} {path}: {exc!r}")
                raise
            return answer

        def _send(self, answer: Answer, body: bytes) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            if answer.status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
