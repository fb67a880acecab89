"""Pure additions at one place: trunk's lines, then the spec's, each once.

Only where neither side touched a line that was there. The outline then finds what does not belong together.
In files that are not declared additive, only where the order cannot matter.
"""

import ast
import re

from agentq.trunk.resolve import proof
from agentq.trunk.resolve.base import Doubt
from agentq.trunk.resolve.diff3 import Chunk, Lines
from agentq.trunk.resolve.outline_code import BRACES, open_bracket, scoped

IGNORES = re.compile(r"(^|/)\.(git|docker|npm|eslint|prettier|style|vercel|gcloud|helm)ignore$")
_HARMLESS = re.compile(
    r"(pytest|functools|dataclasses|typing|abc|unittest|hypothesis)\.|(dataclass|property|staticmethod|classmethod"
    r"|override|cache|lru_cache|wraps|contextmanager|asynccontextmanager|given|settings|example|parametrize)\b"
)
_PYTHON = (".py", ".pyi")
_ENTRY = re.compile(
    r"(type )?([A-Za-z_$][\w$]*( as [\w$]+)?|\"[A-Za-z_]\w*\"|'[A-Za-z_]\w*'),|([\w.]+ )?\"[\w./@-]+\""
)
_PROSE = (".md", ".mdx", ".markdown", ".rst")
_NAME_LIST = re.compile(r"(import|export)( type)?( [\w$]+,)? ?\{|import \(")
_LETTER = re.compile(r"\w")


def union(path: str, chunk: Chunk, declared: bool) -> list[str]:
    """The lines that stand for a conflict. Raises Doubt."""
    if chunk.base:
        raise Doubt("both sides changed the same lines")
    if not declared:
        _order_free(path, chunk)
    prose = path.lower().endswith(_PROSE)
    if not chunk.trunk[0].strip() and chunk.spec[0].strip() and proof.is_plain(path):
        raise Doubt("one side begins a new block, the other one goes on with the old one")
    if (
        _listed(chunk.trunk, prose)
        and _listed(chunk.spec, prose)
        and _margins(chunk.trunk) == _margins(chunk.spec)
    ):
        there = {line.strip() for line in chunk.trunk if line.strip()}
        return [*chunk.trunk, *(line for line in chunk.spec if line.strip() not in there)]
    for part in (chunk.trunk, chunk.spec):
        if _depth(part) != 0:
            raise Doubt("the additions are no complete blocks")
    if _first_margin(chunk.trunk) != _first_margin(chunk.spec):
        raise Doubt("the additions are indented differently")
    return [*chunk.trunk, *chunk.spec]


def _listed(lines: Lines, prose: bool) -> bool:
    """Whether each line stands for itself, like the entries of a list."""
    return len(_margins(lines)) == 1 and all(
        _depth([line]) == 0
        and not line.rstrip().endswith((":", "\\"))
        and _LETTER.search(line)
        and line.lstrip()[0] != "@"
        and not (prose and line.lstrip()[0] == "#")
        for line in lines
        if line.strip()
    )


def _margins(lines: Lines) -> set[str]:
    return {line[: len(line) - len(line.lstrip())] for line in lines if line.strip()}


def _first_margin(lines: Lines) -> str:
    first = next((line for line in lines if line.strip()), "")
    return first[: len(first) - len(first.lstrip())]


def _depth(lines: Lines) -> int:
    """Open brackets at the end; -1 if one is closed that was not opened there."""
    depth = 0
    for mark in re.sub(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", "", "".join(lines)):
        depth += (mark in "([{") - (mark in ")]}")
        if depth < 0:
            return -1
    return depth


def _order_free(path: str, chunk: Chunk) -> None:
    """Raises Doubt unless the order of the additions cannot matter."""
    parts = ("".join(chunk.trunk), "".join(chunk.spec))
    if IGNORES.search(path):
        if any(line.startswith("!") for part in parts for line in part.split("\n")):
            raise Doubt("a line that takes an exclusion back: the order matters")
    elif not (path.endswith(_PYTHON) and all(_definitions(part) for part in parts)) and not entries(chunk):
        raise Doubt("both sides added at the same place, and the file is not declared additive")


def _definitions(text: str) -> bool:
    """Whether a piece of Python is nothing but top-level definitions and imports, free to stand in any order."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return False
    return bool(body) and all(
        isinstance(node, ast.Import | ast.ImportFrom)
        or (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and all(_HARMLESS.match(ast.unparse(one)) for one in node.decorator_list)
        )
        for node in body
    )


def entries(chunk: Chunk) -> bool:
    """Whether both sides added nothing but names with a comma: entries of an import or of `__all__`, or so."""
    lines = [line for line in (*chunk.trunk, *chunk.spec) if line.strip()]
    return bool(lines) and all(_ENTRY.fullmatch(line.strip()) for line in lines)


def order_free_place(path: str, text: str, line: int) -> bool:
    """Whether `line` (from 0) of a merged text is inside an import or `__all__`, where the order cannot matter."""
    if path.endswith(_PYTHON):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.stmt) and node.lineno <= line + 1 <= (node.end_lineno or node.lineno):
                target = getattr(node, "targets", [None])[0]
                if isinstance(node, ast.ImportFrom) or (isinstance(target, ast.Name) and target.id == "__all__"):
                    return True
        return False
    scopes = [scope for number, scope, _ in scoped(text) if number == line]
    return bool(scopes and scopes[0] and _NAME_LIST.fullmatch(scopes[0][-1]))


def comma_problem(path: str, before: Lines, chunk: Chunk) -> str:
    """Why trunk's additions cannot stand before the spec's, in languages without a parser here, or ''."""
    suffix = path.rsplit(".", 1)[-1].lower()
    if suffix not in BRACES and suffix != "sql":
        return ""
    last = next((line.strip() for line in reversed(chunk.trunk) if line.strip()), "")
    neighbour = next((line.strip() for line in reversed(before) if line.strip()), "")
    bracket = open_bracket("".join(before))
    bare = bracket == "{" and re.match(r"[\w$\"'\[\].-]+\s*([:=].*)?$", last)
    needed = neighbour.endswith(",") or (suffix != "go" and (bracket in ("[", "(") or bare))
    return "the entries of a list do not end in a comma" if needed and not last.endswith((",", ";")) else ""
