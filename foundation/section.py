"""The base of every section of `experiment.yaml`: frozen, and an unknown key is an error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic_core import to_jsonable_python

_SIMILARITY = 0.75
"""One wrong letter of four; less similar words differ: `eval_steps` is not `eval_limit`."""


class Section(BaseModel):
    """A section of the experiment.

    Defaults are not validated, so they are in plain units (seconds, bytes).
    `elsewhere`: other tools' names for its settings; each with the end of a sentence that says
    what to write instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    elsewhere: ClassVar[Mapping[str, str]] = {}


class Differences(Section):
    """A section that holds only what differs from another one: the keys that are set.

    `model_fields_set` names them. Written as YAML and read back, it is the same.
    """

    @model_serializer(mode="wrap")
    def _only_what_is_set(
        self, write: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        values = write(self)
        names = [name for name in type(self).model_fields if name in self.model_fields_set]
        # A null or a default is a difference too, which the writer may have left out.
        left_out = {name: getattr(self, name) for name in names if name not in values}
        values |= to_jsonable_python(left_out) if info.mode_is_json() else left_out
        return {name: values[name] for name in names}


def unknown_key(key: str, section: type[Section] | None) -> str:
    """The error for a key that the section lacks, with what to write instead."""
    if section is None:
        return "unknown key"
    if key in section.elsewhere:
        return f"unknown key; {section.elsewhere[key]}"
    return f"unknown key{nearest(key, section.model_fields)}"


def nearest(key: str, known: Iterable[str]) -> str:
    """The end of an error: " (did you mean 'rank'?)", or all known keys if none is near.

    Near are a spelling mistake of a known key and the beginning of exactly one known key.
    """
    known = sorted(known)
    close = difflib.get_close_matches(key, known, n=1, cutoff=_SIMILARITY)
    longer = [each for each in known if key and each.startswith(key)]
    close += longer if len(longer) == 1 else []
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})"
