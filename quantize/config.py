"""The key `quantize` of a variant: how a merged checkpoint is made smaller."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from foundation.section import Section
from foundation.units import Count

Method = Literal["w8a8-int8", "w4a16", "fp8-dynamic", "nvfp4", "bnb-nf4", "bnb-int8"]
Algorithm = Literal["rtn", "gptq", "awq", "smoothquant"]

ALGORITHMS: dict[Method, tuple[Algorithm, ...]] = {
    "w8a8-int8": ("rtn", "gptq", "smoothquant"),
    "w4a16": ("rtn", "gptq", "awq"),
    "fp8-dynamic": ("rtn",),
    "nvfp4": ("rtn",),
    "bnb-nf4": ("rtn",),
    "bnb-int8": ("rtn",),
}
BITS: dict[Method, Literal[4, 8]] = {
    "w8a8-int8": 8,
    "w4a16": 4,
    "fp8-dynamic": 8,
    "nvfp4": 4,
    "bnb-nf4": 4,
    "bnb-int8": 8,
}
"""Of a quantized weight."""
MIN_CALIBRATION = 32


class QuantizeConfig(Section):
    """`quantize: w8a8-int8`, or a mapping with options.

    `algorithm`: "rtn" rounds to nearest and needs no data; the others learn from `calibration` examples of the training split.
    `keep`: modules left in full precision, the output head by default: a name ("down_proj", "lm_head", "layers.0.mlp") or a
    regular expression ("re:.*layers.0[.].*"). `recovery` measures what quantizing lost in `dyno run` too.
    """

    method: Method
    algorithm: Algorithm = "rtn"
    group_size: Count | None = None
    keep: tuple[str, ...] = ("lm_head",)
    calibration: Count = Field(default=256, ge=MIN_CALIBRATION)
    recovery: bool = False

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _goes_together(self) -> QuantizeConfig:
        if self.algorithm not in (known := ALGORITHMS[self.method]):
            raise ValueError(
                f"algorithm: {self.algorithm} is not for {self.method}; write {' or '.join(known)}"
            )
        if self.group_size is not None and self.method != "w4a16":
            raise ValueError(f"group_size: {self.method} has none to choose; it belongs to w4a16")
        return self

    @property
    def calibrated(self) -> bool:
        return self.algorithm != "rtn"
