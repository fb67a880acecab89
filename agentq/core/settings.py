"""What one setting is and which values it takes. The table of settings itself is in `agentq.config`.

Invariant: a value that passes `Setting.check` has its kind, lies inside its bounds and is safe to show.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, get_args

from agentq.core import tomltext
from agentq.core.text import clean, did_you_mean
from agentq.errors import ConfigError

PREFIX = "AGENTQ_"
MAX_TEXT = 10_000
MAX_ITEMS = 1000

Texts = tuple[str, ...]
Codes = tuple[int, ...]
Minutes = Mapping[str, float]
Counts = Mapping[str, int]
Command = str | tuple[str, ...]
KINDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    Texts: "list of texts",
    Codes: "list of whole numbers",
    Minutes: "table of minutes",
    Counts: "table of counts",
    Command: "text or list of texts",
}
_SPEC_TYPE = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class About:
    """What a setting is besides its name, type and default. `low` and `high` are inclusive bounds, of each
    item where there are several; a text with `low` 1 is not empty. `check` says why a text is refused."""

    doc: str
    low: float = 0
    high: float = 0
    choices: Texts = ()
    check: Callable[[str], str] = lambda _: ""


def shape(pattern: str, why: str) -> Callable[[str], str]:
    """A check for texts that are empty or match `pattern` as a whole."""
    return lambda value: "" if not value or re.fullmatch(pattern, value) else why


@dataclass(frozen=True)
class Setting:
    """One row of the table. `name` is section.key, `env` its environment variable, `kind` one of KINDS."""

    section: str
    key: str
    kind: str
    default: Any
    about: About

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def env(self) -> str:
        return f"{PREFIX}{self.section}_{self.key}".upper()

    def read(self, text: str) -> object:
        """The value an environment variable or a flag means; still to be checked. Lists and tables are
        TOML on one line; a list of one may stand bare."""
        if self.kind == "text":
            return text
        if self.kind in ("whole number", "number"):
            return _number(text)
        if text.lstrip()[:1] in ("[", "{"):
            try:
                return tomltext.parse(f"value = {text}", "")[0]["value"]
            except ConfigError:
                if self.kind != "text or list of texts":
                    raise ValueError("not a list or table as TOML writes it") from None
        if self.kind == "list of whole numbers":
            return [_number(text)]
        return [text] if self.kind == "list of texts" else text

    def check(self, value: object) -> Any:
        """The value as a Config holds it: lists as tuples, tables read-only. Raises ValueError (why)."""
        if self.kind == "whole number":
            return self._whole(value)
        if self.kind == "number":
            return self._bounded(value)
        if self.kind == "text" or (self.kind.startswith("text or") and isinstance(value, str)):
            return self._text(value, int(self.about.low))
        if self.kind.startswith("table of"):
            return self._by_type(value)
        if not isinstance(value, list | tuple):
            raise ValueError(_expected(self.kind, value))
        if len(value) > MAX_ITEMS:
            raise ValueError(f"more than {MAX_ITEMS} entries")
        if self.kind == "list of whole numbers":
            return tuple(self._whole(item) for item in value)
        return tuple(self._text(item, 1) for item in value)

    def _text(self, value: object, shortest: int) -> str:
        if not isinstance(value, str):
            raise ValueError(_expected("text", value))
        if clean(value) != value:
            raise ValueError("holds control characters")
        if len(value) > MAX_TEXT:
            raise ValueError(f"longer than {MAX_TEXT} characters")
        if len(value.strip()) < shortest:
            raise ValueError("must not be empty")
        if self.about.choices and value not in self.about.choices:
            raise ValueError(f"'{value[:80]}' is not one of: {', '.join(self.about.choices)}")
        if why := self.about.check(value):
            raise ValueError(f"'{value[:80]}': {why}")
        return value

    def _whole(self, value: object) -> int:
        if type(value) is not int:
            raise ValueError(_expected("whole number", value))
        self._bounded(value)
        return value

    def _bounded(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(_expected("number", value))
        low, high = self.about.low, self.about.high
        # Not-a-number fails both comparisons; an integer too large for a float never reaches float().
        if not low <= value <= high:
            raise ValueError(f"{_show(value)} is not between {_show(low)} and {_show(high)}")
        return float(value)

    def _by_type(self, value: object) -> Minutes | Counts:
        if not isinstance(value, Mapping):
            raise ValueError(_expected(self.kind, value))
        for key in value:
            if not isinstance(key, str) or not _SPEC_TYPE.fullmatch(key):
                raise ValueError(f"'{clean(str(key))[:80]}' is not a type of spec")
        one = self._whole if self.kind == "table of counts" else self._bounded
        return MappingProxyType({key: one(number) for key, number in value.items()})


def _number(text: str) -> float | str:
    """The number a text means; the text itself when it means none."""
    for number in (int, float):
        try:
            # int() and float() also take "1_000", but so does TOML.
            return number(text)
        except ValueError:
            pass
    return text


def _show(value: float) -> str:
    if isinstance(value, int) and abs(value) > 10**15:
        return "a number this large"
    return tomltext.dump(value) if math.isfinite(value) else str(value)


def _expected(kind: str, value: object) -> str:
    names = {
        bool: "true or false",
        str: "text",
        int: "whole number",
        float: "number",
        list: "list",
        dict: "table",
    }
    return f"expected a {kind}, found a {names.get(type(value), 'date or time')}".replace("a true", "true")


def table(holder: object, skip: Texts = ()) -> Iterator[Setting]:
    """The rows of a dataclass of sections, each a dataclass of Annotated[type, About] with defaults."""
    for section in fields(holder):  # type: ignore[arg-type]
        if section.name not in skip:
            values = getattr(holder, section.name)
            for row in fields(values):
                kind, about = get_args(row.type)
                yield Setting(section.name, row.name, KINDS[kind], getattr(values, row.name), about)


def unknown(key: str, section: str, known: Mapping[str, Texts]) -> str:
    """What to do about a key, or a section when `section` is empty, that is not among `known`."""
    words = known[section] if section else tuple(known)
    homes = [name for name, keys in known.items() if key in keys]
    if homes and homes != [section]:
        return f"'{key}' belongs in [{homes[0]}]"
    return did_you_mean(key, words) or f"known: {', '.join(words)}"


def document(settings: Mapping[str, Setting], about: Mapping[str, str], places: Mapping[str, str]) -> str:
    """One Markdown chapter for each section: `about` introduces it, `places` names its file."""
    lines: list[str] = []
    for section, introduction in about.items():
        lines += [f"## {section}", "", f"{introduction} {places[section]}", ""]
        lines += ["| Key | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
        for row in (row for row in settings.values() if row.section == section):
            default = tomltext.dump(row.default).replace("|", "\\|")
            lines.append(f"| `{row.key}` | {_limits(row)} | `{default}` | {row.about.doc} |")
        lines.append("")
    return "\n".join(lines)


def _limits(row: Setting) -> str:
    if row.about.choices:
        return ", ".join(f"`{choice}`" for choice in row.about.choices)
    bounds = f", {_show(row.about.low)} to {_show(row.about.high)}" if row.about.high else ""
    return row.kind + bounds
