"""Three workers in one process: `python money_worker.py BOOK SETUP NUMBER SECONDS`; see test_twelve_workers.py.

Each works on one bucket: reserve for a spec, then request after request, until the spec's budget is used up; then on
the next spec. Prints JSON: [[bucket, seconds from asking to sending], …] and the reasons for which it stopped.
"""

import http.client
import json
import os
import sys
import threading
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

from agentq import process
from agentq.core.breaker import Rules
from agentq.core.budget import Budgets, Denied
from agentq.core.models import Bucket, Tier
from agentq.core.usage import Price, Usage
from agentq.models.book import Book
from agentq.models.breakers import Breakers, Shut
from agentq.models.buckets import Asleep, Buckets, Wait
from agentq.models.clock import HostClock
from agentq.models.gate import Entry, Gate
from agentq.models.ledger import Ledger, Reservation, Want

GIVE_UP = 1.5  # s
CAUSES = {200: "", 429: "rate-limit", 529: "overloaded", 500: "overloaded"}


class Worker:
    def __init__(self, setup: dict[str, object], book: Book, number: int, seconds: float) -> None:
        buckets = {one["name"]: Bucket(**{**one, "servers": tuple(one["servers"])}) for one in setup["buckets"]}  # type: ignore[attr-defined]
        self.ledger = Ledger(book, Budgets(setup["spec_dollars"], type_tokens={}), buckets)  # type: ignore[arg-type]
        rules = Rules(cooldown=setup["cooldown"], probe=30)  # type: ignore[arg-type]
        doors = Buckets(book, buckets, minute=setup["minute"], cooldown=0.1)  # type: ignore[arg-type]
        self.gate = Gate(doors, Breakers(book, rules))
        name = setup["workers"][number]  # type: ignore[index]
        self.tier, self.number, self.seconds = Tier(f"tier-{name}", name, "model"), number, seconds
        self.step = float(setup["step"])  # type: ignore[arg-type]
        self.owner = process.identity(os.getpid()) or ""
        self.waits: list[tuple[str, float]] = []
        self.stops: list[str] = []

    def work(self) -> None:
        end, turn = time.monotonic() + self.seconds, 0
        while time.monotonic() < end:
            # Three workers share a spec, and so its budget.
            spec = f"s{self.number % 4}-{turn}"
            want = Want("repo", spec, "implementation", "implement", self.tier.bucket, self.tier.name, self.owner,
                        dollars=self.step, step=self.step)  # fmt: skip
            made = self.ledger.reserve(want)
            if isinstance(made, Denied):
                self.stops.append(f"reserve: {made.line.title}")
                if made.line.scope == "bucket":
                    time.sleep(0.1)
                else:
                    turn += 1
                continue
            try:
                self.run(made, end)
            finally:
                self.ledger.settle(made)
            turn += 1

    def run(self, made: Reservation, end: float) -> None:
        asked = time.monotonic()
        while time.monotonic() < end:
            entry = self.gate.enter(self.tier, self.owner)
            if isinstance(entry, Wait | Shut):
                time.sleep(min(entry.seconds, max(0.0, end - time.monotonic())) + 0.001)
                if isinstance(entry, Shut):
                    asked = time.monotonic()  # what a breaker takes is no wait for a place
                continue
            if isinstance(entry, Asleep):
                self.stops.append(f"enter: {entry.reason}")
                time.sleep(0.1)
                return
            self.waits.append((self.tier.bucket, time.monotonic() - asked))
            left = self.request(entry, made)
            asked = time.monotonic()
            if left is not None:
                self.stops.append(f"charge: {left.line.title}")
                return

    def request(self, entry: Entry, made: Reservation) -> Denied | None:
        cause, stop, name = "network", None, uuid.uuid4().hex
        try:
            status, cost = self.post(entry, made.want.spec, name)
            cause = CAUSES[status]
            if not cause:
                seat = entry.seat
                stop = self.ledger.charge(made, Usage(1), Price(), request=name, seat=seat, dollars=cost).stop
        except OSError:
            pass
        finally:
            self.gate.leave(entry, cause)
        return stop

    def post(self, entry: Entry, spec: str, name: str) -> tuple[int, float]:
        where = urlsplit(entry.seat.server)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=GIVE_UP)
        try:
            headers = {"id": name, "spec": spec, "turn": str(entry.given.turn), "worker": str(self.number),
                       "probe": str(int(entry.probe))}  # fmt: skip
            connection.request("POST", "/", headers=headers)
            answer = connection.getresponse()
            return answer.status, float(json.loads(answer.read())["cost"])
        finally:
            connection.close()


def main() -> None:
    setup, number, seconds = json.loads(Path(sys.argv[2]).read_text()), int(sys.argv[3]), float(sys.argv[4])
    with Book(Path(sys.argv[1]), HostClock()) as book:
        workers = [Worker(setup, book, 3 * number + one, seconds) for one in range(3)]
        threads = [threading.Thread(target=worker.work) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    waits = [wait for worker in workers for wait in worker.waits]
    print(json.dumps([waits, [stop for worker in workers for stop in worker.stops]]))


if __name__ == "__main__":
    main()
