"""A workspace and what runs inside its walls. In a test module: `from support.walls import inside, workspace`."""

import os
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agentq import sandbox
from agentq.sandbox import Walls

Done = subprocess.CompletedProcess[str]
Inside = Callable[..., Done]
needs_walls = pytest.mark.skipif(
    sandbox.find("auto").mode == "none", reason=sandbox.find("auto").why or "no bubblewrap"
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A repository of one commit that borrows its objects, as agentq makes them."""
    mirror, made = tmp_path / "mirror.git", tmp_path / "ws" / "alpha"
    source = tmp_path / "source"
    git(tmp_path, "init", "-q", "-b", "work", str(source))
    (source / "file").write_text("base\n")
    git(source, "add", "-A")
    git(source, "commit", "-qm", "base")
    git(tmp_path, "clone", "-q", "--bare", str(source), str(mirror))
    git(tmp_path, "clone", "-q", "--shared", str(mirror), str(made))
    return made


@pytest.fixture
def inside(workspace: Path) -> Inside:
    """Runs a shell script inside the walls of `workspace`; keywords are those of Walls."""

    def run(script: str, env: dict[str, str] | None = None, **walls: object) -> Done:
        command = sandbox.find("required").wrap(["/bin/bash", "-c", script], Walls(workspace, **walls))  # type: ignore[arg-type]
        return subprocess.run(
            command, cwd=workspace, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    return run


def git(cwd: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def python(code: str) -> str:
    return f"{shlex.quote(sys.executable)} -I -S -c {shlex.quote(code)}"


@contextmanager
def server(family: int, address: object, say: bytes = b"hello") -> Iterator[socket.socket]:
    """Says `say` to whoever comes."""
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen(50)

        def answer() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client:
                        client.sendall(say)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield listener
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
