"""Estimates the duration of each stage of an experiment from earlier stages on this machine.

Without a similar stage, the processor's measured speed gives a wide range. For an accelerator of
another machine, figures typical of its kind do.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dyno.estimates.machine_speed import NOTHING, Kind, Pace, Range, Speed
from dyno.experiment.variants import FINETUNE, VariantConfig
from dyno.pipeline.prepared import Prepared
from finetune.job import TrainingJob
from foundation.models.model import ModelRef
from loadgen import planned_requests
from loadgen.config import Stage
from loadgen.schedule.arrivals import SECOND, schedule, warmup_of
from results.capacity.model.loads import BUDGET_S
from serve import ServePlan

Basis = Literal[
    "seen here", "from this processor's speed", "typical, not measured here", "its time limit"
]

TOKENS_PER_CHARACTER = 0.25
BYTES_PER_PARAMETER = 2
# A multiply-add forward and one back for the activations; LoRA needs none for the frozen weights.
TRAINING_FLOPS = 4
# Training kernels reach between this share of the measured speed and all of it; serving likewise.
TRAINING_EFFICIENCY = 0.2
SERVING_EFFICIENCY = 0.3
# The smallest and largest batch of a busy server, in requests.
BATCH = (2, 8)
# The length of the shortest answer, as a share of the most tokens that it may have.
SHORTEST_ANSWER = 0.1
TYPICAL_SPEED = {
    "cpu": Speed(flops=3e11, bytes_per_s=1e10),
    "cuda": Speed(flops=4e14, bytes_per_s=2e12),
}
TRAINING_START_S = Range(5.0, 40.0)
SERVER_START_S = {"cpu": Range(15.0, 90.0), "cuda": Range(30.0, 240.0)}
CHECKPOINT_BYTES_PER_S = (2e7, 3e8)


@dataclass(frozen=True)
class StageEstimate:
    """A stage, what it does, and its `seconds`; None if a server elsewhere decides them."""

    kind: Kind
    stage: str
    what: str
    seconds: Range | None
    basis: Basis


def estimate_stages(
    prepared: Prepared, plan: ServePlan, pace: Pace, there: Container[str] = ()
) -> list[StageEstimate]:
    """The estimates of all stages of an experiment, in their order.

    `there`: identities of adapters and checkpoints that need not be made.
    """
    return [
        *_training(prepared, pace, there),
        *_checkpoints(prepared, pace, there),
        *_servers(plan, pace),
        *_load(prepared, plan, pace),
    ]


def total(stages: Sequence[StageEstimate]) -> Range:
    """The sum of the estimates that are known."""
    return sum((s.seconds for s in stages if s.seconds is not None), start=NOTHING)


def training_tokens(job: TrainingJob) -> float:
    """The tokens of a training in all epochs, from the texts' length."""
    if not job.train:
        return 0.0
    characters = float(np.mean([len(e.key) + len(e.completion) for e in job.train]))
    return job.config.examples_seen(len(job.train)) * min(
        characters * TOKENS_PER_CHARACTER, job.config.max_length
    )


def model_bytes(model: ModelRef, plan: ServePlan) -> int:
    """The size of a model's weights, from its files, or from the plan if it is not here."""
    if model.path.is_dir():
        return model.size_bytes()
    return max((server.memory.weights for server in plan.servers), default=0)


def _basis(seen: Range | None, pace: Pace) -> Basis:
    if seen is not None:
        return "seen here"
    return "from this processor's speed" if pace.speed else "typical, not measured here"


def _speed(pace: Pace) -> Speed:
    return pace.speed or TYPICAL_SPEED[pace.device]


