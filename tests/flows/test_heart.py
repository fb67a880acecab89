"""What machines show of themselves and observe of each other, on a real hub, with clocks the test moves."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.hosts import until

from agentq import process
from agentq.core import heartbeat
from agentq.core import lane as lane_rules
from agentq.core import queue as transitions
from agentq.core.spec import Queue
from agentq.errors import ExternalError, Refused
from agentq.flows import heart
from agentq.flows.heart import Machines
from agentq.store.shared import SharedStore
from agentq.trunk.branch import QueueBranch

INTERVAL, DEAD_AFTER, REST = 30.0, 300.0, 86_400.0
EMPTY = (
    b'{"ready": [{"id": "s1", "title": "One"}, {"id": "s2", "title": "Two"}], "in_progress": [], "completed": []}'
)


class Clock:
    """`wall`: how wrong this host's wall clock is, in hours; both move only when the test says so."""

    def __init__(self, wall: float = 0.0, monotonic: float = 1000.0) -> None:
        self.wall, self.time = wall, monotonic

    def now(self) -> datetime:
        return datetime(2026, 1, 31, tzinfo=UTC) + timedelta(hours=self.wall, seconds=self.time)

    def monotonic(self) -> float:
        return self.time


Make = Callable[..., Machines]


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    path = tmp_path / "hub.git"
    subprocess.run(["git", "init", "-q", "--bare", str(path)], check=True)
    branch = QueueBranch(tmp_path / "made" / "queue.git", str(path), "agentq", {}, 20)
    branch.ensure()
    assert branch.create(EMPTY)[0] == "pushed"
    return path


@pytest.fixture
def make(tmp_path: Path, hub: Path) -> Iterator[Make]:
    made: list[Machines] = []

    def machine(name: str, folder: str = "", clock: Clock | None = None, interval: float = INTERVAL) -> Machines:
        place = tmp_path / (folder or name)
        branch = QueueBranch(place / "queue.git", str(hub), "agentq", {}, 20)
        branch.ensure()
        one = Machines(
            folder=place, name=name, caps={"instances": 4}, store=SharedStore(branch, place), refs=branch,
            clock=clock or Clock(), owner=process.identity(os.getpid()) or "",
            interval=interval, dead_after=DEAD_AFTER, rest=REST,
        )  # fmt: skip
        made.append(one)
        return one

    yield machine
    for one in made:
        one.stop_beating()


def claim(machines: Machines, spec: str = "s1") -> int:
    who = transitions.Claim(machines.name, 1, machines.clock.now(), timedelta(hours=24))
    machines.store.update(lambda queue: transitions.claim(queue, spec, who))
    return machines.store.read().queue.epoch


def beat(machines: Machines, name: str) -> heartbeat.Beat | None:
    found = machines.refs.machines()  # type: ignore[call-arg]
    return heartbeat.parse(found[name][1]) if name in found else None


def pass_time(*clocks: Clock, seconds: float) -> None:
    for clock in clocks:
        clock.time += seconds


def watch(machines: Machines, clock: Clock, seconds: float) -> None:
    """Let time pass for an observer that goes on looking."""
    end = clock.time + seconds
    while clock.time < end:
        clock.time = min(clock.time + INTERVAL, end)
        machines.observe(force=True)


def live_on(machines: Machines) -> None:
    """What the heart does in each turn for the others."""
    machines._stamp()
    machines._beat()


def test_a_machine_shows_what_it_runs_and_says_good_bye(make: Make) -> None:
    a, b = make("a"), make("b")
    a.start("s1", 0, "test", 2)
    first = beat(b, "a")
    assert first is not None and first.runs == {"s1": heartbeat.Run(0, "test", 2)}, "before there is a lease"
    assert first.caps == {"instances": 4} and first.n == 1 and first.host and not first.lane
    a.start("s1", claim(a), "implement", 2)
    until(lambda: (found := beat(b, "a")) and found.runs == {"s1": heartbeat.Run(1, "implement", 2)})
    a.stop_beating()
    last = beat(b, "a")
    assert last is not None and not last.at_work and last.host == first.host and last.n > first.n


def test_a_beat_comes_every_interval_and_only_then(make: Make) -> None:
    clock = Clock()
    a, b = make("a", clock=clock, interval=0.05), make("b")
    a.start("s1", 0, "test", 1)
    seen = b.refs.machines()["a"][0]
    threading.Event().wait(0.5)
    assert b.refs.machines()["a"][0] == seen, "time stands still for it"
    pass_time(clock, seconds=1)
    until(lambda: b.refs.machines()["a"][0] != seen)


