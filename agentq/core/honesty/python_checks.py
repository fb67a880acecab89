"""One assertion in Python: its normal form, and how much it demands.

`self.assertEqual(a, b)` and `assert a == b` are the same check: moving from one to the other changes nothing.
"""

import ast
import re

from agentq.core.honesty.shape import EXACT, HARDLY, NEARLY, NOTHING, PARTLY, WEAK, Check

_COMPARED = {
    "assertEqual": ast.Eq, "assertEquals": ast.Eq, "assertNotEqual": ast.NotEq, "assertNotEquals": ast.NotEq,
    "assertIs": ast.Is, "assertIsNot": ast.IsNot, "assertIn": ast.In, "assertNotIn": ast.NotIn,
    "assertGreater": ast.Gt, "assertGreaterEqual": ast.GtE, "assertLess": ast.Lt, "assertLessEqual": ast.LtE,
    "assertListEqual": ast.Eq, "assertDictEqual": ast.Eq, "assertSetEqual": ast.Eq, "assertTupleEqual": ast.Eq,
    "assertMultiLineEqual": ast.Eq, "assertSequenceEqual": ast.Eq, "assert_equal": ast.Eq, "assert_in": ast.In,
    "assert_not_in": ast.NotIn, "assert_not_equal": ast.NotEq, "assert_is": ast.Is, "assertItemsEqual": ast.Eq,
    "eq_": ast.Eq,
}  # fmt: skip
_TRUE = {"assertTrue", "assert_", "failUnless", "assert_true", "ok_", "assertFalse", "failIf", "assert_false"}
_FALSE = {"assertFalse", "failIf", "assert_false"}
_RAISES = {
    "raises", "assertRaises", "assertRaisesRegex", "assertRaisesMessage", "assertRaisesRegexp", "warns",
    "assertWarns", "assertWarnsRegex", "assert_raises", "assert_raises_regexp",
    "deprecated_call", "assertLogs", "assertNoLogs", "RaisesGroup",
}  # fmt: skip
_ANY_ERROR = {"Exception", "BaseException"}
_MOCK_EXACT = ("called_once_with", "called_with", "not_called", "has_calls", "awaited_once_with", "awaited_with")
_SELF = re.compile(r"\bself\.(?=\w)")
_CONTAINERS = ast.List | ast.Tuple | ast.Set
_BY_OPERATOR = {
    ast.Eq: EXACT, ast.Is: EXACT, ast.NotEq: WEAK, ast.IsNot: HARDLY, ast.In: PARTLY, ast.NotIn: PARTLY,
    ast.Lt: PARTLY, ast.LtE: PARTLY, ast.Gt: PARTLY, ast.GtE: PARTLY,
}  # fmt: skip


