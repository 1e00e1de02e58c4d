"""The blocks of load that measure an engine's step times: synthetic prompts of exact lengths."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from pathlib import Path

from dyno.estimates.stages import TOKENS_PER_CHARACTER
from dyno.pipeline.blocks import LoadBlock, variants_named
from dyno.pipeline.prepare import dataset_prompts
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.prompt_lengths import measured_correction
from foundation.models.model import ModelRef
from foundation.models.tokenizer import ModelTokenizer
from foundation.progress import Progress, Silent
from foundation.run.layout import RunDirectory
from foundation.run.records import PLAIN, Prompt
from loadgen import questions_of
from loadgen.config import Stage, WorkloadConfig
from loadgen.dataset_config import Dataset
from loadgen.prompts.exact_length import Correction, Wording
from results.capacity.model.loads import ModelLoad

LEAST_CONTEXT = 1024
"""Requests of the loads are up to as long as those of the workload, and at least as this."""
_SALT = "model"


def load_block(
    prepared: Prepared, name: str, number: int, load: ModelLoad, out: RunDirectory
) -> LoadBlock:
    """The block of a variant's load `number` (from 1). Its name says what the load is."""
    workload = _workload(prepared.experiment.workload, number, load)
    prompts = _prompts(prepared, name, workload)
    variant = variants_named(prepared, [name])[name]
    return LoadBlock(
        variant=name,
        style=PLAIN,
        stage=workload.stages[0],
        block=1,
        questions=questions_of(prompts, PLAIN),
        workload=workload,
        journal=out.model_load(name, number),
        tokenizer=prepared.tokenizer,
        identity=prepared.graph.model_loads(variant).identity,
        on_one=True,
    )


def shortest_prompt(prepared: Prepared, name: str) -> int:
    """Tokens of a variant's shortest prompt that differs from others, chat template included."""
    counter = ModelTokenizer(prepared.tokenizer) if prepared.tokenizer else None
    api = prepared.experiment.workload.api
    return Wording(counter, api, [0], prepared.corrections.get(name)).shortest


def longest_request(prepared: Prepared, name: str) -> int:
    """Tokens of the longest request of the loads: the workload's own, within the model's limit."""
    experiment = prepared.experiment
    variant = variants_named(prepared, [name])[name]
    limits = [experiment.serve_of(variant).max_model_len]
    if variant.url is None:
        limits.append(_positions(prepared.base_of(variant)))
    own = [_tokens(prompt, experiment.workload.sampling.max_tokens) for prompt in prepared.prompts]
    return min([max([LEAST_CONTEXT, *own]), *(limit for limit in limits if limit is not None)])


def _positions(model: ModelRef) -> int | None:
    positions = model.config().get("max_position_embeddings")
    return positions if isinstance(positions, int) else None


def _tokens(prompt: Prompt, max_tokens: int) -> int:
    """The tokens of a request, from the text's length where they are not known."""
    texts = max((sum(len(m["content"]) for m in each) for each in prompt.messages.values()),
                default=0)  # fmt: skip
    estimate = ceil(texts * TOKENS_PER_CHARACTER)
    return (prompt.input_tokens or estimate) + (prompt.output_tokens or max_tokens)


def with_correction(prepared: Prepared, name: str, journal: Path, load: ModelLoad) -> Prepared:
    """The experiment with prompts whose lengths the server's own counts in a load correct."""
    workload = _workload(prepared.experiment.workload, 1, load)
    sent = replace(prepared, prompts=_prompts(prepared, name, workload))
    correction = measured_correction(sent, name, journal)
    if correction is None:
        return prepared
    return replace(prepared, corrections={**prepared.corrections, name: correction})


def _workload(workload: WorkloadConfig, number: int, load: ModelLoad) -> WorkloadConfig:
    """The workload of one load. Its salt draws words of its own, which no cache knows."""
    answers = f"uniform:{load.shortest_answer}:{load.longest_answer}"
    dataset = Dataset.model_validate(
        {"synthetic": {"input_tokens": load.input_tokens, "output_tokens": answers}}
    )
    stage = Stage.model_validate(
        {
            "name": load.label,
            "concurrency": load.in_flight,
            "requests": load.requests,
            "warmup": "0s",
        }
    )
    salt = workload.cache_salt if isinstance(workload.cache_salt, str) else ""
    return workload.model_copy(
        update={
            "dataset": dataset,
            "stages": (stage,),
            "blocks": 1,
            "cache_salt": f"{salt}/{_SALT}/{number}",
            "sampling": workload.sampling.model_copy(update={"stop": ()}),
        }
    )


def _prompts(prepared: Prepared, name: str, workload: WorkloadConfig) -> list[Prompt]:
    experiment = prepared.experiment.model_copy(update={"workload": workload})
    correction: Correction | None = prepared.corrections.get(name)
    progress: Progress = Silent()
    return dataset_prompts(experiment, prepared.tokenizer, progress, correction)
