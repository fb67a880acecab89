"""Import blocks: both sides changed nothing but imports there. The union, less what one removed.

Stops when a name would come from two places, when an alias changes, and where the order of imports has a meaning.
"""

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import dedent, indent

from agentq.trunk.resolve.base import Doubt
from agentq.trunk.resolve.diff3 import Chunk, Lines
from agentq.trunk.resolve.outline_code import js_names

PYTHON, SCRIPT = ("py", "pyi"), ("ts", "tsx", "js", "jsx", "mjs", "cjs", "mts", "cts")
Name = tuple[str, str, str]  # as written, name in the module, name here
_STATEMENT = re.compile(
    r"\s*(?:(?P<word>import(?:\s+type)?|export(?:\s+type)?)\s+(?P<what>(?![\"'])[^;\"'()=]+?)\s*from\s*"
    r"|(?P<bare>import)\s*)(?P<quote>[\"'])(?P<module>[^\"'\n]+)(?P=quote)(?P<end>;?)[ \t]*(?=\n|$)"
)


@dataclass(frozen=True)
class Statement:
    """One import: `head` names `tail`, as `from m import` … or `import` … `from "m";`. `raw`: as it is written."""

    head: str
    tail: str
    module: str
    names: tuple[Name, ...]
    raw: str

    @property
    def group(self) -> tuple[str, str]:
        """What statements that can become one have in common."""
        return (self.head, self.tail)


Imported = tuple[str, str, str, str]  # what a statement does, module, name there, name here


def union(path: str, chunk: Chunk) -> list[str] | None:
    """The lines that stand for a conflict; None if it is not about imports alone. Raises Doubt."""
    suffix = path.rsplit(".", 1)[-1].lower()
    reader = _python if suffix in PYTHON else _script if suffix in SCRIPT else None
    if reader is None or not (chunk.trunk and chunk.spec):
        return None
    read = [reader(dedent("".join(part).replace("\r\n", "\n"))) for part in (chunk.base, chunk.trunk, chunk.spec)]
    if any(part is None for part in read) or not (read[1] or read[2]):
        return None
    base, trunk, spec = (part or [] for part in read)
    statements = _ordered(trunk, spec, _wanted(base, trunk, spec), script=reader is _script)
    first = next(line for line in (*chunk.trunk, *chunk.spec) if line.strip())
    text = indent("\n".join(statements), first[: len(first) - len(first.lstrip())])
    end = "\r\n" if first.endswith("\r\n") else "\n"
    blanks = max(_blanks(chunk.trunk), _blanks(chunk.spec))
    return [line + end for line in text.split("\n") if text] + [end] * blanks


def _blanks(lines: Lines) -> int:
    """Empty lines at the end."""
    return next((n for n, line in enumerate(reversed(lines)) if line.strip()), len(lines))


def _python(text: str) -> list[Statement] | None:
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return None
    lines, found, covered = text.split("\n"), list[Statement](), 0
    for node in body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            return None
        last = node.end_lineno or node.lineno
        raw = "\n".join(lines[node.lineno - 1 : last])
        covered += last - node.lineno + 1
        names = tuple((ast.unparse(one), one.name, one.asname or one.name) for one in node.names)
        if isinstance(node, ast.Import):
            found += [
                Statement("import", one[0], "", (one,), raw if len(names) == 1 else f"import {one[0]}")
                for one in names
            ]
        else:
            module = "." * node.level + (node.module or "")
            found.append(Statement(f"from {module} import", "", module, names, raw))
    # Comments of their own, or two statements on a line, are more than imports.
    return found if covered == sum(1 for line in lines if line.strip()) else None


def _script(text: str) -> list[Statement] | None:
    found, place = list[Statement](), 0
    while text[place:].strip():
        match = _STATEMENT.match(text, place)
        if match is None:
            return None
        if match["bare"]:
            raise Doubt("an import for its effect alone: the order has a meaning")
        head = " ".join(match["word"].split())
        tail = f"from {match['quote']}{match['module']}{match['quote']}{match['end']}"
        names = tuple(
            (_written(name, bound, match["what"]), name, bound) for name, bound in js_names(match["what"])
        )
        found.append(Statement(head, tail, match["module"], names, match[0].strip()))
        place = match.end()
    return found


