"""How long each stage of an experiment will take: a range, from what this machine did before.

Where nothing like it was done here, the processor's measured speed gives a wide range, and for an
accelerator that is not at hand, figures typical of its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dyno.estimates.machine_speed import NOTHING, Kind, Pace, Range, Speed
from dyno.experiment.variants import VariantConfig
from dyno.pipeline.prepared import Prepared
from foundation.models.model import ModelRef
from loadgen import planned_requests
from loadgen.config import Stage
from loadgen.schedule.arrivals import SECOND, schedule, warmup_of
from serve import ServePlan

Basis = Literal["seen here", "from this processor's speed", "typical, not measured here"]

TOKENS_PER_CHARACTER = 0.25
BYTES_PER_PARAMETER = 2
# A multiply-add forward and one back for the activations; LoRA needs none for the frozen weights.
TRAINING_FLOPS = 4
# Kernels of training reach between this share of the measured speed and all of it, those of serving likewise.
TRAINING_EFFICIENCY = 0.2
SERVING_EFFICIENCY = 0.3
# Requests that a busy server decodes together, at least and at most.
BATCH = (2, 8)
# Of the tokens an answer may have, the share that it is sure to have.
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
    """A stage, what it does, and its `seconds`; None where they hang on a server that is not ours."""

    kind: Kind
    stage: str
    what: str
    seconds: Range | None
    basis: Basis


def estimate_stages(prepared: Prepared, plan: ServePlan, pace: Pace) -> list[StageEstimate]:
    """Every stage of an experiment in the order they run."""
    return [
        *_training(prepared, pace),
        *_checkpoints(prepared, pace),
        *_servers(plan, pace),
        *_load(prepared, plan, pace),
    ]


def total(stages: Sequence[StageEstimate]) -> Range:
    """All stages whose time can be known."""
    return sum((s.seconds for s in stages if s.seconds is not None), start=NOTHING)


def training_tokens(prepared: Prepared) -> float:
    """Tokens that the experiment's own adapter is trained on, all epochs together, by the length of the texts."""
    config = prepared.experiment.finetune
    if config is None or not prepared.train:
        return 0.0
    characters = float(np.mean([len(e.key) + len(e.completion) for e in prepared.train]))
    return config.examples_seen(len(prepared.train)) * min(
        characters * TOKENS_PER_CHARACTER, config.max_length
    )


def model_bytes(model: ModelRef, plan: ServePlan) -> int:
    """The weights of a model, by its files, or as its name told the plan."""
    if model.path.is_dir():
        return model.size_bytes()
    return max((server.memory.weights for server in plan.servers), default=0)


def _basis(seen: Range | None, pace: Pace) -> Basis:
    if seen is not None:
        return "seen here"
    return "from this processor's speed" if pace.speed else "typical, not measured here"


def _speed(pace: Pace) -> Speed:
    return pace.speed or TYPICAL_SPEED[pace.device]


def _training(prepared: Prepared, pace: Pace) -> list[StageEstimate]:
    config = prepared.experiment.finetune
    if config is None:
        return []
    tokens = training_tokens(prepared)

    def estimate(base: ModelRef, what: str) -> StageEstimate:
        size = base.size_bytes() if base.path.is_dir() else 0
        seen = pace.of("finetune", tokens, size)
        work = TRAINING_FLOPS * size / BYTES_PER_PARAMETER * tokens / _speed(pace).flops
        seconds = seen or Range(work, work / TRAINING_EFFICIENCY) + TRAINING_START_S
        return StageEstimate("finetune", "finetune", what, seconds, _basis(seen, pace))

    examples = min(len(prepared.train), config.limit or len(prepared.train))
    how = f"{examples:,} examples, {config.length}, {config.method} rank {config.rank}"
    stages = [estimate(prepared.base, how)]
    for variant in (v for v in prepared.experiment.variants if v.is_student):
        taught = [f"less {variant.prune:.0%} of the layers"] if variant.prune else []
        taught += [f"on the answers of {variant.distil}"] if variant.distil else []
        stages.append(estimate(prepared.base_of(variant), f"{variant.name}: {', '.join(taught)}"))
    return stages


