"""agents/queue.json as text: read it with places in the errors, write it with untouched entries as they were.

Invariant: an entry whose meaning did not change keeps its exact characters, and so does an array that did not
change; a diff shows what was done and nothing else.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import ValidationError

from agentq.core import jsontext
from agentq.core.queue import check
from agentq.core.spec import ARRAYS, Entry, Queue, to_json
from agentq.core.text import clean, did_you_mean
from agentq.errors import CycleError, QueueError

SCALARS = ("$schema", "paused", "epoch")
_INDENT = 2
_CACHE_LIMIT = 200_000


@dataclass(frozen=True)
class Document:
    """A queue and the text it came from. `raw[array]` holds one text an entry; `at` its offset."""

    text: str
    queue: Queue
    raw: dict[str, tuple[str, ...]] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    arrays_text: dict[str, str] = field(default_factory=dict)


class Reader:
    """Parses documents; remembers entries it has validated, so that re-reading a queue is cheap."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Entry] = {}

    def parse(self, text: str) -> Document:
        """Raises QueueError (line, column, hint), CycleError."""
        if len(text) > jsontext.MAX_BYTES:
            raise QueueError("the file is larger than 256 MB", "move completed specs out of it")
        start = jsontext.skip(text, 0)
        if text[start : start + 1] != "{":
            jsontext.value(text, start)
            jsontext.fail(text, start, "a queue is an object", 'it begins with {"ready": […]')
        return _Parse(text, start, self._known).document()


@dataclass
class _Parse:
    text: str
    start: int
    known: dict[tuple[str, str], Entry]
    scalars: dict[str, Any] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    raw: dict[str, tuple[str, ...]] = field(default_factory=dict)
    offsets: dict[str, list[int]] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    def document(self) -> Document:
        end = jsontext.read_object(self.text, self.start, self._member)
        tail = jsontext.skip(self.text, end)
        if tail < len(self.text):
            jsontext.fail(self.text, tail, "text behind the end of the queue", "remove it")
        return self._finish()

    def _member(self, key: str, key_at: int, at: int) -> int:
        if key in self.spans:
            jsontext.fail(self.text, key_at, f"the key '{key}' stands here a second time", "merge the two")
        if key in ARRAYS:
            end = self._array(key, at)
        elif key in SCALARS:
            self.scalars[key], end = jsontext.value(self.text, at)
        else:
            hint = did_you_mean(key, [*SCALARS, *ARRAYS]) or f"known: {', '.join([*SCALARS, *ARRAYS])}"
            jsontext.fail(self.text, key_at, f"unknown key '{clean(key)}'", hint, path=key)
        self.spans[key] = (at, end)
        return end

    def _array(self, key: str, at: int) -> int:
        if self.text[at : at + 1] != "[":
            jsontext.value(self.text, at)
            jsontext.fail(self.text, at, f"'{key}' is an array", f'write "{key}": []', path=key)
        entries: list[Entry] = []
        raw: list[str] = []
        offsets: list[int] = []

        def element(offset: int) -> int:
            data, end = jsontext.value(self.text, offset)
            raw.append(self.text[offset:end])
            entries.append(self._entry(key, data, raw[-1], offset))
            offsets.append(offset)
            return end

        end = jsontext.read_array(self.text, at, element)
        self.entries[key], self.raw[key], self.offsets[key] = entries, tuple(raw), offsets
        return end

    def _entry(self, key: str, data: Any, piece: str, offset: int) -> Entry:
        entry = self.known.get((key, piece))
        if entry is None:
            try:
                entry = ARRAYS[key].model_validate(data)
            except ValidationError as error:
                self._explain(error, key, data, offset)
            if len(self.known) >= _CACHE_LIMIT:
                self.known.clear()
            self.known[key, piece] = entry
        return entry

    def _explain(self, error: ValidationError, key: str, data: Any, offset: int) -> NoReturn:
        first = error.errors(include_url=False, include_context=False)[0]
        where = [step for step in first["loc"] if isinstance(step, str | int)]
        name = data.get("id", "?") if isinstance(data, dict) else "?"
        label = f"{key}[{clean(str(name))[:64]}]"
        field_path = ".".join(str(step) for step in where if not str(step).startswith("function-"))
        at = jsontext.locate(self.text, offset, where)
        if first["type"] == "extra_forbidden":
            known = [field.alias or n for n, field in ARRAYS[key].model_fields.items()]
            holder = jsontext.locate(self.text, offset, where[:-1])
            at = jsontext.locate_key(self.text, holder, str(where[-1]))
            hint = did_you_mean(str(where[-1]), known) or f"known: {', '.join(known)}"
            jsontext.fail(self.text, at, f"{label}: unknown key '{clean(str(where[-1]))}'", hint, field_path)
        if first["type"] == "missing":
            why, hint = f"{label}: '{where[-1]}' is missing", "id and title are required"
            jsontext.fail(self.text, at, why, hint, field_path)
        if where[:1] == ["id"] and first["type"] == "string_pattern_mismatch":
            why = f"{label}: not an id"
            jsontext.fail(self.text, at, why, "ids match [a-z0-9][a-z0-9-]{0,63}", field_path)
        message = first["msg"].removeprefix("Value error, ")
        jsontext.fail(self.text, at, f"{label}: {field_path or 'entry'}: {message}", "", field_path)

    def _finish(self) -> Document:
        try:
            queue = Queue.model_validate(
                {**self.scalars, **{key: tuple(items) for key, items in self.entries.items()}}
            )
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = str(first["loc"][0])
            at = self.spans.get(key, (self.start, 0))[0]
            jsontext.fail(self.text, at, f"{key}: {first['msg']}", path=key)
        try:
            check(queue)
        except QueueError as error:
            raise self._placed(error) from None
        arrays = {key: self.text[slice(*self.spans[key])] for key in self.entries}
        return Document(self.text, queue, self.raw, self.spans, arrays)

    def _placed(self, error: QueueError) -> QueueError:
        """`error.path` is 'array/index/field…': the same error with the line and the column of that place."""
        array, _, rest = error.path.partition("/")
        steps: list[str | int] = [int(step) if step.isdigit() else step for step in rest.split("/") if step]
        at = self.start
        if array in self.offsets and steps:
            at = jsontext.locate(self.text, self.offsets[array][int(steps[0])], steps[1:])
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        if isinstance(error, CycleError):
            return CycleError(error.cycle, line=line, column=column)
        return QueueError(error.message, error.hint, path=error.path, line=line, column=column)


