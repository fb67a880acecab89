"""The models of the queue document (mission row T1). Invariant: what validates here is safe to schedule,
to show in a terminal and to use as a file name. Published as docs/queue.schema.json."""

import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    ValidationError,
)

from agentq.core import paths, text
from agentq.core.lifecycle import Stage, Status

ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,63}$"
KIND_PATTERN = r"^(planning|judgment|structured|research|bulk|hard-review)$"
MAX_TITLE = 200
MAX_PATHS = 1000
MAX_NOTE = 2000
MAX_COUNT = 2**53 - 1  # the largest integer every JSON reader keeps exact
MAX_PRIORITY = 1_000_000
DEFAULT_TYPE = "implementation"
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?", re.ASCII | re.IGNORECASE)


def _safe_line(value: str) -> str:
    if text.has_unsafe(value):
        raise ValueError("holds control characters")
    return value


def _safe_text(value: str) -> str:
    if text.has_unsafe(value.replace("\n", "").replace("\t", "")):
        raise ValueError("holds control characters")
    return value


def _path(value: str) -> str:
    if why := paths.problem(value):
        raise ValueError(why)
    return value


def _time_text(value: Any) -> Any:
    if isinstance(value, datetime) or (isinstance(value, str) and _TIME.fullmatch(value)):
        return value
    raise ValueError("a time is a text like 2026-01-31T12:00:00Z")


def _utc(value: datetime) -> datetime:
    """In UTC and whole seconds: what is kept is what is written."""
    if value.tzinfo is None:
        raise ValueError("a time needs its zone, for example 2026-01-31T12:00:00Z")
    try:
        return value.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise ValueError("a time lies between the years 1 and 9999") from None


def _stamp(value: datetime) -> str:
    return value.isoformat(timespec="seconds").replace("+00:00", "Z")