def _checkpoints(prepared: Prepared, pace: Pace) -> list[StageEstimate]:
    graph = prepared.graph
    made = [
        (v, each)
        for v in prepared.experiment.variants
        for each in (graph.merged(v), graph.quantized(v))
        if each
    ]
    bases = {
        graph.place(each).removeprefix("checkpoints/"): prepared.base_of(v) for v, each in made
    }
    if not bases:
        return []
    size = sum(base.size_bytes() for base in bases.values() if base.path.is_dir())
    largest = max((base.size_bytes() for base in bases.values() if base.path.is_dir()), default=0)
    seen = pace.of("checkpoint", size, largest)
    slow, fast = CHECKPOINT_BYTES_PER_S
    seconds = seen or Range(size / fast, size / slow) + TRAINING_START_S
    return [
        StageEstimate(
            "checkpoint", "quantize", ", ".join(sorted(bases)), seconds, _basis(seen, pace)
        )
    ]


def _servers(plan: ServePlan, pace: Pace) -> list[StageEstimate]:
    count = len(plan.servers)
    if not count:
        return []
    seen = pace.of("server", count, max(server.memory.weights for server in plan.servers))
    each = SERVER_START_S[pace.device]
    seconds = seen or Range(each.low * count / plan.starts_together, each.high * count)
    return [
        StageEstimate(
            "server", "serve", f"{count} servers, {plan.residency}", seconds, _basis(seen, pace)
        )
    ]


def _load(prepared: Prepared, plan: ServePlan, pace: Pace) -> list[StageEstimate]:
    experiment = prepared.experiment
    workload, variants = experiment.workload, experiment.variants
    stages = []
    for stage in workload.stages:
        n = planned_requests(stage.in_block(1), workload.seed, 1, workload.warmup)
        each = f"{n} requests" if n else f"{stage.duration:g} s"
        what = f"{stage.label}: {_offered(stage)}, {each} a block, {workload.blocks} blocks x {len(variants)} variants"
        parts = [_block(prepared, plan, pace, stage, n, variant) for variant in variants]
        seconds = _times(parts, workload.blocks)
        seen = all(_seen(prepared, plan, pace, n, v) is not None for v in variants if not v.url)
        basis: Basis = "seen here" if seen else _basis(None, pace)
        stages.append(StageEstimate("load", "load", what, seconds, basis))
    if asked := sum(prompt.set != "eval" for prompt in prepared.prompts):
        parts = [_busy(prepared, plan, pace, asked, v) for v in variants]
        what = f"{asked} questions x {len(variants)} variants"
        stages.append(StageEstimate("load", "probe", what, _times(parts, 1), _basis(None, pace)))
    return stages


def _times(parts: Sequence[Range | None], blocks: int) -> Range | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    one = sum(known, start=NOTHING)
    return Range(one.low * blocks, one.high * blocks)


def _offered(stage: Stage) -> str:
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
    """One block of a variant: as long as the schedule, or as the server needs where that is longer."""
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
        return (
            None
            if not stage.open_loop and stage.duration is None
            else Range(scheduled + warmup, scheduled + warmup)
        )
    if stage.open_loop and scheduled:  # a server that keeps up takes as long as the schedule
        busy = Range(0.0, busy.high)
    seconds = busy.at_least(scheduled)
    return Range(seconds.low + warmup, seconds.high + warmup)


def _tokens(prepared: Prepared, variant: VariantConfig) -> tuple[float, Range]:
    """Input tokens of a request, and the fewest and most of its answer."""
    style = prepared.style_of(variant)
    prompts = [p for p in prepared.prompts if p.set == "eval"]
    words = [sum(len(m["content"]) for m in p.messages.get(style, ())) for p in prompts]
    inputs = float(np.mean(words)) * TOKENS_PER_CHARACTER if words else 0.0
    exact = [p.output_tokens for p in prompts if p.output_tokens is not None]
    most = (
        float(np.mean(exact)) if exact else float(prepared.experiment.workload.sampling.max_tokens)
    )
    return inputs, Range(most if exact else SHORTEST_ANSWER * most, most)


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
    """Seconds that a server of ours works at `n` requests; None for somebody else's."""
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
