"""Several machines on one queue: real clones, a real hub, real processes that are stopped and killed."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from support import hosts
from support import project as projects
from support.hosts import DEAD_AFTER, Host, until

from agentq.core import queue as transitions
from agentq.errors import Refused
from agentq.flows.run import run_spec


@pytest.fixture
def pair(tmp_path: Path) -> list[Host]:
    made = hosts.build(tmp_path, "one", "two")
    made[0].put("alpha")
    return made


def slow(host: Host, gate: Path, spec: str = "alpha") -> None:
    """The implementing agent of `spec` leaves half of its work, then waits until `gate` is there."""
    host.script(spec, "implement", f"""
import time
gate = Path({str(gate)!r})
if not gate.with_suffix(".began").exists():
    Path("half.txt").write_text("half of it")
    gate.with_suffix(".began").write_text("")
    while not gate.exists():
        time.sleep(0.05)
if Path("half.txt").exists():
    Path("half.txt").unlink()
Path("{spec}.txt").write_text("{spec}\\n"); commit()
""")  # fmt: skip


def at_work(host: Host, spec: str = "alpha") -> bool:
    """Whether the heartbeat of `host` says that it implements `spec`."""
    return bool((host.beat() or {}).get("runs", {}).get(spec, {}).get("stage") == "implement")


def die(host: Host, run: "subprocess.Popen[str]", spec: str = "alpha") -> None:
    """Kill a run that its heartbeat tells of, with all it started."""
    until(lambda: at_work(host, spec))
    os.kill(run.pid, signal.SIGKILL)
    end(run)


def freed(host: Host, spec: str = "alpha") -> bool:
    """Whether a look at the other machines made the spec ready again."""
    host.agentq("recover")
    return bool(host.entry(spec)["array"] == "ready")


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    said = process.communicate(timeout=60)[0]
    return process.returncode, said


def test_a_heartbeat_appears_with_the_run_and_is_empty_after_it(pair: list[Host]) -> None:
    one, two = pair
    gate = one.root / "gate"
    slow(one, gate)
    run = one.start("run", "alpha", "--yes")
    until(lambda: at_work(one))
    beat = one.beat()
    assert beat and beat["runs"]["alpha"] == {"epoch": 1, "stage": "implement", "instance": 1}
    assert set(beat["caps"]) == {"instances", "ram_gb", "test_workers", "playwright_workers", "verifications"}
    number = beat["n"]
    until(lambda: (one.beat() or beat)["n"] > number + 2)
    with pytest.raises(AssertionError, match=r"'alpha' belongs to one"):
        two.agentq("run", "alpha", "--yes")
    gate.touch()
    assert end(run)[0] == 0
    last = one.beat()
    assert last and last["runs"] == {} and last["lane"] == 0 and two.landings() == ["alpha"]


def test_a_machine_that_is_stopped_is_replaced_and_wakes_up_harmless(pair: list[Host]) -> None:
    """SIGSTOP past its lease; the other host takes over and lands; SIGCONT: it changes nothing."""
    one, two = pair
    gate = one.root / "gate"
    slow(one, gate)
    run = one.start("run", "alpha", "--yes")
    until(gate.with_suffix(".began").exists)
    until(lambda: at_work(one))
    os.kill(run.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        until(lambda: freed(two))
        assert time.monotonic() - began >= DEAD_AFTER * 0.8, "not before it stood still for long enough"
        two.agentq("run", "alpha", "--yes")
        queue, trunk = two.queue, two.git("rev-parse", "main", cwd=two.hub)
        refs = two.remote_refs("refs/agentq/wip")
    finally:
        os.kill(run.pid, signal.SIGCONT)
    code, said = end(run)
    assert code == 5, said
    assert two.queue == queue and two.git("rev-parse", "main", cwd=two.hub) == trunk
    assert two.remote_refs("refs/agentq/wip") == refs
    assert two.entry("alpha")["machine"] == "two" and two.landings() == ["alpha"]
    kept = [ref for ref in one.salvaged() if "half.txt" in one.git("ls-tree", "--name-only", ref)]
    assert kept and one.git("show", f"{kept[0]}:half.txt") == "half of it"
    assert one.strays("alpha") == [] and not (one.workspaces / "ws" / "alpha").exists()
    assert (one.beat() or {}).get("runs") == {}


def test_the_work_of_a_killed_host_is_offered_to_the_next(pair: list[Host]) -> None:
    one, two = pair
    gate = one.root / "gate"
    slow(one, gate)
    run = one.start("run", "alpha", "--yes")
    until(gate.with_suffix(".began").exists)
    die(one, run)
    assert not freed(two), "nobody is dead at first sight"
    until(lambda: freed(two))
    two.script("alpha", "test", 'assert Path("checks/alpha.py").exists(), "offered"\ncommit()')
    done = two.agentq("run", "alpha", "--yes")
    assert "its last owner left: test" in done.stdout and two.landings() == ["alpha"]
    assert two.entry("alpha")["epoch"] > 1
    # The first one comes back: what it had and nobody pushed is saved, its workspace goes.
    until(lambda: one.strays("alpha") == [])
    assert "removed a workspace nobody uses" in one.agentq("recover").stdout
    assert any("half.txt" in one.git("ls-tree", "--name-only", ref) for ref in one.salvaged())


def test_no_lease_is_taken_because_a_wall_clock_says_so(pair: list[Host]) -> None:
    """Its lease ended years ago by everybody's clock; the machine lives, so the lease does."""
    one, two = pair
    gate = one.root / "gate"
    slow(one, gate)
    run = one.start("run", "alpha", "--yes")
    until(gate.with_suffix(".began").exists)

    def expired(queue: Any) -> Any:
        entry = transitions.running(queue, "alpha")
        lease = entry.lease.model_dump() | {"expires": "2020-01-01T00:00:00Z"}
        return transitions.changed_entry(queue, entry, {"lease": lease})

    two.services().store.update(expired)
    until(lambda: (one.beat() or {}).get("n", 0) > 5)
    with pytest.raises(AssertionError, match="belongs to one, whose heartbeat"):
        two.agentq("run", "alpha", "--yes")
    assert not freed(two)
    gate.touch()
    assert end(run)[0] == 0 and two.entry("alpha")["machine"] == "one"


