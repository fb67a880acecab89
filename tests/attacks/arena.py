"""What an attack on a tool's walls may aim at: logins, another process, other specs, the mirror, the origin, servers
that wait for data. `damage` looks at all of it, whatever the attack was: an attack names no harm of its own.
"""

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agentq import hiding, process, sandbox
from agentq.agent.shell import Run, Shell

LOGINS = (
    ".ssh/id_ed25519", ".aws/credentials", ".config/gh/hosts.yml", ".netrc", ".git-credentials", ".docker/config.json",
    ".claude/.credentials.json", ".codex/auth.json", ".gemini/oauth_creds.json", ".bash_history", ".pgpass",
)  # fmt: skip
SETTLE = 0.4  # s after a tool's end in which something that outlived it would write again


@dataclass
class Arena:
    """`secret` is in every login, in the environment of another process, and in another spec's folder."""

    base: Path
    secret: str = field(default_factory=lambda: secrets.token_hex(16))
    heard: list[str] = field(default_factory=list)
    listeners: "list[Listener]" = field(default_factory=list)
    victim: "subprocess.Popen[bytes] | None" = None
    places: dict[str, str] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        return self.base / "ws" / "alpha"

    def tool(self, script: str, *, walls: bool, seconds: float = 20) -> Run:
        """Run `script` as the built-in agent runs a command; without `walls` plainly, as a control."""
        os.environ["HOME"] = str(self.base / "home")
        if not walls:
            return self._bare(script, seconds)
        box = sandbox.find("required")
        hidden = hiding.of_checkout(self.base / "checkout")
        allowed = sandbox.Walls(self.workspace, readable=(self.base,), hidden=hidden)
        env = {**process.clean_env(process.BASE_ENV, {}), **self.places}
        shell = Shell(
            self.workspace, env, self.base / "output", wrap=lambda command: box.wrap(command, allowed),
            seconds=seconds, left=lambda: seconds, alive=lambda: None,
        )  # fmt: skip
        return shell.run(script)

    def clear(self) -> None:
        """The workspace as it was, for the next attack."""
        self.heard.clear()
        for command in ("reset -q --hard origin-base", "clean -ffdxq"):
            subprocess.run(["git", *command.split()], cwd=self.workspace, check=True)

    def _bare(self, script: str, seconds: float) -> Run:
        done = subprocess.run(
            ["/bin/bash", "-c", script], cwd=self.workspace, env={**os.environ, **self.places}, timeout=seconds + 20,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            check=False,
        )  # fmt: skip
        return Run(script, done.stdout)

    def damage(self, before: dict[str, str], run: Run) -> list[str]:
        """What an attack achieved, [] if nothing."""
        found = ["a secret was read"] if self.secret in run.output else []
        after = self.state()
        found += [
            f"{name} changed" for name in sorted(before.keys() | after) if before.get(name) != after.get(name)
        ]
        for listener in self.listeners:
            listener.caught_up()
        found += self.heard
        if self.victim and self.victim.poll() is not None:
            found.append("another process was killed")
        pulse = self.workspace / "pulse"
        if pulse.exists():
            size = pulse.stat().st_size
            time.sleep(SETTLE)
            found += ["it outlived its tool"] if pulse.stat().st_size != size else []
        return found

    def state(self) -> dict[str, str]:
        """Everything outside the workspace, and what steers git inside it."""
        roots = [self.base / name for name in ("home", "outside", "ws/beta", "mirror.git", "hub.git")]
        git = self.workspace / ".git"
        roots += [git / name for name in ("config", "config.worktree", "commondir", "hooks", "info", "remotes")]
        roots += [git / "objects" / "info" / "alternates"]
        files = [path for root in roots for path in (root, *(root.rglob("*") if root.is_dir() else ()))]
        return {str(path.relative_to(self.base)): _content(path) for path in files if os.path.lexists(path)}


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link {os.readlink(path)}"
    if not path.is_file():
        return "other"
    return f"{path.stat().st_mode:o} {path.read_bytes().hex()}"


