"""What the built-in agent makes of servers that refuse, stall, break off, or speak a little differently."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from agent_harness import World, world
from support.messages_stub import MessagesStub, Reply, always, cut, fail, hang, in_order, say, use

from agentq.agent import api, failure
from agentq.agent.stream import Builder

AT = 1_800_000_000.0


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(api, "FIRST_DELAY", 0.01)
    return world(tmp_path)


def failed(here: World, reply: Reply, **job: Any) -> tuple[dict[str, Any], int]:
    with MessagesStub(always(reply)) as stub:
        return here.work(stub, **job), len(stub.requests)


@pytest.mark.parametrize(
    ("reply", "cause", "tries"),
    [
        (fail(400), "request", 1),
        (fail(401), "auth", 1),
        (fail(402), "billing", 1),
        (fail(403), "auth", 1),
        (fail(404), "request", 1),
        (fail(413), "context", 1),
        (fail(400, message="Your credit balance is too low to access the API"), "billing", 1),
        (fail(429), "rate-limit", 4),
        (fail(429, headers={"retry-after": "0"}), "rate-limit", 4),
        (fail(500), "overloaded", 4),
        (fail(529), "overloaded", 4),
        (fail(529, begun=True), "overloaded", 4),
        (fail(429, begun=True), "rate-limit", 4),
        (cut(), "network", 4),
    ],
)
def test_a_failure_has_a_cause_and_only_what_passes_is_tried_again(
    here: World, reply: Reply, cause: str, tries: int
) -> None:
    told, asked = failed(here, reply, retries=3)
    assert (told["outcome"], told["cause"], asked) == ("failed", cause, tries), told
    assert told["turns"] == 0 and len(here.of("retry")) == tries - 1
    assert told["status"] == (reply.status if reply.status != 200 else 0)
    assert [record["cause"] for record in here.records if record["type"] == "end"] == [cause]


def test_what_broke_off_was_paid_for_and_what_passes_is_forgotten(here: World) -> None:
    script = in_order([cut(), fail(529), fail(429, headers={"retry-after": "0.05"}), say("done")])
    with MessagesStub(script) as stub:
        told = here.work(stub, retries=3)
    assert told["outcome"] == "done" and told["turns"] == 1
    assert told["usage"]["input"] == 200 and [event["status"] for event in here.of("retry")] == [0, 529, 429]
    assert here.of("retry")[2]["delay"] >= 0.05
    assert [event["attempt"] for event in here.of("retry")] == [1, 2, 3]


def test_a_budget_holds_between_tries(here: World) -> None:
    told, asked = failed(here, cut(), retries=3, tokens=150)
    assert (told["outcome"], told["cause"], asked) == ("limit", "budget", 2)


def test_a_server_that_wants_a_long_rest_is_left_alone(here: World) -> None:
    begin = time.time()
    told, asked = failed(here, fail(429, headers={"retry-after": "3600"}), retries=3)
    assert (told["cause"], asked) == ("rate-limit", 1)
    assert 3590 < told["resets_at"] - begin < 3700


@pytest.mark.parametrize(
    ("reply", "resets_at"),
    [
        (fail(429, headers={"anthropic-ratelimit-unified-status": "rejected",
                            "anthropic-ratelimit-unified-reset": str(int(AT))}), AT),
        (fail(400, message="You have reached your specified API usage limits. You will regain access on "
                           "2026-12-01 at 00:00 UTC."), 1_796_083_200.0),
        (fail(429, message="Claude AI usage limit reached|1800000000"), AT),
        (fail(403, message="monthly limit reached"), 0.0),
    ],
)  # fmt: skip
def test_a_usage_limit_names_its_end(here: World, reply: Reply, resets_at: float) -> None:
    told, asked = failed(here, reply, retries=3)
    assert (told["cause"], told["resets_at"], asked) == ("usage-limit", resets_at, 1)


def test_windows_are_told_when_they_change(here: World) -> None:
    headers = {
        "anthropic-ratelimit-unified-5h-utilization": "0.42", "anthropic-ratelimit-unified-5h-reset": "1800000000",
        "anthropic-ratelimit-unified-5h-status": "allowed", "anthropic-ratelimit-unified-7d-utilization": "0.8",
        "anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "40",
        "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:00Z", "anthropic-ratelimit-tokens-limit": "odd",
    }  # fmt: skip
    later = {**headers, "anthropic-ratelimit-requests-remaining": "39"}
    call = {"command": "true"}
    with MessagesStub(
        in_order(
            [use("bash", call, headers=headers), use("bash", call, headers=headers), say("ok", headers=later)]
        )
    ) as stub:
        here.work(stub)
    told = [(w["name"], w["utilization"], w["resets_at"], w["status"]) for w in here.of("window")]
    assert told == [
        ("five_hour", 0.42, AT, "allowed"), ("seven_day", 0.8, 0.0, ""), ("requests", 0.2, AT, ""),
        ("requests", 0.22, AT, ""),
    ]  # fmt: skip


@pytest.mark.parametrize("reply", [hang(), hang(begun=True)], ids=["hang", "stalled"])
def test_silence_of_a_server_ends(here: World, reply: Reply) -> None:
    begin = time.monotonic()
    told, asked = failed(here, reply, idle=0.3, retries=1)
    assert (told["cause"], told["outcome"], asked) == ("network", "failed", 2)
    assert time.monotonic() - begin < 45


def test_a_server_that_is_not_there(here: World) -> None:
    with MessagesStub(always(say("x"))) as stub:
        pass
    told = here.work(stub, retries=1)
    assert (told["cause"], told["status"]) == ("network", 0) and "refused" in told["summary"]
    assert len(here.of("retry")) == 1


def test_the_time_ends_a_request_a_command_and_a_wait(here: World) -> None:
    begin = time.monotonic()
    told, _ = failed(here, hang(begun=True), seconds=0.5)
    assert (told["outcome"], told["summary"]) == ("timeout", "not done after 0.5 s")
    told, asked = failed(here, use("bash", {"command": "sleep 600"}), seconds=1)
    assert (told["outcome"], asked) == ("timeout", 1)
    told, asked = failed(here, fail(529, headers={"retry-after": "50"}), seconds=5, retries=3)
    assert (told["outcome"], told["cause"], asked) == ("failed", "overloaded", 1)
    assert time.monotonic() - begin < 45


# ---------------------------------------------------------------- other servers


@contextmanager
def server(body: bytes, kind: str = "text/event-stream", models: Any = None, drip: bool = False) -> Iterator[Any]:
    """A server that answers every request with `body`; `drip`: and then with signs of life without end."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/messages"
            self._answer(body, kind)

        def do_GET(self) -> None:
            self._answer(json.dumps(models).encode(), "application/json")

        def _answer(self, data: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(data)
            with suppress(OSError):  # the client goes away
                while drip:
                    self.wfile.write(b'event: ping\ndata: {"type": "ping"}\n\n')
                    time.sleep(0.05)

        def log_message(self, *_: Any) -> None:
            pass

    one = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=one.serve_forever, args=(0.02,))
    thread.start()
    try:
        one.url = f"http://127.0.0.1:{one.server_address[1]}/v1/"  # type: ignore[attr-defined]
        yield one
    finally:
        one.shutdown()
        thread.join()
        one.server_close()


