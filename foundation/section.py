"""The base of every section of `experiment.yaml`: frozen, and an unknown key is an error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the experiment. Defaults are not validated, so they are written in plain units (seconds, bytes).

    `elsewhere`: names that other tools have for its settings, and what to write instead, as the end of a sentence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    elsewhere: ClassVar[Mapping[str, str]] = {}


def unknown_key(key: str, section: type[Section] | None) -> str:
    """What to write in place of a key that the section does not have."""
    if section is None:
        return "unknown key"
    if key in section.elsewhere:
        return f"unknown key; {section.elsewhere[key]}"
    return f"unknown key{nearest(key, section.model_fields)}"


def nearest(key: str, known: Iterable[str]) -> str:
    """ " (did you mean 'rank'?)", or the known keys where none is near: a slip of the keys away, or begun by this one alone."""
    known = sorted(known)
    close = difflib.get_close_matches(key, known, n=1, cutoff=_SLIP)
    longer = [each for each in known if key and each.startswith(key)]
    close += longer if len(longer) == 1 else []
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})"


# One letter of four. Words further apart are other words: `eval_steps` is not `eval_limit`.
_SLIP = 0.75