def asserted(test: ast.expr) -> list[Check]:
    """What `assert test` checks; the parts of an `and` are checks of their own."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return [check for value in test.values for check in asserted(value)]
    return [_check(test)]


def called(node: ast.Call) -> list[Check] | None:
    """What a call like `self.assertEqual(a, b)` or `mock.assert_called_once()` checks; None if it is no check."""
    name = node.func.attr if isinstance(node.func, ast.Attribute) else _text(node.func)
    args = node.args
    if name in _COMPARED and len(args) >= 2:
        return asserted(_at(ast.Compare(args[0], [_COMPARED[name]()], [args[1]]), node))
    if name in _TRUE and args:
        return asserted(_at(ast.UnaryOp(ast.Not(), args[0]), node) if name in _FALSE else args[0])
    if name in ("assertIsNone", "assertIsNotNone") and args:
        operator = ast.Is() if name == "assertIsNone" else ast.IsNot()
        return asserted(_at(ast.Compare(args[0], [operator], [ast.Constant(None)]), node))
    if name in ("assertIsInstance", "assertIsSubclass") and len(args) >= 2:
        return asserted(_at(ast.Call(ast.Name("isinstance"), args[:2], []), node))
    if name in ("assertAlmostEqual", "assertAlmostEquals") and len(args) >= 2:
        return [_near(node, _text(args[0]), _text(args[1]), _places(node))]
    if name in ("fail", "xfail") and _text(node.func) in ("pytest.fail", "fail", "unittest.fail"):
        return [Check(_text(node), PARTLY, node.lineno)]
    if name.startswith("assert_") and isinstance(node.func, ast.Attribute):
        rank = EXACT if name.endswith(_MOCK_EXACT) else WEAK if "called" in name or "awaited" in name else PARTLY
        return [Check(_text(node), rank, node.lineno)]
    if name not in _RAISES and name.lower().lstrip("_").startswith(
        ("assert", "check", "verify", "expect", "ensure")
    ):
        return [Check(_text(node), PARTLY, node.lineno, custom=True)]
    return None


def raising(node: ast.expr) -> Check | None:
    """What `with pytest.raises(…)` checks; None if it is something else."""
    if not isinstance(node, ast.Call):
        return None
    name = node.func.attr if isinstance(node.func, ast.Attribute) else _text(node.func)
    if name not in _RAISES:
        return None
    kinds = [
        _text(kind) for one in node.args[:1] for kind in (one.elts if isinstance(one, _CONTAINERS) else [one])
    ]
    broad = any(kind.rsplit(".", 1)[-1] in _ANY_ERROR for kind in kinds)
    said = "match" in {keyword.arg for keyword in node.keywords} or (name.endswith(("Regex", "Message")))
    said = said or (name.startswith("assertRaises") and len(node.args) == 2 and name != "assertRaises")
    core = f"raises {' or '.join(sorted(kinds)) or name}"
    return Check(
        _text(node), HARDLY if broad and not said else EXACT, node.lineno, core, 0.0 if said else 1.0,
        " or ".join(sorted(kinds)), weight=2,  # it also says that nothing else was raised, or nothing at all
    )  # fmt: skip


def truth(test: ast.expr) -> bool | None:
    """What a condition is that never changes; None where it may."""
    match test:
        case ast.Constant(value=value):
            return bool(value)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = truth(operand)
            return None if inner is None else not inner
        case ast.List(elts=elts) | ast.Tuple(elts=elts) | ast.Set(elts=elts):
            return bool(elts)
        case ast.BoolOp(op=op, values=values):
            known = [truth(value) for value in values]
            decisive = isinstance(op, ast.Or)
            if decisive in known:
                return decisive
            return None if None in known else not decisive
        case _:
            return None


def _check(test: ast.expr) -> Check:
    text, line = _text(test), getattr(test, "lineno", 0)
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        left, right = test.left, test.comparators[0]
        for near, other in ((right, left), (left, right)):
            if isinstance(near, ast.Call) and _text(near.func).rsplit(".", 1)[-1] == "approx" and near.args:
                return _near(near, _text(other), _text(near.args[0]), _tolerance(near, 1e-6))
    if isinstance(test, ast.Call) and _text(test.func).rsplit(".", 1)[-1] in ("isclose", "allclose"):
        sides = [_text(arg) for arg in test.args[:2]]
        return _near(test, sides[0] if sides else "", sides[-1] if sides else "", _tolerance(test, 1e-6))
    rank, negated = _rank(test)
    subject = test.left if isinstance(test, ast.Compare) else _operand(test)
    core = f"{_text(test.left)} == {_text(test.comparators[0])}" if isinstance(test, ast.Compare) else text
    return Check(text, rank, line, core, 0.0, _text(subject), negated, weight=_weight(test))


def _near(node: ast.expr, left: str, right: str, tolerance: float) -> Check:
    return Check(_text(node) + f" ~ {left}", NEARLY, node.lineno, f"{left} == {right}", tolerance, left)


def _tolerance(node: ast.Call, usual: float) -> float:
    given = [
        float(keyword.value.value)
        for keyword in node.keywords
        if keyword.arg in ("rel", "abs", "rel_tol", "abs_tol", "rtol", "atol", "delta")
        and isinstance(keyword.value, ast.Constant)
        and isinstance(keyword.value.value, int | float)
    ]
    return max(given, default=usual)


def _places(node: ast.Call) -> float:
    for keyword in node.keywords:
        value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
        if keyword.arg == "delta" and isinstance(value, int | float):
            return float(value)
        if keyword.arg == "places" and isinstance(value, int) and abs(value) < 300:
            return float(10.0**-value)
    return 1e-7


def _rank(test: ast.expr) -> tuple[int, bool]:
    """(rank, whether it demands that something be false)."""
    match test:
        case ast.Constant(value=value) if not value:
            return PARTLY, False  # `assert False`: not to be reached
        case ast.Constant() | ast.JoinedStr() | ast.Lambda() | ast.List() | ast.Tuple() | ast.Dict() | ast.Set():
            return NOTHING, False
        case ast.UnaryOp(op=ast.Not(), operand=ast.Compare(ops=[ast.Eq() | ast.Is()])):
            return WEAK, False
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return (NOTHING, False) if _rank(operand)[0] == NOTHING else (PARTLY, True)
        case ast.Compare():
            return _compare(test)
        case ast.BoolOp(values=values):
            return min(PARTLY, *(_rank(value)[0] for value in values)), False
        case ast.Call(func=ast.Name(id="bool" | "len" | "callable" | "hasattr" | "any"), args=args):
            return (min(WEAK, *(_rank(arg)[0] for arg in args)) if args else NOTHING), False
        case ast.Call(func=ast.Name(id="isinstance"), args=[_, ast.Name(id="object")]):
            return NOTHING, False
        case ast.Call(args=args, keywords=keywords):
            return (PARTLY if args or keywords else WEAK), False
        case ast.Await(value=value) | ast.NamedExpr(value=value):
            return _rank(value)
        case _:
            return WEAK, False


def _compare(test: ast.Compare) -> tuple[int, bool]:
    right = test.comparators[0]
    if _text(test.left) == _text(right) or (
        isinstance(test.left, ast.Constant) and isinstance(right, ast.Constant)
    ):
        return NOTHING, False
    rank = min(_BY_OPERATOR[type(operator)] for operator in test.ops)
    if len(test.ops) == 1 and isinstance(right, ast.Constant):
        if right.value is True and rank == EXACT:
            return WEAK, False
        if not right.value and rank == EXACT:
            return EXACT, True
        if right.value is not None and isinstance(test.ops[0], ast.IsNot):
            return WEAK, False
    return rank, False


def _operand(test: ast.expr) -> ast.expr:
    while True:
        match test:
            case ast.UnaryOp(operand=inner) | ast.Await(value=inner):
                test = inner
            case ast.Call(func=ast.Name(id="bool" | "len"), args=[inner]):
                test = inner
            case _:
                return test


def _weight(test: ast.expr) -> int:
    """How many smaller checks a comparison with a literal may stand for."""
    if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.Eq):
        return 1
    leaves = [node for side in (test.left, *test.comparators) for node in ast.walk(side) if _is_leaf(node)]
    return (
        max(1, min(len(leaves), 200))
        if any(isinstance(s, _CONTAINERS | ast.Dict) for s in test.comparators)
        else 1
    )


def _is_leaf(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant | ast.Name | ast.Attribute)


def _at(node: ast.expr, place: ast.AST) -> ast.expr:
    return ast.copy_location(node, place)


def _text(node: ast.AST) -> str:
    """The source in a normal form; names without the detour."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=ast.Name(id=name), attr=attr):
            return attr if name == "self" else f"{name}.{attr}"
        case _:
            return _SELF.sub("", ast.unparse(node))
