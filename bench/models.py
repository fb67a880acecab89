"""Microseconds of one step in the book that all processes of a host share, by one process and by four at once.

The book is that of a busy week: 20,000 charges. `python -m bench.models KIND BOOK PROCESSES SECONDS` is one
measurement, in a program that has one thread when it forks; it prints JSON like bench.contend.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentq import process
from agentq.core.budget import Budgets
from agentq.core.models import Bucket, Tier
from agentq.core.usage import Price, Usage
from agentq.models.book import Book
from agentq.models.breakers import Breakers
from agentq.models.buckets import Buckets, Go
from agentq.models.clock import HostClock
from agentq.models.gate import Entry, Gate
from agentq.models.ledger import Ledger, Reservation, Want
from bench import ROOT
from bench.contend import _answer
from bench.report import Row

PROCESSES = (1, 4)
SECONDS, CHARGES = 2.0, 20_000
KINDS = {
    "admit": "admit a request and leave",
    "enter": "the same through its tier's breaker",
    "reserve": "reserve and settle",
    "charge": "charge, on the disk",
}
_ROOMY = Bucket("b", "anthropic", ("http://one", "http://two"), "", 10**9, 10**12, 10**9, "America/Los_Angeles",
                10**12, 10**12, 1e9)  # fmt: skip


def section(
    folder: Path, processes: Sequence[int] = PROCESSES, seconds: float = SECONDS, charges: int = CHARGES
) -> list[Row]:
    path = folder / "book.db"
    with Book(path, HostClock()) as book:
        _fill(book, charges)
    rows = []
    for kind, name in KINDS.items():
        for count in processes:
            answers = _measured(kind, path, count, seconds)
            micros = [1e6 * (ended - began) / done for done, _, began, ended in answers]
            total = sum(done for done, *_ in answers) / (max(a[3] for a in answers) - min(a[2] for a in answers))
            longest = max(1000 * answer[1] for answer in answers)
            details = (f"{total:.0f} a second in all; the longest took {longest:.1f} ms",)
            title = f"{name}, {count} process{'es' if count > 1 else ''}"
            row = Row(title, sum(micros) / len(micros), unit="µs", details=details, raw={"micros": micros})
            rows.append(row)
    return rows


def _fill(book: Book, charges: int) -> None:
    ledger = Ledger(book, Budgets(type_tokens={}), {"b": _ROOMY})
    made = _reserved(ledger, "filler")
    for number in range(0, charges, 500):
        # Many at once: what is measured are steps in a large book, not how it became large.
        with book.write() as page:
            row = (page.now.at - charges + number, "2026-01-01T00:00:00.000+00:00", made.id, "repo", "s", "type",
                   "stage", "b", "t", "model", "", 1, 10, 10, 10, 10, 1, 1000)  # fmt: skip
            page.run("INSERT OR IGNORE INTO prices (id, price) VALUES (1, '{}')")
            columns = ("at, wall, run, repo, spec, type, stage, bucket, tier, model, request, price, input,"
                       " output, cache_read, cache_write, requests, nano")  # fmt: skip
            for one in range(min(500, charges - number)):
                at = row[0] + one
                page.run(f"INSERT INTO spent ({columns}) VALUES ({', '.join('?' * 18)})", at, *row[1:])
                for key in ("bucket\nb", "repo\nrepo", "spec\nrepo\ns"):
                    sums = (number + one + 1, 30 * (number + one + 1), 1000 * (number + one + 1))
                    page.run("INSERT INTO tally VALUES (?, ?, ?, ?, ?)", key, at, *sums)
    ledger.settle(made)


def _reserved(ledger: Ledger, owner: str) -> Reservation:
    made = ledger.reserve(Want("repo", "s", "implementation", "implement", "b", "t", owner, dollars=0.1))
    assert isinstance(made, Reservation)
    return made


def step(kind: str, book: Book) -> Callable[[], None]:
    """One step of `kind`, to be repeated."""
    owner = process.identity(os.getpid()) or ""
    ledger = Ledger(book, Budgets(1e9, 1e9, type_tokens={}), {"b": _ROOMY})
    buckets = Buckets(book, {"b": _ROOMY})
    gate, tier, usage, price = Gate(buckets, Breakers(book)), Tier("t", "b", "m"), Usage(900, 100), Price(4, 20)

    def admit() -> None:
        answer = buckets.admit("b", owner)
        assert isinstance(answer, Go)
        buckets.leave(answer.seat)

    def enter() -> None:
        entry = gate.enter(tier, owner)
        assert isinstance(entry, Entry)
        gate.leave(entry)

    def reserve() -> None:
        ledger.settle(_reserved(ledger, owner))

    made = _reserved(ledger, owner)

    def charge() -> None:
        assert ledger.charge(made, usage, price).stop is None

    return {"admit": admit, "enter": enter, "reserve": reserve, "charge": charge}[kind]


def work(kind: str, path: Path, seconds: float, ready: Any, answers: Any) -> None:
    with Book(path, HostClock()) as book:
        act = step(kind, book)
        ready.wait()
        done, longest, start = 0, 0.0, time.monotonic()
        while (began := time.monotonic()) < start + seconds:
            act()
            done += 1
            longest = max(longest, time.monotonic() - began)
        answers.put((done, longest, start, time.monotonic()))


def _measured(kind: str, path: Path, count: int, seconds: float) -> list[Any]:
    command = [sys.executable, "-m", "bench.models", kind, str(path), str(count), str(seconds)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=seconds + 200)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def main() -> None:
    kind, path, count, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    context = multiprocessing.get_context("fork")
    ready, answers = context.Barrier(count), context.Queue()
    children = [context.Process(target=work, args=(kind, path, seconds, ready, answers)) for _ in range(count)]
    for child in children:
        child.start()
    found = [_answer(answers, children) for _ in children]
    for child in children:
        child.join()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
