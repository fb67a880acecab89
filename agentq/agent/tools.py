"""The agent's six tools: bash, read, write, edit, glob, grep.

Invariant: a call never raises and never answers without bound; what goes wrong is an error for the model. Secrets
that are known are hidden in every result, so the model never sees them."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentq.agent import search
from agentq.agent.confine import Denied, Files
from agentq.agent.memory import Memory
from agentq.agent.shell import Shell
from agentq.core.text import one_line
from agentq.errors import AgentqError

MAX_RESULT = 30_000  # characters of a result: head and tail stay
MIN_RESULT = 2_000  # of a model with a very small window
MAX_LINES = 2_000  # lines of one `read`
MAX_LINE = 2_000  # characters of a line in `read`
MAX_READ = 512 * 1024 * 1024  # bytes `read` looks at to reach an offset
MAX_EDIT = 10 * 1024 * 1024  # bytes of a file that can be edited
_CHUNK = 64 * 1024
_TEXT, _INTEGER, _YES = {"type": "string"}, {"type": "integer", "minimum": 1}, {"type": "boolean"}


@dataclass(frozen=True)
class Done:
    """What a call gives the model. denied: it was refused, rather than gone wrong."""

    text: str
    error: bool = False
    denied: bool = False


def _spec(name: str, about: str, needed: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {**needed, **more}, "required": list(needed)}
    return {"name": name, "description": about, "input_schema": schema}


SPECS = [
    _spec(
        "bash",
        "Run a command with bash in the workspace and return what it printed. Each call is a new shell: what it "
        "leaves running is ended, and what it leaves in /tmp may be gone. timeout: seconds.",
        {"command": _TEXT}, {"timeout": _INTEGER},
    ),
    _spec(
        "read",
        f"Read a text file, with line numbers. offset: first line, from 1; limit: lines, at most {MAX_LINES}.",
        {"file_path": _TEXT}, {"offset": _INTEGER, "limit": _INTEGER},
    ),
    _spec(
        "write",
        "Write a whole file; what was in it is replaced and missing folders are made.",
        {"file_path": _TEXT, "content": _TEXT}, {},
    ),
    _spec(
        "edit",
        "Replace a text in a file. old_string must be in it exactly once, with every space as it is there, unless "
        "replace_all is true.",
        {"file_path": _TEXT, "old_string": _TEXT, "new_string": _TEXT}, {"replace_all": _YES},
    ),
    _spec(
        "glob",
        "List files by a pattern such as '**/*.py', newest first.",
        {"pattern": _TEXT}, {"path": _TEXT},
    ),
    _spec(
        "grep",
        "Find lines by a regular expression (Python's) in the text files of a folder or in one file. glob: only "
        "files that match, such as '*.py'.",
        {"pattern": _TEXT}, {"path": _TEXT, "glob": _TEXT},
    ),
]  # fmt: skip


class Tools:
    """Carries out calls. hide: takes secrets out of a text. most: characters of a result."""

    def __init__(
        self, files: Files, shell: Shell, memory: Memory, hide: Callable[[str], str], most: int = MAX_RESULT
    ) -> None:
        self._files, self._shell, self._memory, self._hide, self._most = files, shell, memory, hide, most
        self._table: dict[str, Callable[[Mapping[str, Any]], Done]] = {
            "bash": self._bash, "read": self._read, "write": self._write, "edit": self._edit, "glob": self._glob,
            "grep": self._grep,
        }  # fmt: skip

    def call(self, name: str, given: Mapping[str, Any]) -> Done:
        tool = self._table.get(name)
        if tool is None:
            return Done(f"there is no tool '{name[:80]}'; there are {', '.join(self._table)}", error=True)
        spec = next(one for one in SPECS if one["name"] == name)
        if wrong := _wrong(spec["input_schema"], given):
            return Done(f"{name}: {wrong}", error=True)
        try:
            done = tool(given)
        except Denied as error:
            done = Done(str(error), error=True, denied=True)
        except OSError as error:
            what = given.get("file_path") or given.get("path") or error.filename or name
            done = Done(f"{what}: {error.strerror or error}", error=True)
        except (ValueError, re.error, AgentqError) as error:
            done = Done(str(error), error=True)
        return Done(shorten(self._hide(done.text), self._most), done.error, done.denied)

    def _bash(self, given: Mapping[str, Any]) -> Done:
        run = self._shell.run(given["command"], given.get("timeout"))
        self._memory.ran(run)
        return Done(run.told, error=not run.good)

    def _read(self, given: Mapping[str, Any]) -> Done:
        path = self._files.find(given["file_path"])
        first, limit = given.get("offset", 1), min(given.get("limit", MAX_LINES), MAX_LINES)
        with self._files.opened(path) as fd:
            found, total, more = _lines(fd, first, limit)
        if found is None:
            return Done(f"{self._files.show(path)} is a binary file", error=True)
        if not found:
            return Done("(the file is empty)" if not total else f"(the file has {total} lines)")
        rest = f"\n(goes on; read on with offset {first + len(found)})" if more else ""
        return Done("\n".join(f"{first + i:>6}\t{line}" for i, line in enumerate(found)) + rest)

    def _write(self, given: Mapping[str, Any]) -> Done:
        path, data = self._files.find(given["file_path"]), given["content"].encode()
        self._files.write(path, data)
        self._memory.wrote(self._files.show(path))
        return Done(f"wrote {len(data):,} bytes to {self._files.show(path)}")

    def _edit(self, given: Mapping[str, Any]) -> Done:
        path = self._files.find(given["file_path"])
        text, old, new = self._whole(path), given["old_string"], given["new_string"]
        if old == new or not old:
            return Done("old_string is empty, or the same as new_string", error=True)
        if old not in text and "\r\n" in text and "\r" not in old:
            old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
        count = text.count(old)
        if count == 0:
            return Done("old_string is not in the file; read it and copy the text exactly", error=True)
        if count > 1 and not given.get("replace_all"):
            return Done(f"old_string is in the file {count} times; give more lines, or replace_all", error=True)
        self._files.write(path, text.replace(old, new).encode())
        self._memory.wrote(self._files.show(path))
        return Done(f"replaced {count} in {self._files.show(path)}")

    def _whole(self, path: Path) -> str:
        """A text file, every byte of it. ValueError for one that cannot be edited."""
        with self._files.opened(path) as fd:
            size = os.fstat(fd).st_size
            if size > MAX_EDIT:
                raise ValueError(f"a file of {size:,} bytes is too large to edit; use bash")
            with os.fdopen(os.dup(fd), "rb") as file:
                data = file.read(MAX_EDIT + 1)
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise ValueError("the file is not UTF-8; use bash") from None

    def _glob(self, given: Mapping[str, Any]) -> Done:
        top = self._files.find(given.get("path") or ".")
        return Done(search.glob(self._files, top, given["pattern"]))

    def _grep(self, given: Mapping[str, Any]) -> Done:
        top = self._files.find(given.get("path") or ".")
        return Done(search.grep(self._files, top, given["pattern"], given.get("glob") or ""))


def detail(name: str, given: Mapping[str, Any]) -> str:
    """A line about a call, for people."""
    words = [given.get(key) for key in ("command", "file_path", "pattern", "path") if given.get(key)]
    return one_line(" ".join(" ".join(str(word) for word in words[:2]).split()) or name, 200)


def shorten(text: str, most: int = MAX_RESULT) -> str:
    """Head and tail of a long text; what matters stands at its ends."""
    if len(text) <= most:
        return text
    head, tail = most // 3, most - most // 3
    return f"{text[:head]}\n[… {len(text) - head - tail:,} characters left out …]\n{text[-tail:]}"


def _wrong(schema: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """Why arguments do not fit, ''; null stands for one that is not given."""
    kinds: dict[str, type] = {"string": str, "integer": int, "boolean": bool}
    for name in schema["required"]:
        if given.get(name) is None:
            return f"{name} is missing"
    for name, value in given.items():
        about = schema["properties"].get(name)
        if about is None or value is None:
            continue
        if not isinstance(value, kinds[about["type"]]) or (about["type"] == "integer" and isinstance(value, bool)):
            return f"{name} is not a {about['type']}"
        if "minimum" in about and value < about["minimum"]:
            return f"{name} is below {about['minimum']}"
    return ""


def _lines(fd: int, first: int, limit: int) -> tuple[list[str] | None, int, bool]:
    """Lines from `first` on, at most `limit`; how many were seen; whether there are more. None: binary. Bounded,
    whatever the file holds."""
    found: list[str] = []
    number, seen, whole = 0, 0, True
    with os.fdopen(os.dup(fd), "rb") as file:
        while piece := file.readline(_CHUNK):
            seen += len(piece)
            if seen > MAX_READ:
                raise ValueError(f"line {first} is more than {MAX_READ:,} bytes into the file; use bash")
            if b"\0" in piece:
                return None, number, False
            if whole:
                number += 1
                if number >= first + limit:
                    return found, number, True
                if number >= first:
                    found.append(_shown(piece))
            whole = piece.endswith(b"\n")
    return found, number, False


def _shown(piece: bytes) -> str:
    text = piece.rstrip(b"\r\n").decode(errors="replace")
    return text if len(text) <= MAX_LINE else text[:MAX_LINE] + "…"