def _training(prepared: Prepared, pace: Pace, there: Container[str]) -> list[StageEstimate]:
    def estimate(job: TrainingJob, what: str) -> StageEstimate:
        tokens = training_tokens(job)
        size = job.base.size_bytes() if job.base.path.is_dir() else 0
        seen = pace.of("finetune", tokens, size)
        work = TRAINING_FLOPS * size / BYTES_PER_PARAMETER * tokens / _speed(pace).flops
        seconds = seen or Range(work, work / TRAINING_EFFICIENCY) + TRAINING_START_S
        return StageEstimate("finetune", "finetune", what, seconds, _basis(seen, pace))

    stages = []
    for training in prepared.trainings():
        if training.adapter.identity in there:
            continue
        config = training.job.config
        examples = min(len(prepared.train), config.limit or len(prepared.train))
        what = f"{examples:,} examples, {config.length}, {config.method} rank {config.rank}"
        owner = training.adapter.name.removeprefix("adapters/")
        what = what if owner == FINETUNE else f"{owner}: {what}"
        stages.append(estimate(training.job, what))
    for variant in (v for v in prepared.experiment.variants if v.is_student):
        if prepared.graph.student(variant).identity in there:
            continue
        job = prepared.student_job(variant)
        parts = [f"less {variant.prune:.0%} of the layers"] if variant.prune else []
        parts += [f"on the answers of {variant.distil}"] if variant.distil else []
        stages.append(estimate(job, f"{variant.name}: {', '.join(parts)}"))
    return stages


def _checkpoints(prepared: Prepared, pace: Pace, there: Container[str]) -> list[StageEstimate]:
    graph = prepared.graph
    bases = {
        graph.place(artifact).removeprefix("checkpoints/"): prepared.base_of(variant)
        for variant in prepared.experiment.variants
        for artifact in (graph.merged(variant), graph.quantized(variant))
        if artifact and artifact.identity not in there
    }
    if not bases:
        return []
    sizes = [base.size_bytes() for base in bases.values() if base.path.is_dir()]
    seen = pace.of("checkpoint", sum(sizes), max(sizes, default=0))
    slow, fast = CHECKPOINT_BYTES_PER_S
    seconds = seen or Range(sum(sizes) / fast, sum(sizes) / slow) + TRAINING_START_S
    names = ", ".join(sorted(bases))
    return [StageEstimate("checkpoint", "quantize", names, seconds, _basis(seen, pace))]


def _servers(plan: ServePlan, pace: Pace) -> list[StageEstimate]:
    count = len(plan.servers)
    if not count:
        return []
    seen = pace.of("server", count, max(server.memory.weights for server in plan.servers))
    each = SERVER_START_S[pace.device]
    seconds = seen or Range(each.low * max(1.0, count / plan.starts_together), each.high * count)
    what = f"{count} server{'' if count == 1 else 's'}, {plan.residency}"
    return [StageEstimate("server", "serve", what, seconds, _basis(seen, pace))]


def _load(prepared: Prepared, plan: ServePlan, pace: Pace) -> list[StageEstimate]:
    experiment = prepared.experiment
    workload, variants = experiment.workload, experiment.variants
    stages = []
    for stage in workload.stages:
        n = planned_requests(stage.in_block(1), workload.seed, 1, workload.warmup)
        size = f"{n:,} requests" if n else f"{stage.duration:g} s"
        blocks = f"{workload.blocks} blocks x {len(variants)} variants"
        what = f"{stage.label}: {_offered(stage)}, {size} a block, {blocks}"
        parts = [_block(prepared, plan, pace, stage, n, variant) for variant in variants]
        seconds = _times(parts, workload.blocks)
        seen = all(_seen(prepared, plan, pace, n, v) is not None for v in variants if not v.url)
        basis: Basis = "seen here" if seen else _basis(None, pace)
        stages.append(StageEstimate("load", "load", what, seconds, basis))
    if questions := sum(prompt.set != "eval" for prompt in prepared.prompts):
        parts = [_busy(prepared, plan, pace, questions, v) for v in variants]
        what = f"{questions} questions x {len(variants)} variants"
        stages.append(StageEstimate("load", "probe", what, _times(parts, 1), _basis(None, pace)))
    if workload.model:
        most_s = BUDGET_S * len(variants)
        what = f"loads for step times x {len(variants)} variants"
        whole = Range(most_s, most_s)
        stages.append(StageEstimate("load", "model", what, whole, "its time limit"))
    return stages


