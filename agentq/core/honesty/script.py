"""Tests written in JavaScript and TypeScript: jest, vitest, mocha, playwright, node:test and their like."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from agentq.core.honesty.script_checks import checks, dead
from agentq.core.honesty.shape import Case, Shape, Unreadable
from agentq.core.honesty.tokens import Tokens, elements, tokens

_GROUPS = {"describe", "context", "suite", "xdescribe", "fdescribe", "xcontext"}
_TESTS = {"it", "test", "specify", "xit", "fit", "xtest", "ftest", "xspecify"}
_OWNERS = {"QUnit", "t", "tap", "Deno", "ava"}
_SKIPS = {"skip", "todo", "fixme", "failing", "fails", "skipIf", "runIf", "fail"}
_HOOKS = {
    "step", "beforeEach", "afterEach", "beforeAll", "afterAll", "use", "extend", "setTimeout", "configure", "info",
}  # fmt: skip
_MOCKS = re.compile(r"\b(jest|vi)\.(mock|doMock|spyOn|fn)\b|\bsinon\.(stub|mock|fake)\b")


def read_script(text: str) -> Shape:
    """Raises Unreadable."""
    return _Reader(tokens(text, "script")).shape


@dataclass
class _Call:
    """A test or a group: `chain` are its names and modifiers, `begin` and `end` its parentheses."""

    chain: list[str]
    begin: int
    end: int
    rows: tuple[str, ...] | None = ()


@dataclass
class _Reader:
    code: Tokens
    shape: Shape = field(default_factory=Shape)

    def __post_init__(self) -> None:
        for at, token in enumerate(self.code.all):
            if token.text == "exit" and self.code.text(at - 2, at + 2) == "process.exit(":
                self.shape.switches["process.exit() ends the test run"] = token.line
        self._scope(0, len(self.code.all), (), (), 0)
        for name, start, end in self._functions():
            found = tuple(checks(self.code, start, end))
            line = self.code.all[start].line
            self.shape.helpers[name] = Case(name, line, (), found, calls=tuple(self._calls(start, end)))

    def _scope(self, start: int, end: int, names: tuple[str, ...], skips: tuple[str, ...], depth: int) -> None:
        if depth > 40:
            raise Unreadable("its groups are too deep", self.code.all[start].line)
        at = start
        while at < end:
            if (after := dead(self.code, at)) is not None:
                at = after
                continue
            call = self._test_call(at)
            if call is None:
                at += 1
                continue
            self._case(call, names, skips, depth)
            at = call.end + 1

    def _test_call(self, at: int) -> _Call | None:
        code = self.code
        token = code.all[at]
        if token.kind != "name" or token.text not in _GROUPS | _TESTS:
            return None
        if code.at(at - 1) in (".", "?.") and code.at(at - 2) not in _OWNERS:
            return None
        chain, here = [token.text], at + 1
        found: tuple[str, ...] | None = ()
        while here < len(code.all):
            if code.at(here) == "." and code.all[here + 1].kind == "name":
                chain.append(code.at(here + 1))
                here += 2
            elif code.at(here) == "(" and chain[-1] in ("each", "for"):
                found = self._rows(here)
                chain.append("rows")
                here = code.partner[here] + 1
            elif (
                code.at(here) == "("
                and chain[-1] in ("skipIf", "runIf")
                and code.at(code.partner[here] + 1) == "("
            ):
                here = code.partner[here] + 1
            elif code.all[here].kind == "string" and chain[-1] == "each":
                found = tuple(line.strip() for line in code.at(here).strip("`").strip().split("\n")[1:])
                here += 1
            else:
                break
        if code.at(here) != "(" or set(chain) & _HOOKS or not self._named(here):
            return None
        return _Call(chain, here, code.partner[here], found)

    def _named(self, at: int) -> bool:
        """Whether the parentheses begin with a title: a regular expression's `test(…)` has one thing in them."""
        parts = elements(self.code, at)
        return bool(parts) and (len(parts) > 1 or self.code.all[at + 1].kind == "string")

    def _rows(self, at: int) -> tuple[str, ...] | None:
        if self.code.at(at + 1) != "[":
            return None
        return tuple(self.code.text(*one) for one in elements(self.code, at + 1))

    def _case(self, call: _Call, names: tuple[str, ...], skips: tuple[str, ...], depth: int) -> None:
        code, parts = self.code, elements(self.code, call.begin)
        title = code.text(*parts[0]).strip("'\"`")[:200]
        line = code.all[call.begin].line
        root = call.chain[0]
        marks = [one for one in call.chain[1:] if one in _SKIPS] + ([root] if root.startswith("x") else [])
        if "only" in call.chain or root in ("fit", "fdescribe", "ftest"):
            self.shape.switches[f"{'.'.join(call.chain)}('{title}') leaves out all other tests"] = line
        body = parts[1:] or parts
        start, end = body[0][0], call.end
        if root in _GROUPS or call.chain[-1] in _GROUPS or "describe" in call.chain:
            known = set(self.shape.cases)
            self._scope(start, end, (*names, title), (*skips, *marks), depth + 1)
            if call.rows:
                for name in set(self.shape.cases) - known:
                    self.shape.cases[name] = replace(self.shape.cases[name], values=call.rows)
            return
        if len(parts) == 1 and "todo" not in marks:
            marks.append("no body")
        start, end = self._body(start, end)
        marks += self._inner_skips(start, end)
        name, mocks = " > ".join((*names, title)), len(_MOCKS.findall(code.text(start, end)))
        self.shape.add_numbered(
            Case(
                name, line, tuple(self._lines(start, end)), tuple(checks(code, start, end)), (*skips, *marks),
                call.rows, tuple(self._calls(start, end)), mocks,
            )
        )  # fmt: skip

    def _body(self, start: int, end: int) -> tuple[int, int]:
        """The statements of a callback, up to a `return` that stands alone among them."""
        code, at = self.code, start
        while at < end and code.at(at) != "{":
            at = code.partner[at] + 1 if code.at(at) == "(" else at + 1
        if at >= end:
            return start, end
        stop = code.partner[at]
        here = at + 1
        while here < stop:
            nothing = code.at(here + 1) in (";", "}") or code.all[here + 1].line > code.all[here].line
            if code.at(here) == "return" and nothing:
                return at + 1, here
            here = code.partner.get(here, here) + 1
        return at + 1, stop

    def _inner_skips(self, start: int, end: int) -> Iterator[str]:
        code = self.code
        for at in range(start, end):
            word = code.at(at)
            if word not in ("skip", "fixme", "pending") or code.at(at + 1) != "(":
                continue
            before = code.at(at - 2) if code.at(at - 1) == "." else ""
            alone = word == "pending" and code.at(at - 1) in (";", "{", "}", ")") and code.at(at + 2) == ")"
            if before in ("this", "t", "test", "it", "ctx", "context") or (alone and code.at(at + 3) != "{"):
                yield f"{before}.{word}()".lstrip(".")

    def _lines(self, start: int, end: int) -> Iterator[str]:
        """Statements: what ends with `;`, a brace, or the line where no bracket is open."""
        code, begin = self.code, start
        for at in range(start, end):
            last = at + 1 >= end
            ends = code.at(at) in (";", "{", "}") or (not last and self._ends_line(at))
            if ends or last:
                if line := code.text(begin, at + 1).strip("; {}"):
                    yield line
                begin = at + 1

    def _ends_line(self, at: int) -> bool:
        code = self.code
        return (
            code.all[at + 1].line > code.all[at].line
            and code.at(at) not in (",", "(", "[", "=", "+", "=>", ".", "&&", "||", "?", ":")
            and code.at(at + 1) not in (".", "?.", ")", "]", "+", "&&", "||", "?", ":")
        )

    # ------------------------------------------------------------ helpers

    def _functions(self) -> Iterator[tuple[str, int, int]]:
        """(name, first token, last) of functions with a body: `function f() {`, `const f = (…) => {`."""
        code = self.code
        for at, token in enumerate(code.all):
            if token.text == "function" and code.at(at + 2) == "(":
                yield from self._block(code.at(at + 1), code.partner[at + 2] + 1)
            elif token.text in ("const", "let", "var") and code.at(at + 2) == "=":
                begin = at + 3 + (code.at(at + 3) == "async")
                if code.at(begin) == "(" and begin in code.partner:
                    yield from self._block(code.at(at + 1), code.partner[begin] + 1)

    def _block(self, name: str, at: int) -> Iterator[tuple[str, int, int]]:
        for here in range(at, min(at + 12, len(self.code.all))):
            if self.code.at(here) == "{":
                yield name, here + 1, self.code.partner[here]
                return

    def _calls(self, start: int, end: int) -> Iterator[str]:
        for at in range(start, end):
            if self.code.all[at].kind == "name" and self.code.at(at + 1) == "(":
                yield self.code.at(at)
