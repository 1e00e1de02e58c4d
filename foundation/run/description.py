"""What a run directory says of the run itself: its variants, its environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from foundation.errors import BadInput
from foundation.run.journal import Damage
from foundation.run.records import VariantRecord
from foundation.run.side_files import read_json

ENVIRONMENT, VARIANTS = "environment.json", "variants.json"


class _Requests(msgspec.Struct):
    requests: dict[str, list[str]] = {}


@dataclass(frozen=True)
class Environment:
    """`whole`: all that the file holds. `requests`: by variant, how it was asked otherwise than
    usual. `notes`: what is wrong.
    """

    whole: Mapping[str, Any]
    requests: Mapping[str, Sequence[str]]
    notes: Sequence[str] = ()


def read_environment(run: Path) -> Environment:
    """An empty one, with a note, where the file is missing or damaged: nothing is computed from it."""
    whole, asked = (
        read_json(run, ENVIRONMENT, dict[str, Any]),
        read_json(run, ENVIRONMENT, _Requests),
    )
    if isinstance(whole, dict) and isinstance(asked, _Requests):
        return Environment(whole, asked.requests)
    why = next(
        (str(each) for each in (whole, asked) if isinstance(each, Damage)),
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
