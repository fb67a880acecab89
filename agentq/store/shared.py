"""The queue of several machines: one file on a branch of the remote, changed by compare-and-swap.

Changes that wait on one host travel in one commit, and one process of a host pushes at a time (flat combining):
each writes its change onto what already waits, and whoever gets the turn to push takes all of them along.
Invariants (reliability facts 3, 4, 6, 7): a commit's parent is the state it was made from; each decision has an
id, in the commit's message too, so it is never applied twice whatever becomes of a push; no refusal and no
'nothing to do' rests on a state that nobody has confirmed; a missing or unreadable branch is never an empty queue.
"""

import hashlib
import os
import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import Timeout

from agentq import process
from agentq.core.document import Document, render
from agentq.core.queue import Transition
from agentq.core.spec import Queue
from agentq.errors import ExternalError, QueueCorrupt, StoreError
from agentq.store import files
from agentq.store.base import Landed, Push, QueueMove, Snapshot
from agentq.store.copy import WorkingCopy
from agentq.store.sight import Remote, Sight, renewed, unchanged
from agentq.store.waiting import KNOWN, PENDING, PUSHING, State, Waiting, fresh_name

TRIES = 30
LOOK_SECONDS = 0.02  # a waiter looks so often whether its change has arrived
PAUSES = (0.02, 1.0)  # s: back-off after a lost race, the first and the longest
LOCK_SECONDS = 900.0  # several time-outs of the network


@dataclass
class _Change:
    """A change on its way. `tried`: the id of each decision → what it made of the queue; a decision believed lost
    may be the one that arrived. `answer` is set when the change is done, or found to change nothing."""

    apply: Transition
    began: float
    tried: dict[str, Queue] = field(default_factory=dict)
    answer: Queue | None = None


