"""The Messages API as values: what is asked, what is answered, the events of a stream, what a server refuses."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agentq.core.usage import Usage

USED = Usage(input=100, output=20)  # what an answer costs, unless it says otherwise

Event = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Request:
    """One request. headers: names in lower case. number: counts the POSTs to /v1/messages from 0; -1 for others."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]
    number: int = -1

    @property
    def key(self) -> str:
        """The key it was sent with, as x-api-key or as a bearer."""
        return self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def tools(self) -> list[dict[str, Any]]:
        return self.body.get("tools") or []

    def has_tool(self, name: str) -> bool:
        return any(tool.get("name") == name for tool in self.tools)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.body.get("messages") or []

    @property
    def tool_results(self) -> list[dict[str, Any]]:
        """All tool results of the conversation, oldest first; `text` is their text."""
        return [_with_text(block) for message in self.messages for block in _blocks(message, "tool_result")]

    @property
    def last_tool_results(self) -> list[dict[str, Any]]:
        """The tool results of the last message; `text` is their text."""
        return [_with_text(block) for block in _blocks(self.messages[-1], "tool_result")] if self.messages else []

    @property
    def system(self) -> str:
        return _text(self.body.get("system") or "")

    @property
    def text(self) -> str:
        """All text of the conversation, tool results and the system prompt included."""
        return "\n".join([self.system, *(_text(message.get("content", "")) for message in self.messages)])

    @property
    def last_text(self) -> str:
        return _text(self.messages[-1].get("content", "")) if self.messages else ""


@dataclass(frozen=True)
class Reply:
    """How a request is answered. `blocks`: content of the message. status other than 200: an error `kind`, `message`.

    silent: seconds in which nothing is sent before the answer, at most until the stub closes. begun: the silence or
    the error comes after the head and the first event. broken: the connection ends in the middle.
    """

    blocks: tuple[dict[str, Any], ...] = ()
    usage: Usage = USED
    stop_reason: str = "end_turn"
    status: int = 200
    kind: str = ""
    message: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    silent: float = 0.0
    begun: bool = False
    broken: bool = False


def stream(message: dict[str, Any]) -> Iterator[Event]:
    """The events that carry a message. Texts and arguments come in several pieces."""
    usage = message["usage"]
    head = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    yield "message_start", {"type": "message_start", "message": head}
    yield "ping", {"type": "ping"}
    for index, block in enumerate(message["content"]):
        yield from _block_events(index, block)
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield (
        "message_delta",
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage["output_tokens"]}},
    )
    yield "message_stop", {"type": "message_stop"}


def _block_events(index: int, block: dict[str, Any]) -> Iterator[Event]:
    kind: Literal["text", "tool_use"] = block["type"]
    empty = {**block, "text": ""} if kind == "text" else {**block, "input": {}}
    yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": empty}
    whole = block["text"] if kind == "text" else json.dumps(block["input"])
    size = max(1, -(-len(whole) // 3))
    for start in range(0, len(whole), size):
        piece = whole[start : start + size]
        delta = (
            {"type": "text_delta", "text": piece}
            if kind == "text"
            else {"type": "input_json_delta", "partial_json": piece}
        )
        yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
    yield "content_block_stop", {"type": "content_block_stop", "index": index}


def message_of(request: Request, reply: Reply) -> dict[str, Any]:
    content = [
        {**block, "id": block["id"] or f"toolu_{request.number:04}_{place}"}
        if block["type"] == "tool_use"
        else block
        for place, block in enumerate(reply.blocks)
    ]
    usage = {
        "input_tokens": reply.usage.input, "output_tokens": reply.usage.output,
        "cache_read_input_tokens": reply.usage.cache_read, "cache_creation_input_tokens": reply.usage.cache_write,
    }  # fmt: skip
    return {
        "id": f"msg_{request.number:04}", "type": "message", "role": "assistant", "model": request.body["model"],
        "content": content, "stop_reason": reply.stop_reason, "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def model_row(name: str, window: int) -> dict[str, Any]:
    return {
        "type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z", "lifecycle": "active",
        "max_input_tokens": window, "max_tokens": 32_000,
    }  # fmt: skip


def tokens(request: Request) -> int:
    """About how many tokens a request is: four characters each."""
    return len(json.dumps(request.body)) // 4


def complaint(body: Mapping[str, Any]) -> str:
    """What the real server would refuse a request for; '' if nothing."""
    for name in ("model", "messages"):
        if not body.get(name):
            return f"{name}: field required"
    if not isinstance(body.get("max_tokens"), int):
        return "max_tokens: field required"
    messages = body["messages"]
    if messages[0].get("role") != "user":
        return "messages: first message must use the user role"
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        if not message.get("content"):
            return f"messages.{index}: content must not be empty"
        if any(not block.get("text") for block in _blocks(message, "text")):
            return f"messages.{index}: text content blocks must be non-empty"
        results = {str(block.get("tool_use_id")) for block in _blocks(message, "tool_result")}
        if results != open_calls:
            return f"messages.{index}: tool_use ids {sorted(open_calls)} need tool_result blocks, got {sorted(results)}"
        open_calls = {block["id"] for block in _blocks(message, "tool_use")}
    return f"tool_use without tool_result at the end: {sorted(open_calls)}" if open_calls else ""


def _blocks(message: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    content = message.get("content")
    return [block for block in content if block.get("type") == kind] if isinstance(content, list) else []


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(
        _text(block["content"])
        if block.get("type") == "tool_result" and "content" in block
        else block.get("text", "")
        for block in content
    )


def _with_text(block: dict[str, Any]) -> dict[str, Any]:
    return {**block, "text": _text(block.get("content", ""))}
