"""Everything an experiment needs, looked up and checked before anything slow starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import msgspec

import finetune
import quantize
from dyno.artifacts.artifact import Artifact
from dyno.artifacts.graph import Graph, Outside
from dyno.artifacts.outside import look
from dyno.artifacts.stored import is_done
from dyno.checks.model_code import check_model_code
from dyno.checks.templates import check_templates, served_template
from dyno.experiment.data import check_asked, read_data, read_probe
from dyno.experiment.models import adapter_folder, name_only, resolve_adapter, resolve_model, tokenizer_at_hand, tokenizer_folder
from dyno.experiment.request import endpoint_of
from dyno.experiment.schema import FINETUNE, PREFIX, Experiment, VariantConfig, is_own
from dyno.own_process import isolated
from finetune.config import FinetuneConfig
from foundation.data.examples import Example, PromptStyle, render
from foundation.errors import BadInput
from foundation.files.atomic_write import write_whole
from foundation.models.model import ModelRef
from foundation.models.tokenizer import ModelTokenizer
from foundation.path_fields import resolved
from foundation.progress import Progress
from foundation.run.layout import RunDirectory
from foundation.run.records import PLAIN, Prompt
from loadgen.prompts.datasets import make_prompts, seed_of, sessions_needed
from loadgen.prompts.exact_length import Correction, Wording
from loadgen.schedule.replay import check_replays
from quantize.config import FOUR_BITS
from serve import ServedVariant


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
        return Graph(self.experiment, self.prompts, wordings, frozenset(self.corrections), self.rates, self.outside)

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
        return self.experiment.prompts[finetune.prompt].style if finetune and finetune.prompt else None

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
        return ModelRef(f"{base.id}-pruned", base.revision, self.path(self.graph.pruned(variant), run))

    def served(self, variant: VariantConfig, run: RunDirectory) -> ServedVariant:
        """How the variant will be served; its files need not be there yet."""
        if variant.url:
            return ServedVariant(variant.name, None, elsewhere=endpoint_of(variant, self.experiment.workload.api))
        base, checkpoint = self.base_of(variant), self.graph.checkpoint(variant)
        model = ModelRef(base.id, base.revision, self.path(checkpoint, run)) if checkpoint else base
        rank = self.experiment.finetune.saved_rank if self.experiment.finetune and is_own(variant.adapter) else None
        four_bits = variant.quantize is not None and variant.quantize.method in FOUR_BITS
        adapter = self.adapter_path(variant, run)
        return ServedVariant(
            variant.name,
            model,
            adapter=adapter,
            rank=rank,
            four_bits=four_bits,
            template=served_template(self, variant, adapter, base) if adapter else None,
            api=self.experiment.workload.api,
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
        names = [name for v in self.experiment.variants for name in (v.adapter, v.merge) if name and not is_own(name)]
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


def prepare(experiment: Experiment, where: Path, progress: Progress, *, need_models: bool = True) -> Prepared:
    """Look everything up. `where` is the experiment file's folder; without `need_models`, hub ids stay names (`--dry-run`)."""
    experiment = resolved(experiment, where).salted()
    models: dict[str, ModelRef] = {}
    for variant in experiment.variants:
        if variant.url:
            endpoint_of(variant, experiment.workload.api)
        elif (name := variant.model or experiment.model) not in models:
            models[name] = _model(name, where, progress, need_models)
    if experiment.finetune and experiment.model not in models:
        models[experiment.model] = _model(experiment.model, where, progress, need_models)
    check_model_code(experiment, models)

    train, heldout = read_data(experiment, where, progress)
    check_replays(experiment.workload, progress.log)
    tokenizer = _tokenizer(experiment, models, where, progress)
    prompts = _prompts(experiment, heldout, tokenizer, where, progress)
    prepared = Prepared(experiment, where, models, train, heldout, prompts, tokenizer, {})
    _check_adapters(prepared, progress)
    _check_quantization(prepared)
    check_templates(prepared)
    if need_models or all(model.path.is_dir() for model in models.values()):
        _check_training(prepared, progress)
    return replace(prepared, outside=_outside(prepared))


def _outside(prepared: Prepared) -> Outside:
    """Read last, when everything that can be wrong with it is known not to be."""
    data = {"train": prepared.train, "eval": prepared.heldout}
    return look(prepared.experiment, prepared.models, prepared.adapters_from_outside(), data, prepared.tokenizer)


def _model(name: str, where: Path, progress: Progress, needed: bool) -> ModelRef:
    try:
        return resolve_model(name, where, progress)
    except BadInput:
        if needed or name.startswith((PREFIX, ".", "/")):
            raise
        progress.log(f"{name}: not on this machine; checked by its name only")
        return name_only(name)


def _tokenizer(experiment: Experiment, models: Mapping[str, ModelRef], where: Path, progress: Progress) -> Path | None:
    """The folder whose tokenizer counts: the one named, else the experiment's model where it lies on this machine."""
    name = experiment.workload.tokenizer
    if name is not None:
        return tokenizer_folder(name, where, progress)
    if experiment.model in models:
        folder = models[experiment.model].path
        return folder if (folder / "tokenizer.json").is_file() else None
    return tokenizer_at_hand(experiment.model, where)


