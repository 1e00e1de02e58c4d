"""A run with any journals is analysed: no crash, no NaN, no value outside its interval."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from foundation.errors import BadInput
from results.analysis import analyse
from results.capacity.plan.plan import plan_capacity
from results.decision.verdict import judge
from results.summary import Estimate, Summary
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

ODD: list[Any] = [
    None, 0, -1, 2**31, 2**53, 2**53 + 1, 2**63, 10**30, -(10**18), 1.5, float("nan"), float("inf"),
    True, "x", "", [], {}, [-5], [2**60] * 3, "stop", "abort", "dropped", "timeout_first",
]  # fmt: skip


def damage(file: Path, rng: random.Random) -> None:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for _ in range(rng.randint(1, 12)):
        line = lines[
            rng.choice([0, len(lines) - 1, *(rng.randrange(len(lines)) for _ in range(6))])
        ]
        what = rng.random()
        if what < 0.8:
            line[rng.choice(list(line))] = rng.choice(ODD)
        elif what < 0.9:
            lines.append(dict(rng.choice(lines)))
        elif len(lines) > 3:
            lines.pop(rng.randrange(len(lines)))
    raw = bytearray("".join(json.dumps(line) + "\n" for line in lines).encode())
    if rng.random() < 0.3:
        for _ in range(3):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        del raw[rng.randrange(1, len(raw)) :]
    file.write_bytes(raw)


def estimates(summary: Summary) -> list[Estimate]:
    of_stages = [stage.metrics for variant in summary.variants for stage in variant.stages]
    return [
        e
        for metrics in (*of_stages, *(v.metrics for v in summary.variants))
        for e in metrics.values()
    ]


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_run_is_analysed(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    write_prompts(tmp_path, {f"q{i}": "ok" for i in range(30)})
    for variant in ("base", "tuned"):
        for block in (1, 2, 3):
            records = [
                request(i, f"q{i % 30}", i * 100, 50 + rng.random() * 50, 30) for i in range(40)
            ]
            file = write_journal(
                tmp_path, variant, block, records, concurrency=4 if seed % 3 == 0 else None
            )
            if rng.random() < 0.7:
                damage(file, rng)
    run_inputs = inputs(
        tmp_path,
        ("base", "tuned"),
        Goals(
            {
                "latency_p95": "500ms",
                "ttft_p50": "1.2x",
                "itl_mean": "50ms",
                "error_rate": "5%",
                "empty_rate": "1%",
            },
            {"min": 0.5, "max_drop": "5%"},
            {
                "price": {"accelerator_hour": "$1"},
                "per_month": "$100",
                "requests_per_month": "1M",
                "max_increase": "10%",
            },
            {"peak_rate": 20},
        ),
    )
    try:
        summary = analyse(run_inputs)
    except BadInput as error:  # nothing of it can be read, or a newer tool wrote it
        assert "journal" in str(error) or "schema_version" in str(error)
        return
    assert judge(summary, run_inputs).headline
    assert len(plan_capacity(summary, run_inputs).variants) == 2
    json.dumps(msgspec.to_builtins(summary), allow_nan=False)
    for each in estimates(summary):
        if each.value is not None and each.low is not None and each.high is not None:
            assert each.low <= each.value <= each.high
