"""The base of every section of `experiment.yaml`: frozen, and an unknown key is an error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the experiment. Defaults are not validated, so they are written in plain units (seconds, bytes)."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def nearest(key: str, known: Iterable[str]) -> str:
    """ " (did you mean 'rank'?)", or the known keys where none is near."""
    known = sorted(known)
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})"
