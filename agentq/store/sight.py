"""The branch as this host sees it: looking there together, and what was read as a queue.

Invariant: what is known only moves to states that could be read, and never back.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from agentq.core.document import Document, Reader
from agentq.errors import ExternalError, QueueCorrupt, QueueError, StoreError
from agentq.store.waiting import KNOWN, State, Waiting

LOOKED_BACK = 100


class Head(Protocol):
    """The newest commit of the branch ('': there is none); its queue, None without one; b'' and no `ops` if the
    caller has it; the operations since the commit that the caller has, newest first."""

    @property
    def commit(self) -> str: ...
    @property
    def data(self) -> bytes | None: ...
    @property
    def ops(self) -> tuple[str, ...]: ...


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
        with self._waiting.turn("contact"):
            while True:
                known, began = self._waiting.get(KNOWN), time.time()
                if known is not None and since <= known.seen <= began:
                    return known
                if (failure := self._waiting.unreachable(asked, began)) is not None:
                    raise failure
                try:
                    head = self.remote.fetch(known.commit if known else "")
                except ExternalError as error:
                    self._waiting.out_of_reach(error, began)
                    raise
                if (learned := self._learn(known, head, began)) is not None:
                    return learned

    def _learn(self, known: State | None, head: Head, began: float) -> State | None:
        """None when a neighbour's push went through meanwhile: nobody can say which of the two is newer."""
        if not head.commit:
            raise self._gone()
        same = known is not None and head.commit == known.commit
        if not same:
            self._parse(head.data, head.commit)
        with self._waiting.turn("state"):
            now = self._waiting.get(KNOWN)
            if known is not None and now is not None and now.commit != known.commit:
                return None
            if same:
                return self._waiting.confirm(began)
            return self._waiting.learn(head.commit, head.data or b"", head.ops[::-1], began)

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
            hint = "'agentq doctor --fix' puts the last readable state on top; the branch keeps both"
            raise QueueCorrupt(f"{place}{line}: {error}", hint) from None

    def readable(self, commit: str) -> bytes:
        """The newest queue before `commit` that can be read: what other hosts did last counts, if it is there.
        Raises StoreError when there is none."""
        for steps in range(1, LOOKED_BACK):
            data = self.remote.before(commit, steps)
            with suppress(QueueCorrupt):
                if data is not None:
                    self._parse(data, commit)
                    return data
        known = self._waiting.get(KNOWN)
        if known is None:
            raise StoreError("no readable state of the shared queue is known here", "restore it on another host")
        return known.text

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


def unchanged(error: ExternalError) -> ExternalError:
    why = f"the shared queue cannot be changed: {error.message}; nothing was changed"
    return ExternalError(why, error.hint or "run the command again when it answers", retryable=True)
