"""The catalogue: accelerators, their prices, and how much each is worth of the measured one.

It is a YAML file that the user edits. A figure for hardware that was not measured is an estimate,
and bears the rule that it was scaled by.
"""

from __future__ import annotations

from typing import Annotated

from msgspec.structs import replace
from pydantic import Field, field_validator, model_validator

from foundation.section import Section
from foundation.units import Dollars
from results.capacity.plan.capacity_plan import ScaledCapacity
from results.capacity.plan.fleet import ReplicaPrice, fleet
from results.capacity.plan.merits import cost_per_million, scaled
from results.config import PlanConfig
from results.summary import Estimate

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Accelerator(Section):
    """An accelerator: its price, and its speed against the measured one.

    `measured`: it is the one the run was measured on. Another has `scale` (its requests/s over
    those of the measured one) with the `rule` in words, or a `memory_bandwidth` in GB/s, as the
    measured one has: decoding reads the weights once a step.
    """

    name: str = Field(min_length=1)
    price_hour: Dollars
    measured: bool = False
    scale: Positive | None = None
    rule: str | None = Field(default=None, min_length=1)
    memory_bandwidth: Positive | None = None

    @model_validator(mode="after")
    def _a_scale_has_a_rule(self) -> Accelerator:
        if (self.scale is None) != (self.rule is None):
            raise ValueError("scale and rule go together: a number, and in words where it is from")
        if self.measured and self.scale is not None:
            raise ValueError("scale: the measured accelerator is what the others are scaled from")
        return self


class Catalogue(Section):
    """The contents of a catalogue's file."""

    accelerators: tuple[Accelerator, ...] = Field(min_length=1)

    @field_validator("accelerators")
    @classmethod
    def _one_is_measured(cls, accelerators: tuple[Accelerator, ...]) -> tuple[Accelerator, ...]:
        names = [each.name for each in accelerators]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)}: named twice; write each accelerator once")
        measured = [each for each in accelerators if each.measured]
        if len(measured) != 1:
            raise ValueError(
                "write `measured: true` at the accelerator that the run was measured on, and at "
                "no other"
            )
        for each in accelerators:
            by_bandwidth = each.memory_bandwidth and measured[0].memory_bandwidth
            if not each.measured and each.scale is None and not by_bandwidth:
                raise ValueError(
                    f"{each.name}: write scale and rule, or memory_bandwidth here and at "
                    f"{measured[0].name}"
                )
        return accelerators

    @property
    def measured(self) -> Accelerator:
        """The accelerator that the run was measured on."""
        return next(each for each in self.accelerators if each.measured)

    def factor(self, accelerator: Accelerator) -> tuple[float, str]:
        """The speed of another accelerator over the measured one's, and the rule."""
        if accelerator.scale is not None and accelerator.rule is not None:
            return accelerator.scale, accelerator.rule
        ours, measured = accelerator.memory_bandwidth, self.measured
        assert ours is not None and measured.memory_bandwidth is not None
        return (
            ours / measured.memory_bandwidth,
            f"by memory bandwidth: {ours:g} over {measured.memory_bandwidth:g} GB/s of "
            f"{measured.name}",
        )


def scaled_capacities(
    variant: str, rate: Estimate, plan: PlanConfig, catalogue: Catalogue, accelerators: int
) -> list[ScaledCapacity]:
    """Estimates for every accelerator of the catalogue that was not measured."""
    rows = []
    for accelerator in catalogue.accelerators:
        if accelerator.measured:
            continue
        factor, rule = catalogue.factor(accelerator)
        price = ReplicaPrice(accelerators, accelerator.price_hour * accelerators)
        there = scaled(rate, factor)
        unknown = Estimate(value=None, reason="how far the rule is off is not known")
        peak = replace(fleet(plan.peak, there, "measured", plan, price), miss=unknown)
        rows.append(
            ScaledCapacity(
                variant=variant,
                accelerator=accelerator.name,
                factor=factor,
                rule=rule,
                rate=there,
                peak=peak,
                cost_per_million=cost_per_million(there, price),
            )
        )
    return rows
