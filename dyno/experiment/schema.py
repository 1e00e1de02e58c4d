"""`experiment.yaml`: the sections of every room, put together and checked against one another."""

from __future__ import annotations

import math
import re
import secrets
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from dyno.experiment.names import check_names
from dyno.experiment.request import RequestConfig, check_variable, without_secrets
from finetune.config import FinetuneConfig
from foundation.data.examples import PromptStyle
from foundation.data.leaks import OnLeak
from foundation.errors import BadInput
from foundation.files.text_file import check_encoding
from foundation.http.endpoint import ADDRESS
from foundation.names import Name
from foundation.path_fields import FileOrName, PathField
from foundation.run.records import PLAIN
from foundation.section import Section, nearest
from foundation.units import Seconds, Share
from loadgen.config import WorkloadConfig
from quantize.config import QuantizeConfig
from results.config import BudgetConfig, PlanConfig, QualityConfig, ResolutionConfig, Slo
from serve.config import ServeConfig

FINETUNE = "finetune"
PREFIX = "bundled:"
_OWN = re.compile(rf"{FINETUNE}(/epoch-(?P<epoch>[1-9]\d*))?")


def is_own(name: str | None) -> bool:
    """Whether an adapter's name means one that the experiment trains itself: "finetune", or "finetune/epoch-2"."""
    return name is not None and _OWN.fullmatch(name) is not None


Adapter = Annotated[str, PathField(or_name=True, unless=is_own)]


class DataConfig(Section):
    """Where the examples are, or one `prompt` to repeat.

    A file of JSON, CSV or Parquet, relative to the experiment file; `bundled:NAME/FILE`; `hub:ORG/NAME:SPLIT`. `columns`
    says which of its columns stand for ours: `{prompt: text, completion: label}`; `ignore` names keys to leave out, of lines
    and of messages (of probes too); `encoding` is that of text files, where it is not UTF-8. `on_leak`: what becomes of
    training examples whose prompt is held out too.
    """

    train: FileOrName | None = None
    eval: FileOrName | None = None
    prompt: str | None = None
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
    def _bare_text(cls, value: Any) -> Any:
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
        return PromptStyle(self.user, self.system)


class VariantConfig(Section):
    """One thing on the bench. `adapter` and `merge` take "finetune" (this experiment's own, or "finetune/epoch-1") or a folder.

    None of adapter, merge, model, url: the experiment's model as it is. `quantize` works on what is merged, or on the model.
    `prune` leaves out that share of the layers and heals the rest by fine-tuning; `distil` names the variant whose answers are
    learned instead of the data's. Both are trained as the section finetune says, and merged.
    """

    name: Name
    prompt: str | None = None
    model: FileOrName | None = None
    adapter: Adapter | None = None
    merge: Adapter | None = None
    quantize: QuantizeConfig | None = None
    prune: Share | None = None
    distil: str | None = None
    url: str | None = Field(default=None, pattern=rf"{ADDRESS}|^\$\{{\w+\}}")
    api_key_env: str | None = None
    request: RequestConfig | None = None

    @field_validator("api_key_env")
    @classmethod
    def _variable(cls, value: str | None) -> str | None:
        return None if value is None else check_variable(value)

    @model_validator(mode="after")
    def _one_origin(self) -> VariantConfig:
        if self.adapter and self.merge:
            raise ValueError("adapter (served beside its base) or merge (folded into it), not both")
        if self.adapter and self.quantize:
            raise ValueError(
                "an adapter is served on the unquantized base; write merge instead of adapter to quantize it"
            )
        if self.is_student and (self.adapter or self.merge):
            raise ValueError(
                "prune and distil train an adapter of their own and merge it: leave out adapter and merge"
            )
        if self.distil and self.prune is None and not self.model:
            raise ValueError(
                "distil teaches a smaller model: write which (model), or the share of layers to leave out (prune)"
            )
        if self.url and (self.adapter or self.is_made):
            raise ValueError(
                "a url is served elsewhere: leave out adapter, merge, prune, distil and quantize"
            )
        if self.url and not self.model:
            raise ValueError("a url needs model, the name its server knows the model by")
        if self.api_key_env and not self.url:
            raise ValueError("api_key_env belongs to a url")
        if self.request and not self.url:
            raise ValueError(
                "request belongs to a url: what dyno serves itself takes its requests as they are"
            )
        return self

    def public(self) -> VariantConfig:
        """As a run directory keeps it, without what is secret in its address and request."""
        if self.url is None:
            return self
        url, request = without_secrets(self.url, self.request)
        return self.model_copy(update={"url": url, "request": request})

    @property
    def is_student(self) -> bool:
        """Whether it is trained for itself: pruned and healed, or taught by another variant."""
        return self.prune is not None or self.distil is not None

    @property
    def is_made(self) -> bool:
        """Whether a checkpoint has to be written for it."""
        return self.is_student or self.merge is not None or self.quantize is not None


class UntilDecided(Section):
    """Go on adding blocks until all that is asked of the variants is settled, or `max_time` of load is over.

    Judged at most `looks` times, each after half as many blocks again; the 5 % of error are shared among the looks.
    """

    max_time: Seconds = 1800.0
    looks: int = Field(default=5, ge=2)

    def block_counts(self, blocks: int) -> list[int]:
        """How many blocks there are at the second look and after: 15, 23, 34, 51 for 10 blocks and five looks."""
        return [math.ceil(blocks * 1.5**look) for look in range(1, self.looks)]