def test_processes_of_one_host_beat_as_one(make: Make, tmp_path: Path) -> None:
    """Another process of the host is at work: its registration is a file beside ours."""
    a = make("a")
    other = subprocess.Popen(["sleep", "60"])
    try:
        files = tmp_path / "a" / "alive"
        files.mkdir(parents=True)
        data = {"owner": process.identity(other.pid), "machine": "a", "spec": "s2", "epoch": 5, "stage": "test",
                "instance": 3, "lane": 8, "boot": process.boot(), "at": Clock().time}  # fmt: skip
        (files / f"{other.pid}.json").write_text(json.dumps(data))
        (files / "99999999.json").write_text(json.dumps({**data, "owner": "99999999/1/x", "spec": "gone"}))
        a.start("s1", 0, "test", 1)
        found = beat(a, "a")
        assert found is not None and set(found.runs) == {"s1", "s2"} and found.lane == 8
        assert (
            a.busy() == {"s2"}
            and a.elsewhere("s2") == other.pid
            and not a.elsewhere("s1")
            and not a.elsewhere("gone")
        )
        assert not (files / "99999999.json").exists(), "what dead processes left is swept"
        a.stop_beating()
        left = beat(a, "a")
        assert left is not None and set(left.runs) == {"s2"}, "the host is at work still"
    finally:
        other.kill()
        other.wait()


def test_only_an_unchanged_heartbeat_means_death_and_no_wall_clock(make: Make) -> None:
    """One host's wall clock is a day ahead, the other's a day behind: leases of each look expired to the other."""
    early, late = Clock(wall=-30), Clock(wall=30, monotonic=5)
    a, b = make("a", clock=early), make("b", clock=late)
    a.start("s1", 0, "test", 1)
    a.start("s1", claim(a), "test", 1)
    b.observe()
    for _ in range(12):
        pass_time(early, late, seconds=100)
        a._beat()
        b.observe()
        assert not b.dead("a")
    # Now it beats no more. However late it is on any wall clock: only what b watches counts.
    early.wall, late.wall = -3000, 3000
    watch(b, late, DEAD_AFTER - 1)
    assert not b.dead("a") and b.silent("a") == DEAD_AFTER - 1
    watch(b, late, INTERVAL)
    assert b.dead("a")
    pass_time(early, seconds=31)
    a._beat()
    b.observe(force=True)
    assert not b.dead("a"), "it woke up"
    assert not a.dead("a"), "nobody takes itself for dead"


def test_a_short_command_knows_what_was_watched_before(make: Make) -> None:
    """Observations are kept for all processes of the host; after a restart of it they begin anew."""
    clock = Clock()
    make("a").start("s1", 0, "test", 1)
    first = make("b", clock=clock)
    first.observe()
    watch(first, clock, DEAD_AFTER - INTERVAL)
    pass_time(clock, seconds=INTERVAL)
    later = make("b", clock=clock)
    assert not later.dead("a"), "nobody looked again yet"
    later.observe()
    assert later.dead("a")
    restarted = make("b", clock=clock)
    restarted.boot = "another"
    restarted.observe()
    assert not restarted.dead("a")


def test_a_machine_that_said_good_bye_rests(make: Make) -> None:
    clock = Clock()
    a, b = make("a"), make("b", clock=clock)
    a.start("s1", 0, "test", 1)
    claim(a)
    a.stop_beating()
    b.observe()
    b.rest = 2 * DEAD_AFTER
    watch(b, clock, b.rest - 1)
    assert not b.dead("a"), "its lease holds as long as a lease may"
    watch(b, clock, INTERVAL)
    assert b.dead("a")


def test_a_lease_of_a_machine_that_never_beat_is_not_for_ever(make: Make) -> None:
    clock = Clock()
    b = make("b", clock=clock)
    claim(make("a"))
    b.observe()
    assert not b.dead("a") and not b.dead("nobody")
    watch(b, clock, DEAD_AFTER)
    assert b.dead("a") and not b.dead("nobody")


def test_an_outage_of_the_hub_kills_nobody(make: Make, hub: Path) -> None:
    clock = Clock()
    b = make("b", clock=clock)
    make("a").start("s1", 0, "test", 1)
    b.observe()
    away = hub.with_name("away")
    hub.rename(away)
    pass_time(clock, seconds=DEAD_AFTER)
    assert not b.observe()
    away.rename(hub)
    pass_time(clock, seconds=DEAD_AFTER)
    assert b.observe() and not b.dead("a") and b.silent("a") == 0
    watch(b, clock, DEAD_AFTER)
    assert b.dead("a")


def test_an_outage_in_which_nobody_looked_kills_nobody(make: Make) -> None:
    """No look failed in it, and the first one after it comes before the other machine's next beat."""
    clock = Clock()
    b = make("b", clock=clock)
    make("a").start("s1", 0, "test", 1)
    b.observe()
    pass_time(clock, seconds=1800)
    b.observe()
    assert not b.dead("a") and b.silent("a") == DEAD_AFTER / 4


