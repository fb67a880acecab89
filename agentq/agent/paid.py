"""Leave for each request, and its charge: what the run's account says before and after it (mission rows N2, S6).

Without an account every request may be sent, to the one server there is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from agentq.agent.failure import ApiError
from agentq.agent.limits import LimitReached
from agentq.core.breaker import SLEEPS
from agentq.core.usage import Usage

NEVER = float("inf")  # seconds until the same server may be asked again in this run
NEUTRAL = "request"  # a cause that speaks neither for a model nor against it


@dataclass
class Sent:
    """One request. server: '' for the only one. usage: filled in when it is over."""

    server: str = ""
    usage: Usage = field(default_factory=Usage)
    model: str = ""


class Paid:
    """account: as `agentq.models.account.handed` made it, '' for none. left: seconds the run still has."""

    def __init__(self, account: str, left: Callable[[], float]) -> None:
        self._account, self._left = None, left
        if account:
            from agentq.models.account import Account

            self._account = Account(account)

    @contextmanager
    def request(self, tokens: int) -> Iterator[Sent]:
        """One request, sent inside the block. tokens: what it will use, about. Raises ApiError when it may not be
        sent, LimitReached when its charge uses up a budget."""
        if self._account is None:
            yield Sent()
            return
        from agentq.models.breakers import Shut
        from agentq.models.buckets import Asleep

        entry = self._account.enter(tokens, self._left)
        if entry is None:
            raise LimitReached("time", "there was no room in the minute before the time was over")
        if isinstance(entry, Asleep):
            resets = entry.until.timestamp() if entry.until else 0.0
            raise ApiError("usage-limit", entry.reason, after=NEVER, resets_at=resets)
        if isinstance(entry, Shut):
            raise ApiError("overloaded", entry.reason, after=NEVER)
        sent, cause, resets_at, after = Sent(entry.seat.server), NEUTRAL, 0.0, 0.0
        try:
            yield sent
            cause = ""
        except ApiError as error:
            cause, resets_at, after = error.cause, error.resets_at, error.after or 0.0
            raise
        finally:
            stop = self._account.charge(entry, sent.usage, sent.model) if sent.usage.total else None
            keep = resets_at if cause in SLEEPS else 0.0
            self._account.leave(entry, cause, resets_at=keep, retry_after=after)
        if stop is not None:
            raise LimitReached("budget", f"over budget: {stop.reason}")
