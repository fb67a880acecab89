"""A fleet of hosts on one queue: each host is a few processes that run specs until all have landed.

As a script (`python -m support.fleet TOTAL LOG`, in a checkout) it is one such process: it recovers, asks the
scheduler, runs what it says, and answers what a person would be asked. Its events go to LOG, a JSON a line.
"""

import faulthandler
import json
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import hosts
from support.hosts import Host

# Slower than in the tests of two hosts: eight of them share two cores with their agents and the hub.
HEARTBEAT, DEAD_AFTER = 2.0, 8.0
GROUP = 5  # specs that change the same file, so that one waits for the other

# What an agent does is written down as data; whatever is there already is gone on with.
AGENT = """
import json, os, subprocess, sys
from pathlib import Path
spec = os.environ["AGENTQ_SPEC"]
plan = json.loads(Path(sys.argv[2]).read_text())[spec]
again = "Previous attempt failed" in Path(sys.argv[1]).read_text()
for other in plan["needs"]:
    if not Path(f"files/{other}.txt").exists():
        sys.exit(f"{other} is not there yet")
Path(f"files/{spec}.txt").write_text(spec + "\\n")
for name in plan["appends"]:
    lines = Path(name).read_text().splitlines()
    if spec not in lines:
        Path(name).write_text("\\n".join([*lines, spec]) + "\\n")
for name, anchor in plan["inserts"].items():
    lines = Path(name).read_text().splitlines()
    if f"route {spec}" not in lines:
        lines.insert(lines.index(anchor) + 1, f"route {spec}")
        Path(name).write_text("\\n".join(lines) + "\\n")
if plan["value"]:
    Path(f"values/{spec}.txt").write_text(f"{plan['value']}{' of ' + spec if again else ''}\\n")
subprocess.run(["git", "add", "-A"], check=True)
subprocess.run(["git", "commit", "-qm", spec], check=True)
"""

# What verifies: each file says its own name, nothing is registered twice, and two specs may not take one value.
CHECK = """
import os, sys
def read(folder, name):
    with open(f"{folder}/{name}") as file:
        return file.read()
for name in os.listdir("files"):
    if read("files", name) != name[:-4] + "\\n":
        sys.exit(f"files/{name} is wrong")
for name in ("router.txt", *(f"groups/{one}" for one in os.listdir("groups"))):
    lines = read(".", name).splitlines()
    if len(lines) != len(set(lines)):
        sys.exit(f"{name} has a line twice")
values = [read("values", name) for name in os.listdir("values")]
if len(values) != len(set(values)):
    sys.exit("a value is taken twice")
"""


def plans(count: int, seed: int) -> dict[str, dict[str, Any]]:
    """spec id → what its agent does and what its entry declares, in the order of the queue."""
    chance = random.Random(seed)
    made: dict[str, dict[str, Any]] = {}
    names = [f"s{number:03}" for number in range(count)]
    for number, name in enumerate(names):
        plan: dict[str, Any] = {"needs": [], "appends": [], "inserts": {}, "value": ""}
        if number % 20 in (3, 4):  # two neighbours, each green alone, red together
            plan["value"] = f"value {number // 20}"
        elif number % 10 in (1, 5, 8):
            plan["inserts"] = {"router.txt": f"# {name}"}
        elif number % 10 in (2, 6):
            plan["appends"] = [f"groups/{number // (5 * GROUP)}.txt"]
        if number % 5 == 0 and number:
            plan["needs"] = sorted(chance.sample(names[max(0, number - 20) : number], min(number, 2)))
        made[name] = plan
    return made


def entry(name: str, plan: dict[str, Any]) -> dict[str, Any]:
    files = [f"files/{name}.txt", *plan["appends"], *plan["inserts"]]
    files += [f"values/{name}.txt"] if plan["value"] else []
    return {
        "id": name, "title": f"Write {name}", "tests": "none", "depends_on": plan["needs"], "files_modified": files
    }  # fmt: skip


