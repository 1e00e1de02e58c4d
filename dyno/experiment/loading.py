"""Reads an experiment file; what is wrong with it becomes one line: file, line, field, and what to write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dyno.experiment.schema import Experiment
from dyno.experiment.yaml_lines import line_of, read_yaml
from foundation.errors import BadInput
from foundation.secrets import hide_keys
from foundation.section import Section, unknown_key
from loadgen.config import RATE_KINDS

_LARGEST = 1 << 20  # bytes of an experiment's file
_LONGEST = 300  # characters of what is wrong with it
_SECRET_PLACES = frozenset({"url", "api_key_env", "request"})


def load_experiment(file: Path) -> Experiment:
    """Read and check an experiment file. Raises BadInput, one line: file, line, field, and what to write."""
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise BadInput(
                f"{file}: larger than 1 MB, and an experiment is a page; data go into files of their own"
            )
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{file}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: can't be read ({error})") from error
    try:
        raw = read_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        why = (
            getattr(error, "problem", None) or getattr(error, "reason", None) or "it can't be read"
        )
        raise BadInput(f"{file}{at}: not YAML ({hide_keys(why)})") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{file}: write an experiment as key: value lines, starting with name:")
    try:
        return Experiment.model_validate(raw)
    except ValidationError as error:
        raise BadInput(_first_problem(file, text, error)) from None


def _first_problem(file: Path, text: str, error: ValidationError) -> str:
    problem = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path: list[int | str] = [
        part for part in problem["loc"] if part not in ("function-before", *RATE_KINDS)
    ]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = unknown_key(str(path[-1]), _section_at(path[:-1]))
    elif problem["type"] == "missing":
        message = "missing; it is required"
    elif problem["type"] != "value_error":
        message += _not_this(path, problem["input"])
    if not path and ": " in message and " " not in (field := message.split(": ", 1)[0]):
        path, message = list(field.split(".")), message.split(": ", 1)[1]
    line = line_of(text, path)
    field = ".".join(str(p) for p in path)
    return f"{file}:{line}: {_presentable(f'{field}: {message}' if field else message)}"


def _not_this(path: Sequence[int | str], value: object) -> str:
    """What stands there instead, but for places in which it may be a key."""
    return "" if _SECRET_PLACES.intersection(path) else f", not {value!r}"


def _presentable(words: str) -> str:
    """A message that may repeat what a person wrote: as long as a line can be, and without keys."""
    safe = hide_keys(words)
    return (
        safe if len(safe) <= _LONGEST else f"{safe[: _LONGEST // 2]} ... {safe[-_LONGEST // 2 :]}"
    )


def _section_at(path: list[Any]) -> type[Section] | None:
    """The section at a place of the file."""
    model: Any = Experiment
    for part in path:
        if isinstance(part, int) or model is None:
            continue
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        model = _section_in(annotation)
    return model if isinstance(model, type) else None


def _section_in(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if found := _section_in(inner):
            return found
    return None
