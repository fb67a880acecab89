"""agents/queue.json as text: read it with places in the errors, write it with untouched parts as they were.

Invariant: an entry whose meaning did not change keeps its exact characters, and so do an array that did not
change, the space a person put around them, and the whole file if nothing changed; a diff shows what was done
and nothing else. How one array is written is in core/layout.py.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pydantic import ValidationError

from agentq.core import jsontext
from agentq.core.layout import ArrayText, write_array
from agentq.core.queue import check
from agentq.core.spec import ARRAYS, Entry, Lease, Queue, StageRecord, first_problem
from agentq.core.text import clean, did_you_mean
from agentq.errors import CycleError, QueueError

# The keys beside the arrays, and what stands for "nothing said".
SCALARS: dict[str, Any] = {"$schema": None, "paused": False, "epoch": 0, "drained": [], "lane": {}}
_LEAD = re.compile(r"[ \t]*")
_FIELD = {"$schema": "schema_"}


@dataclass(frozen=True)
class Document:
    """A queue and the text it came from. `raw[array]` holds one text an entry, `offsets[array]` where it
    begins; `spans` is where the value of each key at the top begins and ends."""

    text: str
    queue: Queue
    raw: dict[str, tuple[str, ...]] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    arrays_text: dict[str, str] = field(default_factory=dict)
    offsets: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def array(self, key: str) -> ArrayText:
        """One array with its entries, offsets relative to its own text."""
        begin = self.spans[key][0]
        line = self.text.rfind("\n", 0, begin) + 1
        lead = _LEAD.match(self.text, line)[0]  # type: ignore[index]
        places = tuple(at - begin for at in self.offsets[key])
        return ArrayText(self.arrays_text[key], self.raw[key], places, getattr(self.queue, key), lead)


class Reader:
    """Parses documents; remembers the last one, so that re-reading a queue that changed a little is cheap."""

    def __init__(self) -> None:
        self._last: Document | None = None

    def parse(self, text: str) -> Document:
        """Raises QueueError (line, column, hint), CycleError."""
        if len(text) > jsontext.MAX_BYTES:
            raise QueueError("the file is larger than 256 MB", "move completed specs out of it")
        start = jsontext.skip(text, 0)
        if text[start : start + 1] != "{":
            jsontext.value(text, start)
            jsontext.fail(text, start, "a queue is an object", 'it begins with {"ready": […]')
        self._last = _Parse(text, start, self._last).document()
        return self._last


@dataclass
class _Parse:
    text: str
    start: int
    last: Document | None
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
        self.entries[key] = entries
        raw: list[str] = []
        offsets: list[int] = []

        seen = _Seen(self.last, key)

        def element(offset: int) -> int:
            offsets.append(offset)
            if (index := seen.at(self.text, offset)) is not None:
                raw.append(seen.raw[index])
                entries.append(seen.entries[index])
                return offset + len(seen.raw[index])
            data, end = jsontext.value(self.text, offset)
            raw.append(self.text[offset:end])
            entries.append(self._entry(key, data, offset))
            return end

        end = jsontext.read_array(self.text, at, element)
        self.raw[key], self.offsets[key] = tuple(raw), offsets
        return end

    def _entry(self, key: str, data: Any, offset: int) -> Entry:
        try:
            return ARRAYS[key].model_validate(data)
        except ValidationError as error:
            self._explain(error, key, data, offset)

    def _explain(self, error: ValidationError, key: str, data: Any, offset: int) -> NoReturn:
        steps, kind, why = first_problem(error)
        name = data.get("id", "?") if isinstance(data, dict) else "?"
        label = f"{key}[{clean(str(name))[:64]}]"
        where = _existing(data, steps)
        shown = ".".join(str(step) for step in where)
        path = "/".join([key, str(len(self.entries[key])), *(str(step) for step in where)])
        at = jsontext.locate(self.text, offset, where)
        if kind == "extra_forbidden":
            known = _fields_at(key, where[:-1])
            at = jsontext.locate_key(self.text, jsontext.locate(self.text, offset, where[:-1]), str(where[-1]))
            hint = did_you_mean(str(where[-1]), known) or f"known: {', '.join(known)}"
            jsontext.fail(self.text, at, f"{label}: unknown key '{clean(str(where[-1]))}'", hint, path)
        if kind == "missing":
            hint = "id and title are required" if steps[-1] in ("id", "title") else ""
            jsontext.fail(self.text, at, f"{label}: '{steps[-1]}' is missing", hint, path)
        if where[:1] == ["id"] and kind == "string_pattern_mismatch":
            jsontext.fail(self.text, at, f"{label}: not an id", "ids match [a-z0-9][a-z0-9-]{0,63}", path)
        jsontext.fail(self.text, at, f"{label}: {shown + ': ' if shown else ''}{why}", "", path)

    def _finish(self) -> Document:
        try:
            queue = Queue.model_validate(
                {**self.scalars, **{key: tuple(items) for key, items in self.entries.items()}}
            )
        except ValidationError as error:
            steps, _, why = first_problem(error)
            key = str(steps[0])
            at = self.spans.get(key, (self.start, 0))[0]
            jsontext.fail(self.text, at, f"{key}: {why}", path=key)
        try:
            check(queue)
        except QueueError as error:
            raise self._placed(error) from None
        arrays = {key: self.text[slice(*self.spans[key])] for key in self.entries}
        offsets = {key: tuple(places) for key, places in self.offsets.items()}
        return Document(self.text, queue, self.raw, self.spans, arrays, offsets)

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
            found = CycleError(error.cycle, line=line, column=column)
            found.path = error.path
            return found
        return QueueError(error.message, error.hint, path=error.path, line=line, column=column)


class _Seen:
    """The entries of an array as they were read last. An object's text ends itself, so the same characters at
    a place mean the same entry: most of a queue that was just read need not be decoded again."""

    _AHEAD = 3  # one update takes few entries out of their row

    def __init__(self, last: Document | None, key: str) -> None:
        self.raw = last.raw.get(key, ()) if last else ()
        self.entries: tuple[Entry, ...] = getattr(last.queue, key) if last else ()
        self._next = 0

    def at(self, text: str, offset: int) -> int | None:
        """The index of the last reading's entry whose text stands at `offset`, looking a few ahead."""
        for index in range(self._next, min(self._next + self._AHEAD, len(self.raw))):
            if text.startswith(self.raw[index], offset):
                self._next = index + 1
                return index
        return None


