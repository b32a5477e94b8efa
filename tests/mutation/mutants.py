"""Make mutants of a Python file: each is the source with one thing changed that a test should notice."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARE = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.Is: "is not", ast.IsNot: "is"}
_COMPARE |= {ast.In: "not in", ast.NotIn: "in"}
_ARITHMETIC = {ast.Add: "-", ast.Sub: "+", ast.Mult: "//", ast.FloorDiv: "*"}
_CALLS = {"min": "max", "max": "min"}
# In statements of SQL: a condition less, a boundary moved, a sign turned.
_SQL = [
    (re.compile(r" AND [^()]+?(?= AND | RETURNING| ON |$)"), ""),
    (re.compile(r"<="), "<"),
    (re.compile(r"<>"), "="),
    (re.compile(r" \+ "), " - "),
    (re.compile(r" - "), " + "),
]


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: where, what it was, what it is, and the whole source with it."""

    line: int
    before: str
    after: str
    source: str


def mutants_of(source: str) -> Iterator[Mutant]:
    """Yield every mutant of a file, in the order of its lines."""
    found = {}
    for node, new in sorted(_changes(ast.parse(source)), key=lambda change: (change[0].lineno, change[0].col_offset)):
        start, end = _span(source, node)
        mutated = source[:start] + new + source[end:]
        try:
            same = ast.dump(ast.parse(mutated)) == ast.dump(ast.parse(source))
        except SyntaxError:
            continue  # Such as the only statement of a block that is gone.
        if not same:
            found[mutated] = Mutant(node.lineno, " ".join(source[start:end].split()), " ".join(new.split()), mutated)
    yield from found.values()


def _span(source: str, node: ast.AST) -> tuple[int, int]:
    """Return where a node lies, in characters; `ast` counts bytes of a line."""
    lines = source.encode().splitlines(keepends=True)

    def place(line: int, column: int) -> int:
        return len(b"".join([*lines[: line - 1], lines[line - 1][:column]]).decode())

    return place(node.lineno, node.col_offset), place(node.end_lineno, node.end_col_offset)


def _changes(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield each node that can be changed, with what would stand in its place."""
    words = {id(child) for node in ast.walk(tree) if isinstance(node, ast.Raise | ast.JoinedStr) for child in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in ast.walk(node):
                yield from _statement_changes(statement)
        if id(node) not in words:
            yield from _expression_changes(node)


def _statement_changes(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.AugAssign | ast.Raise) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await)):
        yield node, "pass"
    if isinstance(node, ast.If | ast.While):
        yield node.test, "False"
        if isinstance(node, ast.If):
            yield node.test, "True"
    if isinstance(node, ast.With):  # A lock or a transaction less.
        for item in node.items:
            if item.optional_vars is None:
                yield item.context_expr, "__import__('contextlib').nullcontext()"


def _expression_changes(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _COMPARE:
        yield node, f"{ast.unparse(node.left)} {_COMPARE[type(node.ops[0])]} {ast.unparse(node.comparators[0])}"
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC and not _is_text(node):
        yield node, f"({ast.unparse(node.left)}) {_ARITHMETIC[type(node.op)]} ({ast.unparse(node.right)})"
    elif isinstance(node, ast.BoolOp):
        for left_out in node.values:
            joined = (" and " if isinstance(node.op, ast.And) else " or ").join(
                f"({ast.unparse(value)})" for value in node.values if value is not left_out
            )
            yield node, joined
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node, f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Call):
        yield from _call_changes(node)
    elif isinstance(node, ast.Constant):
        yield from _constant_changes(node)


def _call_changes(node: ast.Call) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node.func, ast.Name) and node.func.id in _CALLS:
        yield node.func, _CALLS[node.func.id]
    if isinstance(node.func, ast.Attribute) and node.func.attr == "select_for_update":
        yield node, f"{ast.unparse(node.func.value)}.all()"
    if isinstance(node.func, ast.Attribute) and node.func.attr in {"filter", "exclude"} and len(node.keywords) > 1:
        for left_out in node.keywords:
            kept = [
                f"{each.arg}={ast.unparse(each.value)}" if each.arg else f"**{ast.unparse(each.value)}"
                for each in node.keywords
                if each is not left_out
            ]
            yield node, f"{ast.unparse(node.func)}({', '.join([*map(ast.unparse, node.args), *kept])})"


def _constant_changes(node: ast.Constant) -> Iterator[tuple[ast.AST, str]]:
    if type(node.value) is int:
        yield node, str(node.value + 1)
    elif isinstance(node.value, str) and re.match(r"(INSERT|UPDATE|SELECT|DELETE|DO UPDATE|VALUES) ", node.value):
        for pattern, new in _SQL:
            for match in pattern.finditer(node.value):
                yield node, repr(node.value[: match.start()] + new + node.value[match.end() :])


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.Constant | ast.JoinedStr) and not isinstance(getattr(side, "value", ""), int)
        for side in (node.left, node.right)
    )