def build(root: Path, count: int, seed: int, names: list[str], url: str) -> list[Host]:
    """Hosts whose shared queue holds `count` specs. `url`: where they reach the hub."""
    made = hosts.build(root, *names, share=False)
    plan, first = plans(count, seed), made[0]
    (first.scripts / "agent.py").write_text(AGENT)
    (first.scripts / "plan.json").write_text(json.dumps(plan))
    _contents(first, plan)
    first.git("add", "-A")
    first.git("commit", "-qm", "the ground of the fleet")
    first.git("push", "-q", "origin", "main")
    first.write_queue(ready=[entry(name, plan[name]) for name in plan], in_progress=[], completed=[])
    for host in made:
        host.git("remote", "set-url", "origin", url)
        host.variables.update(
            AGENTQ_SHARED_HEARTBEAT_SECONDS=str(HEARTBEAT), AGENTQ_SHARED_DEAD_AFTER_SECONDS=str(DEAD_AFTER)
        )
        with (host.checkout / ".machine").open("a") as file:
            file.write("reserve_gb = 0\n")
    first.agentq("share", "--yes")
    for host in made[1:]:
        host.git("pull", "-q", "origin", "main")
        host.git("fetch", "-q", "origin")
    return made


def _contents(host: Host, plan: dict[str, dict[str, Any]]) -> None:
    """What the specs find on trunk."""
    top = host.checkout
    for folder in ("files", "groups", "values"):
        (top / folder).mkdir()
    (top / "files" / "base.txt").write_text("base\n")
    (top / "values" / "base.txt").write_text("nothing\n")
    (top / "groups" / "none.txt").write_text("")
    for name in {name for one in plan.values() for name in one["appends"]}:
        (top / name).write_text(f"lines of {name}\n")
    (top / "router.txt").write_text("".join(f"# {name}\n" for name in plan))
    (top / "check.py").write_text(CHECK)
    agent = json.dumps([sys.executable, "-I", "-S", str(host.scripts / "agent.py"), "{prompt_file}",
                        str(host.scripts / "plan.json")])  # fmt: skip
    (top / "agents" / "config.toml").write_text(
        f'[commands]\nverify = ["{sys.executable} -I -S check.py"]\n'
        '[sandbox]\nuse = "off"\n'
        f"[agent]\ncommand = {agent}\ntimeout_minutes = 2\ntimeouts = {{ implementation = 2 }}\n"
        '[overlap]\nadditive = ["router.txt"]\n'
    )


# ---------------------------------------------------------------- a host, from outside


@dataclass
class Running:
    """A host as its processes. What happens to it happens to all of them and to whatever they started."""

    host: Host
    total: int
    count: int = 1
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    started: int = 0

    @property
    def logs(self) -> list[Path]:
        return sorted(self.host.root.glob("events-*.ndjson"))

    def start(self) -> None:
        tests = Path(__file__).parents[1]
        environment = {**self.host.environment(), "PYTHONPATH": f"{tests}:{tests.parent}"}
        self.processes = []
        for _ in range(self.count):
            self.started += 1
            log = self.host.root / f"events-{self.started:03}.ndjson"
            with log.with_suffix(".out").open("wb") as out:
                self.processes.append(subprocess.Popen(
                    [sys.executable, "-m", "support.fleet", str(self.total), str(log)], cwd=self.host.checkout,
                    env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                ))  # fmt: skip

    def ended(self) -> bool:
        return bool(self.processes) and all(one.poll() is not None for one in self.processes)

    def kill(self) -> None:
        """The computer goes off: nothing of it does anything any more."""
        self._signal_all(signal.SIGSTOP)
        self._signal_all(signal.SIGKILL)
        self.reap()

    def kill_supervisors(self) -> None:
        """Only agentq dies; what it had started finds that out by itself."""
        for one in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
        self.reap()

    def stop(self) -> None:
        self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal_all(signal.SIGCONT)

    def reap(self) -> None:
        for one in self.processes:
            one.wait(30)

    def _signal_all(self, number: int) -> None:
        """Again and again until nobody is new: who is not stopped yet may start another process."""
        seen: set[int] = set()
        while new := processes_of(self.host) - seen:
            for pid in new:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            seen |= new