def _existing(data: Any, steps: list[str | int]) -> list[str | int]:
    """The steps that lead somewhere in `data`; pydantic adds names of its own for unions."""
    where: list[str | int] = []
    for step in steps:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            break
        where.append(step)
    return where


def _fields_at(array: str, where: list[str | int]) -> list[str]:
    """The keys that an entry, its lease or one of its stages may have."""
    if where:
        return list(Lease.model_fields if where[0] == "lease" else StageRecord.model_fields)
    return list(ARRAYS[array].model_fields)


def render(old: Document | None, queue: Queue) -> str:
    """The text of `queue`. What `old` says already keeps its characters, the space around it included."""
    old = old or Document("", Queue())
    if old.text and queue == old.queue:
        return old.text
    dumped = queue.model_dump(
        mode="json", by_alias=True, exclude_defaults=True, include={_FIELD.get(key, key) for key in SCALARS}
    )
    pieces: list[str] = []
    at = 0
    for key, (begin, end) in old.spans.items():
        if key in ARRAYS:
            value = write_array(old.array(key), getattr(queue, key))
        else:
            same = getattr(old.queue, _FIELD.get(key, key)) == getattr(queue, _FIELD.get(key, key))
            value = old.text[begin:end] if same else json.dumps(dumped.get(key, SCALARS[key]), ensure_ascii=False)
        pieces += [old.text[at:begin], value]
        at = end
    missing = {key: json.dumps(dumped[key], ensure_ascii=False) for key in SCALARS if dumped.get(key)}
    gap = _member_gap(old) if old.spans else ",\n  "
    fresh = ArrayText(lead=gap.rpartition("\n")[2] if "\n" in gap else "")
    for array in ARRAYS:
        if array not in old.spans and (getattr(queue, array) or not old.text):
            missing[array] = write_array(fresh, getattr(queue, array))
    added = [f"{json.dumps(key)}: {value}" for key, value in missing.items() if key not in old.spans]
    if not old.spans:
        return "{\n  " + ",\n  ".join(added) + "\n}\n"
    return "".join([*pieces, *(gap + member for member in added), old.text[at:]])


def _member_gap(old: Document) -> str:
    """What a person writes between two members of the queue, for one more."""
    spans = sorted(old.spans.values())
    if len(spans) > 1:
        between = old.text[spans[0][1] : spans[1][0]]
        comma = between.index(",")
        return between[: between.index('"', comma)]
    opening = old.text[old.text.index("{") + 1 : spans[0][0]]
    return "," + (opening[: opening.index('"')] or " ")
