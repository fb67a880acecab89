"""Tests in a text that its own grammar does not accept: by lines alone, the same way on both sides of a change."""

import re

from agentq.core.honesty.shape import PARTLY, Case, Check, Shape

_TEST = re.compile(
    r"\s*(?:async\s+)?(?:def\s+(test\w*)|(?:x?it|x?test|specify)(\.\w+)?\s*\(\s*['\"`](.*?)['\"`]"
    r"|func\s+(Test\w+)|(?:public\s+)?function\s+(test\w+)|fn\s+(\w*test\w*))"
)
_CLASS = re.compile(r"\s*class\s+(\w+)")
_CHECK = re.compile(r"assert|expect\(|\.raises|should|t\.(Error|Fatal)")
_SKIP = re.compile(r"\bskip|xfail|\bxit\b|\.only\b|\.todo\b|t\.Skip|#\[ignore", re.IGNORECASE)


def read_plain(text: str) -> Shape:
    """A test goes from its name to the next one."""
    shape, group, found = Shape(), "", None
    lines: list[str] = []
    marks: list[str] = []
    begin = 0

    def close() -> None:
        if found:
            checks = tuple(Check(one, PARTLY, begin) for one in lines if _CHECK.search(one))
            shape.add_numbered(Case(found, begin, tuple(lines), checks, tuple(skips)))

    skips: list[str] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if match := _TEST.match(raw):
            close()
            name = next((part for part in match.groups()[::-1] if part), "without a name")
            found, begin, lines, skips = f"{group}{name}", number, [], [*marks]
            skips += [line] if _SKIP.search(line) else []
            marks = []
        elif match := _CLASS.match(raw):
            group = f"{match[1]} > "
        elif line.startswith(("@", "#[")):
            marks += [line] if _SKIP.search(line) else []
        elif line and not line.startswith(("#", "//")):
            lines.append(line)
            if found and _SKIP.search(line):
                skips.append(line)
    close()
    return shape
