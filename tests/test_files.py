"""How the product opens files, by its source: texts name an encoding, files are written whole."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("foundation", "finetune", "quantize", "serve", "loadgen", "results", "dyno")
# Inside `whole_file`; in a temporary folder, which takes its name as a whole; files that only grow.
PARTS_ARE_HARMLESS = {
    "dyno/estimates/machine_speed.py": 1,
    "dyno/improve/experience.py": 1,  # a line that was cut off is left out
    "dyno/experiment/bundled.py": 1,
    "dyno/own_process.py": 1,
    "finetune/launch.py": 2,
    "finetune/log.py": 1,
    "foundation/files/appended_lines.py": 1,
    "foundation/files/atomic_write.py": 1,
    "foundation/run/journal_writer.py": 1,
    "loadgen/emulator/engine_record.py": 1,
    "loadgen/emulator/truth.py": 1,
    "loadgen/sending/journal_parts.py": 1,
    "loadgen/sending/nodes/worker.py": 1,
    "quantize/llmcompressor/calibrated.py": 2,
    "results/schema.py": 1,
    "serve/otlp/listener.py": 1,
    "serve/supervised.py": 1,
}


@cache
def calls() -> list[tuple[str, ast.Call, str]]:
    return list(read_calls())


def read_calls() -> Iterator[tuple[str, ast.Call, str]]:
    """Every call in the product: its file, the call, and the last word of what is called."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = (
                        node.func.attr
                        if isinstance(node.func, ast.Attribute)
                        else getattr(node.func, "id", "")
                    )
                    yield str(file.relative_to(ROOT)), node, name


def mode(call: ast.Call, name: str) -> str:
    """The mode of `open(file, mode)`, `path.open(mode)` or `os.fdopen(descriptor, mode)`."""
    place = 0 if isinstance(call.func, ast.Attribute) and name == "open" else 1
    modes = [k.value for k in call.keywords if k.arg == "mode"] or call.args[place : place + 1]
    return str(modes[0].value) if modes and isinstance(modes[0], ast.Constant) else "r"


def opens_text(call: ast.Call, name: str) -> bool:
    if name in ("read_text", "write_text", "TextIOWrapper"):
        return True
    if any(k.arg in ("text", "universal_newlines") for k in call.keywords) and name in (
        "run",
        "Popen",
        "check_output",
    ):
        return True
    return name in ("open", "fdopen") and not is_descriptor(call) and "b" not in mode(call, name)


def is_descriptor(call: ast.Call) -> bool:
    """`os.open`, which has no encoding."""
    return isinstance(call.func, ast.Attribute) and isinstance(call.func.value,
        ast.Name) and call.func.value.id == "os" and (
        call.func.attr == "open"
    )  # fmt: skip


def writes(call: ast.Call, name: str) -> bool:
    if name in ("write_text", "write_bytes"):
        return True
    return name == "open" and not is_descriptor(call) and bool(set(mode(call, name)) & set("wax"))


def names_its_encoding(call: ast.Call, name: str) -> bool:
    return any(k.arg == "encoding" for k in call.keywords) or (
        name == "read_text" and bool(call.args)
    )


def test_every_text_names_its_encoding() -> None:
    nameless = [
        f"{file}:{call.lineno}"
        for file, call, name in calls()
        if opens_text(call, name) and not names_its_encoding(call, name)
    ]
    assert nameless == []


def test_what_is_written_in_place_is_known() -> None:
    in_place: dict[str, int] = {}
    for file, call, name in calls():
        if writes(call, name):
            in_place[file] = in_place.get(file, 0) + 1
    assert in_place == PARTS_ARE_HARMLESS, (
        "write it with foundation.files.atomic_write, or say here why a part does no harm"
    )


@pytest.mark.parametrize(
    ("check", "line", "seen"),
    [
        (opens_text, "file.read_text()", True),
        (opens_text, "file.open()", True),
        (opens_text, "open(file, 'rb')", False),
        (opens_text, "file.open('rb')", False),
        (opens_text, "os.open(file, os.O_RDONLY)", False),
        (opens_text, "subprocess.run(command, text=True)", True),
        (writes, "file.open('wb', buffering=1)", True),
        (writes, "open(file, mode='a')", True),
        (writes, "file.write_bytes(data)", True),
        (writes, "file.open('rb')", False),
    ],
)
def test_the_reader_of_the_source_sees_what_it_looks_for(
    check: Callable[[ast.Call, str], bool], line: str, seen: bool
) -> None:
    (call,) = (node for node in ast.walk(ast.parse(line)) if isinstance(node, ast.Call))
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    assert check(call, name) is seen
