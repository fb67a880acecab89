"""Programs of languages with brackets as tokens: strings, templates, comments, regular expressions, words, marks.

Linear in the length of the text. A text whose brackets do not match is refused, never guessed at.
"""

import re
from dataclasses import dataclass

from agentq.core.honesty.shape import Unreadable

_SPACE = r"(?P<space>\s+)"
_REST = r"|(?P<name>[A-Za-z_$@][\w$]*)|(?P<number>\d[\w.]*)|(?P<mark>=>|::|\?\.|[=!<>]=+|&&|\|\||[^\w\s])"
_LINE_COMMENT = r"|(?P<comment>//[^\n]*|/\*.*?\*/)"
_QUOTED = r'"(?:\\.|[^"\\\n])*"'
_SINGLE = r"'(?:\\.|[^'\\\n])*'"
_REGEX = re.compile(r"/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/[a-z]*")
_STRING = re.compile(f"{_QUOTED}|{_SINGLE}")
_LEXERS = {
    "script": re.compile(rf"{_SPACE}{_LINE_COMMENT}|(?P<string>{_QUOTED}|{_SINGLE}){_REST}", re.DOTALL),
    "go": re.compile(rf"{_SPACE}{_LINE_COMMENT}|(?P<string>{_QUOTED}|`[^`]*`|{_SINGLE}){_REST}", re.DOTALL),
    "rs": re.compile(
        rf"{_SPACE}{_LINE_COMMENT}|(?P<string>b?r(?P<h>#*)\".*?\"(?P=h)|b?\"(?:\\.|[^\"\\])*\"|'(?:\\.[^']*|[^'\\])'){_REST}",
        re.DOTALL,
    ),
    "php": re.compile(
        rf"{_SPACE}|(?P<comment>//[^\n]*|\#(?!\[)[^\n]*|/\*.*?\*/)"
        rf"|(?P<string>\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'){_REST}",
        re.DOTALL,
    ),
    "other": re.compile(rf'{_SPACE}{_LINE_COMMENT}|(?P<string>""".*?"""|{_QUOTED}|{_SINGLE}){_REST}', re.DOTALL),
}
_PAIRS = {")": "(", "]": "[", "}": "{"}
_VALUES = frozenset((")", "]", "}"))
_WORDS_BEFORE_REGEX = frozenset(("return", "typeof", "case", "in", "of", "await", "yield", "void", "delete"))


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    line: int


@dataclass
class Tokens:
    """`partner[i]`: where the bracket at i closes."""

    all: list[Token]
    partner: dict[int, int]

    def text(self, start: int, end: int) -> str:
        """Tokens in a normal form: the layout and trailing commas do not matter."""
        found: list[str] = []
        for token in self.all[start:end]:
            if token.text in _VALUES and found and found[-1] == ",":
                found.pop()
            found.append(token.text)
        return re.sub(r" ?([.(),;\[\]]) ?", r"\1", " ".join(found)).strip()

    def at(self, index: int) -> str:
        return self.all[index].text if 0 <= index < len(self.all) else ""


def tokens(text: str, language: str) -> Tokens:
    """Raises Unreadable where brackets do not match."""
    lexer = _LEXERS.get(language, _LEXERS["other"])
    found: list[Token] = []
    place, line = 0, 1
    while place < len(text):
        kind, piece = _next(text, place, lexer, language, found)
        if kind not in ("space", "comment"):
            found.append(Token(kind, piece, line))
        line += piece.count("\n")
        place += len(piece)
    return Tokens(found, _partners(found))


def _next(text: str, place: int, lexer: re.Pattern[str], language: str, before: list[Token]) -> tuple[str, str]:
    if language == "script":
        if text[place] == "`":
            return "string", text[place : _template_end(text, place)]
        if text[place] == "/" and _regex_may_follow(before) and (regex := _REGEX.match(text, place)):
            return "regex", regex[0]
    match = lexer.match(text, place)
    if match is None:
        return "mark", text[place]
    return str(match.lastgroup if match.lastgroup != "h" else "string"), match[0]


def _regex_may_follow(before: list[Token]) -> bool:
    if not before:
        return True
    last = before[-1]
    if last.kind == "name":
        return last.text in _WORDS_BEFORE_REGEX
    return last.kind == "mark" and last.text not in (*_VALUES, "<")


def _template_end(text: str, place: int) -> int:
    """Behind the closing backtick; `${ … }` may hold templates and strings of its own."""
    stack = ["`"]
    place += 1
    while place < len(text) and stack:
        mark = text[place]
        if mark == "\\":
            place += 1
        elif stack[-1] == "`":
            if mark == "`":
                stack.pop()
            elif text.startswith("${", place):
                stack.append("{")
                place += 1
        elif mark in "'\"" and (string := _STRING.match(text, place)):
            place = string.end() - 1
        elif mark in "{`":
            stack.append(mark)
        elif mark == "}":
            stack.pop()
        place += 1
    return min(place, len(text))


def _partners(found: list[Token]) -> dict[int, int]:
    stack: list[int] = []
    partner = {}
    for index, token in enumerate(found):
        if token.kind != "mark":
            continue
        if token.text in ("(", "[", "{"):
            stack.append(index)
        elif token.text in _PAIRS:
            if not stack or found[stack[-1]].text != _PAIRS[token.text]:
                raise Unreadable("its brackets do not match", token.line)
            partner[stack.pop()] = index
    if stack:
        raise Unreadable("a bracket is never closed", found[stack[-1]].line)
    return partner


def elements(code: Tokens, start: int) -> list[tuple[int, int]]:
    """The ranges of what stands between commas inside the bracket at `start`."""
    end = code.partner[start]
    found, begin, at = [], start + 1, start + 1
    while at < end:
        if code.at(at) == ",":
            found.append((begin, at))
            begin = at + 1
        at = code.partner.get(at, at) + 1
    if begin < end:
        found.append((begin, end))
    return found
