"""Eight hosts drain one queue while they are killed, stopped past their leases and joined midway.

Real clones, real lanes, real agents, and a hub behind git's own daemon: what happens to a host does not happen to
the hub. By default a queue that fits into a test run; AGENTQ_TEST_FULL=1 drains 400 specs. The seed decides who
is hit, and how, after which landing; AGENTQ_TEST_SEED sets it.
"""

import json
import os
import random
import resource
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import fleet, netns
from support.fleet import DEAD_AFTER, Running
from support.hosts import Host
from support.shared import git, history, operations
from support.size import FULL

from agentq.store.runs import Runs

TOTAL = int(os.environ.get("AGENTQ_TEST_SPECS", "400" if FULL else "12"))
SEED = int(os.environ.get("AGENTQ_TEST_SEED", "1"))
NAMES = [f"h{number}" for number in range(1, 9)]
LATE = NAMES[5:]
LIMIT = 240.0 + 20.0 * TOTAL
EXPECTED = ("a value is taken twice", "came back from the lane", "trunk moved during each of")


# ---------------------------------------------------------------- who watches


@dataclass
class Watcher:
    """Looks at trunk and the queue in one reading, again and again, and keeps what should never be seen."""

    hub: Path
    problems: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    looks: int = 0
    torn: int = 0
    landed: list[tuple[str, str]] = field(default_factory=list)
    queue: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join(60)

    def _watch(self) -> None:
        seen: tuple[str, str] = ("", "")
        while not self._end.wait(0.15):
            try:
                now = self._refs()
                self.looks += 1
                if now != seen:
                    self._look(now)
                    seen = now
            except Exception as error:  # a thread that dies would watch no more
                self.problems.append(f"the watcher failed: {error!r}")
                return

    def _refs(self) -> tuple[str, str]:
        form = "--format=%(objectname)"
        queue, trunk = git("for-each-ref", form, "refs/heads/agentq", "refs/heads/main", cwd=self.hub).split()
        return trunk, queue

    def _look(self, refs: tuple[str, str]) -> None:
        """The hub writes the refs of one transaction one after the other, so a reading may fall between; the next
        one does not."""
        for _ in range(3):
            trunk, queue = refs
            self.queue = json.loads(git("show", f"{queue}:queue.json", cwd=self.hub))
            self._step(trunk)
            done = [(one["id"], one["landed"]) for one in self.queue.get("completed", [])]
            if done == self.landed:
                return
            self.torn += 1
            time.sleep(0.05)
            refs = self._refs()
        self.problems.append(f"trunk {trunk} has {self.landed[-9:]}, the queue {queue} has {done[-9:]}")

    def _step(self, trunk: str) -> None:
        if self.values and trunk == self.values[-1]:
            return
        if self.values:
            ahead = subprocess.run(
                ["git", "merge-base", "--is-ancestor", self.values[-1], trunk], cwd=self.hub, check=False
            )
            if ahead.returncode:
                self.problems.append(f"trunk went from {self.values[-1]} to {trunk}: not a fast-forward")
        self.values.append(trunk)
        self.landed = landings(self.hub, trunk)


def landings(hub: Path, trunk: str = "main") -> list[tuple[str, str]]:
    """(spec, commit) of the landings on trunk, oldest first."""
    form = "--format=%H %(trailers:key=Agentq-Spec,valueonly,separator=%x2C)"
    rows = git("log", "--reverse", "--first-parent", form, trunk, cwd=hub).splitlines()
    pairs = [row.partition(" ")[::2] for row in rows]
    return [(spec, commit) for commit, spec in pairs if spec]


# ---------------------------------------------------------------- what goes wrong


