"""The key `quantize` of a variant: how a merged checkpoint is made smaller."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from foundation.section import Section
from foundation.units import Count

Method = Literal["w8a8-int8", "w4a16", "fp8-dynamic", "bnb-nf4"]


class QuantizeConfig(Section):
    """`quantize: w8a8-int8`, or a mapping with options. `ignore`: modules kept in full precision, the output head by default."""

    method: Method
    group_size: Count | None = None
    ignore: tuple[str, ...] = Field(default=("lm_head",))

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value