def test_a_spec_at_rest_stays_with_its_machine(pair: list[Host]) -> None:
    """Its stages run on one machine, hours apart, and nobody beats in between."""
    one, two = pair
    one.agentq("run", "alpha", "--stop-after", "test", "--yes")
    two.agentq("recover")
    time.sleep(DEAD_AFTER + 0.5)
    assert not freed(two)
    one.agentq("run", "alpha", "--yes")
    assert two.entry("alpha")["machine"] == "one"


def test_what_waits_for_a_person_goes_on_waiting(pair: list[Host]) -> None:
    one, two = pair
    one.script("alpha", "implement", "pass")
    one.agentq("run", "alpha", "--yes", rc=6)
    one.put("beta")
    gate = one.root / "gate"
    slow(one, gate, "beta")
    run = one.start("run", "beta", "--yes")
    until(gate.with_suffix(".began").exists)
    die(one, run, "beta")
    until(lambda: freed(two, "beta"))
    assert two.entry("alpha")["array"] == "in_progress" and two.entry("alpha")["attention"]


def test_a_drained_machine_claims_nothing_and_ends_what_it_has(pair: list[Host]) -> None:
    one, two = pair
    one.put("beta")
    one.agentq("run", "alpha", "--stop-after", "test", "--yes")
    done = two.agentq("machine", "drain", "one")
    assert done.stdout.strip() == "'one' claims nothing more; it still has 1 spec: alpha"
    assert "one is drained" in one.agentq("run", "beta", "--yes", rc=1).stderr
    one.agentq("run", "alpha", "--yes")
    assert (one.beat() or {})["drained"] is True
    assert "there is no machine 'onne'" in (wrong := two.agentq("machine", "drain", "onne", rc=2)).stderr
    assert "did you mean 'one'?" in wrong.stderr
    assert "'two' is not drained" in two.agentq("machine", "drain", "--undo", rc=1).stderr
    two.agentq("machine", "drain", "one", "--undo")
    one.agentq("run", "beta", "--yes")
    assert two.landings() == ["alpha", "beta"]


