"""Several hosts on one bare hub: each a clone with a home, a .machine and workspaces of its own.

Heartbeats come quickly and a machine is dead soon, so that tests see both. The scripts of the agents are common:
what the agent of a spec does is the same on every host.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import project as projects
from support.project import Project

HEARTBEAT, DEAD_AFTER = 0.3, 2.0


@dataclass
class Host(Project):
    """`root`: of this host alone; `hub` and `scripts` are common; `variables`: added to the environment of every
    agentq here, for example a faked clock."""

    name: str = "host"
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.root / "home"

    def environment(self) -> dict[str, str]:
        return {
            **os.environ, "HOME": str(self.home), "AGENTQ_SHARED_HEARTBEAT_SECONDS": str(HEARTBEAT),
            "AGENTQ_SHARED_DEAD_AFTER_SECONDS": str(DEAD_AFTER), **self.variables,
        }  # fmt: skip

    def agentq(self, *args: str, rc: int | None = 0, **more: Any) -> "subprocess.CompletedProcess[str]":
        return super().agentq(*args, rc=rc, **{"env": self.environment(), **more})

    def start(self, *args: str) -> "subprocess.Popen[str]":
        """An agentq that goes on by itself; both its outputs are one pipe."""
        return subprocess.Popen(
            [sys.executable, "-m", "agentq", *args], cwd=self.checkout, env=self.environment(), text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @contextmanager
    def here(self) -> Iterator[None]:
        """Make this test process one of this host while the block lasts."""
        before = dict(os.environ)
        os.environ.update(self.environment())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def services(self, **overrides: Any) -> Any:
        with self.here():
            return projects.services(self, **overrides)

    @property
    def queue(self) -> dict[str, Any]:
        """The shared queue as it is on the hub."""
        empty: dict[str, Any] = {"ready": [], "in_progress": [], "completed": []}
        return {**empty, **json.loads(self.git("show", "agentq:queue.json", cwd=self.hub))}

    def put(self, spec_id: str, **fields: Any) -> None:
        """Add a spec to the shared queue, as `Project.add` does to a file."""
        from agentq.core import queue as transitions
        from agentq.core.spec import Spec

        self.write_scripts(spec_id)
        given = {"files_modified": [f"{spec_id}.txt", f"checks/{spec_id}.py"], **fields}
        spec = Spec.model_validate({"id": spec_id, "title": f"Write {spec_id}", **given})
        self.services().store.update(lambda queue: transitions.add(queue, spec))

    def remote_refs(self, prefix: str) -> dict[str, str]:
        """name → commit of the hub's refs below `prefix`."""
        lines = self.git("for-each-ref", "--format=%(refname) %(objectname)", prefix, cwd=self.hub).splitlines()
        return dict(line.split() for line in lines)

    def beat(self, name: str = "") -> dict[str, Any] | None:
        """What the heartbeat of a machine (this one's) says on the hub."""
        ref = f"refs/agentq/machines/{(name or self.name).replace('.', '%2E')}"
        done = subprocess.run(
            ["git", "log", "-1", "--format=%B", ref], cwd=self.hub, capture_output=True, text=True, check=False
        )
        return json.loads(done.stdout) if done.returncode == 0 else None


def build(root: Path, *names: str, share: bool = True, **settings: Any) -> list[Host]:
    """Hosts of these names. The first one shares its queue; the others are clones that find it."""
    project = projects.build(root / names[0], **settings)
    instances = settings.get("instances", 4)
    first = _host(root / names[0], names[0], project, instances)
    if share:
        first.agentq("share", "--yes")
    return [first, *(_host(root / name, name, project, instances) for name in names[1:])]


def _host(root: Path, name: str, first: Project, instances: int) -> Host:
    """A clone of the hub, set up as a host of this name."""
    checkout = root / "checkout"
    if not checkout.exists():
        root.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "clone", "-q", str(first.hub), str(checkout)], check=True)
    host = Host(root, checkout, first.hub, first.scripts, name=name)
    host.home.mkdir(exist_ok=True)
    (checkout / ".machine").write_text(
        f'name = "{name}"\ninstances = {instances}\nagent_gb = 0.1\nworkspaces = "{root / "workspaces"}"\n'
    )
    return host


def until(true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What `true` returns once it is something; fails when that takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen")
