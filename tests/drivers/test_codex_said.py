"""What codex 0.169 was seen to say, and what it is taken for. The driver itself is in test_codex."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from agentq import process
from agentq.core.usage import Usage
from agentq.drivers.base import AgentResult, AgentTask, Event, Limits, Retried, Spent, UsedTokens
from agentq.drivers.codex_said import CodexReader, again_at, cause_of, status_of, version

SESSION = "01a1ff3a-19bd-7c60-b1bc-96e9ec781312"
AT = "url: http://127.0.0.1:1/v1/responses"


def reader(home: Path, session: str = "", before: Spent | None = None) -> CodexReader:
    task = AgentTask(
        "alpha",
        "test",
        "r",
        home,
        home / "p",
        home / "t",
        {},
        Limits(60),
        session=session,
        before=before or Spent(),
    )
    return CodexReader(task, home)


def ended(code: int = 0, kind: process.Kind = "exited") -> process.Outcome:
    return process.Outcome(kind, code, 1.0, 0, "", "" if kind == "exited" else kind)


def said(reader: CodexReader, *events: dict[str, Any]) -> list[Event]:
    return [heard for event in events for heard in reader.feed(json.dumps(event))]


@pytest.mark.parametrize(
    ("message", "name", "cause", "status"),
    [
        (f"unexpected status 401 Unauthorized: Incorrect API key provided, {AT}", {"http_connection_failed": {"http_status_code": 401}}, "auth", 401),
        (f"unexpected status 402 Payment Required: Payment required, {AT}", "", "billing", 402),
        (f"unexpected status 403 Forbidden: Country not supported, {AT}", "", "auth", 403),
        ("The model `x` does not exist", "model_not_found", "request", 0),
        ('{"error": {"message": "Unknown parameter", "type": "invalid_request_error"}}', "other", "request", 0),
        ("bad prompt", "invalid_prompt", "request", 0),
        ("exceeded retry limit, last status: 429 Too Many Requests", {"response_too_many_failed_attempts": {"http_status_code": 429}}, "rate-limit", 429),
        ("rate limit exceeded: Rate limit reached. Please try again in 11s.", "", "rate-limit", 0),
        ("Quota exceeded. Check your plan and billing details.", "usage_limit_exceeded", "billing", 0),
        ("You’ve hit your usage limit. Visit https://x/usage to purchase more credits or try again later.", "usage_limit_exceeded", "usage-limit", 0),
        ("We’re currently experiencing high demand, which may cause temporary errors.", "internal_server_error", "overloaded", 0),
        ("Selected model is at capacity. Please try a different model.", "server_overloaded", "overloaded", 0),
        (f"unexpected status 529 <unknown status code>: overloaded, {AT}", "", "overloaded", 529),
        ("Codex ran out of room in the model's context window. Start a new thread.", "context_window_exceeded", "context", 0),
        ("stream disconnected before completion: stream closed before response.completed", "other", "network", 0),
        ("Connection failed: error sending request", {"http_connection_failed": {"http_status_code": None}}, "network", 0),
        ("Missing environment variable: `AGENTQ_CODEX_KEY`.", "other", "auth", 0),
        ("I could not do it", "other", "", 0),
    ],
)  # fmt: skip
def test_what_an_error_means(tmp_path: Path, message: str, name: Any, cause: str, status: int) -> None:
    one = reader(tmp_path)
    said(one, {"type": "turn.failed", "error": {"message": message}})
    result = one.verdict(ended(1), "")
    told = f"{message} {json.dumps(name)}"
    assert (cause_of(told), status_of(told)) == (cause, status)
    assert result.outcome == "failed" and not result.summary.startswith("{")
    if not isinstance(name, str) or name in ("", "other"):  # stdout alone is enough
        assert (result.cause, result.status) == (cause, status)


NOON = time.mktime((2026, 11, 21, 12, 0, 0, 0, 0, -1))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("or try again at 10:46 PM.", (2026, 11, 21, 22, 47)),
        ("or try again at 12:05 PM.", (2026, 11, 21, 12, 6)),
        ("or try again at 9:30 AM.", (2026, 11, 22, 9, 31)),  # of the next day
        ("or try again at 12:30 AM.", (2026, 11, 22, 0, 31)),
        ("or try again at Nov 25th, 2026 1:49 AM.", (2026, 11, 25, 1, 50)),
        ("or try again at Jan 1st, 2027 11:59 PM.", (2027, 1, 2, 0, 0)),
        ("or try again later.", None),
        ("or try again at Foo 1st, 2027 11:59 PM.", None),
    ],
)
def test_when_a_usage_limit_ends(words: str, wanted: tuple[int, ...] | None) -> None:
    assert again_at(words, NOON) == (time.mktime((*wanted, 0, 0, 0, -1)) if wanted else 0)


def test_nothing_it_prints_raises(tmp_path: Path) -> None:
    one = reader(tmp_path)
    lines = [
        "", "no json", "[]", "null", "1e999", '{"type": 5}', '{"type": "item.completed"}', "{" * 3000, "[" * 100_000,
        '{"type": "item.completed", "item": []}', '{"type": "turn.completed", "usage": {"input_tokens": "many"}}',
        '{"type": "thread.started", "thread_id": ["../../etc"]}', '{"type": "turn.failed", "error": "x"}',
        '{"type": "item.started", "item": {"type": "file_change", "changes": [1, {"path": 5}]}}',
        '{"type": "item.completed", "item": {"type": ["x"], "id": {}}}',
    ]  # fmt: skip
    for line in lines:
        one.feed(line)
    assert one.verdict(ended(1), "").outcome == "failed"


@pytest.mark.parametrize(
    ("code", "events", "errors", "summary"),
    [
        (0, [], "", "it ended in the middle"),
        (1, [], "Reading …\nError loading config.toml: unknown field", "Error loading config.toml: unknown field"),
        (1, [{"type": "turn.completed", "usage": {}}], "", "it ended in the middle"),
        (0, [{"type": "turn.completed"}, {"type": "turn.failed", "error": {"message": "no"}}], "", "no"),
    ],
)
def test_an_end_without_a_good_end_is_no_success(
    tmp_path: Path, code: int, events: list[dict[str, Any]], errors: str, summary: str
) -> None:
    one = reader(tmp_path)
    said(one, *events)
    result = one.verdict(ended(code), errors)
    assert (result.outcome, result.summary) == ("failed", summary)


def test_retries_are_told(tmp_path: Path) -> None:
    heard = said(
        reader(tmp_path),
        {"type": "error", "message": f"Reconnecting... 1/2 (unexpected status 503 Unavailable: x, {AT})"},
        {
            "type": "error",
            "message": "Reconnecting... waiting for network (Connection failed: error sending request)",
        },
    )
    assert [(event.status, event.attempt) for event in heard if isinstance(event, Retried)] == [(503, 1), (0, 1)]


def test_without_its_record_stdout_still_tells_the_sum(tmp_path: Path) -> None:
    told = {"input_tokens": 300, "cached_input_tokens": 120, "cache_write_input_tokens": 20, "output_tokens": 60}
    one = reader(tmp_path, SESSION, Spent(Usage(100, 40, 100, 10)))
    heard = said(one, {"type": "thread.started", "thread_id": SESSION}, {"type": "turn.completed", "usage": told})
    result = one.verdict(ended(), "")
    assert (result.outcome, result.usage) == ("done", Usage(60, 20, 20, 10))
    assert [event.usage for event in heard if isinstance(event, UsedTokens)] == [Usage(60, 20, 20, 10)]


def test_of_a_new_record_everything_counts(tmp_path: Path) -> None:
    folder = tmp_path / "sessions" / "2026" / "11" / "21"
    folder.mkdir(parents=True)
    one = reader(tmp_path)
    line = {"type": "token_usage_record", "payload": {"usage": {"input_tokens": 10, "output_tokens": 1}}}
    (folder / f"rollout-2026-11-21T17-49-20-{SESSION}.jsonl").write_text(json.dumps(line) + "\n")
    heard = said(one, {"type": "thread.started", "thread_id": SESSION})
    assert [event.usage for event in heard if isinstance(event, UsedTokens)] == [Usage(10, 1)]


def test_of_an_older_part_of_its_record_nothing_counts(tmp_path: Path) -> None:
    folder = tmp_path / "sessions" / "2026" / "11" / "21"
    folder.mkdir(parents=True)
    record = folder / f"rollout-2026-11-21T17-49-20-{SESSION}.jsonl"
    line = {"type": "token_usage_record", "payload": {"usage": {"input_tokens": 10, "output_tokens": 1}}}
    record.write_text(json.dumps(line) + "\n")
    one = reader(tmp_path, SESSION)
    with record.open("a") as file:
        file.write(json.dumps(line) + "\n" + '{"type": "token_usage_record", "payload": 5}\n')
    heard = said(one, {"type": "thread.started", "thread_id": SESSION})
    assert [event.usage for event in heard if isinstance(event, UsedTokens)] == [Usage(10, 1)]
    result: AgentResult = one.verdict(ended(kind="stopped"), "")
    assert result.usage == Usage(10, 1) and result.session == SESSION


def test_versions() -> None:
    assert version("codex-cli 0.169.0") == (0, 169, 0) and version("what") == ()
