"""What was spent, and what still may be (mission rows P6, P11): reservations before the work, charges during it.

Invariants: each charge is in the ledger exactly once; a reservation is given only if every budget has room for it
beside all others; it ends with its owner, also when that is killed. A run goes on only while what is left
covers a request as dear as its dearest so far, so a budget is never overspent by more than the request in flight
of each run, and not at all where `Want.step` tells the most one request can cost.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from agentq import process
from agentq.core import budget
from agentq.core.budget import NANO, UNLIMITED, Budgets, Denied, Line, Unit, counted, nano
from agentq.core.models import Bucket
from agentq.core.usage import Price, Usage
from agentq.models import limits, seats, tally
from agentq.models.book import Book, Page, iso
from agentq.models.limits import Limit
from agentq.models.seats import Seat

By = Literal["spec", "type", "stage", "model", "tier", "bucket", "day"]
_BY: Mapping[By, str] = {name: name for name in get_args(By)} | {"day": "substr(wall, 1, 10)"}
_ALL = "''"


@dataclass(frozen=True, slots=True)
class Want:
    """What a run or a request may need. repo: a word for the repository, the same in all its processes. tokens:
    fresh ones; 0: the budget of its type. dollars, requests: at most what is foreseen; 0: unknown. step: dollars
    that one request costs at most, 0: unknown. owner: a word of `process.identity`."""

    repo: str
    spec: str
    type: str
    stage: str
    bucket: str
    tier: str
    owner: str
    tokens: int = 0
    dollars: float = 0.0
    requests: int = 0
    step: float = 0.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """Given by `reserve`; ends with `settle`. tokens: fresh tokens the run may use, 0: no limit."""

    id: int
    want: Want
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """After a charge. dollars, tokens: what this run may still use if no other takes it; infinite without a
    limit. stop: the limit that ends the run now, None to go on."""

    dollars: float = UNLIMITED
    tokens: float = UNLIMITED
    stop: Denied | None = None


@dataclass(frozen=True, slots=True)
class Sum:
    """What something used: raw tokens, US dollars at the prices of their moments, requests."""

    name: str = ""
    usage: Usage = field(default_factory=Usage)
    dollars: float = 0.0
    requests: int = 0


class Ledger:
    """buckets: by name; one that is not there has no limits. alive: whether the process that a word of
    `process.identity` names still runs."""

    def __init__(
        self,
        book: Book,
        budgets: Budgets = Budgets(),
        buckets: Mapping[str, Bucket] | None = None,
        alive: Callable[[str], bool] = process.alive,
    ) -> None:
        self._book, self.budgets, self._buckets, self._alive = book, budgets, buckets or {}, alive

    def reserve(self, want: Want) -> Reservation | Denied:
        """Hold what `want` names, in all budgets or in none. Specs, types and days are budgets of one
        repository, buckets of the host. Raises ConfigError for an unknown time zone."""
        cap = self.budgets.type_tokens.get(want.type, 0)
        tokens = min(want.tokens or cap, cap or want.tokens)
        money = max(nano(want.dollars), nano(want.step))
        wanted: dict[Unit, int] = {"dollars": money, "tokens": tokens, "requests": want.requests}
        with self._book.write() as page:
            self._release_dead(page)
            denied = limits.fits(page, self._limits(page, want), wanted)
            if denied is not None:
                return denied
            made = page.run(
                "INSERT INTO reserved (at, owner, repo, spec, type, stage, bucket, tier, cap, used, step,"
                " hold_nano, hold_tokens, hold_requests) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?)",
                page.now.at, want.owner, want.repo, want.spec, want.type, want.stage, want.bucket, want.tier,
                tokens, nano(want.step), money, tokens, want.requests,
            )  # fmt: skip
            return Reservation(made.lastrowid or 0, want, tokens)

    def charge(
        self,
        reservation: Reservation,
        usage: Usage,
        price: Price,
        requests: int = 1,
        *,
        model: str = "",
        request: str = "",
        seat: Seat | None = None,
        dollars: float | None = None,
    ) -> Left:
        """Enter what was used, at once, on the disk. request: the provider's id; the same one again changes
        nothing. seat: where the request sat, so that it is counted once. dollars: instead of what `price` says.
        A charge on a reservation that is settled is entered too."""
        want = reservation.want
        cost = nano(price.of(usage) if dollars is None else dollars)
        with self._book.write(durable=True) as page:
            if not request or not _known(page, want.bucket, request):
                _enter(page, reservation, usage, price, requests, model, request, cost)
                counts = requests - (seats.take_prepaid(page, seat) if seat else 0)
                tally.add(page, tally.bucket_key(want.bucket), counts, counted(usage), cost)
                for key in (tally.repo_key(want.repo), tally.spec_key(want.repo, want.spec)):
                    tally.add(page, key, requests, counted(usage), cost)
                _draw(page, reservation, usage, requests, cost)
            left = self._left(page, reservation)
            if left.stop is not None and self._release_dead(page):
                left = self._left(page, reservation)
            return left

    def settle(self, reservation: Reservation) -> Sum:
        """The run is over: what it held is free again. What it used. Again: no change, the same answer."""
        with self._book.write() as page:
            page.run("DELETE FROM reserved WHERE id = ?", reservation.id)
            return _sums(page, _ALL, "run = ?", reservation.id)[0]

    def release_dead(self) -> int:
        """Free what runs of dead processes held; how many. `reserve` does it too."""
        with self._book.write() as page:
            return self._release_dead(page)

    def sums(self, by: By, repo: str = "") -> list[Sum]:
        """Everything that was spent (in one repository), by name of `by`; days are those of UTC."""
        with self._book.read() as page:
            return _sums(page, _BY[by], "repo = ?" if repo else "1", *([repo] if repo else []))

    def total(self, repo: str, spec: str) -> Sum:
        """What a spec used on this host."""
        with self._book.read() as page:
            return _sums(page, _ALL, "repo = ? AND spec = ?", repo, spec)[0]

    def lines(self, repo: str) -> list[Line]:
        """Every limit as it stands: specs with open reservations, types, the day, all buckets."""
        with self._book.write() as page:
            self._release_dead(page)
            specs = page.run("SELECT DISTINCT spec FROM reserved WHERE repo = ? ORDER BY spec", repo).fetchall()
            found = [limit for (spec,) in specs for limit in limits.of_spec(page, self.budgets, repo, spec)]
            found += limits.of_day(page, self.budgets, repo)
            for bucket in self._buckets.values():
                found += limits.of_bucket(page, bucket, limits.holds(page, "bucket = ?", bucket.name))
            return [*(limit.line for limit in found), *self._types(page, repo)]

    def _limits(self, page: Page, want: Want) -> list[Limit]:
        bucket = self._buckets.get(want.bucket) or Bucket(want.bucket)
        held = limits.holds(page, "bucket = ?", want.bucket)
        return [
            *limits.of_spec(page, self.budgets, want.repo, want.spec),
            *limits.of_day(page, self.budgets, want.repo),
            *limits.of_bucket(page, bucket, held),
        ]

    def _types(self, page: Page, repo: str) -> list[Line]:
        """The budget of a type is one of each run: `total` is that of the runs that are open."""
        rows = page.run(
            "SELECT type, SUM(cap), SUM(MIN(used, cap)), COUNT(*) FROM reserved"
            " WHERE repo = ? AND cap GROUP BY type ORDER BY type",
            repo,
        )
        found = {name: (total, used, runs) for name, total, used, runs in rows.fetchall()}
        lines = []
        for name in sorted({*self.budgets.type_tokens, *found}):
            total, used, runs = found.get(name, (0, 0, 0))
            each = self.budgets.type_tokens.get(name, 0)
            said = f"{runs} running, {each:,} each" if each else f"{runs} running"
            lines.append(Line("type", name, "tokens", total, used, total - used, said))
        return lines

    def _left(self, page: Page, reservation: Reservation) -> Left:
        """What is left, and the hold of the next request; no row: the reservation is settled."""
        row = page.one(
            "SELECT used, cap, step, hold_nano, hold_tokens, hold_requests FROM reserved WHERE id = ?",
            reservation.id,
        )
        used, cap, step, *held = row or (0, 0, 0, 0, 0, 0)
        hold: dict[Unit, int] = dict(zip(budget.UNITS, held, strict=True))
        need: dict[Unit, int] = {"dollars": step, "tokens": 0, "requests": 0}
        all_limits, stop = self._limits(page, reservation.want), None
        rest: dict[Unit, float] = dict.fromkeys(budget.UNITS, UNLIMITED)
        for unit in budget.UNITS:
            mine = [limit for limit in all_limits if limit.line.unit == unit]
            if not mine:
                continue
            rest[unit] = hold[unit] + min(limit.line.available for limit in mine)
            hold[unit] = budget.grow([limit.line for limit in mine], hold[unit], need[unit])
            if rest[unit] < max(need[unit], 1):
                stop = stop or limits.fits(page, mine, {unit: need[unit]})
        page.run(
            "UPDATE reserved SET hold_nano = ?, hold_tokens = ?, hold_requests = ? WHERE id = ?",
            hold["dollars"], hold["tokens"], hold["requests"], reservation.id,
        )  # fmt: skip
        if cap:
            rest["tokens"] = min(rest["tokens"], max(0, cap - used))
            if used >= cap:
                name = f"{reservation.want.spec} {reservation.want.stage}"
                stop = Denied(Line("run", name, "tokens", cap, used))
        return Left(rest["dollars"] / NANO, rest["tokens"], stop)

    def _release_dead(self, page: Page) -> int:
        owners = [row[0] for row in page.run("SELECT DISTINCT owner FROM reserved").fetchall()]
        dead = [owner for owner in owners if not self._alive(owner)]
        return sum(page.run("DELETE FROM reserved WHERE owner = ?", owner).rowcount for owner in dead)


def _known(page: Page, bucket: str, request: str) -> bool:
    return page.one("SELECT 1 FROM spent WHERE bucket = ? AND request = ?", bucket, request) is not None


def _enter(
    page: Page, made: Reservation, usage: Usage, price: Price, requests: int, model: str, request: str, cost: int
) -> None:
    want, text = made.want, json.dumps(asdict(price), separators=(",", ":"))
    page.run("INSERT OR IGNORE INTO prices (price) VALUES (?)", text)
    page.run(
        "INSERT INTO spent (at, wall, run, repo, spec, type, stage, bucket, tier, model, request, price, input,"
        " output, cache_read, cache_write, requests, nano) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
        " (SELECT id FROM prices WHERE price = ?), ?, ?, ?, ?, ?, ?)",
        page.now.at, iso(page.now.wall), made.id, want.repo, want.spec, want.type, want.stage, want.bucket,
        want.tier, model, request, text, usage.input, usage.output, usage.cache_read, usage.cache_write,
        requests, cost,
    )  # fmt: skip


def _draw(page: Page, made: Reservation, usage: Usage, requests: int, cost: int) -> None:
    """Take a charge out of what its run holds."""
    page.run(
        "UPDATE reserved SET used = used + ?, step = MAX(step, ?), hold_nano = MAX(0, hold_nano - ?),"
        " hold_tokens = MAX(0, hold_tokens - ?), hold_requests = MAX(0, hold_requests - ?) WHERE id = ?",
        usage.fresh, cost, cost, counted(usage), requests, made.id,
    )  # fmt: skip


def _sums(page: Page, by: str, where: str, *args: object) -> list[Sum]:
    """Without groups (_ALL) always one."""
    rows = page.run(
        f"SELECT {by}, SUM(input), SUM(output), SUM(cache_read), SUM(cache_write), SUM(nano), SUM(requests)"
        f" FROM spent WHERE {where} {'GROUP BY 1 ORDER BY 1' if by != _ALL else ''}",
        *args,
    ).fetchall()
    return [
        Sum(str(name or ""), Usage(*(n or 0 for n in tokens)), (cost or 0) / NANO, requests or 0)
        for name, *tokens, cost, requests in rows
    ]
