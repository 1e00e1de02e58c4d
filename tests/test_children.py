"""Every Python process that the product starts ignores modules in the current folder.

Reads the source: the arguments of each call that starts a process, back to its command.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("foundation", "finetune", "quantize", "serve", "loadgen", "results", "dyno")
STARTERS = {
    "Popen",
    "call",
    "check_call",
    "check_output",
    "create_subprocess_exec",
    "posix_spawn",
    "posix_spawnp",
}
SHELLS = {"create_subprocess_shell", "getoutput", "getstatusoutput", "popen", "system"}
IN_THIS_PROCESS = {
    "execl",
    "execle",
    "execlp",
    "execv",
    "execve",
    "execvp",
    "execvpe",
    "spawnl",
    "spawnv",
    "spawnve",
}
POOLS = {"ProcessPoolExecutor", "Pool", "Manager"}
ISOLATED = ("-P", "-I")
# Programs that are not Python.
PROGRAMS = ("git", "nvidia-smi", "/sbin/ldconfig")


@dataclass(frozen=True)
class Start:
    """A call that starts a process: where it is, the call, and the module it lies in."""

    file: str
    call: ast.Call
    module: ast.Module

    def __str__(self) -> str:
        return f"{self.file}:{self.call.lineno}"


def called(call: ast.Call) -> tuple[str, str]:
    """The word before the last dot and the last word of what is called."""
    if isinstance(call.func, ast.Attribute):
        before = call.func.value
        return (before.id if isinstance(before, ast.Name) else "", call.func.attr)
    return "", call.func.id if isinstance(call.func, ast.Name) else ""


@cache
def modules() -> dict[str, ast.Module]:
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return {
        str(file.relative_to(ROOT)): ast.parse(file.read_text(encoding="utf-8")) for file in files
    }


def calls() -> Iterator[Start]:
    for file, module in modules().items():
        for node in ast.walk(module):
            if isinstance(node, ast.Call):
                yield Start(file, node, module)


def starts() -> list[Start]:
    """Every call of the product that starts a program."""
    return [
        each
        for each in calls()
        if called(each.call)[1] in STARTERS or called(each.call) == ("subprocess", "run")
    ]


def functions(module: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def around(module: ast.Module, node: ast.AST) -> ast.FunctionDef | ast.AsyncFunctionDef:
    """The innermost function that holds a node."""
    return [each for each in functions(module) if any(inner is node for inner in ast.walk(each))][
        -1
    ]


def is_safe(command: ast.expr, module: ast.Module) -> bool:
    """True if a command begins with a Python in safe-path mode, or with no Python."""
    if isinstance(command, ast.Call):
        return called(command)[1] == "run_module"
    if isinstance(command, ast.Starred):
        return is_safe(command.value, module)
    if isinstance(
        command, ast.Subscript
    ):  # what a parent gave, whose own command is among the starts
        return ast.unparse(command.value) == "sys.argv"
    if isinstance(command, ast.List):
        return is_safe_list(command, module)
    return isinstance(command, ast.Name) and is_safe_name(command, module)


def is_safe_list(command: ast.List, module: ast.Module) -> bool:
    first, *others = command.elts
    if isinstance(first, ast.Starred):
        return is_safe(first, module)
    if isinstance(first, ast.Constant):
        return first.value in PROGRAMS
    isolated = bool(others) and isinstance(others[0], ast.Constant) and others[0].value in ISOLATED
    return isolated and all(
        is_safe(other, module) for other in others if isinstance(other, ast.Starred)
    )


def is_safe_name(name: ast.Name, module: ast.Module) -> bool:
    """True if every value of a name is safe: its assignments, or what the module's calls pass."""
    function = around(module, name)
    assigned = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and any(isinstance(to, ast.Name) and to.id == name.id for to in node.targets)
    ]
    if assigned:
        return all(is_safe(value, module) for value in assigned)
    parameters = [parameter.arg for parameter in function.args.args]
    if name.id not in parameters:
        return False
    place = parameters.index(name.id)
    passed = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and called(node) == ("", function.name)
    ]
    return bool(passed) and all(
        len(call.args) > place and is_safe(call.args[place], module) for call in passed
    )


def test_a_started_process_does_not_look_into_the_current_folder() -> None:
    children = starts()
    assert len(children) > 10
    unsafe = [child for child in children if not starts_safely(child)]
    assert [f"{child}: {ast.unparse(child.call)}" for child in unsafe] == []


def starts_safely(start: Start) -> bool:
    keywords = {keyword.arg: keyword.value for keyword in start.call.keywords}
    command = [*start.call.args, *([keywords["args"]] if "args" in keywords else [])][0]
    return is_safe(command, start.module) and not keywords.keys() & {"shell", "executable"}


def test_nothing_is_started_by_a_shell_or_in_the_place_of_this_process() -> None:
    names = SHELLS | IN_THIS_PROCESS | POOLS
    others = [each for each in calls() if called(each.call) != ("platform", "system")]
    assert [str(each) for each in others if called(each.call)[1] in names] == []


def test_a_start_is_not_hidden_behind_another_name() -> None:
    imported = [
        f"{file}:{node.lineno}"
        for file, module in modules().items()
        for node in ast.walk(module)
        if (
            isinstance(node, ast.ImportFrom)
            and node.module in ("subprocess", "os", "asyncio.subprocess")
        )
        or (
            isinstance(node, ast.Import)
            and any(name.name == "subprocess" and name.asname for name in node.names)
        )
    ]
    assert imported == []


def test_what_multiprocessing_spawns_is_spawned_safely() -> None:
    """Each function that makes such a process starts it inside `with spawned_safely()`."""
    spawned = [
        each
        for each in calls()
        if called(each.call)[1] == "Process" and called(each.call)[0] != "psutil"
    ]
    assert spawned
    for each in spawned:
        safe = [
            node
            for node in ast.walk(around(each.module, each.call))
            if isinstance(node, ast.With)
            and ast.unparse(node.items[0].context_expr) == "spawned_safely()"
        ]
        inside = [ast.unparse(line) for node in safe for line in node.body]
        assert inside == ["child.start()"], str(each)


def test_only_these_lines_know_the_interpreter() -> None:
    """A Python under another name is `run_module`, the server's supervisor or a preload's trial."""
    naming = [
        file
        for file, module in modules().items()
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable"
    ]
    assert sorted(naming) == [
        "foundation/processes/python_child.py",
        "serve/supervised.py",
        "serve/vllm/preloads.py",
    ]


@pytest.mark.parametrize(
    ("command", "safe"),
    [
        ("run_module('x', *more)", True),
        ("[*run_module('x'), more]", True),
        ("[sys.executable, '-I', file, *command]", True),
        ("[str(python), '-P', '-m', 'pip']", True),
        ("['git', *more]", True),
        ("[sys.executable, '-m', 'x']", False),
        ("[sys.executable, file]", False),
        ("[sys.executable, '-I', file, *more]", False),
        ("['python3', '-m', 'x']", False),
        ("'python3 -m x'", False),
        ("more", False),
        ("passed", False),
    ],
)
def test_the_reading_itself(command: str, safe: bool) -> None:
    source = (
        f"def start(more, passed):\n    command = run_module('y')\n    subprocess.run({command})\n"
        "start(['ls'], [sys.executable])\n"
    )
    module = ast.parse(source)
    [call] = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.Call) and called(node) == ("subprocess", "run")
    ]
    assert is_safe(call.args[0], module) is safe
