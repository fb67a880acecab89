"""Processes that die, and disks that fail, at any point: nothing is lost, doubled or held for ever."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from money_world import myself
from support.size import FULL

from agentq.core.breaker import Pass, Rules
from agentq.core.budget import NANO, Budgets, nano
from agentq.core.models import Bucket, Tier
from agentq.models import tally
from agentq.models.book import Book
from agentq.models.breakers import Breakers, Shut
from agentq.models.buckets import Buckets, Go
from agentq.models.clock import HostClock
from agentq.models.gate import Entry, Gate
from agentq.models.ledger import Ledger, Reservation, Want

KILLS = 60 if FULL else 14
LIMIT, COST = 1000.0, 0.37

# Each charge is announced before it and confirmed after it, in a file that survives the process.
SPEND = """
import os, sys, uuid
from pathlib import Path
from agentq import process
from agentq.core.budget import Budgets
from agentq.core.models import Bucket
from agentq.core.usage import Price, Usage
from agentq.models.book import Book
from agentq.models.buckets import Buckets
from agentq.models.clock import HostClock
from agentq.models.ledger import Ledger, Want
book, me = Book(Path(sys.argv[1]), HostClock()), process.identity(os.getpid())
buckets = {"a": Bucket("a", requests_minute=1000000, servers=("http://one", "http://two"))}
ledger, doors = Ledger(book, Budgets(spec_dollars=1000, type_tokens={}), buckets), Buckets(book, buckets)
log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
while True:
    made = ledger.reserve(Want("repo", "014", "scan", "test", "a", "t", me, dollars=5))
    for _ in range(3):
        seat, name = doors.admit("a", me).seat, uuid.uuid4().hex
        os.write(log, f"+ {name}\\n".encode())
        ledger.charge(made, Usage(7), Price(), request=name, seat=seat, dollars=0.37)
        os.write(log, f"= {name}\\n".encode())
        doors.leave(seat)
    ledger.settle(made)