def test_an_observer_that_was_stopped_in_its_look_kills_nobody(make: Make) -> None:
    clock = Clock()
    b = make("b", clock=clock)
    make("a").start("s1", 0, "test", 1)
    b.observe()
    look = b.refs.machines

    def stopped(**how: bool) -> dict[str, tuple[str, str]]:
        found = look(**how)
        pass_time(clock, seconds=600)
        return found

    b.refs.machines = stopped  # type: ignore[method-assign]
    pass_time(clock, seconds=INTERVAL)
    assert b.observe() and b.silent("a") == INTERVAL


def test_what_others_saw_while_an_observer_was_stopped_stands(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heart, "TURN_SECONDS", 0.05)  # the stopped one has it
    clock, other = Clock(), Clock()
    b, later = make("b", clock=clock), make("b", clock=clock)
    a = make("a", clock=other)
    a.start("s1", 0, "test", 1)
    b.observe()
    look = b.refs.machines

    def stopped(**how: bool) -> dict[str, tuple[str, str]]:
        found = look(**how)
        pass_time(clock, other, seconds=600)
        a._beat()
        later.observe()
        return found

    b.refs.machines = stopped  # type: ignore[method-assign]
    pass_time(clock, seconds=INTERVAL)
    assert b.observe() and b._value("a") == a.refs.machines()["a"][0]


def test_no_run_begins_when_the_hub_is_away(make: Make, hub: Path) -> None:
    a = make("a")
    hub.rename(hub.with_name("away"))
    with pytest.raises(ExternalError):
        a.start("s1", 0, "test", 1)
    assert not list((a.folder / "alive").glob("*"))


def test_a_hub_that_refuses_heartbeats_is_not_asked_again(make: Make, hub: Path) -> None:
    hook = hub / "hooks" / "update"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(ExternalError, match="cannot show that it lives") as failed:
        make("a").start("s1", 0, "test", 1)
    assert not failed.value.retryable


def test_two_hosts_of_one_name_are_refused(make: Make) -> None:
    clock = Clock()
    first, second = make("same", "host1"), make("same", "host2", clock=clock)
    first.start("s1", 0, "test", 1)
    with pytest.raises(Refused, match="another host works on this queue under the name 'same'") as refused:
        second.start("s2", 0, "test", 1)
    assert "'name' in .machine" in refused.value.hint
    assert not list((second.folder / "alive").glob("*")), "it is not at work"
    second.observe()
    watch(second, clock, DEAD_AFTER)
    second.start("s2", 0, "test", 1)
    found = beat(first, "same")
    assert found is not None and set(found.runs) == {"s2"}, (
        "the first one's heartbeat stood still: the name is free"
    )


def test_a_host_whose_record_is_lost_goes_on(make: Make) -> None:
    a = make("a")
    a.start("s1", 0, "test", 1)
    a.stop_beating()
    (a.folder / "beat-a.json").unlink()
    a.start("s1", 0, "test", 1)
    assert (found := beat(a, "a")) is not None and found.at_work


def test_forgetting_a_machine(make: Make) -> None:
    clock = Clock()
    a, b = make("a"), make("b", clock=clock)
    a.start("s1", 0, "test", 1)
    with pytest.raises(Refused, match="may live"):
        b.forget("a")
    with pytest.raises(Refused, match="no machine 'x'"):
        b.forget("x")
    with pytest.raises(Refused, match="is this machine, and it is at work"):
        a.forget("a")
    watch(b, clock, DEAD_AFTER)
    b.forget("a")
    assert beat(b, "a") is None and b.names() == []


def test_a_machine_at_rest_may_be_forgotten_and_comes_back(make: Make) -> None:
    a, b = make("a"), make("b")
    a.start("s1", 0, "test", 1)
    a.stop_beating()
    b.forget("a")
    a.start("s1", 0, "test", 1)
    assert (found := beat(b, "a")) is not None and found.at_work


def test_a_run_learns_that_its_spec_was_taken_over(make: Make) -> None:
    a, b = make("a", interval=0.1), make("b")
    a.start("s1", 0, "test", 1)
    epoch = claim(a)
    a.start("s1", epoch, "test", 1)
    threading.Event().wait(0.3)
    assert a.lost() is None
    b.store.update(lambda queue: transitions.give_back(queue, "s1", epoch))
    until(a.lost)
    assert "'s1' was taken over" in str(a.lost())


