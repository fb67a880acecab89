"""What every provider of database branches must do. Subclass `DatabasesContract` and give it a `world` fixture."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from agentq.databases.base import Branch, Databases

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
NAME = re.compile(r"[a-z][a-z0-9_]{0,50}")


def everyone(owner: str) -> bool:
    return True


def running(owner: str) -> bool:
    """`alive` for owners that are process ids."""
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return False
    return True


class World(Protocol):
    """A provider with a dev database of its own that holds one table of rows."""

    databases: Databases
    stores: bool  # whether there is a database at all

    def add(self, branch: Branch | None) -> None:
        """Commit one row to a branch, or to dev."""
        ...

    def count(self, branch: Branch | None) -> int:
        """The rows of a branch, or of dev."""
        ...

    def leftovers(self) -> list[str]:
        """Everything on disk that belongs to branches."""
        ...

    def acquirer(self, command_id: str) -> list[str]:
        """A program that acquires a branch, owner its own process id, prints the branch's id and waits."""
        ...


@contextmanager
def acquired_elsewhere(world: World, command_id: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(world.acquirer(command_id), stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child, child.stdout.readline().strip()
        finally:
            child.kill()


class DatabasesContract:
    def test_a_branch_says_what_it_is_and_keeps_its_url_to_itself(self, world: World) -> None:
        branch = world.databases.acquire("Spec 1; rm -rf /", HOUR, NOW, "me")
        assert NAME.fullmatch(branch.id)
        assert NAME.fullmatch(branch.name)
        assert (branch.owner, branch.expires_at) == ("me", NOW + HOUR)
        assert branch.generation == world.databases.seal().id
        if world.stores:
            assert branch.url in branch.env.values()
            assert branch.url not in repr(branch)
            assert "DATABASE_URL" not in repr(branch)
        else:
            assert (branch.url, branch.env) == ("", {})

    def test_the_set_up_is_healthy(self, world: World) -> None:
        assert [f for f in world.databases.doctor() if not f.ok] == []

    def test_acquire_is_idempotent_per_command(self, world: World) -> None:
        first = world.databases.acquire("one", HOUR, NOW, "me")
        assert world.databases.acquire("one", HOUR, NOW, "me") == first
        assert world.databases.acquire("two", HOUR, NOW, "me").id != first.id

    def test_a_repeat_hands_the_branch_over_and_never_shortens_its_life(self, world: World) -> None:
        self._needs_a_store(world)
        first = world.databases.acquire("one", HOUR, NOW, "me")
        world.add(first)
        again = world.databases.acquire("one", timedelta(minutes=1), NOW, "you")
        assert (again.id, again.owner, again.expires_at) == (first.id, "you", first.expires_at)
        assert world.count(again) == world.count(None) + 1
        assert world.databases.branches() == [again]

    def test_seal_returns_the_same_generation_until_dev_moves(self, world: World) -> None:
        head, sealed = world.databases.head(), world.databases.seal()
        assert sealed.head == head == world.databases.head()
        assert world.databases.seal() == sealed
        if world.stores:
            world.add(None)
            assert world.databases.head() != head
            assert world.databases.seal() != sealed

    def test_no_branch_sees_another_or_dev_and_dev_sees_none(self, world: World) -> None:
        self._needs_a_store(world)
        rows = world.count(None)
        one, two = (world.databases.acquire(name, HOUR, NOW, "me") for name in ("one", "two"))
        world.add(one)
        world.add(None)
        world.add(None)
        assert [world.count(b) for b in (None, one, two)] == [rows + 2, rows + 1, rows]

    def test_a_branch_holds_everything_committed_before_it(self, world: World) -> None:
        self._needs_a_store(world)
        for n in range(8):
            world.add(None)
            branch = world.databases.acquire(str(n), HOUR, NOW, "me")
            assert world.count(branch) == world.count(None)
            world.databases.release(branch.id)

    def test_release_is_idempotent_and_takes_only_its_own(self, world: World) -> None:
        one, two = (world.databases.acquire(name, HOUR, NOW, "me") for name in ("one", "two"))
        for name in (one.id, one.id, "b000000000000_00000000", "../..", ""):
            world.databases.release(name)
        if world.stores:
            assert world.databases.branches() == [two]
            assert world.count(two) == world.count(None)
        world.databases.release(two.id)
        assert world.leftovers() == []
        if world.stores:
            assert world.databases.acquire("one", HOUR, NOW, "me").id != one.id

    def test_a_branch_lives_as_long_as_promised(self, world: World) -> None:
        self._needs_a_store(world)
        branch = world.databases.acquire("one", HOUR, NOW, "me")
        assert world.databases.reap(NOW + HOUR - timedelta(seconds=1), everyone) == []
        assert world.databases.branches() == [branch]
        assert world.databases.acquire("one", HOUR, NOW + 2 * HOUR, "me").id != branch.id
        assert len(world.databases.reap(NOW + 3 * HOUR, everyone)) == 1
        assert world.leftovers() == []

    def test_a_killed_owner_leaves_its_branch_to_the_reaper(self, world: World) -> None:
        self._needs_a_store(world)
        mine = world.databases.acquire("mine", HOUR, NOW, str(os.getpid()))
        with acquired_elsewhere(world, "theirs") as (child, name):
            assert world.databases.reap(NOW, running) == []
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert world.databases.reap(NOW, running) == [name]
        assert world.databases.branches() == [mine]
        assert world.databases.reap(NOW, running) == []

    def test_sixteen_at_once_get_sixteen_branches(self, world: World) -> None:
        with ThreadPoolExecutor(16) as pool:
            jobs = [pool.submit(world.databases.acquire, str(n), HOUR, NOW, "me") for n in range(16)]
        branches = [job.result() for job in jobs]
        assert len({b.id for b in branches}) == 16
        if world.stores:
            assert len({b.url for b in branches}) == 16
            assert {world.count(b) for b in branches} == {world.count(None)}

    def test_one_command_asked_for_at_once_gets_one_branch(self, world: World) -> None:
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(world.databases.acquire, "one", HOUR, NOW, "me") for _ in range(8)]
        assert len({job.result().id for job in jobs}) == 1
        assert len(world.databases.branches()) == int(world.stores)

    @staticmethod
    def _needs_a_store(world: World) -> None:
        if not world.stores:
            pytest.skip("this provider stores nothing")