def processes_of(host: Host) -> set[int]:
    """Living processes of a host: those with its home, and what descends from them (a guard has no home)."""
    home = f"HOME={host.home}".encode()
    parents: dict[int, int] = {}
    found = set()
    for entry in os.scandir("/proc"):
        pid = int(entry.name) if entry.name.isdigit() else os.getpid()
        if pid == os.getpid():
            continue
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] in b"ZX":
                continue
            parents[pid] = int(fields[1])
            if home in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


# ---------------------------------------------------------------- a host, from inside


class Driver:
    """One process of a host. Specs that were refused are left alone for a moment."""

    def __init__(self, total: int, log: Path) -> None:
        from agentq import wiring

        self.total = total
        self.file = log.open("a", buffering=1)
        self.base = wiring.base(Path.cwd())
        self.services = wiring.services(self.base, self.say)
        self.refused: dict[str, float] = {}
        self.idle = 0.0
        self.chance = random.Random(os.getpid())

    def say(self, event: str, data: dict[str, Any]) -> None:
        line = {"at": round(time.time(), 3), "pid": os.getpid(), "event": event, **data}
        self.file.write(json.dumps(line, default=str) + "\n")

    def run(self) -> None:
        from agentq.errors import AgentqError

        while True:
            try:
                if self.step():
                    return
            except AgentqError as error:
                self.say("error", {"kind": type(error).__name__, "text": str(error)})
                time.sleep(self.chance.uniform(0.1, 0.5))

    def step(self) -> bool:
        """Run one spec; whether there is nothing left."""
        from agentq.errors import Refused, Stale
        from agentq.flows.recover import recover
        from agentq.flows.run import run_spec

        recover(self.services)
        queue = self.services.store.read().queue
        if len(queue.completed) == self.total:
            return True
        self.answer(queue)
        if (spec := self.pick()) is None:
            # Whoever has nothing to do leaves the cores to those who have.
            self.idle = min(self.idle + 0.5, 3.0)
            time.sleep(self.idle * self.chance.uniform(0.5, 1.0))
            return False
        self.idle = 0.0
        try:
            report = run_spec(self.services, spec, confirm=lambda _id, _summary: True)
        except (Refused, Stale) as error:
            self.say("refused", {"spec": spec, "kind": type(error).__name__, "text": str(error)})
            self.refused[spec] = time.monotonic() + 1.0
            return False
        self.say("report", {"spec": spec, "ended": report.ended, "stage": report.stage, "text": report.problem})
        return False

    def answer(self, queue: Any) -> None:
        """What a person decides: a spec whose verification failed goes back to its agent, any other tries again."""
        from agentq.core.queue import next_stage
        from agentq.flows.recover import forgive

        for one in queue.in_progress:
            if one.attention and one.lease.machine == self.services.config.machine.name:
                back = "implement" if next_stage(one) == "verify" and "value" in (one.problem or "") else ""
                self.say("answered", {"spec": one.id, "stage": next_stage(one), "text": one.attention})
                forgive(self.services, one.id, back)

    def pick(self) -> str | None:
        """What was begun here goes first; of what is new, one of the best, so that not all want the same."""
        advice = self.base.look().advice()
        now = time.monotonic()
        ranked = [one for one in advice.ranked if self.refused.get(one.id, 0.0) < now]
        if advice.blocked is not None or not ranked:
            return None
        if ranked[0].resumes:
            return ranked[0].id
        return self.chance.choice(ranked[:8]).id


def main() -> None:
    # SIGUSR1: say where all threads are.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    driver = Driver(int(sys.argv[1]), Path(sys.argv[2]))
    try:
        driver.run()
        driver.say("end", {})
    except BaseException:
        driver.say("bug", {"text": traceback.format_exc()})
        raise


if __name__ == "__main__":
    main()
