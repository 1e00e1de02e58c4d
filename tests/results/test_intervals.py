"""In any run, every value lies in its own interval, and no outcome contradicts its value."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from foundation.run.records import RequestRecord
from results.analysis import analyse
from results.decision.verdict import judge
from results.summary import Difference, Estimate
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

LIMITS = {
    "latency_p95": ("1.1x", "300ms"),
    "latency_mean": ("+5%", "200ms"),
    "tpot_p90": ("1.2x", "20ms"),
    "itl_p95": ("1.1x", "30ms"),
    "itl_mean": ("1.1x", "25ms"),
    "error_rate": ("1.5x", "2%"),
    "empty_rate": ("2%",),
    "length_share": ("5%",),
}
PRICES = (
    {"output_per_million": "$10"},
    {"input_per_million": "$1", "output_per_million": "$10"},
    {"accelerator_hour": "$2"},
)


def random_request(
    rng: random.Random, i: int, prompts: int, failing: float, slower: float
) -> RequestRecord:
    latency = 200 * slower * rng.lognormvariate(0, rng.choice([0.1, 0.5, 1.5]))
    record = request(
        i,
        f"q{i % prompts}",
        100 * i,
        latency,
        latency * rng.random(),
        rng.choice([1, 5, 40]),
        10,
        rng.choice(["yes", "no"]),
    )
    if rng.random() < 0.05:
        record.output_tokens = None
    if rng.random() < 0.05:
        record.chunk_ns, record.chunk_tokens = [sum(record.chunk_ns)], [sum(record.chunk_tokens)]
    if rng.random() < 0.05:
        record.finish_reason = "length"
    if rng.random() < failing:
        record.failure = "timeout_total"
        record.output_tokens = rng.choice([None, 3000])
    return record


def write_random_run(run: Path, rng: random.Random) -> None:
    prompts = rng.choice([1, 7, 80])
    write_prompts(run, {f"q{i}": "yes" for i in range(prompts)})
    blocks, n = rng.choice([1, 2, 4]), rng.choice([8, 40, 80])
    for variant, slower in (("base", 1.0), ("tuned", 1.2)):
        failing = rng.choice([0.0, 0.004, 0.04, 0.4, 1.0])
        for block in range(1, blocks + 1):
            if variant == "base" or block == 1 or rng.random() < 0.8:
                records = [random_request(rng, i, prompts, failing, slower) for i in range(n)]
                write_journal(run, variant, block, records, window_ms=(0, 100 * n))


def random_questions(rng: random.Random) -> Goals:
    slo = {metric: rng.choice(limits) for metric, limits in LIMITS.items()}
    quality = {"min": 0.4, "max_drop": "3%"}
    return Goals(
        slo,
        quality,
        {
            "price": rng.choice(PRICES),
            "per_month": "$5",
            "requests_per_month": 1000,
            "max_increase": "20%",
        },
    )


def estimates(of: object, where: str = "") -> Iterator[tuple[str, Estimate]]:
    """Every estimate in a document, with where it is."""
    if isinstance(of, Estimate):
        yield where, of
    elif isinstance(of, Difference):
        yield f"{where}.absolute", of.absolute
        yield f"{where}.relative", of.relative
    elif isinstance(of, msgspec.Struct):
        for name in of.__struct_fields__:
            yield from estimates(getattr(of, name), f"{where}.{name}")
    elif isinstance(of, dict):
        for key, value in of.items():
            yield from estimates(value, f"{where}.{key}")
    elif isinstance(of, list):
        for i, value in enumerate(of):
            yield from estimates(value, f"{where}[{i}]")


@pytest.mark.parametrize("seed", range(16))
def test_every_value_lies_in_its_own_interval(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    write_random_run(tmp_path, rng)
    run_inputs = inputs(tmp_path, ["base", "tuned"], random_questions(rng))
    summary = analyse(run_inputs)
    verdicts = judge(summary, run_inputs)
    seen = 0
    for where, each in (*estimates(summary), *estimates(verdicts)):
        if each.value is None:
            continue
        seen += 1
        assert each.low is None or each.low <= each.value, where
        assert each.high is None or each.value <= each.high, where
    assert seen > 20
    for objective in (
        o for verdict in verdicts.variants for o in verdict.objectives if o.outcome != "unsettled"
    ):
        assert objective.value.value is not None
        assert objective.limit is not None
        lower_is_better = objective.kind != "quality"
        keeps = (
            objective.value.value <= objective.limit
            if lower_is_better
            else objective.value.value >= objective.limit
        )
        assert keeps == (objective.outcome == "holds"), objective.sentence
