"""The machines that share a queue: this one's heartbeat, and what it observes of the others.

A thread of the supervising process beats, never the agent: what stops the process stops its heartbeat. The
processes of one host share a folder: whoever finds the last beat too old, or no longer true, beats for all of
them. Each stamps its own file there, so that one which is stopped does not lead the lane on by the others' beats.
What was observed lies there too, so that short commands know what long ones saw.
"""

import os
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from agentq import process
from agentq.core import heartbeat
from agentq.core.heartbeat import Beat, Observations, Run, machine_key, silent_seconds
from agentq.core.spec import Leader, Queue
from agentq.core.text import has_unsafe
from agentq.errors import AgentqError, ExternalError, Refused
from agentq.flows.services import Clock
from agentq.locks import turn_or_go_on
from agentq.store import files
from agentq.store.base import QueueStore

GOODBYE_SECONDS = 10.0  # how long the end of a run waits for the last beat
TURN_SECONDS = 5.0


class Refs(Protocol):
    """Where the beats are kept: one ref a machine on the remote."""

    def set_machine(self, name: str, text: str, expected: str) -> tuple[str, str]: ...

    def machines(self, *, fetch: bool = True) -> dict[str, tuple[str, str]]: ...

    def drop_machine(self, name: str, expected: str = "") -> tuple[str, str]: ...


@dataclass(frozen=True)
class Alive:
    """One process at work on this host, as it registered itself. `epoch` 0: it is about to claim; `at`: when its
    heart last stamped this, in seconds of the clock of `boot`."""

    owner: str
    machine: str
    spec: str = ""
    epoch: int = 0
    stage: str = ""
    instance: int = 0
    lane: int = 0
    boot: str = ""
    at: float = 0.0


@dataclass(frozen=True)
class View:
    """One machine as `status` shows it. `silent`: seconds its heartbeat stood unchanged before our eyes, None when
    it was never seen; `seen_at`: what its own clock said, for people only."""

    name: str
    caps: Mapping[str, float]
    silent: float | None
    seen_at: str
    runs: Mapping[str, Run]
    lane: int
    drained: bool
    dead: bool
    here: bool

    def to_json(self) -> dict[str, Any]:
        runs = {spec: asdict(run) for spec, run in self.runs.items()}
        return {**self.__dict__, "caps": dict(self.caps), "runs": runs}


