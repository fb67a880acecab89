"""The combining of changes against a remote in memory that loses, delays and duplicates pushes, in any order that
hypothesis finds; threads of several hosts at once; what must hold is counted, not imitated."""

import random
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.shared import Adding, Memory, times

from agentq.core import queue as transitions
from agentq.core.spec import Queue
from agentq.errors import ExternalError, Refused, UserError
from agentq.store import shared
from agentq.store.base import QueueMove
from agentq.store.shared import SharedStore
from agentq.store.waiting import PENDING, PUSHING, State, Waiting

HOSTS = st.integers(0, 2)
WORDS = st.lists(st.sampled_from(["ok", "lost", "silent", "late", "twice", "moved"]), max_size=4)


class Wild(Memory):
    """A remote whose next pushes do what `script` says. 'late' ones arrive whenever `arrive` is called, and are
    tried before each look and push when `eager`."""

    def __init__(self) -> None:
        super().__init__()
        self.script: list[str] = []
        self.late: list[tuple[str, str]] = []
        self.eager = False

    def push(self, commit: str, expected: str) -> tuple[str, str]:
        if self.eager:
            self.arrive()
        word = self.script.pop(0) if self.script and self.online else "ok"
        if word == "moved":
            return "moved", "cannot lock ref"
        if word == "late":
            self.late.append((commit, expected))
        if word in ("late", "lost"):
            return "unknown", "no answer"
        answer = super().push(commit, expected)
        if word == "twice":
            assert super().push(commit, expected)[0] != "pushed", "the second one finds the branch moved"
        return ("unknown", "no answer") if word == "silent" else answer

    def arrive(self) -> None:
        late, self.late = self.late, []
        for commit, expected in late:
            super().push(commit, expected)

    def fetch(self, since: str = "") -> object:  # type: ignore[override]
        if self.eager and self.online:
            self.arrive()
        return super().fetch(since)