def events(*each: dict[str, Any], named: bool = False) -> bytes:
    lines = [(f"event: {one['type']}\n" if named else "") + f"data: {json.dumps(one)}\n\n" for one in each]
    return "".join(lines).encode()


START = {"type": "message_start", "message": {"model": "m", "content": [], "usage": {"input_tokens": 7}}}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "fine"}}
END = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
WHOLE = {
    "type": "message", "model": "m", "content": [{"type": "text", "text": "fine"}], "stop_reason": "end_turn",
    "usage": {"input_tokens": 7, "output_tokens": 3},
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (events(START, BLOCK, TEXT, END) + b"data: [DONE]\n\n", "text/event-stream"),
        (
            events(START, BLOCK, TEXT, END, {"type": "message_stop"}, named=True),
            "text/event-stream; charset=utf-8",
        ),
        (json.dumps(WHOLE).encode(), "application/json"),
    ],
    ids=["without-names", "as-it-should", "no-stream"],
)
def test_servers_that_speak_a_little_differently(here: World, body: bytes, kind: str) -> None:
    with server(body, kind) as one:
        told = here.work(one, key="")
    assert (told["outcome"], told["summary"]) == ("done", "fine")
    assert (told["usage"]["input"], told["usage"]["output"]) == (7, 3)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (events(START, BLOCK, TEXT), "text/event-stream"),  # a connection that is closed in the middle, no error
        (b"", "text/event-stream"),
        (b"data: {no json\n\n", "text/event-stream"),
        (events({"type": "content_block_delta", "index": 5, "delta": {"type": "text_delta", "text": "x"}}), "text/event-stream"),
        (b"<html>login</html>", "text/html"),
        (b'{"ok": true}', "application/json"),
        (b'["ok"]', "application/json"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_never_taken_for_one(here: World, body: bytes, kind: str) -> None:
    with server(body, kind) as one:
        told = here.work(one)
    assert (told["outcome"], told["cause"]) == ("failed", "network")


@pytest.mark.parametrize(
    ("row", "window"),
    [({"max_input_tokens": 64_000}, 64_000), ({"max_model_len": 32_000}, 32_000), ({}, 200_000)],
)
def test_the_window_is_the_servers_word(here: World, row: dict[str, Any], window: int) -> None:
    from agentq.agent.job import parse
    from agentq.agent.limits import Meter

    models = {"data": [{"type": "model", "id": "claude-sonnet-5-5", **row}], "has_more": False}
    with server(b"", models=models) as one:
        job = parse(here.job(one, window=0))
        model = api.Api(job, "", Meter(job), lambda event: None)
        assert model.window() == window
        model.close()


def test_a_server_without_a_list_of_models_is_no_problem(here: World) -> None:
    with server(events(START, BLOCK, TEXT, END), models="none") as one:
        assert here.work(one, window=0)["outcome"] == "done"


def test_signs_of_life_without_end_do_not_outlive_the_time(here: World) -> None:
    begin = time.monotonic()
    with server(events(START), drip=True) as one:
        told = here.work(one, seconds=0.6)
    assert (told["outcome"], told["usage"]["input"]) == ("timeout", 7) and time.monotonic() - begin < 45


def test_thinking_goes_back_as_it_came_and_odd_blocks_do_not() -> None:
    builder = Builder()
    for event in (
        {"type": "message_start", "message": {"usage": {"input_tokens": 1, "cache_read_input_tokens": None}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": "", "citations": []}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "surprise", "data": 1}},
        {"type": "content_block_start", "index": 3,
         "content_block": {"type": "tool_use", "id": "t", "name": "bash", "input": {}, "caller": {}}},
        {"type": "content_block_delta", "index": 3, "delta": {"type": "input_json_delta", "partial_json": '{"comm'}},
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 9}},
    ):  # fmt: skip
        builder.feed(event)
    answer = builder.answer()
    assert answer is not None and answer.torn == {"t"} and answer.usage.output == 9
    assert answer.content == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "tool_use", "id": "t", "name": "bash", "input": {}},
    ]


