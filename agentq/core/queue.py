"""Every change of the queue, as a pure function Queue → Queue. Invariants (reliability 4, 5, 9, 10, 12):

- an id is in exactly one array; `completed` only grows;
- a lease has one owner and an epoch that is never handed out twice; an old epoch changes nothing;
- nothing is claimed while paused, held, before its dependencies, or beside a destructive overlap;
- every changed entry is validated, so what a transition returns can always be written and read back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from pydantic import ValidationError

from agentq.core import overlap
from agentq.core.graph import find_cycle
from agentq.core.lifecycle import ACTIVE, NEXT_STAGE, Stage, after
from agentq.core.spec import MAX_NOTE, Completed, InProgress, Lease, Model, Queue, Spec, first_problem
from agentq.core.text import clean, did_you_mean
from agentq.errors import CycleError, QueueError, Refused, Stale, UserError

NOTE_LIMIT = MAX_NOTE

E = TypeVar("E", bound=Spec)
M = TypeVar("M", bound=Model)


def check(queue: Queue) -> None:
    """What the models cannot say alone. Raises QueueError with `path` 'array/index/field', CycleError."""
    seen: dict[str, str] = {}
    for array in ("ready", "in_progress", "completed"):
        for index, spec in enumerate(getattr(queue, array)):
            if spec.id in seen:
                why = f"'{spec.id}' is in {seen[spec.id]} and again in {array}"
                raise QueueError(why, "an id stands in one place; remove one entry", path=f"{array}/{index}/id")
            seen[spec.id] = array
    for array in ("ready", "in_progress"):
        for index, spec in enumerate(getattr(queue, array)):
            _check_dependencies(spec, seen, f"{array}/{index}/depends_on")
    epochs: set[int] = set()
    places: set[int] = set()
    for index, entry in enumerate(queue.in_progress):
        if entry.place is not None:
            if entry.place.number in places or entry.place.number > queue.lane.last:
                why = f"'{entry.id}' has a place in the lane that was not handed out, or twice"
                raise QueueError(why, "places are given by agentq alone", path=f"in_progress/{index}/place/number")
            places.add(entry.place.number)
        if entry.lease.epoch in epochs or entry.lease.epoch > queue.epoch:
            why = f"'{entry.id}' has an epoch that was not handed out, or twice"
            raise QueueError(why, "leases are written by agentq alone", path=f"in_progress/{index}/lease/epoch")
        epochs.add(entry.lease.epoch)
    waiting = [*queue.in_progress, *queue.ready]
    cycle = find_cycle({spec.id: spec.depends_on for spec in waiting})
    if cycle:
        array = "ready" if any(spec.id == cycle[0] for spec in queue.ready) else "in_progress"
        index = [spec.id for spec in getattr(queue, array)].index(cycle[0])
        error = CycleError(cycle)
        error.path = f"{array}/{index}/depends_on"
        raise error


def _check_dependencies(spec: Spec, known: dict[str, str], path: str) -> None:
    for position, dependency in enumerate(spec.depends_on):
        if dependency == spec.id:
            raise QueueError(f"'{spec.id}' depends on itself", "remove it", path=f"{path}/{position}")
        if dependency not in known:
            why = f"'{spec.id}' depends on '{dependency}', which is not in the queue"
            hint = did_you_mean(dependency, known) or "add that spec first, or remove the dependency"
            raise QueueError(why, hint, path=f"{path}/{position}")


def find(queue: Queue, spec_id: str) -> Spec:
    """The entry, wherever it is. Raises UserError with a suggestion."""
    for entry in (*queue.ready, *queue.in_progress, *queue.completed):
        if entry.id == spec_id:
            return entry
    known = [entry.id for entry in (*queue.ready, *queue.in_progress, *queue.completed)]
    hint = did_you_mean(spec_id, known) or "'agentq status' lists the specs"
    raise UserError(f"there is no spec '{spec_id}'", hint)


def running(queue: Queue, spec_id: str) -> InProgress:
    """The entry in progress. Raises Refused when it is elsewhere."""
    entry = find(queue, spec_id)
    if isinstance(entry, InProgress):
        return entry
    where = "completed" if isinstance(entry, Completed) else "ready, not in progress"
    raise Refused(f"'{spec_id}' is {where}")


def owned(queue: Queue, spec_id: str, epoch: int) -> InProgress:
    """The entry, if `epoch` still owns it. Raises Stale otherwise (reliability fact 10)."""
    for entry in queue.in_progress:
        if entry.id == spec_id and entry.lease.epoch == epoch:
            return entry
    raise Stale(
        f"'{spec_id}' is no longer leased under epoch {epoch}",
        "somebody took it over or completed it; 'agentq status' shows who",
    )


# ---------------------------------------------------------------- what people do


def add(queue: Queue, spec: Spec) -> Queue:
    return _checked(queue.model_copy(update={"ready": (*queue.ready, spec)}))


def edit(queue: Queue, spec_id: str, changes: dict[str, Any], additive: tuple[str, ...] = ()) -> Queue:
    """Change fields of a spec that is not completed. Raises QueueError on a bad value, Refused on what only
    a run may change and on what would break the rules its claim was granted under."""
    entry = find(queue, spec_id)
    if isinstance(entry, Completed):
        raise Refused(f"'{spec_id}' is completed; what landed is not edited")
    if "id" in changes:
        raise Refused("an id is for good", f"add a new spec and remove '{spec_id}'")
    for name in changes:
        if name not in Spec.model_fields:
            hint = did_you_mean(name, Spec.model_fields) or f"known: {', '.join(Spec.model_fields)}"
            raise QueueError(f"unknown key '{clean(name)}'", hint)
    changed = _changed(entry, changes)
    edited = _checked(_replace(queue, changed))
    if isinstance(entry, InProgress):
        _still_granted(queue, entry, changed, additive)
    return edited


def _still_granted(queue: Queue, entry: InProgress, changed: Spec, additive: tuple[str, ...]) -> None:
    """What an edit adds to a spec in progress obeys the rules of a claim."""
    missing = set(_missing(queue, changed)) - set(entry.depends_on)
    if missing:
        why = f"'{entry.id}' is in progress and cannot wait for {', '.join(sorted(missing))}"
        raise Refused(why, f"'agentq release {entry.id}' gives it back first")
    added = [path for path in changed.files_modified if path not in entry.files_modified]
    for other in queue.in_progress:
        clash = overlap.clashes(added, other.files_modified, additive) if other is not entry else []
        if clash:
            why = f"'{entry.id}' is in progress and would overlap with '{other.id}' in {clash[0]}"
            raise Refused(why, "one after the other")


def remove(queue: Queue, spec_id: str) -> Queue:
    """Take a spec out of `ready`. Raises Refused if it runs, is completed or others depend on it."""
    entry = find(queue, spec_id)
    if isinstance(entry, InProgress):
        raise Refused(f"'{spec_id}' is in progress", f"'agentq release {spec_id}' gives it back first")
    if isinstance(entry, Completed):
        raise Refused(f"'{spec_id}' is completed; what landed stays on record")
    dependents = [spec.id for spec in (*queue.ready, *queue.in_progress) if spec_id in spec.depends_on]
    if dependents:
        raise Refused(f"'{spec_id}' is needed by {', '.join(dependents)}", "edit their depends_on first")
    return queue.model_copy(update={"ready": tuple(spec for spec in queue.ready if spec.id != spec_id)})


def hold(queue: Queue, spec_id: str, why: str = "") -> Queue:
    return edit(queue, spec_id, {"held": why or True})


def unhold(queue: Queue, spec_id: str) -> Queue:
    return edit(queue, spec_id, {"held": False})


def pause(queue: Queue, why: str = "") -> Queue:
    return queue.model_copy(update={"paused": _valid(Queue, {"paused": why or True}).paused})


def resume(queue: Queue) -> Queue:
    return queue.model_copy(update={"paused": False})


def drain(queue: Queue, machine: str, *, undo: bool = False) -> Queue:
    """`machine` claims nothing more; what it runs goes on."""
    rest = tuple(name for name in queue.drained if name != machine)
    drained = rest if undo else (*rest, machine)
    return queue if drained == queue.drained else _valid_queue(queue, drained=drained)


# ---------------------------------------------------------------- what runs do


@dataclass(frozen=True)
class Claim:
    """Who asks for a spec. `ttl`: how long the lease lives without renewal."""

    machine: str
    instance: int
    now: datetime
    ttl: timedelta
    additive: tuple[str, ...] = ()


def claim(queue: Queue, spec_id: str, who: Claim) -> Queue:
    """Lease a ready spec under a new epoch. Raises Refused when a rule forbids it, Stale when it is gone."""
    spec = next((entry for entry in queue.ready if entry.id == spec_id), None)
    if spec is None:
        entry = find(queue, spec_id)
        raise Stale(f"'{spec_id}' is {'completed' if isinstance(entry, Completed) else 'already in progress'}")
    if queue.paused:
        raise Refused("the queue is paused", "'agentq resume' allows new claims")
    if who.machine in queue.drained:
        raise Refused(f"{who.machine} is drained", f"'agentq machine drain {who.machine} --undo' ends that")
    if spec.held:
        raise Refused(f"'{spec_id}' is held", f"'agentq release {spec_id}' lets it go")
    if missing := _missing(queue, spec):
        raise Refused(f"'{spec_id}' waits for {', '.join(missing)}")
    for entry in queue.in_progress:
        clash = overlap.clashes(spec.files_modified, entry.files_modified, who.additive)
        if clash:
            raise Refused(f"'{spec_id}' overlaps with '{entry.id}' in {clash[0]}", "one after the other")
    lease = _lease(who, queue.epoch + 1)
    started = _as(InProgress, spec, status=after("ready", "begin", "test"), lease=lease)
    return queue.model_copy(
        update={
            "epoch": lease.epoch,
            "ready": tuple(entry for entry in queue.ready if entry is not spec),
            "in_progress": (*queue.in_progress, started),
        }
    )


def take_over(queue: Queue, spec_id: str, who: Claim) -> Queue:
    """A new epoch for a spec already in progress: its old owner may not change it any more."""
    entry = running(queue, spec_id)
    lease = _lease(who, queue.epoch + 1)
    changes = {"lease": lease, "place": None}
    return _replace(queue.model_copy(update={"epoch": lease.epoch}), _changed(entry, changes))


def begin(queue: Queue, spec_id: str, epoch: int, stage: Stage, now: datetime, ttl: timedelta) -> Queue:
    """A stage starts (or starts again): status, attempt count and a renewed lease."""
    entry = owned(queue, spec_id, epoch)
    record = entry.stages.get(stage)
    before: dict[str, Any] = record.model_dump() if record else {"started": now, "attempts": 0}
    changes = {
        "place": None,
        "status": after(entry.status, "begin", stage),
        "lease": {**entry.lease.model_dump(), "expires": now + ttl},
        "stages": {**entry.stages, stage: {**before, "attempts": before["attempts"] + 1}},
    }
    return _replace(queue, _changed(entry, changes))


def based_on(queue: Queue, spec_id: str, epoch: int, base: str) -> Queue:
    return _replace(queue, _changed(owned(queue, spec_id, epoch), {"base": base}))


def finish(
    queue: Queue, spec_id: str, epoch: int, stage: Stage, seconds: float, tokens: int = 0, cost: float = 0.0
) -> Queue:
    """A stage is proved. Clears what its failed attempts left."""
    entry = spent(owned(queue, spec_id, epoch), stage, seconds, tokens, cost)
    status = after(entry.status, "finish", stage)
    cleared = {"status": status, "failures": 0, "problem": None, "attention": None}
    return _replace(queue, _changed(entry, cleared))


def fail(
    queue: Queue,
    spec_id: str,
    epoch: int,
    stage: Stage,
    problem: str,
    *,
    seconds: float = 0.0,
    tokens: int = 0,
    cost: float = 0.0,
    attention: str = "",
    allowed: int = 2,
) -> Queue:
    """An attempt at the present stage failed. After `allowed` failures, or at once if `attention` says why,
    a person decides. Texts may come from an agent: they are cleaned and cut to NOTE_LIMIT."""
    entry = spent(owned(queue, spec_id, epoch), stage, seconds, tokens, cost)
    if NEXT_STAGE[entry.status] != stage:
        hint = f"its next stage is {NEXT_STAGE[entry.status]}"
        raise Refused(f"a spec that is {entry.status} cannot fail its {stage} stage", hint)
    failures = entry.failures + 1
    if not attention and failures >= allowed:
        attention = f"{stage} failed {failures} times: {problem}"
    update = {
        "place": None,
        "failures": failures,
        "problem": clean(problem)[:NOTE_LIMIT],
        "attention": clean(attention)[:NOTE_LIMIT] or None,
    }
    return _replace(queue, _changed(entry, update))


def account(queue: Queue, spec_id: str, epoch: int, stage: Stage, tokens: int, cost: float) -> Queue:
    """What an attempt took that was broken off: it is neither proved nor failed, and was paid for all the same."""
    return _replace(queue, spent(owned(queue, spec_id, epoch), stage, 0.0, tokens, cost))


def retry(queue: Queue, spec_id: str, back_to: str = "") -> Queue:
    """A person decided: the failures are forgiven and the stage may begin again; `back_to` 'implement' sends
    a spec whose verification failed back to its agent, with what failed."""
    entry = running(queue, spec_id)
    status = after(entry.status, "reopen", "implement") if back_to else entry.status
    return _replace(queue, _changed(entry, {"failures": 0, "attention": None, "status": status, "place": None}))


def give_back(queue: Queue, spec_id: str, epoch: int) -> Queue:
    """Back to the front of `ready`, without its lease. The caller has saved the work."""
    entry = owned(queue, spec_id, epoch)
    rest = tuple(other for other in queue.in_progress if other.id != spec_id)
    return queue.model_copy(update={"in_progress": rest, "ready": (_as(Spec, entry), *queue.ready)})


def complete(
    queue: Queue,
    spec_id: str,
    epoch: int,
    landed: str,
    now: datetime,
    seconds: float = 0.0,
    *,
    on_trunk: bool = False,
) -> Queue:
    """The landing of a spec that is verifying is on trunk. Applying it twice changes nothing (reliability
    fact 3). `on_trunk`: the caller has seen it there, so whatever the status says, it is complete."""
    for done in queue.completed:
        if done.id == spec_id and done.epoch == epoch and done.landed == landed:
            return queue
    entry = spent(owned(queue, spec_id, epoch), "verify", seconds, 0, 0.0)
    if entry.status != ACTIVE["verify"] and not on_trunk:
        hint = f"its next stage is {NEXT_STAGE[entry.status]}"
        raise Refused(f"a spec that is {entry.status} cannot be completed", hint)
    stages = entry.stages
    completed = _as(
        Completed,
        entry,
        landed=landed,
        epoch=epoch,
        machine=entry.lease.machine,
        claimed_at=entry.lease.acquired,
        landed_at=now,
        stages=stages,
        tokens=sum(record.tokens for record in stages.values()),
        cost=sum(record.cost for record in stages.values()),
    )
    rest = tuple(other for other in queue.in_progress if other.id != spec_id)
    return queue.model_copy(update={"in_progress": rest, "completed": (*queue.completed, completed)})


def changed_entry(queue: Queue, entry: InProgress, changes: Mapping[str, Any]) -> Queue:
    """The queue with fields of one entry in progress changed. Raises QueueError naming a field that is wrong."""
    return _replace(queue, _changed(entry, changes))


def next_stage(entry: Spec) -> Stage:
    """The stage a spec is at: the one to run, or to run again."""
    if isinstance(entry, Completed):
        raise Refused(f"'{entry.id}' is completed; it landed as {entry.landed[:10]}")
    return NEXT_STAGE[entry.status if isinstance(entry, InProgress) else "ready"]


def stage_started(entry: InProgress) -> bool:
    """Whether a stage was begun and not finished."""
    return entry.status in ACTIVE.values()


# ---------------------------------------------------------------- helpers


def _missing(queue: Queue, spec: Spec) -> list[str]:
    """The dependencies of `spec` that are not completed."""
    done = {entry.id for entry in queue.completed} if spec.depends_on else set()
    return [dependency for dependency in spec.depends_on if dependency not in done]


def _lease(who: Claim, epoch: int) -> Lease:
    owner = {"machine": who.machine, "instance": who.instance, "epoch": epoch}
    return _valid(Lease, {**owner, "acquired": who.now, "expires": who.now + who.ttl})


def _changed(entry: E, changes: Mapping[str, Any]) -> E:
    return _as(type(entry), entry, **changes)


def _as(kind: type[E], entry: Spec, **more: Any) -> E:
    """`entry` as this kind of entry: the fields both have, as far as they were set, and `more`."""
    shared = {name: getattr(entry, name) for name in kind.model_fields if name in entry.model_fields_set}
    return _valid(kind, {**shared, **more})


def _valid(kind: type[M], data: Mapping[str, Any]) -> M:
    """Raises QueueError naming the field."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        where, _, why = first_problem(error)
        raise QueueError(f"{'.'.join(str(step) for step in where)}: {why}") from None


def _valid_queue(queue: Queue, **changes: Any) -> Queue:
    """`queue` with fields at its top changed. Raises QueueError naming the field."""
    checked = _valid(Queue, changes)
    return queue.model_copy(update={name: getattr(checked, name) for name in changes})


def spent(entry: InProgress, stage: Stage, seconds: float, tokens: int, cost: float) -> InProgress:
    record = entry.stages.get(stage)
    if record is None:
        return entry
    spent = {
        **record.model_dump(),
        "seconds": round(record.seconds + seconds, 3),
        "tokens": record.tokens + tokens,
        "cost": round(record.cost + cost, 6),
    }
    return _changed(entry, {"stages": {**entry.stages, stage: spent}})


def _replace(queue: Queue, entry: Spec) -> Queue:
    array = "in_progress" if isinstance(entry, InProgress) else "ready"
    items = tuple(entry if other.id == entry.id else other for other in getattr(queue, array))
    return queue.model_copy(update={array: items})


def _checked(queue: Queue) -> Queue:
    check(queue)
    return queue


Transition = Callable[[Queue], Queue]
