"""The server that thinks: requests by the `anthropic` SDK, retries and time-outs of our own.

The SDK obeys `retry-after` without a cap and knows no limit of ours, so it retries nothing (`max_retries=0`). Only
the plain Messages API is used, so that Ollama, llama.cpp, vLLM, LiteLLM and others work as well."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agentq.agent import failure
from agentq.agent.failure import ApiError
from agentq.agent.job import Job
from agentq.agent.limits import Meter
from agentq.agent.paid import Paid
from agentq.agent.stream import Answer, Builder
from agentq.agent.talk import size

if TYPE_CHECKING:
    import anthropic

ANTHROPIC = "https://api.anthropic.com"
VERSION = "2023-06-01"  # the version of the Messages API that every server knows
CONNECT = 15.0  # s
ASK_MODELS = 15.0  # s for the list of models
WINDOW = 200_000  # tokens, when nobody knows
MAX_ANSWER = 32 * 1024 * 1024  # bytes of one answer
FIRST_DELAY, MAX_DELAY = 1.0, 30.0  # s between tries, when the server names no time
_WINDOW_NAMES = ("max_input_tokens", "max_model_len", "context_length")

Hear = Callable[[dict[str, Any]], None]


class Api:
    """One model at one server. hear: takes events `window`, `retry` and `alive`. sleep: seconds."""

    def __init__(
        self, job: Job, key: str, meter: Meter, hear: Hear, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        import anthropic
        import httpx2

        self._job, self._meter, self._hear, self._sleep = job, meter, hear, sleep
        # While a stream is read, the SDK passes on the errors of its HTTP library.
        self._sdk, self._broken = anthropic, (anthropic.APIConnectionError, httpx2.HTTPError, httpx2.StreamError)
        url = _base(job.base_url)
        self.caches = job.cache if job.cache is not None else url == ANTHROPIC
        self._windows: dict[str, dict[str, Any]] = {}
        self._key, self._clients = key, dict[str, anthropic.Anthropic]()
        self._client = self._at(url)
        self._paid = Paid(job.account, meter.left)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _at(self, url: str) -> "anthropic.Anthropic":
        """The client of one server: the servers of a bucket share the load."""
        if url not in self._clients:
            self._clients[url] = self._sdk.Anthropic(
                # A server without keys still needs a header that is one.
                api_key=self._key or "none", base_url=url, max_retries=0, open_telemetry=False,
                default_headers={"anthropic-version": VERSION},
            )  # fmt: skip
        return self._clients[url]

    def window(self) -> int:
        """Tokens of context the model takes: as told, as the server says, or what is usual."""
        if self._job.window:
            return self._job.window
        with suppress(self._sdk.AnthropicError, *self._broken, ValueError, TypeError, AttributeError):
            for found in self._client.models.list(timeout=ASK_MODELS):
                told = found.model_dump() if found.id == self._job.model else {}
                for name in _WINDOW_NAMES:
                    if isinstance(told.get(name), int) and told[name] > 0:
                        return int(told[name])
        return WINDOW

    def ask(self, body: Mapping[str, Any]) -> Answer:
        """One answer. body: `system`, `messages`, `tools`, `max_tokens`.

        What passes (rate limits, overload, a network) is tried again, at most `retries` times. Raises ApiError, or
        LimitReached before a request for which a limit leaves no room.
        """
        attempt = 0
        while True:
            self._meter.check()
            try:
                return self._once({**body, "max_tokens": self._meter.room(body["max_tokens"])})
            except ApiError as error:
                self._meter.check()
                attempt += 1
                delay = self._delay(error, attempt)
                if delay is None:
                    raise
                self._hear(
                    {"event": "retry", "status": error.status, "attempt": attempt, "delay": round(delay, 3),
                     "message": error.message}
                )  # fmt: skip
                self._sleep(delay)

    def _delay(self, error: ApiError, attempt: int) -> float | None:
        """Seconds until the next try; None when there is none. A server that wants to be left alone for longer
        than we wait is not asked again in this run: when its limit ends is told instead."""
        if not error.passing or attempt > self._job.retries:
            return None
        if error.after is not None and error.after > self._job.retry_cap:
            return None
        grown = min(MAX_DELAY, FIRST_DELAY * 2 ** (attempt - 1))
        delay = max(error.after or 0.0, grown * random.uniform(0.5, 1.0))
        return delay if delay < self._meter.left() else None

    def _once(self, body: Mapping[str, Any]) -> Answer:
        builder = Builder()
        with self._paid.request(_about(body)) as sent:
            try:
                self._request(self._at(_base(sent.server)) if sent.server else self._client, body, builder)
            finally:
                # What broke off was paid for, too.
                self._meter.add(builder.usage)
                sent.usage, sent.model = builder.usage, self._job.model
            answer = builder.answer()
            if answer is None:
                raise ApiError("network", "the answer broke off")
        return answer

    def _request(self, client: "anthropic.Anthropic", body: Mapping[str, Any], builder: Builder) -> None:
        idle = max(0.05, min(self._job.idle, self._meter.left()))
        timeout = self._sdk.Timeout(idle, connect=min(CONNECT, idle))
        try:
            with client.messages.with_streaming_response.create(
                model=self._job.model, stream=True, timeout=timeout, **body
            ) as response:
                self._look(response.headers)
                self._read(response, builder)
        except self._sdk.APIStatusError as error:
            self._look(error.response.headers)
            message = error.api_message or _plain(error)
            raise failure.of_answer(error.status_code, message, error.response.headers) from None
        except self._broken as error:
            cause = error.__cause__ or error
            raise ApiError("network", f"no answer: {cause or type(cause).__name__}") from None

    def _read(self, response: Any, builder: Builder) -> None:
        """All events of a stream into `builder`; also from a server that does not stream."""
        if "text/event-stream" not in response.headers.get("content-type", ""):
            _fed(builder.whole, _parsed(response.read()))
            return
        size, heard = 0, time.monotonic()
        for data in self._events(response):
            size += len(data)
            if size > MAX_ANSWER:
                raise ApiError("network", f"an answer of more than {MAX_ANSWER:,} bytes")
            self._meter.check_time()
            if time.monotonic() - heard > 10:
                heard = time.monotonic()
                self._hear({"event": "alive"})
            event = _parsed(data)
            if event.get("type") == "error":
                raise _told(event)
            _fed(builder.feed, event)

    def _events(self, response: Any) -> Iterator[str]:
        """The data of each event that has some. `[DONE]` is how some servers end a stream of JSON."""
        for event in self._sdk.Stream.raw_events(response):
            if event.data and event.data != "[DONE]":
                yield event.data

    def _look(self, headers: Mapping[str, str]) -> None:
        """Tell what changed about the limits."""
        for window in failure.windows(headers):
            if self._windows.get(window["name"]) != window:
                self._windows[window["name"]] = window
                self._hear(window)


def _base(url: str) -> str:
    return (url or ANTHROPIC).rstrip("/").removesuffix("/v1")


def _about(body: Mapping[str, Any]) -> int:
    """Tokens of a prompt, about."""
    return size(body["messages"])


def _fed(take: Callable[[dict[str, Any]], None], event: dict[str, Any]) -> None:
    try:
        take(event)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ApiError("network", f"an answer that is none of the Messages API: {error!r}") from None


def _parsed(data: str | bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ApiError("network", "an answer that is no JSON")
    return found


def _told(event: dict[str, Any]) -> ApiError:
    """An error in a stream that began well."""
    told = event.get("error")
    error: dict[str, Any] = told if isinstance(told, dict) else {"message": str(told or "")}
    kind, message = str(error.get("type", "")), str(error.get("message", ""))
    return failure.of_answer(failure.KINDS.get(kind, 500), message or kind, {})


def _plain(error: "anthropic.APIStatusError") -> str:
    """What a server that has a format of its own says."""
    body = error.body
    if isinstance(body, dict):
        inner = body.get("error", body.get("detail", body.get("message")))
        return str(inner) if inner else json.dumps(body)
    return str(body or error.message)