"""


def test_a_killed_process_loses_and_doubles_nothing(tmp_path: Path) -> None:
    path, log, dice = tmp_path / "book.db", tmp_path / "log", random.Random(1)

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", SPEND, str(path), str(log)])

    children = [start() for _ in range(3)]
    try:
        while not log.exists() or log.stat().st_size < 5000:
            time.sleep(0.05)
        for _ in range(KILLS):
            time.sleep(dice.uniform(0.0, 0.25))
            victim = children.pop(0)
            victim.send_signal(signal.SIGKILL)
            victim.wait()
            children.append(start())
    finally:
        for child in children:
            child.kill()
            child.wait()
    lines = log.read_text().split("\n")
    announced, confirmed = ({line[2:] for line in lines if line[:1] == mark} for mark in "+=")
    with Book(path, HostClock()) as book:
        assert book.problems() == []
        ledger = Ledger(book, Budgets(spec_dollars=LIMIT, type_tokens={}), {"a": Bucket("a")})
        with book.read() as page:
            entered = [row[0] for row in page.run("SELECT request FROM spent").fetchall()]
            used = tally.used(page, tally.spec_key("repo", "014"))
        assert len(entered) == len(set(entered)) and confirmed <= set(entered) <= announced
        assert used == (len(entered), 7 * len(entered), len(entered) * nano(COST))
        assert round(ledger.total("repo", "014").dollars * NANO) == used.nano
        (line,) = [line for line in ledger.lines("repo") if line.scope == "spec"] or [None]
        assert line is None, "the dead hold nothing"
        assert ledger.release_dead() == 0 and Buckets(book).loads("a") == {}
        free = LIMIT - used.nano / NANO
        assert isinstance(
            ledger.reserve(Want("repo", "014", "x", "test", "a", "t", myself(), dollars=free)), Reservation
        )
    print(f"{KILLS} kills, {len(entered)} charges, {len(announced) - len(confirmed)} cut off on the way,"
          f" {len(set(entered) - confirmed)} of those entered")  # fmt: skip


PROBE = """
import os, sys, time
from pathlib import Path
from agentq import process
from agentq.core.breaker import Rules
from agentq.models.book import Book
from agentq.models.breakers import Breakers
from agentq.models.clock import HostClock
me = process.identity(os.getpid())
print(Breakers(Book(Path(sys.argv[1]), HostClock()), Rules(cooldown=0.01)).enter("t", me).probe, flush=True)
time.sleep(60)
"""


def test_a_prober_that_is_killed_frees_the_probe(tmp_path: Path) -> None:
    with Book(tmp_path / "book.db", HostClock()) as book:
        breakers, me = Breakers(book, Rules(cooldown=0.01)), myself()
        for _ in range(2):
            given = breakers.enter("t", me)
            assert isinstance(given, Pass)
            breakers.leave("t", given, "network")
        time.sleep(0.02)
        child = subprocess.Popen([sys.executable, "-c", PROBE, str(book.path)], stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None and child.stdout.readline() == "True\n"
            shut = breakers.enter("t", me)
            assert isinstance(shut, Shut) and shut.seconds < 1, (
                "not until the probe's time is over: it may end well"
            )
            assert [one.probing for one in breakers.shown()] == [True]
        finally:
            child.kill()
            child.communicate()
        assert [one.probing for one in breakers.shown()] == [False]
        given = breakers.enter("t", me)
        assert isinstance(given, Pass) and given.probe


def test_the_gate_uses_no_probe_up_and_counts_no_request_that_does_not_go(tmp_path: Path) -> None:
    with Book(tmp_path / "book.db", HostClock()) as book:
        buckets = Buckets(book, {"a": Bucket("a", requests_minute=3, requests_day=100)}, minute=0.5)
        gate, me, tier = Gate(buckets, Breakers(book, Rules(cooldown=0.05))), myself(), Tier("t", "a", "m")
        for _ in range(2):
            entry = gate.enter(tier, me)
            assert isinstance(entry, Entry)
            gate.leave(entry, "overloaded")
        for _ in range(5):
            assert isinstance(gate.enter(tier, me), Shut)
        with book.read() as page:
            assert tally.used(page, tally.bucket_key("a")).requests == 2
        filler = buckets.admit("a", me)
        assert isinstance(filler, Go)
        time.sleep(0.06)
        assert not isinstance(gate.enter(tier, me), Entry | Shut), "the bucket is full"
        assert [one.state for one in gate.breakers.shown()] == ["open"], "and no probe is used up"
        buckets.leave(filler.seat, sent=False)
        probe = gate.enter(tier, me)
        assert isinstance(probe, Entry) and probe.probe
        gate.leave(probe, "auth")
        assert [one.until for one in buckets.sleeping()] == [None]
        assert [one.state for one in gate.breakers.shown()] == ["half-open"]


# ---------------------------------------------------------------- every write may fail or be the last

CHARGE = """
import os, sys
from pathlib import Path
from agentq import process
from agentq.core.budget import Budgets
from agentq.core.usage import Price, Usage
from agentq.errors import AgentqError
from agentq.models.book import Book
from agentq.models.clock import HostClock
from agentq.models.ledger import Ledger, Want
try:
    with Book(Path(sys.argv[1]), HostClock()) as book:
        ledger, me = Ledger(book, Budgets(spec_dollars=1, type_tokens={})), process.identity(os.getpid())
        made = ledger.reserve(Want("repo", "014", "scan", "test", "a", "t", me, dollars=0.4))
        ledger.charge(made, Usage(7), Price(), request="only", dollars=0.5)
        print("charged", flush=True)
        ledger.settle(made)
except AgentqError as error:
    print(error.message, "|", error.hint)
    sys.exit(1)
