"""What the readers of agents' events share. Nothing here raises, whatever an agent prints."""

import json
import re
from typing import Any

from agentq.core.text import one_line
from agentq.drivers.base import Cause

SUMMARY = 500  # characters
_USED_UP = re.compile(r"usage limit|daily quota|exhausted your|weekly limit|monthly limit", re.IGNORECASE)
_UNPAID = re.compile(r"credit balance|insufficient_quota|billing_error|payment required", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context (window|length)|prompt is too long|too many tokens|maximum context", re.IGNORECASE
)
_BAD_KEY = re.compile(r"api key not valid|invalid.{0,20}api.?key|API_KEY_INVALID|not logged in", re.IGNORECASE)
_NO_ANSWER = re.compile(
    r"ECONNREFUSED|ENOTFOUND|ETIMEDOUT|ECONNRESET|EAI_AGAIN|fetch failed|unable to connect|connection ?error"
    r"|socket|timed? ?out|network",
    re.IGNORECASE,
)


def cause_of(status: int, message: str) -> Cause:
    """What a model's server meant. status: 0 where it gave none."""
    words: tuple[tuple[re.Pattern[str], Cause], ...] = (
        (_TOO_LONG, "context"), (_UNPAID, "billing"), (_USED_UP, "usage-limit"), (_BAD_KEY, "auth"),
    )  # fmt: skip
    for pattern, cause in words:
        if pattern.search(message) and not status >= 500:
            return cause
    known: dict[int, Cause] = {401: "auth", 402: "billing", 403: "auth", 408: "network", 429: "rate-limit"}
    if status in known:
        return known[status]
    if status >= 500:
        return "overloaded"
    if status >= 400:
        return "request"
    return "network" if _NO_ANSWER.search(message) else ""


def entry(line: str) -> dict[str, Any]:
    """The JSON object of a line; {} when it is none."""
    try:
        return table(json.loads(line))
    except (ValueError, RecursionError):
        return {}


def table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def count(told: dict[str, Any], name: str) -> int:
    """A number of tokens, 0 for what is none."""
    value = told.get(name)
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e15 else 0


def summary(text: str) -> str:
    return one_line(text, SUMMARY)
