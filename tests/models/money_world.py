"""A book with a clock that a test sets by hand, and owners that a test lets die."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agentq import process
from agentq.core.budget import Budgets
from agentq.core.models import Bucket
from agentq.models.book import Book
from agentq.models.breakers import Breakers
from agentq.models.buckets import Buckets
from agentq.models.gate import Gate
from agentq.models.ledger import Ledger, Want

BEGIN = datetime(2026, 3, 2, 12, tzinfo=UTC)


class HandClock:
    def __init__(self, wall: datetime = BEGIN, mono: float = 5000.0) -> None:
        self.wall, self.mono = wall, mono

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def go(self, seconds: float) -> None:
        """Time passes."""
        self.wall += timedelta(seconds=seconds)
        self.mono += seconds

    def set(self, seconds: float) -> None:
        """Somebody sets the wall clock, by so much."""
        self.wall += timedelta(seconds=seconds)


class World:
    """`book` at `path`; owners are plain words that live until they are in `dead`."""

    def __init__(
        self, folder: Path, *buckets: Bucket, budgets: Budgets | None = None, minute: float = 60.0
    ) -> None:
        self.clock, self.dead, self.path = HandClock(), set[str](), folder / "book.db"
        self.book = Book(self.path, self.clock, boot="first")
        named = {bucket.name: bucket for bucket in buckets}
        self.budgets = budgets if budgets is not None else Budgets(type_tokens={})
        self.ledger = Ledger(self.book, self.budgets, named, self.alive)
        self.buckets = Buckets(self.book, named, self.alive, minute=minute)
        self.breakers = Breakers(self.book, alive=self.alive)
        self.gate = Gate(self.buckets, self.breakers)

    def alive(self, owner: str) -> bool:
        return owner not in self.dead

    def restart(self, wall_seconds: float = 0.0) -> None:
        """The host restarts; its monotonic clock begins anew. wall_seconds: what the wall clock says was between."""
        self.book.close()
        self.clock.set(wall_seconds)
        self.clock.mono = 3.0
        self.book._boot = self.book._boot + "+"


def want(spec: str = "014", dollars: float = 0.0, *, bucket: str = "a", owner: str = "me", **more: object) -> Want:
    return Want("repo", spec, str(more.pop("type", "implementation")), "implement", bucket, "tier", owner,
                dollars=dollars, **more)  # type: ignore[arg-type]  # fmt: skip


def myself() -> str:
    word = process.identity(os.getpid())
    assert word
    return word
