"""Tests written in Go, Rust, Java, Kotlin, C#, PHP and their like: functions with bodies in braces."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agentq.core.honesty.shape import EXACT, HARDLY, NOTHING, PARTLY, WEAK, Case, Check, Shape
from agentq.core.honesty.tokens import Tokens, elements, tokens

_MARKS = re.compile(
    r"@(Test|ParameterizedTest|RepeatedTest|TestFactory)\b|\[(Fact|Theory|Test|TestMethod|TestCase)\b"
    r"|#\[(\w+::)*(test|rstest|test_case|Test)\b"
)
_SKIPS = re.compile(r"@(Disabled|Ignore)\b|\[(Ignore|Explicit)\b|\bSkip=|#\[ignore\b|#\[cfg\(any\(\)\)")
_INNER_SKIP = re.compile(
    r"^(t|b|s|suite)\.(Skip|Skipf|SkipNow)$|^(markTestSkipped|markTestIncomplete|assumeTrue|assumeFalse)$"
)
_EXIT = re.compile(r"\b(os\.Exit|process ?:: ?exit|System\.exit|exitProcess|exit|die)\(0?\)")
_GO_FAIL = {"Error", "Errorf", "Fatal", "Fatalf", "Fail", "FailNow"}
_ASSERT = re.compile(
    r"(assert|require|expect|verify|check|debug_assert|Assert|XCTAssert|fail|panic)\w*$", re.ASCII
)
_EXACT = re.compile(
    r"equal|eq$|_eq|same|null$|nil$|noerror|len$|count|json|throws|raises|false|isempty|errorIs|iserror", re.I
)
_HARDLY = re.compile(r"notnil|notnull|notempty|isset", re.I)
_WEAK = re.compile(r"(assert|assertTrue|True|isTrue|NotEqual|assert_ne|assertNotEquals)!?$")
_MODIFIED = re.compile(r"^(fun|func|fn|function|void|public|private|static|async|def|suspend|Task)$")


def read_braced(language: str) -> Callable[[str], Shape]:
    """A reader of one language, named by the end of its files."""
    lexer = language if language in ("go", "rs", "php") else "other"

    def read(text: str) -> Shape:
        return _Reader(tokens(text, lexer), language, text).shape

    return read


@dataclass
class _Reader:
    code: Tokens
    language: str
    source: str
    shape: Shape = field(default_factory=Shape)

    def __post_init__(self) -> None:
        if self.language == "go":
            for number, line in enumerate(self.source.split("\n"), 1):
                if line.startswith(("//go:build", "// +build")):
                    never = " never" if line.split()[1:] == ["ignore"] else ""
                    self.shape.switches[f"a build constraint{never} leaves out the whole file"] = number
                elif line and not line.startswith("//"):
                    break
        for name, marks, head, begin in self._functions():
            self._function(name, marks, head, begin)

    def _functions(self) -> Iterator[tuple[str, str, int, int]]:
        """(name, the attributes before it, its first token, its opening brace)."""
        code = self.code
        for at, token in enumerate(code.all):
            if token.kind != "name" or code.at(at + 1) not in ("(", "<"):
                continue
            begin = self._brace(at + 1)
            if begin and self._declares(at):
                head = self._head(at)
                yield token.text, code.text(head, at), head, begin

    def _declares(self, at: int) -> bool:
        """Whether a name before parentheses and a brace is a declaration, and no `if (`."""
        word, before = self.code.at(at), self.code.at(at - 1)
        if word in ("if", "for", "while", "switch", "match", "catch", "foreach", "using", "lock", "synchronized"):
            return False
        if self.language in ("go", "rs", "php", "kt", "swift", "scala"):
            wanted = {"go": "func", "rs": "fn", "php": "function", "kt": "fun", "swift": "func", "scala": "def"}
            return before == wanted[self.language] or (
                self.language == "go" and before == ")" and self._method(at)
            )
        return bool(re.match(r"[\w>\]]+$", before)) and before not in ("new", "return", "else", "throw", "await")

    def _method(self, at: int) -> bool:
        return any(end == at - 1 and self.code.at(begin - 1) == "func" for begin, end in self.code.partner.items())

    def _brace(self, at: int) -> int:
        code = self.code
        while code.at(at) == "<":
            while at < len(code.all) and code.at(at) != ">":
                at += 1
            at += 1
        if code.at(at) != "(":
            return 0
        at = code.partner[at] + 1
        for _ in range(30):
            if code.at(at) == "{":
                return at
            if code.at(at) in (";", "}", "") or (code.at(at) == "=" and self.language != "kt"):
                return 0
            at = code.partner[at] + 1 if code.at(at) in ("(", "[") else at + 1
        return 0

    def _head(self, at: int) -> int:
        """Back over modifiers and attributes to the end of what stands before."""
        code = self.code
        while at > 0 and code.at(at - 1) not in (";", "{", "}"):
            if self.language == "go" and code.at(at - 1) != "func":
                break
            at -= 1
        return at

    def _function(self, name: str, marks: str, head: int, begin: int) -> None:
        code, end = self.code, self.code.partner[begin]
        stop = self._cut(begin + 1, end)
        checks = tuple(self._checks(begin + 1, stop))
        skips = [match[0] for match in _SKIPS.finditer(marks)]
        skips += self._skips(begin + 1, stop)
        if "should_panic" in marks:
            said = "expected" in marks
            checks += (
                Check(
                    f"should_panic{' expected' if said else ''}",
                    EXACT,
                    code.all[head].line,
                    "panics",
                    float(not said),
                ),
            )
        lines = tuple(self._lines(begin + 1, stop))
        values = tuple(self._rows(begin + 1, stop)) + tuple(
            found[0]
            for found in re.finditer(r"(InlineData|TestCase|test_case|case|ValueSource|CsvSource)\([^)]*\)", marks)
        )
        case = Case(
            name, code.all[begin].line, lines, checks, tuple(skips), values, tuple(self._calls(begin + 1, stop))
        )
        if self._is_test(name, marks):
            self.shape.add_numbered(case)
            if self.language == "go":
                for title, sub in self._subtests(begin + 1, stop):
                    self.shape.add_numbered(Case(f"{name} > {title}", sub, (f"{name} {title}",)))
        elif checks:
            self.shape.helpers[name] = case
        if found := _EXIT.search(code.text(begin, end)):
            self.shape.switches[f"{found[0]} in {name} ends the test run"] = code.all[begin].line

    def _is_test(self, name: str, marks: str) -> bool:
        if self.language == "go":
            return bool(re.match(r"(Test|Fuzz|Example)(?![a-z])", name)) and name != "TestMain"
        if self.language == "php":
            return name.startswith("test") or bool(_MARKS.search(marks))
        if self.language == "swift":
            return name.startswith("test") or "@Test" in marks
        return bool(_MARKS.search(marks))

    def _cut(self, start: int, end: int) -> int:
        """Before a `return` that stands alone among the statements."""
        code, at = self.code, start
        while at < end:
            if code.at(at) == "return" and (
                code.at(at + 1) in (";", "}")
                or (self.language == "go" and code.all[at + 1].line > code.all[at].line)
            ):
                return at
            at = code.partner.get(at, at) + 1
        return end

    def _skips(self, start: int, end: int) -> Iterator[str]:
        for at in range(start, end):
            if self.code.at(at + 1) != "(":
                continue
            word = self.code.at(at)
            full = f"{self.code.at(at - 2)}.{word}" if self.code.at(at - 1) == "." else word
            if _INNER_SKIP.match(full) or _INNER_SKIP.match(word):
                yield full

    def _subtests(self, start: int, end: int) -> Iterator[tuple[str, int]]:
        for at in range(start, end):
            if (
                self.code.at(at) == "Run"
                and self.code.at(at + 1) == "("
                and self.code.all[at + 2].kind == "string"
            ):
                yield self.code.at(at + 2).strip('"`'), self.code.all[at].line

    def _rows(self, start: int, end: int) -> Iterator[str]:
        """The rows of a table: a brace that holds two or more braces and nothing else between commas."""
        code, at = self.code, start
        while at < end:
            if code.at(at) == "{":
                parts = elements(code, at)
                rows = [part for part in parts if code.at(part[1] - 1) == "}"]
                if len(rows) == len(parts) >= 1 and len(parts) > 1:
                    yield from (code.text(*part) for part in rows)
                    at = code.partner[at]
            at += 1

    def _lines(self, start: int, end: int) -> Iterator[str]:
        code, begin = self.code, start
        for at in range(start, end):
            last = at + 1 >= end
            new_line = not last and self.language == "go" and code.all[at + 1].line > code.all[at].line
            if last or code.at(at) in (";", "{", "}") or (new_line and code.at(at) not in (",", "(", "[")):
                if line := code.text(begin, at + 1).strip("; {}"):
                    yield line
                begin = at + 1

    def _checks(self, start: int, end: int) -> Iterator[Check]:
        code, at = self.code, start
        while at < end:
            if (code.at(at) == "if" and code.text(at + 1, at + 4) in ("(false)", "false {", "false{")) or (
                code.at(at) == "if" and code.at(at + 1) == "false"
            ):
                brace = next((i for i in range(at, min(at + 6, end)) if code.at(i) == "{"), 0)
                at = code.partner[brace] + 1 if brace else at + 1
                continue
            found = self._check(at)
            if found:
                check, at = found
                yield check
            else:
                at += 1

    def _check(self, at: int) -> tuple[Check, int] | None:
        code, token = self.code, self.code.all[at]
        if token.kind != "name":
            return None
        open_at = at + 1 + (code.at(at + 1) == "!")
        if code.at(open_at) not in ("(", "[", "{") or (code.at(open_at) != "(" and open_at == at + 1):
            return None
        close = code.partner[open_at]
        if self.language == "go" and token.text in _GO_FAIL and code.at(at - 1) == ".":
            said = self._condition(at)
            rank = NOTHING if said in ("false", "1 == 2") else EXACT
            return Check(f"if {said}: {token.text.rstrip('f')}", rank, token.line), close + 1
        owner = code.at(at - 2) if code.at(at - 1) in (".", "::", ">") else ""
        if owner == "-":
            owner = "this"
        if token.text == "panic" and self.language == "go":
            return None
        asserts = _ASSERT.match(token.text) or owner in ("assert", "require", "Assert", "is", "qt", "c")
        if not asserts or (not _ASSERT.match(token.text) and owner in ("is", "c")):
            return None
        end = close + 1
        while code.at(end) == "." and code.at(end + 2) == "(":
            end = code.partner[end + 2] + 1
        return Check(code.text(at, end), self._rank(at, open_at, end), token.line), end

    def _rank(self, at: int, open_at: int, end: int) -> int:
        code = self.code
        inside = code.text(open_at + 1, code.partner[open_at])
        names = [t.text for t in code.all[at:end] if t.kind == "name" and _EXACT.search(t.text)]
        word = code.at(at)
        if re.fullmatch(r"(t,)?(true|1|\"[^\"]*\")(,.*)?", inside) and (
            word.lower().startswith(("assert", "true"))
        ):
            return NOTHING
        if _HARDLY.search(word):
            return HARDLY
        if _WEAK.match(word) and word not in ("assertFalse",):
            return (
                EXACT
                if re.search(r"==|equals\(|\.eq\(", inside) and not names
                else PARTLY
                if "!" in inside
                else WEAK
            )
        return EXACT if _EXACT.search(word) or (word == "assertThat" and names) else PARTLY

    def _condition(self, at: int) -> str:
        """The `if` around a failure, as text."""
        code = self.code
        here = at
        for _ in range(60):
            here -= 1
            if here < 0:
                return ""
            if code.at(here) == "if":
                stop = here
                while stop < at and code.at(stop) != "{":
                    stop += 1
                return code.text(here + 1, stop)
            if code.at(here) == "}":
                return ""
        return ""

    def _calls(self, start: int, end: int) -> Iterator[str]:
        for at in range(start, end):
            if self.code.all[at].kind == "name" and self.code.at(at + 1) == "(":
                yield self.code.at(at)
