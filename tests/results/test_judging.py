"""What decides objectives: failures count, value and bounds share a population, gaps stay open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from foundation.run.records import RequestRecord
from results.analysis import analyse
from results.decision.verdict import judge
from results.summary import Judged, Summary, VariantVerdict
from tests.results.synthetic import Goals, inputs, request, write_journal

BLOCKS, N = 4, 100
Change = Callable[[RequestRecord, int], None]


def unchanged(_: RequestRecord, __: int) -> None:
    pass


def every(k: int, failure: str = "http_5xx") -> Change:
    """Every k-th request fails."""

    def fail(record: RequestRecord, i: int) -> None:
        if i % k == 0:
            record.failure = failure

    return fail


def measure(
    run: Path,
    variant: str,
    change: Change = unchanged,
    latency_ms: float = 100.0,
    blocks: int = BLOCKS,
) -> None:
    rng = np.random.default_rng(len(variant))
    for block in range(1, blocks + 1):
        records = []
        for i in range(N):
            ms = latency_ms * rng.uniform(0.8, 1.2)
            record = request(i, f"q{i}", 100 * i, ms, ms / 2, output_tokens=11)
            change(record, i)
            records.append(record)
        write_journal(run, variant, block, records)


def verdict(run: Path, goals: Goals, variants: tuple[str, ...] = ("base",)) -> VariantVerdict:
    """On the last of the variants."""
    asked_of = inputs(run, variants, goals)
    return judge(analyse(asked_of), asked_of).variants[-1]


def judged(run: Path, goals: Goals, key: str, variants: tuple[str, ...] = ("base",)) -> Judged:
    variant = analyse(inputs(run, variants, goals)).variants[-1]
    return variant.judged.get(key) or variant.stages[0].judged[key]


def test_a_mean_is_not_judged_where_more_failed_than_it_may_leave_out(tmp_path: Path) -> None:
    measure(tmp_path, "base", every(10))
    judgement = judged(tmp_path, Goals({"latency_mean": "1s"}), "latency_mean")
    assert judgement.value.value is None
    assert "40 of 400 requests failed" in (judgement.reason or "")


def test_one_failure_in_a_hundred_leaves_a_mean_standing(tmp_path: Path) -> None:
    measure(tmp_path, "base", every(100))
    assert verdict(tmp_path, Goals({"latency_mean": "1s"})).decision == "SHIP"


def test_a_percentile_is_judged_over_all_requests_with_failures_as_infinite(tmp_path: Path) -> None:
    """Of 400 latencies every 25th fails (4 %): p95 over all is p98.96 of those that succeeded."""
    measure(tmp_path, "base", every(25))
    summary = analyse(inputs(tmp_path, ["base"], Goals({"latency_p95": "1s"})))
    stage = summary.variants[0].stages[0]
    judgement = stage.judged["latency_p95"].value
    assert judgement.value == pytest.approx(stage.metrics["adjusted_latency_p95"].value)
    assert judgement.n == 400
    assert judgement.value > (stage.metrics["latency_p95"].value or 0)


def test_failures_beyond_the_tail_leave_no_percentile(tmp_path: Path) -> None:
    measure(tmp_path, "base", every(10))
    result = verdict(tmp_path, Goals({"latency_p95": "1s"}))
    assert result.decision == "INCONCLUSIVE"
    assert "40 of 400 requests failed, and p95 leaves out less than 5 %" in result.headline


@pytest.mark.parametrize("metric", ["tpot_p95", "itl_p95"])
def test_failed_answers_count_in_times_between_tokens(tmp_path: Path, metric: str) -> None:
    measure(tmp_path, "base", every(10))
    assert "requests failed" in verdict(tmp_path, Goals({metric: "1s"})).headline


@pytest.mark.parametrize(
    ("goals", "key"),
    [
        (Goals({"latency_p95": "1.1x"}), "latency_p95"),
        (Goals({"ttft_mean": "+10%"}), "ttft_mean"),
        (
            Goals({}, {}, {"price": {"output_per_million": "$10"}, "max_increase": "20%"}),
            "cost_increase",
        ),
    ],
    ids=["percentile", "mean", "cost"],
)
def test_a_baseline_that_failed_is_no_measure(tmp_path: Path, goals: Goals, key: str) -> None:
    measure(tmp_path, "base", every(3))
    measure(tmp_path, "tuned", latency_ms=50)
    judgement = judged(tmp_path, goals, key, ("base", "tuned"))
    assert "relative to the baseline" in (judgement.reason or "")
    assert "requests failed" in (judgement.reason or "")
    assert verdict(tmp_path, goals, ("base", "tuned")).decision == "INCONCLUSIVE"


def late(record: RequestRecord, _: int) -> None:
    """Sent 80 ms after it was due, so that the load generator makes the latency."""
    assert record.sent_ns is not None
    record.sent_ns += 80_000_000
    record.chunk_ns[0] += 80_000_000
    assert record.done_ns is not None
    record.done_ns += 80_000_000


def queueing(record: RequestRecord, i: int) -> None:
    """Each request waits 100 ms longer than the one before."""
    record.chunk_ns[0] += 100_000_000 * i
    assert record.done_ns is not None
    record.done_ns += 100_000_000 * i


@pytest.mark.parametrize(
    ("what", "reason"),
    [(late, "not valid"), (queueing, "did not hold")],
    ids=["invalid", "overloaded"],
)
def test_a_baseline_that_was_not_measured_well_is_no_measure(
    tmp_path: Path, what: Change, reason: str
) -> None:
    measure(tmp_path, "base", what)
    measure(tmp_path, "tuned")
    judgement = judged(tmp_path, Goals({"latency_p95": "1.1x"}), "latency_p95", ("base", "tuned"))
    assert judgement.limit is None
    assert reason in (judgement.reason or "")


def test_a_variant_whose_queue_grew_keeps_no_limit_but_may_break_one(tmp_path: Path) -> None:
    measure(tmp_path, "base", queueing)
    headline = verdict(tmp_path, Goals({"tpot_p95": "1s"})).headline
    assert "did not keep up with the offered load" in headline
    assert verdict(tmp_path, Goals({"latency_p50": "500ms"})).decision == "DON'T SHIP"


def at_once(record: RequestRecord, _: int) -> None:
    record.chunk_ns, record.chunk_tokens = [sum(record.chunk_ns)], [record.output_tokens or 0]


def four_a_chunk(record: RequestRecord, _: int) -> None:
    record.chunk_ns, record.chunk_tokens = [record.chunk_ns[0], *[20_000_000] * 2], [4, 4, 3]


def miscounted(record: RequestRecord, _: int) -> None:
    record.output_tokens = 4 * len(record.chunk_ns)


@pytest.mark.parametrize(
    ("change", "metric", "reason"),
    [
        (at_once, "tpot_p95", "400 of 400 answers came all at once"),
        (at_once, "itl_mean", "400 of 400 answers came all at once"),
        (four_a_chunk, "itl_p50", "80 % of the tokens came in one chunk with the token before"),
        (
            miscounted,
            "itl_p95",
            "400 of 400 answers came in chunks that carried another number of tokens",
        ),
    ],
)
def test_a_time_between_tokens_that_can_not_be_had_is_not_judged(
    tmp_path: Path, change: Change, metric: str, reason: str
) -> None:
    measure(tmp_path, "base", change)
    judgement = judged(tmp_path, Goals({metric: "1s"}), metric)
    assert judgement.value.value is None
    assert reason in (judgement.reason or "")


def test_what_most_answers_do_not_have_is_absent_and_so_is_the_goodput_that_rests_on_it(
    tmp_path: Path,
) -> None:
    measure(tmp_path, "base", miscounted)
    metrics = (
        analyse(inputs(tmp_path, ["base"], Goals({"itl_p95": "1s"}))).variants[0].stages[0].metrics
    )
    for key in ("itl_p50", "itl_mean", "goodput", "slo_attainment"):
        assert metrics[key].value is None, key
        assert "another number of tokens" in (metrics[key].reason or "")
    assert metrics["tpot_mean"].value is not None


@pytest.mark.parametrize("metric", ["latency_mean", "ttft_mean", "itl_p95"])
def test_one_block_decides_no_mean_and_no_time_between_tokens(tmp_path: Path, metric: str) -> None:
    measure(tmp_path, "base", blocks=1)
    assert "run at least two" in verdict(tmp_path, Goals({metric: "10s"})).headline


def test_few_requests_decide_no_mean(tmp_path: Path) -> None:
    for block in (1, 2):
        write_journal(tmp_path, "base", block, [request(i, "q", 100 * i, 50) for i in range(20)])
    assert (
        "a mean needs at least 60 requests, there are 40"
        in verdict(tmp_path, Goals({"latency_mean": "1s"})).headline
    )


PRICES = {"price": {"output_per_million": "$10"}, "max_increase": "20%"}


def costly_failures(record: RequestRecord, i: int) -> None:
    if i % 5 == 0:
        record.failure, record.output_tokens = "timeout_total", 1000


def cost_summary(run: Path) -> Summary:
    measure(run, "base")
    measure(run, "tuned", costly_failures)
    return analyse(inputs(run, ["base", "tuned"], Goals({}, {}, PRICES)))


def test_failed_requests_that_cost_tokens_count_in_value_and_bounds(tmp_path: Path) -> None:
    """20 of 100 requests cost 1,000 tokens, not 11: (20,000 + 80 x 11) / (100 x 11) - 1 = 17.98."""
    judgement = cost_summary(tmp_path).variants[1].judged["cost_increase"]
    assert judgement.value.value == pytest.approx(20_880 / 1_100 - 1)
    assert judgement.optimistic is not None
    assert judgement.optimistic > 0.2
    assert verdict(tmp_path, Goals({}, {}, PRICES), ("base", "tuned")).decision == "DON'T SHIP"


def test_a_difference_is_of_the_requests_its_interval_is_of(tmp_path: Path) -> None:
    summary = cost_summary(tmp_path)
    change = summary.variants[1].differences["cost_per_request"]
    costs = [variant.metrics["cost_per_request"].value or 0 for variant in summary.variants]
    assert change.absolute.value == pytest.approx(costs[1] - costs[0])
    for side in (change.absolute, change.relative):
        assert side.low is not None
        assert side.high is not None
        assert side.value is not None
        assert side.low <= side.value <= side.high


def test_metered_costs_of_few_prompts_are_not_compared(tmp_path: Path) -> None:
    for variant in ("base", "tuned"):
        for block in (1, 2):
            records = [
                request(i, f"q{i % 30}", 100 * i, 50, 20, output_tokens=5 + i % 3)
                for i in range(100)
            ]
            write_journal(tmp_path, variant, block, records)
    judgement = judged(tmp_path, Goals({}, {}, PRICES), "cost_increase", ("base", "tuned"))
    assert "at least 60 prompts, there are 30" in (judgement.reason or "")


def test_an_error_rate_in_bursts_is_known_less_well_than_one_that_is_spread(tmp_path: Path) -> None:
    """20 failures of 400 either way: in one of four blocks, or five in each."""
    bounds = []
    for name in ("bursts", "spread"):
        run = tmp_path / name
        for block in range(1, 5):
            failing = range(20 if block == 1 else 0) if name == "bursts" else range(5)
            records = [
                request(i, "q", 100 * i, 50, failure="http_5xx" if i in failing else None)
                for i in range(N)
            ]
            write_journal(run, "base", block, records)
        bounds.append(judged(run, Goals({"error_rate": "10%"}), "error_rate"))
    assert bounds[0].pessimistic is not None
    assert bounds[1].pessimistic == pytest.approx(
        0.0718, abs=1e-4
    )  # Clopper and Pearson, 20 of 400 at 95 %
    assert bounds[0].pessimistic > 2 * bounds[1].pessimistic


def test_an_error_rate_relative_to_one_of_zero_is_not_judged(tmp_path: Path) -> None:
    measure(tmp_path, "base")
    measure(tmp_path, "tuned", every(50))
    judgement = judged(tmp_path, Goals({"error_rate": "1.5x"}), "error_rate", ("base", "tuned"))
    assert "whose value is zero" in (judgement.reason or "")


@pytest.mark.parametrize(
    ("slo", "sentence"),
    [
        ({"latency_p95": "1s"}, "judged percentiles count them as infinite"),
        ({"latency_mean": "1s"}, "judged means leave them out"),
        ({}, "times are of those that succeeded"),
    ],
)
def test_the_verdict_says_what_failures_are_in_what_was_judged(
    tmp_path: Path, slo: dict[str, str], sentence: str
) -> None:
    measure(tmp_path, "base", every(200))
    assert any(reason.endswith(sentence) for reason in verdict(tmp_path, Goals(slo)).reasons)


def test_a_relative_error_rate_is_bounded_by_the_worst_end_of_one_over_the_best_of_the_other(
    tmp_path: Path,
) -> None:
    """20 of 400 in both, equal in each block: Clopper and Pearson's bounds at 2.5 % a side."""
    for variant in ("base", "tuned"):
        for block in range(1, 5):
            records = [
                request(i, "q", 100 * i, 50, failure="http_5xx" if i < 5 else None)
                for i in range(N)
            ]
            write_journal(tmp_path, variant, block, records)
    judgement = judged(tmp_path, Goals({"error_rate": "3x"}), "error_rate", ("base", "tuned"))
    high, low = stats.beta.ppf(0.975, 21, 380), stats.beta.ppf(0.025, 20, 381)
    assert judgement.limit == pytest.approx(0.15)
    assert judgement.pessimistic == pytest.approx(high * 0.05 / low)
    assert judgement.optimistic == pytest.approx(low * 0.05 / high)
