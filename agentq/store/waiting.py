"""What the processes of one host know of a shared queue, and what waits to be pushed to it: three small files.

`known`: the branch as it was last seen. `pending`: changes that wait. `pushing`: changes that are being pushed.
Each stands on another by name: pending on pushing, or on known. Invariant: a state that stands on nothing that is
there now counts as absent, so forgetting one state forgets what was built on it.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import Timeout

from agentq.errors import ExternalError, QueueCorrupt, StoreError
from agentq.locks import lock, turn_or_go_on
from agentq.repository import private_dir
from agentq.store import files

REMEMBERED = 2000
CONTACT_SECONDS = 20.0  # most looks are over by then
STATE_SECONDS = 60.0  # it is held for milliseconds
KNOWN, PENDING, PUSHING = "known", "pending", "pushing"
REWRITTEN = "rewritten.json"


def fresh_name() -> str:
    return uuid4().hex


@dataclass(frozen=True)
class State:
    """`gen`: its name; `on`: the one it stands on; `text`: the queue. `ops`: operation → the process that waits
    for it (for `known`: those seen in the branch, ''). `commit`: of the branch, or the one being pushed; `parent`:
    where the branch must be for that. `seen`: when the look at the branch began, in seconds since the epoch."""

    gen: str
    text: bytes
    on: str = ""
    ops: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    parent: str = ""
    seen: float = 0.0


class Waiting:
    """The three states in `folder`. Reading needs no lock; whoever changes one holds `state()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = private_dir(folder)
        self._cache: dict[str, tuple[bytes, State | None]] = {}
        self._arrived: set[str] = set()  # operations in the branch that could not be written down

    def turn(self, name: str, timeout: float = -1) -> AbstractContextManager[None]:
        """Hold a lock of this host: 'push' before 'contact' before 'state'."""
        return lock(self.folder / "locks", name, timeout)

    def contact(self) -> AbstractContextManager[bool]:
        """Look at the branch alone; after a while also beside somebody who hangs."""
        return turn_or_go_on(self.folder / "locks", "contact", CONTACT_SECONDS)

    @contextmanager
    def state(self) -> Iterator[None]:
        """Change the states alone. Raises StoreError when somebody keeps them."""
        with suppress(Timeout), self.turn("state", STATE_SECONDS):
            yield
            return
        why = f"a process has kept the lock {self.folder / 'locks' / 'state.lock'} for {STATE_SECONDS:.0f} s"
        raise StoreError(why, "an agentq on this host is stopped or hangs: let it go on ('fg') or end it")

    def get(self, name: str) -> State | None:
        """None when it is missing or damaged."""
        try:
            with (self.folder / name).open("rb") as file:
                line = file.readline()
                if name not in self._cache or self._cache[name][0] != line:
                    self._cache[name] = (line, _load(line, file.read()))
        except FileNotFoundError:
            return None
        return self._cache[name][1]

    def put(self, name: str, state: State) -> None:
        """Raises StoreError; then the one that was there stands."""
        head = {key: value for key, value in asdict(state).items() if key != "text"}
        head["sha256"] = hashlib.sha256(state.text).hexdigest()
        path = self.folder / name
        try:  # Not synced: what counts is on the remote, and a damaged file is an absent one.
            files.replace(path, json.dumps(head).encode() + b"\n" + state.text, durable=False)
        except OSError as error:
            raise files.not_changed(path, error) from error

    def drop(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)

    def chain(self) -> list[State]:
        """Known, then what is being pushed on it, then what waits, as far as each stands on the one before."""
        found: list[State] = []
        for name in (KNOWN, PUSHING, PENDING):
            state = self.get(name)
            if state is not None and (name == KNOWN or (found and state.on == found[-1].gen)):
                found.append(state)
        return found

    def applied(self, op: str) -> bool:
        known = self.get(KNOWN)
        return op in self._arrived or (known is not None and op in known.ops)

    def waits(self, op: str) -> bool:
        """Whether an operation is on its way. What is being pushed counts whatever it stands on."""
        pushing = self.get(PUSHING)
        return any(op in state.ops for state in [*self.chain()[1:], *([pushing] if pushing else [])])

    def learn(self, commit: str, text: bytes, ops: tuple[str, ...], seen: float, *, anew: bool = False) -> State:
        """The branch was seen at `commit`; `ops`, oldest first, happened since the last look. `anew`: what was
        known is not in it, and `ops` are all it has."""
        known, pushing = self.get(KNOWN), self.get(PUSHING)
        before = known.ops if known and not anew else {}
        gen = pushing.gen if pushing and pushing.commit == commit else fresh_name()
        return self._know(State(gen, text, ops={**before, **dict.fromkeys(ops, "")}, commit=commit, seen=seen))

    def confirm(self, seen: float) -> State:
        """The branch was seen where it is known to be."""
        known = self.get(KNOWN)
        assert known is not None
        return self._know(replace(known, seen=seen))

    def advance(self, pushed: State, seen: float) -> None:
        """`pushed` is in the branch. If somebody looked there meanwhile, what they saw is newer."""
        known = self.get(KNOWN)
        assert known is not None
        ops = {**known.ops, **dict.fromkeys(pushed.ops, "")}
        same = known.commit == pushed.parent
        arrived = State(pushed.gen, pushed.text, commit=pushed.commit, seen=seen) if same else known
        try:
            self._know(replace(arrived, ops=ops))
        except StoreError:  # a full disk makes no failure of a push that arrived; the next look tells the others
            self._arrived |= set(pushed.ops)
        self.drop(PUSHING)

    def _know(self, state: State) -> State:
        kept = replace(state, ops=dict(list(state.ops.items())[-REMEMBERED:]))
        self.put(KNOWN, kept)
        return kept

    # ------------------------------------------------------------ failures

    def fail(self, told: dict[str, ExternalError]) -> None:
        """Tell the processes that wait why they need not wait: operation → error."""
        with suppress(OSError):  # untold they ask again, and are told why themselves
            files.write_json(self.folder / "failed.json", {op: _told(error) for op, error in told.items()})

    def failure(self, op: str) -> ExternalError | None:
        found = (files.read_json(self.folder / "failed.json") or {}).get(op)
        return _error(found) if found else None

    def out_of_reach(self, error: ExternalError, began: float) -> None:
        with suppress(OSError):
            files.write_json(self.folder / "unreachable.json", {"began": began, "error": _told(error)})

    def unreachable(self, since: float, now: float) -> ExternalError | None:
        """Why a look that began between `since` and `now` failed: whoever waited for it need not try again."""
        found = files.read_json(self.folder / "unreachable.json")
        return _error(found["error"]) if found and since <= found["began"] <= now else None

    # ------------------------------------------------------------ history

    def rewritten(self, lost: str) -> None:
        """Remember for a person that the commit `lost` is not in the branch any more."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with suppress(OSError):
            files.write_json(self.folder / REWRITTEN, {"time": at, "lost": lost})

    def take_rewritten(self) -> tuple[str, str] | None:
        """When that was seen and the lost commit, for one caller; the others get None."""
        path = self.folder / REWRITTEN
        found = files.read_json(path)
        try:
            path.unlink()
            return str(found["time"]), str(found["lost"])
        except (OSError, KeyError, TypeError):
            return None


def _told(error: ExternalError) -> list[Any]:
    return [type(error).__name__, error.message, error.hint, error.retryable]


def _error(told: list[Any]) -> ExternalError:
    name, message, hint, retryable = told
    if name == "QueueCorrupt":
        return QueueCorrupt(message, hint)
    return (StoreError if name == "StoreError" else ExternalError)(message, hint, retryable=retryable)


def _load(line: bytes, text: bytes) -> State | None:
    try:
        head = json.loads(line)
        intact = head.pop("sha256") == hashlib.sha256(text).hexdigest()
        return State(text=text, **head) if intact else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
