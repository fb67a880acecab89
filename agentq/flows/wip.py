"""Unlanded work: kept for people, pushed for other machines, and gone on with.

A queue that machines share may give a spec to another machine, when its owner died or a person took it away. So
an owner pushes what it has after every attempt, and the next one is offered it. Invariants: a run whose lease was
taken over does not overwrite the work of the new owner: the lease is asked before every push, each ref is pushed
with the value it is expected to have, and what was rejected is pushed again only after the lease was asked again;
nothing offered counts as proved; what is offered is saved before anything else happens to it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentq.core.lifecycle import Stage
from agentq.errors import AgentqError, GitError
from agentq.flows.services import Services
from agentq.trunk import offers
from agentq.trunk.git import Git
from agentq.trunk.leaks import in_change
from agentq.trunk.mirror import Mirror

if TYPE_CHECKING:
    from agentq.flows.session import Session

PROVED: tuple[Stage, ...] = ("test", "implement")
UNFINISHED = "unfinished"
NAMES = (*PROVED, UNFINISHED)
_TRIES = 2


def offered_ref(spec_id: str) -> str:
    """Below it: what another machine left, until it was put into a workspace here."""
    return f"refs/agentq/offered/{spec_id}"


def pushed_ref(spec_id: str) -> str:
    """Below it: what this mirror last pushed, to tell our own work from another machine's."""
    return f"refs/agentq/pushed/{spec_id}"


def salvage(services: Services, spec_id: str, commit: str, why: str) -> str:
    """Keep `commit` under refs/agentq/salvage/<spec>/<its first digits>, in the mirror and in the person's own
    repository, which outlives the workspaces' folder. Raises GitError when it cannot be kept."""
    ref = f"refs/agentq/salvage/{spec_id}/{commit[:12]}"
    services.mirror.set_ref(ref, commit)
    own = Git(services.repo.root)
    own("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", str(services.mirror.path), f"+{ref}:{ref}")
    services.say("salvaged", spec=spec_id, ref=ref, why=why)
    return ref


# ---------------------------------------------------------------- pushing


def publish(session: "Session") -> None:
    """Push what this run has, as far as the remote has not got it. A failure is a note: the next attempt pushes
    it again. Raises Stale when the lease was taken over."""
    services, mirror = session.services, session.services.mirror
    if services.machines is None:
        return
    said = ""
    for _ in range(_TRIES):
        session.check_lease()
        changes = _changes(session)
        if not changes:
            return
        done, said = offers.push(mirror, session.id, changes)
        for name in done:
            _remember(session, name, changes[name][0])
        if len(done) == len(changes):
            return
        try:
            session.remote = offers.listed(mirror, session.id)
        except GitError as error:
            said = error.message
            break
    session.say("note", text=f"its work could not be pushed for other machines: {said}")


def _changes(session: "Session") -> dict[str, tuple[str, str]]:
    """name → (commit, what is expected on the remote) of what differs there."""
    mirror, there = session.services.mirror, session.remote
    wanted: dict[str, str] = {name: session.work[name].commit for name in PROVED if name in session.work}
    wanted[UNFINISHED] = mirror.ref(session.wip_ref)
    if not wanted[UNFINISHED] and there.get(UNFINISHED) != mirror.ref(f"{pushed_ref(session.id)}/{UNFINISHED}"):
        del wanted[UNFINISHED]  # it is another machine's, and may still be of use
    changed = {name: (sha, there.get(name, "")) for name, sha in wanted.items() if sha != there.get(name, "")}
    return {name: one for name, one in changed.items() if not one[0] or _may_leave(session, name, one[0])}


def _may_leave(session: "Session", name: str, commit: str) -> bool:
    """Whether work carries no secret: what does stays on this machine."""
    found = in_change(session.services.mirror, f"{commit}^", commit, session.services.secrets)
    if found:
        session.say("note", text=f"its {name} work is not pushed for other machines: {found[0]}")
    return not found


def _remember(session: "Session", name: str, commit: str) -> None:
    mirror, ref = session.services.mirror, f"{pushed_ref(session.id)}/{name}"
    session.remote[name] = commit
    if commit:
        mirror.set_ref(ref, commit)
    else:
        mirror.delete_refs(ref)


