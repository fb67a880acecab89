"""The demo with real agentq processes: two specs have the same number for their migrations at first."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.size import FULL

from agentq import wiring
from agentq.demo import project, schema

MACHINE = 'name = "demo"\ninstances = 4\nagent_gb = 0.1\nreserve_gb = 0\nworkspaces = "{}"\n'
PAIR = ["tags", "trash"]
# Those that change the schema, and what one of them depends on.
SPECS = [] if FULL else ["export", "import", "pins", *PAIR]


class Landing:
    """`agentq work` on a demo of its own, its lane frozen until the pair waits in it."""

    def __init__(self, folder: Path) -> None:
        self.demo = project.build(folder / "demo", pace=0)
        (self.demo.checkout / ".machine").write_text(MACHINE.format(folder / "workspaces"))
        self.queue = self.demo.checkout / "agents" / "queue.json"
        queue = json.loads(self.queue.read_text())
        queue["ready"] = [one for one in queue["ready"] if not SPECS or one["id"] in SPECS]
        self.queue.write_text(json.dumps(queue))
        self.before = schema.read(self.demo.dev_url)
        self.env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def agentq(self, *args: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "agentq", *args], cwd=self.demo.checkout, env=self.env, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def said(self, *args: str) -> str:
        with self.agentq(*args) as done:
            text = done.communicate(timeout=60)[0]
        assert done.returncode == 0, text
        return text

    def waiting(self) -> list[str]:
        queue = json.loads(self.queue.read_text())
        return [one["id"] for one in queue["in_progress"] if one.get("place")]

    def run(self) -> str:
        self.said("lane", "freeze", "until the pair is here")
        work = self.agentq("work", "-n", "4")
        try:
            end = time.monotonic() + 120
            while not set(PAIR) <= set(self.waiting()):
                assert work.poll() is None, work.communicate()[0]
                assert time.monotonic() < end, self.waiting()
                time.sleep(0.1)
            self.said("lane", "thaw")
            text = work.communicate(timeout=180)[0]
        finally:
            if work.poll() is None:
                work.send_signal(signal.SIGINT)
                work.communicate(timeout=60)
        assert work.returncode == 0, text
        return text


def test_all_land_and_the_migrations_have_one_order(tmp_path):
    landing = Landing(tmp_path)
    text = landing.run()
    demo = landing.demo
    base = wiring.base(demo.checkout)
    assert {one.id for one in base.store.read().queue.completed} == set(SPECS or demo.specs), text
    events = [event for spec in demo.specs for event in base.runs.events(spec)]
    made = [event for event in events if event["event"] == "migration"]
    made.sort(key=lambda event: event["at"])
    paths = {spec: [path for one in made if one["of"] == spec for path in one["paths"]] for spec in demo.specs}

    fresh = tmp_path / "fresh"
    subprocess.run(["git", "clone", "-q", "-b", "main", str(demo.hub), str(fresh)], check=True)
    names = sorted(file.name for file in (fresh / "migrations").iterdir())
    assert [name[:4] for name in names] == ["0001", "0002", "0003", "0004", "0005"]
    assert sorted(name[5:-4] for name in names) == ["import", "notes", "pins", "tags", "trash"]
    # Both were proved with the number 0002, and the second one was made anew behind the first.
    assert [paths[spec][0] for spec in PAIR] == [f"migrations/0002_{spec}.sql" for spec in PAIR]
    # On a busy machine a third spec may land before both.
    second = max(PAIR, key=lambda spec: next(name for name in names if name.endswith(f"_{spec}.sql")))
    assert [name for name in names if second in name] == [paths[second][-1].removeprefix("migrations/")]
    assert len(set(paths[second])) >= 2
    # The others wrote none.
    assert {spec for spec in demo.specs if paths[spec]} == {"import", "pins", *PAIR}

    judged = schema.judge(fresh, f"sqlite:///{tmp_path / 'empty.db'}", demo.dev_url, landing.before, events)
    assert judged.good, judged.lines
    assert any(line.startswith("0002 was written for ") for line in judged.lines)
