"""The three-way merge of data: tables key by key, lists of requirements by name. All else stops."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from agentq.trunk.resolve.base import Doubt

Path = tuple[str, ...]
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?[^;]*(;.*)?")
_LISTS = re.compile(
    r"project/dependencies|project/optional-dependencies/[^/]+|dependency-groups/[^/]+|build-system/requires"
    r"|tool/uv/(?:dev|constraint|override)-dependencies"
)
_TABLES = re.compile(
    r"(?:.*/)?(?:dependencies|dev-dependencies|build-dependencies|devDependencies|peerDependencies"
    r"|optionalDependencies|require|require-dev|packages|dev-packages)"
)


class _Nothing:
    """What stands for a key that is not there."""


NOTHING = _Nothing()


class Opaque(Doubt):
    """Both sides changed a list or text that has no keys."""


def merge(base: Any, trunk: Any, spec: Any, path: Path = ()) -> Any:
    """The merge of three values, NOTHING where absent. Keeps trunk's order; what the spec adds follows what it
    follows there. Raises Doubt."""
    if same(trunk, spec) or same(spec, base):
        return trunk
    if same(trunk, base):
        return spec
    if isinstance(trunk, dict) and isinstance(spec, dict):
        return _tables(base if isinstance(base, dict) else {}, trunk, spec, path)
    lists = [one if isinstance(one, list) else [] for one in (base, trunk, spec)]
    if isinstance(trunk, list) and isinstance(spec, list) and _LISTS.fullmatch("/".join(path)):
        b, t, s = (by_name(one, path) for one in lists)
        return list(_tables(b, t, s, path).values())
    if isinstance(trunk, list) and isinstance(spec, list):
        raise Opaque(f"both sides changed the list {shown(path)}")
    raise Doubt(f"both sides changed {shown(path)}, each to something else")


def _tables(
    base: Mapping[str, Any], trunk: Mapping[str, Any], spec: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in _order(list(trunk), list(spec)):
        b, t, s = (one.get(key, NOTHING) for one in (base, trunk, spec))
        value = merge(b, t, s, (*path, key))
        if value is not NOTHING:
            found[key] = value
    return found


def _order(trunk: list[str], spec: list[str]) -> list[str]:
    """Trunk's keys, and each new one of the spec after the key it follows there; sorted if both sides are."""
    keys = list(trunk)
    for place, key in enumerate(spec):
        if key not in keys:
            before = [one for one in spec[:place] if one in keys]
            keys.insert(keys.index(before[-1]) + 1 if before else len(keys), key)
    return sorted(keys) if trunk == sorted(trunk) and spec == sorted(spec) else keys


def by_name(requirements: Iterable[Any], path: Path) -> dict[str, Any]:
    """Requirements by normalized name and marker. Raises Doubt if one is there twice or is none."""
    found: dict[str, Any] = {}
    for one in requirements:
        match = _REQUIREMENT.fullmatch(one) if isinstance(one, str) else None
        key = repr(one)
        if match is not None:
            key = re.sub(r"[-_.]+", "-", match[1]).lower() + re.sub(r"\s+", "", match[2] or "")
        elif not isinstance(one, dict):
            raise Opaque(f"{one!r} in {shown(path)} is no requirement")
        if key in found:
            raise Opaque(f"{key!r} is in {shown(path)} twice")
        found[key] = one
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same for a parser: 1 is not true, and not 1.0."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


def equal(one: Any, other: Any, path: Path = ()) -> bool:
    """`same`, where the order of requirements does not count."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key], (*path, key)) for key in one)
    if isinstance(one, list) and isinstance(other, list) and _LISTS.fullmatch("/".join(path)):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    return same(one, other)


def dependencies(data: Any, path: Path = ()) -> set[tuple[str, str]]:
    """(name, where) of every dependency that a manifest lists."""
    found: set[tuple[str, str]] = set()
    where = "/".join(path)
    if isinstance(data, list) and _LISTS.fullmatch(where) and where != "build-system/requires":
        found |= {(name, where) for name in by_name(data, path)}
    elif isinstance(data, dict):
        if _TABLES.fullmatch(where):
            return {(name, where) for name in data}
        for key, value in data.items():
            found |= dependencies(value, (*path, key))
    return found


def in_two_places(merged: Any, trunk: Any, spec: Any) -> str:
    """A dependency that only the merge lists in two tables, or ''."""

    def places(data: Any) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, where in dependencies(data):
            found.setdefault(name, set()).add(where)
        return found

    t, s = places(trunk), places(spec)
    odd = [
        name
        for name, tables in places(merged).items()
        if len(tables) > max(len(t.get(name, ())), len(s.get(name, ())), 1)
    ]
    return min(odd, default="")


def shown(path: Path) -> str:
    return ".".join(path) or "the whole file"
