"""How one array of the queue file is written: like the person who wrote it, and stable.

Invariant: an entry that did not change keeps its characters, and two neighbours that stay neighbours keep
what stands between them. A changed entry keeps the order of its keys, its indentation, its being on one line.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentq.core import jsontext
from agentq.core.spec import Entry, to_json

_WIDTH = 80
_SPACE = " \t\n\r"


@dataclass(frozen=True)
class ArrayText:
    """An array as it stands in a file. `raw`: one text an entry; `places`: their offsets in `text`; `lead`:
    the white space before the line the array begins on."""

    text: str = ""
    raw: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    entries: tuple[Entry, ...] = ()
    lead: str = "  "

    def gap(self, index: int) -> str:
        """What stands before entry `index`; behind the last one for `len(raw)`."""
        begin = self.places[index - 1] + len(self.raw[index - 1]) if index else 1
        return self.text[begin : self.places[index] if index < len(self.raw) else -1]


@dataclass(frozen=True)
class _Style:
    """`lead`: indentation of an entry; `step`: of its keys below it; `flat`: an entry is one line."""

    lead: str
    step: str
    flat: bool


def write_array(old: ArrayText, entries: tuple[Entry, ...]) -> str:
    """The text of `entries`, as much as possible that of `old`."""
    if old.text and old.entries == entries:
        return old.text
    if not entries:
        return "[]"
    before = {entry.id: index for index, entry in enumerate(old.entries)}
    opening, between, closing = _gaps(old)
    style = _style(old)
    pieces: list[str] = []
    previous: int | None = -1
    for entry in entries:
        index = before.get(entry.id)
        kept = index is not None and previous is not None and index == previous + 1
        pieces.append(old.gap(index) if kept and index is not None else between if pieces else opening)
        pieces.append(_entry(entry, old, index, style))
        previous = index
    return "[" + "".join(pieces) + closing + "]"


def _entry(entry: Entry, old: ArrayText, index: int | None, style: _Style) -> str:
    if index is None:
        return _dump(to_json(entry), style)
    before = old.entries[index]
    if before is entry or before == entry:
        return old.raw[index]
    new = to_json(entry)
    said = json.loads(old.raw[index])
    merged: dict[str, Any] = {}
    for key, value in said.items():
        if getattr(before, key) == getattr(entry, key):
            merged[key] = value
        elif key in new:
            merged[key] = new[key]
    flat = "\n" not in old.raw[index]
    return _dump(
        {**merged, **{key: new[key] for key in new if key not in said}}, _Style(style.lead, style.step, flat)
    )


def _gaps(old: ArrayText) -> tuple[str, str, str]:
    """The white space around entries: (before the first, between two, behind the last)."""
    lead = old.lead + "  "
    if not old.raw:
        return "\n" + lead, ",\n" + lead, "\n" + old.lead
    opening, closing = old.gap(0), old.gap(len(old.raw))
    return opening, old.gap(1) if len(old.raw) > 1 else "," + (opening or " "), closing


def _style(old: ArrayText) -> _Style:
    """As the first entry is written."""
    if not old.raw:
        return _Style(old.lead + "  ", "  ", False)
    opening = old.gap(0)
    lead = opening.rpartition("\n")[2] if "\n" in opening else old.lead
    first = old.raw[0]
    inner = first[1 : jsontext.skip(first, 1)]
    step = inner.rpartition("\n")[2].removeprefix(lead) if "\n" in inner else "  "
    return _Style(lead, step, "\n" not in first)


def _dump(data: Mapping[str, Any], style: _Style) -> str:
    """An entry as JSON; short lists of strings stand on one line."""
    if style.flat:
        return "{" + ", ".join(f"{json.dumps(key)}: {_flat(value)}" for key, value in data.items()) + "}"
    inner = "\n" + style.lead + style.step
    members = (f"{json.dumps(key)}: {_value(value, inner, style.step)}" for key, value in data.items())
    return "{" + inner + ("," + inner).join(members) + "\n" + style.lead + "}"


def _flat(value: Any) -> str:
    """On one line; a whole number as a person writes it, 4 and not 4.0."""
    whole = isinstance(value, float) and value.is_integer()
    return json.dumps(int(value) if whole else value, ensure_ascii=False)


def _value(value: Any, line: str, step: str) -> str:
    flat = _flat(value)
    if isinstance(value, dict) and value:
        inner = line + step
        members = (f"{json.dumps(key)}: {_value(item, inner, step)}" for key, item in value.items())
        return "{" + inner + ("," + inner).join(members) + line + "}"
    if isinstance(value, Sequence) and not isinstance(value, str) and len(flat) > _WIDTH:
        inner = line + step
        return "[" + inner + ("," + inner).join(_value(item, inner, step) for item in value) + line + "]"
    return flat
