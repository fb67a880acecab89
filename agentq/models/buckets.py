"""The buckets of this host (mission rows N2, N7, S6): who may send now, which sleep, what providers told.

Each bucket is counted for itself; a full or sleeping one keeps nobody from another.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from agentq import process
from agentq.core import pace
from agentq.core.breaker import SLEEPS
from agentq.core.budget import Unit
from agentq.core.models import FIVE_HOURS, SEVEN_DAYS, Bucket
from agentq.core.pace import Decision, Reported, Thresholds, Window
from agentq.models import limits, queueing, seats, tally
from agentq.models.book import Book, Page
from agentq.models.limits import Limit
from agentq.models.seats import Seat

UNKNOWN = 3600.0  # s a bucket sleeps after a usage limit that names no reset
SOON = 60.0  # s it sleeps at least, whatever reset is named: two clocks differ
_SWEEP = 1.0  # s between looks for dead owners, when nothing is in the way
_LATE = 0.25  # s a waiter may at least come back too late
_SICK = frozenset({"network", "overloaded"})  # what speaks against a server


@dataclass(frozen=True, slots=True)
class Go:
    """Send to `seat.server`. The seat must be told to `leave`, whatever becomes of it."""

    seat: Seat


@dataclass(frozen=True, slots=True)
class Wait:
    """A limit of a minute is full, or what is under way holds the rest of another one: ask again in `seconds`, and
    not much later, or the place in line is lost."""

    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Asleep:
    """Use another bucket. until: None: until a person wakes it."""

    bucket: str
    until: datetime | None
    reason: str


class Buckets:
    """buckets: by name; one that is not there has no limits. minute, cooldown: seconds; they are shorter in
    tests. alive: whether the process that a word of `process.identity` names still runs."""

    def __init__(
        self,
        book: Book,
        buckets: Mapping[str, Bucket] | None = None,
        alive: Callable[[str], bool] = process.alive,
        *,
        minute: float = 60.0,
        cooldown: float = 30.0,
    ) -> None:
        self.book, self._buckets, self._alive = book, buckets or {}, alive
        self._minute, self._cooldown, self._swept = minute, cooldown, 0.0

    def admit(self, bucket: str, owner: str, tokens: int = 0, who: str = "") -> Go | Wait | Asleep:
        """Ask for one request, or one run. tokens: what it will use, as far as that is known. who: tells the
        owner's workers apart while they wait; '': each thread is one. Raises ConfigError for an unknown time
        zone."""
        with self.book.write() as page:
            return self.admit_on(page, bucket, owner, tokens, who)

    def arrived(self, seat: Seat) -> None:
        """The server began to answer. Without this word a request counts as new until it is charged or left."""
        with self.book.write() as page:
            seats.arrive(page, seat.id)

    def leave(self, seat: Seat, cause: str = "", *, sent: bool = True, resets_at: float = 0) -> None:
        """The request or run is over; after its charges. cause: as in `drivers.base.Cause`, '' for an answer: it
        may put the bucket to sleep, or its server aside. sent: False if the server surely never had it.
        resets_at: when a usage limit ends, seconds since 1970, 0: unknown."""
        with self.book.write(durable=cause in SLEEPS) as page:
            self.leave_on(page, seat, cause, sent=sent, resets_at=resets_at)

    # ------------------------------------------------------------ sleep

    def sleep(self, bucket: str, until: datetime | None, why: str) -> None:
        """No request until then; None: until a person wakes it. The longer of two sleeps holds."""
        with self.book.write(durable=True) as page:
            _sleep(page, bucket, until.timestamp() if until else None, why)

    def wake(self, bucket: str) -> bool:
        """False when it was awake."""
        with self.book.write(durable=True) as page:
            return page.run("DELETE FROM asleep WHERE bucket = ?", bucket).rowcount > 0

    def sleeping(self) -> list[Asleep]:
        with self.book.read() as page:
            names = [row[0] for row in page.run("SELECT bucket FROM asleep ORDER BY bucket").fetchall()]
            return [one for name in names if (one := _asleep(page, name)) is not None]

    # ------------------------------------------------------------ windows

    def note_windows(self, bucket: str, windows: Iterable[Reported]) -> None:
        """Keep what the provider told; the newest word on each window counts."""
        with self.book.write() as page:
            for window in windows:
                free = page.now.since(datetime.fromtimestamp(window.resets_at, UTC)) if window.resets_at else 0.0
                page.run(
                    "INSERT OR REPLACE INTO windows (bucket, name, at, utilization, resets, free, status)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    bucket, window.name, page.now.at, window.utilization, window.resets_at, free, window.status,
                )  # fmt: skip

    def windows(self, bucket: str) -> list[Window]:
        """What the provider told and is still true; for what it does not tell, this host's own count."""
        with self.book.read() as page:
            return self._windows(page, bucket)

    def decide(self, bucket: str, thresholds: Thresholds = Thresholds(), share: float = pace.SHARE) -> Decision:
        """The guard's word before a start (mission row N7)."""
        with self.book.read() as page:
            return pace.decide(self._windows(page, bucket), page.now.wall.timestamp(), thresholds, share)

    def turn(self, bucket: str, delay: float) -> float:
        """Whose turn it is to start, with `delay` seconds between starts of all processes: 0 for the caller, who
        then starts; otherwise the seconds to wait before asking again."""
        with self.book.write() as page:
            row = page.one("SELECT at FROM turns WHERE bucket = ?", bucket)
            left = row[0] + delay - page.now.at if row else 0.0
            if left <= 0:
                page.run("INSERT OR REPLACE INTO turns (bucket, at) VALUES (?, ?)", bucket, page.now.at)
            return max(0.0, left)

    def loads(self, bucket: str) -> dict[str, int]:
        """Seats by server."""
        with self.book.write() as page:
            self._sweep(page)
            return seats.loads(page, bucket)

    # ------------------------------------------------------------ inside a transaction

    def admit_on(self, page: Page, bucket: str, owner: str, tokens: int, who: str = "") -> Go | Wait | Asleep:
        who = f"{owner} {who or threading.get_ident()}"
        due = page.now.at - self._swept >= _SWEEP
        if due:
            self._sweep(page)
            self._swept = page.now.at
        verdict = self._admit(page, bucket, owner, tokens, who)
        if not isinstance(verdict, Go) and not due and self._sweep(page):
            verdict = self._admit(page, bucket, owner, tokens, who)
        return verdict

    def _sweep(self, page: Page) -> int:
        """Free what dead processes had; how much."""
        rows = page.run("SELECT owner FROM seats UNION SELECT owner FROM waiting").fetchall()
        dead = [row[0] for row in rows if not self._alive(row[0])]
        seats.give_up(page)
        return sum(seats.end(page, owner) + queueing.forget(page, owner) for owner in dead)

    def leave_on(self, page: Page, seat: Seat, cause: str, *, sent: bool, resets_at: float) -> None:
        if seats.leave(page, seat.id, sent=sent) and (cause in _SICK or not cause):
            seats.judge(page, seat.bucket, seat.server, self._cooldown, well=not cause)
        if cause == "usage-limit":
            wall = page.now.wall.timestamp()
            _sleep(page, seat.bucket, max(resets_at, wall + SOON) if resets_at else wall + UNKNOWN, cause)
        elif cause in SLEEPS:
            _sleep(page, seat.bucket, None, cause)

    def _admit(self, page: Page, name: str, owner: str, tokens: int, who: str) -> Go | Wait | Asleep:
        if (sleeping := _asleep(page, name)) is not None:
            return sleeping
        bucket, coming = self._buckets.get(name) or Bucket(name), seats.under_way(page, name)
        denied = limits.fits(page, limits.of_bucket(page, bucket, coming), {"requests": 1, "tokens": tokens})
        if denied is not None and denied.frees is None:
            return Wait(self._minute / 60, denied.reason)
        if denied is not None:
            return Asleep(name, denied.frees, denied.reason)
        totals: dict[Unit, int] = {"requests": bucket.requests_minute, "tokens": bucket.tokens_minute}
        minute = [
            limits.rolling(page, name, unit, total, coming.of(unit), self._minute, "minute")
            for unit, total in totals.items()
            if total
        ]
        if minute and (waiting := self._in_line(page, minute, name, owner, tokens, who)) is not None:
            return waiting
        return Go(seats.take(page, name, bucket.servers, owner, tokens))

    def _in_line(
        self, page: Page, minute: list[Limit], name: str, owner: str, tokens: int, who: str
    ) -> Wait | None:
        """None: there is room for this one beside all that wait before it."""
        late = max(_LATE, self._minute / 60)
        before = queueing.ahead(page, name, who, late)
        denied = limits.fits(page, minute, {"requests": 1, "tokens": tokens}, before)
        if denied is None:
            queueing.go(page, name, who)
            return None
        until = denied.frees
        seconds = max((until - page.now.wall).total_seconds() if until else self._minute / 60, 0.001)
        queueing.stand(page, name, who, owner, tokens, page.now.at + seconds, late)
        return Wait(seconds, denied.reason)

    def _windows(self, page: Page, name: str) -> list[Window]:
        rows = page.run(
            "SELECT name, utilization, resets, status, at, free FROM windows WHERE bucket = ?", name
        ).fetchall()
        wall, at, told = page.now.wall.timestamp(), page.now.at, list[Window]()
        for word, utilization, resets, status, noted, free in rows:
            over = wall >= resets or at >= free if resets else at >= noted + pace.LENGTHS.get(word, FIVE_HOURS)
            told.append(Window(word, 0.0) if over else Window(word, utilization, resets, status))
        bucket, known = self._buckets.get(name) or Bucket(name), {window.name for window in told}
        for word, total, length in (
            ("five_hour", bucket.tokens_5h, FIVE_HOURS),
            ("seven_day", bucket.tokens_7d, SEVEN_DAYS),
        ):
            if total and word not in known:
                told.append(_own(page, name, word, total, length))
        return told


