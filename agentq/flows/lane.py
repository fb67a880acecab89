"""A spec in the landing lane: take a place, wait, and lead the lane while nobody else does.

Every process that waits is ready to lead: the lock of this repository decides on one host, the leader's epoch
between hosts. So the lane needs no process of its own and goes on whenever a leader dies.
"""

import time
from dataclasses import dataclass

from agentq import process
from agentq.core import lane as rules
from agentq.core import queue as transitions
from agentq.core.spec import Completed, InProgress, Place, Queue
from agentq.core.text import plural
from agentq.errors import ExternalError, Refused
from agentq.flows import dev, lane_log, lead, wip
from agentq.flows.chain import published
from agentq.flows.outcome import Failed, Interrupted, Proved, StageOutcome
from agentq.flows.recover import settle_pushes
from agentq.flows.session import Session
from agentq.trunk.mirror import Trunk

POLL_SECONDS = 0.05
TELL_SECONDS = 1.0
FROZEN_SECONDS = 1.0
AWAY_SECONDS = 5.0
# A shared queue is asked again after so long; what happens on this host is seen at once.
REMOTE_SECONDS = 2.0


@dataclass(frozen=True)
class Candidate:
    """What could land: `commit`, with the proved `tree`, on `trunk`."""

    trunk: Trunk
    tree: str
    commit: str


def land(session: Session, candidate: Candidate) -> StageOutcome | None:
    """Wait in the lane until the spec landed or was ejected; None when it is to be verified again."""
    known = _enter(session, candidate)
    failures = session.entry.failures
    told, due, away = "", 0.0, ""
    while True:
        queue = session.services.store.read(max_age=REMOTE_SECONDS).queue
        entry = _entry(session, queue)
        if isinstance(entry, Completed):
            return _landed(session, entry.landed)
        if entry.place is None:
            session.refresh(queue)
            return _ejected(session, entry) if entry.failures > failures else None
        if why := session.services.stop():
            session.update(lambda queue: rules.leave(queue, session.id, session.epoch))
            return Interrupted(why)
        if (now := session.services.clock.monotonic()) >= due:
            told, due = _tell(session, queue, told), now + TELL_SECONDS
        try:
            if (gave_up := _lead(session, queue, known)) is not None:
                return gave_up
            away = ""
        except ExternalError as error:
            away = _away(session, error, away)
        known = None


def _enter(session: Session, candidate: Candidate) -> Trunk | None:
    """Take a place. Returns trunk as it was proved on, if nothing landed since and nobody else waits: then there
    is no need to ask for it again. Raises Stale when the lease was taken over, ExternalError when
    other hosts could not get the work."""
    services = session.services
    if services.store.shared:
        session.check_lease()  # a late one must not overwrite what its successor published
        name = published(session.id)
        if why := services.mirror.publish({name: candidate.commit}):
            raise ExternalError(
                f"the work cannot be published: {why}", f"nothing is lost; 'agentq run {session.id}' tries again"
            )
    place = Place(number=1, work=candidate.commit, base=candidate.trunk.commit, tree=candidate.tree)
    seconds = round(services.clock.monotonic() - session.began, 3)
    queue = session.update(lambda queue: rules.enter(queue, session.id, session.epoch, place, seconds))
    before = [entry.id for entry in rules.waiting(queue)].index(session.id)
    session.say("lane-entered", before=before)
    newest = queue.completed[-1].landed if queue.completed else ""
    unmoved = newest in ("", candidate.trunk.commit) or services.mirror.contains(newest, candidate.trunk.commit)
    return candidate.trunk if unmoved and len(rules.waiting(queue)) == 1 else None


def _entry(session: Session, queue: Queue) -> InProgress | Completed:
    """Our entry. Raises Stale when somebody took the spec over."""
    for done in reversed(queue.completed):
        if (done.id, done.epoch, done.machine) == (session.id, session.epoch, session.entry.lease.machine):
            return done
    return transitions.owned(session.mine(queue), session.id, session.epoch)