def render(old: Document | None, queue: Queue) -> str:
    """The text of `queue`; what `old` already says keeps its characters."""
    if old is None:
        old = Document("", Queue())
    values: dict[str, str] = {}
    dumped = queue.model_dump(mode="json", by_alias=True, include={"schema_", "paused", "epoch"})
    for key in SCALARS:
        default = key not in old.spans and dumped.get(key) in (None, False, 0)
        if not default:
            values[key] = _scalar(old, key, dumped.get(key))
    for array in ARRAYS:
        if old.text and array not in old.spans and not getattr(queue, array):
            continue
        values[array] = _array(old, array, getattr(queue, array))
    order = [*(key for key in old.spans), *(key for key in [*SCALARS, *ARRAYS] if key not in old.spans)]
    lines = [f"{' ' * _INDENT}{json.dumps(key)}: {values[key]}" for key in order if key in values]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _scalar(old: Document, key: str, value: Any) -> str:
    if key in old.spans:
        raw = old.text[slice(*old.spans[key])]
        if json.loads(raw) == value:
            return raw
    return json.dumps(value, ensure_ascii=False)


def _array(old: Document, array: str, entries: tuple[Entry, ...]) -> str:
    if array in old.arrays_text and getattr(old.queue, array) is entries:
        return old.arrays_text[array]
    raw = {
        entry.id: (entry, piece)
        for entry, piece in zip(getattr(old.queue, array), old.raw.get(array, ()), strict=True)
    }
    if not entries:
        return "[]"
    pieces = []
    for entry in entries:
        before = raw.get(entry.id)
        same = before is not None and (before[0] is entry or before[0] == entry)
        pieces.append(before[1] if same and before else _entry_text(entry))
    opening, separator, closing = _gaps(old.arrays_text.get(array, ""), old.raw.get(array, ()))
    return "[" + opening + separator.join(pieces) + closing + "]"


def _entry_text(entry: Entry) -> str:
    body = json.dumps(to_json(entry), indent=_INDENT, ensure_ascii=False)
    body = re.sub(r"\[\s+((?:\"[^\"\n]*\",?\s*)+)\]", _inline, body)
    return body.replace("\n", "\n" + " " * (2 * _INDENT))


def _inline(found: re.Match[str]) -> str:
    """Short lists of strings stand on one line."""
    flat = "[" + re.sub(r"\",\s+\"", '", "', found.group(1).strip()) + "]"
    return flat if len(flat) <= 80 else found.group(0)


def _gaps(text: str, raw: tuple[str, ...]) -> tuple[str, str, str]:
    """The white space a person put around the entries: (before the first, between two, behind the last)."""
    default = "\n" + " " * (2 * _INDENT), ",\n" + " " * (2 * _INDENT), "\n" + " " * _INDENT
    if not raw:
        return default
    first = jsontext.skip(text, 1)
    last = len(text[:-1].rstrip())
    opening, closing = text[1:first], text[last:-1]
    if len(raw) == 1:
        return opening, "," + opening, closing
    behind = first + len(raw[0])
    second = jsontext.skip(text, jsontext.skip(text, behind) + 1)
    return opening, text[behind:second], closing