def _times(parts: Sequence[Range | None], blocks: int) -> Range | None:
    """The seconds of all variants' blocks; None if one is not known."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    one = sum(known, start=NOTHING)
    return Range(one.low * blocks, one.high * blocks)


def _offered(stage: Stage) -> str:
    """The load of a stage in words."""
    if relative := stage.relative_rate:
        return f"{relative.share:.0%} of what {relative.of} holds"
    if stage.fixed_rate:
        return f"{stage.fixed_rate:g} requests/s"
    return f"{stage.concurrency} in flight" if stage.concurrency else "replayed"


def _block(
    prepared: Prepared,
    plan: ServePlan,
    pace: Pace,
    stage: Stage,
    n: int | None,
    variant: VariantConfig,
) -> Range | None:
    """The seconds of one block: those of the schedule, or of the server if it takes longer."""
    workload = prepared.experiment.workload
    warmup = warmup_of(stage, workload.warmup)
    scheduled = stage.duration or (
        stage.requests / stage.fixed_rate if stage.fixed_rate and stage.requests else 0.0
    )
    if stage.trace:
        timetable = schedule(stage.in_block(1), workload.seed, 1, workload.warmup)
        scheduled = (timetable.window_end_ns - timetable.window_start_ns) / SECOND
    busy = _busy(prepared, plan, pace, n, variant) if n else NOTHING
    if busy is None:
        if not stage.open_loop and stage.duration is None:
            return None
        return Range(scheduled + warmup, scheduled + warmup)
    if stage.open_loop and scheduled:  # a server that keeps up takes as long as the schedule
        busy = Range(0.0, busy.high)
    seconds = busy.at_least(scheduled)
    return Range(seconds.low + warmup, seconds.high + warmup)


def _tokens(prepared: Prepared, variant: VariantConfig) -> tuple[float, Range]:
    """The input tokens of a request, and the fewest and most tokens of its answer."""
    style = prepared.style_of(variant)
    prompts = [p for p in prepared.prompts if p.set == "eval"]
    characters = [sum(len(m["content"]) for m in p.messages.get(style, ())) for p in prompts]
    inputs = float(np.mean(characters)) * TOKENS_PER_CHARACTER if characters else 0.0
    exact = [p.output_tokens for p in prompts if p.output_tokens is not None]
    if exact:
        return inputs, Range(float(np.mean(exact)), float(np.mean(exact)))
    most = float(prepared.experiment.workload_of(variant).sampling.max_tokens)
    return inputs, Range(SHORTEST_ANSWER * most, most)


def _seen(
    prepared: Prepared, plan: ServePlan, pace: Pace, n: int | None, variant: VariantConfig
) -> Range | None:
    inputs, answer = _tokens(prepared, variant)
    size = model_bytes(prepared.base_of(variant), plan)
    low = pace.of("load", (n or 0) * (inputs + answer.low), size)
    high = pace.of("load", (n or 0) * (inputs + answer.high), size)
    return Range(low.low, high.high) if low and high else None


def _busy(
    prepared: Prepared, plan: ServePlan, pace: Pace, n: int, variant: VariantConfig
) -> Range | None:
    """The seconds that a server of ours needs for `n` requests; None for a server elsewhere."""
    if variant.url:
        return None
    if seen := _seen(prepared, plan, pace, n, variant):
        return seen
    size, speed = model_bytes(prepared.base_of(variant), plan), _speed(pace)
    inputs, answer = _tokens(prepared, variant)
    prefill = 2 * size / BYTES_PER_PARAMETER * inputs / speed.flops
    decode = size / speed.bytes_per_s
    low = prefill + answer.low * decode / BATCH[1]
    high = (prefill + answer.high * decode / BATCH[0]) / SERVING_EFFICIENCY
    return Range(n * low, n * high)
