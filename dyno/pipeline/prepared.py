"""An experiment with everything that it needs at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dyno.artifacts.artifact import Artifact
from dyno.artifacts.graph import Graph, Outside
from dyno.artifacts.stored import is_done
from dyno.experiment.models import adapter_folder
from dyno.experiment.schema import Experiment
from dyno.experiment.variants import FINETUNE, VariantConfig, is_own
from foundation.data.examples import Example, PromptStyle
from foundation.models.model import ModelRef
from foundation.run.layout import RunDirectory
from foundation.run.records import PLAIN, Prompt
from loadgen.prompts.exact_length import Correction


@dataclass(frozen=True)
class Prepared:
    """An experiment with its models, examples and prompts at hand.

    `tokenizer`: the model folder that counts tokens, None where none is known. `corrections`: how the servers of variants count
    otherwise; such a variant has a wording of its own, named like it. `rates`: by stage, the relative
    rates that an earlier try of the run measured.
    """

    experiment: Experiment
    where: Path
    models: dict[str, ModelRef]
    train: list[Example]
    heldout: list[Example]
    prompts: list[Prompt]
    tokenizer: Path | None
    corrections: Mapping[str, Correction]
    outside: Outside = field(default_factory=Outside)
    rates: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def graph(self) -> Graph:
        """What the experiment makes and measures, each with its identity."""
        wordings = {variant.name: self.style_of(variant) for variant in self.experiment.variants}
        return Graph(
            self.experiment,
            self.prompts,
            wordings,
            frozenset(self.corrections),
            self.rates,
            self.outside,
        )

    def style_of(self, variant: VariantConfig) -> str:
        """The wording of the prompts that the variant is asked."""
        if variant.name in self.corrections:
            return variant.name
        return PLAIN if self.experiment.workload.dataset else variant.prompt or PLAIN

    @property
    def base(self) -> ModelRef:
        return self.models[self.experiment.model]

    @property
    def training_style(self) -> PromptStyle | None:
        finetune = self.experiment.finetune
        return (
            self.experiment.prompts[finetune.prompt].style if finetune and finetune.prompt else None
        )

    def wording_of(self, variant: VariantConfig) -> PromptStyle | None:
        """How a variant is asked; a student is trained so too."""
        return self.experiment.prompts[variant.prompt].style if variant.prompt else None

    def base_of(self, variant: VariantConfig) -> ModelRef:
        return self.models[variant.model or self.experiment.model]

    def trained_base(self, variant: VariantConfig, run: RunDirectory) -> ModelRef:
        """What a variant's adapter is trained on and merged into: its base, or what pruning left of it."""
        base = self.base_of(variant)
        if variant.prune is None:
            return base
        return ModelRef(
            f"{base.id}-pruned", base.revision, self.path(self.graph.pruned(variant), run)
        )

    def adapter_path(self, variant: VariantConfig, run: RunDirectory) -> Path | None:
        """The folder of the adapter that a variant serves or merges."""
        return self._adapter(variant.adapter, run) if variant.adapter else None

    def merged_adapter(self, variant: VariantConfig, run: RunDirectory) -> Path | None:
        if variant.is_student:
            return self.path(self.graph.student(variant), run)
        return self._adapter(variant.merge, run) if variant.merge else None

    def adapters_from_outside(self) -> dict[str, Path]:
        """The folders of adapters that the experiment doesn't train, by their names in it."""
        names = [
            name
            for v in self.experiment.variants
            for name in (v.adapter, v.merge)
            if name and not is_own(name)
        ]
        return {name: adapter_folder(name, self.where) for name in names}

    def path(self, artifact: Artifact, run: RunDirectory) -> Path:
        """Where an artifact lies in a run, once it is made."""
        return run.path / self.graph.place(artifact)

    def _adapter(self, name: str, run: RunDirectory) -> Path:
        if not is_own(name):
            return adapter_folder(name, self.where)
        return self.path(self.graph.own_adapter, run) / name.removeprefix(FINETUNE).lstrip("/")

    def unmade(self, run: RunDirectory) -> list[tuple[Artifact, ModelRef]]:
        """The checkpoints that a run still lacks, each once, with the model it is made from."""
        of: dict[str, tuple[Artifact, ModelRef]] = {}
        for variant in self.experiment.variants:
            for made in (self.graph.merged(variant), self.graph.quantized(variant)):
                if made is not None and not is_done(self.path(made, run), made):
                    of[self.graph.place(made)] = (made, self.base_of(variant))
        return list(of.values())
