"""Sections of `workload` that name recordings and datasets: the source of prompts and times."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from foundation.path_fields import File
from foundation.section import Section
from foundation.units import Count, Seconds, Share, format_seconds
from loadgen import names_in_other_tools
from loadgen.lengths import Lengths, LengthsField

_DATASETS = (
    "write eval, {synthetic: {input_tokens: 512, output_tokens: 128}}, "
    "{sharegpt: FILE} or {trace: FILE}"
)


class Recording(Section):
    """A file of recorded traffic, or a part of it. `loadgen.schedule.traces` lists the formats.

    `offset` and `length` are in the recording's own time: `offset` is skipped, then `length` is
    used.
    """

    elsewhere: ClassVar[Mapping[str, str]] = names_in_other_tools.RECORDING

    file: File
    offset: Seconds = 0.0
    length: Seconds | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_file(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _some_of_it(self) -> Self:
        if self.length == 0:
            raise ValueError("length must be above zero")
        return self

    @property
    def part(self) -> tuple[Path, float, float | None]:
        """The file, the offset and the length."""
        return self.file, self.offset, self.length

    @property
    def span(self) -> str:
        """The part in words."""
        begin = f"from {format_seconds(self.offset)} on"
        return begin if self.length is None else f"the {format_seconds(self.length)} {begin}"


class Synthetic(Section):
    """Prompts of random words with exact token lengths, chat template included, and answers of
    fixed length.

    `cache_hit`: the share of input tokens that a prefix cache should answer, because prompts begin
    with one of `prefixes` texts. With `turns` above 1 `input_tokens` is the length that each turn
    adds.
    """

    elsewhere: ClassVar[Mapping[str, str]] = names_in_other_tools.SYNTHETIC

    input_tokens: LengthsField
    output_tokens: LengthsField
    turns: LengthsField = Lengths.parse(1)
    cache_hit: Share = Field(default=0.0, lt=1)
    prefixes: Count = Field(default=1, ge=1)


class Conversations(Section):
    """Sessions of at most `turns` user turns, which the server answers itself.

    The file is ShareGPT's JSON, or JSON lines of `{"messages": [...]}`.
    """

    file: File
    turns: Count | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _bare_file(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value


class Dataset(Section):
    """Prompts that replace the held-out data. Their answers have no references.

    `trace`: prompts of recorded lengths.
    """

    synthetic: Synthetic | None = None
    sharegpt: Conversations | None = None
    trace: Recording | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Dataset:
        if sum(each is not None for each in (self.synthetic, self.sharegpt, self.trace)) != 1:
            raise ValueError(_DATASETS)
        return self

    @property
    def has_turns(self) -> bool:
        """Whether an arrival may be more than one request."""
        return self.sharegpt is not None or (
            self.synthetic is not None and str(self.synthetic.turns) != "1"
        )
