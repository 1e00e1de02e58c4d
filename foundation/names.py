"""Names of experiments, variants, stages and probes: parts of paths, never paths."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 100
LONGEST_OF_GRID = 160
GRID = "@"
"""Stands between the name of a grid and the settings of one of its variants."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SETTINGS = re.compile(r"[A-Za-z0-9._-]+=[A-Za-z0-9._+-]+(,[A-Za-z0-9._-]+=[A-Za-z0-9._+-]+)*")
_REMEDY = (
    "write letters, digits, '.', '_' and '-', a letter or digit first, "
    f"{LONGEST} characters at most"
)


def checked_name(name: str) -> str:
    """The name. Raises ValueError for a bad one."""
    if len(name) > LONGEST:
        raise ValueError(f"a name of {len(name):,} characters; {_REMEDY}")
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name; {_REMEDY}")
    return name


def checked_variant_name(name: str) -> str:
    """The name of a variant, or of one of a grid: "int8@max-num-seqs=64,enforce_eager=false".

    No file system and no address needs an escape for its characters. Raises ValueError.
    """
    plain, is_of_grid, settings = name.partition(GRID)
    checked_name(plain)
    if is_of_grid and _SETTINGS.fullmatch(settings) is None:
        raise ValueError(f"{name!r} is no name; after {GRID} a grid writes key=value,key=value")
    if len(name) > LONGEST_OF_GRID:
        raise ValueError(
            f"a name of {len(name)} characters, and the longest of a grid has {LONGEST_OF_GRID}; "
            "shorten the name of the grid, or vary fewer keys"
        )
    return name


Name = Annotated[str, AfterValidator(checked_name)]
VariantName = Annotated[str, AfterValidator(checked_variant_name)]


def name_from(text: str) -> str:
    """A text as the end of a name: other characters become "-", and the end is cut off."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:LONGEST]


def twin(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that differ in case only, as files of a case-insensitive folder; or None."""
    seen: dict[str, str] = {}
    for name in names:
        if (key := name.casefold()) in seen:
            return seen[key], name
        seen[key] = name
    return None