class Combining(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.remote = Wild()
        self.number = 0
        self.there: set[str] = set()  # acknowledged
        self.never: set[str] = set()  # said not to be there
        self.perhaps: set[str] = set()  # nobody knows
        root = Path(self.folder.name)
        self.stores = [[SharedStore(self.remote, root / f"h{n}") for _ in range(2)] for n in range(3)]

    def _name(self) -> str:
        self.number += 1
        return f"n{self.number}"

    def _try(self, store: SharedStore, name: str) -> None:
        change = Adding(name)
        try:
            queue = store.update(change)
        except ExternalError as error:
            (self.perhaps if "not known" in error.message else self.never).add(name)
            return
        self.there.add(name)
        assert times([spec.id for spec in queue.ready], name) == 1
        mine = next(spec.id for spec in queue.ready if spec.title == name)
        assert mine in self.remote.ids(), "the decision that is answered with is the one that arrived"

    @rule(host=HOSTS, process=st.integers(0, 1), script=WORDS, eager=st.booleans())
    def change(self, host: int, process: int, script: list[str], eager: bool) -> None:
        self.remote.script, self.remote.eager = script, eager
        self._try(self.stores[host][process], self._name())

    @rule(host=HOSTS, script=WORDS)
    def change_and_vanish(self, host: int, script: list[str]) -> None:
        """The network goes right after the push, whatever became of it."""
        inner = self.remote.push

        def push(commit: str, expected: str) -> tuple[str, str]:
            answer = inner(commit, expected)
            self.remote.online = False
            return answer

        self.remote.script = script
        self.remote.push = push  # type: ignore[method-assign]
        try:
            self._try(self.stores[host][0], self._name())
        finally:
            del self.remote.push
            self.remote.online = True

    @rule(host=HOSTS)
    def change_offline(self, host: int) -> None:
        self.remote.online = False
        name = self._name()
        self._try(self.stores[host][0], name)
        self.remote.online = True
        assert name not in self.there

    @rule(host=HOSTS, script=WORDS)
    def land(self, host: int, script: list[str]) -> None:
        self.remote.script = script
        name = self._name()

        def push(move: QueueMove | None) -> tuple[str, str]:
            assert move is not None
            outcome, said = self.remote.push(move.commit, move.expected)
            return {"pushed": "landed", "moved": "queue-moved"}.get(outcome, outcome), said

        landed = self.stores[host][0].land(Adding(name), push)
        if landed.outcome == "landed":
            self.there.add(name)
        else:
            self.perhaps.add(name)  # it may still be on its way

    @rule(host=HOSTS, outcome=st.sampled_from(["moved", "refused"]))
    def land_not(self, host: int, outcome: str) -> None:
        name = self._name()
        assert self.stores[host][0].land(Adding(name), lambda _move: (outcome, "")).outcome == outcome
        self.never.add(name)

    @rule()
    def zombies_arrive(self) -> None:
        self.remote.arrive()

    @rule(host=HOSTS)
    def a_process_dies_while_it_waits(self, host: int) -> None:
        waiting = Waiting(Path(self.folder.name) / f"h{host}")
        if waiting.chain():
            base = waiting.chain()[-1]
            waiting.put(PENDING, State(f"gen{self.number}", base.text, base.gen, {f"dead{self.number}": "1/1/no"}))

    @rule(host=HOSTS, arrived=st.booleans())
    def a_process_dies_while_it_pushes(self, host: int, arrived: bool) -> None:
        waiting = Waiting(Path(self.folder.name) / f"h{host}")
        if waiting.chain() and waiting.get(PUSHING) is None:
            known, op = waiting.chain()[0], self._name()
            commit = self.remote.write(known.text, known.commit, [op])
            state = State(f"gen-{op}", known.text, known.gen, {op: "1/1/no"}, commit, known.commit)
            waiting.put(PUSHING, state)
            if arrived:
                Memory.push(self.remote, commit, known.commit)

    @rule(host=HOSTS)
    def refusals_are_about_what_is_there(self, host: int) -> None:
        self.remote.script = []
        wanted = self.remote.ids()
        with pytest.raises(UserError):
            self.stores[host][1].update(lambda queue: transitions.hold(queue, "absent"))
        if wanted:
            held = self.stores[host][1].update(lambda queue: transitions.hold(queue, wanted[0]))
            assert held.ready

    @precondition(lambda self: hasattr(self, "remote"))
    @invariant()
    def conserved(self) -> None:
        ids, ops = self.remote.ids(), self.remote.operations()
        assert len(ops) == len(set(ops)), "no operation is applied twice"
        assert all(times(ids, name) == 1 for name in self.there), "no acknowledged update is lost"
        assert all(times(ids, name) == 0 for name in self.never), "what was refused is not there"
        assert all(times(ids, name) <= 1 for name in self.perhaps)
        assert len(ids) == len(set(ids))

    @invariant()
    def readers_agree(self) -> None:
        if hasattr(self, "stores"):
            for host in self.stores:
                assert [spec.id for spec in host[1].read().queue.ready] == self.remote.ids()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "PAUSES", (0.001, 0.01))


TestCombining = Combining.TestCase
TestCombining.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("seed", range(4))
def test_threads_of_three_hosts_on_a_wild_remote(tmp_path: Path, seed: int) -> None:
    """Twelve threads, and a remote that does something wild with every fourth push."""

    class Random(Wild):
        def push(self, commit: str, expected: str) -> tuple[str, str]:
            wild = chance.random() < 0.25
            self.script = [chance.choice(["lost", "silent", "late", "twice", "moved"])] if wild else []
            return super().push(commit, expected)

    chance, remote, failed = random.Random(seed), Random(), []
    remote.eager = True

    def work(host: int, number: int) -> None:
        store = SharedStore(remote, tmp_path / f"h{host}")
        try:
            for turn in range(6):
                name = f"t{host}-{number}-{turn}"
                queue = store.update(Adding(name))
                mine = next(spec.id for spec in queue.ready if spec.title == name)
                assert mine in remote.ids()
                if turn % 3 == 0:
                    store.update(lambda queue: transitions.hold(queue, mine))  # noqa: B023
                with pytest.raises(Refused):
                    store.update(_never)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n % 3, n)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed, failed
    ids, ops = remote.ids(), remote.operations()
    assert all(times(ids, f"t{n % 3}-{n}-{turn}") == 1 for n in range(12) for turn in range(6))
    assert len(ids) == 72 and len(ops) == len(set(ops))


def _never(queue: Queue) -> Queue:
    raise Refused("never")
