"""Names of experiments, variants, stages and probes. They are parts of paths, and never paths."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

LONGEST = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HOW = f"write letters, digits, '.', '_' and '-', a letter or digit first, {LONGEST} characters at most"


def checked_name(name: str) -> str:
    """The name. Raises ValueError where it is none."""
    if len(name) > LONGEST:
        raise ValueError(f"a name of {len(name):,} characters; {_HOW}")
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name; {_HOW}")
    return name


Name = Annotated[str, AfterValidator(checked_name)]


def name_from(text: str) -> str:
    """A text as the end of a name: other characters become "-", and what is too long is cut."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text)[:LONGEST]


def twin(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that one folder can't tell apart where letters have no case; None where there are none."""
    seen: dict[str, str] = {}
    for name in names:
        if (key := name.casefold()) in seen:
            return seen[key], name
        seen[key] = name
    return None
