"""The file: made once, never taken for empty, and a line of time that clocks cannot bend."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from money_world import HandClock, World

from agentq.errors import StoreError
from agentq.models.book import Book
from agentq.models.clock import HostClock

ADD = """
import sys
from pathlib import Path
from agentq.models import tally
from agentq.models.book import Book
from agentq.models.clock import HostClock
book = Book(Path(sys.argv[1]), HostClock())
for _ in range(int(sys.argv[2])):
    with book.write() as page:
        tally.add(page, "k", 1, 0, 0)
"""


def count(path: Path) -> int:
    from agentq.models import tally

    with Book(path, HostClock()) as book, book.read() as page:
        return tally.used(page, "k").requests


def add(path: Path, times: int = 1) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", ADD, str(path), str(times)])


def test_many_processes_make_one_book_and_lose_no_change(tmp_path: Path) -> None:
    path = tmp_path / "state" / "book.db"
    children = [add(path, 30) for _ in range(6)]
    assert [child.wait(60) for child in children] == [0] * 6
    assert count(path) == 180
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {one.name for one in path.parent.iterdir()} <= {"book.db", "book.db-wal", "book.db-shm"}


def _other_program(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()


def _newer(path: Path) -> None:
    with Book(path, HostClock()) as book, book.write():
        pass
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def _cut(path: Path) -> None:
    with Book(path, HostClock()) as book, book.write():
        pass
    os.truncate(path, 5000)


def _torn(path: Path) -> None:
    """A page in the middle is gone; its header is fine."""
    with Book(path, HostClock()) as book, book.write():
        pass
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("no database at all\n" * 400), "cannot be read"),
    "empty": (lambda path: path.touch(), "is not agentq's book"),
    "other": (_other_program, "is not agentq's book"),
    "newer": (_newer, "has version 99"),
    "cut": (_cut, "cannot be read"),
    "torn": (_torn, "cannot be read"),
    "folder": (lambda path: path.mkdir(), ""),
    "log": (lambda path: path.with_name("book.db-wal").write_bytes(b"x" * 5000), "is gone, but its -wal is there"),
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_what_cannot_be_read_is_never_taken_for_empty(tmp_path: Path, kind: str) -> None:
    make, said = BAD[kind]
    path = tmp_path / "book.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    for _ in range(2):
        with pytest.raises(StoreError) as caught, Book(path, HostClock()) as book, book.write():
            pass
        assert said in caught.value.message and str(path) in caught.value.message and caught.value.hint
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_book_that_is_replaced_while_it_is_open_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    with Book(path, HostClock()) as book:
        with book.write():
            pass
        path.rename(tmp_path / "moved.db")
        with pytest.raises(StoreError, match="was replaced"), book.write():
            pass


def test_a_change_that_raises_changes_nothing(tmp_path: Path) -> None:
    from agentq.models import tally

    path = tmp_path / "book.db"
    with Book(path, HostClock()) as book:
        with pytest.raises(ZeroDivisionError), book.write() as page:
            tally.add(page, "k", 1, 0, 0)
            raise ZeroDivisionError
        with book.write() as page:
            tally.add(page, "k", 1, 0, 0)
    assert count(path) == 1


def test_a_busy_book_says_so(tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    with Book(path, HostClock()) as one, Book(path, HostClock(), busy=0.05) as other, one.write():
        with pytest.raises(StoreError) as caught, other.write():
            pass
        assert caught.value.retryable and "locked" in caught.value.message
        with other.read():
            pass


FORK = """
import os
for again in (book, Book(book.path, HostClock())):
    child = os.fork()
    if not child:
        try:
            with again.write() as page:
                pass
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
with book.write() as page:
    tally.add(page, "k", 1, 0, 0)
"""


def test_a_book_is_not_used_across_a_fork(tmp_path: Path) -> None:
    """SQLite would take the parent's locks for its own."""
    path = tmp_path / "book.db"
    subprocess.run([sys.executable, "-c", ADD + FORK, str(path), "1"], check=True, timeout=60)
    assert count(path) == 2


def test_the_whole_file_can_be_checked(tmp_path: Path) -> None:
    path = tmp_path / "book.db"
    subprocess.run([sys.executable, "-c", ADD, str(path), "5"], check=True, timeout=60)
    with Book(path, HostClock()) as book:
        assert book.problems() == []


STEPS = st.lists(
    st.tuples(st.sampled_from(["go", "set", "restart"]), st.floats(-1e7, 1e7, allow_nan=False)), max_size=25
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_the_line_of_time_follows_what_passed_whatever_is_set(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, float]]
) -> None:
    world = World(tmp_path_factory.mktemp("time"))
    clock: HandClock = world.clock
    with world.book:
        with world.book.write() as page:
            last = page.now.at
        told = clock.wall
        for kind, amount in steps:
            expected = last
            if kind == "go":
                clock.go(abs(amount) / 100)
                expected = last + abs(amount) / 100
            elif kind == "set":
                clock.set(amount / 10)
            else:
                world.restart(amount)  # what was written down last may be a second old
            with world.book.read() as page:
                looked = page.now.at
            with world.book.write() as page:
                assert page.now.at == looked >= (last - 1 if kind == "restart" else last)
                if kind == "restart":
                    assert looked <= last + max(0.0, (clock.wall - told).total_seconds()) + 1e-3
                else:
                    assert looked == pytest.approx(expected, abs=1e-3)
                last, told = looked, min(told, clock.wall)


def test_a_restart_moves_on_by_the_wall_clock_and_never_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    ats = []
    for seconds in (0, 3600, -86_400, 60):
        world.restart(seconds)
        with world.book.write() as page:
            ats.append(page.now.at)
        world.clock.go(5)
        with world.book.write():
            pass
    assert [round(b - a) for a, b in pairwise(ats)] == [3605, 5, 65]
    world.book.close()
