"""One assertion in JavaScript: its normal form, and how much it demands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from agentq.core.honesty.shape import EXACT, HARDLY, NEARLY, NOTHING, PARTLY, WEAK, Check
from agentq.core.honesty.tokens import Tokens

_NAMED = re.compile(r"_*(assert|expect|verify|check|ensure|should)([A-Z_]\w*|)$")
_EXACT = {
    "toBe", "toEqual", "toStrictEqual", "toHaveLength", "toBeNull", "toBeUndefined", "toBeNaN", "equal", "equals",
    "deepEqual", "strictEqual", "deepStrictEqual", "eql", "eq", "toHaveBeenCalledWith", "toHaveBeenCalledTimes",
    "toHaveBeenLastCalledWith", "toHaveBeenCalledOnce", "toHaveBeenCalledExactlyOnceWith",
    "toHaveBeenNthCalledWith", "toMatchInlineSnapshot", "toBeFalsy", "false", "null", "undefined", "is", "same",
    "calledWith", "calledOnceWith",
    "toHaveText", "toHaveValue", "toHaveURL", "toHaveCount",
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
_LITERAL = re.compile(r"(true|false|null|undefined|\d[\w.]*|'[^']*'|\"[^\"]*\")$")


def checks(code: Tokens, start: int, end: int) -> Iterator[Check]:
    """What the tokens from `start` to `end` check, in their order."""
    return _Checks(code).found(start, end)


def dead(code: Tokens, at: int) -> int | None:
    """Behind the block of an `if (false)` that begins at `at`, or None."""
    if code.at(at) == "if" and code.text(at + 1, at + 4) in ("(false)", "(0)") and code.at(at + 4) == "{":
        return code.partner[at + 4] + 1
    return None


@dataclass
class _Checks:
    code: Tokens

    def found(self, start: int, end: int) -> Iterator[Check]:
        at = start
        swallowed = self._swallowed(start, end)
        conditional = self._conditional(start, end)
        while at < end:
            if (after := dead(self.code, at)) is not None:
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
                return Check(code.text(at, after), PARTLY, token.line, custom=True), after
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
            given = code.text(groups[0][0] + 1, groups[0][1])
            return Check(f".{text}", EXACT, line, weight=min(200, 1 + given.count(",") + given.count(":")))
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
