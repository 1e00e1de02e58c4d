"""No test runs the benchmarks, and mypy reads only those of plans: their imports must be there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("benchmarks", "foundation", "finetune", "quantize", "serve", "loadgen", "results", "dyno")
FILES = sorted((ROOT / "benchmarks").rglob("*.py"))


def imported(file: Path) -> list[tuple[str, str]]:
    """Module and name of each `from MODULE import NAME` of our own."""
    return [
        (node.module, alias.name)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS
        for alias in node.names
    ]


def defined(file: Path) -> set[str]:
    """The names that a module binds outside functions and classes."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.alias):
                names.add(node.asname or node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            else:
                waiting.append(node)
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_a_benchmark_imports_is_there(file: Path) -> None:
    for module, name in imported(file):
        place = ROOT.joinpath(*module.split("."))
        source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        is_module = (place / f"{name}.py").is_file() or (place / name).is_dir()
        assert is_module or (source.is_file() and name in defined(source)), f"{module}.{name}"
