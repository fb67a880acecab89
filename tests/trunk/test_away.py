"""A remote that is there and cannot answer: what is not said is never taken for 'it is not there'."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import project as projects

from agentq.errors import GitError
from agentq.trunk.git import is_away
from agentq.trunk.mirror import Mirror

REF = "refs/agentq/wip/alpha/verify"
ADVERTISED = b"001e# service=git-upload-pack\n0000"


class Remote(ThreadingHTTPServer):
    """Answers every request with `status` and `body`, or closes the connection where `status` is 0."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body = 503, b""


class Handler(BaseHTTPRequestHandler):
    server: Remote

    def do_GET(self) -> None:
        if not self.server.status:
            self.connection.close()
            return
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/x-git-upload-pack-advertisement")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def remote() -> Iterator[Remote]:
    with Remote() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def mirror(tmp_path: Path, remote: Remote) -> Mirror:
    made = Mirror(tmp_path / "mirror.git", f"http://127.0.0.1:{remote.server_port}/x.git", "main", {}, 30)
    made.ensure()
    return made


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b""), (500, b""), (429, b""), (404, b""), (401, b""), (200, ADVERTISED + b"0030"), (200, b"<html>"), (0, b"")],
    ids=["503", "500", "429", "404", "401", "half an answer", "a page", "hung up"],
)  # fmt: skip
def test_no_answer_is_not_absence(mirror: Mirror, remote: Remote, status: int, body: bytes) -> None:
    remote.status, remote.body = status, body
    with pytest.raises(GitError) as caught:
        mirror.obtain("1" * 40, REF)
    assert caught.value.retryable
    with pytest.raises(GitError) as caught:
        mirror.fetch()
    assert caught.value.retryable == (status in (0, 429, 500, 503)), caught.value.stderr


def test_what_the_remote_says_is_not_there(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In English, whatever the person speaks."""
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    mirror.url = str(projects.build(tmp_path / "p").hub)
    assert not mirror.obtain("1" * 40, REF) and mirror.fetch_ref(REF) == ""
    mirror.url = str(tmp_path / "gone")
    with pytest.raises(GitError):
        mirror.fetch_ref(REF)


@pytest.mark.parametrize(
    "said",
    [
        "fatal: unable to access 'https://h/x.git/': The requested URL returned error: 503",
        "error: RPC failed; curl 56 GnuTLS recv error (-54): Error in the pull function.",
        "fatal: early EOF", "fatal: the remote end hung up unexpectedly",
        "fetch-pack: unexpected disconnect while reading sideband packet",
        "fatal: unable to access 'https://h/': OpenSSL SSL_read: Connection was reset, errno 10054",
        "fatal: unable to access 'https://h/': Recv failure: Connection reset by peer",
        "fatal: unable to access 'https://h/': Failed to connect to h port 443: Connection timed out",
        "ssh: connect to host h port 22: Operation timed out", "client_loop: send disconnect: Broken pipe",
        "kex_exchange_identification: Connection closed by remote host",
    ],
)  # fmt: skip
def test_words_of_a_remote_that_is_away(said: str) -> None:
    assert is_away(said)


@pytest.mark.parametrize(
    "said",
    [
        "fatal: couldn't find remote ref refs/heads/main", "fatal: Authentication failed for 'https://h/'",
        "fatal: unable to access 'https://h/': The requested URL returned error: 404",
        "fatal: unable to access 'https://h/': SSL certificate problem: certificate has expired",
        "fatal: '/x' does not appear to be a git repository", "git@h: Permission denied (publickey).",
    ],
)  # fmt: skip
def test_words_of_a_remote_that_will_say_the_same_later(said: str) -> None:
    assert not is_away(said)