"""
CALLS = "write,pwrite64,fsync,fdatasync,ftruncate,link,unlink"
FAULTS = ("signal=SIGKILL", "error=EIO", "error=ENOSPC")


def _traced(folder: Path, path: Path, *inject: str) -> "tuple[subprocess.CompletedProcess[str], str]":
    log = folder / "strace.log"
    command = ["strace", "-f", "-o", str(log), "-y", "-e", f"trace={CALLS}", *inject]
    done = subprocess.run(
        [*command, sys.executable, "-B", "-c", CHARGE, str(path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done, log.read_text()


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    with Book(path, HostClock()) as book, book.write():
        pass
    return path


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_every_write_and_sync_may_fail_or_be_the_last(tmp_path: Path) -> None:
    done, log = _traced(tmp_path, _made(tmp_path / "count" / "book.db"))
    if "ptrace" in done.stderr.lower() or "not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = {}
    for call in re.findall(r"^\d+ +(\w+)\(\d+<[^>]*book\.db", log, re.MULTILINE):
        counts[call] = counts.get(call, 0) + 1
    everything: dict[str, list[bool]] = {}
    for call, ours in re.findall(r"^\d+ +(\w+)\((?:\d+<([^>]*)>)?", log, re.MULTILINE):
        everything.setdefault(call, []).append("book.db" in ours)
    assert counts.get("pwrite64", 0) > 5 and counts.get("fdatasync", 0) >= 1, counts
    places = [(call, n) for call, hits in sorted(everything.items()) for n, ours in enumerate(hits, 1) if ours]
    points = [(call, n, fault) for call, n in places for fault in FAULTS]
    if not FULL:  # every second place, one fault each
        points = [points[6 * place + place % 3] for place in range(len(places) // 2)]
    seen = [
        _one_point(tmp_path / f"{call}-{number}-{fault[-4:]}", call, number, fault)
        for call, number, fault in points
    ]
    print(f"{len(points)} points in {counts}: {json.dumps({one: seen.count(one) for one in sorted(set(seen))})}")


def _one_point(folder: Path, call: str, number: int, fault: str) -> str:
    path = _made(folder / "book.db")
    done, log = _traced(folder, path, "-e", f"inject={call}:{fault}:when={number}")
    assert "INJECTED" in log or "killed by SIGKILL" in log, f"{folder.name}: the fault did not happen"
    said_yes = "charged" in done.stdout
    if done.returncode not in (0, -9, 137):
        assert "book.db" in done.stdout and "|" in done.stdout, f"{folder.name}: no word: {done.stderr}"
    with Book(path, HostClock()) as book:
        assert book.problems() == [], folder.name
        before = round(Ledger(book).total("repo", "014").dollars, 6)
        assert before in ((0.5,) if said_yes else (0, 0.5)), folder.name
    again = subprocess.run(
        [sys.executable, "-B", "-c", CHARGE, str(path)], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, f"{folder.name}: {again.stdout}{again.stderr}"
    with Book(path, HostClock()) as book:
        ledger = Ledger(book, Budgets(spec_dollars=1, type_tokens={}))
        assert ledger.total("repo", "014").dollars == 0.5, folder.name
        assert [line for line in ledger.lines("repo") if line.scope == "spec"] == [], folder.name
    return f"{fault}: {'entered' if before else 'not entered'}"


def test_a_full_disk_says_so_and_admits_nobody(tmp_path: Path) -> None:
    """A file system of 1 MB, where this host lets one be made."""
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True, check=False
    ) if os.geteuid() == 0 and shutil.which("mount") else None  # fmt: skip
    if done is None or done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        code = CHARGE.replace('"only"', "str(n)").replace("dollars=0.5)", "dollars=0.0001)")
        code = code.replace("        ledger.charge(", "        for n in range(5000): ledger.charge(")
        done = subprocess.run(
            [sys.executable, "-c", code, str(mount / "book.db")],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 1 and "the disk is full" in done.stdout and "free some space" in done.stdout
        moved = shutil.copytree(mount, tmp_path / "moved")
        with Book(moved / "book.db", HostClock()) as book:
            assert book.problems() == []
            total = Ledger(book).total("repo", "014")
            assert total.requests > 10 and total.dollars == pytest.approx(total.requests / 10_000)
    finally:
        subprocess.run(["umount", str(mount)], check=True)
