"""The built-in agent asks its bucket and breaker before each request, and charges each answer."""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_harness import MODEL, World, world
from support.messages_stub import MessagesStub, Reply, always, fail, in_order, say, use

from agentq import process
from agentq.agent import api
from agentq.core.breaker import Rules
from agentq.core.budget import Budgets
from agentq.core.models import Bucket, Tier
from agentq.core.usage import Price, Usage
from agentq.models.account import handed
from agentq.models.book import Book
from agentq.models.breakers import Breakers
from agentq.models.buckets import Buckets
from agentq.models.clock import HostClock
from agentq.models.ledger import Ledger, Reservation, Want

TIER = Tier("only", "here", MODEL, Price(input=10.0, output=0.0))
COST = Usage(input=1000)  # 0.01 US dollars
LOOK = use("bash", {"command": "true"}, usage=COST)
DONE = say("It is done.", usage=COST)


class Desk:
    """A book with one bucket and one open run."""

    def __init__(self, root: Path, bucket: Bucket, budgets: Budgets | None = None) -> None:
        self.path, self.bucket, self.budgets = root / "book.sqlite", bucket, budgets or Budgets(type_tokens={})
        self.book = Book(self.path, HostClock())
        known: Mapping[str, Bucket] = {bucket.name: bucket}
        self.ledger, self.buckets = Ledger(self.book, self.budgets, known), Buckets(self.book, known)
        self.breakers = Breakers(self.book, Rules(2, 60))
        want = Want("repo", "csv-import", "implementation", "implement", "here", "only", self.owner)
        made = self.ledger.reserve(want)
        assert isinstance(made, Reservation)
        self.reservation = made

    owner = process.identity(os.getpid()) or ""

    @property
    def account(self) -> str:
        return handed(self.path, TIER, self.bucket, self.budgets, Rules(2, 60), self.reservation)

    def work(self, here: World, stub: MessagesStub | None, **job: Any) -> dict[str, Any]:
        if stub is None:
            with MessagesStub(always(fail(500, message="nobody is asked here"))) as nobody:
                return here.work(nobody, account=self.account, **job)
        return here.work(stub, account=self.account, **job)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(api, "FIRST_DELAY", 0.01)
    return world(tmp_path)


def test_each_answer_is_charged_once_with_its_tokens(here: World, tmp_path: Path) -> None:
    desk = Desk(tmp_path, Bucket("here"))
    with MessagesStub(in_order([LOOK, LOOK, DONE])) as stub:
        told = desk.work(here, stub)
    assert told["outcome"] == "done"
    (row,) = desk.ledger.sums("model")
    assert (row.name, row.requests, row.usage, round(row.dollars, 6)) == (MODEL, 3, Usage(input=3000), 0.03)
    assert desk.buckets.loads("here") == {}, "no place is left taken"


def test_the_servers_of_a_bucket_share_the_requests(here: World, tmp_path: Path) -> None:
    """Row S6: two runs at once over two servers; each gets what is the least busy one's."""
    turns = [LOOK] * 5 + [DONE]

    def slowly(replies: list[Reply]) -> Any:
        script = in_order(replies)
        return lambda request: (time.sleep(0.05), script(request))[1]

    with MessagesStub(slowly(turns * 2)) as one, MessagesStub(slowly(turns * 2)) as two:
        desk = Desk(tmp_path, Bucket("here", servers=(one.url, two.url)))
        other = world(tmp_path / "other")
        told: list[str] = []
        runs = [
            threading.Thread(target=lambda place=place: told.append(desk.work(place, None)["outcome"]))
            for place in (here, other)
        ]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        asked = (len(one.asked), len(two.asked))
    assert told == ["done", "done"] and min(asked) >= 3, asked


def test_a_server_that_is_gone_is_left_out(here: World, tmp_path: Path) -> None:
    with MessagesStub(in_order([LOOK] * 4 + [DONE])) as stub:
        desk = Desk(tmp_path, Bucket("here", servers=("http://127.0.0.1:9", stub.url)))
        told = desk.work(here, None, retries=3)
    assert told["outcome"] == "done" and len(here.of("retry")) <= 1


def test_a_budget_ends_it_after_the_answer_that_uses_it_up(here: World, tmp_path: Path) -> None:
    desk = Desk(tmp_path, Bucket("here"), Budgets(spec_dollars=0.03, type_tokens={}))
    with MessagesStub(always(LOOK)) as stub:
        told = desk.work(here, stub)
        assert len(stub.asked) == 3
    assert (told["outcome"], told["cause"]) == ("limit", "budget") and "over budget: spec csv-import" in told[
        "summary"
    ]
    assert desk.ledger.total("repo", "csv-import").dollars == pytest.approx(0.03)


def test_two_failures_open_the_breaker_and_nobody_is_asked_again(here: World, tmp_path: Path) -> None:
    desk = Desk(tmp_path, Bucket("here"))
    with MessagesStub(always(fail(529))) as stub:
        told = desk.work(here, stub, retries=5)
        assert len(stub.requests) == 2
    assert (told["outcome"], told["cause"]) == ("failed", "overloaded")
    (shown,) = desk.breakers.shown()
    assert (shown.tier, shown.state, shown.failures) == ("only", "open", 2)
    with MessagesStub(always(DONE)) as stub:
        told = desk.work(here, stub)
        assert stub.requests == []
    assert told["cause"] == "overloaded" and "the breaker of only is open" in told["summary"]


def test_a_usage_limit_puts_the_bucket_to_sleep_for_all(here: World, tmp_path: Path) -> None:
    desk = Desk(tmp_path, Bucket("here"))
    resets = int(time.time()) + 500
    limit = fail(429, message=f"Claude AI usage limit reached|{resets}")
    with MessagesStub(always(limit)) as stub:
        told = desk.work(here, stub)
    assert (told["cause"], told["resets_at"]) == ("usage-limit", resets)
    (asleep,) = desk.buckets.sleeping()
    assert asleep.until is not None and abs(asleep.until.timestamp() - resets) < 2
    with MessagesStub(always(DONE)) as stub:
        told = desk.work(here, stub)
        assert stub.requests == []
    assert told["cause"] == "usage-limit" and abs(told["resets_at"] - resets) < 2


def test_a_request_that_is_wrong_speaks_for_nobody(here: World, tmp_path: Path) -> None:
    desk = Desk(tmp_path, Bucket("here"))
    with MessagesStub(in_order([fail(529), fail(400)])) as stub:
        told = desk.work(here, stub, retries=1)
    assert told["cause"] == "request"
    (shown,) = desk.breakers.shown()
    assert (shown.state, shown.failures) == ("closed", 1)


def test_a_full_minute_is_waited_for_but_not_beyond_the_time(here: World, tmp_path: Path) -> None:
    desk = Desk(tmp_path, Bucket("here", requests_minute=2))
    with MessagesStub(always(LOOK)) as stub:
        told = desk.work(here, stub, seconds=3)
        assert len(stub.asked) == 2
    assert told["outcome"] == "timeout"


def test_an_account_holds_no_secret(tmp_path: Path) -> None:
    desk = Desk(tmp_path, replace(Bucket("here"), key_env="MY_KEY"))
    assert "MY_KEY" in desk.account and os.environ.get("MY_KEY") is None
