"""Tests written in JavaScript and TypeScript: jest, vitest, mocha, playwright, node:test and their like."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from agentq.core.tests_shape import (
    EXACT, HARDLY, NEARLY, NOTHING, PARTLY, WEAK, Case, Check, Shape, Unreadable,
)  # fmt: skip
from agentq.core.tokens import Tokens, elements, tokens

_GROUPS = {"describe", "context", "suite", "xdescribe", "fdescribe", "xcontext"}
_TESTS = {"it", "test", "specify", "xit", "fit", "xtest", "ftest", "xspecify"}
_OWNERS = {"QUnit", "t", "tap", "Deno", "ava"}
_SKIPS = {"skip", "todo", "fixme", "failing", "fails", "skipIf", "runIf", "fail"}
_HOOKS = {
    "step",
    "beforeEach",
    "afterEach",
    "beforeAll",
    "afterAll",
    "use",
    "extend",
    "setTimeout",
    "configure",
    "info",
}
_NAMED = re.compile(r"_*(assert|expect|verify|check|ensure|should)([A-Z_]\w*|)$")
_EXACT = {
    "toBe", "toEqual", "toStrictEqual", "toHaveLength", "toBeNull", "toBeUndefined", "toBeNaN", "equal", "equals",
    "deepEqual", "strictEqual", "deepStrictEqual", "eql", "eq", "toHaveBeenCalledWith", "toHaveBeenCalledTimes",
    "toHaveBeenLastCalledWith", "toHaveBeenCalledOnce", "toHaveBeenCalledExactlyOnceWith", "toHaveBeenNthCalledWith", "toMatchInlineSnapshot", "toBeFalsy", "false", "null",
    "undefined", "is", "same", "calledWith", "calledOnceWith", "toHaveText", "toHaveValue", "toHaveURL", "toHaveCount",
    "toThrow", "toThrowError", "throws", "throw", "rejects", "rejectedWith", "toReturnWith", "empty", "lengthOf",
    "length", "deep", "toEqualTypeOf", "toBeFalse", "notOk",
}  # fmt: skip
_NEAR = {"toBeCloseTo", "closeTo", "approximately"}
_WEAK = {"toBeTruthy", "ok", "true", "toHaveBeenCalled", "called", "toBeTrue", "isTrue", "isOk"}
_HARDLY = {"toBeDefined", "exist", "exists", "isDefined", "anything", "isNotNull"}
_BY_NAME = {
    **dict.fromkeys(_EXACT, EXACT), **dict.fromkeys(_NEAR, NEARLY), **dict.fromkeys(_WEAK, WEAK),
    **dict.fromkeys(_HARDLY, HARDLY),
}  # fmt: skip
_ABSENT = {"toBeNull", "toBeUndefined", "toBeFalsy", "null", "undefined"}
_MOCKS = re.compile(r"\b(jest|vi)\.(mock|doMock|spyOn|fn)\b|\bsinon\.(stub|mock|fake)\b")
_LITERAL = re.compile(r"(true|false|null|undefined|\d[\w.]*|'[^']*'|\"[^\"]*\")$")


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
        self._scope(0, len(self.code.all), (), (), 0)
        for name, start, end in self._functions():
            checks = tuple(self._checks(start, end))
            if checks:
                line = self.code.all[start].line
                self.shape.helpers[name] = Case(name, line, (), checks, calls=tuple(self._calls(start, end)))

    def _scope(self, start: int, end: int, names: tuple[str, ...], skips: tuple[str, ...], depth: int) -> None:
        if depth > 40:
            raise Unreadable("its groups are too deep", self.code.all[start].line)
        at = start
        while at < end:
            if (after := self._dead(at)) is not None:
                at = after
                continue
            call = self._test_call(at)
            if call is None:
                at += 1
                continue
            self._case(call, names, skips, depth)
            at = call.end + 1

    def _dead(self, at: int) -> int | None:
        """Behind the block of an `if (false)`, or None."""
        code = self.code
        if code.at(at) == "if" and code.text(at + 1, at + 4) in ("(false)", "(0)") and code.at(at + 4) == "{":
            return code.partner[at + 4] + 1
        return None

    def _test_call(self, at: int) -> _Call | None:
        code = self.code
        token = code.all[at]
        if token.kind != "name" or token.text not in _GROUPS | _TESTS:
            return None
        if code.at(at - 1) in (".", "?.") and code.at(at - 2) not in _OWNERS:
            return None
        chain, rows, here = [token.text], (), at + 1
        found: tuple[str, ...] | None = rows
        while here < len(code.all):
            if code.at(here) == "." and code.all[here + 1].kind == "name":
                chain.append(code.at(here + 1))
                here += 2
            elif code.at(here) == "(" and chain[-1] in ("each", "for"):
                found = self._rows(here)
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
        text = code.text(start, end)
        self.shape.add_numbered(
            Case(
                " > ".join((*names, title)), line, tuple(self._lines(start, end)), tuple(self._checks(start, end)),
                (*skips, *marks), call.rows, tuple(self._calls(start, end)), len(_MOCKS.findall(text)),
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

    # ------------------------------------------------------------ checks

    def _checks(self, start: int, end: int) -> Iterator[Check]:
        at, code = start, self.code
        swallowed = self._swallowed(start, end)
        conditional = self._conditional(start, end)
        while at < end:
            if (after := self._dead(at)) is not None:
                at = after
                continue
            check, after = self._check(at, end)
            if check is None:
                at += 1
                continue
            if any(begin <= at < stop for begin, stop in swallowed):
                check = replace(check, rank=NOTHING)
            yield replace(check, conditional=any(begin <= at < stop for begin, stop in conditional))
            at = max(after, at + 1)
        _ = code

    def _check(self, at: int, end: int) -> tuple[Check | None, int]:
        code, token = self.code, self.code.all[at]
        if token.kind != "name":
            return None, at
        dotted = code.at(at - 1) in (".", "?.")
        if token.text in ("expect", "expectTypeOf", "should") and (not dotted or code.at(at + 1) == "("):
            return self._chain(at, end)
        if token.text == "should" and dotted:
            return self._chain(at, end)
        if token.text == "assert" and not dotted:
            return self._chain(at, end)
        if dotted and code.at(at - 2) == "t" and token.text in _BY_NAME and code.at(at + 1) == "(":
            return self._chain(at, end)
        if not dotted and _NAMED.match(token.text) and code.at(at + 1) == "(" and code.at(at - 1) != "function":
            after = code.partner[at + 1] + 1
            if code.at(after) != "{":
                return Check(code.text(at, after), NEARLY, token.line), after
        return None, at

    def _chain(self, at: int, end: int) -> tuple[Check | None, int]:
        """`expect(…).not.toBe(…)` as one check; also `assert.equal(…)` and `.expect(200)`."""
        code, here, names = self.code, at + 1, [self.code.at(at)]
        groups: list[tuple[int, int]] = []
        dotted = code.at(at - 1) in (".", "?.") and names == ["expect"]
        while here < end:
            if code.at(here) in (".", "?.") and here + 1 < end and code.all[here + 1].kind == "name":
                names.append(code.at(here + 1))
                here += 2
            elif code.at(here) == "(":
                groups.append((here, code.partner[here]))
                here = code.partner[here] + 1
                if dotted or (names[0] == "assert" and code.at(here) != "."):
                    break
            elif code.at(here) == "<" and (after := self._generic(here, end)):
                here = after
            else:
                break
        if not groups:
            return None, at
        return self._judged(at, here, names, groups, dotted=dotted), here

    def _generic(self, at: int, end: int) -> int:
        """Behind the `>` of `toEqualTypeOf<…>(`; 0 where `<` compares."""
        depth = 0
        for here in range(at, min(at + 400, end)):
            depth += {"<": 1, ">": -1}.get(self.code.at(here), 0)
            if depth == 0:
                return here + 1 if self.code.at(here + 1) == "(" else 0
        return 0

    def _judged(
        self, at: int, end: int, names: list[str], groups: list[tuple[int, int]], *, dotted: bool
    ) -> Check:
        code = self.code
        text, line = code.text(at, end), code.all[at].line
        if dotted:  # a request's `.expect(200, { … }, done)`
            inside = code.text(groups[0][0] + 1, groups[0][1])
            return Check(f".{text}", EXACT, line, weight=min(200, 1 + inside.count(",") + inside.count(":")))
        if names[0] == "should" and code.at(at - 1) == ".":
            text = code.text(self._operand(at - 1), end)
        inside = [code.text(begin + 1, stop) for begin, stop in groups]
        subject = inside[0].split(",")[0] if inside else ""
        matcher = names[-1]
        rank = _BY_NAME.get(matcher, PARTLY) if len(names) > 1 else WEAK
        expected = inside[-1] if len(inside) > 1 or names[0] == "assert" else ""
        if names == ["assert"]:
            rank = NOTHING if _LITERAL.match(inside[0]) else EXACT if re.search(r"[=!]==?", inside[0]) else WEAK
        if names[0] == "expect" and len(names) == 1:
            rank = NOTHING  # expect(x) alone checks nothing
        rank = _negated(rank, names) if "not" in names else rank
        if names[0] in ("expect", "assert") and expected == "true" and matcher in _EXACT:
            rank = min(rank, WEAK)
        if "expect.any" in expected or "objectContaining" in expected or "arrayContaining" in expected:
            rank = min(rank, PARTLY)
        if _LITERAL.match(subject) and (len(groups) < 2 or _LITERAL.match(expected) or not expected):
            rank = NOTHING
        core, slack = _slack(names, subject, expected)
        weight = (
            max(1, min(200, expected.count(",") + expected.count(":"))) if expected[:1] in ("{", "[", "`") else 1
        )
        return Check(text, rank, line, core, slack, subject, weight=weight)

    def _operand(self, dot: int) -> int:
        """Where the expression begins that stands before a `.`."""
        code = self.code
        closed = {end: begin for begin, end in code.partner.items()} if code.at(dot - 1) in (")", "]", "}") else {}
        at = dot
        while at > 0:
            before = code.all[at - 1]
            if at - 1 in closed:
                at = closed[at - 1]
            elif before.text in (".", "?.") or (
                before.kind in ("name", "string", "number") and before.text != "return"
            ):
                at -= 1
            else:
                break
            if code.at(at - 1) in (")", "]") and not closed:
                closed = {end: begin for begin, end in code.partner.items()}
        return at

    def _swallowed(self, start: int, end: int) -> list[tuple[int, int]]:
        """The blocks of `try` whose `catch` says nothing."""
        code, found = self.code, []
        for at in range(start, end - 1):
            if code.at(at) != "try" or code.at(at + 1) != "{":
                continue
            stop = code.partner[at + 1]
            handler = stop + 1
            if code.at(handler) != "catch":
                continue
            begin = handler + 1
            if code.at(begin) == "(":
                begin = code.partner[begin] + 1
            if code.at(begin) == "{":
                words = {token.text for token in code.all[begin : code.partner[begin]]}
                if not words & {"throw", "expect", "assert", "fail", "done", "reject", "should", "next", "t"}:
                    found.append((at + 1, stop))
        return found

    def _conditional(self, start: int, end: int) -> list[tuple[int, int]]:
        code, found = self.code, []
        for at in range(start, end):
            if code.at(at) == "if" and code.at(at + 1) == "(" and code.at(at - 1) != ".":
                begin = code.partner[at + 1] + 1
                if code.at(begin) == "{":
                    found.append((begin, code.partner[begin]))
        return found

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


def _negated(rank: int, names: list[str]) -> int:
    if set(names) & _ABSENT:
        return HARDLY
    if names[-1] in ("toHaveBeenCalled", "called", "toBeTruthy", "toBeDefined", "exist", "ok"):
        return EXACT
    return WEAK if rank >= NEARLY and "throw" not in names[-1].lower() else PARTLY


def _slack(names: list[str], subject: str, expected: str) -> tuple[str, float]:
    """(what is checked but for its tolerance, the tolerance)."""
    matcher = names[-1]
    if matcher in ("toBeCloseTo",):
        value, _, digits = expected.partition(",")
        wide = 10.0 ** -int(digits) / 2 if digits.strip().isdigit() and int(digits) < 300 else 0.005
        return f"{subject} == {value.strip()}", wide
    if matcher in ("toBe", "toEqual", "toStrictEqual"):
        return (f"{subject} == {expected}" if "not" not in names else ""), 0.0
    if matcher.lower() in ("tothrow", "tothrowerror") and "not" not in names:
        return f"{subject} throws", 0.0 if expected else 1.0
    return "", 0.0
