"""The models of the queue document (mission row T1). Invariant: what validates here is safe to schedule,
to show in a terminal and to use as a file name. Published as docs/queue.schema.json."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, StrictBool, StrictInt

from agentq.core import paths, text
from agentq.core.lifecycle import Stage, Status

ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,63}$"
MAX_TITLE = 200
MAX_PATHS = 1000
DEFAULT_TYPE = "implementation"


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


def _utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("a time needs its zone, for example 2026-01-31T12:00:00Z")
    return value.astimezone(UTC)


def _stamp(value: datetime) -> str:
    return value.isoformat(timespec="seconds").replace("+00:00", "Z")


SpecId = Annotated[str, Field(pattern=ID_PATTERN)]
Line = Annotated[str, Field(max_length=MAX_TITLE), AfterValidator(_safe_line)]
Note = Annotated[str, Field(max_length=2000), AfterValidator(_safe_text)]
Path = Annotated[str, AfterValidator(_path)]
Hours = Annotated[float, Field(strict=True, gt=0, le=10_000, allow_inf_nan=False)]
Count = Annotated[StrictInt, Field(ge=0)]
Seconds = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Dollars = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
Time = Annotated[datetime, AfterValidator(_utc), PlainSerializer(_stamp, when_used="json")]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Spec(Model):
    """One piece of work. Only `id` and `title` are required."""

    id: SpecId
    title: Annotated[Line, Field(min_length=1)]
    description: Annotated[str, Field(max_length=100_000), AfterValidator(_safe_text)] | None = Field(
        default=None, description="What to build, if it is not in a spec file."
    )
    spec: Path | None = Field(
        default=None, description="Spec file; agents/specs/<id>.md is used when it exists."
    )
    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")] = Field(
        default=DEFAULT_TYPE, description="Kind of work; picks the agent's time-out."
    )
    depends_on: Annotated[tuple[SpecId, ...], Field(max_length=MAX_PATHS)] = ()
    files_modified: Annotated[tuple[Path, ...], Field(max_length=MAX_PATHS)] = Field(
        default=(), description="Paths and globs it changes or adds."
    )
    estimate_hours: Hours | None = None
    context_budget: Annotated[StrictInt, Field(gt=0)] | None = Field(
        default=None, description="Tokens of context the agent may need."
    )
    priority: StrictInt = Field(default=0, description="A manual pin: higher goes before everything.")
    held: StrictBool | Line = Field(default=False, description="Not to be started; a text says why.")
    tests: Annotated[str, Field(pattern=r"^(required|none)$")] = Field(
        default="required", description="'none': this spec has no test stage."
    )


class Lease(Model):
    """Who works on a spec. `epoch` is the fencing token: it only grows."""

    machine: Line
    instance: Annotated[StrictInt, Field(ge=1)]
    epoch: Annotated[StrictInt, Field(ge=1)]
    acquired: Time
    expires: Time


class StageRecord(Model):
    """What one stage took. Seconds are wall clock over all its attempts."""

    started: Time
    seconds: Seconds = 0.0
    attempts: Count = 0
    tokens: Count = 0
    cost: Dollars = 0.0


class InProgress(Spec):
    status: Status
    lease: Lease
    base: Sha | None = Field(default=None, description="The trunk commit its workspace stands on.")
    attention: Note | None = Field(default=None, description="What a person must decide.")
    failures: Count = Field(default=0, description="Failed attempts at the present stage.")
    problem: Note | None = Field(default=None, description="What the last failed attempt said.")
    stages: dict[Stage, StageRecord] = {}


class Completed(Spec):
    landed: Sha
    epoch: Annotated[StrictInt, Field(ge=1)]
    machine: Line
    claimed_at: Time
    landed_at: Time
    stages: dict[Stage, StageRecord] = {}
    tokens: Count = 0
    cost: Dollars = 0.0


class Queue(Model):
    """agents/queue.json. Array order is the order of arrival."""

    schema_: str | None = Field(default=None, alias="$schema")
    paused: StrictBool | Line = Field(default=False, description="No new claims; running work goes on.")
    epoch: Count = Field(default=0, description="The last lease epoch handed out.")
    ready: tuple[Spec, ...] = ()
    in_progress: tuple[InProgress, ...] = ()
    completed: tuple[Completed, ...] = ()


Entry = Spec | InProgress | Completed
ARRAYS: dict[str, type[Spec]] = {"ready": Spec, "in_progress": InProgress, "completed": Completed}


def to_json(entry: Model) -> dict[str, Any]:
    """An entry as it is written: fields that say nothing new are left out."""
    return entry.model_dump(mode="json", exclude_defaults=True, by_alias=True)


def json_schema() -> dict[str, Any]:
    """The published JSON Schema of the queue file (draft 2020-12)."""
    schema = Queue.model_json_schema(by_alias=True, mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "agentq queue"
    return json.loads(json.dumps(schema))  # type: ignore[no-any-return]
