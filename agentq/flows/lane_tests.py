"""The test runs of the lane: several trees at once, each in a clean checkout and with its own database branch."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, replace
from pathlib import Path

from agentq.core.landing import Verdict
from agentq.core.spec import Tested
from agentq.errors import AgentqError
from agentq.flows.outcome import Failed
from agentq.flows.proof import prove
from agentq.flows.session import Session


@dataclass(frozen=True)
class Finished:
    """What one run said. 'broken': it ended without a verdict; nobody is to blame."""

    tree: str
    specs: tuple[str, ...]
    verdict: Verdict
    problem: str = ""
    log: Path | None = None


@dataclass
class _Running:
    slot: int
    shown: Tested
    cancelled: threading.Event
    future: "Future[Finished | None]"


class LaneTests:
    """As many runs at once as this machine allows verifications. A run that nobody wants any more is stopped."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._slots = session.services.config.machine.verifications
        self._pool = ThreadPoolExecutor(self._slots, thread_name_prefix="lane")
        self._running: dict[str, _Running] = {}

    def has_room(self, tree: str) -> bool:
        return tree not in self._running and len(self._running) < self._slots

    @property
    def running(self) -> frozenset[str]:
        """The trees that are being tested."""
        return frozenset(tree for tree, one in self._running.items() if not one.cancelled.is_set())

    def start(self, tree: str, commit: str, shown: Tested) -> None:
        slot = min(set(range(self._slots)) - {one.slot for one in self._running.values()})
        cancelled = threading.Event()
        stop = self.session.services.stop
        services = replace(
            self.session.services, stop=lambda: stop() or ("nobody wants it" if cancelled.is_set() else None)
        )
        # Marked for themselves: what is left of one run is ended without the others.
        live = replace(self.session.live, marker=f"{self.session.live.marker}.lane{slot}")
        session = replace(self.session, services=services, live=live)
        future = self._pool.submit(_run, session, slot, tree, commit, shown.specs)
        self._running[tree] = _Running(slot, shown, cancelled, future)

    def keep(self, trees: set[str]) -> None:
        """Stop the runs of all other trees."""
        for tree, one in self._running.items():
            if tree not in trees:
                one.cancelled.set()

    def shown(self) -> Sequence[Tested]:
        return [one.shown for one in self._running.values() if not one.cancelled.is_set()]

    def wait(self, seconds: float) -> list[Finished]:
        """The runs that have ended, waiting at most so long for the first; those that were stopped left out."""
        futures = [one.future for one in self._running.values()]
        wait_for(futures, timeout=seconds, return_when=FIRST_COMPLETED)
        ended = [tree for tree, one in self._running.items() if one.future.done()]
        found = [self._running.pop(tree).future.result() for tree in ended]
        return [one for one in found if one is not None]

    def close(self) -> None:
        self.keep(set())
        self._pool.shutdown(wait=True)


def _run(session: Session, slot: int, tree: str, commit: str, specs: tuple[str, ...]) -> Finished | None:
    """One run, in a thread of its own; None if it was stopped."""
    checkout = session.services.workspaces.proof_path(f"lane-{slot}")
    name = f"lane-{slot}"
    began = time.time_ns()
    try:
        outcome = prove(session, commit, tree, checkout, name, combined=bool(specs))
    except (AgentqError, OSError) as error:
        return Finished(tree, specs, "broken", str(error))
    if outcome is None:
        return Finished(tree, specs, "passed")
    if not isinstance(outcome, Failed):
        return None
    # Where not even trunk can be set up, its tests say nothing.
    verdict: Verdict = "broken" if outcome.unready and not specs else "failed"
    return Finished(tree, specs, verdict, outcome.problem, _newest(session.evidence.folder, name, began))


def _newest(folder: Path, name: str, since: int) -> Path | None:
    """The log that was written last, if that was after `since` (ns)."""
    logs = [(path.stat().st_mtime_ns, path) for path in folder.glob(f"{name}-*.log")]
    written = max((one for one in logs if one[0] >= since - 10**7), default=None)
    return written[1] if written else None
