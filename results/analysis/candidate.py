"""A variant that is held against the baseline, with its objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foundation.run.ceiling import Ceiling
from results.comparison.pairing import pair
from results.decision.judging import Baseline
from results.decision.objectives import ObjectiveSpec, Tails, objective_specs
from results.inputs import RunInputs
from results.measures.measured import MeasuredVariant
from results.measures.request_limits import request_limits
from results.measures.steady_state import StageData
from results.measures.validity import validity_of
from results.measures.values import Limits


@dataclass(frozen=True)
class Candidate:
    """A variant and the baseline, which it may be itself. `ceiling`: the load generator's."""

    inputs: RunInputs
    variant: MeasuredVariant
    base: MeasuredVariant
    specs: Sequence[ObjectiveSpec]
    tails: Tails
    ceiling: Ceiling | None

    @classmethod
    def of(
        cls,
        inputs: RunInputs,
        variant: MeasuredVariant,
        base: MeasuredVariant,
        ceiling: Ceiling | None,
    ) -> Candidate:
        """With every objective of the variant, which share the error.

        A variant that left a race is held against the baseline as it was then.
        """
        name, race = variant.record.name, inputs.race
        specs = objective_specs(inputs, name)
        tails = Tails.of(len(specs), inputs.looks)
        if race is not None and (errors := race.errors.get(name)) is not None:
            tails = Tails.in_race(errors, len(specs))
        if race is not None and variant is not base:
            left = race.departure(name)
            base = base.earlier.get(left.block, base) if left is not None else base
        return cls(inputs, variant, base, specs, tails, ceiling)

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.variant.record.name

    @property
    def compared(self) -> MeasuredVariant:
        """The variant as it is compared with the baseline: as it was if that left a race."""
        race = self.inputs.race
        left = race.departure(self.base.record.name) if race is not None else None
        return self.variant if left is None else self.variant.earlier.get(left.block, self.variant)

    @property
    def is_base(self) -> bool:
        """Whether it is the baseline itself."""
        return self.variant is self.base

    @property
    def judged_stage(self) -> StageData | None:
        """The variant under the judged load; None where that was not measured."""
        return self.variant.stages.get(self.inputs.judged_stage)

    def limits(self, stage: str) -> Limits:
        """What a single request may take at a stage."""
        return request_limits(self.inputs.slo, self.base.metrics.get(stage, {}))

    def baseline(self, stage: str) -> Baseline | None:
        """The baseline under a stage's load; None for itself, or if it was not measured there."""
        if self.is_base or stage not in self.variant.stages or stage not in self.base.stages:
            return None
        ours, theirs = self.compared.stages[stage], self.base.stages[stage]
        record = self.base.record
        return Baseline(
            stage=theirs,
            pairing=pair(ours, theirs, (self.name, record.name)),
            validity=validity_of(
                theirs,
                self.limits(stage),
                self.ceiling,
                record.dtype_doubt,
                self.inputs.failed.get(record.name),
            ),
        )