def _tell(session: Session, queue: Queue, told: str) -> str:
    """Say what the lane waits for, when that changed."""
    frozen = queue.lane.frozen
    text = f"the lane is frozen: {frozen}" if isinstance(frozen, str) else "the lane is frozen" if frozen else ""
    if text and text != told:
        session.say("lane-frozen", text=text, hint="'agentq lane' tells more; 'agentq lane thaw' lets it go on")
    if not text and (text := _suspended(session, queue)) and text != told:
        session.say("note", text=text)
    return text


def _suspended(session: Session, queue: Queue) -> str:
    """About a run of this clone that was suspended (Ctrl-Z) and may hold the lane, or ''."""
    leader = queue.lane.leader
    if leader is None or leader.machine != session.services.config.machine.name:
        return ""
    for one in session.services.runs.live().values():
        if process.stopped(one.pid):
            return f"the run of {one.spec} is suspended and may hold the lane: 'kill -CONT {one.pid}' continues it"
    return ""


def _lead(session: Session, queue: Queue, known: Trunk | None) -> StageOutcome | None:
    """Lead the lane until our own spec has left it, or pass a moment if somebody else does. An outcome when
    leading ended our stage.
    `known`: trunk to begin with, if there is no need to ask; the push expects it anyway."""
    services = session.services
    with services.runs.landing() as ours:
        if ours and lead.may_lead(session, queue):
            # Whoever led before may have died between a push and writing it down.
            if not settle_pushes(services):
                return lead.lead(session, queue.lane, known)
            if dead := queue.lane.leader:
                services.store.update(lambda queue: rules.resign(queue, dead.epoch))
            return None
    time.sleep(FROZEN_SECONDS if queue.lane.frozen else POLL_SECONDS)
    return None


def _away(session: Session, error: ExternalError, told: str) -> str:
    """Proved work goes on waiting while the remote is away, and says so once. Raises what is no such thing."""
    if not error.retryable:
        raise error
    if not told:
        session.say("note", text=f"{error.message}; trying again every {AWAY_SECONDS:.0f} s")
    time.sleep(AWAY_SECONDS)
    return error.message


def _ejected(session: Session, entry: InProgress) -> Failed:
    """What the leader found, with its log where this run keeps its own."""
    log = lane_log.take(session)
    hint = f"the log is {log}" if log else f"'agentq logs {session.id}'"
    session.say("ejected", problem=entry.problem or "", log=str(log or ""))
    return Failed(entry.problem or "its tests fail in the lane", hint, charged=True)


def complete(session: Session, commit: str) -> Proved:
    """Write down that our landing is on trunk, whatever a person did to the entry meanwhile."""
    services = session.services
    now = services.clock.now()
    seconds = round(services.clock.monotonic() - session.began, 3)
    services.store.update(
        lambda queue: transitions.complete(queue, session.id, session.epoch, commit, now, seconds, on_trunk=True)
    )
    services.runs.settled(session.id)
    return _landed(session, commit)


def _landed(session: Session, commit: str) -> Proved:
    session.say("landed", commit=commit)
    tidy(session)
    dev.follow(session)
    return Proved((plural(1, "commit") + " on trunk",), landed=commit)


def tidy(session: Session) -> None:
    """After a landing: the refs of the work go, the workspace waits for the next spec."""
    mirror = session.services.mirror
    mirror.delete_refs(*(f"refs/agentq/{kind}/{session.id}" for kind in ("work", "wip", "import", "heads")))
    session.services.workspaces.retire(session.workspace, session.services.config.machine.instances)
    wip.drop(session.services, session.id)


def refuse_frozen(queue: Queue) -> None:
    """Raises Refused when the lane is frozen already, but for a red trunk: that ends when trunk moves."""
    if queue.lane.frozen and queue.lane.red is None:
        raise Refused("the lane is frozen already", "'agentq lane thaw' lets it go on")
