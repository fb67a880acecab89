"""Twelve workers in four processes over three buckets whose servers fail now and then.

What is checked is what the servers wrote down themselves; the book is only compared with it at the end.
"""

import http.client
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from money_worker import GIVE_UP
from support.size import FULL

from agentq.models.book import Book
from agentq.models.clock import HostClock
from agentq.models.ledger import Ledger

HERE = Path(__file__).parent
SECONDS = 40.0 if FULL else 11.0
MINUTE = 1.0  # s; what a minute is here
COOLDOWN = 1.5
LATE = 0.7  # s from a server's answer until every process acts on it, on a busy machine
STEP = 0.02  # dollars; no request costs more
SPEC_DOLLARS = 0.3
PER_MINUTE = {"a": 4, "b": 6, "c": 200}
PER_DAY = {"b": 40}
PER_MONTH = {"c": 4.0}
WORKERS = "aabcaabcaabc"  # six, three and three
# [from the n-th request on, status (0 hangs), so many probes fail too]
EPISODES = {"a": [[12, 529, 1]], "b": [[9, 0, 0]], "c": [[60, 429, 0], [200, 0, 0]]}


@contextmanager
def serving(seed: int, episodes: list[list[int]]) -> Iterator[int]:
    command = [sys.executable, str(HERE / "money_server.py"), str(seed), json.dumps(episodes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield int(child.stdout.readline())
        finally:
            child.kill()


def ask(port: int) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/")
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def setup(ports: dict[str, int]) -> dict[str, Any]:
    buckets = [
        {"name": name, "servers": [f"http://127.0.0.1:{port}"], "requests_minute": PER_MINUTE[name],
         "requests_day": PER_DAY.get(name, 0), "day_zone": "America/Los_Angeles",
         "dollars_month": PER_MONTH.get(name, 0.0)}
        for name, port in ports.items()
    ]  # fmt: skip
    return {"buckets": buckets, "spec_dollars": SPEC_DOLLARS, "cooldown": COOLDOWN, "minute": MINUTE,
            "workers": WORKERS, "step": STEP}  # fmt: skip


def run_all(folder: Path) -> dict[str, Any]:
    """What the servers wrote down, what the workers waited, and the book."""
    with ExitStack() as stack:
        ports = {name: stack.enter_context(serving(7, EPISODES[name])) for name in EPISODES}
        (folder / "setup.json").write_text(json.dumps(setup(ports)))
        children = [
            subprocess.Popen(
                [
                    sys.executable,
                    str(HERE / "money_worker.py"),
                    str(folder / "book.db"),
                    str(folder / "setup.json"),
                    str(number),
                    str(SECONDS),
                ],
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(4)
        ]
        said = [child.communicate(timeout=SECONDS + 90)[0] for child in children]
        assert [child.returncode for child in children] == [0] * 4
        records = {name: ask(port) for name, port in ports.items()}
    answers = [json.loads(one) for one in said]
    waits = defaultdict(list)
    for bucket, seconds in (wait for answer in answers for wait in answer[0]):
        waits[bucket].append(seconds)
    stops = {stop for answer in answers for stop in answer[1]}
    return {"records": records, "waits": waits, "stops": stops, "book": folder / "book.db"}


def no_bucket_exceeds_a_limit_by_one_request(run: dict[str, Any]) -> None:
    for name, record in run["records"].items():
        times = sorted(one["arrived"] for one in record)
        most = max(sum(end - MINUTE < at <= end for at in times) for end in times)
        print(f"bucket {name}: {len(times)} requests, at most {most} of {PER_MINUTE[name]} in any sliding minute")
        assert most <= PER_MINUTE[name]
        assert len(times) <= PER_DAY.get(name, len(times))
    assert len(run["records"]["b"]) == PER_DAY["b"], "the limit of the day was reached"
    times = sorted(one["arrived"] for one in run["records"]["a"])
    assert max(sum(end - MINUTE < at <= end for at in times) for end in times) == PER_MINUTE["a"], (
        "and the minute's"
    )


def no_breaker_probes_twice(run: dict[str, Any]) -> None:
    for name, record in run["records"].items():
        probes = sorted((one for one in record if one["probe"] == "1"), key=lambda one: one["arrived"])
        print(f"bucket {name}: {len(probes)} probes, {[one['status'] for one in probes]}")
        assert probes and len({one["turn"] for one in probes}) == len(probes)
        for one, after in pairwise(probes):
            assert one["ended"] is not None and one["ended"] < after["arrived"], "two probes at once"
    assert 529 in [one["status"] for one in run["records"]["a"] if one["probe"] == "1"], "no probe failed"


def no_breaker_misses_an_opening(run: dict[str, Any]) -> None:
    """After two failures in a row, with no answer close to them, nobody is let in until the time is over."""
    total = 0
    for name, record in run["records"].items():
        found = 0
        for one, other in _failures_in_a_row(record):
            since = _over(other)
            # A request that was under way when it opened was let in before.
            begin, end = since + LATE, _over(one) + COOLDOWN - 0.1
            early = [at["arrived"] - since for at in record if begin < at["arrived"] < end]
            assert not early, f"{name}: {one} {other} and then after {early} s"
            found += 1
        print(f"bucket {name}: {found} pairs of failures, each followed by {COOLDOWN} s of quiet")
        total += found
    assert total >= 3


def _over(one: dict[str, Any]) -> float:
    """When the client knew how a request ended."""
    return one["arrived"] + GIVE_UP if one["status"] == 0 else one["ended"]  # type: ignore[no-any-return]


def _failures_in_a_row(record: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    turns = defaultdict(list)
    for one in record:
        if one["probe"] == "0" and (one["status"] == 0 or one["ended"] is not None):
            turns[one["turn"]].append(one)
    for ended in turns.values():
        ended.sort(key=_over)
        good = [_over(one) for one in ended if one["status"] == 200]
        for one, other in pairwise(ended):
            close = any(_over(one) - 0.02 <= at <= _over(other) + 0.02 for at in good)
            if one["status"] != 200 and other["status"] != 200 and not close:
                yield one, other
                break  # what else was under way failed after it had opened


def no_budget_is_overspent(run: dict[str, Any]) -> None:
    specs: dict[str, float] = defaultdict(float)
    for record in run["records"].values():
        for one in record:
            specs[one["spec"]] += one["cost"]
    full = [total for total in specs.values() if total > SPEC_DOLLARS - STEP]
    most, month = max(specs.values()), sum(one["cost"] for one in run["records"]["c"])
    print(f"{len(specs)} specs, {len(full)} used up; the dearest ${most:.3f} of ${SPEC_DOLLARS}; bucket c ${month:.3f}"
          f" of ${PER_MONTH['c']}; stops: {sorted(run['stops'])[:4]}")  # fmt: skip
    assert most <= SPEC_DOLLARS + 1e-9 and month <= PER_MONTH["c"] + 1e-9
    assert full, "no budget was used up"


def the_book_says_what_the_servers_say(run: dict[str, Any]) -> None:
    with Book(run["book"], HostClock()) as book:
        with book.read() as page:
            entered = dict(page.run("SELECT request, nano FROM spent").fetchall())
            left = page.one("SELECT (SELECT COUNT(*) FROM reserved), (SELECT COUNT(*) FROM seats)")
        assert book.problems() == []
        total = sum(one.dollars for one in Ledger(book).sums("spec"))
    good = {one["id"]: one["cost"] for record in run["records"].values() for one in record if one["status"] == 200}
    # An answer may come when its client has given up, on a very busy machine.
    assert set(entered) <= set(good) and len(good) - len(entered) <= 2
    assert all(round(good[name] * 1e9) == cost for name, cost in entered.items())
    assert total == pytest.approx(sum(cost for cost in entered.values()) / 1e9)
    assert left == (0, 0), "every reservation and every seat is given back"


def load_on_one_bucket_does_not_delay_another(run: dict[str, Any]) -> None:
    waits = {name: median(found) for name, found in sorted(run["waits"].items())}
    print("median wait: " + ", ".join(f"{name} {1000 * wait:.1f} ms" for name, wait in waits.items()))
    assert waits["a"] > 0.1, "six workers share four requests a minute"
    assert waits["c"] < waits["a"] / 4, "three workers with room for all"


def nobody_starves_where_many_wait(run: dict[str, Any]) -> None:
    served = Counter(one["worker"] for one in run["records"]["a"])
    longest = max(run["waits"]["a"])
    print(f"bucket a: {sorted(served.values())} requests by worker; the longest wait {longest:.1f} minutes")
    assert len(served) == WORKERS.count("a") and longest < 4 * MINUTE, "six wait for four places a minute"


def test_twelve_workers_in_four_processes(tmp_path: Path) -> None:
    """One run and many questions: as one test, it runs once however tests are spread over processes."""
    run = run_all(tmp_path)
    for check in (
        no_bucket_exceeds_a_limit_by_one_request,
        no_breaker_probes_twice,
        no_breaker_misses_an_opening,
        no_budget_is_overspent,
        the_book_says_what_the_servers_say,
        load_on_one_bucket_does_not_delay_another,
        nobody_starves_where_many_wait,
    ):
        check(run)
