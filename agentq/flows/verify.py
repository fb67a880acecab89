"""The verify stage: rebase on trunk, prove exactly the tree that will land in a clean checkout, push, complete.

Invariants (reliability facts 10, 18, 19; landing facts 8, 9): trunk only moves from the commit the tree was
proved on; the landed tree is the three-way merge of trunk and the spec's work, nothing else; the intent is on
disk before the push and settled from the trunk; an old epoch lands nothing.
"""

import hashlib
import platform
import sys
from dataclasses import dataclass

from agentq.core import queue as transitions
from agentq.core.text import clean, plural
from agentq.errors import ExternalError
from agentq.flows.outcome import Failed, Interrupted, Proved, StageOutcome
from agentq.flows.session import Confirm, Session
from agentq.flows.stages import run_verify_commands
from agentq.store import files
from agentq.store.runs import Intent
from agentq.trunk.mirror import EPOCH_TRAILER, SPEC_TRAILER

TRIES = 5


@dataclass(frozen=True)
class Declined:
    """A person looked at the diff and said no; everything stays as it is."""


@dataclass(frozen=True)
class _Candidate:
    """What could land: `tree` on `trunk`."""

    trunk: str
    tree: str
    commit: str


def verify(session: Session, confirm: Confirm) -> StageOutcome | Declined:
    """Prove and land. The first try proves beside other landings of this host and takes its turn only for the
    push; a later one holds the turn from its rebase on, so that no neighbour can overtake it again. A person is
    asked once, never while others wait."""
    found = _proved_candidate(session)
    if not isinstance(found, _Candidate):
        return found
    if not confirm(session.id, _summary(session, found)):
        return Declined()
    services = session.services
    for attempt in range(1, TRIES + 1):
        with services.runs.landing(services.stop) as our_turn:
            if not our_turn:
                return Interrupted("stopped while it waited for its turn to land")
            if attempt > 1:
                found = _proved_candidate(session)
                if not isinstance(found, _Candidate):
                    return found
            landed = _push(session, found)
        if landed is not None:
            return landed
        session.say("trunk-moved", attempt=attempt)
    problem = f"trunk moved during each of {TRIES} tries"
    return Failed(problem, f"'agentq retry {session.id}' when it is calmer", attention=problem)


def _proved_candidate(session: Session) -> _Candidate | StageOutcome:
    found = _candidate(session)
    return (_prove(session, found) or found) if isinstance(found, _Candidate) else found


def _candidate(session: Session) -> _Candidate | StageOutcome:
    mirror = session.services.mirror
    base = session.entry.base or ""
    trunk = session.fetch_trunk()
    # A push whose answer was lost may have landed: trunk knows, our memory does not (landing fact 9).
    if base and trunk.commit != base and (landed := mirror.landing(session.id, base)):
        return _complete(session, landed)
    if "implement" not in session.work:
        return session.lost("implement")
    if (failed := session.rebase_work(trunk.commit, ("implement",))) is not None:
        return failed
    tree = session.work["implement"].tree
    if tree == trunk.tree:
        problem = "there is nothing to land: trunk already holds this change"
        return Failed(problem, f"'agentq release {session.id}' gives it back", attention=problem)
    session.stand_on(trunk.commit)
    commit = mirror.commit_tree(tree, [trunk.commit], _message(session), session.services.identity)
    return _Candidate(trunk.commit, tree, commit)


def _message(session: Session) -> str:
    entry = session.entry
    body = clean(entry.description or "").strip()
    parts = [clean(entry.title), *([body[:2000]] if body else [])]
    trailers = f"{SPEC_TRAILER}: {entry.id}\n{EPOCH_TRAILER}: {session.epoch}"
    return "\n\n".join([*parts, trailers]) + "\n"