def _written(name: str, bound: str, what: str) -> str:
    typed = "type " if re.search(rf"\btype\s+{re.escape(name)}\b", what) else ""
    return typed + (name if name == bound else f"{name} as {bound}")


def _wanted(base: Sequence[Statement], trunk: Sequence[Statement], spec: Sequence[Statement]) -> set[Imported]:
    """What the merged block imports. Raises Doubt."""
    b, t, s = (
        {(one.head, one.module, name, bound) for one in part for _, name, bound in one.names}
        for part in (base, trunk, spec)
    )
    if any((name, bound) == ("*", "*") and not head.startswith("export") for head, _, name, bound in (t | s) - b):
        raise Doubt("a star import hides names that come before it")
    for head, module, name, bound in b:
        for side in (t, s):
            others = {one[3] for one in side if one[:3] == (head, module, name)}
            if others and bound not in others:
                raise Doubt(f"the alias of {name!r} changes")
    found = (t | s) - (b - t) - (b - s)
    sources: dict[tuple[bool, str], set[tuple[str, str]]] = {}
    for head, module, name, bound in found:
        sources.setdefault((head.startswith("export"), bound), set()).add((module, name))
    for (_, bound), places in sources.items():
        if len(places) > 1 and bound != "*":
            raise Doubt(f"{bound!r} would come from two places")
    return found


def _ordered(
    trunk: Sequence[Statement], spec: Sequence[Statement], wanted: set[Imported], *, script: bool
) -> list[str]:
    """The statements of the merged block: trunk's, then the spec's; sorted if both sides were."""
    groups: dict[tuple[str, str], list[Statement]] = {}
    for one in (*trunk, *spec):
        groups.setdefault(one.group, []).append(one)
    texts = []
    for (head, _), raws in groups.items():
        all_names = dict.fromkeys(name for one in raws for name in one.names)
        names = [name for name in all_names if (head, raws[0].module, *name[1:]) in wanted]
        if all(list(one.names) == sorted(one.names, key=_key) for one in raws):
            names.sort(key=_key)
        if names:
            texts.append(_render(names, raws, script))
    if all([one.raw for one in side] == sorted(one.raw for one in side) for side in (trunk, spec)):
        texts.sort()
    return sorted(texts, key=lambda text: not text.startswith("from __future__ "))


def _key(name: Name) -> tuple[bool, str]:
    return (name[1] != "default", name[1])


def _render(names: Sequence[Name], raws: Sequence[Statement], script: bool) -> str:
    for one in raws:
        if set(one.names) == set(names):
            return one.raw
    if any(re.search(r"#|//|/\*", one.raw.removesuffix(one.tail)) for one in raws):
        raise Doubt("an import with a comment changes on both sides")
    if any(name == "*" for _, name, _ in names):
        raise Doubt("imports of one module that cannot be one statement")
    wide = next((one.raw.split("\n")[1] for one in raws if "\n" in one.raw), None)
    margin = None if wide is None else wide[: len(wide) - len(wide.lstrip())]
    head, tail = raws[0].group
    if not script:
        return f"{head} {_listed([name[0] for name in names], margin, '()' if margin is not None else '')}"
    outside = [name[2] for name in names if name[1] == "default" and head.startswith("import")]
    inside = [name[0] for name in names if name[1] != "default" or not head.startswith("import")]
    if len(outside) > 1:
        raise Doubt("two names for what a module exports by default")
    braces = [_listed(inside, margin, "{}")] if inside else []
    return f"{head} {', '.join(outside + braces)} {tail}"


def _listed(names: Sequence[str], margin: str | None, brackets: str) -> str:
    """The names of one statement; each on a line of its own where `margin` is given."""
    if margin is not None:
        return brackets[0] + "\n" + "".join(f"{margin}{name},\n" for name in names) + brackets[1]
    inner = ", ".join(names)
    return f"{brackets[0]} {inner} {brackets[1]}" if brackets else inner