class SharedStore:
    """`folder`: shared by all clones of this host that use the same branch; `copy`: the clone's file that shows
    the queue."""

    shared = True

    def __init__(self, remote: Remote, folder: Path, copy: WorkingCopy | None = None) -> None:
        self.remote, self.folder, self.copy = remote, folder, copy
        self._waiting = Waiting(folder)
        self._sight = Sight(remote, self._waiting)

    # ------------------------------------------------------------ the port

    def read(self, max_age: float = 0.0) -> Snapshot:
        began, age = time.time(), 0.0
        try:
            known = self._sight.look(began - max_age)
        except ExternalError as error:
            last = self._waiting.get(KNOWN)
            if last is None or not error.retryable:
                raise
            known, age = last, max(began - last.seen, 0.001)
        self._show()
        return Snapshot(self._sight.document(known).queue, hashlib.sha256(known.text).hexdigest(), age)

    def update(self, change: Transition) -> Queue:
        asked = _Change(change, time.time())
        for _ in self._tries():
            if not self._propose(asked):
                self._propose_confirmed(asked)
            if asked.answer is None:
                self._arrive(asked)
            if asked.answer is not None:
                self._show()
                return asked.answer
        raise self._busy()

    def land(self, change: Transition, push: Push) -> Landed:
        for _ in self._tries():
            with self._turn():
                landed = self._land_once(_Change(change, time.time()), push)
            if landed is not None:
                self._show()
                return landed
        raise self._busy()

    def restore(self) -> Path:
        with self._turn():
            head = self._sight.damaged()
            text = renewed(self._sight.readable(head.commit))
            aside = self.folder / f"queue.unreadable-{head.commit[:8]}.json"
            files.replace(aside, head.data or b"")
            commit = self.remote.write(text, head.commit, [])
            outcome, said = self.remote.push(commit, head.commit)
            if outcome != "pushed":
                raise StoreError(f"{self.remote.name}: not restored ({said})", "run the command again")
            self._sight.look(time.time())
        return aside

    def last(self) -> Snapshot:
        """The last known state, wherever the branch is now. Raises StoreError when there is none."""
        known = self._waiting.get(KNOWN)
        if known is None:
            raise StoreError(f"nothing is known here of {self.remote.name}", "another host may know more")
        age = max(time.time() - known.seen, 0.001)
        return Snapshot(self._sight.document(known).queue, hashlib.sha256(known.text).hexdigest(), age)

    def commit_and_document(self, *, fresh: bool) -> tuple[str, Document]:
        """The branch as it is now (`fresh`) or as it is known. Raises ExternalError, QueueCorrupt."""
        known = self._sight.look(time.time()) if fresh else self._waiting.get(KNOWN)
        if known is None:
            raise StoreError(f"nothing is known here of {self.remote.name}", "another host may know more")
        return known.commit, self._sight.document(known)

    def begin(self, commit: str, text: bytes) -> None:
        """The branch was made, at `commit`: what was known of an earlier one of that name is over."""
        with self._state():
            self._waiting.learn(commit, text, (), time.time(), anew=True)

    def rewritten(self) -> str:
        """That history of the branch was replaced, for people; '' if not, or when it was said before."""
        found = self._waiting.take_rewritten()
        if found is None:
            return ""
        at, lost = found
        what = f"somebody replaced the history of {self.remote.name} (seen at {at})"
        return f"{what}: {lost[:12]} is not in it any more, and is kept in {self.remote.kept(lost)}"

    def check_copy(self) -> None:
        """Raises UserError, once, when the clone's copy was edited by hand."""
        if self.copy:
            self.copy.check(self._sight.newest if self._waiting.get(KNOWN) else None)

    # ------------------------------------------------------------ deciding

    def _propose(self, asked: _Change) -> bool:
        """Apply the change to the newest state of this host and let it wait. False when it refused or changed
        nothing: that has to be decided on a confirmed state."""
        if self._waiting.get(KNOWN) is None:
            self._sight.reach(time.time())
        with self._state():
            if self._done(asked):
                return True
            base = self._waiting.chain()[-1]
            document = self._sight.document(base)
            try:
                queue = asked.apply(document.queue)
            except Exception:
                return False
            if queue is document.queue:
                return False
            self._stage(base, document, queue, asked)
            return True

    def _propose_confirmed(self, asked: _Change, turn: float = LOOK_SECONDS) -> None:
        """The same on the branch as it was seen since the change was asked for. Raises what the change raises
        there. `turn`: seconds to try for the turn to push before looking again; 0 if it is ours."""
        patience = time.monotonic() + LOCK_SECONDS
        while time.monotonic() < patience:
            with self._state():
                if self._done(asked):
                    return
                known, *others = self._waiting.chain()
                if asked.began <= known.seen <= time.time():
                    document = self._sight.document(known)
                    queue = asked.apply(document.queue)
                    if queue is document.queue:
                        asked.answer = queue
                        return
                    if not others:
                        self._stage(known, document, queue, asked)
                        return
            # What others let wait comes first; perhaps the change can stand on it.
            if others and self._propose(asked):
                return
            with suppress(Timeout), self._waiting.turn("push", turn) if turn else nullcontext():
                self._flush()
                self._sight.reach(asked.began)
        raise self._stuck()

    def _done(self, asked: _Change) -> bool:
        """Whether one of the decisions is in the branch."""
        for op, queue in asked.tried.items():
            if self._waiting.applied(op):
                asked.answer = queue
        return asked.answer is not None

    def _stage(self, base: State, document: Document, queue: Queue, asked: _Change) -> str:
        """Let a decision wait, on what it was decided on; returns its id. Under the lock of the states."""
        op = fresh_name()
        text = render(document, queue).encode()
        staged = State(fresh_name(), text, base.gen, {op: process.identity(os.getpid()) or ""})
        waits = self._waiting.get(PENDING)
        if waits is not None and waits.gen == base.gen:  # the batch grows, and stands where it stood
            staged = replace(staged, on=waits.on, ops={**waits.ops, **staged.ops})
        self._sight.check(staged)
        self._waiting.put(PENDING, staged)
        asked.tried[op] = queue
        return op

    def _arrive(self, asked: _Change) -> None:
        """Wait until the newest decision is in the branch, pushing whenever it is our turn. Without an answer
        another host was faster, and it has to be decided again. Raises ExternalError when it could not be
        pushed."""
        op = list(asked.tried)[-1]
        patience = time.monotonic() + LOCK_SECONDS
        while True:
            with self._state():
                gone = not self._waiting.waits(op)
                if self._done(asked):
                    return
                if (failure := self._waiting.failure(op)) is not None:
                    raise failure
            if gone:
                return
            if time.monotonic() > patience:
                raise self._stuck()
            with suppress(Timeout), self._waiting.turn("push", LOOK_SECONDS):
                if not self._waiting.applied(op):
                    self._flush()

    # ------------------------------------------------------------ pushing: all of it in turn

    def _flush(self) -> None:
        """Push what waits. Whoever waits for it is told through the states."""
        batch = self._take()
        if batch is not None:
            self._send(self._made(batch))

    def _forget_push(self) -> None:
        """Whoever began the push that is on record is dead or gave up. Nobody need ask how it ended (landing fact
        9): if it arrived, its ids are seen with the next look, and nothing that stands on less can be pushed; if
        it arrives later, it finds the branch moved, or moves it and is seen then."""
        with self._state():
            self._waiting.drop(PUSHING)

    def _take(self) -> State | None:
        """What waits becomes what is pushed. What a process asked for that died since is not done: those who
        live ask again."""
        self._forget_push()
        with self._state():
            known, *rest = self._waiting.chain()
            self._waiting.drop(PENDING)
            if not rest or not all(process.alive(owner) for owner in rest[0].ops.values()):
                return None
            batch = replace(rest[0], parent=known.commit)
            self._waiting.put(PUSHING, batch)
            return batch

    def _made(self, batch: State) -> State:
        """The batch with its commit, written down before anybody pushes it."""
        made = replace(batch, commit=self.remote.write(batch.text, batch.parent, list(batch.ops)))
        with self._state():
            self._waiting.put(PUSHING, made)
        return made

    def _send(self, batch: State) -> None:
        began = time.time()
        outcome, said = self.remote.push(batch.commit, batch.parent)
        if outcome == "pushed":
            with self._state():
                self._waiting.advance(batch, began)
        elif outcome == "refused":
            why = f"{self.remote.name}: the remote refused the change: {said}"
            self._fail(batch, StoreError(why, "nothing was changed"))
        elif outcome == "offline":
            self._fail(batch, ExternalError(f"{self.remote.name} cannot be reached: {said}", retryable=True))
        else:
            self._look_again(batch, unknown=outcome == "unknown")

    def _look_again(self, batch: State, *, unknown: bool) -> None:
        """The branch moved, or nobody knows: what it holds decides, and what did not arrive is decided anew."""
        try:
            self._sight.look(time.time())
        except ExternalError as error:
            self._fail(batch, error, unknown=unknown)
            return
        with self._state():
            self._waiting.drop(PUSHING)

    def _fail(self, batch: State, error: ExternalError, *, unknown: bool = False) -> None:
        """Nobody need wait any longer."""
        nothing = error if isinstance(error, StoreError | QueueCorrupt) else unchanged(error)
        with self._state():
            waits = self._waiting.get(PENDING)
            told = dict.fromkeys(waits.ops if waits else (), nothing)
            told |= dict.fromkeys(batch.ops, _unknown(error) if unknown else nothing)
            self._waiting.fail(told)
            self._waiting.drop(PENDING)
            self._waiting.drop(PUSHING)

    # ------------------------------------------------------------ landing: all of it in turn

    def _land_once(self, asked: _Change, push: Push) -> Landed | None:
        """None: the queue moved once more. What others wait for travels along; if nothing lands, it is gone from
        here and they decide again."""
        self._forget_push()
        batch = self._landing(asked)
        if batch is None:
            return None
        began = time.time()
        outcome, said = push(QueueMove(self.remote.ref, batch.commit, batch.parent, self.remote.objects))
        if outcome == "unknown":
            with suppress(ExternalError):
                self._sight.look(time.time())
                outcome = "landed" if self._done(asked) else "moved"
        if outcome == "unknown":
            return Landed("unknown", said)
        with self._state():
            if outcome == "landed":
                self._waiting.advance(batch, began)
            self._waiting.drop(PUSHING)
        if outcome == "queue-moved":
            self._sight.look(time.time())
            return None
        return Landed(outcome, said, asked.tried.popitem()[1] if outcome == "landed" else None)

    def _landing(self, asked: _Change) -> State | None:
        """The commit that carries the change; also one that changes nothing, for it still fences the push."""
        if not self._propose(asked):
            self._propose_confirmed(asked, turn=0)
        if asked.answer is not None:
            with self._state():
                base = self._waiting.chain()[-1]
                document = self._sight.document(base)
                self._stage(base, document, document.queue, asked)
            asked.answer = None
        batch = self._take()
        return self._made(batch) if batch else None

    def _show(self) -> None:
        if self.copy:
            with suppress(OSError):  # a convenience: the queue itself is safe
                self.copy.refresh(self._sight.newest)

    # ------------------------------------------------------------ turns and words

    def _state(self) -> AbstractContextManager[None]:
        return self._waiting.state()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with suppress(Timeout), self._waiting.turn("push", LOCK_SECONDS):
            yield
            return
        raise self._stuck()

    def _tries(self) -> Iterator[None]:
        """Tries with a pause between that grows and is never the same for two."""
        pause = PAUSES[0]
        for _ in range(TRIES):
            yield
            time.sleep(random.uniform(0, pause))
            pause = min(pause * 1.5, PAUSES[1])

    def _busy(self) -> StoreError:
        why = f"{self.remote.name} was changed by others {TRIES} times in a row; nothing was changed"
        return StoreError(why, "run the command again", retryable=True)

    def _stuck(self) -> StoreError:
        why = f"another process has kept the turn to change {self.remote.name} for {LOCK_SECONDS:.0f} s"
        return StoreError(why, "an agentq on this host hangs; 'agentq status' shows what was kept")


def _unknown(error: ExternalError) -> ExternalError:
    why = f"it is not known whether the shared queue was changed: {error.message}"
    return ExternalError(why, "'agentq status' shows it when the remote answers", retryable=True)
