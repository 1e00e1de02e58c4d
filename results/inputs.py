"""What an analysis starts from: a run directory and what was asked of its variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from foundation.run.records import VariantRecord
from foundation.yaml_values import YamlValue
from results.race import Race

if TYPE_CHECKING:
    from results.config import BudgetConfig, PlanConfig, QualityConfig, ResolutionConfig, Slo


@dataclass(frozen=True)
class ExperimentSettings:
    """What the experiment's YAML says of how its variants are made and served.

    `variants`: by name, the keys that were written. `finetune`: the whole section, None without
    one. `served`: by variant, the section serve with the variant's own keys in it, its options by
    their names with dashes. `styles`: the text of each prompt style. `accelerated`: whether
    servers run on accelerators, None where that is not known.
    """

    variants: Mapping[str, Mapping[str, YamlValue]] = field(default_factory=dict)
    finetune: Mapping[str, YamlValue] | None = None
    served: Mapping[str, Mapping[str, YamlValue]] = field(default_factory=dict)
    styles: Mapping[str, str] = field(default_factory=dict)
    accelerated: bool | None = None


@dataclass(frozen=True)
class RunInputs:
    """A run and its questions.

    The verdict is made on `judged_stage`, against the variant named `baseline`. `run` holds
    `load/VARIANT/STAGE/block-NN.jsonl`, `load/VARIANT/probe-NAME/block-01.jsonl` and
    `prompts.jsonl`. `looks` is how often a growing run is judged at most (once a block, where
    blocks are added until it is decided): the 5 % of either error are shared among the looks, so
    that peeking does not add to them. `stages` are named in the order they are shown. `notes`: what
    a reader should know of how the run was set up. `failed` says, by variant, why its server did
    not live to the end of the run: nothing is decided on such a variant. `uneven` says, by stage,
    why its requests do not arrive at one rate, so that its mean rate is nobody's capacity. `race`:
    who left it so far; its errors take the place of `looks`. `through`: of the judged stage, only
    the blocks up to this number are read. `settings`: of the experiment, which remedies
    change.
    """

    name: str
    baseline: str
    judged_stage: str
    variants: Sequence[VariantRecord]
    slo: Slo
    quality: QualityConfig
    budget: BudgetConfig | None
    plan: PlanConfig | None
    run: Path
    looks: int = 1
    resolution: ResolutionConfig | None = None
    stages: Sequence[str] = ()
    notes: Sequence[str] = ()
    uneven: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    race: Race | None = None
    through: int | None = None
    settings: ExperimentSettings = field(default_factory=ExperimentSettings)

    def last_block(self, variant: str) -> int | None:
        """The last block of the judged stage that counts for a variant; None for all."""
        left = self.race.departure(variant) if self.race else None
        ends = [end for end in (self.through, left.block if left else None) if end is not None]
        return min(ends, default=None)
