"""The section `improve`: remedies that the user offers, beside those that dyno knows."""

from __future__ import annotations

from pydantic import Field

from dyno.experiment.variants import VariantConfig
from foundation.section import Section


class CandidateConfig(VariantConfig):
    """A variant that may replace one that does not ship.

    `expected`: what it should multiply the time, cost or failures that bind by, such as 0.5; of a
    rate or a score, what it should divide them by. None where nobody knows.
    """

    expected: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @property
    def variant(self) -> VariantConfig:
        """The variant alone."""
        keys = dict(self)
        return VariantConfig.model_validate({key: keys[key] for key in VariantConfig.model_fields})


class ImproveConfig(Section):
    """What `dyno improve` may try besides the remedies that it makes itself."""

    candidates: tuple[CandidateConfig, ...] = ()
