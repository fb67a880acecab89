"""The conversation as the Messages API has it: a list of messages of the roles user and assistant in turn.

Invariant: every tool call is followed by its results, in the next message; a server refuses anything else.
"""

import json
from collections.abc import Sequence
from typing import Any

CHARACTERS = 4  # of a token, about
INTERRUPTED = "the run was interrupted before this call was over; look at what it did before you call it again"
_SHORT = 2_000  # characters that stay of a text when a conversation has to shrink

Message = dict[str, Any]
Block = dict[str, Any]


def text(words: str) -> Block:
    return {"type": "text", "text": words}


def result(call: str, words: str, *, error: bool) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": call, "content": [text(words or "(nothing)")]}
    return {**block, "is_error": True} if error else block


def blocks(message: Message, kind: str) -> list[Block]:
    return [block for block in message["content"] if block.get("type") == kind]


def told(messages: Sequence[Message], block: Block) -> list[Message]:
    """The conversation with `block` said to the model: part of its last message, if that is the user's."""
    if messages and messages[-1]["role"] == "user":
        last = {"role": "user", "content": [*messages[-1]["content"], block]}
        return [*messages[:-1], last]
    return [*messages, {"role": "user", "content": [block]}]


def mended(messages: Sequence[Message]) -> list[Message]:
    """A conversation that was left in the middle: calls without results get one that says so."""
    if not messages or messages[-1]["role"] != "assistant":
        return list(messages)
    open_calls = [block["id"] for block in blocks(messages[-1], "tool_use")]
    if not open_calls:
        return list(messages)
    return [*messages, {"role": "user", "content": [result(one, INTERRUPTED, error=True) for one in open_calls]}]


def unthought(messages: Sequence[Message]) -> list[Message]:
    """The conversation without thinking, which is signed for one model and of no use to another."""
    kept = [
        {**message, "content": [block for block in message["content"] if "thinking" not in block["type"]]}
        for message in messages
    ]
    return [message if message["content"] else {**message, "content": [text("(thinking)")]} for message in kept]


def size(messages: Sequence[Message]) -> int:
    """About how many tokens."""
    return len(json.dumps(messages)) // CHARACTERS


def shrunk(messages: Sequence[Message], most: int) -> list[Message]:
    """A conversation of at most about `most` tokens for a server that takes no more: long texts lose their middle,
    then the oldest exchanges go, always a call with its results. The first message stays, cut if need be."""
    short = [{**message, "content": [_cut(block) for block in message["content"]]} for message in messages]
    first, rest = short[0], short[1:]
    while len(rest) > 2 and size([first, *rest]) > most:
        rest = rest[2:]
    # What follows the first message is the assistant's.
    return [first, *rest]


def _cut(block: Block) -> Block:
    """A block without the middle of its long texts. Thinking stays: it is signed."""
    if block.get("type") == "text":
        return {**block, "text": _ends(block["text"])}
    if block.get("type") == "tool_result":
        return {**block, "content": [_cut(one) for one in block["content"]]}
    if block.get("type") == "tool_use":
        given = {name: _ends(one) if isinstance(one, str) else one for name, one in block["input"].items()}
        return {**block, "input": given}
    return block


def _ends(words: str) -> str:
    half = _SHORT // 2
    return words if len(words) <= _SHORT + 100 else f"{words[:half]}\n[…]\n{words[-half:]}"
