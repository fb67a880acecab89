"""The Responses API as values: what is asked, what is answered, the events of a stream, what a server refuses."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentq.core.usage import Usage

USED = Usage(input=60, cache_read=40, output=20)  # what an answer costs, unless it says otherwise
REASONED = 5  # output tokens of it that the model thought

Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Request:
    """One request. headers: names in lower case. number: counts the POSTs to /v1/responses from 0; -1: another."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    number: int = -1

    @property
    def key(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def tools(self) -> list[dict[str, Any]]:
        return self.body.get("tools") or []

    @property
    def input(self) -> list[dict[str, Any]]:
        given = self.body.get("input") or []
        return [{"role": "user", "content": given}] if isinstance(given, str) else given

    @property
    def tool_results(self) -> list[str]:
        """What the tools of the conversation printed, oldest first."""
        return [_text(item["output"]) for item in self.input if item.get("type") == "function_call_output"]

    @property
    def text(self) -> str:
        """All text of the conversation, tool results and instructions included."""
        said = [_text(item.get("content") or item.get("output") or "") for item in self.input]
        return "\n".join([self.body.get("instructions") or "", *said])

    @property
    def last_text(self) -> str:
        """The last message or tool result."""
        return _text(self.input[-1].get("content") or self.input[-1].get("output") or "") if self.input else ""


@dataclass(frozen=True)
class Reply:
    """How a request is answered. `items`: the output. status other than 200: an error. begun: the error or the silence
    comes after the head and the first event. silent: seconds in which nothing is sent, at most until the stub closes.
    broken: the connection ends in the middle."""

    items: tuple[dict[str, Any], ...] = ()
    usage: Usage = USED
    status: int = 200
    error: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    silent: float = 0.0
    begun: bool = False
    broken: bool = False


def stream(request: Request, reply: Reply) -> Iterator[Event]:
    """The events that carry an answer, each with its number. Texts and arguments come in several pieces."""
    for number, (name, data) in enumerate(_events(request, reply)):
        yield name, {"type": name, "sequence_number": number, **data}


def _events(request: Request, reply: Reply) -> Iterator[Event]:
    items = items_of(request, reply)
    empty = {**response_of(request, reply, []), "status": "in_progress", "usage": None}
    yield "response.created", {"response": empty}
    yield "response.in_progress", {"response": empty}
    if reply.begun and reply.error:
        error = {"code": "server_error", **reply.error}
        yield "response.failed", {"response": {**empty, "status": "failed", "error": error}}
        return
    for place, item in enumerate(items):
        yield from _item_events(place, item)
    yield "response.completed", {"response": response_of(request, reply, items)}


def _item_events(place: int, item: dict[str, Any]) -> Iterator[Event]:
    where = {"output_index": place, "item_id": item["id"]}
    at = {"output_index": place}
    if item["type"] == "message":
        part, where = item["content"][0], {**where, "content_index": 0}
        yield "response.output_item.added", {**at, "item": {**item, "status": "in_progress", "content": []}}
        yield "response.content_part.added", {**where, "part": {**part, "text": ""}}
        for piece in _pieces(part["text"]):
            yield "response.output_text.delta", {**where, "delta": piece, "logprobs": []}
        yield "response.output_text.done", {**where, "text": part["text"], "logprobs": []}
        yield "response.content_part.done", {**where, "part": part}
    elif item["type"] == "function_call":
        yield "response.output_item.added", {**at, "item": {**item, "status": "in_progress", "arguments": ""}}
        for piece in _pieces(item["arguments"]):
            yield "response.function_call_arguments.delta", {**where, "delta": piece}
        done = {"name": item["name"], "arguments": item["arguments"]}
        yield "response.function_call_arguments.done", {**where, **done}
    else:
        yield "response.output_item.added", {**at, "item": {**item, "summary": []}}
    yield "response.output_item.done", {**at, "item": item}


def _pieces(whole: str) -> Iterator[str]:
    size = max(1, -(-len(whole) // 3))
    yield from (whole[start : start + size] for start in range(0, len(whole), size))


def items_of(request: Request, reply: Reply) -> list[dict[str, Any]]:
    """The output of an answer, with ids."""
    return [_item(request, place, item) for place, item in enumerate(reply.items)]


def _item(request: Request, place: int, item: dict[str, Any]) -> dict[str, Any]:
    unique = f"{request.number:04}_{place}"
    if item["type"] == "function_call":
        return {"id": f"fc_{unique}", "call_id": f"call_{unique}", "status": "completed", **item}
    if item["type"] == "message":
        return {"id": f"msg_{unique}", "status": "completed", **item}
    return {"id": f"rs_{unique}", **item}


def response_of(request: Request, reply: Reply, items: list[dict[str, Any]]) -> dict[str, Any]:
    used = reply.usage
    prompt = used.prompt
    usage = {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": used.cache_read, "cache_write_tokens": used.cache_write},
        "output_tokens": used.output, "output_tokens_details": {"reasoning_tokens": min(REASONED, used.output)},
        "total_tokens": prompt + used.output,
    }  # fmt: skip
    return {
        "id": f"resp_{request.number:04}", "object": "response", "created_at": 1_700_000_000, "status": "completed",
        "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "model": request.body["model"],
        "output": items, "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [],
        "top_p": 1.0, "usage": usage,
    }  # fmt: skip


def complaint(request: Request) -> str:
    """What the real server would refuse a request for; '' if nothing."""
    if not request.body.get("model"):
        return "Missing required parameter: 'model'."
    if not request.input:
        return "Missing required parameter: 'input'."
    calls = {item.get("call_id") for item in request.input if item.get("type") == "function_call"}
    outputs = {item.get("call_id") for item in request.input if item.get("type") == "function_call_output"}
    if missing := calls - outputs:
        return f"No tool output found for function call {sorted(missing)[0]}."
    if strange := outputs - calls:
        return f"No tool call found for function call output with call_id {sorted(strange)[0]}."
    return ""


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content)
