"""Networks for tests: a hub served by git's own daemon, hosts in network namespaces, links that go down."""

import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@cache
def daemon_missing() -> str:
    """Why git cannot serve a repository here; '' when it can."""
    path = subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    return "" if (Path(path) / "git-daemon").exists() else "git came without its daemon (package git-daemon)"


@cache
def namespaces_missing() -> str:
    """Why network namespaces cannot be made here; '' when they can."""
    if shutil.which("ip") is None:
        return "there is no 'ip' (package iproute2)"
    net = Network()
    try:
        net.join("a")
    except (subprocess.CalledProcessError, OSError) as error:
        said = (error.stderr or "").strip() if isinstance(error, subprocess.CalledProcessError) else str(error)
        return f"network namespaces cannot be made here: {said}"
    finally:
        net.close()
    return ""


def ip(*args: str) -> str:
    return subprocess.run(["ip", *args], capture_output=True, text=True, check=True).stdout


@dataclass
class Network:
    """The hub's namespace and one for each host, with a link between: hub 10.99.<n>.1, host 10.99.<n>.2."""

    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:6])
    members: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    def name(self, member: str) -> str:
        return f"aq{self.tag}-{member}"

    def link(self, member: str) -> str:
        """The hub's end of the link, which has at most 15 letters."""
        return f"v{self.tag}{self.members.index(member)}"

    def address(self, member: str) -> str:
        """Where `member` reaches the hub."""
        return f"10.99.{self.members.index(member)}.1"

    def join(self, member: str) -> None:
        if not self.made:
            self._namespace("hub")
        self._namespace(member)
        self.members.append(member)
        hub, own, there = self.name("hub"), self.name(member), self.link(member)
        ip("-n", hub, "link", "add", there, "type", "veth", "peer", "name", "eth0", "netns", own)
        ip("-n", hub, "address", "add", f"{self.address(member)}/24", "dev", there)
        ip("-n", own, "address", "add", f"{self.address(member)[:-1]}2/24", "dev", "eth0")
        ip("-n", hub, "link", "set", there, "up")
        ip("-n", own, "link", "set", "eth0", "up")
        # Who is not there is found out in half a second, not in three.
        quick = "echo 150 > /proc/sys/net/ipv4/neigh/eth0/retrans_time_ms"
        subprocess.run([*self.command(member), "sh", "-c", quick], capture_output=True, check=False)

    def _namespace(self, member: str) -> None:
        ip("netns", "add", self.name(member))
        self.made.append(self.name(member))
        ip("-n", self.name(member), "link", "set", "lo", "up")

    def command(self, member: str) -> list[str]:
        """What runs a command in the namespace of `member`."""
        return ["ip", "netns", "exec", self.name(member)]

    def cut(self, member: str) -> None:
        ip("-n", self.name("hub"), "link", "set", self.link(member), "down")

    def heal(self, member: str) -> None:
        ip("-n", self.name("hub"), "link", "set", self.link(member), "up")

    def close(self) -> None:
        """Ends what runs inside, by its id, and removes the namespaces; the links go with them."""
        for name in reversed(self.made):
            with suppress(subprocess.CalledProcessError):
                for pid in ip("netns", "pids", name).split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", name)
        self.made.clear()


@contextmanager
def served(root: Path, *, inside: Iterable[str] = (), address: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """git's daemon serves all below `root` while the block lasts; the address of `root`. `inside`: what runs a
    command where the daemon should be. What it serves belongs to it, and not to the host that asks."""
    port = port or _free_port()
    daemon = subprocess.Popen(
        [*inside, "git", "daemon", "--reuseaddr", f"--listen={address}", f"--port={port}", f"--base-path={root}",
         "--export-all", "--enable=receive-pack", "--max-connections=0", "--informative-errors", str(root)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    url = f"git://{address}:{port}"
    try:
        deadline = time.monotonic() + 20
        while not _listens(inside, address, port):
            assert daemon.poll() is None and time.monotonic() < deadline, "git daemon does not listen"
            time.sleep(0.05)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait(10)


def _listens(inside: Iterable[str], address: str, port: int) -> bool:
    known = subprocess.run([*inside, "cat", "/proc/net/tcp"], capture_output=True, text=True, check=True).stdout
    wanted = f":{port:04X}"
    rows = [line.split() for line in known.splitlines()[1:]]
    return any(row[1].endswith(wanted) and row[3] == "0A" for row in rows)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
