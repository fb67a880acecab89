"""Places at the servers of a bucket: what is under way there, and which server takes the next (mission row S6).

Invariant: a request counts against a rolling limit from when it is admitted until a window after the server is
known to have it. So no window of the server's own holds more than the limit, however long the way there takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agentq.models import tally
from agentq.models.book import Page
from agentq.models.tally import Sums

LOST = 900.0  # s after which a request that nobody spoke of again is taken to have arrived
LONGEST = 600.0  # s a server is left out at most


@dataclass(frozen=True, slots=True)
class Seat:
    """One request, or one run of an agent, at `server` ('': the agent's own default)."""

    id: int
    bucket: str
    server: str = ""


def take(page: Page, bucket: str, servers: Sequence[str], owner: str, tokens: int) -> Seat:
    """A place at the least busy of the healthy servers."""
    server = _choose(page, bucket, servers)
    made = page.run(
        "INSERT INTO seats (bucket, server, owner, at, tokens, arrived, prepaid) VALUES (?, ?, ?, ?, ?, 0, 1)",
        bucket, server, owner, page.now.at, tokens,
    )  # fmt: skip
    return Seat(made.lastrowid or 0, bucket, server)


def arrive(page: Page, seat_id: int) -> None:
    """The server has the request: from now on it is one of the past."""
    row = page.one("SELECT bucket FROM seats WHERE id = ? AND NOT arrived", seat_id)
    if row:
        tally.add(page, tally.bucket_key(row[0]), 1, 0, 0)
        page.run("UPDATE seats SET arrived = 1 WHERE id = ?", seat_id)


def take_prepaid(page: Page, seat: Seat) -> int:
    """How many requests of a charge the bucket has counted already: 1 for the first charge of a seat. Its
    tokens are known now and no longer held."""
    arrive(page, seat.id)
    done = page.run("UPDATE seats SET prepaid = 0, tokens = 0 WHERE id = ? AND prepaid", seat.id)
    return done.rowcount


def leave(page: Page, seat_id: int, *, sent: bool = True) -> bool:
    """End it. sent: whether the server may have the request. False when it was ended before."""
    if sent:
        arrive(page, seat_id)
    return page.run("DELETE FROM seats WHERE id = ?", seat_id).rowcount > 0


def under_way(page: Page, bucket: str) -> Sums:
    """Requests that are not yet in the tally, and tokens that open seats expect."""
    row = page.one(
        "SELECT COALESCE(SUM(NOT arrived), 0), COALESCE(SUM(tokens), 0) FROM seats WHERE bucket = ?", bucket
    )
    return Sums(row[0], row[1]) if row else Sums()


def loads(page: Page, bucket: str) -> dict[str, int]:
    """How many seats each server has."""
    rows = page.run("SELECT server, COUNT(*) FROM seats WHERE bucket = ? GROUP BY server", bucket)
    return dict(rows.fetchall())


def end(page: Page, owner: str) -> int:
    """A process is dead: its requests may have been sent. How many seats that frees."""
    found = page.run("SELECT id FROM seats WHERE owner = ?", owner).fetchall()
    return sum(leave(page, seat_id) for (seat_id,) in found)


def give_up(page: Page) -> None:
    """Requests that nobody spoke of for long are taken to have arrived."""
    for (seat_id,) in page.run("SELECT id FROM seats WHERE NOT arrived AND at < ?", page.now.at - LOST).fetchall():
        arrive(page, seat_id)


def judge(page: Page, bucket: str, server: str, cooldown: float, *, well: bool) -> None:
    """What a request says about its server. One that fails is left out, twice as long each time in a row."""
    row = page.one("SELECT failures FROM servers WHERE bucket = ? AND url = ?", bucket, server)
    before = row[0] if row else 0
    failures = 0 if well else before + 1
    until = 0.0 if well else page.now.at + min(cooldown * 2.0 ** min(before, 30), LONGEST)
    if well and not before:
        return
    page.run(
        "INSERT INTO servers (bucket, url, used, failures, until) VALUES (?, ?, 0, ?, ?)"
        " ON CONFLICT DO UPDATE SET failures = excluded.failures, until = excluded.until",
        bucket, server, failures, until,
    )  # fmt: skip


def _choose(page: Page, bucket: str, servers: Sequence[str]) -> str:
    """Where all are left out, the one whose time is over first: whether to ask at all is the breaker's matter."""
    if len(servers) < 2:
        return servers[0] if servers else ""
    rows = page.run("SELECT url, used, until FROM servers WHERE bucket = ?", bucket).fetchall()
    known = {url: (used, until) for url, used, until in rows}
    busy = loads(page, bucket)

    def rank(url: str) -> tuple[float, int, float]:
        used, until = known.get(url, (0.0, 0.0))
        return (until if until > page.now.at else 0.0, busy.get(url, 0), used)

    chosen = min(servers, key=rank)
    page.run(
        "INSERT INTO servers (bucket, url, used, failures, until) VALUES (?, ?, ?, 0, 0)"
        " ON CONFLICT DO UPDATE SET used = excluded.used",
        bucket, chosen, page.now.at,
    )  # fmt: skip
    return chosen
