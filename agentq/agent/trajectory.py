"""What the agent was told, said and did, on disk as it happens: one JSON record a line, only ever appended.

A record is one write and is flushed to the disk, so a killed agent loses at most the one it was writing, and a
torn last line is never taken for a record. Kinds (`type`):

    begin         version, session, spec, stage, model
    message       message: one more of the conversation
    conversation  messages, why (`resumed`, `compacted`, `continued`): the conversation is these from here on
    memory        memory: what the harness knows, as it is now
    usage         usage, purpose (`work`, `compaction`), status
    event         what went to stdout
    end           outcome, cause, summary, usage, cost, turns
"""

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentq.errors import UserError

VERSION = 1
Message = dict[str, Any]


class Trajectory:
    """Appends to `path`, a new file (0600, made with its directory). hide: takes secrets out of a text. hold:
    nobody is stopped inside, so that no record is torn."""

    def __init__(
        self,
        path: Path,
        hide: Callable[[str], str],
        hold: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.path, self._hide, self._hold = path, hide, hold
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)

    def add(self, kind: str, **fields: Any) -> None:
        """OSError when it cannot be kept: an agent nobody could follow must not go on."""
        record = cleaned({"type": kind, **fields}, self._hide)
        data = memoryview((json.dumps(record, ensure_ascii=True) + "\n").encode())
        with self._hold():
            while data:
                data = data[os.write(self._fd, data) :]
            os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def cleaned(value: Any, hide: Callable[[str], str]) -> Any:
    """`value` with every text in it through `hide`."""
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list | tuple):
        return [cleaned(one, hide) for one in value]
    if isinstance(value, dict):
        return {hide(name): cleaned(one, hide) for name, one in value.items()}
    return value


@dataclass
class Past:
    """A conversation as it was left. model: whose it is."""

    model: str = ""
    messages: list[Message] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)


def load(path: Path) -> Past:
    """Raises UserError for what is not there or not a trajectory."""
    past, begun = Past(), False
    for record in records(path):
        kind = record.get("type")
        if kind == "begin":
            begun, past.model = record.get("version") == VERSION, str(record.get("model"))
        elif kind == "message":
            past.messages.append(record["message"])
        elif kind == "conversation":
            past.messages = list(record["messages"])
        elif kind == "memory":
            past.memory = record["memory"]
    if not begun:
        raise UserError(f"{path} is not a trajectory of this version", "start a new conversation")
    return past


def records(path: Path) -> list[dict[str, Any]]:
    """All whole records. Raises UserError for a file that cannot be read, or is broken before its last line."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "start a new conversation") from None
    found = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            found.append(dict(json.loads(line)))
        except (ValueError, TypeError):
            raise UserError(f"{path}:{number}: not a record", "start a new conversation") from None
    return found
