"""The walls between the rooms, and what an install without extras must not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.test_whole_pipeline import write_experiment

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("foundation", "finetune", "quantize", "serve", "loadgen", "results", "dyno")
# Packages that only some installs have.
OF_CLUSTERS = {"ray", "vllm_router"}


def test_the_walls_between_packages_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_no_file_of_the_project_is_ignored_by_git() -> None:
    """A wheel leaves out what git ignores, tracked or not, and so do the linters."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    ignored = subprocess.run(
        ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ignored.stdout == ""


def test_help_and_loading_a_url_import_no_heavy_library() -> None:
    heavy = ("torch", "transformers", "vllm", "pyarrow", "pandas", "scipy.stats", *OF_CLUSTERS)
    code = (
        "import sys, dyno.cli, dyno.pipeline.measure, dyno.commands.load, loadgen, serve, "
        "finetune, quantize, results\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_help_reads_no_configuration_library() -> None:
    code = (
        "import sys, dyno.cli; print([name for name in ('pydantic', 'numpy', 'aiohttp', "
        "'yaml') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_preparing_a_run_keeps_the_load_generators_process_light(tmp_path: Path) -> None:
    write_experiment(tmp_path)
    script = tmp_path / "prepare.py"
    script.write_text(
        """
import sys
from pathlib import Path

import psutil

from dyno.experiment.loading import load_experiment
from dyno.pipeline.serving import plan_serving
from dyno.pipeline.prepare import prepare
from foundation.run.layout import RunDirectory
from foundation.progress import Silent

if __name__ == "__main__":
    prepared = prepare(load_experiment(Path("experiment.yaml")), Path.cwd(), Silent())
    plan_serving(prepared, RunDirectory(Path("runs/tiny")))
    print([name for name in ("torch", "transformers", "vllm") if name in sys.modules])
    print(psutil.Process().memory_info().rss < 300e6)
"""
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n")[-3:] == ["[]", "True", ""], done.stdout + done.stderr


def imports_of(file: Path) -> set[str]:
    """Every module and name that a file imports, at its top or within functions."""
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {
        name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        for name in (node.module, f"{node.module}.{alias.name}")
    }


def imported_with(node: ast.AST) -> set[str]:
    """The packages that a module imports whenever it is imported itself: not within functions."""
    packages: set[str] = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            packages |= {alias.name.partition(".")[0] for alias in child.names}
        elif isinstance(child, ast.ImportFrom):
            packages.add((child.module or "").partition(".")[0])
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            packages |= imported_with(child)
    return packages


def test_no_module_needs_the_packages_of_a_cluster() -> None:
    """Not for types either: an install without `tunedyno[ray]` imports every module."""
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in files}
    assert [file for file, tree in trees.items() if imported_with(tree) & OF_CLUSTERS] == []


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("import ray.util", True),
        ("try:\n    from ray import remote\nexcept ImportError: pass", True),
        ("class Actor:\n    from ray.util import state", True),
        ("def actor():\n    import ray", False),
        ("async def actor():\n    if True:\n        from ray import remote", False),
    ],
)
def test_an_import_of_a_cluster_is_seen(code: str, seen: bool) -> None:
    assert bool(imported_with(ast.parse(code)) & OF_CLUSTERS) is seen


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """Modules that import one another, in a circle; None if there is none."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return None


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Imports for types and within functions count too: import-linter's layers see packages."""
    modules = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): file
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if file.name != "__init__.py"
    }
    assert len(modules) > 250
    graph = {name: imports_of(file) & modules.keys() for name, file in modules.items()}
    assert circle(graph) is None
    imported = next(name for name in graph["dyno.pipeline.run"])
    assert circle({**graph, imported: graph[imported] | {"dyno.pipeline.run"}}) is not None
