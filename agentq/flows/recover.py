"""Settle what a crash left, before anything new begins. Cheap when there is nothing: a few directory listings.

In this order: end the strays of dead runs, then ask the trunk about pushes that were under way (a stray push
could otherwise still change the answer), then leases, also those of dead machines, then workspaces. Other runs
live while this happens, so everything about a spec is decided under its lock, on what is read after the lock was
had. Unlanded work is saved under `refs/agentq/salvage/` before anything of it goes (architecture, decision 8).
"""

from dataclasses import dataclass, field

from agentq import process
from agentq.core import lane
from agentq.core import queue as transitions
from agentq.core.spec import InProgress
from agentq.errors import AgentqError, Refused, Stale
from agentq.flows import branches, wip
from agentq.flows.services import Services
from agentq.flows.wip import salvage
from agentq.store.runs import Intent
from agentq.trunk import folder, offers
from agentq.trunk.mirror import TRUNK


@dataclass
class Recovered:
    """What was settled, as lines for a person."""

    lines: list[str] = field(default_factory=list)


def recover(services: Services) -> Recovered:
    """Raises ExternalError when a push is to be settled and the trunk cannot be asked."""
    done = Recovered()
    _dead_runs(services, done)
    _intents(services, done)
    _leases(services, done)
    done.lines += free_abandoned(services)
    _workspaces(services, done)
    for line in done.lines:
        services.say("recovered", text=line)
    return done


def _dead_runs(services: Services, done: Recovered) -> None:
    found = False
    for seen in services.runs.recorded():
        if process.alive(seen.owner):
            continue
        with services.runs.attempt(seen.spec) as free:
            if not free or seen not in services.runs.recorded():
                continue
            killed = process.kill_strays(seen.marker) + process.kill_strays(f"{seen.marker}.", prefix=True)
            services.runs.withdraw(seen.spec)
            found = True
        more = f"; ended what it left running ({killed})" if killed else ""
        done.lines.append(f"{seen.spec}: its run died in the {seen.stage} stage{more}")
    if found:
        try:
            branches.reap(services.databases, services.clock.now())
        except AgentqError as error:  # work is settled without a database, and its branches wait for the next time
            done.lines.append(f"what dead runs left of their databases stays for now: {error.message}")


def _intents(services: Services, done: Recovered) -> None:
    with services.runs.landing() as ours:
        if ours:  # whoever leads the lane settles what it finds
            done.lines += settle_pushes(services)


def settle_pushes(services: Services) -> list[str]:
    """Pushes whose outcome nobody wrote down: trunk knows. The caller holds the landing lock, so none is under
    way, but for one that outlives its killed leader. Returns lines about those that had landed."""
    lines = []
    for intent in services.runs.intents():
        if not process.alive(intent.owner):
            process.kill_strays(intent.marker)
        services.mirror.fetch()
        if intent not in services.runs.intents():
            continue
        if services.mirror.contains(intent.commit):
            lines.append(_landed(services, intent))
        services.runs.settled(intent.spec)
    return lines


def _landed(services: Services, intent: Intent) -> str:
    """Write down that a push had landed, whatever became of the entry meanwhile; a line about it."""
    now, where = services.clock.now(), intent.commit[:10]

    landing = lane.Landing(intent.spec, intent.epoch, intent.commit)
    queue = services.store.update(lambda queue: lane.landed(queue, [landing], now))
    drop_work(services, intent.spec)
    if any(entry.id == intent.spec for entry in queue.ready):
        return f"{intent.spec}: its push had landed as {where}, but the queue has it ready; held"
    return f"{intent.spec}: its push had landed as {where}; completed"


def drop_work(services: Services, spec_id: str) -> None:
    """After a landing the refs that carried the work have nothing more to save."""
    prefixes = (f"refs/agentq/{kind}/{spec_id}" for kind in ("work", "wip", "import", "heads"))
    services.mirror.delete_refs(*prefixes)
    wip.drop(services, spec_id)


