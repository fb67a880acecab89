"""The queue as a file under a lock, for one host (architecture, decision 1).

Invariants (reliability facts 1–6): after a crash at any system call a reader sees the old or the new queue;
what was acknowledged is on disk; two processes never change it at once; unreadable is an error, never empty.
"""

import errno
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

from agentq.core.document import Document, Reader, render
from agentq.core.queue import Transition
from agentq.core.spec import Queue
from agentq.errors import CycleError, QueueCorrupt, QueueError, StoreError
from agentq.locks import lock
from agentq.repository import private_dir
from agentq.store import files
from agentq.store.base import Landed, Push, Snapshot

LOCK_SECONDS = 120.0
MARK = "queue.valid"
BACKUP = "queue.backup.json"


class FileStore:
    """`path`: the queue file; `state`: the machine-local directory for lock, backup and validity mark."""

    shared = False

    def __init__(self, path: Path, state: Path) -> None:
        self.path = path
        self._state = state
        self._reader = Reader()
        self._last: tuple[bytes, Document] | None = None

    def read(self, max_age: float = 0.0) -> Snapshot:  # noqa: ARG002 - what is here is always the newest
        data, document = self._load()
        return Snapshot(document.queue, self._mark(data))

    def update(self, change: Transition) -> Queue:
        from filelock import Timeout

        try:
            with lock(self._state / "locks", "queue", LOCK_SECONDS):
                return self._update_locked(change)
        except Timeout:
            raise StoreError(
                f"the queue stayed locked for {LOCK_SECONDS:.0f} s",
                "another agentq hangs; 'agentq doctor' shows it",
                retryable=True,
            ) from None

    def land(self, change: Transition, push: Push) -> Landed:
        outcome, said = push(None)
        return Landed(outcome, said, self.update(change) if outcome == "landed" else None)

    def _update_locked(self, change: Transition) -> Queue:
        data, document = self._load()
        queue = change(document.queue)
        if queue is document.queue:
            return queue
        text = render(document, queue)
        fresh = text.encode()
        # What we are about to write must be readable again: a bug here must not cost the queue.
        checked = self._parse(text)
        target = self.path.resolve()
        files.sweep(target)
        try:
            files.replace(target, fresh)
        except OSError as error:
            self._explain(error, data)
        self._last = (fresh, checked)
        with suppress(OSError):  # conveniences: the queue itself is already safe
            files.replace(self._state / BACKUP, fresh, durable=False)
            self._mark(fresh)
        return queue

    def _explain(self, error: OSError, before: bytes) -> None:
        """Say whether the change is in the file. Always raises StoreError."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some disk space and run the command again" if full else "run the command again"
        with suppress(OSError):
            if self.path.read_bytes() != before:
                raise StoreError(
                    f"{self.path}: changed, but the disk did not confirm it ({error.strerror})",
                    hint,
                    retryable=True,
                ) from error
        raise StoreError(f"{self.path}: not changed ({error.strerror})", hint, retryable=True) from error

    def _load(self) -> tuple[bytes, Document]:
        data = self._bytes()
        if self._last is not None and self._last[0] == data:
            return self._last
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise self._corrupt(f"not UTF-8 at byte {error.start}") from None
        if data and not data.strip(b"\0 \t\r\n"):
            raise self._corrupt("holds no text")
        self._last = (data, self._parse(text))
        return self._last

    def _bytes(self) -> bytes:
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            raise QueueError(f"{self.path} is missing", "'agentq init' writes one") from None
        except OSError as error:
            raise self._corrupt(error.strerror or str(error)) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise self._corrupt("is not a regular file")
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def _parse(self, text: str) -> Document:
        try:
            return self._reader.parse(text)
        except QueueError as error:
            place = f"{self.path}:{error.line}:{error.column}" if error.line else str(self.path)
            placed: QueueError
            if isinstance(error, CycleError):
                placed = CycleError(error.cycle, line=error.line, column=error.column)
            else:
                placed = QueueError(
                    error.message, error.hint, path=error.path, line=error.line, column=error.column
                )
            placed.message = f"{place}: {error.message}"
            raise placed from None

    def _corrupt(self, why: str) -> QueueCorrupt:
        hint = "look at it; 'agentq doctor --fix' sets it aside and restores the last state agentq wrote"
        return QueueCorrupt(f"{self.path}: {why}", hint)

    def _mark(self, data: bytes) -> str:
        """Remember that exactly these bytes are a valid queue, for readers that have no time to check."""
        digest = hashlib.sha256(data).hexdigest()
        mark = self._state / MARK
        with suppress(OSError):
            if not mark.exists() or mark.read_text() != digest:
                files.replace(private_dir(self._state) / MARK, digest.encode(), durable=False)
        return digest

    def restore(self) -> Path:
        """Set an unreadable queue aside and put the backup in its place; returns where the old one went.
        Raises StoreError when there is no readable backup."""
        backup = self._state / BACKUP
        try:
            data = backup.read_bytes()
            self._parse(data.decode())
        except (OSError, UnicodeDecodeError, QueueError) as error:
            raise StoreError(f"no readable backup: {error}", "restore agents/queue.json from git") from None
        aside = self.path.with_name(f"queue.unreadable-{hashlib.sha256(self._bytes()).hexdigest()[:8]}.json")
        os.replace(self.path, aside)
        files.replace(self.path, data)
        self._last = None
        return aside
