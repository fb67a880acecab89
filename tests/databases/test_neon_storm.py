"""Faults at random and deaths anywhere: nothing leaks, nothing is double, dev stays as it was."""

import os
import random
import signal
from collections import Counter

import pytest
from contracts.databases import HOLD, HOUR, NOW, alive, nobody
from support.accounts import python, running
from support.neon import DEV
from support.neon_document import neon_document  # noqa: F401
from support.neon_world import NeonWorld, neon_fixture  # noqa: F401
from support.size import FULL

from agentq.errors import DatabaseError

SEEDS = range(60 if FULL else 3)
REQUESTS = 24  # more than one acquire or empty makes
SOME = [("acquire", 3), ("acquire", 12), ("acquire", 16), ("empty", 3), ("empty", 9), ("claim", 3), ("claim", 5)]
DEATHS = [(way, n) for way in ("acquire", "empty", "claim") for n in range(REQUESTS)] if FULL else SOME


def swept(neon: NeonWorld) -> list[str]:
    neon.databases.reap(NOW, nobody)
    neon.databases.warm(0)
    return neon.leftovers()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm_of_faults_leaves_nothing_and_no_double(neon: NeonWorld, seed: int) -> None:
    chance = random.Random(seed)
    neon.server.storm = random.Random(seed + 1000)
    given: dict[str, str] = {}
    worked = 0
    for _ in range(25):
        what = chance.choice(["acquire", "acquire", "empty", "release", "warm", "reap"])
        command = f"{what} {chance.randrange(3)}"
        try:
            if what in ("acquire", "empty"):
                branch = getattr(neon.databases, what)(command, HOUR, NOW, "me")
                assert given.setdefault(command, branch.id) == branch.id
                assert (neon.tables(branch.url) == []) == (what == "empty")
            elif what == "release" and given:
                _, gone = given.popitem()
                neon.databases.release(gone)
            elif what == "warm":
                assert neon.databases.warm(1) == 1
            elif what == "reap":
                assert neon.databases.reap(NOW, lambda owner: True) is not None
            worked += 1
        except DatabaseError:
            pass
        commands = Counter(name[:20] for name in neon.server.left() if name[7] != "w")
        assert max(commands.values(), default=1) == 1
    neon.server.storm = None
    assert worked > 10
    assert {branch.id for branch in neon.databases.branches()} >= set(given.values())
    assert swept(neon) == []
    assert neon.count(neon.url) == 0
    assert [line for line in neon.server.log if line[0] != "GET" and DEV in line[1]] == []


@pytest.mark.parametrize(("way", "request_number"), DEATHS)
def test_a_maker_killed_at_any_request_leaves_nothing(neon: NeonWorld, way: str, request_number: int) -> None:
    if way == "claim":
        neon.databases.warm(1)
    start, victim = len(neon.server.log), list[int]()

    def kill(count: int) -> None:
        if victim and count == start + request_number:
            os.kill(victim.pop(), signal.SIGKILL)

    neon.server.watch = kill
    with neon.server.lock:  # the child's first request waits until its pid is known
        hold = python(neon.source() + HOLD, "empty" if way == "empty" else "acquire", "one")
        context = running(hold)
        [child] = context.__enter__()
        victim.append(child.pid)
    try:
        assert child.stdout is not None
        if not child.stdout.readline():  # it was killed on its way
            assert child.wait() == -signal.SIGKILL
        child.kill()
        child.wait()
    finally:
        context.__exit__(None, None, None)
    neon.server.watch = lambda count: None
    again = getattr(neon.databases, "empty" if way == "empty" else "acquire")("one", HOUR, NOW, str(os.getpid()))
    assert [name for name in neon.server.left() if name[7] != "w"] == [again.name]
    assert neon.databases.reap(NOW, alive) == []
    assert neon.databases.branches() == [again]
    assert swept(neon) == []
