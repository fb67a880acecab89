"""The verify stage: rebase on trunk, prove the rebased tree off the lane, then wait in the lane until it lands.

Invariants (reliability facts 10, 18, 19): what enters the lane is the merge of trunk and the spec's work, proved
in a clean checkout; a person is asked once, never while others wait; an old epoch lands nothing.
"""

from dataclasses import dataclass

from agentq.core.text import clean
from agentq.flows import honest, lane, leaks
from agentq.flows.lane import Candidate
from agentq.flows.merging import rebase_work
from agentq.flows.migrate import Canonical, accept, canonical
from agentq.flows.outcome import Failed, StageOutcome
from agentq.flows.proof import is_proved, prove
from agentq.flows.session import Confirm, Session, with_resolved
from agentq.trunk.mirror import EPOCH_TRAILER, SPEC_TRAILER

TRIES = 5


@dataclass(frozen=True)
class Declined:
    """A person looked at the diff and said no; everything stays as it is."""


def verify(session: Session, confirm: Confirm) -> StageOutcome | Declined:
    """Prove and land. What conflicts with specs that landed meanwhile comes back from the lane and is proved
    again."""
    asked = False
    for attempt in range(1, TRIES + 1):
        found = _candidate(session)
        if not isinstance(found, Candidate):
            return found
        # Once more: a merge, or a person's hand, may have changed what the stages proved.
        weaker = honest.final(session, found.trunk.commit, found.tree)
        if isinstance(weaker, Failed):
            return weaker
        if (stopped := _prove(session, found)) is not None:
            return stopped
        if not asked and not confirm(session.id, _summary(session, found, weaker)):
            return Declined()
        asked = True
        outcome = lane.land(session, found)
        if outcome is not None:
            return outcome
        session.say("sent-back", attempt=attempt)
    problem = f"came back from the lane {TRIES} times: what lands there conflicts with it"
    return Failed(problem, f"'agentq retry {session.id}' when it is calmer", attention=problem)


def _prove(session: Session, found: Candidate) -> StageOutcome | None:
    if is_proved(session, found.tree):
        session.say("already-proved", tree=found.tree)
        return None
    checkout = session.services.workspaces.proof_path(str(session.live.instance))
    return prove(session, found.commit, found.tree, checkout, "verify")


def _candidate(session: Session) -> Candidate | StageOutcome:
    """The spec's work on the newest trunk, as the commit that could land."""
    mirror = session.services.mirror
    base = session.entry.base or ""
    trunk = session.fetch_trunk()
    # A push whose answer was lost may have landed: trunk knows, our memory does not (landing fact 9).
    if base and trunk.commit != base and (landed := mirror.landing(session.id, base)):
        return lane.complete(session, landed)
    if "implement" not in session.work:
        return session.lost("implement")
    if (failed := rebase_work(session, trunk.commit, ("implement",))) is not None:
        return failed
    checkout = session.services.workspaces.proof_path(str(session.live.instance))
    # Once more, for a person may have edited the spec since the work was taken in.
    accepted = accept(session, "verify", trunk.commit, session.work["implement"].tree)
    if isinstance(accepted, Failed):
        return accepted
    made = canonical(session, session.entry, trunk.commit, accepted[0], checkout)
    if not isinstance(made, Canonical):
        return made
    tree = made.tree
    if tree == trunk.tree:
        problem = "there is nothing to land: trunk already holds this change"
        return Failed(problem, f"'agentq release {session.id}' gives it back", attention=problem)
    session.stand_on(trunk.commit)
    message = with_resolved(_message(session), session.work["implement"].resolved)
    if leaked := leaks.check(session, trunk.tree, tree, message):
        return leaked
    commit = mirror.commit_tree(tree, [trunk.commit], message, session.services.identity)
    mirror.set_ref(session.work_ref("verify"), commit)
    return Candidate(trunk, tree, commit)


def _message(session: Session) -> str:
    entry = session.entry
    body = clean(entry.description or "").strip()
    parts = [clean(entry.title), *([body[:2000]] if body else [])]
    trailers = f"{SPEC_TRAILER}: {entry.id}\n{EPOCH_TRAILER}: {session.epoch}"
    return "\n\n".join([*parts, trailers]) + "\n"


def _summary(session: Session, candidate: Candidate, notes: tuple[str, ...]) -> str:
    """What a person is asked about: first what the change takes from the tests, then its size."""
    diff = session.services.mirror.diff(candidate.trunk.commit, candidate.commit, stat=True)
    return "\n".join([*notes, diff])