class Experiment(Section):
    """The whole file.

    `trust_remote_code`: whether Python code that a model brings along is run, in every stage that can.
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

    @model_validator(mode="before")
    @classmethod
    def _code_in_every_stage(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("trust_remote_code") is not True:
            return value
        stages = {name: value.get(name) for name in ("finetune", "serve")} | {
            "serve": value.get("serve", {})
        }
        told = {
            name: {"trust_remote_code": True, **stage}
            for name, stage in stages.items()
            if isinstance(stage, dict)
        }
        return {**value, **told}

    @model_validator(mode="after")
    def _fits_together(self) -> Experiment:
        names = [variant.name for variant in self.variants]
        stages, probes = self.workload.stages, self.quality.probes
        check_names(
            names, [stage.label for stage in stages], [probe.name for probe in probes], self.prompts
        )
        if self.baseline not in names:
            raise ValueError(
                f"baseline: {self.baseline!r} is no variant{nearest(self.baseline, names)}"
            )
        styles = [("finetune.prompt", self.finetune.prompt if self.finetune else None)]
        styles += [(f"variants.{i}.prompt", v.prompt) for i, v in enumerate(self.variants)]
        for where, style in styles:
            if style is not None and style not in self.prompts:
                raise ValueError(f"{where}: {style!r} is no prompt{nearest(style, self.prompts)}")
        for i, variant in enumerate(self.variants):
            self._check_training(f"variants.{i}", variant, names[:i])
        if self.workload.dataset is None and (self.data.eval is None) == (self.data.prompt is None):
            raise ValueError(
                "data: write eval, the held-out examples to ask, or prompt, one text to repeat"
            )
        if self.workload.dataset is not None and PLAIN in names:
            raise ValueError(
                f"variants.{names.index(PLAIN)}.name: {PLAIN!r} is how a dataset's prompts are worded; write another"
            )
        if self.workload.dataset is not None and self.data.prompt is not None:
            raise ValueError(
                "data.prompt: workload.dataset says what is asked; leave one of them out"
            )
        if self.finetune and not self.data.train:
            raise ValueError("data.train: finetune needs examples to learn from")
        for i, stage in enumerate(self.workload.stages):
            if (relative := stage.relative_rate) and relative.of not in names:
                raise ValueError(
                    f"workload.stages.{i}.rate.of: {relative.of!r} is no variant{nearest(relative.of, names)}"
                )
        if self.resolution and self.until_decided:
            raise ValueError(
                "resolution: until_decided adds blocks by the verdict, resolution by a plan; leave one out"
            )
        if self.resolution and len(self.variants) < 2:
            raise ValueError(
                "resolution: there is nothing to compare with the baseline; add a variant"
            )
        return self

    def _check_training(self, where: str, variant: VariantConfig, before: list[str]) -> None:
        """There is a section finetune where it is needed, a server takes the adapter, a teacher comes before its student."""
        key = "adapter" if variant.adapter else "merge"
        own = _OWN.fullmatch(variant.adapter or variant.merge or "")
        if self.finetune is None:
            if own:
                raise ValueError(
                    f"{where}.{key}: there is no section finetune; add it, or name an adapter folder"
                )
            if variant.is_student:
                raise ValueError(
                    f"{where}.{'prune' if variant.prune is not None else 'distil'}: there is no section finetune; add it"
                )
            return
        if (
            own
            and own["epoch"]
            and int(own["epoch"]) > self.finetune.epochs
            and not self.finetune.max_steps
        ):
            raise ValueError(
                f"{where}.{key}: epoch {own['epoch']} of {self.finetune.epochs}; finetune.epochs has no such one"
            )
        if own and variant.adapter and (why := self.finetune.why_only_merged):
            raise ValueError(f"{where}.adapter: {why}; write merge instead of adapter")
        if variant.distil and variant.distil not in before:
            raise ValueError(
                f"{where}.distil: {variant.distil!r} is no variant that stands before it{nearest(variant.distil, before)}"
            )

    @property
    def judged_stage(self) -> str:
        """The stage the verdict is made on: the first open-loop one, else the first."""
        stages = self.workload.stages
        return next((s for s in stages if s.open_loop), stages[0]).label

    def measured_until(
        self, decided: bool, resolution: str | None, max_time: str | None
    ) -> Experiment:
        """The same experiment with what the command line says of its length. Raises BadInput for what can't be."""
        if max_time is not None and not decided and resolution is None:
            raise BadInput("--max-time goes with --until-decided or --resolution")
        time = {"max_time": max_time} if max_time is not None else {}
        update: dict[str, Any] = {}
        try:
            if decided:
                update["until_decided"] = UntilDecided.model_validate(time)
            if resolution is not None:
                update["resolution"] = ResolutionConfig.model_validate(
                    {"change": resolution, **time}
                )
            return Experiment.model_validate({**dict(self), **update})
        except ValidationError as error:
            problem = error.errors()[0]
            option = (
                "--max-time: "
                if "max_time" in problem["loc"]
                else "--resolution: "
                if "change" in problem["loc"]
                else "--"
            )
            raise BadInput(f"{option}{problem['msg'].removeprefix('Value error, ')}") from None

    def as_yaml(self) -> str:
        """The file that reads back as this experiment, every default written out and references in place of secrets."""
        public = self.model_copy(
            update={"variants": tuple(variant.public() for variant in self.variants)}
        )
        return yaml.safe_dump(
            public.model_dump(mode="json", exclude_none=True),
            sort_keys=False,
            width=120,
            allow_unicode=True,
        )

    def salted(self) -> Experiment:
        """The same experiment with the salt of its prefix caches drawn, where it has none of its own and wants one."""
        salt, dataset = self.workload.cache_salt, self.workload.dataset
        if isinstance(salt, str) or not (dataset is not None if salt is None else salt):
            return self
        return self.model_copy(
            update={
                "workload": self.workload.model_copy(update={"cache_salt": secrets.token_hex(8)})
            }
        )