@dataclass
class Chaos:
    """Hits hosts after so many landings. `due`: what comes back, and when."""

    fleet: dict[str, Running]
    chance: random.Random
    down: dict[str, tuple[float, str]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def plan(self) -> list[tuple[int, str]]:
        """(after how many landings, what), in order: joins in the first half, the rest until nearly the end."""
        joins = [(TOTAL * (2 + number) // 10, f"join {name}") for number, name in enumerate(LATE)]
        kinds = ["kill", "stop", "kill", "agentq"] * (1 + TOTAL // 40)
        hits = [(TOTAL * (1 + number) // (len(kinds) + 2), kind) for number, kind in enumerate(kinds)]
        return sorted(joins + hits)

    def hit(self, what: str, leader: str) -> None:
        """Every third time it is whoever leads the lane, if somebody does."""
        kind, _, name = what.partition(" ")
        if kind == "join":
            self._tell(what)
            self.fleet[name].start()
            return
        up = sorted(name for name, one in self.fleet.items() if one.processes and name not in self.down)
        name = leader if leader in up and sum(self.counts.values()) % 3 == 0 else self.chance.choice(up)
        self.counts[kind] += 1
        self._tell(f"{kind} {name}{' (leads)' if name == leader else ''}")
        one = self.fleet[name]
        # Some come back before the others can know, some long after.
        seconds = self.chance.choice([0.5, 2.0, DEAD_AFTER * 1.8])
        if kind == "stop":
            one.stop()
            seconds = DEAD_AFTER * self.chance.uniform(1.4, 2.0)
        elif kind == "kill":
            one.kill()
        else:
            one.kill_supervisors()
        self.down[name] = (time.monotonic() + seconds, kind)

    def bring_back(self) -> None:
        for name, (due, kind) in list(self.down.items()):
            if due <= time.monotonic():
                del self.down[name]
                self._tell(f"back {name}")
                self.fleet[name].go_on() if kind == "stop" else self.fleet[name].start()

    def _tell(self, text: str) -> None:
        self.told.append(f"{time.strftime('%H:%M:%S')} {text}")


# ---------------------------------------------------------------- the test


@pytest.fixture
def hub_address(tmp_path: Path) -> Iterator[str]:
    if missing := netns.daemon_missing():
        pytest.skip(missing)
    (tmp_path / "h1").mkdir()
    with netns.served(tmp_path) as url:
        yield f"{url}/h1/hub.git"


@pytest.fixture
def running(tmp_path: Path, hub_address: str) -> Iterator[dict[str, Running]]:
    made = fleet.build(tmp_path, TOTAL, SEED, NAMES, hub_address)
    keep_records(made[0].hub)
    found = {host.name: Running(host, TOTAL, count=2 if host.name in NAMES[:2] else 1) for host in made}
    yield found
    for one in found.values():
        one.kill()


def test_a_fleet_drains_its_queue_whatever_happens_to_its_hosts(running: dict[str, Running]) -> None:
    first = running["h1"].host
    began = time.monotonic()
    watcher = Watcher(first.hub)
    chaos = Chaos(running, random.Random(SEED))
    for name in NAMES:
        if name not in LATE:
            running[name].start()
    try:
        drive(watcher, chaos, began + LIMIT)
    except BaseException as error:
        watcher.stop()
        error.add_note(dump(running, watcher, chaos))
        raise
    watcher.stop()
    seconds = time.monotonic() - began
    report(running, watcher, chaos, seconds)
    assert not watcher.problems, watcher.problems
    everything_landed_once(first)
    nothing_was_reverted(first)
    the_hub_is_sound(first, watcher)
    only_what_was_expected(running)
    left = {name: fleet.processes_of(one.host) | guards(one.host) for name, one in running.items()}
    assert not any(left.values()), left


def drive(watcher: Watcher, chaos: Chaos, deadline: float) -> None:
    """Until every process of every host has seen that nothing is left."""
    plan = chaos.plan()
    while True:
        time.sleep(0.1)
        assert not watcher.problems, watcher.problems
        assert time.monotonic() < deadline, f"not done after {LIMIT:.0f} s"
        chaos.bring_back()
        while plan and plan[0][0] <= len(watcher.landed) and len(chaos.down) < 3:
            leader = (watcher.queue.get("lane", {}).get("leader") or {}).get("machine", "")
            chaos.hit(plan.pop(0)[1], leader)
        up = [one for name, one in chaos.fleet.items() if name not in chaos.down]
        for one in up:
            codes = [process.poll() for process in one.processes]
            assert not any(codes), f"{one.host.name} ended: {codes}\n{_tail(one.logs[-1], 5)}"
        if not chaos.down and not plan and all(one.ended() for one in up):
            return


def everything_landed_once(first: Host) -> None:
    queue, names = first.queue, fleet.plans(TOTAL, SEED)
    assert not queue["ready"] and not queue["in_progress"]
    done = queue["completed"]
    assert sorted(one["id"] for one in done) == sorted(names)
    assert landings(first.hub) == [(one["id"], one["landed"]) for one in done]
    epochs = [one["epoch"] for one in done]
    assert len(set(epochs)) == len(epochs) and max(epochs) <= queue["epoch"]
    order = [one["id"] for one in done]
    for name, plan in names.items():
        assert all(order.index(need) < order.index(name) for need in plan["needs"]), name


def nothing_was_reverted(first: Host) -> None:
    """Trunk holds what each spec wrote, in the order of the landings, and each commit did what its spec declared."""
    plans, order = fleet.plans(TOTAL, SEED), [spec for spec, _ in landings(first.hub)]

    def lines(name: str) -> list[str]:
        return git("show", f"main:{name}", cwd=first.hub).splitlines()

    files = {name for name in first.trunk_files() if name.startswith("files/")}
    assert files == {f"files/{name}.txt" for name in (*plans, "base")}
    for name in plans:
        assert lines(f"files/{name}.txt") == [name]
    for path in {path for plan in plans.values() for path in plan["appends"]}:
        wanted = [spec for spec in order if path in plans[spec]["appends"]]
        assert lines(path)[1:] == wanted, path
    routes = [line for name in plans for line in (f"# {name}", f"route {name}")]
    wanted = [line for line in routes if line[0] == "#" or plans[line[6:]]["inserts"]]
    assert lines("router.txt") == wanted
    for spec, commit in landings(first.hub):
        changed = git("diff-tree", "-r", "--no-commit-id", "--name-status", commit, cwd=first.hub).splitlines()
        entry = fleet.entry(spec, plans[spec])
        assert {line.split("\t")[1] for line in changed} == set(entry["files_modified"]), (spec, changed)
        assert not any(line.startswith("D") for line in changed)


def the_hub_is_sound(first: Host, watcher: Watcher) -> None:
    git("fsck", "--full", "--strict", cwd=first.hub)
    rows = git("log", "--format=%H %P", "main", cwd=first.hub).splitlines()
    assert all(len(row.split()) == 2 for row in rows[:-1]) and len(rows[-1].split()) == 1, "a line of commits"
    line = [row.split()[0] for row in reversed(rows)]
    places = [line.index(value) for value in watcher.values]
    assert places == sorted(set(places))
    # The hub's own log has every value that trunk ever had, also those that nobody looked at.
    logged = git("log", "--walk-reflogs", "--format=%H", "main", cwd=first.hub).splitlines()
    places = [line.index(value) for value in reversed(logged)]
    assert places == sorted(set(places)) and line[-1] == logged[0]
    trunk_and_queue_moved_together(first.hub)
    history(first.hub)
    found = operations(first.hub)
    assert len(found) == len(set(found)), "no operation is applied twice"


def only_what_was_expected(running: dict[str, Running]) -> None:
    """No process met a bug, and people were asked nothing but what the specs are made for."""
    said = events(running)
    bugs = [one for one in said if one["event"] == "bug" or "bug" in str(one.get("text", ""))]
    assert not bugs, bugs[0]
    asked = [one["text"] for one in said if one["event"] == "answered"]
    strange = [text for text in asked if not any(words in text for words in EXPECTED)]
    assert not strange, strange


def keep_records(hub: Path) -> None:
    """Let the hub write down every value of its refs, and what each push moved."""
    git("config", "core.logAllRefUpdates", "always", cwd=hub)
    hook = hub / "hooks" / "post-receive"
    hook.write_text(f"#!/bin/sh\nsaid=$(cat)\nprintf '%s\\n--\\n' \"$said\" >> '{hub}/pushes.log'\n")
    hook.chmod(0o755)


def trunk_and_queue_moved_together(hub: Path) -> None:
    """Whoever lands a spec says so in the same push: in no other push does trunk move."""
    pushes = (hub / "pushes.log").read_text().split("--\n")
    moved = [{line.split()[2]: line.split()[1] for line in push.splitlines()} for push in pushes]
    landed = [push for push in moved if "refs/heads/main" in push]
    assert len({push["refs/heads/main"] for push in landed}) == len(landed)
    for push in landed:
        queue = json.loads(git("show", f"{push['refs/heads/agentq']}:queue.json", cwd=hub))
        done = [(one["id"], one["landed"]) for one in queue["completed"]]
        assert done == landings(hub, push["refs/heads/main"])


# ---------------------------------------------------------------- what is told


def events(running: dict[str, Running]) -> list[dict[str, Any]]:
    """What the processes of all hosts said; a killed one may have left half a line."""
    found = []
    for name, one in running.items():
        for log in one.logs:
            for line in log.read_text(errors="replace").splitlines():
                with suppress(ValueError):
                    found.append({"host": name, **json.loads(line)})
    return found


def guards(host: Host) -> set[int]:
    """Guard processes of a host; they have an environment of their own."""
    word = f"AGENTQ_GUARD={Runs(host.checkout / '.git' / 'agentq').tag}.".encode()
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if path.read_bytes().startswith(word):
                found.add(int(path.parent.name))
    return found


def report(running: dict[str, Running], watcher: Watcher, chaos: Chaos, seconds: float) -> None:
    """Figures for people; shown with -s, and in the file that AGENTQ_TEST_REPORT names."""
    said = events(running)
    count = Counter(one["event"] for one in said)
    done = running["h1"].host.queue["completed"]
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {
        "specs": TOTAL, "seed": SEED, "seconds": round(seconds, 1), "cpu": round(sum(usage[:2]), 1),
        "chaos": dict(chaos.counts),
        "landings per host": dict(Counter(one["machine"] for one in done)),
        "values of trunk seen": len(watcher.values), "looks": watcher.looks, "torn looks": watcher.torn,
        "pushes of trunk": len(set(git("log", "-g", "--format=%H", "main", cwd=running["h1"].host.hub).split())),
        "commits of the queue": len(history(running["h1"].host.hub)),
        "epochs": running["h1"].host.queue["epoch"],
        "lane runs": count["lane-tested"], "lane runs per landing": round(count["lane-tested"] / TOTAL, 2),
        "events": dict(sorted(count.items())),
        "errors": dict(Counter(f"{one['kind']}: {one['text'][:60]}" for one in said if one["event"] == "error")),
        "told": chaos.told,
    }  # fmt: skip
    text = json.dumps(figures, indent=1)
    print(text)
    if path := os.environ.get("AGENTQ_TEST_REPORT"):
        Path(path).write_text(text + "\n")


def dump(running: dict[str, Running], watcher: Watcher, chaos: Chaos) -> str:
    """The state of everything, for whoever has to find out why it did not end."""
    queue = watcher.queue
    lines = [
        f"{len(watcher.landed)} of {TOTAL} landed; {watcher.looks} looks, {watcher.torn} torn; down: {chaos.down}"
    ]
    lines += chaos.told[-12:]
    lines.append(f"ready: {[one['id'] for one in queue.get('ready', [])]}")
    lines.append(f"lane: {queue.get('lane')}")
    lines += [json.dumps({k: v for k, v in one.items() if k != "stages"}) for one in queue.get("in_progress", [])]
    for name, one in running.items():
        lines.append(f"--- {name}: {[process.poll() for process in one.processes]} {one.host.beat()}")
        for process in one.processes:
            if process.poll() is None and name not in chaos.down:
                process.send_signal(signal.SIGUSR1)
        time.sleep(0.3)
        for log in one.logs[-one.count :]:
            lines += [_tail(log, 8), _tail(log.with_suffix(".out"), 60)]
    return "\n".join(lines)


def _tail(path: Path, count: int) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:]) if path.exists() else f"no {path}"