def drop(services: Services, spec_id: str) -> None:
    """Nobody needs a spec's pushed work any more. Best effort: what stays is only litter."""
    forget(services.mirror, spec_id)
    if services.machines is None:
        return
    try:
        there = offers.listed(services.mirror, spec_id)
        if there:
            offers.push(services.mirror, spec_id, {name: ("", sha) for name, sha in there.items()})
    except GitError as error:
        services.say("note", spec=spec_id, text=f"its pushed work was not removed: {error.message}")


def forget(mirror: Mirror, spec_id: str) -> None:
    """Forget what was pushed and offered; the commits themselves are not touched."""
    mirror.delete_refs(offered_ref(spec_id), pushed_ref(spec_id))


# ---------------------------------------------------------------- going on


def receive(session: "Session") -> None:
    """At the start of a run: see what is on the remote, and bring what another machine left. It is saved under
    refs/agentq/salvage/ at once, since our own pushes will take its place."""
    services, mirror = session.services, session.services.mirror
    if services.machines is None:
        return
    try:
        session.remote = offers.listed(mirror, session.id)
        ours = mirror.refs(pushed_ref(session.id))
        strange = {
            name: sha
            for name, sha in session.remote.items()
            if name in NAMES and sha != ours.get(f"{pushed_ref(session.id)}/{name}")
        }
        if not strange:
            return
        offers.bring(mirror, session.id, strange, offered_ref(session.id))
        for sha in strange.values():
            salvage(services, session.id, sha, "left by its last owner")
    except AgentqError as error:
        session.say("note", text=f"what another machine may have left cannot be had: {error.message}")
        return
    session.say("note", text=f"its last owner left: {', '.join(sorted(strange))}")


def unfinished(session: "Session", stage: Stage, start: str) -> str:
    """The tree to go on with, on top of `start`: what an attempt of ours left, what was implemented before a
    person sent it back, or what another machine offers. Saved and left out where it conflicts with trunk. ''
    for none."""
    mirror = session.services.mirror
    found, refs = _offers(session, stage)
    wip = _own(session, stage) or found
    tree = _on_top(session, wip, start) if wip else ""
    if refs:
        mirror.delete_refs(*refs)
    return tree


def _on_top(session: "Session", wip: str, start: str) -> str:
    mirror = session.services.mirror
    try:
        merged = mirror.rebase(wip, start)
    except GitError as error:  # another machine may offer anything
        ref = session.salvage(wip, "unfinished work that could not be used")
        session.say(
            "note", text=f"the unfinished work {wip[:12]} cannot be used: {error.message}; it is kept as {ref}"
        )
        return ""
    if not merged.conflicts:
        return merged.tree
    ref = session.salvage(wip, "unfinished work that no longer fits trunk")
    session.say("note", text=f"the unfinished work conflicts with trunk and was set aside as {ref}")
    return ""


def _own(session: "Session", stage: Stage) -> str:
    mirror = session.services.mirror
    wip = mirror.ref(session.wip_ref)
    if wip and not _is_of(mirror, wip, stage):
        session.salvage(wip, "an unfinished attempt at another stage")
        wip = ""
    if stage == "implement" and "implement" in session.work:
        session.salvage(session.work["implement"].commit, "implemented before it was sent back")
        wip = wip or session.work["implement"].commit
    return wip


def _offers(session: "Session", stage: Stage) -> tuple[str, Sequence[str]]:
    """What another machine offers for `stage`, and the refs that are used up by it. An attempt at the
    implementation is newer than an implementation: it came back from its verification. Tests that were proved
    are better than an attempt at them."""
    mirror, prefix = session.services.mirror, offered_ref(session.id)
    there = mirror.refs(prefix)
    attempt = there.get(f"{prefix}/{UNFINISHED}", "")
    attempt = attempt if attempt and _is_of(mirror, attempt, stage) else ""
    proved = there.get(f"{prefix}/{stage}", "")
    refs = [f"{prefix}/{stage}"] if proved else []
    refs += [f"{prefix}/{UNFINISHED}"] if attempt else []
    return (proved or attempt) if stage == "test" else (attempt or proved), refs


def _is_of(mirror: Mirror, wip: str, stage: Stage) -> bool:
    return f"Stage: {stage}" in mirror.git("log", "-1", "--format=%B", wip).text
