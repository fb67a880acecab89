"""An answer put together from the events of its stream, as plain dicts: servers differ in what they leave out, and
nothing of that may be taken for an answer that is complete.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from agentq.core.usage import Usage

# What of a block goes back to the server with the next request; it refuses names it only sends.
_KEPT = {
    "text": ("type", "text"),
    "tool_use": ("type", "id", "name", "input"),
    "thinking": ("type", "thinking", "signature"),
    "redacted_thinking": ("type", "data"),
}
_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


@dataclass(frozen=True)
class Answer:
    """content: blocks as they go back to the server. torn: ids of tool calls whose arguments are not whole."""

    content: list[dict[str, Any]]
    stop: str
    usage: Usage
    model: str = ""
    torn: frozenset[str] = frozenset()

    @property
    def text(self) -> str:
        return "\n".join(block["text"] for block in self.content if block["type"] == "text").strip()

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [block for block in self.content if block["type"] == "tool_use"]


@dataclass
class Builder:
    """Takes the events of one answer. `usage` holds what it used so far, also when it breaks off."""

    usage: Usage = field(default_factory=Usage)
    stop: str = ""
    model: str = ""
    over: bool = False
    _blocks: dict[int, dict[str, Any]] = field(default_factory=dict)
    _arguments: dict[int, list[str]] = field(default_factory=dict)

    def feed(self, event: dict[str, Any]) -> None:
        """ValueError, TypeError, KeyError or AttributeError for an event that has no sense."""
        kind = event.get("type")
        if kind == "message_start":
            self._message(event["message"])
        elif kind == "content_block_start":
            self._blocks[event["index"]] = dict(event["content_block"])
        elif kind == "content_block_delta":
            self._delta(event["index"], event["delta"])
        elif kind == "message_delta":
            self.stop = event["delta"].get("stop_reason") or self.stop
            self._used(event.get("usage") or {})
        elif kind == "message_stop":
            self.over = True

    def whole(self, message: dict[str, Any]) -> None:
        """An answer that came in one piece. Raises as `feed`."""
        self._message(message)
        self._blocks = {place: dict(block) for place, block in enumerate(message["content"])}
        self.over = True

    def answer(self) -> Answer | None:
        """None when it broke off: its end, or why it ended, never came."""
        if not self.over and not self.stop:
            return None
        torn: set[str] = set()
        content = []
        for place, block in sorted(self._blocks.items()):
            if block.get("type") == "tool_use":
                self._finish_call(place, block, torn)
            kept = {name: block[name] for name in _KEPT.get(str(block.get("type")), ()) if name in block}
            if kept and (kept["type"] != "text" or kept.get("text")):
                content.append(kept)
        called = any(block["type"] == "tool_use" for block in content)
        stop = self.stop or ("tool_use" if called else "end_turn")
        return Answer(content, stop, self.usage, self.model, frozenset(torn))

    def _message(self, message: dict[str, Any]) -> None:
        self.model = str(message.get("model") or "")
        self.stop = message.get("stop_reason") or ""
        self._used(message.get("usage") or {})

    def _used(self, told: dict[str, Any]) -> None:
        """Counts are sums: the newest one that is told holds."""
        now = self.usage
        self.usage = Usage(
            _count(told.get("input_tokens"), now.input), _count(told.get("output_tokens"), now.output),
            _count(told.get("cache_read_input_tokens"), now.cache_read),
            _count(told.get("cache_creation_input_tokens"), now.cache_write),
        )  # fmt: skip

    def _delta(self, place: int, delta: dict[str, Any]) -> None:
        kind = str(delta.get("type"))
        if kind == "input_json_delta":
            self._arguments.setdefault(place, []).append(delta["partial_json"])
        elif name := _DELTAS.get(kind):
            block = self._blocks[place]
            block[name] = (block.get(name) or "") + delta[name]

    def _finish_call(self, place: int, block: dict[str, Any], torn: set[str]) -> None:
        """Its arguments from their pieces. A call that cannot be understood stays a call: it gets an error."""
        block["id"] = str(block.get("id") or f"toolu_{place}")
        block["name"] = str(block.get("name") or "")
        written = "".join(self._arguments.get(place, ()))
        try:
            given = json.loads(written) if written else block.get("input") or {}
        except ValueError:
            given = None
        if not isinstance(given, dict):
            torn.add(block["id"])
            given = {}
        block["input"] = given


def _count(told: Any, before: int) -> int:
    return max(0, told) if isinstance(told, int) and not isinstance(told, bool) else before
