"""Reads constants from installed packages' source: importing vLLM takes 8 s and 800 MB."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path


@cache
def source(package: str, file: str) -> ast.Module | None:
    """The syntax tree of a file in an installed package; None if it is missing."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if (path := Path(folder) / file).is_file():
            return ast.parse(path.read_text(encoding="utf-8"))
    return None


@cache
def strings(package: str, file: str, name: str) -> frozenset[str]:
    """All strings, keys and values alike, in the value that a file assigns to a name.

    `Methods = Literal["a", "b"]` gives a and b; `NAMES = OrderedDict([("x", "Y")])` and
    `NAMES = dict(x="Y")` give x and Y. Empty if the file assigns nothing.
    """
    tree = source(package, file)
    value = assigned(tree, name) if tree else None
    texts: set[str] = set()
    for node in ast.walk(value) if value is not None else ():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
        elif isinstance(node, ast.keyword) and node.arg is not None:
            texts.add(node.arg)
    return frozenset(texts)


def assigned(body: ast.Module | ast.ClassDef, name: str) -> ast.expr | None:
    """The value that a module or class assigns to a name; None if it assigns nothing."""
    for node in body.body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value
    return None