@dataclass
class Machines:
    """`folder`: shared by all processes of this host; `name`: what this machine is called in leases; `rest`: how
    long the leases of a machine hold that said good-bye. Seconds throughout."""

    folder: Path
    name: str
    caps: Mapping[str, float]
    store: QueueStore
    refs: Refs
    clock: Clock
    owner: str
    interval: float
    dead_after: float
    rest: float
    boot: str = field(default_factory=process.boot)

    def __post_init__(self) -> None:
        self._me = Alive(self.owner, self.name)
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._registering = threading.RLock()
        self._thread: threading.Thread | None = None
        self._lost: str | None = None

    # ------------------------------------------------------------ this process

    def start(self, spec: str, epoch: int, stage: str, instance: int) -> None:
        """This process works on `spec` (epoch 0: it is about to claim it). The first call beats before it
        returns, so that no claim is ever made by a machine that nobody watches. Raises Refused when another
        host uses this machine's name, ExternalError when the remote cannot be reached."""
        self._register(spec=spec, epoch=epoch, stage=stage, instance=instance)
        if self._thread is not None:
            self._wake.set()
            return
        try:
            outcome, said = self._beat()
        except BaseException:
            self._withdraw()
            raise
        if outcome != "pushed":
            self._withdraw()
            raise ExternalError(
                f"this machine cannot show that it lives: {said}", "run the command again",
                retryable=outcome != "refused",
            )  # fmt: skip
        self._begin()

    def leading(self, epoch: int) -> None:
        """This process leads the lane under `epoch`, or none any more (0)."""
        self._register(lane=epoch)
        self._wake.set()
        if self._thread is None and epoch:
            self._begin()

    def stop_beating(self) -> None:
        """This process is at the end of its work: what is left here beats once more."""
        self._withdraw()
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            self._wake.set()
            thread.join(GOODBYE_SECONDS)
        self._me = Alive(self.owner, self.name)

    def lost(self) -> str | None:
        """Why the run of this process must stop: its lease was taken over."""
        return self._lost

    def _begin(self) -> None:
        self._wake, self._stopping, self._lost = threading.Event(), threading.Event(), None
        self._wake.set()
        self._thread = threading.Thread(
            target=self._live, args=(self._wake, self._stopping), name="heart", daemon=True
        )
        self._thread.start()

    def _live(self, wake: threading.Event, stopping: threading.Event) -> None:
        while not stopping.is_set():
            wake.wait(self.interval)
            wake.clear()
            # Each alone: what one cannot do now must not keep the others from it. A later turn tries again.
            for step in (self.observe, self._check_lease, self._beat):
                if not stopping.is_set():
                    _try(self._stamp)
                    _try(step)
        _try(self._beat)

    def _check_lease(self) -> None:
        """Asked of the newest queue before it is believed: an older copy may not know of our claim yet."""
        me = self._me
        if not me.epoch or self._lost:
            return
        for max_age in (self.interval, 0.0):
            snapshot = self.store.read(max_age)
            if snapshot.age or not heartbeat.taken_over(snapshot.queue, me.spec, me.epoch):
                return
        if me.spec == self._me.spec and me.epoch == self._me.epoch:
            self._lost = f"'{me.spec}' was taken over from this machine"

    # ------------------------------------------------------------ processes of this host

    def _register(self, **changes: Any) -> None:
        with self._registering:
            self._me = replace(self._me, **changes, boot=self.boot, at=self._now())
            files.write_json(self._file, asdict(self._me))

    def _stamp(self) -> None:
        """Show the other processes of this host that this one is not stopped, if it is registered."""
        with self._registering:
            if self._file.exists():
                self._register()

    def _withdraw(self) -> None:
        with self._registering:
            self._file.unlink(missing_ok=True)

    @property
    def _file(self) -> Path:
        return self.folder / "alive" / f"{os.getpid()}.json"

    def _alive(self) -> list[Alive]:
        """The processes at work under this name; what dead ones left is swept."""
        found = []
        for path in sorted((self.folder / "alive").glob("*.json")):
            one = _record(files.read_json(path))
            if one is None or not process.alive(one.owner):
                path.unlink(missing_ok=True)
            elif one.machine == self.name:
                found.append(one)
        return found

    def _leads(self, one: Alive) -> int:
        """The epoch of the lane that a process of this host leads, or 0. One that did not stamp its file for so
        long is stopped, and leads nothing."""
        fresh = one.boot == self.boot and self._now() - one.at < self.dead_after
        return one.lane if fresh else 0

    def stopped_leader(self) -> int:
        """A process of this host that leads the lane and is suspended; 0 if there is none."""
        leaders = (_pid(one) for one in self._alive() if one.lane)
        return next((pid for pid in leaders if process.stopped(pid)), 0)

    def busy(self) -> set[str]:
        """The specs that other processes of this host work on, from whichever checkout."""
        return {one.spec for one in self._alive() if one.spec and one.owner != self.owner}

    def elsewhere(self, spec: str) -> int:
        """The process that works on `spec` from another checkout on this host; 0 if none does."""
        others = (one for one in self._alive() if one.spec == spec and one.owner != self.owner)
        return next(map(_pid, others), 0)

    @property
    def _host(self) -> str:
        """The random id of this host. Whoever comes first makes it."""
        path = self.folder / "host-id"
        if not path.exists():
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mine = path.with_name(f".host-id.{uuid.uuid4().hex}")
            mine.write_text(uuid.uuid4().hex)
            with suppress(FileExistsError):
                os.link(mine, path)
            mine.unlink()
        return path.read_text()

    # ------------------------------------------------------------ beating

    def _beat(self) -> tuple[str, str]:
        """Beat for this host if its last beat is too old or no longer true. Returns (outcome, what git said);
        'pushed' also when there was no need. Raises Refused when another host uses this name."""
        path = self.folder / f"beat-{self.name}.json"
        with self._turn("heart"):
            last = files.read_json(path) or {}
            beat = self._composed(int(last.get("n", 0)) + 1)
            known = heartbeat.parse(str(last.get("text", "")))
            fresh = (
                last.get("boot") == self.boot and 0 <= self._now() - last.get("time", 0.0) < self.interval * 0.9
            )
            if fresh and known is not None and known.says() == beat.says():
                return "pushed", ""
            text, now = heartbeat.to_text(beat), self._now()
            outcome, said = self.refs.set_machine(self.name, text, str(last.get("sha", "")))
            if outcome in ("moved", "unknown"):
                outcome, said = self.refs.set_machine(self.name, text, self._ours())
            if outcome == "pushed":
                files.write_json(path, {"boot": self.boot, "time": now, "n": beat.n, "sha": said, "text": text})
            return outcome, said

    def _composed(self, number: int) -> Beat:
        alive = self._alive()
        return Beat(
            machine=self.name, host=self._host, n=number, at=self.clock.now().isoformat(timespec="seconds"),
            caps=dict(self.caps), lane=max(map(self._leads, alive), default=0),
            runs={one.spec: Run(one.epoch, one.stage, one.instance) for one in alive if one.spec},
            drained=self.name in self.store.read(self.interval).queue.drained,
        )  # fmt: skip

    def _ours(self) -> str:
        """The commit of the beat that is there under our name, '' for none. Raises Refused when it is that of
        another host, unless we saw it stand still for so long that the name is free."""
        sha, text = self.refs.machines().get(self.name, ("", ""))
        beat = heartbeat.parse(text)
        if beat is None or beat.host == self._host:
            return sha
        if sha == self._value(self.name) and self.silent(self.name) >= self.dead_after:
            return sha
        raise Refused(
            f"another host works on this queue under the name '{self.name}' (its clock said {beat.at})",
            f"set another 'name' in .machine; if that host is gone, 'agentq machine forget {self.name}'",
        )

    # ------------------------------------------------------------ observing

    def observe(self, *, force: bool = False) -> bool:
        """Look at the heartbeats: once an interval for all processes of this host, or now. False when the remote
        cannot be reached."""
        with self._turn("observe"):
            known = self._observations()
            age = self._now() - known.at if known and known.boot == self.boot else -1.0
            if not force and known and not known.blind and 0 <= age < min(self.interval, self._unseen):
                return True
            began = self._now()
            try:
                snapshot = self.store.read()
                if snapshot.age:
                    raise ExternalError("the shared queue cannot be reached")
                # Whoever may push can make a ref: a name that could harm a terminal is no machine's.
                found = {name: it for name, it in self.refs.machines(fetch=False).items() if not has_unsafe(name)}
            except ExternalError:
                if blind := heartbeat.blinded(self._observations()):
                    self._keep(blind, self._texts())
                return False
            beats = {name: (sha, heartbeat.parse(text)) for name, (sha, text) in found.items()}
            seen = heartbeat.watched(beats, snapshot.queue, known)
            texts = {name: text for name, (_, text) in found.items()}
            if self._observations() == known:  # else we were stopped meanwhile, and others looked
                self._keep(heartbeat.observe(known, seen, began, self._now(), self.boot, self._unseen), texts)
            return True

    def _keep(self, observations: Observations, texts: Mapping[str, str]) -> None:
        data = {**heartbeat.to_json(observations), "beats": dict(texts)}
        files.write_json(self.folder / "observed.json", data)

    def _observations(self) -> Observations | None:
        found = heartbeat.from_json(files.read_json(self.folder / "observed.json"))
        return found if found and found.boot == self.boot else None

    def _texts(self) -> dict[str, str]:
        data = files.read_json(self.folder / "observed.json")
        found = data.get("beats") if isinstance(data, dict) else None
        return {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else {}

    def _value(self, name: str) -> str:
        known = self._observations()
        return known.seen[machine_key(name)].value if known and machine_key(name) in known.seen else ""

    def silent(self, name: str) -> float:
        """For how long the heartbeat of a machine stood still before our eyes."""
        return silent_seconds(self._observations(), machine_key(name))

    def dead(self, name: str) -> bool:
        """Whether a machine died at work. One that said good-bye rests: its leases hold as long as a lease may."""
        if name == self.name:
            return False
        beat = heartbeat.parse(self._texts().get(name, ""))
        resting = beat is not None and not beat.at_work
        return self.silent(name) >= (max(self.rest, self.dead_after) if resting else self.dead_after)

    def lane_dead(self, leader: Leader) -> bool:
        """Whether the process that leads the lane died, on whichever machine."""
        if leader.machine == self.name:
            return all(self._leads(one) != leader.epoch for one in self._alive())
        return silent_seconds(self._observations(), heartbeat.lane_key(leader.epoch)) >= self.dead_after

    def names(self) -> list[str]:
        """Every machine that ever beat and was not forgotten, as last observed."""
        self.observe()
        return sorted(self._texts())

    def views(self, queue: Queue) -> list[View]:
        """Every machine that beats or holds a lease, as last observed."""
        known, texts = self._observations(), self._texts()
        named = {entry.lease.machine for entry in queue.in_progress} | set(queue.drained)
        found = []
        for name in sorted(named | set(texts)):
            beat = heartbeat.parse(texts.get(name, "")) or Beat(name, "")
            seen = known.seen.get(machine_key(name)) if known else None
            silent = round(max(self._now() - seen.since, 0.0), 1) if seen and seen.value else None
            found.append(View(
                name, beat.caps, silent, beat.at, beat.runs, beat.lane, name in queue.drained, self.dead(name),
                name == self.name,
            ))  # fmt: skip
        return found

    def forget(self, name: str) -> None:
        """Drop the heartbeat of a machine. Raises Refused while it may live."""
        if not self.observe(force=True):
            raise ExternalError("the shared queue cannot be reached", "run the command again", retryable=True)
        sha, text = self.refs.machines(fetch=False).get(name, ("", ""))
        if not sha:
            known = ", ".join(sorted(self._texts())) or "none"
            raise Refused(f"no machine '{name}' has a heartbeat", f"known: {known}")
        beat, silent = heartbeat.parse(text), self.silent(name)
        ours = beat is not None and beat.host == self._host
        if ours and self._alive():
            raise Refused(f"'{name}' is this machine, and it is at work")
        if not ours and beat is not None and beat.at_work and silent < self.dead_after:
            left = self.dead_after - silent
            raise Refused(
                f"'{name}' may live: its heartbeat stood still for {silent:.0f} s so far",
                f"let 'agentq work' watch it for {left:.0f} s, or run this again every {self._unseen:.0f} s",
            )
        outcome, said = self.refs.drop_machine(name, sha)
        if outcome != "pushed":
            raise ExternalError(f"'{name}' was not forgotten: {said}", "run the command again", retryable=True)
        (self.folder / f"beat-{name}.json").unlink(missing_ok=True)
        self.observe(force=True)

    # ------------------------------------------------------------ helpers

    @property
    def _unseen(self) -> float:
        """How much of the time between two looks counts, in seconds."""
        return self.dead_after / 4

    def _now(self) -> float:
        return self.clock.monotonic()

    def _turn(self, name: str) -> AbstractContextManager[object]:
        """One process of this host at a time; the expected values of their pushes keep apart those that go on
        without."""
        return turn_or_go_on(self.folder / "locks", name, TURN_SECONDS)


def _try(step: Callable[[], Any]) -> None:
    with suppress(AgentqError, OSError):
        step()


def _pid(one: Alive) -> int:
    return int(one.owner.partition("/")[0])


def _record(data: Any) -> Alive | None:
    try:
        return Alive(**data)
    except TypeError:
        return None