def _leases(services: Services, done: Recovered) -> None:
    """Leases of this machine that expired with nobody at work: the spec is ready again, its work saved."""
    for seen in services.store.read().queue.in_progress:
        if not _expired(services, seen):
            continue
        with services.runs.attempt(seen.id) as free:
            entry = _entry(services, seen.id)
            if not free or entry is None or not _expired(services, entry):
                continue
            try:
                _give_back(services, entry, "its lease expired")
            except (AgentqError, OSError) as error:
                done.lines.append(f"{seen.id}: its lease expired, but its work cannot be saved: {error}")
                continue
            done.lines.append(f"{seen.id}: its lease expired; it is ready again")


def _expired(services: Services, entry: InProgress) -> bool:
    expired = is_ours(services, entry.lease.machine) and entry.lease.expires <= services.clock.now()
    elsewhere = expired and services.machines is not None and services.machines.elsewhere(entry.id)
    return expired and not entry.attention and not elsewhere


def is_ours(services: Services, machine: str) -> bool:
    return machine == services.config.machine.name


def free_abandoned(services: Services) -> list[str]:
    """Specs whose machine died at work are ready again; what it pushed is offered to the next owner. If that
    machine wakes up at this moment, the epoch decides. What waits for a person goes on waiting. Cheap: others are
    looked at once an interval. Returns lines for a person."""
    machines, lines = services.machines, []
    if machines is None:
        return []
    machines.observe()
    for entry in services.store.read(machines.interval).queue.in_progress:
        if entry.attention or not machines.dead(entry.lease.machine):
            continue
        try:
            _free(services, entry)
        except Stale:
            continue
        silent = machines.silent(entry.lease.machine)
        lines.append(f"{entry.id}: {entry.lease.machine} was silent for {silent:.0f} s; it is ready again")
    return lines


def _free(services: Services, entry: InProgress) -> None:
    """Back to `ready` without touching anything here: the work is on another machine."""
    services.store.update(lambda queue: transitions.give_back(queue, entry.id, entry.lease.epoch))


def _entry(services: Services, spec_id: str) -> InProgress | None:
    return next((e for e in services.store.read().queue.in_progress if e.id == spec_id), None)


def _workspaces(services: Services, done: Recovered) -> None:
    """Workspaces whose spec is not in progress any more."""
    for spec_id in services.workspaces.existing():
        if _worked_on(services, spec_id):
            continue
        with services.runs.attempt(spec_id) as free:
            if not free or _worked_on(services, spec_id):
                continue
            try:
                if _landed_here(services, spec_id):
                    drop_work(services, spec_id)
                else:
                    save_all(services, spec_id, "its spec is not in progress here any more")
                services.workspaces.remove(services.workspaces.path(spec_id))
            except (AgentqError, OSError) as error:
                done.lines.append(f"{spec_id}: its workspace stays, its files cannot be saved: {error}")
                continue
            done.lines.append(f"{spec_id}: removed a workspace nobody uses")


def _worked_on(services: Services, spec_id: str) -> bool:
    """Whether a spec is in progress, here if machines share the queue."""
    entry = _entry(services, spec_id)
    return entry is not None and (services.machines is None or is_ours(services, entry.lease.machine))


def _landed_here(services: Services, spec_id: str) -> bool:
    """Whether a spec landed, so that nothing here is unlanded: not what another machine landed in its place."""
    done = next((entry for entry in services.store.read().queue.completed if entry.id == spec_id), None)
    return done is not None and (services.machines is None or is_ours(services, done.machine))


