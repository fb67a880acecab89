"""What Claude Code says, as it was seen from 2.1.197 and 2.1.330, and what it is taken for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentq.core.usage import Usage
from agentq.drivers.base import (
    AgentResult,
    AgentTask,
    Began,
    Event,
    Limits,
    Retried,
    Said,
    Spent,
    UsedTokens,
    UsedTool,
    Window,
)
from agentq.drivers.claude_said import ClaudeReader
from agentq.process import Outcome

SID = "cd44064e-1a66-4c7b-93e4-d9dd00fb4bc6"
INIT = {"type": "system", "subtype": "init", "session_id": SID, "model": "m", "claude_code_version": "2.1.330"}
TOOL_RESULT = {"type": "user", "message": {"role": "user", "content": []}, "parent_tool_use_id": None}


def reader(**more: Any) -> ClaudeReader:
    path = Path("/nowhere")
    return ClaudeReader(AgentTask("s", "implement", "r", path, path, path, {}, Limits(60), **more))


def heard(read: ClaudeReader, *events: Mapping[str, Any]) -> list[Event]:
    return [event for one in events for event in read.feed(json.dumps(one))]


def step(kind: str, parent: str | None = None, **more: Any) -> dict[str, Any]:
    return {"type": "stream_event", "event": {"type": kind, **more}, "parent_tool_use_id": parent}


def start(name: str, used: int, parent: str | None = None) -> dict[str, Any]:
    usage = {
        "input_tokens": used,
        "output_tokens": 1,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 2,
    }
    return step("message_start", parent, message={"id": name, "model": "m", "usage": usage})


def piece(name: str, *blocks: dict[str, Any], used: int = 10, model: str = "m", **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": used, "output_tokens": 1}
    return {
        "type": "assistant",
        "message": {"id": name, "model": model, "content": blocks, "usage": usage},
        **more,
    }


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def end(
    read: ClaudeReader, result: Mapping[str, Any] | None, rc: int | None = 0, kind: Any = "exited"
) -> AgentResult:
    if result is not None:
        heard(read, {"type": "result", "session_id": SID, **result})
    return read.verdict(Outcome(kind, rc, 1.0, 0, "", "" if kind == "exited" else "why"), "last words of stderr")


def well(**more: Any) -> dict[str, Any]:
    return {"subtype": "success", "is_error": False, "num_turns": 1, "result": "done", **more}


def error(status: int | None, words: str, **more: Any) -> dict[str, Any]:
    return {"subtype": "success", "is_error": True, "api_error_status": status, "result": words, **more}


def test_an_answer_is_counted_once_and_exactly_however_often_it_is_told() -> None:
    read = reader()
    tool = {"type": "tool_use", "name": "Bash", "input": {"command": "\n  make test\nmake x"}}
    seen = heard(
        read, INIT, start("m1", 10), piece("m1", text("I \x1b[31mlook")), piece("m1", tool),
        step("message_delta", usage={"output_tokens": 5}), step("message_stop"), piece("m1", text("again")),
        TOOL_RESULT,
    )  # fmt: skip
    assert seen == [
        Began(SID, "m", "2.1.330"), Said("I look"), UsedTool("Bash", "make test …"),
        UsedTokens(Usage(10, 5, 3, 2), "m"), Said("again"),
    ]  # fmt: skip
    assert end(read, well()).usage == Usage(10, 5, 3, 2)


def test_answers_of_helpers_run_beside_those_of_the_main_line() -> None:
    read = reader()
    heard(
        read,
        INIT,
        start("m1", 10),
        start("h1", 100, "t1"),
        step("message_delta", "t1", usage={"output_tokens": 50}),
    )
    seen = heard(
        read, step("message_stop", "t1"), step("message_stop"), piece("h2", text("hi"), parent_tool_use_id="t1")
    )
    assert [event.usage.input for event in seen if isinstance(event, UsedTokens)] == [100, 10, 10]


def test_an_answer_that_was_broken_off_is_paid_for() -> None:
    read = reader()
    heard(read, INIT, start("m1", 10))
    result = end(read, None, rc=-15, kind="stopped")
    assert (result.outcome, result.usage, result.cost, result.turns) == ("stopped", Usage(10, 1, 3, 2), None, 0)


def test_what_it_reports_counts_more_than_what_was_seen() -> None:
    """Compactions and titles are in no answer."""
    model = {"inputTokens": 500, "outputTokens": 9, "cacheReadInputTokens": 4, "cacheCreationInputTokens": 6}
    read = reader()
    heard(read, INIT, piece("m1", text("a")))
    result = end(read, well(total_cost_usd=0.5, modelUsage={"a": model, "b": {"inputTokens": 1}}))
    assert (result.usage, result.cost) == (Usage(501, 9, 4, 6), 0.5)


@pytest.mark.parametrize(
    ("reported", "cost", "usage", "paid"),
    [(110_200, 0.3342, 10_100, 0.0321), (10_100, 0.0321, 10_100, 0.0321)],
    ids=["since the first run", "this run alone"],
)
def test_a_conversation_that_goes_on_costs_the_difference(
    reported: int, cost: float, usage: int, paid: float
) -> None:
    read = reader(session=SID, before=Spent(Usage(100_100), 0.3021))
    heard(read, INIT, piece("m1", text("a"), used=10_000))
    result = end(read, well(total_cost_usd=cost, modelUsage={"a": {"inputTokens": reported}}))
    assert result.usage == Usage(usage) and result.cost == pytest.approx(paid)


CAUSES: list[tuple[dict[str, Any], str, str]] = [
    (error(401, "Invalid API key · Fix external API key"), "authentication_failed", "auth"),
    (error(None, "Not logged in · Please run /login"), "authentication_failed", "auth"),
    (error(403, "Failed to authenticate. API Error: 403 permission_error"), "authentication_failed", "auth"),
    (error(402, "Credit balance is too low"), "billing_error", "billing"),
    (error(400, "Your credit balance is too low"), "invalid_request", "billing"),
    (error(429, "API Error: Request rejected (429) · slow down"), "rate_limit", "rate-limit"),
    (error(429, "You've hit your 5-hour limit · resets 7:06pm (UTC)"), "rate_limit", "usage-limit"),
    (error(None, "Claude AI usage limit reached|1760000000"), "rate_limit", "usage-limit"),
    (error(529, "API Error: 529 overloaded_error. This is a server-side issue"), "server_error", "overloaded"),
    (error(500, "API Error: 500 api_error."), "server_error", "overloaded"),
    (error(None, "API Error: Unable to connect to API (ConnectionRefused)"), "server_error", "network"),
    (error(None, "Request timed out"), "server_error", "network"),
    (error(400, "API Error: 400 messages: bad"), "unknown", "request"),
    (error(404, "There's an issue with the selected model"), "model_not_found", "request"),
    (
        error(400, "Prompt is too long · the request is", terminal_reason="prompt_too_long"),
        "invalid_request",
        "context",
    ),
    (error(413, "Request too large (max 32MB)."), "invalid_request", "context"),
    ({"subtype": "error_during_execution", "is_error": True, "errors": ["No conversation found"]}, "", ""),
]


@pytest.mark.parametrize(
    ("result", "name", "cause"), CAUSES, ids=[case[0].get("result", "other") for case in CAUSES]
)
def test_why_it_did_not_end_well(result: dict[str, Any], name: str, cause: str) -> None:
    read = reader()
    assert heard(read, INIT, piece("x", text("oh"), model="<synthetic>", error=name)) == [
        Began(SID, "m", "2.1.330")
    ]
    got = end(read, result, rc=1)
    assert (got.outcome, got.cause, got.status) == ("failed", cause, result.get("api_error_status") or 0)
    assert got.summary == result.get("result", "No conversation found")
    assert got.resets_at == (1_760_000_000 if "|" in got.summary else 0)


@pytest.mark.parametrize(
    ("result", "rc", "outcome", "cause", "summary"),
    [
        (well(), 0, "done", "", "done"),
        (well(), 1, "failed", "", "done"),
        (None, 0, "failed", "", "last words of stderr"),
        ({"subtype": "error_max_turns", "is_error": True, "errors": ["Reached maximum number of turns (2)"]}, 1, "limit", "turns", "Reached maximum number of turns (2)"),
        ({"subtype": "error_max_budget_usd", "is_error": True, "errors": ["Reached maximum budget ($0.6)"]}, 1, "limit", "budget", "Reached maximum budget ($0.6)"),
        ({"subtype": "success", "result": "no word about errors"}, 0, "failed", "", "no word about errors"),
    ],
)  # fmt: skip
def test_only_a_result_without_errors_and_status_0_is_done(
    result: dict[str, Any] | None, rc: int, outcome: str, cause: str, summary: str
) -> None:
    read = reader()
    heard(read, INIT, piece("m1", text("a")))
    got = end(read, result, rc)
    assert (got.outcome, got.cause, got.summary) == (outcome, cause, summary)


def test_a_prompt_that_asked_no_model_is_not_done() -> None:
    read = reader()
    heard(read, INIT)
    got = end(read, {**well(), "result": "Unknown command: /evil", "num_turns": 0})
    assert (got.outcome, got.summary) == ("failed", "Unknown command: /evil")


@pytest.mark.parametrize(
    ("events", "kind", "cause"),
    [
        ([INIT], "silent", "network"),
        ([INIT], "timeout", "network"),
        ([INIT, start("m1", 1)], "silent", "network"),
        ([INIT, piece("m1", text("a")), TOOL_RESULT], "silent", "network"),
        ([INIT, piece("m1", text("a")), TOOL_RESULT], "timeout", ""),
        ([INIT, start("m1", 1), piece("m1", text("a")), step("message_stop")], "silent", ""),
        ([], "silent", ""),
        ([INIT], "stopped", ""),
    ],
    ids=["hang", "hang long", "stalled", "hang later", "long work", "a slow tool", "nothing at all", "stopped"],
)
def test_whose_silence_it_was(events: list[dict[str, Any]], kind: str, cause: str) -> None:
    read = reader()
    heard(read, *events)
    got = end(read, None, rc=-15, kind=kind)
    assert (got.outcome, got.cause, got.summary) == (kind, cause, "why")


def test_windows_of_a_plan() -> None:
    old = {"status": "rejected", "resetsAt": 1795287097, "rateLimitType": "five_hour", "isUsingOverage": False}
    warned = {**old, "status": "allowed_warning", "utilization": 0.8}
    both = {
        "five_hour": {"utilization": 1, "resetsAt": 100, "status": "rejected"},
        "seven_day": {"utilization": 0.1, "resetsAt": 200, "status": "allowed"},
    }
    five, seven = Window("five_hour", 1.0, 100, "rejected"), Window("seven_day", 0.1, 200, "allowed")
    for info, windows in [
        ({**old, "status": "allowed"}, []),
        (old, [Window("five_hour", 1.0, 1795287097, "rejected")]),
        (warned, [Window("five_hour", 0.8, 1795287097, "allowed_warning")]),
        ({**old, "unifiedWindows": both}, [five, seven]),
    ]:
        assert heard(reader(), {"type": "rate_limit_event", "rate_limit_info": info}) == windows
    read = reader()
    heard(read, INIT, {"type": "rate_limit_event", "rate_limit_info": {"unifiedWindows": both}})
    got = end(read, error(429, "no"), rc=1)
    assert (got.cause, got.resets_at, got.windows) == ("usage-limit", 100, (five, seven))


def test_retries_and_what_was_denied() -> None:
    retry = {
        "type": "system",
        "subtype": "api_retry",
        "attempt": 1,
        "retry_delay_ms": 500,
        "error_status": 529,
        "error": "overloaded",
    }
    lost = {**retry, "error_status": None, "error": "unknown"}
    read = reader()
    assert heard(read, retry, lost) == [Retried(529, 1, 0.5, "overloaded"), Retried(0, 1, 0.5, "unknown")]
    heard(read, piece("m1", text("a")))
    denied = [{"tool_name": "Write", "tool_input": {"file_path": "/etc/x\x1b[2J"}}] * 2 + [
        {"tool_name": "WebFetch"},
        "?",
    ]
    got = end(read, well(permission_denials=denied))
    assert (got.outcome, got.status, got.denied) == ("done", 0, ("Write /etc/x", "WebFetch"))


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "null", "[]", "7", '"x"', "{}", '{"type": null}', '{"type": ["user"]}', "[" * 100_000,
        '{"type": "assistant"}', '{"type": "assistant", "message": {"content": "x", "usage": [], "id": 5}}',
        '{"type": "assistant", "message": {"content": [null, {"type": "text", "text": 5}]}}',
        '{"type": "assistant", "message": {"content": [{"type": "tool_use", "name": {}, "input": "x"}]}}',
        '{"type": "stream_event", "event": {"type": "message_start", "message": 5}}',
        '{"type": "stream_event", "event": "x", "parent_tool_use_id": {}}',
        '{"type": "result", "modelUsage": [], "total_cost_usd": "1", "permission_denials": 3, "errors": {}}',
        '{"type": "result", "modelUsage": {"a": 3}, "total_cost_usd": NaN, "api_error_status": "401", "usage": 1}',
        '{"type": "rate_limit_event", "rate_limit_info": {"unifiedWindows": {"x": {"utilization": "1", "status": 3}}}}',
        '{"type": "system", "subtype": "api_retry", "error_status": -5, "retry_delay_ms": 1e400, "attempt": true}',
    ],
)  # fmt: skip
def test_whatever_it_says_nothing_raises(line: str) -> None:
    read = reader()
    read.feed(line)
    got = end(read, None, rc=0)
    assert got.outcome == "failed" and got.usage.total == 0 and not got.cost
