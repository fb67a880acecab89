"""The door to Neon's HTTP API: one request, sent until it is answered or time is up.

What may be sent again (databases facts, Neon): anything that was answered with 423 (another change is under way),
503 or 429, because then nothing was done. When the answer was lost, only what does no harm twice; the others raise
`Lost`. The key is sent in a header of each request and stands nowhere else.
"""

import email.utils
import random
import re
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentq.config import POLICY_FILE
from agentq.core.text import one_line
from agentq.errors import ConfigError, DatabaseError

if TYPE_CHECKING:
    import httpx

RATE = 700  # requests a minute that Neon lets pass
ANSWER = 30.0  # s to wait for one answer
PATIENCE = 300.0  # s to go on asking while Neon says "not now": longer than one operation of another host
TRIES = 5  # of a request whose answer was lost
PAUSES = (0.2, 5.0)  # s: the first pause between two tries, and the longest
NOT_NOW = (423, 429, 503)
UNCLEAR = (500, 502, 504)  # it may have been done, or not
HINTS = {
    401: "is the key valid? make one in Neon's console, under account settings",
    403: "give the key access to the project",
    404: "check [neon] project, database and role",
}


def _today() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Timing:
    """What passes time, so that tests need not wait: monotonic seconds, sleep (s), random [0, 1), the date."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random
    today: Callable[[], datetime] = _today


class Lost(DatabaseError):
    """No answer came, so nobody knows whether the change was made."""


@dataclass(frozen=True)
class Reply:
    """`body` is {} where there was none. It may hold secrets."""

    status: int
    body: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Reply({self.status})"


class Pacer:
    """Lets at most `rate` requests pass in any minute of this process. What other hosts send is met by 429."""

    def __init__(self, timing: Timing, rate: int = RATE) -> None:
        self._timing, self._rate = timing, rate
        self._sent: deque[float] = deque()
        self._lock = threading.Lock()

    def wait(self) -> None:
        while pause := self._pause():
            self._timing.sleep(pause)

    def _pause(self) -> float:
        """0 when a request may go out, and is counted; else the seconds to wait before asking again."""
        with self._lock:
            now = self._timing.clock()
            while self._sent and self._sent[0] <= now - 60:
                self._sent.popleft()
            if len(self._sent) < self._rate:
                self._sent.append(now)
                return 0
            return self._sent[0] + 60 - now


class NeonApi:
    """Requests below one project of Neon. Safe to share between threads."""

    def __init__(self, base: str, project: str, key_env: str, environ: Mapping[str, str], timing: Timing) -> None:
        self.timing = timing
        self._base, self._project = base.rstrip("/"), project
        self._key_env, self._environ = key_env, environ
        self._pacer = Pacer(timing)
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None

    def __repr__(self) -> str:
        return f"NeonApi({self._project!r})"

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: tuple[int, ...] = (),
        twice: bool = True,
    ) -> Reply:
        """The reply to METHOD /projects/PROJECT+`path`: a success, or one of the statuses in `accept`.

        `twice`: whether it does no harm to send it again when the answer was lost. Raises Lost where it does,
        ConfigError without a key or httpx, DatabaseError for every other answer and when time is up.
        """
        client = self._open()
        tries = _Tries(self.timing, f"{method} {path.partition('?')[0]}")
        while True:
            self._pacer.wait()
            reply = self._once(client, method, f"{self._base}/projects/{self._project}{path}", query, body)
            if isinstance(reply, DatabaseError):
                if not twice and isinstance(reply, Lost):
                    raise reply
                tries.lost(reply)
            elif reply.status_code in NOT_NOW:
                tries.not_now(self._refused(reply), _retry_after(reply))
            elif reply.status_code in UNCLEAR:
                failure = self._refused(reply)
                if not twice:
                    raise Lost(failure.message, failure.hint, retryable=True)
                tries.lost(failure)
            elif reply.is_success or reply.status_code in accept:
                return Reply(reply.status_code, _json(reply))
            else:
                raise self._refused(reply)

    @staticmethod
    def _once(
        client: "httpx.Client",
        method: str,
        url: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> "httpx.Response | DatabaseError":
        """What came back. `Lost` when the request may have arrived."""
        import httpx

        try:
            return client.request(method, url, params=query, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:
            text = f"Neon cannot be reached: {one_line(str(exc), 120)}"
            return DatabaseError(text, "check the network and [neon] api", retryable=True)
        except httpx.TransportError as exc:
            return Lost(f"Neon's answer was lost ({type(exc).__name__})", "try again", retryable=True)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise DatabaseError(f"Neon cannot be asked ({type(exc).__name__})", "check [neon] api") from None

    def _open(self) -> "httpx.Client":
        with self._lock:
            if self._client is None:
                self._client = _httpx().Client(
                    headers={"Authorization": f"Bearer {self._key()}", "Accept": "application/json"},
                    timeout=ANSWER,
                )
                weakref.finalize(self, self._client.close)
            return self._client

    def _key(self) -> str:
        key = self._environ.get(self._key_env, "").strip()
        if not key:
            why = f"the environment has no variable {self._key_env}, which should hold the key of Neon's API"
            raise ConfigError(POLICY_FILE, "neon.key_env", why, f"export {self._key_env}=…")
        if not key.isascii() or not key.isprintable():
            why = f"the key in {self._key_env} holds characters that no header can carry"
            raise ConfigError(POLICY_FILE, "neon.key_env", why, "copy it from Neon's console again")
        return key

    def _refused(self, response: "httpx.Response") -> DatabaseError:
        """What Neon said, as an error without the key or a password in it."""
        status = response.status_code
        try:
            said = str(_json(response).get("message", ""))
        except DatabaseError:
            said = ""
        said = said.replace(self._key(), "***")
        said = one_line(re.sub(r"(://[^:/@\s]*):[^\s\"@]*@", r"\1:***@", said), 200)
        return DatabaseError(
            f"Neon refused with {status}" + (f": {said}" if said else ""),
            HINTS.get(status, ""),
            retryable=status in NOT_NOW or status in UNCLEAR,
        )


class _Tries:
    """The tries of one request: says when to go on, and raises the last failure when it is enough."""

    def __init__(self, timing: Timing, what: str) -> None:
        self._timing, self._what = timing, what
        self._end = timing.clock() + PATIENCE
        self._pause, self._longest = PAUSES
        self._lost = 0

    def lost(self, failure: DatabaseError) -> None:
        self._lost += 1
        if self._lost >= TRIES:
            raise failure
        self._rest(0)

    def not_now(self, failure: DatabaseError, after: float) -> None:
        """Rest at least `after` seconds; raises `failure` where that goes beyond the patience."""
        if self._timing.clock() + after >= self._end:
            raise DatabaseError(
                f"{failure.message} (for {PATIENCE:.0f} s, at {self._what})", "try again later", retryable=True
            )
        self._rest(after)

    def _rest(self, least: float) -> None:
        """With jitter, so that hosts that were refused together do not come back together."""
        self._timing.sleep(least + self._pause * (0.5 + self._timing.random()))
        self._pause = min(2 * self._pause, self._longest)


def _httpx() -> Any:
    try:
        import httpx
    except ImportError:
        hint = "install it: pip install 'agentq-trunk[neon]'"
        raise ConfigError(POLICY_FILE, "database.provider", "'neon' needs the package httpx", hint) from None
    return httpx


def _retry_after(response: "httpx.Response") -> float:
    """Seconds the reply asks to wait, 0 where it does not say (RFC 9110: seconds, or a date)."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time()) if text else 0.0
    except ValueError:
        return 0.0


def _json(response: "httpx.Response") -> Mapping[str, Any]:
    """The body, {} where there is none: a 204 has none (databases facts, Neon)."""
    if not response.content.strip():
        return {}
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise DatabaseError("Neon answered with something that is not JSON", "check [neon] api", retryable=True)
    return body