def dataset_prompts(
    experiment: Experiment, tokenizer: Path | None, progress: Progress, correction: Correction | None = None
) -> list[Prompt]:
    """The prompts of the workload's dataset, of lengths that the server will count so."""
    workload = experiment.workload
    counted = ModelTokenizer(tokenizer) if tokenizer else None
    wording = Wording(counted, workload.api, seed_of(workload), correction)
    return make_prompts(workload, wording, sessions_needed(workload), progress.log)


def _prompts(
    experiment: Experiment, heldout: list[Example], tokenizer: Path | None, where: Path, progress: Progress
) -> list[Prompt]:
    styles = {v.prompt or PLAIN: experiment.prompts[v.prompt].style if v.prompt else None for v in experiment.variants}
    if experiment.data.prompt:
        return [Prompt("prompt", "eval", {name: [{"role": "user", "content": experiment.data.prompt}] for name in styles})]
    if dataset := experiment.workload.dataset:
        if tokenizer is None and dataset.sharegpt is None:
            progress.log(
                f"{experiment.model}: no tokenizer of it here, so prompts are cut to length by the server's own count; "
                "workload.tokenizer names one"
            )
        prompts = dataset_prompts(experiment, tokenizer, progress)
        styles = {PLAIN: None}
    else:
        check_asked(experiment.quality, "quality", heldout)
        prompts = [_prompt(f"{n:05d}", "eval", example, styles) for n, example in enumerate(heldout)]
    for probe in experiment.quality.probes:
        examples = read_probe(experiment, probe, where, progress)
        check_asked(probe, f"quality.probes.{probe.name}", examples)
        # A probe asks everybody the same words: no prompt style.
        prompts += [
            _prompt(f"{probe.name}-{n:05d}", probe.name, example, dict.fromkeys(styles)) for n, example in enumerate(examples)
        ]
    return prompts


def _prompt(prompt_id: str, group: str, example: Example, styles: dict[str, PromptStyle | None]) -> Prompt:
    return Prompt(prompt_id, group, {name: render(example, style) for name, style in styles.items()}, example.reference)


def _check_training(prepared: Prepared, progress: Progress) -> None:
    """In a process of its own: the tokenizer brings torch along, and this process is to carry the load."""
    if (config := prepared.experiment.finetune) is not None:
        trained = [(prepared.base, prepared.training_style)]
        trained += [(prepared.base_of(v), prepared.wording_of(v)) for v in prepared.experiment.variants if v.is_student]
        told = isolated(
            _check_data, config, prepared.train, prepared.heldout, trained, progress=progress, log=Path(os.devnull)
        )  # fmt: skip
        progress.log(told)


def _check_data(
    config: FinetuneConfig,
    train: list[Example],
    heldout: list[Example],
    trained: list[tuple[ModelRef, PromptStyle | None]],
    *,
    progress: Progress,
) -> str:
    """Every model that will be trained, with the style it is trained in. The data report, as the first one sees the data."""
    reports = [finetune.check(config, base, train, heldout, style) for base, style in trained]
    return reports[0].text()


def _fetch_adapter(name: str, field: str, where: Path, progress: Progress) -> Path:
    try:
        return resolve_adapter(name, where, progress)
    except BadInput as error:
        raise BadInput(f"{field}: {error}") from None


def _check_adapters(prepared: Prepared, progress: Progress) -> None:
    for variant in prepared.experiment.variants:
        for key in ("adapter", "merge"):
            name = getattr(variant, key)
            if name and not is_own(name):
                folder = _fetch_adapter(name, f"variants.{variant.name}.{key}", prepared.where, progress)
                if (base := prepared.base_of(variant)).path.is_dir():
                    for warning in quantize.check_adapter(folder, base):
                        progress.log(f"warning: variants.{variant.name}.{key}: {warning}")


def _check_quantization(prepared: Prepared) -> None:
    for variant in prepared.experiment.variants:
        base = None if variant.url else prepared.base_of(variant)
        if base is None or not base.path.is_dir():
            continue
        if variant.merge:
            quantize.check_merge(base)
        if variant.quantize:
            quantize.check_quantize(base, variant.quantize, prepared.train)


def check_disk(prepared: Prepared, run: RunDirectory) -> None:
    """Raises BadInput where the checkpoints this run will write would not fit."""
    needed = sum(base.size_bytes() for _, base in prepared.unmade(run))
    free = shutil.disk_usage(run.path).free
    if needed > free:
        raise BadInput(
            f"{run.path}: the checkpoints need up to {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free; "
            "make room, or name another disk with --out"
        )


def write_prompts(prompts: list[Prompt], file: Path) -> None:
    encoder = msgspec.json.Encoder()
    write_whole(file, b"".join(encoder.encode(prompt) + b"\n" for prompt in prompts))