def _prove(session: Session, candidate: _Candidate) -> Failed | Interrupted | None:
    """Run the full verify commands on a clean checkout of the tree, unless this very tree passed before."""
    services = session.services
    key = proof_key(session, candidate.tree)
    # A file torn by a power cut proves nothing.
    known = files.read_json(services.runs.state / "proofs" / key) if services.runs.proved(key) else None
    if isinstance(known, dict) and known.get("tree") == candidate.tree:
        session.say("already-proved", tree=candidate.tree)
        return None
    checkout = services.workspaces.proof_path(session.live.instance)
    keep = session.rules.commands.keep
    services.workspaces.prepare(checkout, candidate.commit, pristine=True, keep=keep)
    branch = session.acquire_database("verify")
    try:
        env = dict(branch.env)
        failed = session.setup(checkout, candidate.commit, env, always=not keep) or session.push_schema(
            checkout, env
        )
        if failed:
            return failed
        started = services.clock.monotonic()
        stopped = run_verify_commands(session, checkout, "verify", env)
        if stopped:
            return stopped
        seconds = round(services.clock.monotonic() - started, 3)
    finally:
        session.release_database(branch)
    services.runs.remember_proof(key, {"tree": candidate.tree, "spec": session.id, "seconds": seconds})
    session.say("proved", tree=candidate.tree, seconds=seconds)
    return None


def proof_key(session: Session, tree: str) -> str:
    """Names a proof: the tree, what ran, and what it ran in: this machine's Python and platform, the state of
    the dev database (landing facts, "certificate")."""
    rules = session.rules
    commands = (rules.commands.verify, rules.commands.setup, rules.database.push)
    environment = (platform.platform(), sys.version, session.services.databases.head())
    return f"{tree}-{hashlib.sha256(repr((commands, environment)).encode()).hexdigest()[:16]}"


def _summary(session: Session, candidate: _Candidate) -> str:
    return session.services.mirror.diff(candidate.trunk, candidate.commit, stat=True)


def _push(session: Session, candidate: _Candidate) -> StageOutcome | None:
    """Land it; None when trunk is elsewhere and another try is due."""
    services, mirror = session.services, session.services.mirror
    merged = mirror.rebase(session.work["implement"].commit, candidate.trunk)
    if merged.conflicts or merged.tree != candidate.tree:
        raise ExternalError(
            f"merge identity does not hold for '{session.id}'", "nothing was pushed; this is a bug"
        )
    session.check_lease()
    intent = Intent(session.id, session.epoch, candidate.commit, candidate.trunk, session.live.marker)
    services.runs.intend(intent)
    session.say("pushing", commit=candidate.commit)
    outcome, said = mirror.push(candidate.commit, candidate.trunk, marker=session.live.marker)
    if outcome == "unknown":
        trunk = services.mirror.fetch().commit
        outcome = "landed" if mirror.contains(candidate.commit) else "moved"
        if trunk == candidate.trunk:
            raise ExternalError(
                f"the push did not go through: {said}", f"nothing is lost; 'agentq run {session.id}' tries again"
            )
    if outcome == "landed":
        return _complete(session, candidate.commit)
    services.runs.settled(session.id)
    if outcome == "refused":
        problem = f"the remote refused the push: {clean(said)}"
        return Failed(problem, "see the remote's rules for the trunk", attention=problem)
    return None


def _complete(session: Session, commit: str) -> Proved:
    """Write the landing into the queue, then tidy up: in this order, so that a crash between is settled."""
    services = session.services
    now = services.clock.now()
    seconds = round(services.clock.monotonic() - session.began, 3)
    # Trunk has it: whatever a person did to the entry meanwhile, it is complete.
    services.store.update(
        lambda queue: transitions.complete(queue, session.id, session.epoch, commit, now, seconds, on_trunk=True)
    )
    services.runs.settled(session.id)
    session.say("landed", commit=commit)
    tidy(session)
    return Proved((plural(1, "commit") + " on trunk",), landed=commit)


def tidy(session: Session) -> None:
    """After a landing: the refs of the work go, the workspace waits for the next spec."""
    mirror = session.services.mirror
    mirror.delete_refs(f"refs/agentq/work/{session.id}", session.wip_ref, f"refs/agentq/import/{session.id}")
    session.services.workspaces.retire(session.workspace, session.services.config.machine.instances)
