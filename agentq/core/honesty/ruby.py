"""Tests written in Ruby, by the indentation that its people keep to: minitest, test-unit, RSpec."""

import re

from agentq.core.honesty.shape import EXACT, HARDLY, PARTLY, WEAK, Case, Check, Shape

_TEST = re.compile(
    r"(?P<pad>\s*)(?:def\s+(?P<method>test_\w+)|(?P<word>x?it|fit|pit|test|specify|xspecify|example|scenario|should)"
    r"\s*\(?\s*(?P<quote>['\"])(?P<title>.*?)(?P=quote)(?P<rest>.*))"
)
_GROUP = re.compile(
    r"(?P<pad>\s*)(?P<word>(?:RSpec\.)?[xf]?(?:describe|context|feature)|class|module)\b\s*(?P<title>.*)"
)
_CHECK = re.compile(r"\b(assert\w*|refute\w*|expect|must_\w+|wont_\w+|should(?:_not)?|is_expected|flunk)\b")
_SKIP = re.compile(r"^\s*(skip|pending|omit)\b(?!.*=)")
_ALWAYS = re.compile(r"\bassert\s*\(?\s*(true|1)\b|expect\((true|1)\)\.to\s+(be\b|eq\b)")


def read_ruby(text: str) -> Shape:
    shape = Shape()
    lines = text.split("\n")
    groups: list[tuple[int, str, bool]] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if re.match(r"\s*(exit!?|abort)\b", line):
            shape.switches[f"{line.strip()} ends the test run"] = at + 1
        pad = len(line) - len(line.lstrip())
        while line.strip() and groups and groups[-1][0] >= pad:
            groups.pop()
        found, group = _TEST.match(line), _GROUP.match(line)
        if found:
            end = _end(lines, at, pad)
            _case(shape, found, lines[at + 1 : end], at + 1, groups)
            at = end
        elif group:
            word = group["word"]
            groups.append((pad, group["title"].strip(" do'\""), word.startswith("x")))
            if word.startswith("f") and word != "feature":
                shape.switches[f"{word} leaves out all other tests"] = at + 1
        at += 1
    return shape


def _end(lines: list[str], at: int, pad: int) -> int:
    """The line of the `end` that closes what begins at `at`."""
    if re.search(r"\bend\s*$|\{.*\}\s*$", lines[at]):
        return at
    for number in range(at + 1, len(lines)):
        line = lines[number]
        if line.strip() in ("end", "}") and len(line) - len(line.lstrip()) <= pad:
            return number
    return len(lines)


def _case(
    shape: Shape, found: re.Match[str], body: list[str], line: int, groups: list[tuple[int, str, bool]]
) -> None:
    inner = [text.strip() for text in (found["rest"] or "", *body)]
    inner = [re.sub(r"\s+", " ", text) for text in inner if text and not text.startswith("#") and text != "do"]
    for number, text in enumerate(inner):
        if text == "return":
            inner = inner[:number]
            break
    word = found["word"] or "def"
    skips = [text for text in inner if _SKIP.match(text)]
    skips += [word] if word in ("xit", "xspecify", "pit") else []
    skips += [f"x{title}" for _, title, skipped in groups if skipped]
    if word == "fit" or "focus: true" in (found["rest"] or ""):
        shape.switches[f"{word} '{found['title']}' leaves out all other tests"] = line
    checks = tuple(
        Check(text, _rank(text), line + number) for number, text in enumerate(inner) if _CHECK.search(text)
    )
    name = " > ".join([title for _, title, _ in groups] + [found["method"] or found["title"]])
    shape.add_numbered(Case(name, line, tuple(inner), checks, tuple(skips)))


def _rank(text: str) -> int:
    if _ALWAYS.search(text):
        return 0
    if re.search(
        r"assert_(equal|nil|raises|same|empty)|\beq\b|eql|be_nil|raise_error|be_falsey|==|must_equal", text
    ):
        return EXACT if "not_to" not in text and "refute" not in text else WEAK
    if re.search(r"not_nil|be_present|be_truthy|not_to be_nil", text):
        return HARDLY
    return WEAK if re.search(r"\bassert\b(?!_)", text) else PARTLY
