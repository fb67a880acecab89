"""The proof of a resolution by text: it parses, says what both sides say, nothing twice, and holds no marker."""

import re
from collections.abc import Callable

from agentq.trunk.resolve.base import Doubt
from agentq.trunk.resolve.outline import Outline, merged
from agentq.trunk.resolve.outline_code import BRACES, read_braces, read_css, read_sql
from agentq.trunk.resolve.outline_python import read_python
from agentq.trunk.resolve.outline_text import read_indented, read_markdown, read_sections, read_toml, read_yaml

_READERS: dict[str, Callable[[str], Outline]] = {
    "py": read_python, "pyi": read_python, "toml": read_toml, "yaml": read_yaml, "yml": read_yaml,
    "md": read_markdown, "mdx": read_markdown, "markdown": read_markdown, "rst": read_markdown,
    "ini": read_sections, "cfg": read_sections, "conf": read_sections, "env": read_sections,
    "properties": read_sections, "css": read_css, "scss": read_css, "less": read_css, "sql": read_sql,
    **dict.fromkeys(BRACES, read_braces),
}  # fmt: skip
_MARKER = re.compile(rb"^(<{7}|>{7}|\|{7})( |\r?$)", re.MULTILINE)


def markers(content: bytes) -> bool:
    """Whether a line is a conflict marker. `=======` alone is also an underline."""
    return _MARKER.search(content) is not None


def prove(path: str, base: str, trunk: str, spec: str, result: str) -> None:
    """Raises Doubt unless `result` says exactly what both sides say, and nothing twice."""
    b, t, s = (read(path, text) for text in (base, trunk, spec))
    after = read(path, result)
    for (scope, name), count in after.names.items():
        if count > max(t.names[(scope, name)], s.names[(scope, name)]):
            where = f" in {' / '.join(scope)[:80]}" if scope else ""
            raise Doubt(f"{name!r} would be there twice{where}")
    expected = merged(b, t, s)
    if after.items != expected:
        odd = next(iter((after.items - expected) or (expected - after.items)))
        where = f" in {' / '.join(odd.scope)[:80]}" if odd.scope else ""
        raise Doubt(f"{odd.text[:60]!r}{where} would not be where its author put it")


def read(path: str, text: str) -> Outline:
    """The outline of a text. Raises Doubt if it does not parse."""
    return _reader(path)(text)


def _reader(path: str) -> Callable[[str], Outline]:
    name = path.rsplit("/", 1)[-1].lower()
    suffix = name.rsplit(".", 1)[-1] if "." in name.lstrip(".") else ""
    return _READERS.get(suffix, read_sections if name.startswith(".env") else read_indented)


def is_plain(path: str) -> bool:
    """Whether paragraphs and lists of a format are told apart by empty lines alone."""
    return _reader(path) in (read_markdown, read_indented)
