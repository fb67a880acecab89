"""What a server's answer says beside the answer: why it failed, what is left of its limits (agents fact,
"anthropic SDK", Headers and Errors).

Causes are those of `agentq.drivers.base`: rate-limit, overloaded, network, auth, billing, usage-limit, request,
context."""

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from agentq.core.text import clean

# Statuses of errors that come inside a stream, whose own status is 200.
KINDS = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500,
    "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip
# Each server has words of its own for a prompt that is too long.
_TOO_LONG = re.compile(
    r"(?i)prompt is too long|context[ _](?:length|size|window|limit)|maximum context"
    r"|exceeds? the (?:available |model'?s )?context"
    r"|input length exceeds|too many (?:input )?tokens in"
)
_USED_UP = re.compile(r"(?i)usage limit|regain access|spend(?:ing)? limit|(?:monthly|weekly|daily) limit")
_NO_CREDIT = re.compile(r"(?i)credit balance|insufficient (?:credits|funds|balance)|payment required")
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ](?:at )?(\d{2}:\d{2}(?::\d{2})?))?")
_EPOCH = re.compile(r"\|(\d{10})\b")
_PLAN = {"5h": "five_hour", "7d": "seven_day"}
_MINUTE = ("requests", "tokens", "input-tokens", "output-tokens")
_WIDTH = 500  # characters of a message


class ApiError(Exception):
    """A request that got no answer.

    status: HTTP, 0: no answer at all. after: seconds the server wants to be left alone, None: it does not say.
    resets_at: when a limit ends, seconds since 1970, 0: unknown.
    """

    def __init__(
        self, cause: str, message: str, status: int = 0, after: float | None = None, resets_at: float = 0.0
    ) -> None:
        super().__init__(message)
        self.cause, self.message, self.status = cause, clean(message)[:_WIDTH], status
        self.after, self.resets_at = after, resets_at

    @property
    def passing(self) -> bool:
        """Whether asking again may help."""
        return self.cause in ("rate-limit", "overloaded", "network")


def of_answer(status: int, message: str, headers: Mapping[str, str], now: float | None = None) -> ApiError:
    """The error that a status, its message and its headers (names in any case) mean. now: seconds since 1970."""
    now = time.time() if now is None else now
    head = {name.lower(): value for name, value in headers.items()}
    after = _after(head, now)
    cause = _cause(status, message, head)
    resets_at = now + after if after is not None and cause in ("rate-limit", "usage-limit") else 0.0
    if cause == "usage-limit":
        resets_at = _number(head.get("anthropic-ratelimit-unified-reset")) or _said(message) or resets_at
    return ApiError(cause, message or f"HTTP status {status}", status, after, resets_at)


def _cause(status: int, message: str, head: Mapping[str, str]) -> str:
    if status == 413 or (400 <= status < 600 and status != 429 and _TOO_LONG.search(message)):
        return "context"
    if status in (400, 402, 403) and _NO_CREDIT.search(message):
        return "billing"
    if status in (400, 403, 429) and (
        head.get("anthropic-ratelimit-unified-status") == "rejected" or _USED_UP.search(message)
    ):
        return "usage-limit"
    known = {401: "auth", 402: "billing", 403: "auth", 408: "network", 429: "rate-limit"}
    return known.get(status, "overloaded" if status >= 500 else "request")


def windows(headers: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the headers of an answer tell about limits, as events `window`."""
    head = {name.lower(): value for name, value in headers.items() if "ratelimit" in name.lower()}
    found = []
    for word, name in _PLAN.items():
        base = f"anthropic-ratelimit-unified-{word}-"
        used = _number(head.get(f"{base}utilization"))
        if used is not None:
            reset, status = _number(head.get(f"{base}reset")) or 0.0, clean(head.get(f"{base}status", ""))
            found.append(_window(name, used, reset, status))
    for name in _MINUTE:
        limit, left = (_number(head.get(f"anthropic-ratelimit-{name}-{end}")) for end in ("limit", "remaining"))
        if limit and left is not None:
            reset = _when(head.get(f"anthropic-ratelimit-{name}-reset", ""))
            found.append(_window(name, 1 - left / limit, reset, "" if left else "rejected"))
    return found


def _window(name: str, used: float, resets_at: float, status: str) -> dict[str, Any]:
    used = round(max(0.0, used), 6)
    return {"event": "window", "name": name, "utilization": used, "resets_at": resets_at, "status": status}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _after(head: Mapping[str, str], now: float) -> float | None:
    """`retry-after`: seconds or a date."""
    text = head.get("retry-after", "")
    if (seconds := _number(text)) is None:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds)


def _when(text: str) -> float:
    """RFC 3339 in seconds since 1970; 0 for anything else."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _said(message: str) -> float:
    """When a limit ends, by its message: `… regain access on 2026-12-01 at 00:00 UTC`, `…|1764547200`; or 0."""
    if epoch := _EPOCH.search(message):
        return float(epoch[1])
    found = _DATE.search(message)
    return _when(f"{found[1]}T{found[2] or '00:00'}+00:00") if found else 0.0