@contextmanager
def arena(base: Path) -> Iterator[Arena]:
    made = Arena(base)
    for name in LOGINS:
        file = base / "home" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"login {made.secret}\n")
    for name in (".env", ".git/agentq/kept.json"):
        (base / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        (base / "checkout" / name).write_text(f"PASSWORD={made.secret}\n")
    for name in ("outside", "ws/beta"):
        (base / name).mkdir(parents=True)
        (base / name / "precious").write_text("precious\n")
    _repository(made)
    with ExitStack() as stack:
        made.places = {
            "OUT": str(base / "outside"),
            "BETA": str(base / "ws" / "beta"),
            "PY": f"{sys.executable} -I -S",
        }
        made.places |= {
            "HOME": str(base / "home"),
            "MIRROR": str(base / "mirror.git"),
            "HUB": str(base / "hub.git"),
            "CHECKOUT": str(base / "checkout"),
        }
        for name in ("TCP", "UDP", "SOCK", "ABSTRACT"):
            made.listeners.append(Listener(made, name))
            stack.callback(made.listeners[-1].close)
            made.places[name] = made.listeners[-1].place
        env = {"PATH": os.environ["PATH"], "SERVICE_TOKEN": made.secret}
        made.victim = subprocess.Popen(["/bin/sleep", "300"], env=env, start_new_session=True)
        made.places["VICTIM"] = str(made.victim.pid)
        try:
            made.tool("true", walls=True)
            yield made
        finally:
            made.victim.kill()
            made.victim.wait()


def _repository(made: Arena) -> None:
    base, hub, mirror, workspace = made.base, made.base / "hub.git", made.base / "mirror.git", made.workspace
    source = base / "source"

    def git(*args: str, cwd: Path = base) -> None:
        subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True)

    git("init", "-q", "-b", "main", str(source))
    (source / "app.py").write_text("print('app')\n")
    git("add", "-A", cwd=source)
    git("commit", "-qm", "base", cwd=source)
    git("clone", "-q", "--bare", str(source), str(hub))
    git("clone", "-q", "--bare", str(source), str(mirror))
    git("clone", "-q", "--shared", str(mirror), str(workspace))
    git("remote", "remove", "origin", cwd=workspace)
    git("tag", "origin-base", cwd=workspace)


class Listener:
    """A server that notes whoever sends it something."""

    def __init__(self, made: Arena, name: str) -> None:
        self.name, self.heard, self._mark = name, made.heard, threading.Event()
        family = socket.AF_INET if name in ("TCP", "UDP") else socket.AF_UNIX
        self._kind = socket.SOCK_DGRAM if name == "UDP" else socket.SOCK_STREAM
        path, abstract = (
            made.base / "home" / ".docker" / "run.sock",
            f"agentq-attack-{os.getpid()}-{made.secret[:8]}",
        )
        self._socket = socket.socket(family, self._kind)
        self._socket.bind({"SOCK": str(path), "ABSTRACT": f"\0{abstract}"}.get(name, ("127.0.0.1", 0)))
        if self._kind == socket.SOCK_STREAM:
            self._socket.listen()
        self.place = {"SOCK": str(path), "ABSTRACT": abstract}.get(name) or str(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        while True:
            if self._kind == socket.SOCK_DGRAM:
                data = self._socket.recv(999)
            else:
                client, _ = self._socket.accept()
                with client:
                    data = client.recv(999)
            if data == b"mark":
                self._mark.set()
            elif data == b"end":
                return
            else:
                self.heard.append(f"data left by {self.name}")

    def _send(self, data: bytes) -> None:
        with socket.socket(self._socket.family, self._kind) as end:
            end.connect(self._socket.getsockname())
            end.send(data)

    def caught_up(self) -> None:
        """Wait until it has seen all that was sent before this call."""
        self._mark.clear()
        self._send(b"mark")
        assert self._mark.wait(10)

    def close(self) -> None:
        self._send(b"end")
        self._thread.join(10)
        self._socket.close()
