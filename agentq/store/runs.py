"""What runs on this machine: slots, one lock a spec, and a folder with the evidence of each run.

A lock held by a living process is the truth about who works on what; the JSON beside it is for showing.
Locks end with their process, so `kill -9` leaves nothing to clean up but files.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from agentq import process
from agentq.errors import Refused
from agentq.locks import lock
from agentq.store import files

R = TypeVar("R")


@dataclass(frozen=True)
class Live:
    """A run as it shows itself. `owner`: process identity; `marker`: found in the environment of its agents."""

    spec: str
    run: str
    marker: str
    owner: str
    pid: int
    epoch: int
    instance: int
    stage: str
    since: str
    transcript: str = ""


@dataclass(frozen=True)
class Intent:
    """A push that was about to happen: settled from the trunk after a crash (architecture, decision 6)."""

    spec: str
    epoch: int
    commit: str
    base: str
    marker: str
    owner: str = ""


class Runs:
    """`state`: the machine-local directory. Layout: slots/, locks/, live/<spec>.json, intents/<spec>.json,
    runs/<spec>/<run>/."""

    def __init__(self, state: Path) -> None:
        self.state = state
        # Two repositories may have specs of the same name: their processes must not be taken for each other's.
        self.tag = hashlib.sha256(str(state.absolute()).encode()).hexdigest()[:8]

    def marker(self, spec_id: str, epoch: int, run: str) -> str:
        """What the processes of one run carry in their environment."""
        return f"{self.tag}.{spec_id}.{epoch}.{run}"

    # ------------------------------------------------------------ the lane

    def stand_aside(self, until: float) -> None:
        """This host does not lead the lane until its monotonic clock says `until` (s)."""
        files.write_json(self.state / "aside.json", {"boot": process.boot(), "until": until})

    def stands_aside(self, now: float) -> bool:
        found = files.read_json(self.state / "aside.json")
        return isinstance(found, dict) and found.get("boot") == process.boot() and now < found.get("until", 0)

    # ------------------------------------------------------------ locks

    @contextmanager
    def slot(self, instances: int) -> Iterator[int]:
        """Hold one of the machine's instances (1 to `instances`). Raises Refused when all are taken."""
        for number in range(1, instances + 1):
            with _attempt(self.state / "slots", str(number)) as held:
                if held:
                    yield number
                    return
        raise Refused(
            f"this machine already runs {instances} of {instances} instances",
            "wait for one to end, or raise 'instances' in .machine",
        )

    @contextmanager
    def working_on(self, spec_id: str) -> Iterator[None]:
        """Be the only process that works on a spec. Raises Refused when another one does."""
        with self.attempt(spec_id) as held:
            if not held:
                live = self._read_live(spec_id)
                who = f"process {live.pid} is in its {live.stage} stage" if live else "another process works on it"
                raise Refused(f"'{spec_id}' is busy: {who}", f"'agentq logs {spec_id} -f' shows what it does")
            yield

    def attempt(self, spec_id: str) -> AbstractContextManager[bool]:
        """Whether nobody works on a spec; nobody begins to while the block lasts."""
        return _attempt(self.state / "locks", f"spec-{spec_id}")

    def moving_dev(self, seconds: float) -> AbstractContextManager[bool]:
        """Whether this process alone may migrate dev now; it waits so long (s) for that."""
        return _attempt(self.state / "locks", "dev", seconds)

    def landing(self) -> AbstractContextManager[bool]:
        """Whether this process leads the lane of this repository while the block lasts."""
        return _attempt(self.state / "locks", "landing")

    def is_free(self, spec_id: str) -> bool:
        """Whether no process works on a spec at this moment."""
        with self.attempt(spec_id) as free:
            return free

    # ------------------------------------------------------------ who is live

    def announce(self, live: Live) -> None:
        files.write_json(self.state / "live" / f"{live.spec}.json", asdict(live))

    def update(self, live: Live, **changes: Any) -> Live:
        changed = replace(live, **changes)
        self.announce(changed)
        return changed

    def withdraw(self, spec_id: str) -> None:
        (self.state / "live" / f"{spec_id}.json").unlink(missing_ok=True)

    def recorded(self) -> list[Live]:
        """Every announced run, dead or alive."""
        folder = self.state / "live"
        found = [self._read_live(path.stem) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []
        return [live for live in found if live is not None]

    def live(self) -> dict[str, Live]:
        """spec id → its run, for processes that live."""
        return {live.spec: live for live in self.recorded() if process.alive(live.owner)}

    def _read_live(self, spec_id: str) -> Live | None:
        return _record(Live, files.read_json(self.state / "live" / f"{spec_id}.json"))

    # ------------------------------------------------------------ intents

    def intend(self, intent: Intent) -> None:
        files.write_json(self.state / "intents" / f"{intent.spec}.json", asdict(intent), durable=True)

    def settled(self, spec_id: str) -> None:
        (self.state / "intents" / f"{spec_id}.json").unlink(missing_ok=True)

    def intents(self) -> list[Intent]:
        folder = self.state / "intents"
        found = [files.read_json(path) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []
        return [intent for data in found if (intent := _record(Intent, data)) is not None]

    # ------------------------------------------------------------ evidence

    def new_folder(self, spec_id: str, now: datetime) -> Path:
        """A folder for one run of a spec; its name sorts by time."""
        folder = self.state / "runs" / spec_id / f"{now:%Y%m%d-%H%M%S}-{os.getpid()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def folders(self, spec_id: str) -> list[Path]:
        """Run folders of a spec, oldest first."""
        folder = self.state / "runs" / spec_id
        return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []

    def transcripts(self, spec_id: str) -> list[Path]:
        """Logs of every run of a spec, oldest first."""
        logs = [log for folder in self.folders(spec_id) for log in folder.glob("*.log")]
        return sorted(logs, key=lambda path: path.stat().st_mtime_ns)

    def events(self, spec_id: str) -> list[dict[str, Any]]:
        """Everything the runs of a spec reported, oldest first; torn lines are left out."""
        found: list[dict[str, Any]] = []
        for folder in self.folders(spec_id):
            with suppress(OSError):
                for line in (folder / "events.ndjson").read_text(errors="replace").splitlines():
                    with suppress(ValueError):
                        found.append(json.loads(line))
        return found

    # ------------------------------------------------------------ proofs

    def proved(self, key: str) -> bool:
        """Whether this very (tree, commands, environment) passed on this host before."""
        return (self.state / "proofs" / key).exists()

    def remember_proof(self, key: str, what: dict[str, Any]) -> None:
        files.write_json(self.state / "proofs" / key, what)


@contextmanager
def _attempt(folder: Path, name: str, seconds: float = 0) -> Iterator[bool]:
    """Whether the lock could be had within `seconds`; it is held for the block if so."""
    from filelock import Timeout

    with ExitStack() as stack:
        try:
            stack.enter_context(lock(folder, name, seconds))
        except Timeout:
            held = False
        else:
            held = True
        yield held


def _record(kind: type[R], data: Any) -> R | None:
    try:
        return kind(**data) if isinstance(data, dict) else None
    except TypeError:
        return None
