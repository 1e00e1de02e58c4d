"""Loads and checks everything that an experiment needs, before anything slow starts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

import finetune
import quantize
from dyno.artifacts.external_contents import read_externals
from dyno.artifacts.externals import Externals
from dyno.checks.model_code import check_model_code
from dyno.checks.templates import check_templates
from dyno.experiment.bundled import PREFIX
from dyno.experiment.data import check_requests, read_data, read_probe
from dyno.experiment.endpoints import endpoint_of
from dyno.experiment.models import (
    name_only,
    resolve_adapter,
    resolve_model,
    tokenizer_at_hand,
    tokenizer_folder,
)
from dyno.experiment.schema import Experiment
from dyno.experiment.variants import is_own
from dyno.own_process import isolated
from dyno.pipeline.capacity import check_plan
from dyno.pipeline.prepared import Prepared
from foundation.data.examples import Example, PromptStyle, render
from foundation.errors import BadInput
from foundation.files.atomic_write import write_whole
from foundation.files.disk_space import free_bytes
from foundation.models.model import ModelRef
from foundation.models.tokenizer import ModelTokenizer
from foundation.path_fields import resolved
from foundation.progress import Progress
from foundation.run.layout import RunDirectory
from foundation.run.records import PLAIN, Prompt
from loadgen.prompts.datasets import make_prompts, seed_of, sessions_needed
from loadgen.prompts.exact_length import Correction, Wording
from loadgen.schedule.replay import check_replays
from serve.vllm.options import begin_import


def prepare(
    experiment: Experiment, where: Path, progress: Progress, *, need_models: bool = True
) -> Prepared:
    """The experiment with its models, examples and prompts.

    `where`: the experiment file's folder. Without `need_models`, missing models of the hub stay
    names (`--dry-run`). Raises BadInput for mistakes.
    """
    experiment = resolved(experiment, where).salted()
    if any(experiment.serve_of(v).engine for v in experiment.variants if not v.url):
        begin_import()  # vLLM checks these options later
    check_plan(experiment.plan)
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
    return replace(prepared, externals=_outside(prepared))


def _outside(prepared: Prepared) -> Externals:
    """Read last, when everything that can be wrong with it is known not to be."""
    data = {"train": prepared.train, "eval": prepared.heldout}
    return read_externals(
        prepared.experiment,
        prepared.models,
        prepared.external_adapters(),
        data,
        prepared.tokenizer,
    )


def _model(name: str, where: Path, progress: Progress, needed: bool) -> ModelRef:
    try:
        return resolve_model(name, where, progress)
    except BadInput:
        if needed or name.startswith((PREFIX, ".", "/")):
            raise
        progress.log(f"{name}: not on this machine; checked by its name only")
        return name_only(name)


def _tokenizer(
    experiment: Experiment, models: Mapping[str, ModelRef], where: Path, progress: Progress
) -> Path | None:
    """The folder of the tokenizer that counts: `workload.tokenizer`, else that of the model."""
    name = experiment.workload.tokenizer
    if name is not None:
        return tokenizer_folder(name, where, progress)
    if experiment.model in models:
        folder = models[experiment.model].path
        return folder if (folder / "tokenizer.json").is_file() else None
    return tokenizer_at_hand(experiment.model, where)


def dataset_prompts(
    experiment: Experiment,
    tokenizer: Path | None,
    progress: Progress,
    correction: Correction | None = None,
) -> list[Prompt]:
    """The prompts of the workload's dataset.

    `correction`: how a server's token counts differ from those of the `tokenizer`.
    """
    workload = experiment.workload
    counter = ModelTokenizer(tokenizer) if tokenizer else None
    wording = Wording(counter, workload.api, seed_of(workload), correction)
    return make_prompts(workload, wording, sessions_needed(workload), progress.log)


def _prompts(
    experiment: Experiment,
    heldout: list[Example],
    tokenizer: Path | None,
    where: Path,
    progress: Progress,
) -> list[Prompt]:
    """The prompts of data, dataset and probes, in every style of a variant."""
    styles = {
        v.prompt or PLAIN: experiment.prompts[v.prompt].style if v.prompt else None
        for v in experiment.variants
    }
    if text := experiment.data.prompt:
        messages = {name: [{"role": "user", "content": text}] for name in styles}
        prompts = [Prompt("prompt", "eval", messages)]
    elif dataset := experiment.workload.dataset:
        if tokenizer is None and dataset.sharegpt is None:
            progress.log(
                f"{experiment.model}: no tokenizer of it here, "
                "so prompts are cut to length by the server's own count; "
                "workload.tokenizer names one"
            )
        prompts = dataset_prompts(experiment, tokenizer, progress)
        styles = {PLAIN: None}
    else:
        check_requests(experiment.quality, "quality", heldout)
        prompts = [
            _prompt(f"{n:05d}", "eval", example, styles) for n, example in enumerate(heldout)
        ]
    for probe in experiment.quality.probes:
        examples = read_probe(experiment, probe, where, progress)
        check_requests(probe, f"quality.probes.{probe.name}", examples)
        # A probe asks all variants the same words, so it has no prompt style.
        prompts += [
            _prompt(f"{probe.name}-{n:05d}", probe.name, example, dict.fromkeys(styles))
            for n, example in enumerate(examples)
        ]
    return prompts


def _prompt(
    prompt_id: str, group: str, example: Example, styles: dict[str, PromptStyle | None]
) -> Prompt:
    return Prompt(
        prompt_id,
        group,
        {name: render(example, style) for name, style in styles.items()},
        example.reference,
    )


def _check_training(prepared: Prepared, progress: Progress) -> None:
    """Checks the training data in a process of its own, since it loads torch."""
    jobs = [(each.where, each.job) for each in prepared.trainings()]
    for variant in prepared.experiment.variants:
        if variant.is_student:
            jobs.append((f"variants.{variant.name}", prepared.student_job(variant)))
    if jobs:
        progress.log(isolated(check_trainings, jobs, progress=progress, log=Path(os.devnull)))


def check_trainings(jobs: Sequence[tuple[str, finetune.TrainingJob]], *, progress: Progress) -> str:
    """Checks the data for every model to train, and returns the data report of the first.

    `jobs`: with the place of their settings in the experiment, which errors begin with.
    """
    reports = []
    for where, job in jobs:
        try:
            reports.append(finetune.check(job))
        except BadInput as error:
            raise BadInput(str(error) if where == "finetune" else f"{where}: {error}") from None
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
                folder = _fetch_adapter(
                    name, f"variants.{variant.name}.{key}", prepared.where, progress
                )
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
    """Raises BadInput if the checkpoints that this run will write need more space than is free."""
    needed = sum(base.size_bytes() for _, base in prepared.unmade(run))
    free = free_bytes(run.path)
    if needed > free:
        raise BadInput(
            f"{run.path}: the checkpoints need up to {needed / 1e9:.1f} GB "
            f"and the disk has {free / 1e9:.1f} GB free; "
            "make room, or name another disk with --out"
        )


def write_prompts(prompts: Sequence[Prompt], file: Path) -> None:
    """Writes prompts as JSON lines."""
    encoder = msgspec.json.Encoder()
    write_whole(file, b"".join(encoder.encode(prompt) + b"\n" for prompt in prompts))