def test_stealing_a_spec(pair: list[Host]) -> None:
    one, two = pair
    one.agentq("run", "alpha", "--stop-after", "test", "--yes")
    assert "this machine's own" in one.agentq("steal", "alpha", "--yes", rc=1).stderr
    asked = two.agentq("steal", "alpha", rc=2)
    assert "needs a yes" in asked.stderr and "pushed     test" in asked.stdout and two.entry("alpha")["lease"]
    found = json.loads(two.agentq("steal", "alpha", "--yes", "--json").stdout)
    assert found["schema"] == "agentq/change/v1" and found["machine"] == "one" and found["pushed"] == ["test"]
    assert two.entry("alpha")["array"] == "ready"
    assert "ready, not in progress" in two.agentq("steal", "alpha", "--yes", rc=1).stderr
    two.agentq("run", "alpha", "--stop-after", "test", "--yes")
    assert "removed a workspace" in one.agentq("recover").stdout and one.salvaged()
    done = one.agentq("steal", "alpha", "--yes", "--run")
    assert "two: not at work on it" in done.stdout and two.landings() == ["alpha"]
    assert two.entry("alpha")["machine"] == "one"


def test_stealing_from_a_run_stops_it(pair: list[Host]) -> None:
    one, two = pair
    gate = one.root / "gate"
    slow(one, gate)
    run = one.start("run", "alpha", "--yes")
    until(gate.with_suffix(".began").exists)
    until(lambda: (one.beat() or {}).get("runs", {}).get("alpha", {}).get("epoch") == 1)
    until(lambda: at_work(one))
    shown = two.agentq("steal", "alpha", "--yes").stdout
    assert "one: at work on it, last heartbeat" in shown
    began = time.monotonic()
    code, said = end(run)
    assert code == 5 and time.monotonic() - began < 20, said
    two.agentq("run", "alpha", "--yes")
    assert two.entry("alpha")["machine"] == "two" and two.landings() == ["alpha"]
    assert any("half.txt" in one.git("ls-tree", "--name-only", ref) for ref in one.salvaged())


def test_releasing_a_spec_of_another_machine_names_the_right_command(pair: list[Host]) -> None:
    one, two = pair
    one.agentq("run", "alpha", "--stop-after", "test", "--yes")
    refused = two.agentq("release", "alpha", "--yes", rc=1)
    assert "belongs to one" in refused.stderr and "agentq steal alpha" in refused.stderr


def test_two_hosts_of_one_name(pair: list[Host]) -> None:
    one, two = pair
    (two.checkout / ".machine").write_text((two.checkout / ".machine").read_text().replace('"two"', '"one"', 1))
    one.put("beta")
    gate = one.root / "gate"
    slow(one, gate)
    run = one.start("run", "alpha", "--yes")
    until(gate.with_suffix(".began").exists)
    refused = two.agentq("run", "beta", "--yes", rc=1)
    assert "another host works on this queue under the name 'one'" in refused.stderr
    assert "'name' in .machine" in refused.stderr and "machine forget one" in refused.stderr
    assert two.entry("beta")["array"] == "ready"
    assert "may live" in two.agentq("machine", "forget", "one", "--yes", rc=1).stderr
    gate.touch()
    assert end(run)[0] == 0


def test_two_clones_of_one_host(tmp_path: Path) -> None:
    """The same machine in two checkouts: one does not take the other's run for a dead one."""
    one = hosts.build(tmp_path, "one")[0]
    one.put("alpha")
    clone = hosts._host(tmp_path / "clone", "one", one, 4)
    clone.variables["HOME"] = str(one.home)
    gate = one.root / "gate"
    slow(one, gate)
    run = one.start("run", "alpha", "--yes")
    until(gate.with_suffix(".began").exists)
    assert f"process {run.pid} of this host works on it" in clone.agentq("run", "alpha", "--yes", rc=1).stderr
    gate.touch()
    assert end(run)[0] == 0 and one.entry("alpha")["epoch"] == 1


def test_status_shows_the_machines(pair: list[Host]) -> None:
    one, two = pair
    gate = one.root / "gate"
    slow(one, gate)
    run = one.start("run", "alpha", "--yes")
    until(lambda: at_work(one))
    two.agentq("machine", "drain")
    shown = two.agentq("status").stdout
    lines = shown.splitlines()
    at = lines.index("Machines (2)")
    assert lines[at + 1].split() == ["MACHINE", "AGENTS", "LAST", "HEARTBEAT", "RUNS"]
    assert lines[at + 2].startswith("one ") and "1 of 4" in lines[at + 2] and "s ago" in lines[at + 2]
    assert lines[at + 2].endswith("alpha (implement)") and "drained" in lines[at + 3]
    assert all(len(line) <= 100 for line in lines) and "\x1b" not in shown
    found = json.loads(two.agentq("status", "--json").stdout)
    first = found["machines"][0]
    assert first["name"] == "one" and first["runs"]["alpha"]["stage"] == "implement" and not first["dead"]
    assert first["caps"]["instances"] == 4 and found["age_seconds"] == 0
    os.kill(run.pid, signal.SIGKILL)
    end(run)
    until(lambda: json.loads(two.agentq("status", "--json").stdout)["machines"][0]["dead"])
    assert "dead: its specs become ready again" in " ".join(two.agentq("status").stdout.split())
    one.hub.rename(one.hub.with_name("away"))
    shown = two.agentq("status").stdout
    assert "Offline: the shared queue as it was" in shown and "alpha" in shown
    assert "Offline: the shared queue as it was" in two.agentq("next", "--dry-run", rc=3).stdout


