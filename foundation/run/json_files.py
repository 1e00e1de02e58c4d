"""Reads and writes the JSON files of a run. A damaged one is named, and costs only itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from foundation.errors import BadInput
from foundation.files.atomic_write import write_whole
from foundation.printable import json_printable
from foundation.run.journal import UNREADABLE, Damage
from foundation.run.layout import ENVIRONMENT, VARIANTS
from foundation.run.records import VariantRecord

T = TypeVar("T")


def read_json(run: Path, name: str, kind: type[T]) -> T | Damage | None:
    """The contents of the file `name` below `run` as a `kind`; None where there is no such file."""
    file = run / name
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        return Damage(Path(name), 0, f"can't be read ({error})")


def json_text(document: object) -> str:
    """The document as indented JSON, safe on a terminal; the same one gives the same text."""
    return json_printable(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def write_json(document: object, file: Path) -> None:
    """Writes a document as `json_text`, whole or not at all."""
    write_whole(file, json_text(document) + "\n")


class _Requests(msgspec.Struct):
    requests: dict[str, list[str]] = {}


@dataclass(frozen=True)
class Environment:
    """The contents of `environment.json`.

    `whole`: the whole file. `requests`: for each variant, how its requests differ from the usual
    ones. `notes`: what is wrong with the file.
    """

    whole: Mapping[str, Any]
    requests: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()


def read_environment(run: Path) -> Environment:
    """The environment of a run, or an empty one with a note where the file is missing or damaged.

    No number is computed from it.
    """
    whole = read_json(run, ENVIRONMENT, dict[str, Any])
    requests = read_json(run, ENVIRONMENT, _Requests)
    if isinstance(whole, dict) and isinstance(requests, _Requests):
        return Environment(whole, requests.requests)
    why = next(
        (str(each) for each in (whole, requests) if isinstance(each, Damage)),
        f"the run has no {ENVIRONMENT}",
    )
    return Environment({}, {}, [f"{why}: hardware, versions and seeds of this run are not known"])


def read_variants(run: Path) -> list[VariantRecord]:
    """The variants of a run. Raises BadInput where the file is missing, damaged or empty."""
    records = read_json(run, VARIANTS, list[VariantRecord])
    if isinstance(records, list) and records:
        return records
    if isinstance(records, Damage):
        why = records.why
    else:
        why = "can't be read (it is not there)" if records is None else "names no variant"
    raise BadInput(f"{run / VARIANTS}: {why}; `dyno run --resume {run}` writes it again")
