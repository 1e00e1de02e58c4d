"""Verdicts: three-valued, with the reason, and never from nothing."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest

from foundation.errors import BadInput
from foundation.run.records import VariantRecord
from results.analysis import analyse
from results.capacity.plan.plan import plan_capacity
from results.decision.settling import units_to_settle
from results.decision.verdict import is_settled, judge
from results.summary import VariantVerdict, Verdicts
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

BLOCKS = 5


def measure(
    run: Path,
    variant: str,
    latency: float,
    scatter: float = 0.02,
    n: int = 60,
    correct: float = 1.0,
    failing: float = 0.0,
    drift: float = 0.0,
) -> None:
    rng = random.Random(variant)
    for block in range(1, BLOCKS + 1):
        records = []
        for i in range(n):
            prompt = f"q{block}-{i}"
            time = latency * rng.uniform(1 - scatter, 1 + scatter) * (1 + drift * block)
            failure = "http_5xx" if rng.random() < failing else None
            text = "yes" if i < correct * n else "no"
            records.append(
                request(
                    i, prompt, i * 100, time, time / 2, output_tokens=5, text=text, failure=failure
                )
            )
        write_journal(run, variant, block, records)


def prompts(run: Path, n: int = 60) -> None:
    write_prompts(run, {f"q{block}-{i}": "yes" for block in range(1, BLOCKS + 1) for i in range(n)})


def decide(run: Path, asked: Goals, *variants: str | VariantRecord) -> Verdicts:
    asked_of = inputs(run, variants or ["base"], asked)
    return judge(analyse(asked_of), asked_of)


def only(verdicts: Verdicts) -> VariantVerdict:
    assert len(verdicts.variants) == 1
    return verdicts.variants[0]


@pytest.mark.parametrize(
    ("limit", "outcome", "decision"),
    [
        ("150ms", "holds", "SHIP"),
        ("80ms", "fails", "DON'T SHIP"),
        ("136ms", "unsettled", "INCONCLUSIVE"),
    ],
)
def test_three_outcomes(tmp_path: Path, limit: str, outcome: str, decision: str) -> None:
    """Latencies from 60 to 140 ms: p95 is about 136, known to a few ms."""
    measure(tmp_path, "base", 100, scatter=0.4)
    verdict = only(decide(tmp_path, Goals({"latency_p95": limit})))
    assert verdict.objectives[0].outcome == outcome
    assert verdict.decision == decision
    assert verdict.headline.startswith(decision)
    assert verdict.binding == "latency p95"
    if outcome == "unsettled":
        assert "more block" in verdict.headline or "hardly settle" in verdict.headline


def test_the_objective_that_fails_binds_however_narrow_the_others(tmp_path: Path) -> None:
    prompts(tmp_path)
    measure(tmp_path, "base", 100, correct=0.9)
    verdict = only(
        decide(tmp_path, Goals({"latency_p95": "50ms", "ttft_p95": "52ms"}, {"min": "50%"}))
    )
    assert verdict.decision == "DON'T SHIP"
    assert verdict.binding == "latency p95"
    assert verdict.reasons[0].startswith("latency p95")


def test_a_clean_run_too_short_for_its_error_limit_says_how_long_it_must_be(tmp_path: Path) -> None:
    measure(tmp_path, "base", 100)
    verdict = only(decide(tmp_path, Goals({"error_rate": "0.1%"})))
    assert verdict.decision == "INCONCLUSIVE"
    assert "2,995 requests" in verdict.headline  # 0.999^2995 < 5 %


def test_a_percentile_under_its_floor_is_not_judged(tmp_path: Path) -> None:
    measure(tmp_path, "base", 100, n=30)
    verdict = only(decide(tmp_path, Goals({"latency_p95": "1s"})))
    assert verdict.decision == "INCONCLUSIVE"
    assert "p95 needs at least 200 requests, there are 150" in verdict.headline
    assert "2 more blocks" in verdict.headline


def test_percentiles_of_the_lucky_ones_do_not_ship(tmp_path: Path) -> None:
    """One request in five fails; the rest are quick. Without an error limit that must not pass."""
    measure(tmp_path, "base", 100, n=80, failing=0.2)
    verdict = only(decide(tmp_path, Goals({"latency_p95": "1s"})))
    assert verdict.decision == "INCONCLUSIVE"
    assert "requests failed" in verdict.headline
    assert (
        only(decide(tmp_path, Goals({"latency_p95": "1s", "error_rate": "1%"}))).decision
        == "DON'T SHIP"
    )


def test_all_failures(tmp_path: Path) -> None:
    prompts(tmp_path)
    measure(tmp_path, "base", 100, failing=1.1)
    verdict = only(decide(tmp_path, Goals({"latency_p95": "1s"})))
    assert verdict.decision == "INCONCLUSIVE"
    assert "can't be judged" in verdict.headline
    assert (
        only(decide(tmp_path, Goals({}, {"min": "50%"}))).decision == "DON'T SHIP"
    )  # a failed request scores 0


def test_nothing_asked_nothing_decided(tmp_path: Path) -> None:
    measure(tmp_path, "base", 100)
    verdict = only(decide(tmp_path, Goals()))
    assert verdict.decision == "INCONCLUSIVE"
    assert "nothing is asked" in verdict.headline


def test_what_was_not_measured_is_not_decided(tmp_path: Path) -> None:
    """TPOT of one-token answers, quality without references, cost without a rate, no probe."""
    for block in range(1, 4):
        write_journal(
            tmp_path,
            "base",
            block,
            [request(i, "q", i * 100, 50, output_tokens=1) for i in range(80)],
        )
    probes = [{"name": "general", "data": "x.jsonl", "max_drop": "5%"}]
    asked = Goals({"tpot_p95": "10ms"}, {"min": "50%", "max_drop": "1%", "probes": probes})
    write_journal(tmp_path, "tuned", 1, [request(0, "q", 0, 50)], stage="elsewhere")
    base, tuned = decide(tmp_path, asked, "base", "tuned").variants
    assert base.decision == "INCONCLUSIVE"
    assert {o.outcome for o in base.objectives} == {"unsettled"}
    assert tuned.decision == "INCONCLUSIVE"
    assert "not measured" in tuned.headline


def test_limits_relative_to_the_baseline(tmp_path: Path) -> None:
    measure(tmp_path, "base", 100, drift=0.2)
    measure(tmp_path, "tuned", 104, drift=0.2)
    for limit, decision in (("1.1x", "SHIP"), ("+1%", "DON'T SHIP")):
        base, tuned = decide(tmp_path, Goals({"latency_p95": limit}), "base", "tuned").variants
        assert tuned.decision == decision
        assert base.objectives == []  # it is its own measure


def test_quality_may_not_drop(tmp_path: Path) -> None:
    prompts(tmp_path)
    measure(tmp_path, "base", 100, correct=0.9)
    measure(tmp_path, "worse", 100, correct=0.8)
    measure(tmp_path, "better", 100, correct=1.0)
    verdicts = decide(tmp_path, Goals({}, {"max_drop": "2%"}), "base", "worse", "better")
    assert [v.decision for v in verdicts.variants] == ["INCONCLUSIVE", "DON'T SHIP", "SHIP"]
    assert verdicts.recommended == "better"


@pytest.mark.parametrize(
    ("latency", "correct", "recommended"),
    [
        (150, 0.9, "base"),  # slower, and as good
        (150, 1.0, "tuned"),  # slower, and better
        (102, 0.9, "tuned"),  # hardly slower
        (80, 0.9, "tuned"),  # faster
    ],
)
def test_a_variant_that_is_shown_to_be_slower_and_better_in_nothing_is_not_to_ship(
    tmp_path: Path, latency: float, correct: float, recommended: str
) -> None:
    prompts(tmp_path)
    measure(tmp_path, "base", 100, correct=0.9)
    measure(tmp_path, "tuned", latency, correct=correct)
    verdicts = decide(tmp_path, Goals({"latency_p95": "300ms"}), "base", "tuned")
    assert [each.decision for each in verdicts.variants] == ["SHIP", "SHIP"]
    assert verdicts.recommended == recommended


def test_without_scores_nobody_knows_what_a_slower_variant_gains(tmp_path: Path) -> None:
    measure(tmp_path, "base", 100)
    measure(tmp_path, "tuned", 150)
    verdicts = decide(tmp_path, Goals({"latency_p95": "300ms"}), "base", "tuned")
    assert verdicts.recommended == "tuned"


def test_a_variant_that_passes_is_named_first(tmp_path: Path) -> None:
    measure(tmp_path, "base", 300)
    measure(tmp_path, "tuned", 800)
    measure(tmp_path, "int8", 100)
    records = [
        VariantRecord(name=n, what=n, prompt_style="short", kind=k)
        for n, k in (("base", "model"), ("tuned", "adapter"), ("int8", "quantized"))
    ]
    verdicts = decide(tmp_path, Goals({"latency_p95": "200ms"}), *records)
    assert verdicts.recommended == "int8"
    tuned = verdicts.variants[1]
    assert "int8" in tuned.advice[0].remedy
    assert "merge" in " ".join(advice.remedy.lower() for advice in tuned.advice)
    assert tuned.question is None  # quality was not scored, so there is nothing to weigh


def test_many_looks_need_more_evidence_each(tmp_path: Path) -> None:
    """A margin that one look settles, each of a thousand does not."""
    measure(tmp_path, "base", 100, scatter=0.4)
    once = inputs(tmp_path, ["base"], Goals({"latency_p95": "142ms"}))
    often = dataclasses.replace(once, looks=1000)
    assert judge(analyse(once), once).variants[0].decision == "SHIP"
    assert judge(analyse(often), often).variants[0].decision == "INCONCLUSIVE"


def test_what_is_said_to_settle_it_does(tmp_path: Path) -> None:
    """With 8 blocks the bound is 1.5 times as far as the limit: 1.895 / 2.828 errors off the value.

    (1.694 + 0.842) / 5.745 is 1.5 times less; 0.842 leaves four in five runs inside.
    """
    assert [units_to_settle(*of) for of in ((1.5, 8), (1.0, 8), (30, 8), (2, 1))] == [
        33,
        16,
        None,
        None,
    ]


def test_an_invalid_measurement_gives_no_verdict(tmp_path: Path) -> None:
    for block in range(1, 5):
        write_journal(
            tmp_path,
            "base",
            block,
            [request(i, "q", i * 100, 90, 50, slip_ms=40) for i in range(80)],
        )
    verdict = only(decide(tmp_path, Goals({"latency_p95": "1s"})))
    assert verdict.decision == "INCONCLUSIVE"
    assert "not valid" in verdict.headline


def test_a_run_where_everything_went_wrong_ships_nothing(tmp_path: Path) -> None:
    """A failing baseline, a variant without tokens, one cut off, an empty journal, one not run."""
    prompts(tmp_path)
    measure(tmp_path, "base", 100, failing=1.1)
    measure(tmp_path, "cut", 100)
    for block in (1, 2, 3, 4):
        write_journal(
            tmp_path,
            "silent",
            block,
            [request(i, f"q{block}-{i}", i * 100, 90, output_tokens=0) for i in range(60)],
        )
    for block in (2, 3, 4, 5):
        (tmp_path / f"load/cut/main/block-{block:02d}.jsonl").unlink()
    (tmp_path / "load/empty/main").mkdir(parents=True)
    (tmp_path / "load/empty/main/block-01.jsonl").write_text('{"schema_ver')
    asked = Goals(
        {"latency_p95": "1.1x", "tpot_p95": "50ms", "itl_mean": "10ms", "ttft_p99": "+5%"},
        {"min": 0.5, "max_drop": "1%"},
        {
            "price": {"accelerator_hour": "$1"},
            "per_month": "$1",
            "requests_per_month": "1M",
            "max_increase": "10%",
        },
        {"peak_rate": 20},
    )
    asked_of = inputs(tmp_path, ["base", "silent", "cut", "empty", "never"], asked)
    summary = analyse(asked_of)
    verdicts = judge(summary, asked_of)
    assert not any(verdict.decision == "SHIP" for verdict in verdicts.variants)
    assert all(verdict.headline and verdict.objectives for verdict in verdicts.variants)
    assert all(
        plan.replicas is None and plan.sentence
        for plan in plan_capacity(summary, asked_of).variants
    )
    notes = " ".join(
        summary.notes
        + [note for variant in summary.variants for stage in variant.stages for note in stage.notes]
    )
    for said in (
        "all 300 requests failed",
        "240 answers were empty",
        "cut has no block 2, 3, 4, 5",
        "empty has no journal",
        "never has no journal",
    ):
        assert said in notes


def test_a_run_without_journals_or_baseline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no journals"):
        decide(tmp_path, Goals(), "base")
    measure(tmp_path, "base", 100)
    bad = inputs(tmp_path, ["base"])
    with pytest.raises(BadInput, match="did you mean 'base'"):
        analyse(type(bad)(**{**vars(bad), "baseline": "bas"}))


def test_a_baseline_of_which_nothing_is_asked_leaves_nothing_open(tmp_path: Path) -> None:
    """More blocks could not change its INCONCLUSIVE; a variant that lacks data is open."""
    measure(tmp_path, "base", 100)
    measure(tmp_path, "tuned", 103)
    measure(tmp_path, "near", 110)
    base, tuned, near = decide(
        tmp_path, Goals({"latency_p95": "1.1x"}), "base", "tuned", "near"
    ).variants
    assert [v.decision for v in (base, tuned, near)] == ["INCONCLUSIVE", "SHIP", "INCONCLUSIVE"]
    assert [is_settled(v) for v in (base, tuned, near)] == [True, True, False]


def test_an_invalid_measurement_is_not_settled(tmp_path: Path) -> None:
    for block in range(1, 5):
        write_journal(
            tmp_path,
            "base",
            block,
            [request(i, "q", i * 100, 90, 50, slip_ms=40) for i in range(80)],
        )
    assert not is_settled(only(decide(tmp_path, Goals({"latency_p95": "1s"}))))


def test_what_blocks_could_show_is_said_where_more_of_them_may_decide(tmp_path: Path) -> None:
    """Not where too many requests failed for anything to be judged."""
    measure(tmp_path, "base", 100, failing=0.9)
    measure(tmp_path, "tuned", 100, failing=0.9)
    failed = decide(tmp_path, Goals({"latency_p95": "1s"}), "base", "tuned").variants[1]
    assert not any("blocks show a change" in reason for reason in failed.reasons)
    measure(tmp_path / "well", "base", 100, scatter=0.4)
    measure(tmp_path / "well", "tuned", 100, scatter=0.4)
    open_ = decide(tmp_path / "well", Goals({"latency_p95": "136ms"}), "base", "tuned").variants[1]
    assert open_.decision == "INCONCLUSIVE"
    assert any("blocks show a change" in reason for reason in open_.reasons)