def test_a_run_whose_spec_was_landed_by_another_lost_nothing(make: Make) -> None:
    a, b = make("a", interval=0.1), make("b")
    a.start("s1", 0, "test", 1)
    epoch = claim(a)
    a.start("s1", epoch, "verify", 1)
    now = b.clock.now()
    b.store.update(lambda queue: transitions.complete(queue, "s1", epoch, "a" * 40, now, on_trunk=True))
    threading.Event().wait(0.5)
    assert a.lost() is None


def _lead(queue: Queue, machine: str) -> Queue:
    return lane_rules.lead(queue, machine, datetime(2026, 1, 31, tzinfo=UTC))


def test_a_leader_that_died_on_a_living_machine_is_found(make: Make) -> None:
    here, there = Clock(), Clock()
    a, b = make("a", clock=here), make("b", clock=there)
    a.start("s1", 0, "test", 1)
    leader = a.store.update(lambda queue: _lead(queue, "a")).lane.leader
    assert leader is not None
    a.leading(leader.epoch)
    until(lambda: (found := beat(b, "a")) and found.lane == leader.epoch)
    for _ in range(5):
        pass_time(here, there, seconds=100)
        live_on(a)
        b.observe()
        assert not b.lane_dead(leader) and not a.lane_dead(leader)
    a.leading(0)
    assert a.lane_dead(leader), "on its own host that is seen at once"
    for _ in range(6):
        pass_time(here, there, seconds=60)
        live_on(a)
        b.observe()
    assert b.lane_dead(leader) and not b.dead("a")


def test_a_stopped_leader_does_not_lead_by_the_beats_of_others(make: Make, tmp_path: Path) -> None:
    """Another process of its host lives on and beats for both."""
    here, there = Clock(), Clock()
    a, b = make("a", clock=here), make("b", clock=there)
    leader = a.store.update(lambda queue: _lead(queue, "a")).lane.leader
    assert leader is not None
    other = subprocess.Popen(["sleep", "60"])
    try:
        a.start("s1", 0, "test", 1)
        data = {"owner": process.identity(other.pid), "machine": "a", "spec": "s2", "epoch": 5, "stage": "verify",
                "instance": 2, "lane": leader.epoch, "boot": process.boot(), "at": here.time}  # fmt: skip
        (tmp_path / "a" / "alive" / f"{other.pid}.json").write_text(json.dumps(data))
        live_on(a)
        b.observe()
        assert (found := beat(b, "a")) and found.lane == leader.epoch and not a.stopped_leader()
        os.kill(other.pid, signal.SIGSTOP)
        until(lambda: a.stopped_leader() == other.pid)
        assert not a.lane_dead(leader), "it may go on at any moment"
        for passed in range(60, int(2 * DEAD_AFTER) + 1, 60):
            pass_time(here, there, seconds=60)
            live_on(a)
            b.observe()
            assert a.lane_dead(leader) is (passed >= DEAD_AFTER)
        watch(b, there, 60)
        assert b.lane_dead(leader) and not b.dead("a")
        found = beat(b, "a")
        assert found and not found.lane and set(found.runs) == {"s1", "s2"}
        assert a.busy() == {"s2"}, "nobody else may begin what it has"
    finally:
        other.kill()
        other.wait()


def test_a_process_stamps_its_file_as_long_as_it_works(make: Make, tmp_path: Path) -> None:
    clock = Clock()
    a = make("a", clock=clock, interval=0.05)
    a.start("s1", 0, "test", 1)
    (file,) = (tmp_path / "a" / "alive").glob("*.json")
    pass_time(clock, seconds=100)
    until(lambda: json.loads(file.read_text())["at"] == clock.time)
    a.stop_beating()
    assert not file.exists()


def test_a_ref_that_could_harm_a_terminal_is_no_machine(make: Make, hub: Path) -> None:
    b = make("b")
    make("a").start("s1", 0, "test", 1)
    commit = b.refs.machines()["a"][0]
    for name in ("evil\u202e", "x/y"):
        subprocess.run(["git", "update-ref", f"refs/agentq/machines/{name}", commit], cwd=hub, check=True)
    b.observe(force=True)
    assert b.names() == ["a", "x/y"]


def test_what_status_shows(make: Make) -> None:
    clock = Clock()
    a, b = make("a"), make("b", clock=clock)
    a.start("s1", 0, "test", 1)
    claim(make("c"), "s2")
    b.observe()
    pass_time(clock, seconds=12)
    shown = {one.name: one for one in b.views(b.store.read().queue)}
    assert set(shown) == {"a", "c"}
    assert shown["a"].silent == 12 and shown["a"].caps == {"instances": 4} and set(shown["a"].runs) == {"s1"}
    assert shown["c"].silent is None and not shown["c"].runs and not shown["c"].dead
    assert json.loads(json.dumps(shown["a"].to_json()))["runs"] == {
        "s1": {"epoch": 0, "stage": "test", "instance": 1}
    }
