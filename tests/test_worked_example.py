"""Worked examples: the answers a person would give, from journals with just these numbers."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from foundation.run.records import RequestRecord, VariantRecord
from results.analysis import analyse
from results.decision.verdict import judge
from results.summary import Summary, VariantVerdict, Verdicts
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

BLOCKS = 10
PER_BLOCK = 100
WARM_UP = 20
PROMPTS = {f"q{i}": "yes" for i in range(BLOCKS * PER_BLOCK)}


def measure(run: Path, variant: str, latency_ms: float, tokens: int, correct_share: float) -> None:
    """Ten blocks of 100 requests at 10/s after 2 s of warm-up; latencies vary by 2 %."""
    scatter = random.Random(variant)
    right = set(random.Random(1).sample(sorted(PROMPTS), round(correct_share * len(PROMPTS))))
    for block in range(BLOCKS):
        records: list[RequestRecord] = []
        for i in range(-WARM_UP, PER_BLOCK):
            prompt = f"q{block * PER_BLOCK + max(i, 0)}"
            latency = latency_ms * scatter.uniform(0.98, 1.02)
            text = "yes" if prompt in right else "no"
            records.append(
                request(
                    i + WARM_UP,
                    prompt,
                    (i + WARM_UP) * 100,
                    latency,
                    latency / 4,
                    output_tokens=tokens,
                    text=text,
                )
            )
        write_journal(
            run, variant, block + 1, records, window_ms=(WARM_UP * 100, (WARM_UP + PER_BLOCK) * 100)
        )


def decide(run: Path, goals: Goals, kind: str) -> tuple[Summary, Verdicts]:
    tuned = VariantRecord(name="tuned", what="base + LoRA adapter", prompt_style="short", kind=kind)
    asked_of = inputs(run, ["base", tuned], goals)
    summary = analyse(asked_of)
    return summary, judge(summary, asked_of)


@pytest.fixture
def slower_but_better(tmp_path: Path) -> tuple[Summary, Verdicts]:
    """Accuracy 87 % to 91 %, equal tokens, latency 200 to 800 ms; SLA 400 ms, $5,000 a month."""
    write_prompts(tmp_path, PROMPTS)
    measure(tmp_path, "base", 200, 20, 0.87)
    measure(tmp_path, "tuned", 800, 20, 0.91)
    budget = {
        "price": {"accelerator_hour": "$2.50"},
        "per_month": "$5000",
        "requests_per_month": "10M",
    }
    return decide(tmp_path, Goals({"latency_p95": "400ms"}, {"min": "80%"}, budget), "adapter")


def verdict_on(verdicts: Verdicts, variant: str) -> VariantVerdict:
    return next(v for v in verdicts.variants if v.variant == variant)


def test_the_sla_binds_and_the_cost_does_not(slower_but_better: tuple[Summary, Verdicts]) -> None:
    tuned = verdict_on(slower_but_better[1], "tuned")
    assert tuned.decision == "DON'T SHIP"
    assert tuned.binding == "latency p95"
    outcomes = {objective.label: objective.outcome for objective in tuned.objectives}
    assert outcomes == {"latency p95": "fails", "quality": "holds", "cost per month": "holds"}
    assert "400 ms" in tuned.headline
    assert "latency p95" in tuned.headline


def test_the_numbers_are_the_examples(slower_but_better: tuple[Summary, Verdicts]) -> None:
    base, tuned = slower_but_better[0].variants
    assert base.metrics["quality"].value == pytest.approx(0.87)
    assert tuned.metrics["quality"].value == pytest.approx(0.91)
    assert tuned.differences["quality"].absolute.value == pytest.approx(0.04)
    assert tuned.stages[0].metrics["latency_p50"].value == pytest.approx(800, rel=0.02)
    assert tuned.stages[0].differences["latency_p95"].relative.value == pytest.approx(3.0, rel=0.03)
    assert tuned.stages[0].differences["output_tokens_mean"].absolute.value == 0
    cost = tuned.metrics["cost_per_month"].value
    assert cost == pytest.approx(
        10e6 * 2.5 / 3600 / 10, rel=0.05
    )  # 10 requests/s held, $2.50 an hour


def test_the_baseline_may_ship(slower_but_better: tuple[Summary, Verdicts]) -> None:
    _, verdicts = slower_but_better
    assert verdict_on(verdicts, "base").decision == "SHIP"
    assert verdicts.recommended == "base"


def test_the_advice_names_what_can_help(slower_but_better: tuple[Summary, Verdicts]) -> None:
    tuned = verdict_on(slower_but_better[1], "tuned")
    remedies = " | ".join(advice.remedy.lower() for advice in tuned.advice)
    for word in ("quantize", "layer pruning", "distillation"):
        assert word in remedies
    assert all(advice.why and advice.effect and advice.source for advice in tuned.advice)
    assert tuned.question is not None
    for part in ("87", "91", "+4.0 points", "4 times"):
        assert part in tuned.question
    assert tuned.question.endswith("?")


def test_half_as_many_tokens_again_break_the_budget(tmp_path: Path) -> None:
    """100 output tokens to 150 at $0.001 each: cost +50 %, the budget allows 20; accuracy +5 %."""
    write_prompts(tmp_path, PROMPTS)
    measure(tmp_path, "base", 200, 100, 0.80)
    measure(tmp_path, "tuned", 210, 150, 0.85)
    budget = {"price": {"output_per_token": "$0.001"}, "max_increase": "20%"}
    summary, verdicts = decide(
        tmp_path, Goals({"latency_p95": "400ms"}, {"min": "75%"}, budget), "merged"
    )

    base, tuned = summary.variants
    assert base.metrics["cost_per_request"].value == pytest.approx(0.10)
    assert tuned.metrics["cost_per_request"].value == pytest.approx(0.15)
    assert tuned.differences["cost_per_request"].relative.value == pytest.approx(0.5)
    assert tuned.differences["quality"].absolute.value == pytest.approx(0.05)

    verdict = verdict_on(verdicts, "tuned")
    assert verdict.decision == "DON'T SHIP"
    assert verdict.binding == "cost per request against the baseline"
    assert "+50 %" in verdict.headline
    assert "20 %" in verdict.headline
    assert verdict.question is not None
    assert "+5.0 points" in verdict.question
    assert any("limit the answer" in advice.remedy.lower() for advice in verdict.advice)


@pytest.mark.usefixtures("slower_but_better")
def test_the_same_journals_give_the_same_bytes(tmp_path: Path) -> None:
    def output() -> list[bytes]:
        return [
            msgspec.json.encode(part)
            for part in decide(tmp_path, Goals({"latency_p95": "400ms"}, {"min": "80%"}), "adapter")
        ]

    assert output() == output()
