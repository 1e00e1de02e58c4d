"""Small changes to a source text that a test should notice: operators, numbers and conditions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="), ast.LtE: ("<=", "<"), ast.Gt: (">", ">="), ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in"),
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"), ast.Pow: ("**", "*"),
    ast.Mod: ("%", "*"),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """`text[start:end]` (bytes of the file) becomes `new`.

    `function`: the first line of the innermost function around the change.
    """

    file: str
    line: int
    function: int | None
    start: int
    end: int
    old: str
    new: str

    def applied(self, source: bytes) -> bytes:
        """The source with the change."""
        return source[: self.start] + self.new.encode() + source[self.end :]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.old!r} became {self.new!r}"


def mutants_of(file: str, source: bytes) -> list[Mutant]:
    """Every change to a file, in the order of the text."""
    tree = ast.parse(source)
    functions = [
        (
            min([node.lineno, *(d.lineno for d in node.decorator_list)]),
            node.end_lineno or node.lineno,
        )
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def at(line: int, column: int) -> int:
        return starts[line - 1] + column

    def around(line: int) -> int | None:
        return max((first for first, last in functions if first <= line <= last), default=None)

    def between(left: ast.expr, right: ast.expr, old: str, new: str) -> Iterator[Mutant]:
        """The operator between two expressions, behind any brackets and comments."""
        assert left.end_lineno is not None and left.end_col_offset is not None
        begin, end = at(left.end_lineno, left.end_col_offset), at(right.lineno, right.col_offset)
        place = source.find(old.encode(), begin, end)
        if place >= 0:
            yield Mutant(
                file, left.end_lineno, around(left.end_lineno), place, place + len(old), old, new
            )

    def whole(node: ast.expr, new: str) -> Iterator[Mutant]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        begin, end = at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)
        yield Mutant(
            file, node.lineno, around(node.lineno), begin, end, source[begin:end].decode(), new
        )

    def changes(node: ast.AST) -> Iterator[Mutant]:
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others):
                for a, operator, b in zip([left, *others], ops, others, strict=False):
                    yield from between(a, b, *_COMPARISONS[type(operator)])
            case ast.BinOp(left=a, op=operator, right=b) if type(operator) in _OPERATORS:
                yield from between(a, b, *_OPERATORS[type(operator)])
            case ast.BoolOp(op=operator, values=values):
                words = ("and", "or") if isinstance(operator, ast.And) else ("or", "and")
                for a, b in pairwise(values):
                    yield from between(a, b, *words)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield from whole(node, ast.get_source_segment(source.decode(), operand) or "")
            case ast.IfExp(test=test) | ast.If(test=test) if not isinstance(test, ast.NamedExpr):
                yield from whole(test, f"not ({ast.get_source_segment(source.decode(), test)})")
            case ast.Constant(value=bool(value)):
                yield from whole(node, str(not value))
            case ast.Constant(value=int(value) | float(value)):
                yield from whole(node, repr(value + 1))

    return sorted(
        (mutant for node in _reached(tree) for mutant in changes(node)),
        key=lambda mutant: (mutant.start, mutant.new),
    )


def _reached(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes whose change has an effect: no annotations, type declarations or f-string contents."""
    if isinstance(tree, ast.JoinedStr):
        return
    yield tree
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list") or (
            isinstance(tree, ast.AnnAssign) and name == "target"
        ):
            continue
        if (
            isinstance(tree, ast.Subscript)
            and isinstance(tree.value, ast.Name)
            and tree.value.id in ("Literal", "Annotated")
        ):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _reached(child)