def test_forgetting_a_machine(pair: list[Host]) -> None:
    one, two = pair
    one.agentq("run", "alpha", "--yes")
    assert "no machine 'nobody' has a heartbeat" in two.agentq("machine", "forget", "nobody", "--yes", rc=1).stderr
    two.agentq("machine", "forget", "one", "--yes")
    assert one.beat() is None
    assert "needs a yes" in two.agentq("machine", "forget", "one", rc=2).stderr


def test_a_queue_of_one_host_has_no_machines(tmp_path: Path) -> None:
    project = projects.build(tmp_path / "p")
    project.add("alpha")
    assert "host's alone" in project.agentq("machine", "forget", "x", "--yes", rc=1).stderr
    assert "host's alone" in project.agentq("steal", "alpha", "--yes", rc=1).stderr
    assert "Machines" not in project.agentq("status").stdout
    assert json.loads(project.agentq("status", "--json").stdout)["machines"] == []
    project.agentq("machine", "drain")
    assert "host is drained" in project.agentq("run", "alpha", "--yes", rc=1).stderr


def test_work_takes_over_what_dead_machines_had(pair: list[Host]) -> None:
    """`work` goes on looking while it has something to do."""
    one, two = pair
    gate = one.root / "gate"
    slow(one, gate)
    run = one.start("run", "alpha", "--yes")
    until(gate.with_suffix(".began").exists)
    until(lambda: at_work(one))
    one.put("beta")
    later = two.root / "later"
    two.script("beta", "implement", f"""
import time
while not Path({str(later)!r}).exists():
    time.sleep(0.05)
Path("beta.txt").write_text("beta\\n"); commit()
""")  # fmt: skip
    work = two.start("work", "-n", "2")
    until(lambda: "two" in str((two.beat() or {}).get("machine")))
    os.kill(run.pid, signal.SIGKILL)
    end(run)
    until(lambda: "alpha" in two.landings(), 60)
    later.touch()
    code, said = end(work)
    assert code == 0, said
    assert sorted(two.landings()) == ["alpha", "beta"]


def test_work_goes_on_when_what_dead_machines_had_cannot_be_freed(pair: list[Host]) -> None:
    """The remote refuses the queue for a while: no reason to end a healthy run."""
    one, two = pair
    gate, later = one.root / "gate", two.root / "later"
    slow(one, gate)
    run = one.start("run", "alpha", "--yes")
    until(lambda: at_work(one))
    one.put("beta")
    slow(two, later, "beta")
    work = two.start("work", "-n", "2")
    until(lambda: at_work(two, "beta"))
    hook = two.hub / "hooks" / "update"
    hook.write_text('#!/bin/sh\n[ "$1" != refs/heads/agentq ]\n')
    hook.chmod(0o755)
    os.kill(run.pid, signal.SIGKILL)
    end(run)
    said = ""
    while "what dead machines had is not freed" not in said:
        line = work.stdout.readline()  # type: ignore[union-attr]
        assert line, said
        said += line
    time.sleep(1)
    hook.unlink()
    gate.touch()
    later.touch()
    code, rest = end(work)
    assert code == 0, said + rest
    assert "is not freed" not in rest, "told once"
    assert sorted(two.landings()) == ["alpha", "beta"]


def test_a_claim_in_process_is_refused_for_a_living_machine(pair: list[Host]) -> None:
    one, two = pair
    one.agentq("run", "alpha", "--stop-after", "test", "--yes")
    with two.here(), pytest.raises(Refused, match="belongs to one"):
        run_spec(projects.services(two), "alpha", confirm=lambda _id, _summary: True)
