"""Links that go down: two hosts and the hub in network namespaces of their own, while one lands.

What the hub did with a push is read from the hub's own directory; the hosts know only what came through.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import hosts, netns
from support.hosts import Host, until
from support.netns import Network
from support.shared import git

PORT = 9418
HEARTBEAT, DEAD_AFTER, PUSH_TIMEOUT = 1.0, 4.0, 4.0

# Waits where it is put while there is a file `armed`, until there is a file `go`.
WAIT = """
if [ -e {gate}/armed ]; then
  rm {gate}/armed; touch {gate}/waiting
  while [ ! -e {gate}/go ] && [ -d {gate} ]; do sleep 0.05; done
fi
"""
# On the hub, once a push of trunk has been received and before it is applied.
HOOK = "#!/bin/sh\nif grep -q refs/heads/main; then\n{wait}\nfi\nexit 0\n"
# On a host, before the push of a landing begins: no other push is atomic.
WRAPPER = '#!/bin/sh\ncase " $* " in *" --atomic "*)\n{wait}\n;; esac\nexec {git} "$@"\n'


@dataclass
class World:
    """Two hosts, `one` and `two`, behind links of their own."""

    root: Path
    network: Network
    one: Host
    two: Host
    started: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def start(self, host: Host, *args: str) -> "subprocess.Popen[str]":
        child = subprocess.Popen(
            [*self.network.command(host.name), sys.executable, "-m", "agentq", *args], cwd=host.checkout,
            env=host.environment(), text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.started.append(child)
        return child

    def agentq(self, host: Host, *args: str, rc: int | None = 0) -> str:
        code, said = end(self.start(host, *args))
        assert rc is None or code == rc, f"{args}: {code}\n{said}"
        return said

    def gate(self, name: str) -> Path:
        return self.root / "gates" / name

    def landed(self, *specs: str) -> None:
        """These specs landed, once each, in any order; the queue and trunk agree, and the hub is sound."""
        hub = self.one.hub
        assert sorted(self.one.landings()) == sorted(specs)
        form = "--format=%H %(trailers:key=Agentq-Spec,valueonly,separator=%x2C)"
        rows = [row.split(" ") for row in git("log", "--reverse", form, "main", cwd=hub).splitlines()]
        done = [[one["landed"], one["id"]] for one in self.one.queue["completed"]]
        assert done == [row for row in rows if len(row) == 2 and row[1]]
        for spec in specs:
            assert git("show", f"main:{spec}.txt", cwd=hub) == spec
        git("fsck", "--full", cwd=hub)


def end(child: "subprocess.Popen[str]") -> tuple[int, str]:
    said = child.communicate(timeout=120)[0]
    return child.returncode, said


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    if missing := netns.daemon_missing() or netns.namespaces_missing():
        pytest.skip(missing)
    network = Network()
    try:
        for name in ("one", "two"):
            network.join(name)
        (tmp_path / "gates").mkdir()
        (tmp_path / "one").mkdir()
        hub = network.command("hub")
        with netns.served(tmp_path, inside=hub, address="0.0.0.0", port=PORT):
            made = World(tmp_path, network, *_hosts(tmp_path, network))
            yield made
            for child in made.started:
                _end_now(child)
    finally:
        network.close()


def _end_now(child: "subprocess.Popen[str]") -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGKILL)
    child.communicate()


def _hosts(root: Path, network: Network) -> list[Host]:
    """Clones that share a queue with alpha and beta, and reach the hub through their own links."""
    made = hosts.build(root, "one", "two", share=False)
    specs = []
    for spec in ("alpha", "beta"):
        made[0].write_scripts(spec)
        specs.append({
            "id": spec, "title": f"Write {spec}", "files_modified": [f"{spec}.txt", f"checks/{spec}.py"]
        })  # fmt: skip
    made[0].write_queue(ready=specs, in_progress=[], completed=[])
    for host in made:
        url = f"git://{network.address(host.name)}:{PORT}/one/hub.git"
        host.git("remote", "set-url", "origin", url)
        host.variables.update(
            AGENTQ_SHARED_HEARTBEAT_SECONDS=str(HEARTBEAT), AGENTQ_SHARED_DEAD_AFTER_SECONDS=str(DEAD_AFTER),
            AGENTQ_TRUNK_PUSH_TIMEOUT_SECONDS=str(PUSH_TIMEOUT),
        )  # fmt: skip
        shares = [*network.command(host.name), sys.executable, "-m", "agentq", "share", "--yes"]
        subprocess.run(shares, cwd=host.checkout, env=host.environment(), check=True, capture_output=True)
    return made


def script(path: Path, text: str, gate: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.replace("{wait}", WAIT.replace("{gate}", str(gate))))
    path.chmod(0o755)


def holding_hub(world: World) -> Path:
    """The hub keeps the next push of trunk until the gate says go."""
    gate = world.gate("hub")
    gate.mkdir()
    script(world.one.hub / "hooks" / "pre-receive", HOOK, gate)
    (gate / "armed").touch()
    return gate


def holding_host(world: World, host: Host) -> Path:
    """The host begins its next push of a landing only when the gate says go."""
    gate = world.gate(host.name)
    gate.mkdir()
    own = subprocess.run(["which", "git"], capture_output=True, text=True, check=True).stdout.strip()
    script(gate / "bin" / "git", WRAPPER.replace("{git}", own), gate)
    host.variables["PATH"] = f"{gate / 'bin'}:{os.environ['PATH']}"
    (gate / "armed").touch()
    return gate


def trunk(world: World) -> str:
    return git("rev-parse", "main", cwd=world.one.hub)


def test_a_push_that_was_applied_and_never_answered(world: World) -> None:
    one, two, gate = world.one, world.two, holding_hub(world)
    before = trunk(world)
    run = world.start(one, "run", "alpha", "--yes")
    until((gate / "waiting").exists, 60)
    world.network.cut("one")
    (gate / "go").touch()
    until(lambda: trunk(world) != before, 30)
    world.landed("alpha")
    # The others are not held up by whoever does not come back.
    world.agentq(two, "run", "beta", "--yes")
    world.landed("alpha", "beta")
    queue = one.queue
    time.sleep(PUSH_TIMEOUT + 1)
    assert run.poll() is None, "it waits for an answer"
    world.network.heal("one")
    code, said = end(run)
    assert code == 0 and said.count("trying again") == 1, said
    world.agentq(one, "recover")
    assert one.queue == queue
    world.landed("alpha", "beta")


def test_a_push_that_was_never_sent(world: World) -> None:
    one, gate = world.one, holding_host(world, world.one)
    before = trunk(world)
    run = world.start(one, "run", "alpha", "--yes")
    until((gate / "waiting").exists, 60)
    world.network.cut("one")
    (gate / "go").touch()
    time.sleep(PUSH_TIMEOUT + 2)
    assert trunk(world) == before and run.poll() is None
    assert one.entry("alpha")["array"] == "in_progress"
    world.network.heal("one")
    code, said = end(run)
    assert code == 0 and "trying again" in said, said
    world.landed("alpha")
    assert one.entry("alpha")["machine"] == "one"


def test_who_led_the_lane_is_cut_off_and_the_next_one_lands_for_both(world: World) -> None:
    """What waits in the lane was published: it lands without its owner, who has nothing to do when it is back."""
    one, two, gate = world.one, world.two, holding_host(world, world.one)
    run = world.start(one, "run", "alpha", "--yes")
    until((gate / "waiting").exists, 60)
    world.network.cut("one")
    other = world.start(two, "run", "beta", "--yes")
    (gate / "go").touch()
    code, said = end(other)
    assert code == 0, said
    assert one.landings() == ["alpha", "beta"]
    queue = one.queue
    world.network.heal("one")
    code, said = end(run)
    assert code == 0, said
    world.agentq(one, "recover")
    assert one.queue == queue and one.salvaged() == []
    world.landed("alpha", "beta")


def test_a_push_that_arrives_when_nobody_waits_for_it_any_more(world: World) -> None:
    """The hub is slow and the host gave up; its second push is faster than the first."""
    one, gate = world.one, holding_hub(world)
    run = world.start(one, "run", "alpha", "--yes")
    until((gate / "waiting").exists, 60)
    world.network.cut("one")
    time.sleep(PUSH_TIMEOUT + 2)
    assert run.poll() is None
    world.network.heal("one")
    code, said = end(run)
    assert code == 0, said
    world.landed("alpha")
    queue, landed = one.queue, trunk(world)
    (gate / "go").touch()
    until(lambda: not _receiving(world), 30)
    assert one.queue == queue and trunk(world) == landed
    world.agentq(one, "recover")
    world.agentq(world.two, "run", "beta", "--yes")
    world.landed("alpha", "beta")


def _receiving(world: World) -> list[str]:
    """Pushes under way at the hub."""
    pids = netns.ip("netns", "pids", world.network.name("hub")).split()
    found = []
    for pid in pids:
        words = Path(f"/proc/{pid}/cmdline")
        if words.exists() and b"receive-pack\0." in (said := words.read_bytes()):
            found.append(said.decode())
    return found


def test_a_link_that_is_back_soon_is_not_even_noticed(world: World) -> None:
    one, gate = world.one, holding_hub(world)
    run = world.start(one, "run", "alpha", "--yes")
    until((gate / "waiting").exists, 60)
    world.network.cut("one")
    (gate / "go").touch()
    until(lambda: "alpha" in one.landings(), 30)
    world.network.heal("one")
    code, said = end(run)
    assert code == 0, said
    world.landed("alpha")


def slow(host: Host, gate: Path) -> None:
    """The implementing agent on the first host leaves half of its work, then waits until `gate` is there."""
    host.script("alpha", "implement", f"""
