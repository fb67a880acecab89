"""The branch as this host sees it: looking there together, and what was read as a queue.

Invariant: what is known only moves to states that could be read, and never back.
"""

import json
import time
from pathlib import Path
from typing import Protocol

from agentq.core.document import Document, Reader, render
from agentq.errors import ExternalError, QueueCorrupt, QueueError, Refused, StoreError
from agentq.store.waiting import KNOWN, State, Waiting

LOOKED_BACK = 100
LOST_EPOCHS = 1000  # more than were handed out in what is lost
_DAMAGED = "'agentq doctor --fix' puts the last readable state on top; the branch keeps both"
_FOREIGN = "written by a newer agentq? upgrade this one; edited by hand? correct it on the branch"


class Head(Protocol):
    """The newest commit of the branch ('': there is none); its queue, None without one; b'' and no `ops` if the
    caller has it; the operations since the commit that the caller has, newest first. `rewritten`: that commit is
    not in the branch any more; then the operations are all of the branch."""

    @property
    def commit(self) -> str: ...
    @property
    def data(self) -> bytes | None: ...
    @property
    def ops(self) -> tuple[str, ...]: ...
    @property
    def rewritten(self) -> bool: ...


class Remote(Protocol):
    """Where the queue lives (agentq.trunk.branch). `name` is for people; `objects`: where commits are kept."""

    @property
    def name(self) -> str: ...
    @property
    def ref(self) -> str: ...
    @property
    def objects(self) -> Path: ...

    def fetch(self, since: str = "") -> Head:
        """Raises ExternalError (retryable) when the remote does not answer."""

    def write(self, data: bytes, parent: str, ops: list[str]) -> str: ...

    def before(self, commit: str, steps: int) -> bytes | None:
        """The queue so many commits before `commit`."""

    def kept(self, commit: str) -> str:
        """Where a commit is kept that the branch lost, for people."""

    def push(self, commit: str, expected: str) -> tuple[str, str]:
        """(outcome, what the remote said): 'pushed', 'moved', 'refused', 'offline', 'unknown'."""


class Sight:
    def __init__(self, remote: Remote, waiting: Waiting) -> None:
        self.remote = remote
        self._waiting = waiting
        self._reader = Reader()
        self._documents: dict[str, Document] = {}

    def look(self, since: float) -> State:
        """The branch as it was at `since` or later; processes that look at once look together. Raises
        ExternalError when it cannot be reached (retryable) or is gone, QueueCorrupt."""
        asked = time.time()
        if (fresh := self._fresh(since)) is not None:
            return fresh
        with self._waiting.contact():
            while True:
                began = time.time()
                if (fresh := self._fresh(since)) is not None:
                    return fresh
                known = self._waiting.get(KNOWN)
                if (failure := self._waiting.unreachable(asked, began)) is not None:
                    raise failure
                try:
                    head = self.remote.fetch(known.commit if known else "")
                except ExternalError as error:
                    self._waiting.out_of_reach(error, began)
                    raise
                if (learned := self._learn(known, head, began)) is not None:
                    return learned

    def _fresh(self, since: float) -> State | None:
        """What is known, if it was seen at `since` or later."""
        known = self._waiting.get(KNOWN)
        return known if known is not None and since <= known.seen <= time.time() else None

    def _learn(self, known: State | None, head: Head, began: float) -> State | None:
        """None when a neighbour's push went through meanwhile: nobody can say which of the two is newer."""
        if not head.commit:
            raise self._gone()
        same = known is not None and head.commit == known.commit
        if not same:
            self._parse(head.data, head.commit)
        with self._waiting.state():
            now = self._waiting.get(KNOWN)
            if known is not None and now is not None and now.commit != known.commit:
                return None
            if same:
                return self._waiting.confirm(began)
            if head.rewritten and known is not None:
                self._waiting.rewritten(known.commit)
            ops = head.ops[::-1]
            return self._waiting.learn(head.commit, head.data or b"", ops, began, anew=head.rewritten)

    def reach(self, since: float) -> None:
        """Look, for somebody who is about to change something."""
        try:
            self.look(since)
        except ExternalError as error:
            raise (unchanged(error) if error.retryable else error) from None

    def _parse(self, data: bytes | None, commit: str) -> Document:
        """Raises QueueCorrupt."""
        place = f"the shared queue {self.remote.name}, commit {commit[:10]}"
        if data is None:
            hint = "is it another branch? [shared] branch names the queue's; 'agentq unshare' leaves it"
            raise QueueCorrupt(f"{place}: there is no queue.json in it", hint)
        try:
            return self._reader.parse(data.decode("utf-8-sig"))
        except (UnicodeDecodeError, QueueError) as error:
            line = f", line {error.line}" if isinstance(error, QueueError) and error.line else ""
            raise QueueCorrupt(f"{place}{line}: {error}", _FOREIGN if _is_json(data) else _DAMAGED) from None

    def damaged(self) -> Head:
        """The branch, if no agentq could read it. Raises StoreError when it can be read, Refused when another
        agentq may: an older state on top would undo what it did."""
        head = self.remote.fetch()
        if not head.commit:
            raise self._gone()
        if not self._readable(head.data, head.commit):
            return head
        raise StoreError(f"{self.remote.name} can be read: there is nothing to restore")

    def readable(self, commit: str) -> Document:
        """The newest queue before `commit` that can be read: what other hosts did last counts, if it is there.
        Raises StoreError when there is none, Refused as `damaged` does."""
        for steps in range(1, LOOKED_BACK):
            data = self.remote.before(commit, steps)
            if data is not None and self._readable(data, commit):
                return self._parse(data, commit)
        known = self._waiting.get(KNOWN)
        if known is None:
            raise StoreError("no readable state of the shared queue is known here", "restore it on another host")
        return self.document(known)

    def _readable(self, data: bytes | None, commit: str) -> bool:
        """Raises Refused for what is only not understood here."""
        try:
            self._parse(data, commit)
        except QueueCorrupt as error:
            if data is None or not _is_json(data):
                return False
            raise Refused(f"{error.message}; an older state on top would undo what is there", _FOREIGN) from None
        return True

    def document(self, state: State) -> Document:
        document = self._documents.get(state.gen)
        if document is None:
            document = self._parse(state.text, state.commit)
            self._remember(state.gen, document)
        return document

    def check(self, state: State) -> None:
        """What is going to be pushed must be readable again: a bug here must not cost the queue. Raises
        QueueError."""
        self._remember(state.gen, self._reader.parse(state.text.decode()))

    def _remember(self, gen: str, document: Document) -> None:
        recent = list(self._documents.items())[-2:]
        self._documents = {**dict(recent), gen: document}

    def newest(self) -> bytes:
        known = self._waiting.get(KNOWN)
        return known.text if known else b""

    def _gone(self) -> ExternalError:
        hint = "somebody unshared it; 'agentq unshare' makes the last known copy this clone's queue"
        return ExternalError(f"the shared queue is gone: there is no branch {self.remote.name}", hint)


def renewed(document: Document) -> bytes:
    """An older state as the queue: no epoch of a lease is handed out a second time."""
    queue = document.queue
    return render(document, queue.model_copy(update={"epoch": queue.epoch + LOST_EPOCHS})).encode()


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return True


def unchanged(error: ExternalError) -> ExternalError:
    why = f"the shared queue cannot be changed: {error.message}; nothing was changed"
    return ExternalError(why, error.hint or "run the command again when it answers", retryable=True)