def _own(page: Page, bucket: str, word: str, total: int, length: float) -> Window:
    """This host's count of a window. It resets, a little, when its oldest use leaves it."""
    key, since = tally.bucket_key(bucket), page.now.at - length
    used, oldest = tally.used(page, key, since).tokens, tally.fallen(page, key, "tokens", since, 1)
    resets = page.now.when(oldest + length).timestamp() if oldest is not None else 0.0
    return Window(word, used / total, resets)


def _asleep(page: Page, bucket: str) -> Asleep | None:
    """Either clock ends a sleep: the wall clock, or the time that was left when it began."""
    row = page.one("SELECT until, wall, why FROM asleep WHERE bucket = ?", bucket)
    if row is None or (row[0] is not None and (page.now.at >= row[0] or page.now.wall.timestamp() >= row[1])):
        return None
    until = None if row[0] is None else page.now.when(row[0])
    return Asleep(bucket, until, f"{bucket} sleeps: {row[2]}")


def _sleep(page: Page, bucket: str, wall: float | None, why: str) -> None:
    before = page.one("SELECT until FROM asleep WHERE bucket = ?", bucket)
    until = None if wall is None else page.now.at + wall - page.now.wall.timestamp()
    if before and _asleep(page, bucket) and until is not None and (before[0] is None or before[0] >= until):
        return
    page.run(
        "INSERT OR REPLACE INTO asleep (bucket, since, until, wall, why) VALUES (?, ?, ?, ?, ?)",
        bucket, page.now.at, until, wall, why,
    )  # fmt: skip
