"""Shared queues for tests: hubs, hosts, remotes that misbehave, and a remote in memory."""

import json
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from agentq.core.queue import add
from agentq.core.spec import Queue, Spec
from agentq.errors import ExternalError
from agentq.store.copy import WorkingCopy
from agentq.store.shared import SharedStore
from agentq.trunk.branch import Head, QueueBranch

EMPTY = b'{\n  "ready": []\n}\n'
BRANCH = "agentq"


def git(*args: str, cwd: Path) -> str:
    done = subprocess.run(["git", *args], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def make_hub(root: Path, count: int = 0) -> Path:
    """A bare repository whose branch holds a queue with `count` ready specs."""
    from support.queues import entry

    hub = root / "hub.git"
    subprocess.run(["git", "init", "-q", "--bare", str(hub)], check=True)
    data = json.dumps({"ready": [entry(n) for n in range(count)]}, indent=2).encode() if count else EMPTY
    outcome, said = branch(hub, root / "seed").create(data)
    assert outcome == "pushed", said
    return hub


def branch(hub: Path, host: Path) -> QueueBranch:
    made = QueueBranch(host / "queue.git", str(hub), BRANCH, {}, 20)
    made.ensure()
    return made


def store(hub: Path, host: Path, copy: WorkingCopy | None = None) -> SharedStore:
    """What a process on a host uses; `host` stands for the folder below its home."""
    return SharedStore(branch(hub, host), host, copy)


def queue_of(hub: Path) -> Any:
    """What the branch holds, read with plain git."""
    return json.loads(git("show", f"{BRANCH}:queue.json", cwd=hub))


def history(hub: Path) -> list[str]:
    """Commits of the branch, newest first; fails if it is not a line."""
    lines = git("log", "--format=%H %P", BRANCH, cwd=hub).splitlines()
    for line, before in pairwise(lines):
        assert line.split() == [line.split()[0], before.split()[0]], "one parent: the state that was read"
    return [line.split()[0] for line in lines]


def operations(hub: Path) -> list[str]:
    return git("log", "--format=%(trailers:key=Agentq-Op,valueonly)", BRANCH, cwd=hub).split()


def sound(hub: Path) -> None:
    """The branch is a line of commits, no operation is in it twice, and git finds nothing broken."""
    history(hub)
    found = operations(hub)
    assert len(found) == len(set(found)), "no operation is applied twice"
    git("fsck", "--strict", "--no-dangling", cwd=hub)


@contextmanager
def stopped_with(folder: Path, *names: str) -> Iterator[None]:
    """A process is stopped (Ctrl-Z) while it holds these locks in `folder`."""
    code = (
        "import sys, contextlib, pathlib, time\nfrom agentq.locks import lock\n"
        "with contextlib.ExitStack() as stack:\n"
        "    [stack.enter_context(lock(pathlib.Path(sys.argv[1]), name)) for name in sys.argv[2:]]\n"
        "    print('held', flush=True)\n    time.sleep(600)\n"
    )
    args = [sys.executable, "-c", code, str(folder), *names]
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.kill()


class Adding:
    """A change that adds one spec under a name that tells each decision from the next: added twice, it shows."""

    def __init__(self, name: str) -> None:
        self.name, self.decisions = name, 0

    def __call__(self, queue: Queue) -> Queue:
        self.decisions += 1
        return add(queue, Spec(id=f"{self.name}-d{self.decisions}", title=self.name))


def times(ids: Iterable[str], name: str) -> int:
    """How often the spec of `Adding(name)` is among `ids`."""
    return sum(one.rpartition("-d")[0] == name for one in ids)


class Around:
    """A remote around another one, to be overridden in parts."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Misreported(Around):
    """Each push does what the next word of `script` says: 'ok', 'lost' (does not arrive, and nobody knows),
    'silent' (arrives, and nobody knows), 'late' (arrives at the next push or fetch, and nobody knows)."""

    def __init__(self, inner: Any, script: list[str]) -> None:
        super().__init__(inner)
        self.script, self.late = script, []  # type: ignore[var-annotated]

    def push(self, commit: str, expected: str) -> tuple[str, str]:
        word = self.script.pop(0) if self.script else "ok"
        if word == "ok":
            self.arrive()
            return self.inner.push(commit, expected)  # type: ignore[no-any-return]
        if word == "silent":
            self.inner.push(commit, expected)
        if word == "late":
            self.late.append((commit, expected))
        return "unknown", "no answer"

    def arrive(self) -> None:
        while self.late:
            self.inner.push(*self.late.pop(0))


class Memory:
    """A remote without git: commits are (data, parent, operations). Thread-safe, as a server is."""

    name, ref, objects = "memory", "refs/heads/agentq", Path("/nowhere")

    def __init__(self, data: bytes = EMPTY) -> None:
        self.commits: dict[str, tuple[bytes, str, tuple[str, ...]]] = {"c0": (data, "", ())}
        self.head, self.online = "c0", True
        self._guard = threading.Lock()

    def fetch(self, since: str = "") -> Head:
        if not self.online:
            raise ExternalError("memory cannot be reached", retryable=True)
        head = self.head
        if head == since:
            return Head(head)
        ops: list[str] = []
        at = head
        while at and at != since:
            ops += self.commits[at][2]
            at = self.commits[at][1]
        return Head(head, self.commits[head][0], tuple(ops), bool(since) and not at)

    def write(self, data: bytes, parent: str, ops: list[str]) -> str:
        name = uuid.uuid4().hex
        self.commits[name] = (data, parent, tuple(ops))
        return name

    def push(self, commit: str, expected: str) -> tuple[str, str]:
        if not self.online:
            return "offline", "cannot be reached"
        with self._guard:
            if self.head != expected:
                return "moved", "stale info"
            assert self.commits[commit][1] == expected, "the parent is the state that was read"
            self.head = commit
            return "pushed", ""

    def kept(self, commit: str) -> str:
        return f"memory as {commit}"

    def operations(self) -> list[str]:
        found: list[str] = []
        at = self.head
        while at:
            found += self.commits[at][2]
            at = self.commits[at][1]
        return found

    def ids(self) -> list[str]:
        return [entry["id"] for entry in json.loads(self.commits[self.head][0])["ready"]]
