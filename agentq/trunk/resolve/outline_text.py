"""The outlines of data, prose and settings."""

import json
import re
from collections import Counter
from typing import Any

from agentq.trunk.resolve.base import Doubt
from agentq.trunk.resolve.outline import Outline, Scope


def read_toml(text: str) -> Outline:
    import tomllib

    try:
        data = tomllib.loads(text.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, ValueError, RecursionError) as error:
        raise Doubt(f"it is no TOML: {str(error)[:120]}") from None
    return _flat(data, (), Outline())


def _flat(value: Any, scope: Scope, found: Outline) -> Outline:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            found.names[(scope, str(key))] += 1
            _flat(inner, (*scope, str(key)), found)
    elif isinstance(value, list) and value:
        for inner in value:
            name = (
                next((f"{key} {inner[key]}" for key in _NAMES if key in inner), "")
                if isinstance(inner, dict)
                else ""
            )
            found.add((*scope, "[]"), "element", json.dumps(inner, default=repr, sort_keys=True), name)
    else:
        found.add(scope, "line", repr(value))
    return found


def read_yaml(text: str) -> Outline:
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        raise Doubt("no YAML parser is installed here to prove it") from None
    found = Outline()
    try:
        for number, node in enumerate(yaml.compose_all(text, Loader=yaml.SafeLoader)):
            _flat(_plain(node), (f"document {number}",), found)
    except yaml.YAMLError as error:
        raise Doubt(f"it is no YAML: {str(error).splitlines()[0][:120]}") from None
    return found


def _plain(node: Any) -> Any:
    """A YAML node as data: scalars with their tag. Raises Doubt for a key that is there twice."""
    if node is None or isinstance(node.value, str):
        return "" if node is None else f"{node.tag} {node.value}"
    if node.id == "sequence":
        return [_plain(one) for one in node.value]
    pairs = [(key.value if isinstance(key.value, str) else repr(key), _plain(one)) for key, one in node.value]
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1 and key != "<<"]
    if twice:
        raise Doubt(f"{twice[0]!r} would be there twice")
    return dict(pairs)


_NAMES = ("name", "id", "key", "path")  # what tells the entries of a list of tables apart


# ---------------------------------------------------------------- prose and settings

_FENCE = re.compile(r"\s{0,3}(```+|~~~+)")
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*$")
_NUMBERED = re.compile(r"\s*(\d+[.)]|\[[^\]]+\]:|\*\*[^*]+\*\*)\s")


def read_markdown(text: str) -> Outline:
    found, levels, fence = Outline(), list[tuple[int, str]](), ""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        scope = tuple(title for _, title in levels)
        if fenced := _FENCE.match(line):
            fence = "" if fence == fenced[1][:3] else (fence or fenced[1][:3])
            found.add(scope, "flow", line.strip())
            continue
        under = lines[number + 1] if number + 1 < len(lines) else ""
        heading = None if fence else _HEADING.match(line)
        if (
            not fence
            and line.strip()
            and re.fullmatch(r"={3,}\s*|-{3,}\s*", under)
            and not line.startswith(("#", "-", "|"))
        ):
            level, title = (1 if under[0] == "=" else 2), line.strip()
        elif heading:
            level, title = len(heading[1]), heading[2]
        else:
            if line.strip():
                numbered = _NUMBERED.match(line)
                found.add(scope, "line", line.strip(), numbered[1] if numbered and not fence else "")
            continue
        levels = [one for one in levels if one[0] < level]
        found.add(tuple(one for _, one in levels), "definition", title, title)
        levels.append((level, title))
    if fence:
        raise Doubt("a code block is not closed")
    return found


_SETTING = re.compile(r"(?:export\s+)?([\w.$/-]+)\s*(?:[:=]|\+=)(?![:=>])")


def read_sections(text: str) -> Outline:
    """INI, .env, properties: `[section]`, then keys. A continuation line belongs to the key before it."""
    found, section, key = Outline(), "", ""
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped:
            continue
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped
            found.add((), "definition", section, section)
        elif line[0] in " \t" and key:
            found.add((section, key), "element", stripped)
        else:
            setting = _SETTING.match(stripped)
            key = setting[1] if setting else ""
            found.add((section,), "line", stripped, key)
    return found


def read_indented(text: str) -> Outline:
    """Any other text: a line belongs to the last line before it that is indented less."""
    found, above = Outline(), list[tuple[int, str]]()
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped:
            continue
        depth = len(line) - len(line.lstrip())
        above = [one for one in above if one[0] < depth]
        setting = _SETTING.match(stripped)
        found.add(tuple(one for _, one in above), "line", stripped, setting[1] if setting else "")
        above.append((depth, stripped))
    return found
