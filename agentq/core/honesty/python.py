"""Tests written in Python, by its own grammar: pytest and unittest.

Nothing is run or imported. What can never run (below `if False`, after a return) counts for nothing.
"""

import ast
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from agentq.core.honesty.python_checks import asserted, called, raising, truth
from agentq.core.honesty.shape import NOTHING, Case, Check, Shape, Unreadable

_SKIPS = re.compile(
    r"(^|[._])(skip|skipif|skipIf|skipUnless|xfail|expectedFailure|skipTest|importorskip|SkipTest)$"
)
_HOOKS = re.compile(
    r"pytest_(collection_modifyitems|ignore_collect|collect_\w+|pycollect_\w+|itemcollected|deselected"
    r"|generate_tests|runtest\w*|pyfunc_call|sessionfinish|report_teststatus|cmdline_main|load_initial_conftests"
    r"|exception_interact|assertrepr_compare|assertion_pass)"
)
_SELF = re.compile(r"\bself\.(?=\w)")
_FAILS = re.compile(r"(pytest\.|unittest\.)?fail\(")
_SETS_UP = re.compile(r"(asyncS|s)et_?[uU]p(Class|Module|TestData|_class|_module|_method|_function)?")
_EXITS = ("os._exit", "sys.exit", "pytest.exit", "exit", "quit")
_MOCKS = re.compile(r"(^|\.)(patch|patch\.\w+|MagicMock|Mock|AsyncMock|create_autospec|setattr|setitem)$")
_BROAD = {"AssertionError", "Exception", "BaseException"}
_WAITS = {"timeout", "time_out", "timeout_seconds", "wait"}
_ENDS = ast.Return | ast.Raise | ast.Continue | ast.Break
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def read_python(text: str) -> Shape:
    """Raises Unreadable when it is no Python of this version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            return _Reader(tree).shape
    except SyntaxError as error:
        raise Unreadable(str(error.msg or "no Python")[:120], error.lineno or 0) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(str(error)[:120]) from None


@dataclass
class _Body:
    """What a function says while it is walked."""

    checks: list[Check] = field(default_factory=list)
    skips: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    mocks: int = 0
    waits: float = 0.0


@dataclass(frozen=True)
class _State:
    conditional: bool = False
    swallowed: bool = False
    weight: int = 1


class _Reader:
    def __init__(self, tree: ast.Module) -> None:
        self.shape = Shape()
        self.lists = _constant_lists(tree.body)
        loose: list[ast.stmt] = []
        self._scope(tree.body, (), (), loose)
        body = _Body()
        _block(loose, _State(), body)
        if body.checks:
            lines = tuple(_text(one) for one in loose)
            self.shape.add(Case("the file itself", loose[0].lineno, lines, tuple(body.checks), tuple(body.skips)))

    def _scope(
        self, body: Sequence[ast.stmt], scope: tuple[str, ...], skips: tuple[str, ...], loose: list[ast.stmt]
    ) -> bool:
        """A module or a class; whether nothing below is reached any more."""
        marks = skips + tuple(mark for one in body for mark in self._marks(one, scope))
        for one in body:
            match one:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self._function(one, scope, marks)
                case ast.ClassDef():
                    self._class(one, scope, marks)
                case ast.If(test=test, body=then, orelse=other):
                    # What only runs as a program is no business of a test run.
                    known = False if "__name__" in _text(test) else truth(test)
                    branches = [*([] if known is False else [then]), *([] if known is True else [other])]
                    for branch in branches:
                        self._scope(branch, scope, marks, loose)
                case ast.Try(body=inner, handlers=handlers, orelse=other, finalbody=final):
                    for branch in (inner, *(handler.body for handler in handlers), other, final):
                        self._scope(branch, scope, marks, loose)
                case ast.Delete(targets=targets):
                    for target in targets:
                        self._forget(_text(target), scope)
                case _:
                    self._statement(one, scope, loose)
        return False

    def _statement(self, one: ast.stmt, scope: tuple[str, ...], loose: list[ast.stmt]) -> None:
        targets = one.targets if isinstance(one, ast.Assign) else []
        for target in targets:
            self._forget(_text(target), scope)
        if not scope:
            loose.append(one)
            if isinstance(one, ast.Raise) and "SystemExit" in _text(one):
                self.shape.switches[f"{_text(one)} ends the test run"] = one.lineno
            for call in (node for node in ast.walk(one) if isinstance(node, ast.Call)):
                self._switch(call)

    def _marks(self, one: ast.stmt, scope: tuple[str, ...]) -> Iterable[str]:
        """What an assignment says about every test of its scope."""
        if not isinstance(one, ast.Assign | ast.AnnAssign) or one.value is None:
            return
        for target in one.targets if isinstance(one, ast.Assign) else [one.target]:
            name = _text(target)
            if name == "pytestmark":
                yield from (skip for node in _elements(one.value) if (skip := _skip(node)))
            elif name == "__test__" and truth(one.value) is False:
                yield "__test__ = False"
            elif name in ("collect_ignore", "collect_ignore_glob", "pytest_plugins") and not scope:
                for node in _elements(one.value):
                    self.shape.switches[f"{name}: {_text(node)}"] = one.lineno

    def _switch(self, call: ast.Call) -> None:
        name = _text(call.func)
        if name in _EXITS:
            self.shape.switches[f"{_text(call)} ends the test run"] = call.lineno
        elif _SKIPS.search(name) and not re.search(r"(^|\.)mark\.", name) and "skip" in name.lower():
            self.shape.switches[f"{_text(call)[:80]} skips the whole file"] = call.lineno

    def _forget(self, name: str, scope: tuple[str, ...]) -> None:
        short = name.rsplit(".", 1)
        known = self.shape.cases
        for full in (" > ".join((*scope, name)), " > ".join((*scope, *short))):
            known.pop(full, None)
        prefix = " > ".join((*scope, name)) + " > "
        for full in [one for one in known if one.startswith(prefix)]:
            del known[full]

    def _class(self, one: ast.ClassDef, scope: tuple[str, ...], skips: tuple[str, ...]) -> None:
        more = tuple(skip for node in one.decorator_list if (skip := _skip(node)))
        before = set(self.shape.cases)
        self._scope(one.body, (*scope, one.name), skips + more, [])
        bases = [_text(base) for base in one.bases if _text(base) != "object"]
        own_init = any(isinstance(node, _Function) and node.name == "__init__" for node in one.body)
        if bases or (one.name.startswith("Test") and not own_init):
            return
        for name in set(self.shape.cases) - before:
            self.shape.cases[name] = replace(self.shape.cases[name], collected=False)

    def _function(self, one: _Function, scope: tuple[str, ...], skips: tuple[str, ...]) -> None:
        body = _Body()
        _block(one.body, _State(), body)
        for node in ast.walk(one):
            if isinstance(node, ast.Call) and _text(node.func) in _EXITS[:1]:
                self.shape.switches[f"{_text(node)} ends the test run"] = node.lineno
        own = tuple(skip for node in one.decorator_list if (skip := _skip(node)))
        lines = tuple(_lines(one.body))
        body.calls += [arg.arg for arg in (*one.args.args, *one.args.kwonlyargs)]  # fixtures
        name = " > ".join((*scope, one.name))
        case = Case(
            name, one.lineno, lines, tuple(body.checks), (*skips, *own, *body.skips), self._values(one),
            tuple(body.calls), body.mocks + _mocking(one.decorator_list), body.waits,
        )  # fmt: skip
        if one.name.startswith("test") and not any(_text(node).endswith("fixture") for node in one.decorator_list):
            self.shape.add(case)
        elif not scope and _HOOKS.fullmatch(one.name):
            digest = " ".join(lines)
            self.shape.switches[f"the hook {one.name} decides which tests count: {digest}"] = one.lineno
        else:
            fixture = any("fixture" in _text(node) for node in one.decorator_list) or _SETS_UP.fullmatch(one.name)
            if fixture and body.skips:
                self.shape.switches[f"the fixture {one.name} skips tests: {body.skips[0]}"] = one.lineno
            self.shape.helpers[one.name] = case

    def _values(self, one: _Function) -> tuple[str, ...] | None:
        """The rows of `parametrize`, each with the names it is for."""
        found: list[str] = []
        for node in one.decorator_list:
            if not isinstance(node, ast.Call) or not _text(node.func).endswith(("parametrize", "expand")):
                continue
            rows = node.args[-1] if node.args else None
            for keyword in node.keywords:
                rows = keyword.value if keyword.arg == "argvalues" else rows
            if isinstance(rows, ast.Name):
                rows = self.lists.get(rows.id, rows)
            if not isinstance(rows, ast.List | ast.Tuple | ast.Set):
                return None
            found += [_text(row) for row in rows.elts]
        return tuple(found)


# ---------------------------------------------------------------- bodies


def _block(body: Sequence[ast.stmt], state: _State, out: _Body) -> bool:
    """Walk statements; whether what follows them is never reached."""
    for one in body:
        if isinstance(one, ast.Return | ast.Raise) and one is not body[-1]:
            _expressions(one, state, out)
            return True
        if _statement(one, state, out):
            return True
        if _leaves(one):
            state = replace(state, conditional=True)
    return bool(body) and isinstance(body[-1], _ENDS)


def _leaves(one: ast.stmt) -> bool:
    """Whether an `if` may leave the function: what follows runs on a condition."""
    return (
        isinstance(one, ast.If)
        and truth(one.test) is None
        and any(isinstance(last, ast.Return) for branch in (one.body, one.orelse) for last in branch[-1:])
    )


def _statement(one: ast.stmt, state: _State, out: _Body) -> bool:
    match one:
        case ast.Assert(test=test):
            out.checks += [_judged(check, state) for check in asserted(test)]
            _expressions(one, state, out, checks=False)
        case ast.If(test=test, body=then, orelse=other):
            _expressions(test, state, out)
            known = truth(test)
            if known is not None:
                return _block(then if known else other, state, out)
            inner = replace(state, conditional=True)
            ended = [_block(branch, inner, out) for branch in (then, other)]
            return all(ended) and bool(other)
        case ast.While(test=test, body=inner):
            return False if truth(test) is False else _block(inner, state, out) and False
        case ast.For(iter=rows, body=inner) | ast.AsyncFor(iter=rows, body=inner):
            _expressions(rows, state, out)
            times = _times(rows)
            if times:
                _block(inner, replace(state, weight=state.weight * times), out)
        case ast.With(items=items, body=inner) | ast.AsyncWith(items=items, body=inner):
            return _with([item.context_expr for item in items], inner, state, out)
        case ast.Try() | ast.TryStar():
            _try(one, state, out)
        case ast.Match(cases=cases):
            for choice in cases:
                _block(choice.body, replace(state, conditional=True), out)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            _block(one.body, state, out)
        case _:
            _expressions(one, state, out)
            return _unconditional_skip(one)
    return False


def _with(items: Sequence[ast.expr], inner: Sequence[ast.stmt], state: _State, out: _Body) -> bool:
    for item in items:
        check = raising(item)
        if check:
            out.checks.append(_judged(check, state))
        elif isinstance(item, ast.Call) and _text(item.func).endswith("suppress"):
            caught = {_text(one).rsplit(".", 1)[-1] for one in item.args}
            state = replace(state, swallowed=state.swallowed or bool(caught & _BROAD))
        else:
            _expressions(item, state, out)
    _block(inner, state, out)
    return False


def _try(one: ast.Try | ast.TryStar, state: _State, out: _Body) -> None:
    swallows = any(_broad(handler) and not _speaks(handler) for handler in one.handlers)
    _block(one.body, replace(state, swallowed=state.swallowed or swallows), out)
    for handler in one.handlers:
        # A failure said here is what the exception itself would have been.
        inner = replace(out, checks=[])
        _block(handler.body, replace(state, conditional=True), inner)
        out.checks += [check for check in inner.checks if not _FAILS.match(check.text)]
    _block(one.orelse, state, out)
    _block(one.finalbody, state, out)


def _broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(_text(kind).rsplit(".", 1)[-1] in _BROAD for kind in kinds)


def _speaks(handler: ast.ExceptHandler) -> bool:
    """Whether a handler fails the test after all, or checks something itself."""
    for node in ast.walk(handler):
        if isinstance(node, ast.Raise | ast.Assert):
            return True
        if isinstance(node, ast.Call) and re.search(r"fail|assert|exit", _text(node.func)):
            return True
    return False


def _judged(check: Check, state: _State) -> Check:
    rank = NOTHING if state.swallowed else check.rank
    weight = min(check.weight * state.weight, 1000)
    return replace(check, rank=rank, conditional=state.conditional, weight=weight)


def _expressions(one: ast.AST, state: _State, out: _Body, *, checks: bool = True) -> None:
    """Calls that check, skip, mock, or go to a helper."""
    for node in ast.walk(one):
        if isinstance(node, ast.Name):  # `yield check, a, b` hands a helper on
            out.calls.append(node.id)
        if not isinstance(node, ast.Call):
            continue
        name = _text(node.func)
        if _SKIPS.search(name) or name.endswith(("pytest.xfail", ".xfail")):
            out.skips.append(("" if not state.conditional else "if …: ") + _text(node)[:80])
        elif _MOCKS.search(name):
            out.mocks += 1
        found = (called(node) or raising(node)) if checks else None
        if found:
            out.checks += [_judged(check, state) for check in (found if isinstance(found, list) else [found])]
        else:
            out.calls.append(name.rsplit(".", 1)[-1])
        for keyword in node.keywords:
            if keyword.arg in _WAITS and isinstance(keyword.value, ast.Constant):
                value = keyword.value.value
                out.waits = max(out.waits, float(value) if isinstance(value, int | float) else 0.0)


def _unconditional_skip(one: ast.stmt) -> bool:
    node = one.value if isinstance(one, ast.Expr) else None
    return isinstance(node, ast.Call) and bool(_SKIPS.search(_text(node.func)))


def _times(rows: ast.expr) -> int:
    """How often a loop runs, as far as one can see; 3 where one cannot."""
    match rows:
        case ast.List(elts=elts) | ast.Tuple(elts=elts) | ast.Set(elts=elts):
            return len(elts)
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int(count))]):
            return max(count, 0)
        case ast.Constant(value=str(text)):
            return len(text)
        case _:
            return 3


# ---------------------------------------------------------------- small things


def _skip(node: ast.expr) -> str:
    """The mark that keeps a test from running, or ''."""
    func = node.func if isinstance(node, ast.Call) else node
    return _text(node)[:80] if _SKIPS.search(_text(func)) else ""


def _mocking(decorators: Sequence[ast.expr]) -> int:
    return sum(isinstance(node, ast.Call) and bool(_MOCKS.search(_text(node.func))) for node in decorators)


def _elements(node: ast.expr) -> Sequence[ast.expr]:
    return node.elts if isinstance(node, ast.List | ast.Tuple) else [node]


def _constant_lists(body: Sequence[ast.stmt]) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for one in body:
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.List | ast.Tuple | ast.Set):
            found |= {target.id: one.value for target in one.targets if isinstance(target, ast.Name)}
    return found


def _lines(body: Sequence[ast.stmt]) -> Iterable[str]:
    """The statements of a body, one line each, docstrings and nothing-doers left out."""
    for one in body:
        if isinstance(one, ast.Pass) or (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)):
            continue
        yield from (_SELF.sub("", line.strip()) for line in _text(one).split("\n"))


def _text(node: ast.AST) -> str:
    """The source in a normal form; names without the detour."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=name), attr=attr):
            return f"{name}.{attr}"
        case _:
            return ast.unparse(node)
