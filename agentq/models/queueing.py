"""Who waits for a place within a bucket's limit of a minute: first come, first served.

Without a line whoever asks again at the right instant takes every place that frees, and the others starve. Each
waiter is told when there will be room for it and all before it; one that does not come back then loses its place.
"""

from agentq.models.book import Page
from agentq.models.tally import Sums


def ahead(page: Page, bucket: str, who: str, late: float) -> Sums:
    """What those before `who` wait for; before a newcomer are all. late: seconds a waiter may come too late."""
    row = page.one(
        "SELECT COUNT(*), COALESCE(SUM(tokens), 0) FROM waiting WHERE bucket = ?1 AND due >= ?2"
        " AND id < COALESCE((SELECT id FROM waiting WHERE bucket = ?1 AND who = ?3), 9e18)",
        bucket, page.now.at - late, who,
    )  # fmt: skip
    return Sums(row[0], row[1]) if row else Sums()


def stand(page: Page, bucket: str, who: str, owner: str, tokens: int, due: float, late: float) -> None:
    """Keep a place, or take the last one. Those that did not come back lose theirs."""
    page.run("DELETE FROM waiting WHERE bucket = ? AND due < ? AND who <> ?", bucket, page.now.at - late, who)
    page.run(
        "INSERT INTO waiting (bucket, who, owner, tokens, due) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (bucket, who) DO UPDATE SET due = excluded.due, tokens = excluded.tokens",
        bucket, who, owner, tokens, due,
    )  # fmt: skip


def go(page: Page, bucket: str, who: str) -> None:
    """It waits no longer."""
    page.run("DELETE FROM waiting WHERE bucket = ? AND who = ?", bucket, who)


def forget(page: Page, owner: str) -> int:
    """A process is dead; how many places that frees."""
    return page.run("DELETE FROM waiting WHERE owner = ?", owner).rowcount
