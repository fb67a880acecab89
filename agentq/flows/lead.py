"""Lead the landing lane: build the chain, test it, land what is good, eject what is not (landing facts).

Each step asks `core.landing.decide` anew, from the queue, trunk and what the tests have said. Invariants: only
the leader of the present epoch changes the lane; trunk only takes a commit whose tree passed; every landed tree
is the merge of what was trunk before it and the spec's work (landing fact 8).
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from agentq.core import landing
from agentq.core import lane as rules
from agentq.core.landing import NOTHING, Eject, Freeze, Land, Link, Seen, Test, Wait
from agentq.core.queue import Transition
from agentq.core.spec import InProgress, Lane, Queue, Tested
from agentq.core.text import clean
from agentq.errors import DatabaseError, ExternalError, Refused, Stale
from agentq.flows import lane_log
from agentq.flows.chain import Chain, Linked
from agentq.flows.lane_tests import Finished, LaneTests
from agentq.flows.outcome import Failed, StageOutcome
from agentq.flows.proof import is_proved, rules_key
from agentq.flows.session import Session
from agentq.store.base import QueueMove
from agentq.store.runs import Intent
from agentq.trunk.mirror import Trunk

TRIES = 5
POLL_SECONDS = 0.1
OUTAGE_SECONDS = 2.0
ASIDE_SECONDS = 600.0
GROWS = 5
_HASH = re.compile(r"[0-9a-f]{7,}")


def may_lead(session: Session, queue: Queue) -> bool:
    """Whether nobody leads, and there is something to do. The caller holds this repository's landing lock, so a
    leader of a queue that is not shared is dead."""
    services, lane = session.services, queue.lane
    if services.runs.stands_aside(services.clock.monotonic()):
        return False
    if lane.frozen and (lane.red is None or services.mirror.fetch().commit == lane.red):
        return False
    return lane.leader is None or services.machines is None or services.machines.lane_dead(lane.leader)


def lead(session: Session, judged: Lane, known: Trunk | None) -> StageOutcome | None:
    """Lead until our own spec has left the lane; an outcome when that ends our stage. `judged`: the lane of which
    `may_lead` was asked; `known`: trunk to begin with, fetched anew without it."""
    services = session.services
    over = judged.leader.epoch if judged.leader else 0
    machine, now = services.config.machine.name, services.clock.now()
    try:
        taken = services.store.update(lambda queue: rules.lead(queue, machine, now, over=over, past=judged.red))
    except Refused:
        return None  # another host was faster, or somebody froze the lane
    assert taken.lane.leader is not None
    epoch = taken.lane.leader.epoch
    if services.machines:
        services.machines.leading(epoch)
    leader = _Leader(session, epoch, known)
    try:
        return leader.run()
    except Stale as error:
        session.say("note", text=f"it stops leading the lane: {error.message}")
        return None
    finally:
        leader.close()


@dataclass
class _Leader:
    session: Session
    epoch: int
    trunk: Trunk | None
    seen: dict[str, Seen] = field(default_factory=dict)
    runs: int = 0
    last_pass: int = 0
    moved: int = 0
    single: bool = False
    refused: str = ""
    broken: str = ""
    commands: str = ""
    begins: bool = True
    grown: int = 0
    over: bool = False
    outages: int = 0
    logs: dict[str, Path] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chain = Chain(self.session)
        self.tests = LaneTests(self.session)

    # ------------------------------------------------------------ the loop

    def run(self) -> StageOutcome | None:
        session, store = self.session, self.session.services.store
        while not self.over:
            queue = store.read(max_age=1.0).queue
            rules.leading(queue, self.epoch)
            if session.services.stop() or not self._go_on(queue):
                return None
            try:
                if (ended := self._step(queue)) is not None:
                    return ended
                self.outages = 0
            except DatabaseError as error:
                self._without_database(error)
        return None

    def _without_database(self, error: DatabaseError) -> None:
        """No dev, no verdict: nobody is to blame, and the next try may find it again."""
        self.broken = error.message
        self.outages += 1
        self.session.say("note", text=f"the lane has no database: {error.message}")
        if self.outages >= landing.TRIES:
            self._broken()
        time.sleep(OUTAGE_SECONDS)

    def _go_on(self, queue: Queue) -> bool:
        """Our own spec waits, or what failed is known to us alone; then it begins new runs, too. What it began for
        others it brings to an end: whoever leads next finds the result."""
        waits = [entry.id for entry in rules.waiting(queue)]
        self.begins = self.session.id in waits or any(seen.failed for seen in self.seen.values())
        return not queue.lane.frozen and bool(waits) and (self.begins or bool(self.tests.running))

    def _step(self, queue: Queue) -> StageOutcome | None:
        trunk = self._trunk()
        chain, unfit = self.chain.build(trunk.commit, rules.waiting(queue), self._reach)
        for entry in unfit:
            self._send_back(entry)
        if unfit:
            return None
        without = self._without(trunk, chain, queue)
        view = self._view(queue, trunk, chain, without)
        match landing.decide(view):
            case Test() as wanted:
                if not self._grew(queue):
                    self._test(wanted, queue, trunk, chain, without)
            case Land(count):
                return self._land(chain[: 1 if self.single else count], trunk)
            case Eject(spec, tree):
                self._eject(next(one.entry for one in chain if one.entry.id == spec), tree)
            case Freeze("red"):
                self._red(trunk)
            case Freeze():
                self._broken()
            case Wait():
                self.trunk = None
        return None

    def _trunk(self) -> Trunk:
        """Trunk as far as we know. Results of other commands than its own are forgotten."""
        if self.trunk is None or not self.commands:
            self.trunk = self.trunk or self.session.fetch_trunk()
            commands = rules_key(self.session)
            if self.commands not in ("", commands):
                self.seen.clear()
            self.commands = commands
        return self.trunk

    def _without(self, trunk: Trunk, chain: Sequence[Linked], queue: Queue) -> Sequence[Linked]:
        """The chain without its first spec, once that one failed."""
        if not chain or not self.seen.get(chain[0].tree, NOTHING).failed:
            return ()
        return self.chain.build(trunk.commit, rules.waiting(queue)[1:], self._reach)[0]

    @property
    def _most(self) -> int:
        """Specs of one test run."""
        return 1 if self.single else self.session.rules.lane.batch

    @property
    def _reach(self) -> int:
        """Specs that a decision can be about: a batch for each test run at once."""
        return self._most * self.session.services.config.machine.verifications

    def _view(
        self, queue: Queue, trunk: Trunk, chain: Sequence[Linked], without: Sequence[Linked]
    ) -> landing.View:
        links, others = (tuple(Link(one.entry.id, one.tree) for one in some) for some in (chain, without))
        trees = dict.fromkeys((trunk.tree, *(link.tree for link in (*links, *others))))
        # What cannot come again is forgotten: an old failure blames nobody who was proved anew.
        self.seen = {tree: self.seen.get(tree) or self._remembered(tree) for tree in trees}
        if chain:
            first = chain[0]
            place = first.entry.place
            # Verified off the lane, on this very trunk: its owner's certificate stands.
            if (
                place
                and (place.base, place.tree) == (trunk.commit, first.tree)
                and not self.seen[first.tree].failed
            ):
                self.seen[first.tree] = replace(self.seen[first.tree], passed=1)
        return landing.View(
            trunk.tree, links, self.seen, self.last_pass, rules.pass_rate(queue.lane), self._most,
            self.session.services.config.machine.verifications, others, self.tests.running,
        )  # fmt: skip

    def _remembered(self, tree: str) -> Seen:
        return Seen(passed=int(is_proved(self.session, tree)))

    # ------------------------------------------------------------ testing

    def _grew(self, queue: Queue) -> bool:
        """Whether others took a place while the chain was built, and nothing is tested yet: then they can be part
        of the run that is about to begin. At most GROWS times in a row."""
        newest = self.session.services.store.read(max_age=1.0).queue
        grew = not self.tests.running and rules.waiting(newest) != rules.waiting(queue)
        self.grown = self.grown + 1 if grew else 0
        return 0 < self.grown <= GROWS

    def _test(self, wanted: Test, queue: Queue, trunk: Trunk, *chains: Sequence[Linked]) -> None:
        """Start what is wanted and not running, then wait for one to end or a moment to pass."""
        holds: dict[str, tuple[tuple[str, ...], str]] = {trunk.tree: ((), trunk.commit)}
        for chain in chains:
            for index, one in enumerate(chain):
                holds[one.tree] = (tuple(other.entry.id for other in chain[: index + 1]), one.commit)
        self.tests.keep(set(wanted.trees))
        for tree, why in zip(wanted.trees, wanted.why, strict=True):
            if self.begins and tree in holds and self.tests.has_room(tree):
                specs, commit = holds[tree]
                self.tests.start(tree, commit, Tested(specs=specs, base=trunk.commit, since=self._now(), why=why))
                self.session.say("lane-testing", specs=list(specs), base=trunk.commit, why=why)
        shown = tuple(self.tests.shown())
        if shown != queue.lane.testing:  # a change of a shared queue asks the remote
            self._update(lambda queue: rules.testing(queue, self.epoch, shown))
        for done in self.tests.wait(POLL_SECONDS):
            self._heard(done)

    def _heard(self, done: Finished) -> None:
        self.runs += 1
        self.session.say("lane-tested", specs=list(done.specs), verdict=done.verdict, problem=done.problem)
        if done.verdict == "passed":
            self.last_pass = self.runs
        self.seen[done.tree] = self.seen.get(done.tree, NOTHING).heard(done.verdict, self.runs)
        self.problems[done.tree] = done.problem
        self.broken = done.problem if done.verdict == "broken" else self.broken
        if done.log is not None:
            self.logs[done.tree] = done.log

    # ------------------------------------------------------------ landing

    def _land(self, batch: Sequence[Linked], trunk: Trunk) -> StageOutcome | None:
        """Push the batch and write it down, in one atomic push where the queue is shared."""
        services = self.session.services
        self.chain.assert_identity(trunk.commit, batch)
        top = batch[-1].commit
        landings = [rules.Landing(one.entry.id, one.entry.lease.epoch, one.commit) for one in batch]
        live = self.session.live
        for one in landings:
            services.runs.intend(
                Intent(one.spec, one.epoch, one.commit, trunk.commit, live.marker, services.owner)
            )
        self.session.say("pushing", commit=top, specs=[one.spec for one in landings])

        now = services.clock.now()

        def push(move: QueueMove | None) -> tuple[str, str]:
            if move is None:  # the push does not fence the queue of one host
                rules.land(services.store.read().queue, self.epoch, landings, now)
            return services.mirror.push(top, trunk.commit, live.marker, move)

        def change(queue: Queue) -> Queue:
            """On one host trunk has them by now: nothing that happened meanwhile may deny it."""
            shared = services.store.shared
            return rules.land(queue, self.epoch, landings, now) if shared else rules.landed(queue, landings, now)

        outcome, said, after = services.store.land(change, push)
        if outcome == "unknown":
            outcome = self._ask_trunk(top, trunk.commit, said)
            if outcome == "landed":
                self._update(lambda queue: rules.landed(queue, landings, now))
        for one in landings:
            services.runs.settled(one.spec)
        if outcome == "landed":
            self.trunk, self.moved, self.single, self.refused = None, 0, False, ""
            self.over = after is not None and after.lane.leader is None
            if services.store.shared:
                services.mirror.delete_refs(*(f"refs/agentq/obtained/wip/{one.spec}" for one in landings))
            return None
        return self._not_landed(outcome, said, batch)

    def _ask_trunk(self, commit: str, expected: str, said: str) -> str:
        """What became of a push nobody answered. Raises ExternalError when it did not go through."""
        mirror = self.session.services.mirror
        found = mirror.fetch().commit
        if mirror.contains(commit):
            return "landed"
        if found == expected:
            raise ExternalError(
                f"the push did not go through: {said}",
                f"nothing is lost; 'agentq run {self.session.id}' tries again",
            )
        return "moved"

    def _not_landed(self, outcome: str, said: str, batch: Sequence[Linked]) -> StageOutcome | None:
        if outcome == "refused":
            return self._refused(clean(said), batch)
        self.trunk = None
        self.moved += 1
        self.session.say("trunk-moved", attempt=self.moved)
        if self.moved < TRIES:
            return None
        if self.session.id not in [one.entry.id for one in batch]:
            raise Stale(f"trunk moved during each of {TRIES} tries")
        return self._give_up(
            self.session.entry,
            f"trunk moved during each of {TRIES} tries",
            f"'agentq retry {self.session.id}' when it is calmer",
        )

    def _refused(self, said: str, batch: Sequence[Linked]) -> StageOutcome | None:
        """Each is tried alone, for perhaps it is one of them only. What is said of two is said of all: that is no
        matter of theirs."""
        if len(batch) > 1:
            self.single = True
            return None
        words = _HASH.sub("", said)
        if words == self.refused:
            self._freeze(f"the remote refuses every push: {said}")
            return None
        self.refused = words
        problem = f"the remote refused the push: {said}"
        return self._give_up(batch[0].entry, problem, "see the remote's rules for the trunk")

    def _give_up(self, entry: InProgress, problem: str, hint: str) -> StageOutcome | None:
        """A spec that a person must look at: our own stage ends so, another one is told through the queue."""
        if entry.id == self.session.id:
            self._update(lambda queue: rules.leave(queue, entry.id, entry.lease.epoch))
            return Failed(problem, hint, attention=problem)
        self._update(lambda queue: rules.refuse(queue, self.epoch, entry.id, entry.lease.epoch, problem))
        return None

    # ------------------------------------------------------------ the rest

    def _send_back(self, entry: InProgress) -> None:
        self._update(lambda queue: rules.send_back(queue, self.epoch, entry.id, entry.lease.epoch))

    def _eject(self, entry: InProgress, tree: str) -> None:
        services = self.session.services
        problem = clean(self.problems.get(tree) or "its tests fail in the lane")
        if (log := self.logs.get(tree)) is not None:
            lane_log.keep(self.session, entry.id, log)
        allowed = services.config.agent.attempts
        self._update(
            lambda queue: rules.eject(queue, self.epoch, entry.id, entry.lease.epoch, problem, allowed=allowed)
        )
        self.seen.pop(tree, None)
        self.session.say("lane-ejected", other=entry.id, problem=problem)

    def _red(self, trunk: Trunk) -> None:
        why = f"the tests of trunk {trunk.commit[:10]} fail: {self.problems.get(trunk.tree, '')}"
        self._freeze(why, trunk.commit)

    def _broken(self) -> None:
        """Tests cannot be run on this machine. Another one may lead, where machines share the queue; this one
        tries again after a while. Where there is no other, a person is told."""
        services = self.session.services
        why = f"tests cannot be run on {services.config.machine.name}: {self.broken}"
        if not services.store.shared:
            self._freeze(why)
            return
        services.runs.stand_aside(services.clock.monotonic() + ASIDE_SECONDS)
        raise Stale(f"{why}; it tries again in {ASIDE_SECONDS // 60:.0f} min")

    def _freeze(self, why: str, red: str | None = None) -> None:
        self._update(lambda queue: rules.freeze(queue, why, red, self.epoch))
        self.session.say("lane-frozen", text=f"the lane is frozen: {why}", hint="'agentq lane' tells more")

    def _update(self, change: Transition) -> None:
        self.session.update(change)

    def _now(self) -> datetime:
        return self.session.services.clock.now()

    def close(self) -> None:
        """End the tests and let another one lead."""
        services = self.session.services
        self.tests.close()
        try:
            if not self.over:
                services.store.update(lambda queue: rules.resign(queue, self.epoch))
        finally:
            if services.machines:
                services.machines.leading(0)
