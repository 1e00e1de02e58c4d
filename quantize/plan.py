"""How the layers of one checkpoint will be quantized, decided before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.models.model import ModelRef
from quantize.config import QuantizeConfig
from quantize.layers import check_widths, kept_layers
from quantize.methods import METHODS, QuantizationMethod


@dataclass(frozen=True)
class QuantizationPlan:
    """How a model's layers are quantized.

    `group_size` is the number of inputs that share a scale, None without groups. `kept` are the
    full names of the layers that stay in full precision.
    """

    source: ModelRef
    config: QuantizeConfig
    group_size: int | None
    kept: list[str]

    @property
    def method(self) -> QuantizationMethod:
        """The facts of the configured method."""
        return METHODS[self.config.method]

    @property
    def recipe(self) -> dict[str, object]:
        """The format and its group size, as `recipe.json` names them."""
        groups = {"group_size": self.group_size} if self.group_size else {}
        return {"format": self.method.format, **groups}


def plan_quantization(source: ModelRef, config: QuantizeConfig) -> QuantizationPlan:
    """Raises BadInput where method, group size or `keep` does not fit the model's layers."""
    return QuantizationPlan(
        source, config, check_widths(source, config), kept_layers(source, config.keep)
    )
