"""What every provider of database branches must do. Subclass `DatabasesContract` and give it a `world` fixture."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from support.accounts import python, running
from support.size import FULL

from agentq.databases.base import EMPTY, Branch, Databases

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAME = re.compile(r"[a-z][a-z0-9_]{0,50}")
ENV = "DATABASE_URL"  # the variable every world configures
PATIENCE = 15.0  # s for what a server goes on doing after its client was killed

# Programs of other processes; `World.source` comes before them.
HOLD = """
import os, sys, time
from contracts.databases import HOUR, NOW
print(getattr(databases, sys.argv[1])(sys.argv[2], HOUR, NOW, str(os.getpid())).id, flush=True)
time.sleep(60)
"""
CLAIM = """
import sys
from concurrent.futures import ThreadPoolExecutor
from contracts.databases import HOUR, NOW
print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(4) as pool:
    for branch in pool.map(lambda n: databases.acquire(f"{sys.argv[1]} {n}", HOUR, NOW, "me"), range(4)):
        print(branch.id, int(branch.warm), branch.url)
"""
CHURN = """
import os
from itertools import count
from contracts.databases import HOUR, NOW
me = str(os.getpid())
for n in count():
    databases.warm(2)
    branch = databases.acquire(f"{me} {n}", HOUR, NOW, me)
    empty = databases.empty(f"{me} {n}", HOUR, NOW, me)
    databases.release((branch, empty)[n % 2].id)
    print(n, flush=True)
"""


def everyone(owner: str) -> bool:
    return True


def nobody(owner: str) -> bool:
    return False


def alive(owner: str) -> bool:
    """For owners that are process ids."""
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return False
    return True


class World:
    """A provider with a dev of its own. In dev there are two tables: `rows`, and `accounts` whose sum stays.

    Attributes say what a provider cannot do, so that the tests of it are skipped.
    """

    databases: Databases
    url = ""  # dev's
    stores = True  # whether there is a database at all
    head_is_exact = True  # whether head() stands still while dev does
    warms = True  # whether warm() keeps any ready

    def add(self, url: str) -> None:
        """Commit one row to `rows`."""
        raise NotImplementedError

    def count(self, url: str) -> int:
        """How many `rows` has."""
        raise NotImplementedError

    def tables(self, url: str) -> list[str]:
        """All tables that are not the system's."""
        raise NotImplementedError

    def create(self, url: str) -> None:
        """Make the table `rows` in a database that has none."""
        raise NotImplementedError

    def sound(self, url: str) -> bool:
        """Whether it is whole, and `accounts` holds the sum it had at first."""
        raise NotImplementedError

    def leftovers(self) -> list[str]:
        """Everything that exists of branches, finished or not, warm ones too; generations are none."""
        raise NotImplementedError

    def source(self) -> str:
        """Python that makes another provider of the same store, in another process, as `databases`."""
        raise NotImplementedError

    def writer(self) -> list[str]:
        """A program that moves money between accounts of dev for ever; each transfer is one transaction."""
        raise NotImplementedError

    def naive(self) -> bool | None:
        """Whether a copy of dev made without care is sound. None: there is no such way. The control of the test
        under writers."""
        return None


Take = Callable[..., Branch]


