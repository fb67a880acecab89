"""Settle what a crash left, before anything new begins. Cheap when there is nothing: a few directory listings.

In this order: end the strays of dead runs, then ask the trunk about pushes that were under way (a stray push
could otherwise still change the answer), then leases, then workspaces. Unlanded work is saved under
`refs/agentq/salvage/` before anything of it goes (architecture, decision 8).
"""

from dataclasses import dataclass, field

from agentq import process
from agentq.core import queue as transitions
from agentq.errors import AgentqError
from agentq.flows.services import Services
from agentq.flows.session import salvage


@dataclass
class Recovered:
    """What was settled, as lines for a person."""

    lines: list[str] = field(default_factory=list)


def recover(services: Services) -> Recovered:
    done = Recovered()
    _dead_runs(services, done)
    _intents(services, done)
    _leases(services, done)
    _workspaces(services, done)
    for line in done.lines:
        services.say("recovered", text=line)
    return done


def _dead_runs(services: Services, done: Recovered) -> None:
    dead = [live for live in services.runs.recorded() if not process.alive(live.owner)]
    for live in dead:
        killed = process.kill_strays(live.marker)
        services.runs.withdraw(live.spec)
        more = f"; ended what it left running ({killed})" if killed else ""
        done.lines.append(f"{live.spec}: its run died in the {live.stage} stage{more}")
    if dead:
        services.databases.reap(services.clock.now(), process.alive)


def _intents(services: Services, done: Recovered) -> None:
    """Pushes whose outcome nobody wrote down: trunk knows."""
    intents = [intent for intent in services.runs.intents() if services.runs.is_free(intent.spec)]
    if not intents:
        return
    for intent in intents:
        process.kill_strays(intent.marker)
    services.mirror.fetch()
    for intent in intents:
        if services.mirror.contains(intent.commit):
            now = services.clock.now()
            queue = services.store.read().queue
            if any(entry.id == intent.spec and entry.lease.epoch == intent.epoch for entry in queue.in_progress):
                services.store.update(
                    lambda queue, i=intent, at=now: transitions.complete(queue, i.spec, i.epoch, i.commit, at)  # type: ignore[misc]
                )
                done.lines.append(f"{intent.spec}: its push had landed as {intent.commit[:10]}; completed")
        services.runs.settled(intent.spec)


def _leases(services: Services, done: Recovered) -> None:
    """Leases of this machine that expired with nobody at work: the spec is ready again, its work saved."""
    now, me = services.clock.now(), services.config.machine.name
    for entry in services.store.read().queue.in_progress:
        if entry.lease.machine != me or entry.lease.expires > now or entry.attention:
            continue
        try:
            with services.runs.working_on(entry.id):
                save_all(services, entry.id, "its lease expired")
                epoch = entry.lease.epoch
                services.store.update(
                    lambda queue, i=entry.id, e=epoch: transitions.give_back(queue, i, e)  # type: ignore[misc]
                )
                done.lines.append(f"{entry.id}: its lease expired; it is ready again")
        except AgentqError:
            continue


def _workspaces(services: Services, done: Recovered) -> None:
    """Workspaces whose spec is not in progress any more."""
    existing = services.workspaces.existing()
    if not existing:
        return
    queue = services.store.read().queue
    busy = {entry.id for entry in queue.in_progress}
    completed = {entry.id for entry in queue.completed}
    for spec_id in existing:
        if spec_id in busy:
            continue
        try:
            with services.runs.working_on(spec_id):
                if spec_id not in completed:
                    save_all(services, spec_id, "its spec is not in progress any more")
                services.workspaces.remove(services.workspaces.path(spec_id))
                done.lines.append(f"{spec_id}: removed a workspace nobody uses")
        except AgentqError:
            continue


def save_all(services: Services, spec_id: str, why: str) -> list[str]:
    """Save everything unlanded of a spec under refs/agentq/salvage/, then drop its working refs and workspace.
    Returns the salvage refs. Raises GitError, changing nothing, when the files cannot be saved."""
    mirror, workspaces = services.mirror, services.workspaces
    workspace = workspaces.path(spec_id)
    work = mirror.refs(f"refs/agentq/work/{spec_id}")
    start = work.get(f"refs/agentq/work/{spec_id}/implement") or work.get(f"refs/agentq/work/{spec_id}/test")
    start = start or mirror.ref("refs/agentq/trunk")
    commits = list(work.values())
    wip = mirror.ref(f"refs/agentq/wip/{spec_id}")
    if wip:
        commits.append(wip)
    if workspace.is_dir() and any(workspace.iterdir()) and start:
        tree = mirror.snapshot(workspace, start, workspaces.index_of(workspace))
        if tree not in {mirror.tree(commit) for commit in (*commits, start)}:
            commits.append(mirror.commit_tree(tree, [start], f"{spec_id}: files of its workspace\n\n{why}"))
    refs = [salvage(services, spec_id, commit, why) for commit in commits]
    mirror.delete_refs(f"refs/agentq/work/{spec_id}")
    mirror.delete_refs(f"refs/agentq/wip/{spec_id}")
    workspaces.remove(workspace)
    return refs


def give_back(services: Services, spec_id: str) -> list[str]:
    """A person gives a spec back: to the front of `ready`, its work saved. Returns the salvage refs."""
    entry = transitions.running(services.store.read().queue, spec_id)
    with services.runs.working_on(spec_id):
        refs = save_all(services, spec_id, "given back")
        services.store.update(lambda queue: transitions.give_back(queue, spec_id, entry.lease.epoch))
    return refs
