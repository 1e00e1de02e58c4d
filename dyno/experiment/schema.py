"""`experiment.yaml`: the sections of all packages in one schema, checked against one another."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from dyno.experiment.grid import expanded
from dyno.experiment.improve import ImproveConfig
from dyno.experiment.names import check_names, grids, no_variant
from dyno.experiment.variants import VariantConfig, is_own, own_epoch
from finetune.config import FinetuneConfig
from foundation.data.examples import PromptStyle
from foundation.data.leaks import OnLeak
from foundation.errors import BadInput
from foundation.files.text_file import check_encoding
from foundation.names import Name
from foundation.path_fields import FileOrName
from foundation.run.records import PLAIN
from foundation.section import Section, nearest
from foundation.units import Seconds
from foundation.wrong_values import wrong_value
from loadgen.config import WorkloadConfig
from results.config import BudgetConfig, PlanConfig, QualityConfig, ResolutionConfig, Slo
from serve.config import ServeConfig


def _not_empty(prompt: str) -> str:
    if not prompt.strip():
        raise ValueError("it is empty; write what to ask")
    return prompt


class DataConfig(Section):
    """Where the examples are, or one `prompt` to repeat.

    `train` and `eval`: a file of JSON, CSV or Parquet, relative to the experiment file;
    `bundled:NAME/FILE`; `hub:ORG/NAME:SPLIT`. `columns` maps our names to the file's columns:
    `{prompt: text, completion: label}`. `ignore`: keys to leave out of lines and messages, of
    probes too. `encoding`: that of text files, UTF-8 if left out. `on_leak`: what happens to
    training examples whose prompt is held out too.
    """

    train: FileOrName | None = None
    eval: FileOrName | None = None
    prompt: Annotated[str, AfterValidator(_not_empty)] | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    encoding: Annotated[str, AfterValidator(check_encoding)] | None = None
    on_leak: OnLeak = "refuse"


class PromptConfig(Section):
    """A prompt style: a text with `{field}` places, or system and user texts."""

    user: str
    system: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_text(cls, value: object) -> object:
        return {"user": value} if isinstance(value, str) else value

    @field_validator("user", "system")
    @classmethod
    def _well_formed(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                PromptStyle(value).fields()
            except ValueError as error:
                raise ValueError(f"{error}; write a literal brace twice") from None
        return value

    @property
    def style(self) -> PromptStyle:
        """The prompt style that renders examples."""
        return PromptStyle(self.user, self.system)


class UntilDecided(Section):
    """Adds blocks until every verdict is settled, or the load took `max_time` seconds.

    The run looks at the verdicts at most `looks` times, each time with half as many blocks again.
    The looks share the error of 5 %.
    """

    max_time: Seconds = 1800.0
    looks: int = Field(default=5, ge=2)

    def block_counts(self, blocks: int) -> list[int]:
        """The number of blocks at the second look and after.

        15, 23, 34 and 51 for 10 blocks and five looks.
        """
        return [math.ceil(blocks * 1.5**look) for look in range(1, self.looks)]


class Experiment(Section):
    """The whole file.

    `trust_remote_code`: whether every stage that can runs Python code that comes with a model.
    """

    name: Name
    model: FileOrName
    data: DataConfig = DataConfig()
    prompts: dict[str, PromptConfig] = Field(default_factory=dict)
    finetune: FinetuneConfig | None = None
    variants: tuple[VariantConfig, ...] = Field(min_length=1)
    baseline: str
    serve: ServeConfig = ServeConfig()
    trust_remote_code: bool = False
    workload: WorkloadConfig
    slo: Slo = Slo({})
    quality: QualityConfig = QualityConfig()
    budget: BudgetConfig | None = None
    plan: PlanConfig | None = None
    until_decided: UntilDecided | None = None
    resolution: ResolutionConfig | None = None
    improve: ImproveConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _variants_of_grids(cls, value: object) -> object:
        if not isinstance(value, dict) or not isinstance(value.get("variants"), list | tuple):
            return value
        return {**value, "variants": [each for _, each in expanded(value["variants"])]}

    @model_validator(mode="before")
    @classmethod
    def _trust_in_every_stage(cls, value: object) -> object:
        if not isinstance(value, dict) or value.get("trust_remote_code") is not True:
            return value
        sections = {"finetune": value.get("finetune"), "serve": value.get("serve", {})}
        trusting = {
            name: {"trust_remote_code": True, **section}
            for name, section in sections.items()
            if isinstance(section, dict)
        }
        return {**value, **trusting}

    @model_validator(mode="after")
    def _fits_together(self) -> Experiment:
        names = [variant.name for variant in self.variants]
        candidates = [each.name for each in self.improve.candidates] if self.improve else []
        stages = [stage.label for stage in self.workload.stages]
        check_names(
            [*names, *candidates],
            stages,
            [probe.name for probe in self.quality.probes],
            self.prompts,
        )
        if self.baseline not in names:
            raise ValueError(f"baseline: {no_variant(self.baseline, names)}")
        self._check_styles()
        for i, variant in enumerate(self.variants):
            self._check_training(f"variants.{i}", variant, names[:i])
        self._check_data(names)
        for i, stage in enumerate(self.workload.stages):
            if (relative := stage.relative_rate) and relative.of not in names:
                raise ValueError(f"workload.stages.{i}.rate.of: {no_variant(relative.of, names)}")
        self._check_resolution()
        if self.workload.race and (reason := self.why_no_race):
            raise ValueError(f"workload.race: {reason}")
        return self

    @property
    def why_no_race(self) -> str | None:
        """Why nobody could leave a race of these variants, and what to write; None if one could."""
        if len(self.variants) < 2:
            return "a race needs two variants at least; add one, or leave race out"
        if self.workload.blocks < 3:
            return (
                f"the first look is after two blocks, and {self.workload.blocks} are all; write "
                "blocks: 3 or more, or leave race out"
            )
        judged = next(s for s in self.workload.stages if s.label == self.judged_stage)
        if judged.mix is not None:
            return f"{judged.label} loads all variants at once; leave mix out, or race"
        if self.resolution is not None:
            return "resolution measures every variant to the end; leave one of the two out"
        floors = (self.quality.min, self.quality.max_drop)
        caps = (self.budget.per_month, self.budget.max_increase) if self.budget else ()
        if not self.slo.limits and all(each is None for each in (*floors, *caps)):
            return "nothing is asked under load; write slo, quality or budget, or leave race out"
        return None

    @property
    def races(self) -> bool:
        """Whether variants may leave before the last block."""
        if self.workload.race is None:
            return bool(self.of_grids) and self.why_no_race is None
        return self.workload.race

    def _training(self, field: str, variant: VariantConfig) -> FinetuneConfig:
        """The settings of a variant's training. Raises ValueError if they do not go together."""
        assert self.finetune is not None
        try:
            return self.finetune.of_variant(variant.finetune)
        except ValidationError as error:
            problem = wrong_value(error.errors()[0])
            raise ValueError(f"{field}.finetune.{problem}") from None

    def serve_of(self, variant: VariantConfig) -> ServeConfig:
        """The settings of a variant's server: the section serve with the variant's own."""
        return self.serve.of_variant(variant.serve)

    def replicas_of(self, variant: VariantConfig) -> int:
        """How many servers answer for a variant: those of ours, or those that its urls name."""
        return len(variant.urls) or self.serve_of(variant).replicas

    def _check_styles(self) -> None:
        """Raises ValueError for the name of a prompt style that the section prompts lacks."""
        styles = [("finetune.prompt", self.finetune.prompt if self.finetune else None)]
        styles += [(f"variants.{i}.prompt", v.prompt) for i, v in enumerate(self.variants)]
        styles += [
            (f"variants.{i}.finetune.prompt", v.finetune.prompt)
            for i, v in enumerate(self.variants)
            if v.finetune
        ]
        for field, style in styles:
            if style is not None and style not in self.prompts:
                raise ValueError(f"{field}: {style!r} is no prompt{nearest(style, self.prompts)}")

    def _check_data(self, names: Sequence[str]) -> None:
        """Raises ValueError unless exactly one section says what the requests ask."""
        dataset, data = self.workload.dataset, self.data
        if dataset is None and (data.eval is None) == (data.prompt is None):
            raise ValueError(
                "data: write eval, the held-out examples to ask, or prompt, one text to repeat"
            )
        if dataset is not None and PLAIN in names:
            raise ValueError(
                f"variants.{names.index(PLAIN)}.name: {PLAIN!r} is how a dataset's prompts are "
                "worded; write another"
            )
        if dataset is not None and data.prompt is not None:
            raise ValueError(
                "data.prompt: workload.dataset says what is asked; leave one of them out"
            )
        if self.finetune and not data.train:
            raise ValueError("data.train: finetune needs examples to learn from")

    def _check_resolution(self) -> None:
        if self.resolution and self.until_decided:
            raise ValueError(
                "resolution: until_decided adds blocks by the verdict, resolution by a plan; "
                "leave one out"
            )
        if self.resolution and len(self.variants) < 2:
            raise ValueError(
                "resolution: there is nothing to compare with the baseline; add a variant"
            )

    def _check_training(self, field: str, variant: VariantConfig, before: list[str]) -> None:
        """Raises ValueError for a variant that the section finetune can't train.

        `field`: the variant's place in the file. `before`: the variants that stand before it,
        which can be its teacher.
        """
        key = "adapter" if variant.adapter else "merge"
        name = variant.adapter or variant.merge
        if self.finetune is None:
            if variant.finetune:
                raise ValueError(f"{field}.finetune: there is no section finetune; add it")
            if is_own(name):
                raise ValueError(
                    f"{field}.{key}: there is no section finetune; "
                    "add it, or name an adapter folder"
                )
            if variant.is_student:
                made_by = "prune" if variant.prune is not None else "distil"
                raise ValueError(f"{field}.{made_by}: there is no section finetune; add it")
            return
        config = self._training(field, variant)
        epoch, epochs = own_epoch(name), config.epochs
        if epoch is not None and epoch > epochs and not config.max_steps:
            raise ValueError(
                f"{field}.{key}: epoch {epoch} of {epochs}; finetune.epochs has no such one"
            )
        if is_own(variant.adapter) and (reason := config.why_only_merged):
            raise ValueError(f"{field}.adapter: {reason}; write merge instead of adapter")
        if variant.distil and variant.distil not in before:
            before_it = no_variant(variant.distil, before, "variant that stands before it")
            raise ValueError(f"{field}.distil: {before_it}")

    def finetune_of(self, variant: VariantConfig | None) -> FinetuneConfig | None:
        """The settings of a variant's training: the section, and what the variant has otherwise.

        None without a section finetune; the section's own without a variant.
        """
        own = variant.finetune if variant else None
        return self.finetune.of_variant(own) if self.finetune else None

    @property
    def of_grids(self) -> dict[str, int]:
        """How many variants each grid of the file became, by its name."""
        return grids(variant.name for variant in self.variants)

    @property
    def judged_stage(self) -> str:
        """The stage that the verdict is about: the first open-loop one, else the first."""
        stages = self.workload.stages
        return next((s for s in stages if s.open_loop), stages[0]).label

    def workload_of(self, variant: VariantConfig) -> WorkloadConfig:
        """The workload with the variant's own sampling."""
        if variant.sampling is None:
            return self.workload
        own = variant.sampling.model_dump(exclude_none=True)
        sampling = self.workload.sampling.model_copy(update=own)
        return self.workload.model_copy(update={"sampling": sampling})

    def with_stopping_rule(
        self, until_decided: bool, resolution: str | None, max_time: str | None
    ) -> Experiment:
        """The same experiment with the stopping rule of the command line.

        Raises BadInput for options that contradict one another or the experiment.
        """
        if max_time is not None and not until_decided and resolution is None:
            raise BadInput("--max-time goes with --until-decided or --resolution")
        time = {"max_time": max_time} if max_time is not None else {}
        update: dict[str, Section] = {}
        try:
            if until_decided:
                update["until_decided"] = UntilDecided.model_validate(time)
            if resolution is not None:
                update["resolution"] = ResolutionConfig.model_validate(
                    {"change": resolution, **time}
                )
            return Experiment.model_validate({**dict(self), **update})
        except ValidationError as error:
            problem = error.errors()[0]
            options = {"max_time": "--max-time: ", "change": "--resolution: "}
            option = next((options[key] for key in options if key in problem["loc"]), "--")
            raise BadInput(f"{option}{wrong_value(problem)}") from None

    def as_yaml(self) -> str:
        """YAML that reads back as this experiment.

        It holds every default, and references in place of secrets.
        """
        public: dict[str, object] = {"variants": tuple(v.public() for v in self.variants)}
        if self.improve is not None:
            candidates = tuple(each.public() for each in self.improve.candidates)
            public["improve"] = self.improve.model_copy(update={"candidates": candidates})
        return yaml.safe_dump(
            self.model_copy(update=public).model_dump(mode="json", exclude_none=True),
            sort_keys=False,
            width=120,
            allow_unicode=True,
        )

    def salted(self) -> Experiment:
        """The same experiment with a random salt for its prefix caches, if it asks for one.

        A salt that the file gives stays.
        """
        salt, dataset = self.workload.cache_salt, self.workload.dataset
        if isinstance(salt, str) or not (dataset is not None if salt is None else salt):
            return self
        workload = self.workload.model_copy(update={"cache_salt": secrets.token_hex(8)})
        return self.model_copy(update={"workload": workload})