def test_a_torn_call_is_not_carried_out(here: World) -> None:
    call = {"type": "tool_use", "id": "t", "name": "bash", "input": {}}
    torn = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "input_json_delta", "partial_json": '{"a'},
    }
    stop = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {}}
    body = events(START, {"type": "content_block_start", "index": 0, "content_block": call}, torn, stop)
    with server(body) as one:
        told = here.work(one, turns=1)
    assert told["cause"] == "turns" and here.of("tool") == []
    last = [record for record in here.records if record["type"] == "message"][-1]["message"]
    assert last["content"][0]["is_error"] and "not whole" in str(last)


def test_answers_that_break_off_or_say_nothing_are_asked_about_a_few_times(here: World) -> None:
    script = in_order([say("a long", stop="max_tokens"), say("end", stop="end_turn")])
    with MessagesStub(script) as stub:
        assert here.work(stub)["summary"] == "end"
        assert "cut off" in stub.asked[1].last_text
    told, asked = failed(here, Reply((), stop_reason="end_turn"))
    assert (told["outcome"], asked) == ("failed", 4) and "says nothing" in told["summary"]
    told, asked = failed(here, say("I will not", stop="refusal"))
    assert (told["outcome"], told["cause"], told["summary"], asked) == ("failed", "request", "I will not", 1)


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 213462 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000",
        "This model's maximum context length is 32768 tokens. However, you requested 40000 tokens",
        "the request exceeds the available context size. try increasing the context size or enable context shift",
        "litellm.ContextWindowExceededError: too many tokens in prompt",
    ],
)
def test_too_long_in_the_words_of_several_servers(message: str) -> None:
    assert failure.of_answer(400, message, {}).cause == "context"
    assert failure.of_answer(429, message, {}).cause == "rate-limit"


def test_a_message_of_a_server_paints_no_terminal(here: World) -> None:
    told, _ = failed(here, fail(400, message="\x1b[31mred\x1b]0;title\x07 \u202egnp" + "x" * 5000))
    assert told["summary"].startswith("red gnp") and len(told["summary"]) <= 500
