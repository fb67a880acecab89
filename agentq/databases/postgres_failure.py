"""What the server says, for people: failures in words, and several of them in one error.

A refused connection brings no SQLSTATE along, only words in the server's language. What is certain of those is
that they begin with a severity. Whatever is not known to be final is worth another try.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from agentq.errors import DatabaseError

_RETRY = ("08", "40", "53", "57P", "55006", "55P03", "57014", "25006")
_HINTS = {
    "3D000": "create it with your migrations, or correct the URL",
    "42501": "connect as a role with CREATEDB and CREATEROLE that owns dev and what is in it, or as a superuser",
    "53100": "free some space on the server, then try again",
    "53300": "raise max_connections, or run fewer agents at once",
    "55006": "a worker of an extension may be connected; try again",
    "55P03": "another transaction holds it; end that, then try again",
    "57014": "the server is too slow, or something is locked; try again",
}
_ANSWERED = re.compile(r": [^\s:]+:  ")  # "…: FATAL:  …", whatever the language
_FULL = re.compile(r"too many (?:clients|connections)|connection slots are reserved|\[53300\]")
_FINAL = re.compile(
    r"authentication failed|does not exist|permission denied|pg_hba\.conf|not currently accepting|"
    r"not permitted to log in|no password supplied"
)


def failed(doing: str, exc: psycopg.Error) -> DatabaseError:
    state = exc.sqlstate or ""
    why = (exc.diag.message_primary or str(exc).strip() or type(exc).__name__).split("\n")[0]
    if not state and isinstance(exc, psycopg.OperationalError):
        if _FULL.search(str(exc)):
            state = "53300"
        elif not refused(exc):
            answered_with = "" if answered(exc) else "is the server running, and the URL right?"
            return DatabaseError(f"{doing}: {why}", answered_with, retryable=True)
    hint = _HINTS.get(state, "is the URL right?" if not state else "")
    return DatabaseError(f"{doing}: {why}", hint, retryable=state.startswith(_RETRY) or "concurrently" in why)


def answered(exc: psycopg.OperationalError) -> bool:
    """Whether a server answered an attempt to connect, with a no."""
    return bool(_ANSWERED.search(str(exc)))


def refused(exc: psycopg.OperationalError) -> bool:
    """Whether it would say the same tomorrow, as far as its words are known."""
    return answered(exc) and bool(_FINAL.search(str(exc)))


@contextmanager
def telling(doing: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as exc:
        raise failed(doing, exc) from exc


class Failures:
    """Of several things of which each is tried, whatever becomes of the others."""

    def __init__(self) -> None:
        self.found: list[DatabaseError] = []

    @contextmanager
    def of(self, doing: str) -> Iterator[None]:
        """Keep the failure of one thing for `tell`."""
        try:
            with telling(doing):
                yield
        except DatabaseError as exc:
            self.found.append(exc)

    def tell(self) -> None:
        """Raises one DatabaseError if there was any failure."""
        texts = list(dict.fromkeys(one.message for one in self.found))
        hints = list(dict.fromkeys(one.hint for one in self.found if one.hint))
        if texts:
            retry = all(one.retryable for one in self.found)
            raise DatabaseError("; ".join(texts), "; ".join(hints), retryable=retry) from self.found[0]