class DatabasesContract:
    @pytest.fixture(params=["acquire", "empty"])
    def take(self, request: pytest.FixtureRequest, world: World) -> Take:
        """What holds for both ways to a database."""
        return getattr(world.databases, request.param)

    # ------------------------------------------------------------ what a branch is

    def test_a_branch_says_what_it_is_and_keeps_its_url_to_itself(self, world: World, take: Take) -> None:
        branch = take("Spec 1; rm -rf /", HOUR, NOW, "me")
        assert NAME.fullmatch(branch.id)
        assert NAME.fullmatch(branch.name)
        assert (branch.owner, branch.expires_at) == ("me", NOW + HOUR)
        if world.stores:
            assert branch.url == branch.env[ENV]
            assert branch.url not in repr(branch)
            assert ENV not in repr(branch)
        else:
            assert (branch.url, branch.env) == ("", {})

    def test_the_set_up_is_healthy(self, world: World) -> None:
        assert [f for f in world.databases.doctor() if not f.ok] == []

    def test_a_repeat_gives_the_same_branch(self, world: World, take: Take) -> None:
        first = take("one", HOUR, NOW, "me")
        assert take("one", HOUR, NOW, "me") == first
        assert take("two", HOUR, NOW, "me").id != first.id

    def test_a_repeat_hands_the_branch_over_and_never_shortens_its_life(self, world: World, take: Take) -> None:
        self._needs(world.stores)
        first = take("one", HOUR, NOW, "me")
        world.create(first.url) if first.generation == EMPTY else world.add(first.url)
        rows = world.count(first.url)
        again = take("one", timedelta(minutes=1), NOW, "you")
        assert (again.id, again.owner, again.expires_at) == (first.id, "you", first.expires_at)
        assert world.count(again.url) == rows
        assert world.databases.branches() == [again]
        assert take("one", 2 * HOUR, NOW, "you").expires_at == NOW + 2 * HOUR

    def test_no_branch_sees_another_or_dev_and_dev_sees_none(self, world: World) -> None:
        self._needs(world.stores)
        rows = world.count(world.url)
        one, two = (world.databases.acquire(name, HOUR, NOW, "me") for name in ("one", "two"))
        world.add(one.url)
        world.add(world.url)
        world.add(world.url)
        assert [world.count(url) for url in (world.url, one.url, two.url)] == [rows + 2, rows + 1, rows]

    # ------------------------------------------------------------ dev

    def test_the_generation_stays_until_dev_moves(self, world: World) -> None:
        head, sealed = world.databases.head(), world.databases.seal()
        if world.head_is_exact:
            assert sealed.head == head == world.databases.head()
            assert world.databases.seal() == sealed
            assert world.databases.acquire("one", HOUR, NOW, "me").generation == sealed.id
        if world.stores:
            world.add(world.url)
            assert world.databases.head() != head
            assert not world.head_is_exact or world.databases.seal() != sealed

    def test_a_branch_holds_everything_committed_before_it(self, world: World) -> None:
        self._needs(world.stores)
        for n in range(8):
            world.add(world.url)
            branch = world.databases.acquire(str(n), HOUR, NOW, "me")
            assert world.count(branch.url) == world.count(world.url)
            world.databases.release(branch.id)

    def test_dev_is_named_by_the_variables_of_a_branch(self, world: World) -> None:
        named = world.databases.dev()
        assert named.keys() == world.databases.acquire("one", HOUR, NOW, "me").env.keys()
        if world.stores:
            rows = world.count(world.url)
            world.add(named[ENV])
            assert world.count(world.url) == rows + 1
            assert world.count(world.databases.acquire("two", HOUR, NOW, "me").url) == rows + 1

    def test_every_branch_is_whole_under_writers(self, world: World) -> None:
        self._needs(world.stores)
        with running(*[world.writer() for _ in range(3)]):
            for n in range(10):
                branch = world.databases.acquire(str(n), HOUR, NOW, "me")
                assert world.sound(branch.url)
                world.databases.release(branch.id)

    def test_a_naive_copy_is_torn_under_writers(self, world: World) -> None:
        """The control: the load above does break a copy that takes no care."""
        self._needs(world.stores and world.naive() is not None)
        deadline = time.monotonic() + 5
        with running(*[world.writer() for _ in range(3)]):
            while time.monotonic() < deadline:
                if not world.naive():
                    return
        pytest.skip("the writers never tore a naive copy on this machine, so the load proves nothing here")

    # ------------------------------------------------------------ without content

    def test_an_empty_one_has_no_tables_and_can_be_written(self, world: World) -> None:
        empty = world.databases.empty("one", HOUR, NOW, "me")
        assert empty.generation == EMPTY
        if world.stores:
            assert "rows" in world.tables(world.url)
            assert world.tables(empty.url) == []
            world.create(empty.url)
            world.add(empty.url)
            assert world.count(empty.url) == 1

    def test_an_empty_one_is_never_the_branch_of_its_command(self, world: World) -> None:
        empty = world.databases.empty("one", HOUR, NOW, "me")
        branch = world.databases.acquire("one", HOUR, NOW, "me")
        assert branch.id != empty.id
        assert world.databases.empty("one", HOUR, NOW, "me") == empty
        if world.stores:
            assert world.count(branch.url) == world.count(world.url)
            assert world.tables(empty.url) == []
            by_name = sorted((branch, empty), key=lambda one: one.name)
            assert world.databases.branches() == by_name
            world.databases.release(empty.id)
            assert world.databases.branches() == [branch]

    # ------------------------------------------------------------ kept ready

    def test_warm_ones_are_claimed_and_equal_dev(self, world: World) -> None:
        self._needs(world.warms)
        world.add(world.url)
        assert world.databases.warm(2) == 2
        assert world.databases.branches() == []
        assert world.databases.reap(NOW, everyone) == []
        branches = [world.databases.acquire(str(n), HOUR, NOW, "me") for n in range(3)]
        assert [branch.warm for branch in branches] == [True, True, False]
        assert {world.count(branch.url) for branch in branches} == {world.count(world.url)}
        assert all(world.sound(branch.url) for branch in branches)
        assert world.databases.branches() == sorted(branches, key=lambda branch: branch.name)
        world.add(branches[0].url)
        assert world.databases.acquire("0", HOUR, NOW, "me") == branches[0]

    def test_no_stale_one_is_ever_handed_out(self, world: World) -> None:
        self._needs(world.warms)
        for n in range(5):
            world.databases.warm(1)
            world.add(world.url)
            branch = world.databases.acquire(str(n), HOUR, NOW, "me")
            assert world.count(branch.url) == world.count(world.url)
        assert world.databases.warm(1) == 1
        world.add(world.url)
        assert world.databases.warm(2) == 2
        branches = [world.databases.acquire(f"after {n}", HOUR, NOW, "me") for n in range(2)]
        assert all(branch.warm for branch in branches)
        assert {world.count(branch.url) for branch in branches} == {world.count(world.url)}

    def test_no_more_are_kept_ready_than_asked_for_and_none_leaks(self, world: World) -> None:
        if not world.warms:
            assert world.databases.warm(3) == 0
            return
        assert world.databases.warm(3) == 3
        assert world.databases.warm(3) == 3
        assert world.databases.warm(1) == 1
        branches = [world.databases.acquire(str(n), HOUR, NOW, "me") for n in range(2)]
        assert [branch.warm for branch in branches] == [True, False]
        world.databases.warm(2)
        world.add(world.url)
        assert world.databases.warm(0) == 0
        for branch in branches:
            world.databases.release(branch.id)
        assert world.leftovers() == []

    def test_sixteen_claim_twelve_warm_ones(self, world: World) -> None:
        """In four processes: each warm one goes to one of them."""
        self._needs(world.warms)
        assert world.databases.warm(12) == 12
        commands = [python(world.source() + CLAIM, n) for n in range(4)]
        children = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for command in commands
        ]
        try:
            for child in children:
                assert child.stdout is not None
                assert child.stdout.readline() == "ready\n"
            said = [line for out in _all_at_once(children) for line in out.splitlines()]
        finally:
            for child in children:
                child.kill()
                child.communicate()
        ids, warm, urls = zip(*(line.split(" ", 2) for line in said), strict=True)
        assert len(set(ids)) == len(set(urls)) == 16
        assert warm.count("1") == 12
        rows = world.count(world.url)
        for url in urls:
            world.add(url)
        assert {world.count(url) for url in urls} == {rows + 1}
        assert len(world.databases.branches()) == 16

    # ------------------------------------------------------------ the end of a branch

    def test_release_is_idempotent_and_takes_only_its_own(self, world: World, take: Take) -> None:
        one, two = (take(name, HOUR, NOW, "me") for name in ("one", "two"))
        for name in (one.id, one.id, "b000000000000_00000000", "../..", ""):
            world.databases.release(name)
        if world.stores:
            assert world.databases.branches() == [two]
            assert isinstance(world.tables(two.url), list)
        world.databases.release(two.id)
        assert world.leftovers() == []
        if world.stores:
            assert take("one", HOUR, NOW, "me").id != one.id

    def test_a_branch_lives_as_long_as_promised(self, world: World, take: Take) -> None:
        self._needs(world.stores)
        branch = take("one", HOUR, NOW, "me")
        assert world.databases.reap(NOW + HOUR - timedelta(seconds=1), everyone) == []
        assert world.databases.branches() == [branch]
        assert take("one", HOUR, NOW + 2 * HOUR, "me").id != branch.id
        assert len(world.databases.reap(NOW + 3 * HOUR, everyone)) == 1
        assert world.leftovers() == []

    @pytest.mark.parametrize("how", ["acquire", "empty"])
    def test_a_killed_owner_leaves_its_branch_to_the_reaper(self, world: World, how: str) -> None:
        self._needs(world.stores)
        mine = world.databases.acquire("mine", HOUR, NOW, str(os.getpid()))
        with running(python(world.source() + HOLD, how, "theirs")) as [child]:
            assert child.stdout is not None
            name = child.stdout.readline().strip()
            assert world.databases.reap(NOW, alive) == []
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert world.databases.reap(NOW, alive) == [name]
        assert world.databases.branches() == [mine]
        assert world.databases.reap(NOW, alive) == []

    @pytest.mark.parametrize("dev", ["dev at rest", "dev moving"])
    def test_nothing_leaks_when_the_maker_is_killed_anywhere(self, world: World, dev: str) -> None:
        """In the middle of acquire, empty, warm, seal or release: the moment is drawn from one whole round."""
        self._needs(world.stores)
        seed = random.randrange(10**6)
        chance = random.Random(seed)
        for _ in range(5 if FULL else 2):
            with _moving(world, dev == "dev moving"), running(python(world.source() + CHURN)) as [child]:
                assert child.stdout is not None
                child.stdout.readline()
                began = time.monotonic()
                child.stdout.readline()
                time.sleep(chance.uniform(0, 1.5 * (time.monotonic() - began)))
                child.send_signal(signal.SIGKILL)
                child.wait()
            assert _swept(world) == [], f"seed {seed}"
            assert world.databases.branches() == []
            after = world.databases.acquire("after", HOUR, NOW, "me")
            assert world.sound(after.url), f"seed {seed}"
            world.databases.release(after.id)

    # ------------------------------------------------------------ many at once

    def test_sixteen_at_once_get_sixteen_branches(self, world: World) -> None:
        with ThreadPoolExecutor(16) as pool:
            jobs = [pool.submit(world.databases.acquire, str(n), HOUR, NOW, "me") for n in range(16)]
        branches = [job.result() for job in jobs]
        assert len({b.id for b in branches}) == 16
        if world.stores:
            assert len({b.url for b in branches}) == 16
            assert {world.count(b.url) for b in branches} == {world.count(world.url)}

    def test_one_command_asked_for_at_once_gets_one_branch(self, world: World, take: Take) -> None:
        if world.warms:
            world.databases.warm(2)
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(take, "one", HOUR, NOW, "me") for _ in range(8)]
        assert len({job.result().id for job in jobs}) == 1
        assert len(world.databases.branches()) == int(world.stores)

    @staticmethod
    def _needs(able: bool) -> None:
        if not able:
            pytest.skip("this provider cannot")


@contextmanager
def _moving(world: World, moves: bool) -> Iterator[None]:
    with running(*[world.writer()] * moves):
        yield


def _swept(world: World) -> list[str]:
    """What is left when everything was reaped. A server may still be at work for a client that was killed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        world.databases.reap(NOW, nobody)
        world.databases.warm(0)
        left = world.leftovers()
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _all_at_once(children: list[subprocess.Popen[str]]) -> list[str]:
    """Let the programs go on, and what they say."""
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    return [child.communicate(timeout=120)[0] for child in children]