SpecId = Annotated[str, Field(pattern=ID_PATTERN)]
Line = Annotated[str, Field(max_length=MAX_TITLE), AfterValidator(_safe_line)]
Title = Annotated[str, Field(min_length=1, max_length=MAX_TITLE), AfterValidator(_safe_line)]
Note = Annotated[str, Field(max_length=MAX_NOTE), AfterValidator(_safe_text)]
Path = Annotated[str, Field(min_length=1, max_length=paths.MAX_LENGTH), AfterValidator(_path)]
Hours = Annotated[float, Field(strict=True, gt=0, le=10_000, allow_inf_nan=False)]
Count = Annotated[StrictInt, Field(ge=0, le=MAX_COUNT)]
Epoch = Annotated[StrictInt, Field(ge=1, le=MAX_COUNT)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Dollars = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
Time = Annotated[
    datetime, BeforeValidator(_time_text), AfterValidator(_utc), PlainSerializer(_stamp, when_used="json")
]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Spec(Model):
    """One piece of work. Only `id` and `title` are required."""

    id: SpecId
    title: Title
    description: Annotated[str, Field(max_length=100_000), AfterValidator(_safe_text)] | None = Field(
        default=None, description="What to build, if it is not in a spec file."
    )
    spec: Path | None = Field(default=None, description="Spec file; agents/specs/<id>.md is used when it exists.")
    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")] = Field(
        default=DEFAULT_TYPE, description="Kind of work; picks the agent's time-out."
    )
    depends_on: Annotated[tuple[SpecId, ...], Field(max_length=MAX_PATHS)] = ()
    files_modified: Annotated[tuple[Path, ...], Field(max_length=MAX_PATHS)] = Field(
        default=(), description="Paths and globs it changes or adds."
    )
    tests_may_shrink: Annotated[tuple[Path, ...], Field(max_length=MAX_PATHS)] = Field(
        default=(), description="Test and settings files in which it may remove, skip or weaken tests."
    )
    estimate_hours: Hours | None = None
    context_budget: Annotated[StrictInt, Field(gt=0, le=MAX_COUNT)] | None = Field(
        default=None, description="Tokens of context the agent may need."
    )
    priority: Annotated[StrictInt, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = Field(
        default=0, description="A manual pin: higher goes before everything."
    )
    held: StrictBool | Line = Field(default=False, description="Not to be started; a text says why.")
    tests: Annotated[str, Field(pattern=r"^(required|none)$")] = Field(
        default="required", description="'none': this spec has no test stage."
    )
    migration: Annotated[str, Field(pattern=r"^(generated|destructive|handwritten)$")] = Field(
        default="generated",
        description="'generated': agentq writes it, and it may drop nothing; 'destructive': it may; "
        "'handwritten': the agent writes it.",
    )
    kind: Annotated[str, Field(pattern=KIND_PATTERN)] | None = Field(
        default=None, description="Kind of work for the models' routes; guessed where it is not said."
    )
    network: StrictBool = Field(default=False, description="Whether its agents' tools may use the network.")


class Lease(Model):
    """Who works on a spec. `epoch` is the fencing token: it only grows."""

    machine: Line
    instance: Annotated[StrictInt, Field(ge=1)]
    epoch: Epoch
    acquired: Time
    expires: Time


class StageRecord(Model):
    """What one stage took. Seconds are wall clock over all its attempts."""

    started: Time
    seconds: Seconds = 0.0
    attempts: Count = 0
    tokens: Count = 0
    cost: Dollars = 0.0


class Place(Model):
    """A spec's place in the landing lane, and what it brings: the proved commit `work`, its tree, and the trunk
    commit it was proved on."""

    number: Epoch
    work: Sha
    base: Sha
    tree: Sha


class InProgress(Spec):
    status: Status
    lease: Lease
    base: Sha | None = Field(default=None, description="The trunk commit its workspace stands on.")
    attention: Note | None = Field(default=None, description="What a person must decide.")
    failures: Count = Field(default=0, description="Failed attempts at the present stage.")
    problem: Note | None = Field(default=None, description="What the last failed attempt said.")
    place: Place | None = Field(default=None, description="Its place in the landing lane.")
    stages: dict[Stage, StageRecord] = {}


class Completed(Spec):
    landed: Sha
    epoch: Epoch
    machine: Line
    claimed_at: Time
    landed_at: Time
    stages: dict[Stage, StageRecord] = {}
    tokens: Count = 0
    cost: Dollars = 0.0


class Leader(Model):
    """Who drives the lane. `epoch` fences it like a lease."""

    machine: Line
    epoch: Epoch
    since: Time


class Tested(Model):
    """One test run of the lane: the specs its tree holds on top of `base`; none: trunk itself."""

    specs: Annotated[tuple[SpecId, ...], Field(max_length=MAX_PATHS)] = ()
    base: Sha
    since: Time
    why: Line


class Lane(Model):
    """The landing lane: specs in progress with a `place` wait in it, in the order of their numbers."""

    last: Count = Field(default=0, description="The last place handed out.")
    leader: Leader | None = None
    frozen: StrictBool | Line = Field(default=False, description="Nothing lands; a text says why.")
    red: Sha | None = Field(default=None, description="The trunk commit whose tests fail; it froze the lane.")
    testing: Annotated[tuple[Tested, ...], Field(max_length=MAX_PATHS)] = ()
    recent: Annotated[str, Field(pattern=r"^[01]{0,64}$")] = Field(
        default="", description="How the last specs left the lane, newest last: 1 landed, 0 ejected."
    )


class Queue(Model):
    """agents/queue.json. Array order is the order of arrival."""

    schema_: str | None = Field(default=None, alias="$schema")
    paused: StrictBool | Line = Field(default=False, description="No new claims; running work goes on.")
    epoch: Count = Field(default=0, description="The last lease epoch handed out.")
    drained: Annotated[tuple[Line, ...], Field(max_length=MAX_PATHS)] = Field(
        default=(), description="Machines that may claim nothing."
    )
    lane: Lane = Lane()
    ready: tuple[Spec, ...] = ()
    in_progress: tuple[InProgress, ...] = ()
    completed: tuple[Completed, ...] = ()


Entry = Spec | InProgress | Completed
ARRAYS: dict[str, type[Spec]] = {"ready": Spec, "in_progress": InProgress, "completed": Completed}


_SHOULD = re.compile(r"^(?:Input|String|List|Tuple|Dictionary|Value) (?=should)")


def first_problem(error: ValidationError) -> tuple[list[str | int], str, str]:
    """(where, kind, why) of the first thing wrong: the steps to it, pydantic's type, words for a person."""
    found = error.errors(include_url=False, include_context=False)
    unknown = [one for one in found if one["type"] == "extra_forbidden"]
    first = unknown[0] if unknown and found[0]["type"] == "missing" else found[0]
    if first["type"] == "bool_type" and len(found) > 1 and isinstance(first["input"], str):
        first = found[1]
    where = list(first["loc"])
    if where and where[0] in ("held", "paused"):
        where = where[:1]
    if where[:2] == ["lane", "frozen"]:
        where = where[:2]
    known = {
        "bool_type": "should be true, false or a text that says why",
        "model_type": "should be an object with id and title" if not where else "should be an object",
        "string_unicode": "holds half of a surrogate pair",
    }
    message = known.get(first["type"]) or _SHOULD.sub("", first["msg"].removeprefix("Value error, "))
    return where, first["type"], message


def to_json(entry: Model) -> dict[str, Any]:
    """An entry as it is written: fields that say nothing new are left out."""
    return entry.model_dump(mode="json", exclude_defaults=True, by_alias=True)


def json_schema() -> dict[str, Any]:
    """The published JSON Schema of the queue file (draft 2020-12)."""
    schema = Queue.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "agentq queue"
    return json.loads(json.dumps(schema))  # type: ignore[no-any-return]
