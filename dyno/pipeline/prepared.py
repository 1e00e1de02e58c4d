"""An experiment with its models, examples and prompts loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dyno.artifacts.artifact import Artifact
from dyno.artifacts.externals import Externals
from dyno.artifacts.graph import Graph
from dyno.artifacts.stored import is_done
from dyno.experiment.models import adapter_folder
from dyno.experiment.schema import Experiment
from dyno.experiment.variants import FINETUNE, VariantConfig, is_own
from finetune.job import TrainingJob
from foundation.data.examples import Example, PromptStyle
from foundation.models.model import ModelRef
from foundation.run.layout import RunDirectory
from foundation.run.records import PLAIN, Prompt
from loadgen.prompts.exact_length import Correction


@dataclass(frozen=True)
class Training:
    """An adapter that the run trains on the data; `where`: its settings' place in the file."""

    adapter: Artifact
    job: TrainingJob
    where: str


@dataclass(frozen=True)
class Prepared:
    """An experiment with its models, examples and prompts loaded.

    `where`: the folder that relative paths start from. `models`: by their names in the experiment.
    `tokenizer`: the model folder that counts tokens, or None. `corrections`: by variant, how its
    server's token counts differ; such a variant has a prompt style of its own, named like it.
    `rates`: by stage, the relative rates that an earlier try of the run measured, in requests/s.
    """

    experiment: Experiment
    where: Path
    models: dict[str, ModelRef]
    train: list[Example]
    heldout: list[Example]
    prompts: list[Prompt]
    tokenizer: Path | None
    corrections: Mapping[str, Correction]
    externals: Externals = field(default_factory=Externals)
    rates: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def graph(self) -> Graph:
        """The artifacts of the experiment, each with its identity."""
        styles = {variant.name: self.style_of(variant) for variant in self.experiment.variants}
        return Graph(
            self.experiment,
            self.externals,
            self.prompts,
            styles,
            frozenset(self.corrections),
            self.rates,
        )

    def style_of(self, variant: VariantConfig) -> str:
        """The name of the style of the variant's prompts."""
        if variant.name in self.corrections:
            return variant.name
        return PLAIN if self.experiment.workload.dataset else variant.prompt or PLAIN

    @property
    def base(self) -> ModelRef:
        """The experiment's own model."""
        return self.models[self.experiment.model]

    def trainings(self, only: Collection[str] = ()) -> list[Training]:
        """The adapters that the run trains on the data, or those that variants in `only` need."""
        needed = {
            self.graph.trained(v).identity
            for v in self.experiment.variants
            if v.name in only and v.is_trained and not v.is_student
        }
        trainings = []
        for owner in self.graph.trainings:
            adapter, config = self.graph.trained(owner), self.experiment.finetune_of(owner)
            assert config is not None
            if only and adapter.identity not in needed:
                continue
            where = "finetune" if owner is None else f"variants.{owner.name}.finetune"
            base = self.base if owner is None else self.base_of(owner)
            style = self.experiment.prompts[config.prompt].style if config.prompt else None
            job = TrainingJob(config, base, self.train, self.heldout, style)
            trainings.append(Training(adapter, job, where))
        return trainings

    def student_job(self, variant: VariantConfig) -> TrainingJob:
        """The training of a pruned or distilled variant, before it is pruned or taught."""
        config = self.experiment.finetune_of(variant)
        assert config is not None
        base, style = self.base_of(variant), self.wording_of(variant)
        return TrainingJob(config, base, self.train, self.heldout, style)

    def wording_of(self, variant: VariantConfig) -> PromptStyle | None:
        """The prompt style of a variant, and of a student's training."""
        return self.experiment.prompts[variant.prompt].style if variant.prompt else None

    def base_of(self, variant: VariantConfig) -> ModelRef:
        """The model that the variant names, else the experiment's."""
        return self.models[variant.model or self.experiment.model]

    def trained_base(self, variant: VariantConfig, run: RunDirectory) -> ModelRef:
        """The model that a variant's adapter is trained on and merged into: its base, or pruned."""
        base = self.base_of(variant)
        if variant.prune is None:
            return base
        folder = self.path(self.graph.pruned(variant), run)
        return ModelRef(f"{base.id}-pruned", base.revision, folder)

    def adapter_path(self, variant: VariantConfig, run: RunDirectory) -> Path | None:
        """The folder of the adapter that a variant serves or merges."""
        return self._adapter(variant, variant.adapter, run) if variant.adapter else None

    def merged_adapter(self, variant: VariantConfig, run: RunDirectory) -> Path | None:
        """The folder of the adapter that is merged into a variant's checkpoint."""
        if variant.is_student:
            return self.path(self.graph.student(variant), run)
        return self._adapter(variant, variant.merge, run) if variant.merge else None

    def external_adapters(self) -> dict[str, Path]:
        """The folders of adapters that the experiment doesn't train, by their names in it."""
        names = [
            name
            for v in self.experiment.variants
            for name in (v.adapter, v.merge)
            if name and not is_own(name)
        ]
        return {name: adapter_folder(name, self.where) for name in names}

    def path(self, artifact: Artifact, run: RunDirectory) -> Path:
        """The path of an artifact in a run."""
        return run.path / self.graph.place(artifact)

    def _adapter(self, variant: VariantConfig, name: str, run: RunDirectory) -> Path:
        if not is_own(name):
            return adapter_folder(name, self.where)
        adapter = self.path(self.graph.trained(variant), run)
        return adapter / name.removeprefix(FINETUNE).lstrip("/")

    def unmade(self, run: RunDirectory) -> list[tuple[Artifact, ModelRef]]:
        """The checkpoints that a run lacks, each once, with the model it is made from."""
        unmade: dict[str, tuple[Artifact, ModelRef]] = {}
        for variant in self.experiment.variants:
            for checkpoint in (self.graph.merged(variant), self.graph.quantized(variant)):
                if checkpoint is not None and not is_done(self.path(checkpoint, run), checkpoint):
                    unmade[self.graph.place(checkpoint)] = (checkpoint, self.base_of(variant))
        return list(unmade.values())
