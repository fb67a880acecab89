"""Every change of the queue, as a pure function Queue → Queue. Invariants (reliability facts 4, 5, 9, 10, 12):

- an id is in exactly one array; `completed` only grows;
- a lease has one owner and an epoch that is never handed out twice; an old epoch changes nothing;
- nothing is claimed while paused, held, before its dependencies, or beside a destructive overlap.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from agentq.core import overlap
from agentq.core.graph import find_cycle
from agentq.core.lifecycle import ACTIVE, NEXT_STAGE, Stage, after
from agentq.core.spec import Completed, InProgress, Lease, Queue, Spec, StageRecord
from agentq.core.text import did_you_mean
from agentq.errors import CycleError, QueueError, Refused, Stale, UserError

NOTE_LIMIT = 2000


def check(queue: Queue) -> None:
    """What the models cannot say alone. Raises QueueError with `path` 'array/index/field', CycleError."""
    seen: dict[str, str] = {}
    for array in ("ready", "in_progress", "completed"):
        for index, spec in enumerate(getattr(queue, array)):
            if spec.id in seen:
                why = f"'{spec.id}' is in {seen[spec.id]} and again in {array}"
                raise QueueError(
                    why, "an id stands in one place; remove one entry", path=f"{array}/{index}/id"
                )
            seen[spec.id] = array
    for array in ("ready", "in_progress"):
        for index, spec in enumerate(getattr(queue, array)):
            _check_dependencies(spec, seen, f"{array}/{index}/depends_on")
    epochs: set[int] = set()
    for index, entry in enumerate(queue.in_progress):
        if entry.lease.epoch in epochs or entry.lease.epoch > queue.epoch:
            why = f"'{entry.id}' has an epoch that was not handed out, or twice"
            raise QueueError(
                why, "leases are written by agentq alone", path=f"in_progress/{index}/lease/epoch"
            )
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


def edit(queue: Queue, spec_id: str, changes: dict[str, Any]) -> Queue:
    """Change fields of a spec that is not completed. Raises QueueError on a bad value."""
    entry = find(queue, spec_id)
    if isinstance(entry, Completed):
        raise Refused(f"'{spec_id}' is completed; what landed is not edited")
    data = {name: getattr(entry, name) for name in type(entry).model_fields if name in entry.model_fields_set}
    try:
        changed = type(entry).model_validate({**data, **changes})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = first["msg"].removeprefix("Value error, ")
        raise QueueError(f"{'.'.join(str(step) for step in first['loc'])}: {why}") from None
    return _checked(_replace(queue, changed))


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
    return queue.model_copy(update={"paused": why or True})


def resume(queue: Queue) -> Queue:
    return queue.model_copy(update={"paused": False})


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
        raise Stale(
            f"'{spec_id}' is {'completed' if isinstance(entry, Completed) else 'already in progress'}"
        )
    if queue.paused:
        raise Refused("the queue is paused", "'agentq resume' allows new claims")
    if spec.held:
        raise Refused(f"'{spec_id}' is held", f"'agentq release {spec_id}' lets it go")
    done = {entry.id for entry in queue.completed}
    missing = [dependency for dependency in spec.depends_on if dependency not in done]
    if missing:
        raise Refused(f"'{spec_id}' waits for {', '.join(missing)}")
    for entry in queue.in_progress:
        clash = overlap.clashes(spec.files_modified, entry.files_modified, who.additive)
        if clash:
            raise Refused(f"'{spec_id}' overlaps with '{entry.id}' in {clash[0]}", "one after the other")
    epoch = queue.epoch + 1
    lease = Lease(
        machine=who.machine, instance=who.instance, epoch=epoch, acquired=who.now, expires=who.now + who.ttl
    )
    started = _as(InProgress, spec, status=after("ready", "begin", "test"), lease=lease)
    return queue.model_copy(
        update={
            "epoch": epoch,
            "ready": tuple(entry for entry in queue.ready if entry is not spec),
            "in_progress": (*queue.in_progress, started),
        }
    )


def take_over(queue: Queue, spec_id: str, who: Claim) -> Queue:
    """A new epoch for a spec already in progress: its old owner may not change it any more."""
    entry = running(queue, spec_id)
    epoch = queue.epoch + 1
    lease = Lease(
        machine=who.machine, instance=who.instance, epoch=epoch, acquired=who.now, expires=who.now + who.ttl
    )
    return _replace(queue.model_copy(update={"epoch": epoch}), entry.model_copy(update={"lease": lease}))


def begin(queue: Queue, spec_id: str, epoch: int, stage: Stage, now: datetime, ttl: timedelta) -> Queue:
    """A stage starts (or starts again): status, attempt count and a renewed lease."""
    entry = owned(queue, spec_id, epoch)
    record = entry.stages.get(stage) or StageRecord(started=now)
    record = record.model_copy(update={"attempts": record.attempts + 1})
    lease = entry.lease.model_copy(update={"expires": now + ttl})
    return _replace(
        queue,
        entry.model_copy(
            update={
                "status": after(entry.status, "begin", stage),
                "lease": lease,
                "stages": {**entry.stages, stage: record},
            }
        ),
    )


def based_on(queue: Queue, spec_id: str, epoch: int, base: str) -> Queue:
    return _replace(queue, owned(queue, spec_id, epoch).model_copy(update={"base": base}))


def finish(
    queue: Queue, spec_id: str, epoch: int, stage: Stage, seconds: float, tokens: int = 0, cost: float = 0.0
) -> Queue:
    """A stage is proved. Clears what its failed attempts left."""
    entry = _spent(owned(queue, spec_id, epoch), stage, seconds, tokens, cost)
    status = after(entry.status, "finish", stage)
    cleared = {"status": status, "failures": 0, "problem": None, "attention": None}
    return _replace(queue, entry.model_copy(update=cleared))


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
    """An attempt failed. After `allowed` failures, or at once if `attention` says why, a person decides."""
    entry = _spent(owned(queue, spec_id, epoch), stage, seconds, tokens, cost)
    failures = entry.failures + 1
    if not attention and failures >= allowed:
        attention = f"{stage} failed {failures} times: {problem}"
    update = {
        "failures": failures,
        "problem": problem[:NOTE_LIMIT],
        "attention": attention[:NOTE_LIMIT] or None,
    }
    return _replace(queue, entry.model_copy(update=update))


def retry(queue: Queue, spec_id: str) -> Queue:
    """A person decided: the failures are forgiven and the stage may begin again."""
    entry = running(queue, spec_id)
    return _replace(queue, entry.model_copy(update={"failures": 0, "attention": None}))


def give_back(queue: Queue, spec_id: str, epoch: int) -> Queue:
    """Back to the front of `ready`, without its lease. The caller has saved the work."""
    entry = owned(queue, spec_id, epoch)
    rest = tuple(other for other in queue.in_progress if other is not entry)
    return queue.model_copy(update={"in_progress": rest, "ready": (_as(Spec, entry), *queue.ready)})


def complete(
    queue: Queue, spec_id: str, epoch: int, landed: str, now: datetime, seconds: float = 0.0
) -> Queue:
    """The landing is on trunk. Applying it twice changes nothing (reliability fact 3)."""
    for done in queue.completed:
        if done.id == spec_id and done.epoch == epoch and done.landed == landed:
            return queue
    entry = _spent(owned(queue, spec_id, epoch), "verify", seconds, 0, 0.0)
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
    rest = tuple(other for other in queue.in_progress if other is not entry)
    return queue.model_copy(update={"in_progress": rest, "completed": (*queue.completed, completed)})


def next_stage(entry: Spec) -> Stage:
    """The stage a spec is at: the one to run, or to run again."""
    if isinstance(entry, Completed):
        raise Refused(f"'{entry.id}' is completed; it landed as {entry.landed[:10]}")
    return NEXT_STAGE[entry.status if isinstance(entry, InProgress) else "ready"]


def stage_started(entry: InProgress) -> bool:
    """Whether a stage was begun and not finished."""
    return entry.status in ACTIVE.values()


# ---------------------------------------------------------------- helpers


def _as(kind: type[Any], entry: Spec, **more: Any) -> Any:
    """`entry` as another kind of entry, keeping the fields both have and only those that were set."""
    shared = {name: getattr(entry, name) for name in Spec.model_fields if name in entry.model_fields_set}
    return kind.model_construct(**shared, **more)


def _spent(entry: InProgress, stage: Stage, seconds: float, tokens: int, cost: float) -> InProgress:
    record = entry.stages.get(stage)
    if record is None:
        return entry
    spent = record.model_copy(
        update={
            "seconds": round(record.seconds + seconds, 3),
            "tokens": record.tokens + tokens,
            "cost": round(record.cost + cost, 6),
        }
    )
    return entry.model_copy(update={"stages": {**entry.stages, stage: spent}})


def _replace(queue: Queue, entry: Spec) -> Queue:
    array = "in_progress" if isinstance(entry, InProgress) else "ready"
    items = tuple(entry if other.id == entry.id else other for other in getattr(queue, array))
    return queue.model_copy(update={array: items})


def _checked(queue: Queue) -> Queue:
    check(queue)
    return queue


Transition = Callable[[Queue], Queue]
