"""A run's account, as it is handed to an agent that asks for leave before each of its own requests (row N2).

The agent is a process of its own; all it needs is in one JSON text without secrets. Invariant: between `enter` and
`leave` exactly one request is sent, to the server that `enter` named.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agentq import process
from agentq.core.breaker import Rules
from agentq.core.budget import Budgets, Denied
from agentq.core.models import Bucket, Tier
from agentq.core.usage import Price, Usage
from agentq.models.book import Book
from agentq.models.breakers import Breakers, Shut
from agentq.models.buckets import Asleep, Buckets
from agentq.models.clock import HostClock
from agentq.models.gate import Entry, Gate
from agentq.models.ledger import Ledger, Reservation, Want

PAUSE = 1.0  # s between looks while a limit of a minute is full


def handed(
    book: Path, tier: Tier, bucket: Bucket, budgets: Budgets, rules: Rules, reservation: Reservation
) -> str:
    """The account of one run, for `Account`."""
    return json.dumps({
        "book": str(book), "tier": asdict(tier), "bucket": asdict(bucket), "rules": asdict(rules),
        "budgets": asdict(replace(budgets, type_tokens=dict(budgets.type_tokens))),
        "reservation": {"id": reservation.id, "tokens": reservation.tokens, "want": asdict(reservation.want)},
    })  # fmt: skip


class Account:
    """Raises ValueError, KeyError or TypeError for a text that `handed` did not make; StoreError when the book
    cannot be read or written. sleep: seconds."""

    def __init__(self, text: str, sleep: Callable[[float], None] = time.sleep) -> None:
        told: dict[str, Any] = json.loads(text)
        row, made = told["tier"], told["reservation"]
        self.tier = Tier(**{**row, "price": Price(**row["price"])})
        bucket = Bucket(**{**told["bucket"], "servers": tuple(told["bucket"]["servers"])})
        book, self._sleep = Book(Path(told["book"]), HostClock()), sleep
        self._gate = Gate(Buckets(book, {bucket.name: bucket}), Breakers(book, Rules(**told["rules"])))
        self._ledger = Ledger(book, Budgets(**told["budgets"]), {bucket.name: bucket})
        self._reservation = Reservation(made["id"], Want(**made["want"]), made["tokens"])
        self._owner = process.identity(os.getpid()) or ""

    def enter(self, tokens: int, left: Callable[[], float]) -> Entry | Asleep | Shut | None:
        """Leave for one request; None when `left()`, in seconds, is over before there is room in the minute."""
        while True:
            found = self._gate.enter(self.tier, self._owner, tokens)
            if isinstance(found, Entry | Asleep | Shut):
                return found
            pause = min(found.seconds, PAUSE)
            if left() <= pause:
                return None
            self._sleep(pause)

    def charge(self, entry: Entry, usage: Usage, model: str, request: str = "") -> Denied | None:
        """Enter an answer at once; the limit that ends the run now, if there is one."""
        price = self.tier.price
        return self._ledger.charge(
            self._reservation, usage, price, model=model, request=request, seat=entry.seat
        ).stop

    def leave(self, entry: Entry, cause: str = "", *, resets_at: float = 0, retry_after: float = 0) -> None:
        self._gate.leave(entry, cause, resets_at=resets_at, retry_after=retry_after)
