"""Python files as bytes: found by the syntax tree, changed in place, every other byte kept."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

_LINE = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Source:
    """A file in UTF-8 that Python can parse."""

    data: bytes
    tree: ast.Module

    def span(self, node: ast.expr) -> tuple[int, int]:
        """Where `node` begins and ends, in bytes."""
        first = len(_BOM) if self.data.startswith(_BOM) else 0
        starts = [first, *(match.end() for match in _LINE.finditer(self.data))]
        assert node.end_lineno is not None and node.end_col_offset is not None
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def text(self, node: ast.expr) -> bytes:
        start, end = self.span(node)
        return self.data[start:end]

    def edited(self, changes: Iterable[tuple[ast.expr, bytes]]) -> bytes:
        """The file with other text in the place of some nodes, none of which lies in another."""
        return replaced(self.data, [(*self.span(node), new) for node, new in changes])


def replaced(data: bytes, spans: Iterable[tuple[int, int, bytes]]) -> bytes:
    ordered = sorted(spans)
    assert all(one[1] <= other[0] for one, other in pairwise(ordered)), "edits overlap"
    for start, end, new in reversed(ordered):
        data = data[:start] + new + data[end:]
    return data


def read(data: bytes) -> Source | None:
    """None for what is not Python, or not UTF-8."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        if encoding not in ("utf-8", "utf-8-sig"):
            return None
        return Source(data, ast.parse(data))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def assigned(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """The names that statements of one level give a value: the last one counts, as when they are run."""
    found: dict[str, ast.expr] = {}
    for statement in body:
        if isinstance(statement, ast.Assign):
            found.update({name.id: statement.value for name in statement.targets if isinstance(name, ast.Name)})
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
            found[statement.target.id] = statement.value
    return found


def literal(text: str, like: bytes) -> bytes:
    """`text` as a Python string, in the quotes of `like` where they fit."""
    quote = like[:1].decode("latin-1")
    if quote in ("'", '"') and not re.search(r"[\\'\"\x00-\x1f]", text):
        return f"{quote}{text}{quote}".encode()
    return repr(text).encode()
