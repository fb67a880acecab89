"""The stub of the Responses API, held against OpenAI's own client and the types it ships."""

import json
import warnings
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from support.responses_format import Request, complaint, response_of, stream
from support.responses_stub import (
    ResponsesStub,
    always,
    cut,
    fail,
    hang,
    in_order,
    say,
    think,
    together,
    use,
    writes,
)

TOOL: Any = {
    "type": "function", "name": "shell", "strict": False, "description": "",
    "parameters": {"type": "object", "properties": {"command": {"type": "array", "items": {"type": "string"}}}},
}  # fmt: skip
EVERYTHING = together(think("hm"), say("first this"), use("shell", {"command": ["ls"]}))


def client(stub: ResponsesStub) -> openai.OpenAI:
    return openai.OpenAI(base_url=stub.url, api_key="sk-test", max_retries=0, timeout=10)


def test_a_client_reads_text_calls_reasoning_and_usage_from_the_stream() -> None:
    with (
        ResponsesStub(always(EVERYTHING)) as stub,
        client(stub) as api,
        api.responses.stream(model="m", input="go", tools=[TOOL]) as events,
    ):
        kinds = [event.type for event in events]
        answer = events.get_final_response()
    assert [item.type for item in answer.output] == ["reasoning", "message", "function_call"]
    assert answer.output_text == "first this"
    assert json.loads(answer.output[2].arguments) == {"command": ["ls"]}  # type: ignore[union-attr]
    assert kinds.count("response.output_text.delta") > 1
    assert (
        answer.usage and answer.usage.input_tokens == 100 and answer.usage.input_tokens_details.cached_tokens == 40
    )
    assert stub.requests[0].key == "sk-test"


@pytest.mark.parametrize("reply", [EVERYTHING, fail(200, "no", begun=True, code="server_error")])
def test_every_event_is_one_that_the_client_declares(reply: Any) -> None:
    asked = Request("POST", "/v1/responses", {}, {"model": "m", "input": "go"}, 0)
    declared: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    events = list(stream(asked, reply))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client's types warn about their own order
        for name, data in events:
            assert declared.validate_python(data).type == name
        Response.model_validate(response_of(asked, say("x"), []))
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))


def test_a_conversation_of_tool_calls() -> None:
    with ResponsesStub(writes({"a/b.txt": "it's"})) as stub, client(stub) as api:
        said: list[Any] = [{"role": "user", "content": "go"}]
        commands: list[str] = []
        while len(commands) < 5:
            answer = api.responses.create(model="m", input=said, tools=[TOOL])
            call = answer.output[0]
            if call.type != "function_call":
                break
            commands.append(json.loads(call.arguments)["command"][-1])
            said += [
                {"type": "function_call", "call_id": call.call_id, "name": "shell", "arguments": call.arguments},
                {"type": "function_call_output", "call_id": call.call_id, "output": "STEP-OK"},
            ]
    assert answer.output_text == "done" and len(commands) == 2
    assert "a/b.txt" in commands[0] and commands[1].startswith("git add -A")
    assert stub.requests[-1].tool_results == ["STEP-OK", "STEP-OK"]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError), (401, openai.AuthenticationError), (403, openai.PermissionDeniedError),
        (429, openai.RateLimitError), (500, openai.InternalServerError), (529, openai.InternalServerError),
    ],
)  # fmt: skip
def test_errors_are_errors(status: int, error: type[openai.APIStatusError]) -> None:
    told = fail(status, "why", {"retry-after": "3"}, code="a_code")
    with ResponsesStub(always(told)) as stub, client(stub) as api, pytest.raises(error) as caught:
        api.responses.create(model="m", input="go")
    assert caught.value.status_code == status and caught.value.code == "a_code"
    assert caught.value.response.headers["retry-after"] == "3"


def test_what_no_server_would_take_is_refused() -> None:
    with ResponsesStub(always(say("x"))) as stub, client(stub) as api:
        lost: Any = [{"type": "function_call_output", "call_id": "call_9", "output": ""}]
        with pytest.raises(openai.BadRequestError, match="No tool call found"):
            api.responses.create(model="m", input=lost)
        with pytest.raises(openai.BadRequestError, match="'input'"):
            api.responses.create(model="m", input=[])
    open_call = [{"type": "function_call", "call_id": "c", "name": "x", "arguments": "{}"}]
    assert "No tool output" in complaint(Request("POST", "/", {}, {"model": "m", "input": open_call}))


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (cut(), openai.APIConnectionError),
        (hang(), openai.APITimeoutError),
        (hang(begun=True), openai.APITimeoutError),
    ],
)
def test_a_broken_and_a_silent_answer(reply: Any, error: type[Exception]) -> None:
    with (
        ResponsesStub(always(reply)) as stub,
        client(stub) as api,
        pytest.raises(error) as caught,
        api.with_options(timeout=0.3).responses.stream(model="m", input="go", tools=[TOOL]) as events,
    ):
        events.get_final_response()
    assert type(caught.value) is error


def test_a_script_ends() -> None:
    with ResponsesStub(in_order([say("one")], aside=say("aside"))) as stub, client(stub) as api:
        assert api.responses.create(model="m", input="go").output_text == "aside"
        assert api.responses.create(model="m", input="go", tools=[TOOL]).output_text == "one"
        with pytest.raises(openai.BadRequestError, match="script of 1 replies is over"):
            api.responses.create(model="m", input="go", tools=[TOOL])
