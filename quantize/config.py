"""The key `quantize` of a variant: how a full-precision checkpoint is quantized."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from foundation.section import Section
from foundation.units import Count
from quantize.methods import METHODS, Algorithm, Method

MIN_CALIBRATION = 32


class QuantizeConfig(Section):
    """`quantize: w8a8-int8`, or a mapping with options.

    `algorithm`: "rtn" rounds to nearest and needs no data; the others learn from `calibration`
    examples of the training split. `keep` lists the modules that stay in full precision, by default
    the output head. An entry is a name ("down_proj", "lm_head", "layers.0.mlp") or a regular
    expression ("re:.*layers.0[.].*"). With `recovery`, `dyno run` measures what quantizing lost.
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
        known = METHODS[self.method].algorithms
        if self.algorithm not in known:
            raise ValueError(
                f"algorithm: {self.algorithm} is not for {self.method}; write {' or '.join(known)}"
            )
        if self.group_size is not None and len(METHODS[self.method].group_sizes) < 2:
            with_choice = [name for name, each in METHODS.items() if len(each.group_sizes) > 1]
            raise ValueError(
                f"group_size: {self.method} has none to choose; "
                f"it belongs to {' or '.join(with_choice)}"
            )
        return self

    @property
    def calibrated(self) -> bool:
        """Whether the rounding is learned from examples."""
        return self.algorithm != "rtn"
