"""The queue as the scheduler sees it: few fields, cheap to build from the models or from plain JSON.

Invariant: a Board is built only from a queue that validated; it is never written back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

DEFAULT_HOURS = 4.5  # the mission's own estimate of one spec: 4–5 hours


class Node(NamedTuple):
    """One spec that is not completed. `hours`: its estimate, or the queue's default."""

    id: str
    title: str
    depends_on: Sequence[str]
    files: Sequence[str]
    hours: float
    priority: int = 0
    held: bool | str = False
    status: str = "ready"
    attention: str = ""
    machine: str = ""
    tests: str = "required"


@dataclass(frozen=True)
class Board:
    ready: tuple[Node, ...]
    in_progress: tuple[Node, ...]
    completed: frozenset[str]
    paused: bool | str = False
    drained: frozenset[str] = frozenset()


def of_queue(queue: Any, default_hours: float = DEFAULT_HOURS) -> Board:
    """From a validated `Queue`."""

    def node(spec: Any, lease: Any = None) -> Node:
        return Node(
            spec.id,
            spec.title,
            spec.depends_on,
            spec.files_modified,
            spec.estimate_hours or default_hours,
            spec.priority,
            spec.held,
            getattr(spec, "status", "ready"),
            getattr(spec, "attention", None) or "",
            lease.machine if lease else "",
            spec.tests,
        )

    return Board(
        tuple(node(spec) for spec in queue.ready),
        tuple(node(spec, spec.lease) for spec in queue.in_progress),
        frozenset(spec.id for spec in queue.completed),
        queue.paused,
        frozenset(queue.drained),
    )


def of_json(data: Mapping[str, Any], default_hours: float = DEFAULT_HOURS) -> Board:
    """From the decoded JSON of a file that is known to validate (the same bytes were checked before)."""

    def node(spec: Mapping[str, Any]) -> Node:
        get = spec.get
        return Node(
            spec["id"],
            spec["title"],
            get("depends_on", ()),
            get("files_modified", ()),
            get("estimate_hours") or default_hours,
            get("priority", 0),
            get("held", False),
            get("status", "ready"),
            get("attention") or "",
            (get("lease") or {}).get("machine", ""),
            get("tests", "required"),
        )

    return Board(
        tuple(node(spec) for spec in data.get("ready", ())),
        tuple(node(spec) for spec in data.get("in_progress", ())),
        frozenset(spec["id"] for spec in data.get("completed", ())),
        data.get("paused", False),
        frozenset(data.get("drained", ())),
    )