import os, time
gate = Path({str(gate)!r})
if not gate.with_suffix(".began").exists():
    Path("half.txt").write_text("half of it")
    gate.with_suffix(".began").write_text("")
    while not gate.exists():
        time.sleep(0.05)
    Path("whole.txt").write_text("written far away")
if Path("half.txt").exists():
    Path("half.txt").unlink()
Path("alpha.txt").write_text("alpha\\n"); commit()
""")  # fmt: skip


@pytest.mark.parametrize("ends", ["while it is away", "when it is back"])
def test_a_host_that_was_away_for_long_changes_nothing_and_saves_its_work(world: World, ends: str) -> None:
    one, two, gate = world.one, world.two, world.gate("agent")
    slow(one, gate)
    run = world.start(one, "run", "alpha", "--yes")
    until(gate.with_suffix(".began").exists, 60)
    until(lambda: (one.beat() or {}).get("runs", {}).get("alpha", {}).get("stage") == "implement", 30)
    world.network.cut("one")

    def freed() -> bool:
        world.agentq(two, "recover")
        return bool(one.entry("alpha")["array"] == "ready")

    until(freed, 60)
    world.agentq(two, "run", "alpha", "--yes")
    world.landed("alpha")
    queue, landed, shown = one.queue, trunk(world), one.remote_refs("refs/agentq/wip")
    said = _comes_back(world, run, gate, ends)
    world.agentq(one, "recover")
    assert one.queue == queue and trunk(world) == landed, said
    assert one.remote_refs("refs/agentq/wip") == shown
    assert one.entry("alpha")["machine"] == "two"
    kept = {name for ref in one.salvaged() for name in one.git("ls-tree", "--name-only", ref).split()}
    assert kept & {"half.txt", "whole.txt"}, said
    assert one.strays("alpha") == [] and not (one.workspaces / "ws" / "alpha").exists()
    world.landed("alpha")
    world.agentq(one, "run", "beta", "--yes")
    world.landed("alpha", "beta")


def _comes_back(world: World, run: Any, gate: Path, ends: str) -> str:
    if ends == "while it is away":
        gate.touch()
        code, said = end(run)
        world.network.heal("one")
    else:
        world.network.heal("one")
        code, said = end(run)
        assert code == 5, said
    assert code != 0 and "Traceback" not in said, said
    return str(said)
