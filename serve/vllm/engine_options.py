"""The options of `serve.engine` as vLLM's command line, checked by vLLM's own parser."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from foundation.errors import BadInput
from foundation.path_fields import path_exists
from serve.config import ServeConfig, option_name
from serve.vllm.options import ParserAnswer, ask_parser
from serve.vllm.speculation import check_draft_model

# Options with their own field in the section, and options that only this program sets.
_FIELDS = {
    "dtype": "dtype",
    "max-model-len": "max_model_len",
    "enforce-eager": "enforce_eager",
    "kv-cache-memory-bytes": "kv_cache",
    "gpu-memory-utilization": "gpu_memory_utilization",
    "tensor-parallel-size": "tensor_parallel",
    "pipeline-parallel-size": "pipeline_parallel",
    "data-parallel-size": "data_parallel",
    "distributed-executor-backend": "executor",
    "data-parallel-backend": "executor",
    "host": "host",
    "api-key": "api_key_env",
    "port": "ports",
    "trust-remote-code": "trust_remote_code",
}
_OURS = {
    "model", "served-model-name", "uds", "config", "headless",
    "api-server-count", "enable-lora", "lora-modules", "max-lora-rank", "max-loras",
    "enable-per-request-metrics", "enable-sleep-mode", "enable-logging-iteration-details",
}  # fmt: skip


_OF_ALL = ("ports", "trust_remote_code", "host", "api_key_env")


@dataclass(frozen=True)
class CommandLine:
    """The settings that a variant has for its server, and the server's arguments."""

    variant: str
    config: ServeConfig
    arguments: Sequence[str]


def engine_options(options: Mapping[str, str | int | float | bool]) -> list[str]:
    """The arguments of vLLM for options by their names with dashes."""
    arguments = []
    for name, value in options.items():
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        else:
            arguments.append(f"--{name}={_located(value)}")
    return arguments


def _located(value: str | int | float) -> str | int | float:
    """Makes the path of an existing file absolute: the server works in another folder."""
    if not isinstance(value, str) or not set("/.") & set(value):
        return value
    path = Path(value)
    return str(path.absolute()) if path_exists(path) else value


def check_engine_options(common: ServeConfig, lines: Sequence[CommandLine]) -> None:
    """Checks `engine` of all servers with the installed vLLM's own parser.

    `common`: the section `serve`, whose fields have a shorter name in errors. Raises BadInput for a
    name or value that the parser refuses.
    """
    for where, name in dict.fromkeys(_names(common, lines)):
        _check_name(where, name)
    for line in lines:
        _check_whole_or_in_parts(common, line)
        check_draft_model(_section(common, line), line.config.options)
    if any(line.config.engine for line in lines):
        check_answer(common, lines, ask_parser(tuple(tuple(line.arguments) for line in lines)))


def check_answer(common: ServeConfig, lines: Sequence[CommandLine], answer: ParserAnswer) -> None:
    """Raises BadInput for an option that vLLM's parser lacks, or a line that it refuses."""
    for line in lines:
        for key, value in line.config.engine.items():
            _check_known(_place(common, line, key), option_name(key), value, answer)
    for line, problem in zip(lines, answer.errors, strict=True):
        if problem is not None:
            raise BadInput(f"{_section(common, line)}: vLLM {answer.version} refuses it: {problem}")


def _names(common: ServeConfig, lines: Sequence[CommandLine]) -> Iterator[tuple[str, str]]:
    """The place and the name of every option, those of the section `serve` first."""
    for key in common.engine:
        yield f"serve.engine.{key}", option_name(key)
    for line in lines:
        for key in line.config.engine:
            yield _place(common, line, key), option_name(key)


def _section(common: ServeConfig, line: CommandLine) -> str:
    """The place of a server's `engine`: that of a variant, if it differs from the common one."""
    is_common = line.config.engine == common.engine
    return "serve.engine" if is_common else f"variants.{line.variant}.serve.engine"


def _place(common: ServeConfig, line: CommandLine, key: str) -> str:
    """Where an option stands: in the section `serve`, or in a variant."""
    value = line.config.engine[key]
    is_common = key in common.engine and common.engine[key] == value
    return f"serve.engine.{key}" if is_common else f"variants.{line.variant}.serve.engine.{key}"


def _check_name(where: str, name: str) -> None:
    """Raises BadInput for an option that has another place."""
    if (plain := name.removeprefix("no-")) in _FIELDS:
        section, _, _ = where.partition(".engine.")
        field = _FIELDS[plain]
        # Some of these fields are of all servers.
        section = "serve" if field in _OF_ALL else section
        raise BadInput(f"{where}: write {section}.{field} instead")
    if plain in _OURS:
        raise BadInput(f"{where}: set by tunedyno for each server; leave it out")


def _check_whole_or_in_parts(common: ServeConfig, line: CommandLine) -> None:
    """Raises BadInput for an option that stands whole and in parts; vLLM takes the parts alone."""
    for key in line.config.engine:
        whole = option_name(key).partition(".")[0]
        if "." in option_name(key) and whole in line.config.options:
            raise BadInput(
                f"{_place(common, line, key)}: {whole} stands beside it, "
                "and vLLM would take one of them; write all of it in one place"
            )


def _check_known(where: str, name: str, value: object, answer: ParserAnswer) -> None:
    """Raises BadInput for an option that the installed vLLM lacks, or can't switch off."""
    option = f"--{name.partition('.')[0]}"
    if option not in answer.options:
        close = difflib.get_close_matches(option, answer.options, n=1, cutoff=0.6)
        hint = f" (did you mean {close[0].removeprefix('--')!r}?)" if close else ""
        raise BadInput(f"{where}: vLLM {answer.version} has no such option{hint}")
    if value is False and f"--no-{option.removeprefix('--')}" not in answer.options:
        raise BadInput(f"{where}: can't be set to false in vLLM {answer.version}; leave it out")
