"""Places of a module that can be mutated, each with the function that mutates the tree in place."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SWAPS: dict[type, type] = {ast.Lt: ast.LtE, ast.Gt: ast.GtE, ast.Eq: ast.NotEq, ast.Add: ast.Sub, ast.Mult: ast.Div}
SWAPS |= {new: old for old, new in SWAPS.items()} | {ast.And: ast.Or, ast.Or: ast.And}
A_PATH = re.compile(r"folder|file\b|bundle|scratch|package", re.IGNORECASE)  # joined by /, not divided
SKIPPED = {"annotation", "returns", "decorator_list"}  # fields of nodes


@dataclass(frozen=True)
class Site:
    """A place that can be mutated in one way.

    Attributes
    ----------
    module, function : str
        Path, and qualified name ("" outside of functions and classes).
    kind : str
    ordinal : int
        Among the sites of this kind in the module.
    line, node : str
        Text of the line, and of the node that changes.
    number : int
        Of the line.
    """

    module: str
    function: str
    kind: str
    ordinal: int
    line: str
    node: str
    number: int


def sites_of(module: str) -> tuple[ast.Module, list[tuple[Site, Callable[[], None]]]]:
    """Parse a module and find its sites, each with the function that mutates the tree in place."""
    text = Path(module).read_text()
    tree, lines, counts, found = ast.parse(text), text.splitlines(), Counter[str](), []
    for kind, node, function, change in walk(tree, [], returns=False):
        line = lines[node.lineno - 1].strip()
        site = Site(module, function, kind, counts[kind], line, ast.unparse(node), node.lineno)
        found.append((site, change))
        counts[kind] += 1
    return tree, found


Mutation = tuple[str, Any, str, Callable[[], None]]


def walk(node: ast.AST, names: list[str], returns: bool) -> Iterator[Mutation]:
    """Go through a tree in the order of its fields; `returns` says whether the function around gives a value."""
    if isinstance(node, ast.JoinedStr):
        return
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        names = [*names, node.name]
        returns = isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or ast.Constant("")) != "None"
    for kind, change in mutations(node, returns):
        yield kind, node, ".".join(names), change
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in SKIPPED:
                yield from walk(child, names, returns)


def mutations(node: Any, returns: bool) -> Iterator[tuple[str, Callable[[], None]]]:
    """Give the kinds of mutation that a node allows, each with what carries it out."""

    def put(field: str, value: Any) -> Callable[[], None]:
        return lambda: setattr(node, field, value)

    match node:
        case ast.Compare():
            for place, sign in enumerate(node.ops):
                if new := SWAPS.get(type(sign)):
                    yield "compare", put("ops", [*node.ops[:place], new(), *node.ops[place + 1 :]])
        case ast.BinOp() | ast.AugAssign() if type(node.op) in SWAPS and not joins(node):
            yield "arithmetic", put("op", SWAPS[type(node.op)]())
        case ast.BoolOp():
            yield "boolean", put("op", SWAPS[type(node.op)]())
        case ast.UnaryOp(op=ast.Not()):
            yield "boolean", put("operand", ast.UnaryOp(ast.Not(), node.operand))  # twice not is as good as none
        case ast.Constant(value=bool()):
            yield "truth", put("value", not node.value)
        case ast.Constant(value=int() | float()):
            yield "constant", put("value", {0: 1, 1: 0}.get(node.value, node.value + 1))
        case ast.Return(value=ast.expr()) if returns and ast.unparse(node.value) != "None":
            yield "return", put("value", ast.Constant(None))
        case ast.Expr(value=ast.Call()) if not re.match(r"print\(|log\.", ast.unparse(node)):
            yield "call", put("value", ast.Constant(None))
        case ast.Slice():
            for end in ("lower", "upper"):
                if getattr(node, end) is not None:
                    yield "slice", put(end, None)


def joins(node: Any) -> bool:
    """Tell whether an operator works on texts, lists or paths, where another one can only raise an error."""
    ends = [node.left, node.right] if isinstance(node, ast.BinOp) else [node.value]
    if any(isinstance(end, ast.JoinedStr | ast.List | ast.Tuple) or is_text(end) for end in ends):
        return True
    return isinstance(node.op, ast.Div) and bool(A_PATH.search(ast.unparse(node)))


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
