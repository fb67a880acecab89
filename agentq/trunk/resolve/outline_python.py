"""The outline of Python: definitions, imports, elements of literals and statements, by scope."""

import ast
import re
from typing import Any

from agentq.trunk.resolve.base import Doubt
from agentq.trunk.resolve.outline import Outline, Scope

_DISTINCT = re.compile(r"Enum|Flag|Choices")  # bases of classes whose values must differ
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
_FLOW = (
    ast.Return,
    ast.Raise,
    ast.If,
    ast.For,
    ast.While,
    ast.Try,
    ast.With,
    ast.Break,
    ast.Continue,
    ast.Match,
    ast.Delete,
)


def read_python(text: str) -> Outline:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Doubt(f"it is no Python: {str(error)[:120]}") from None
    found = Outline()
    for statement in tree.body:
        _statement(statement, (), found)
    return found


def _statement(node: ast.stmt | Any, scope: Scope, found: Outline) -> None:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            _definition(node, scope, found)
        case ast.Import() | ast.ImportFrom():
            _import(node, scope, found)
        case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=value):
            _assignment(node, ast.unparse(target), value, scope, found)
        case ast.Return(value=value) if isinstance(value, ast.Dict | ast.List):
            _assignment(node, "return", value, scope, found)
        case _ if any(getattr(node, block, None) for block in _BLOCKS):
            _block(node, scope, found)
        case _:
            value = node.value if isinstance(node, ast.Expr) else None
            inside = any(part.endswith("()") for part in scope)
            kind = "flow" if isinstance(node, _FLOW) or (inside and value is None) else "statement"
            found.add(scope, kind, ast.unparse(node), _registered(value) if value else "")


def _definition(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, scope: Scope, found: Outline) -> None:
    bodiless = ast.unparse(_without_body(node))
    found.add(scope, "definition", bodiless, node.name)
    inner = (*scope, node.name if isinstance(node, ast.ClassDef) else f"{node.name}()")
    for statement in node.body:
        _statement(statement, inner, found)
    if isinstance(node, ast.ClassDef) and any(_DISTINCT.search(ast.unparse(base)) for base in node.bases):
        for one in node.body:
            if isinstance(one, ast.Assign) and isinstance(one.value, ast.Constant | ast.Tuple):
                found.names[((*inner, "values"), ast.unparse(one.value))] += 1


def _without_body(node: Any) -> Any:
    fields = {name: value for name, value in ast.iter_fields(node) if name != "body"}
    return ast.copy_location(type(node)(**fields, body=[ast.Pass()]), node)


def _import(node: ast.Import | ast.ImportFrom, scope: Scope, found: Outline) -> None:
    module = "" if isinstance(node, ast.Import) else "." * node.level + (node.module or "")
    for alias in node.names:
        text = f"from {module} import {alias.name}" if module else f"import {alias.name}"
        bound = alias.asname or alias.name
        found.add(
            scope, "import", f"{text} as {alias.asname}" if alias.asname else text, bound if bound != "*" else ""
        )


def _assignment(node: ast.stmt, target: str, value: ast.expr | None, scope: Scope, found: Outline) -> None:
    if isinstance(value, ast.List | ast.Tuple | ast.Set | ast.Dict):
        found.add(
            scope, "flow" if target == "return" else "statement", f"{target} = {type(value).__name__}", target
        )
        _literal(value, (*scope, target), found)
    else:
        found.add(scope, "statement", ast.unparse(node), target)


def _literal(value: ast.expr, scope: Scope, found: Outline) -> None:
    if isinstance(value, ast.Dict):
        for key, one in zip(value.keys, value.values, strict=True):
            name = ast.unparse(key) if key else "**"
            if isinstance(one, ast.Dict | ast.List | ast.Tuple | ast.Set):
                found.add(scope, "element", f"{name}: {type(one).__name__}", name)
                _literal(one, (*scope, name), found)
            else:
                found.add(scope, "element", f"{name}: {ast.unparse(one)}", name if key else "")
    elif isinstance(value, ast.List | ast.Tuple | ast.Set):
        for element in value.elts:
            found.add(scope, "element", ast.unparse(element), _registered(element))


def _registered(node: ast.AST) -> str:
    """What a call like `path("users/", …)` registers: the function and its first text."""
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        return f"{ast.unparse(node.func)}({node.args[0].value!r})"
    return ""


def _block(node: Any, scope: Scope, found: Outline) -> None:
    """`if`, `for`, `with`, `try` and what they hold."""
    header = ast.unparse(node).split("\n", 1)[0]
    if not isinstance(node, ast.ExceptHandler | ast.match_case):
        found.add(scope, "flow", header)
    for block in _BLOCKS:
        for number, inner in enumerate(getattr(node, block, [])):
            part = f"{block} {number}" if block in ("handlers", "cases") else block
            _statement(inner, (*scope, header, part), found)
