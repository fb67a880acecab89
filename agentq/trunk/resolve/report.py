"""Resolutions and stops as text for people."""

from collections.abc import Mapping, Sequence

from agentq.core.text import clean
from agentq.trunk.resolve.base import Answer, Stopped

_NEXT = {
    "lock file": "resolve what it is made from, or re-lock it by hand on the newest trunk",
    "manifest": "choose one of the values",
    "generated": "set [conflicts] regenerate, and make the command give the same bytes each time",
    "additive": "put both additions where they belong",
}


def stopped(
    answers: Sequence[Answer], landed: Mapping[str, Sequence[str]] | None = None, spec: str = ""
) -> list[str]:
    """A line for each stop: path, class, why, what to do. `landed`: path → the specs that changed it on trunk,
    newest first; then an order is suggested: theirs is on trunk already, so `spec` goes on top of it."""
    lines = []
    for one in answers:
        if not isinstance(one, Stopped):
            continue
        rule = one.rule.partition(" (")[0]
        line = (
            f"{one.path} ({one.rule}): {one.why}; {_NEXT.get(rule, 'decide, and write the file as it should be')}"
        )
        if others := list((landed or {}).get(one.path, ())):
            first = ", then ".join([*reversed(others), *([spec] if spec else [])])
            line += f". Order: {first}"
        lines.append(_safe(line))
    return lines


def resolved(answers: Sequence[Answer]) -> list[str]:
    """A line for each path that was resolved: every automatic resolution is logged with its rule."""
    return [_safe(f"{one.path} ({one.rule}): {one.said}") for one in answers if not isinstance(one, Stopped)]


def _safe(line: str) -> str:
    return clean(line).replace("\n", "\\n")
