"""The port of the queue: read it, change it with a pure function. One contract for every store."""

from pathlib import Path
from typing import NamedTuple, Protocol

from agentq.core.queue import Transition
from agentq.core.spec import Queue


class Snapshot(NamedTuple):
    """A queue as it was read; `digest` names the exact bytes."""

    queue: Queue
    digest: str


class QueueStore(Protocol):
    def read(self) -> Snapshot:
        """The newest state. Raises QueueError, QueueCorrupt; never takes unreadable for empty."""

    def update(self, change: Transition) -> Queue:
        """Apply `change` to the newest state, alone, and make it durable. What `change` raises leaves the
        queue as it was. Raises StoreError when the outcome is not known to be on disk."""

    def restore(self) -> Path:
        """Set an unreadable queue aside and put the last state written in its place; returns where the old one
        went. Raises StoreError when there is nothing readable to restore."""
