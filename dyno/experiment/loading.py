"""Reads an experiment or another YAML file; a mistake in it becomes one line for its author."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from dyno.experiment.grid import place_in_file
from dyno.experiment.schema import Experiment
from dyno.experiment.yaml_lines import line_of, read_yaml
from foundation.errors import BadInput
from foundation.format import argument
from foundation.run.layout import RunDirectory
from foundation.secrets import hide_keys, names_a_secret
from foundation.section import Section, unknown_key
from foundation.wrong_values import wrong_value
from loadgen.config import RATE_KINDS

S = TypeVar("S", bound=Section)
_LARGEST = 1 << 20  # bytes of an experiment's file
_LONGEST = 300  # characters of a message
_SECRET_PLACES = frozenset({"url", "api_key_env", "request"})


def load_experiment(file: Path) -> Experiment:
    """Reads and checks an experiment file.

    Raises BadInput with one line: file, line, field, and what to write.
    """
    return load_section(file, Experiment, "an experiment as key: value lines, starting with name:")


def load_section(file: Path, kind: type[S], shape: str) -> S:
    """Reads and checks a YAML file that is one section.

    `shape`: what to write, for a file that holds something else. Raises BadInput with one line:
    file, line, field, and what to write.
    """
    text = _read_text(file)
    try:
        sections = read_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        reason = (
            getattr(error, "problem", None) or getattr(error, "reason", None) or "it can't be read"
        )
        raise BadInput(f"{file}{line}: not YAML ({hide_keys(reason)})") from None
    if not isinstance(sections, dict):
        raise BadInput(f"{file}: write {shape}")
    try:
        return kind.model_validate(sections)
    except ValidationError as error:
        raise BadInput(_first_problem(file, text, sections, error, kind)) from None


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise BadInput(
                f"{file}: larger than 1 MB, and an experiment is a page; "
                "data go into files of their own"
            )
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{file}: no such file") from None
    except IsADirectoryError:
        raise BadInput(_of_folder(file)) from None
    except UnicodeDecodeError:
        raise BadInput(f"{file}: no text; an experiment is a YAML file in UTF-8") from None
    except OSError as error:
        raise BadInput(f"{file}: can't be read ({error.strerror})") from error


def _of_folder(folder: Path) -> str:
    """What to write in place of a folder."""
    if RunDirectory(folder).experiment.is_file():
        return f"{folder}: a run; go on with it: dyno run --resume {argument(folder)}"
    return f"{folder}: a folder; name the experiment's file in it"


def _first_problem(
    file: Path,
    text: str,
    sections: Mapping[str, object],
    error: ValidationError,
    kind: type[Section],
) -> str:
    """One problem of the file in a line; an unknown key only if there is no other problem."""
    problem = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path: list[int | str] = [
        part for part in problem["loc"] if part not in ("function-before", *RATE_KINDS)
    ]
    message = wrong_value(problem)
    if problem["type"] == "extra_forbidden":
        message = unknown_key(str(path[-1]), _section_at(kind, path[:-1]))
    elif problem["type"] not in ("value_error", "missing"):
        message += _wrong_value(path, problem["input"])
    if not path and ": " in message and " " not in (field := message.split(": ", 1)[0]):
        path, message = list(field.split(".")), message.split(": ", 1)[1]
    path = _place_in_file(sections, path)
    line = line_of(text, path)
    field = ".".join(str(p) for p in path)
    return f"{file}:{line}: {_short_and_safe(f'{field}: {message}' if field else message)}"


def _place_in_file(sections: Mapping[str, object], path: list[int | str]) -> list[int | str]:
    """The place of a field before grids were expanded."""
    variants = sections.get("variants")
    if not isinstance(variants, list):
        return path
    try:
        return place_in_file(variants, path)
    except ValueError:  # the grid itself is wrong, and the path is its own
        return path


def _wrong_value(path: Sequence[int | str], value: object) -> str:
    """Quotes the wrong value, unless it stands where an API key may stand."""
    is_secret = _SECRET_PLACES.intersection(path) or any(names_a_secret(str(p)) for p in path)
    return "" if is_secret else f", not {value!r}"


def _short_and_safe(message: str) -> str:
    """A message, which may quote the file, without keys and at most `_LONGEST` characters long."""
    safe = hide_keys(message)
    if len(safe) <= _LONGEST:
        return safe
    return f"{safe[: _LONGEST // 2]} ... {safe[-_LONGEST // 2 :]}"


def _section_at(kind: type[Section], path: Sequence[int | str]) -> type[Section] | None:
    """The class of the section at a place of a file that is a `kind`."""
    section: type[Section] | None = kind
    for part in path:
        if isinstance(part, int) or section is None:
            continue
        field = section.model_fields.get(part)
        section = _section_in(field.annotation) if field else None
    return section


def _section_in(annotation: object) -> type[Section] | None:
    """The first class of a section within a type."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    sections = map(_section_in, getattr(annotation, "__args__", ()))
    return next((section for section in sections if section), None)