def save_all(services: Services, spec_id: str, why: str) -> list[str]:
    """Save everything unlanded of a spec under refs/agentq/salvage/, then drop its working refs and workspace.
    The caller holds the spec's lock. Returns the salvage refs. Raises GitError, changing nothing, when the files
    cannot be saved."""
    mirror, workspaces = services.mirror, services.workspaces
    workspace = workspaces.path(spec_id)
    work = mirror.work(spec_id)
    start = work["implement"].commit if "implement" in work else work["test"].commit if "test" in work else ""
    start = start or mirror.ref(TRUNK)
    has_files = folder.is_real(workspace) and any(workspace.iterdir())
    if has_files and not start:
        start = mirror.fetch().commit  # a new mirror: the old one was deleted with all its refs
    commits = [one.commit for one in work.values()]
    attempt = mirror.ref(f"refs/agentq/wip/{spec_id}")
    if attempt:
        commits.append(attempt)
    if has_files:
        tree = mirror.snapshot(workspace, start, workspaces.index_of(workspace))
        if tree not in {mirror.tree(commit) for commit in (*commits, start)}:
            commits.append(mirror.commit_tree(tree, [start], f"{spec_id}: files of its workspace\n\n{why}"))
    refs = [salvage(services, spec_id, commit, why) for commit in commits]
    mirror.delete_refs(*(f"refs/agentq/{kind}/{spec_id}" for kind in ("work", "wip", "heads")))
    wip.forget(mirror, spec_id)
    workspaces.remove(workspace)
    return refs


def _give_back(services: Services, entry: InProgress, why: str) -> list[str]:
    refs = save_all(services, entry.id, why)
    services.store.update(lambda queue: transitions.give_back(queue, entry.id, entry.lease.epoch))
    return refs


def give_back(services: Services, spec_id: str) -> list[str]:
    """A person gives a spec back: to the front of `ready`, its work saved. Returns the salvage refs. A push that
    was under way is settled first. Raises Refused when it is not in progress (any more), busy, or another
    machine's."""
    recover(services)
    with services.runs.working_on(spec_id):
        entry = transitions.running(services.store.read().queue, spec_id)
        if services.machines is not None and not is_ours(services, entry.lease.machine):
            raise Refused(f"'{spec_id}' belongs to {entry.lease.machine}", f"'agentq steal {spec_id}' takes it")
        refs = _give_back(services, entry, "given back")
    wip.drop(services, spec_id)  # whoever gives a spec back wants it begun anew
    return refs


def forgive(services: Services, spec_id: str, back_to: str = "") -> None:
    """A person decided that a spec may try again; `back_to` 'implement' sends it back to its agent. Raises
    Refused when it is not in progress (any more), or busy."""
    recover(services)
    with services.runs.working_on(spec_id):
        services.store.update(lambda queue: transitions.retry(queue, spec_id, back_to))


@dataclass(frozen=True)
class Theft:
    """What a person should know before taking a spec from another machine. `silent`: seconds its heartbeat stood
    still before our eyes; `pushed`: names of the work it pushed, which the next owner is offered."""

    spec: str
    machine: str
    epoch: int
    status: str
    silent: float
    dead: bool
    at_work: bool
    pushed: tuple[str, ...]


def theft(services: Services, spec_id: str) -> Theft:
    """Raises Refused when there is nothing to take."""
    recover(services)
    queue = services.store.read().queue
    if services.machines is None:
        raise Refused("this queue is this host's alone", f"'agentq release {spec_id}' gives a spec back")
    entry = transitions.running(queue, spec_id)
    machine = entry.lease.machine
    if is_ours(services, machine):
        raise Refused(f"'{spec_id}' is this machine's own", f"'agentq release {spec_id}' gives it back")
    view = next(one for one in services.machines.views(queue) if one.name == machine)
    pushed = tuple(sorted(name for name in offers.listed(services.mirror, spec_id) if name in wip.NAMES))
    return Theft(
        spec_id, machine, entry.lease.epoch, entry.status, services.machines.silent(machine), view.dead,
        spec_id in view.runs, pushed,
    )  # fmt: skip


def steal(services: Services, found: Theft) -> None:
    """Take a spec from its machine: to the front of `ready`, its pushed work offered. Its run there stops when it
    sees that. Raises Stale when it changed hands, or landed, meanwhile."""
    services.store.update(lambda queue: transitions.give_back(queue, found.spec, found.epoch))
