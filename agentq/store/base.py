"""The port of the queue: read it, change it with a pure function. One contract for every store."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

from agentq.core.queue import Transition
from agentq.core.spec import Queue


class Snapshot(NamedTuple):
    """A queue as it was read; `digest` names the exact bytes. `age`: seconds since it was seen where it lives;
    more than 0 only for a shared queue that cannot be reached now."""

    queue: Queue
    digest: str
    age: float = 0.0


class QueueMove(NamedTuple):
    """What moves the shared queue: `ref` of the remote from the commit `expected` to `commit`, whose objects lie
    in the directory `objects`."""

    ref: str
    commit: str
    expected: str
    objects: Path


# Moves trunk, and the shared queue with it in one atomic push if a move is given. Returns the outcome and what git
# said: 'landed'; 'moved': trunk is elsewhere; 'queue-moved': only the queue is elsewhere; 'refused'; 'unknown'.
Push = Callable[[QueueMove | None], tuple[str, str]]


class Landed(NamedTuple):
    """How a landing ended: an outcome of `Push`, but never 'queue-moved'. `queue` is set when it landed."""

    outcome: str
    said: str
    queue: Queue | None = None


class QueueStore(Protocol):
    shared: bool

    def read(self, max_age: float = 0.0) -> Snapshot:
        """The newest state; of a shared queue, one seen at most `max_age` seconds ago, or the last one known when
        the remote cannot be reached. Raises QueueError, QueueCorrupt; never takes unreadable for empty."""

    def update(self, change: Transition) -> Queue:
        """Apply `change` to the newest state, alone, and make it durable. What `change` raises leaves the
        queue as it was. `change` may be called again on a newer state. Raises StoreError when the outcome is not
        known to be kept, ExternalError when a shared queue cannot be reached."""

    def land(self, change: Transition, push: Push) -> Landed:
        """Move trunk by `push` and apply `change`: together in one push for a shared queue, one after the other
        on one host, where the caller has journalled the intent. What `change` raises lands nothing on a shared
        queue. 'unknown' is settled by reading back where that is possible."""

    def restore(self) -> Path:
        """Set an unreadable queue aside and put the last state written in its place; returns where the old one
        went. Raises StoreError when there is nothing readable to restore."""
