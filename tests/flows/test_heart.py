"""What machines show of themselves and observe of each other, on a real hub, with clocks the test moves."""

import json
import os
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
                "instance": 3, "lane": 8}  # fmt: skip
        (files / f"{other.pid}.json").write_text(json.dumps(data))
        (files / "99999999.json").write_text(json.dumps({**data, "owner": "99999999/1/x", "spec": "gone"}))
        a.start("s1", 0, "test", 1)
        found = beat(a, "a")
        assert found is not None and set(found.runs) == {"s1", "s2"} and found.lane == 8
        assert a.elsewhere("s2") == other.pid and not a.elsewhere("s1") and not a.elsewhere("gone")
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
    pass_time(late, seconds=DEAD_AFTER - 1)
    b.observe()
    assert not b.dead("a") and b.silent("a") == DEAD_AFTER - 1
    pass_time(late, seconds=INTERVAL)
    b.observe()
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
    make("b", clock=clock).observe()
    pass_time(clock, seconds=DEAD_AFTER)
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
    pass_time(clock, seconds=REST - 1)
    b.observe()
    assert not b.dead("a"), "its lease holds as long as a lease may"
    pass_time(clock, seconds=INTERVAL)
    b.observe()
    assert b.dead("a")


def test_a_lease_of_a_machine_that_never_beat_is_not_for_ever(make: Make) -> None:
    clock = Clock()
    b = make("b", clock=clock)
    claim(make("a"))
    b.observe()
    assert not b.dead("a") and not b.dead("nobody")
    pass_time(clock, seconds=DEAD_AFTER)
    b.observe()
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
    pass_time(clock, seconds=DEAD_AFTER)
    b.observe()
    assert b.dead("a")


def test_no_run_begins_when_the_hub_is_away(make: Make, hub: Path) -> None:
    a = make("a")
    hub.rename(hub.with_name("away"))
    with pytest.raises(ExternalError):
        a.start("s1", 0, "test", 1)
    assert not list((a.folder / "alive").glob("*"))


def test_two_hosts_of_one_name_are_refused(make: Make) -> None:
    clock = Clock()
    first, second = make("same", "host1"), make("same", "host2", clock=clock)
    first.start("s1", 0, "test", 1)
    with pytest.raises(Refused, match="another host works on this queue under the name 'same'") as refused:
        second.start("s2", 0, "test", 1)
    assert "'name' in .machine" in refused.value.hint
    assert not list((second.folder / "alive").glob("*")), "it is not at work"
    second.observe()
    pass_time(clock, seconds=DEAD_AFTER)
    second.observe()
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
    pass_time(clock, seconds=DEAD_AFTER)
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
        a._beat()
        b.observe()
        assert not b.lane_dead(leader) and not a.lane_dead(leader)
    a.leading(0)
    assert a.lane_dead(leader), "on its own host that is seen at once"
    for _ in range(2):
        pass_time(here, there, seconds=200)
        a._beat()
        b.observe()
    assert b.lane_dead(leader) and not b.dead("a")


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
