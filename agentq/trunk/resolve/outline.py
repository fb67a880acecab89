"""What a text says, apart from its order: its pieces, each in its scope, and the names that must not come twice.

A resolution is proved by it: its outline is the three-way merge of the outlines of base, trunk and spec. A line
that slipped into another function, section or table, or one that is gone, has no such outline.
Formats with a parser are read by it; of the others brackets, headings, sections or indentation tell the scopes.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from agentq.trunk.resolve.base import Doubt

Scope = tuple[str, ...]


class Item(NamedTuple):
    """One piece. `kind`: import, definition, element, statement, line; flow: its place among others matters."""

    scope: Scope
    kind: str
    text: str


@dataclass
class Outline:
    """`names`: what is defined, registered or set, by scope."""

    items: Counter[Item] = field(default_factory=Counter)
    names: Counter[tuple[Scope, str]] = field(default_factory=Counter)

    def add(self, scope: Scope, kind: str, text: str, name: str = "") -> None:
        self.items[Item(scope, kind, text)] += 1
        if name:
            self.names[(scope, name)] += 1


def merged(base: Outline, trunk: Outline, spec: Outline) -> Counter[Item]:
    """The pieces a right merge has. Raises Doubt where one side removed what the other one added to."""
    found: Counter[Item] = Counter()
    for item in {*base.items, *trunk.items, *spec.items}:
        b, t, s = base.items[item], trunk.items[item], spec.items[item]
        if b not in (t, s) and t != s and min(t, s) < b:
            raise Doubt(f"one side removed {item.text[:60]!r}, the other one repeats it")
        found[item] = s if t == b else t if s == b else max(t, s)
    ours, theirs = trunk.items - base.items, spec.items - base.items
    for scope in {item.scope for item in ours} & {item.scope for item in theirs}:
        flow = [item for item in (*ours, *theirs) if item.scope == scope and item.kind == "flow"]
        if flow and {i for i in ours if i.scope == scope} != {i for i in theirs if i.scope == scope}:
            raise Doubt(f"the order of {flow[0].text[:60]!r} and what the other side added there may matter")
    return +found
