"""What lock files pin, and whether a re-locked one changed what neither side had touched."""

import json
import re
import tomllib
from collections.abc import Callable

from agentq.trunk.resolve.base import Doubt

Pins = frozenset[tuple[str, str]]  # (package, version)


def pins(name: str, content: bytes | None) -> Pins:
    """The packages of a lock file called `name`; none without a file. Raises Doubt if it cannot be read."""
    if not content:
        return frozenset()
    try:
        found = frozenset(_READERS[name](content.decode()))
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Doubt(f"{name} cannot be read: {str(error)[:100]}") from None
    return found


def drift(base: Pins, trunk: Pins, spec: Pins, after: Pins, *, locked: bool) -> str:
    """Why a re-locked file is not the merge of both sides' changes, or ''. `locked`: both sides kept their lock
    file up to date; otherwise packages nobody had locked may be new.

    What one side added is there, what neither touched is as it was, and nothing has a version that no side chose.
    A package that nothing needs any more may go, and one that is still needed may stay."""
    known = base | trunk | spec
    names, there = {name for name, _ in known}, {name for name, _ in after}
    for name, version in sorted(after - known):
        if name in names or locked:
            return f"{name} {version} is a version that neither side has"
    for side, pinned in (("trunk", trunk), ("the spec", spec)):
        for name, version in sorted(pinned - base - after):
            if name in there or name not in {one for one, _ in base}:
                return f"{name} {version}, which {side} brought, is lost"
    for name, version in sorted((base & trunk & spec) - after):
        if name in there:
            return f"{name} {version} changes, and neither side had touched it"
    return ""


def _toml(text: str) -> list[tuple[str, str]]:
    return [
        (one["name"], str(one.get("version", "")))
        for one in tomllib.loads(text.replace("\r\n", "\n")).get("package", [])
    ]


def _npm(text: str) -> list[tuple[str, str]]:
    data = json.loads(text)
    found = [
        (place.rpartition("node_modules/")[2], str(one.get("version", "")))
        for place, one in data.get("packages", {}).items()
        if place
    ]
    waiting = list(data.get("dependencies", {}).items())
    while waiting:
        name, one = waiting.pop()
        found.append((name, str(one.get("version", ""))))
        waiting += one.get("dependencies", {}).items()
    return found


_PNPM = re.compile(r"  ['\"]?/?((?:@[^/@]+/)?[^/@'\"]+)[@/]([^'\"()]+?)(?:\(.*)?['\"]?:(?:\s.*)?$")


def _pnpm(text: str) -> list[tuple[str, str]]:
    found, inside = [], False
    for line in text.splitlines():
        if line[:1] not in ("", " "):
            inside = line.startswith("packages:")
        elif inside and re.match(r"  \S", line):
            match = _PNPM.match(line)
            if match is None:
                raise ValueError(line.strip()[:60])
            found.append((match[1], match[2]))
    if "lockfileVersion" not in text:
        raise ValueError("no lockfileVersion")
    return found


_YARN = re.compile(r"\"?((?:@[^/@]+/)?[^@\"]+)@")


def _yarn(text: str) -> list[tuple[str, str]]:
    found, name = [], ""
    for line in text.splitlines():
        if line[:1] not in ("", " ", "#"):
            match = _YARN.match(line)
            name = match[1] if match else ""
        elif name and (version := re.fullmatch(r"  version:? \"?([^\"]+)\"?", line)):
            found.append((name, version[1]))
    if "# yarn lockfile" not in text and "__metadata:" not in text:
        raise ValueError("no lock file of yarn")
    return found


_READERS: dict[str, Callable[[str], list[tuple[str, str]]]] = {
    "uv.lock": _toml,
    "poetry.lock": _toml,
    "Cargo.lock": _toml,
    "package-lock.json": _npm,
    "npm-shrinkwrap.json": _npm,
    "pnpm-lock.yaml": _pnpm,
    "yarn.lock": _yarn,
}
