"""Floors under goodput and throughput, from YAML to report, against hand-made journals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from foundation.run.records import RequestRecord
from results.analysis import analyse, read_run
from results.capacity.plan.plan import plan_capacity
from results.comparison.stored_runs.compare import compare_runs
from results.config import Slo
from results.decision.objective_words import is_floor
from results.decision.verdict import judge
from results.report.cards import cards
from results.report.junit import junit
from results.report.page import markdown
from results.report.table import rows
from results.statistics.block_rates import BlockRates, block_rate_bounds, block_rate_ratio_bounds
from results.summary import Judged, Objective, VariantVerdict
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts

N, WINDOW_S = 100, 10.0
QUICK, SLOW = 100.0, 900.0
LIMIT = {"latency_p50": "500ms"}
FLOORS = ("goodput", "requests_per_s", "output_tokens_per_s", "total_tokens_per_s")


def measure(
    run: Path,
    variant: str = "base",
    slow: tuple[int, ...] = (25, 25, 25, 25),
    concurrency: int | None = None,
    tokens: int = 11,
) -> None:
    """100 requests a block in 10 s; `slow[i]` of those of block i + 1 miss the limit."""
    for block, count in enumerate(slow, start=1):
        missing = {round(i * N / count) for i in range(count)} if count else set()
        records = [
            request(i, f"q{i}", 90 * i, SLOW if i in missing else QUICK, 50, output_tokens=tokens)
            for i in range(N)
        ]
        write_journal(run, variant, block, records, concurrency=concurrency)


def verdict(
    run: Path, slo: dict[str, str], variants: tuple[str, ...] = ("base",)
) -> VariantVerdict:
    """On the last of the variants."""
    run_inputs = inputs(run, variants, Goals(slo))
    return judge(analyse(run_inputs), run_inputs).variants[-1]


def judged(
    run: Path, slo: dict[str, str], key: str, variants: tuple[str, ...] = ("base",)
) -> Judged:
    return analyse(inputs(run, variants, Goals(slo))).variants[-1].stages[0].judged[key]


def objective(verdict: VariantVerdict, metric: str) -> Objective:
    return next(o for o in verdict.objectives if o.metric == metric)


@pytest.mark.parametrize(
    ("text", "absolute", "relative"),
    [
        ("5/s", 5, None),
        ("2k/s", 2000, None),
        ("600/min", 10, None),
        ("-5%", None, 0.95),
        ("1.1x", None, 1.1),
    ],
)
@pytest.mark.parametrize("metric", FLOORS)
def test_a_floor_is_written_per_second_or_relative_to_the_baseline(
    metric: str, text: str, absolute: float | None, relative: float | None
) -> None:
    limit = Slo({"latency_p95": "2s", metric: text}).limits[metric]
    assert limit.absolute == (None if absolute is None else pytest.approx(absolute))
    assert limit.relative == (None if relative is None else pytest.approx(relative))


@pytest.mark.parametrize("text", [5, "5", "0/s", "-5/s", "400ms", "5/year", "5%"])
def test_what_is_no_rate_is_refused_with_what_to_write(text: object) -> None:
    with pytest.raises(ValidationError, match=r"requests_per_s: write"):
        Slo({"requests_per_s": text})


@pytest.mark.parametrize("slo", [{}, {"error_rate": "1%"}, {"requests_per_s": "5/s"}])
def test_goodput_needs_a_limit_on_a_time_to_count_by(slo: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"goodput: .*latency_p95: 2s"):
        Slo({**slo, "goodput": "5/s"})


@pytest.mark.parametrize(
    ("floor", "outcome"), [("6.9/s", "holds"), ("7.45/s", "unsettled"), ("8.2/s", "fails")]
)
def test_goodput_is_judged_by_exact_bounds_of_the_share_that_keeps_the_limit(
    tmp_path: Path, floor: str, outcome: str
) -> None:
    """75 of 100 in each block of 10 s: 7.5/s, Clopper and Pearson of 300 of 400 times 10/s."""
    measure(tmp_path)
    judgement = objective(verdict(tmp_path, {**LIMIT, "goodput": floor}), "goodput")
    assert judgement.value.value == pytest.approx(7.5)
    assert judgement.value.low == pytest.approx(10 * stats.beta.ppf(0.05, 300, 101))
    assert judgement.value.high == pytest.approx(10 * stats.beta.ppf(1 - 0.05 / 2, 301, 100))
    assert judgement.outcome == outcome
    assert judgement.margin == pytest.approx(7.5 / float(floor[:-2]) - 1)


def test_blocks_that_differ_are_bounded_by_t_over_them_at_least(tmp_path: Path) -> None:
    measure(tmp_path, slow=(5, 30, 55, 10))
    judgement = judged(tmp_path, {**LIMIT, "goodput": "5/s"}, "goodput")
    rates = np.array([9.5, 7.0, 4.5, 9.0])
    reach = stats.t.ppf(0.95, 3) * np.std(rates, ddof=1) / 2
    assert judgement.value.value == pytest.approx(7.5)
    assert judgement.pessimistic is not None
    assert judgement.pessimistic <= 7.5 - reach


def test_failed_requests_are_no_goodput_and_no_throughput(tmp_path: Path) -> None:
    for block in (1, 2, 3):
        records: list[RequestRecord] = [
            request(i, "q", 90 * i, QUICK, 50, failure="http_5xx" if i % 2 else None)
            for i in range(N)
        ]
        write_journal(tmp_path, "base", block, records)
    slo = {**LIMIT, "goodput": "4/s", "requests_per_s": "4/s"}
    for metric in ("goodput", "requests_per_s"):
        assert judged(tmp_path, slo, metric).value.value == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("metric", "value", "floor"),
    [
        ("requests_per_s", 10.0, "9/s"),
        ("output_tokens_per_s", 110.0, "0.1k/s"),
        ("total_tokens_per_s", 210.0, "12000/min"),
    ],
)
def test_throughput_in_a_closed_loop_keeps_a_floor_below_it(
    tmp_path: Path, metric: str, value: float, floor: str
) -> None:
    """100 answers of 10 tokens in and 11 out, all ended within 10 s."""
    measure(tmp_path, slow=(0, 0, 0, 0), concurrency=4)
    judgement = objective(verdict(tmp_path, {metric: floor}), metric)
    assert judgement.value.value == pytest.approx(value, rel=0.02)
    assert judgement.outcome == "holds"
    assert "keeps its limit" in judgement.sentence
    assert "at least" in judgement.sentence


@pytest.mark.parametrize(
    ("limit", "outcome"), [("-40%", "holds"), ("0.5x", "holds"), ("1.1x", "fails")]
)
def test_a_relative_floor_is_a_share_of_the_baselines_rate(
    tmp_path: Path, limit: str, outcome: str
) -> None:
    """The variant has 7.5/s where the baseline has 9/s."""
    measure(tmp_path, "base", (10, 10, 10, 10))
    measure(tmp_path, "tuned")
    slo = {**LIMIT, "goodput": limit}
    judgement = objective(verdict(tmp_path, slo, ("base", "tuned")), "goodput")
    factor = {"-40%": 0.6, "0.5x": 0.5, "1.1x": 1.1}[limit]
    assert judgement.limit == pytest.approx(factor * 9.0)
    assert judgement.outcome == outcome
    assert verdict(tmp_path, slo).objectives[0].metric == "latency_p50"  # not asked of the baseline
    assert len(verdict(tmp_path, slo).objectives) == 1


def test_goodput_is_absent_where_a_limit_that_it_counts_by_is_not_known(tmp_path: Path) -> None:
    """p99.9 needs 10,000 requests, which the baseline does not have."""
    measure(tmp_path)
    measure(tmp_path, "tuned")
    slo = {"latency_p50": "500ms", "ttft_p99.9": "1.1x", "goodput": "1/s"}
    judgement = judged(tmp_path, slo, "goodput", ("base", "tuned"))
    assert judgement.value.value is None
    assert "limit on ttft is relative to the baseline" in (judgement.reason or "")


def test_no_more_is_asked_of_a_server_than_it_was_offered(tmp_path: Path) -> None:
    measure(tmp_path)
    judgement = judged(tmp_path, {"requests_per_s": "11/s"}, "requests_per_s")
    assert "the load offers 10 requests/s" in (judgement.reason or "")
    assert verdict(tmp_path, {"requests_per_s": "11/s"}).decision == "INCONCLUSIVE"


def test_tokens_of_a_load_that_was_kept_up_with_break_no_floor(tmp_path: Path) -> None:
    measure(tmp_path)
    judgement = judged(tmp_path, {"output_tokens_per_s": "1k/s"}, "output_tokens_per_s")
    assert "this is the rate of the load" in (judgement.reason or "")
    slo = {"output_tokens_per_s": "1k/s"}
    assert verdict(tmp_path, slo).advice == []  # no faster server helps


def test_one_block_and_few_requests_decide_no_rate(tmp_path: Path) -> None:
    measure(tmp_path / "one", slow=(0,))
    for block in (1, 2):
        records = [request(i, "q", 90 * i, QUICK) for i in range(20)]
        write_journal(tmp_path / "few", "base", block, records)
    for run, reason in (("one", "run at least two"), ("few", "needs at least 60 requests")):
        judgement = judged(tmp_path / run, {"requests_per_s": "1/s"}, "requests_per_s")
        assert reason in (judgement.reason or "")


def test_answers_that_end_after_the_window_are_no_rate(tmp_path: Path) -> None:
    for block in (1, 2, 3):
        records = [request(i, "q", 90 * i, 20_000.0, 50) for i in range(N)]
        write_journal(tmp_path, "base", block, records)
    judgement = judged(tmp_path, {"requests_per_s": "1/s"}, "requests_per_s")
    assert "no answer ended inside its window" in (judgement.reason or "")


def test_a_floor_has_its_allowed_side_above_it(tmp_path: Path) -> None:
    measure(tmp_path)
    run_inputs = inputs(tmp_path, ["base"], Goals({**LIMIT, "goodput": "7/s"}))
    summary = analyse(run_inputs)
    verdicts = judge(summary, run_inputs)
    goodput = objective(verdicts.variants[0], "goodput")
    assert is_floor(goodput)
    assert not is_floor(objective(verdicts.variants[0], "latency_p50"))
    shown = cards(summary, verdicts)[0]["objectives"][1]
    assert shown["limit"] == "≥ 7.00 requests/s"
    row = next(row for row in rows(summary, verdicts).rows if row.key == "goodput")
    assert row.limit == "≥ 7.00 requests/s"
    assert "goodput 7/s" in junit(summary, verdicts)
    assert "Goodput" in markdown(summary, verdicts, None)


def test_capacity_is_not_of_floors(tmp_path: Path) -> None:
    measure(tmp_path)
    for slo, words in (
        ({**LIMIT, "goodput": "9/s"}, "one replica holds at least 10 requests/s"),
        ({"requests_per_s": "5/s"}, "names no time or share"),
    ):
        run_inputs = inputs(tmp_path, ["base"], Goals(slo, plan={"peak_rate": "20/s"}))
        assert words in plan_capacity(analyse(run_inputs), run_inputs).variants[0].sentence


def test_advice_on_goodput_is_a_faster_server_and_more_of_them(tmp_path: Path) -> None:
    measure(tmp_path)
    result = verdict(tmp_path, {**LIMIT, "goodput": "9/s"})
    assert result.binding == "goodput"
    remedies = " ".join(advice.remedy for advice in result.advice)
    assert "replicas" in remedies
    assert "Quantize" in remedies


def test_goodput_of_two_runs_is_compared_where_it_counts_by_the_same_limits(tmp_path: Path) -> None:
    measure(tmp_path / "a")
    measure(tmp_path / "b", slow=(70, 70, 70, 70))
    for run in ("a", "b"):
        write_prompts(tmp_path / run, {f"q{i}": "ok" for i in range(N)})
    outcomes = {}
    for latency in ("500ms", "600ms"):
        before, after = (
            read_run(
                inputs(tmp_path / run, ["base"], Goals({"latency_p50": most, "goodput": "1/s"}))
            )
            for run, most in (("a", "500ms"), ("b", latency))
        )
        changes = compare_runs(before, after).changes
        outcomes[latency] = next(c for c in changes if c.metric == "goodput")
    assert outcomes["500ms"].outcome == "worse"
    assert outcomes["500ms"].difference.absolute.value == pytest.approx(-4.5)
    assert outcomes["600ms"].outcome == "not compared"
    assert "latency 500 ms -> 600 ms" in outcomes["600ms"].sentence


blocks_of_counts = st.lists(
    st.tuples(st.integers(0, 80), st.integers(0, 20)), min_size=2, max_size=12
).filter(lambda pairs: sum(a for a, _ in pairs) > 0)


def of(pairs: list[tuple[int, int]], seconds: float = 10.0, whole: bool = True) -> BlockRates:
    good, lost = np.array(pairs, float).T
    return BlockRates(good, np.full(len(pairs), seconds), good + lost if whole else None)


@given(blocks_of_counts, st.booleans())
def test_a_rate_lies_in_its_bounds_which_widen_with_certainty(
    pairs: list[tuple[int, int]], whole: bool
) -> None:
    rates = of(pairs, whole=whole)
    wide, narrow = (block_rate_bounds(rates, tail, tail) for tail in (0.01, 0.1))
    assert 0 <= wide.low <= narrow.low <= rates.rate * (1 + 1e-9)
    assert rates.rate * (1 - 1e-9) <= narrow.high <= wide.high


@given(blocks_of_counts, st.floats(0.1, 100))
def test_bounds_of_a_rate_go_with_the_unit_of_time(
    pairs: list[tuple[int, int]], factor: float
) -> None:
    one, other = (block_rate_bounds(of(pairs, 10.0 * f), 0.05, 0.05) for f in (1.0, factor))
    assert other.low == pytest.approx(one.low / factor, rel=1e-6, abs=1e-9)
    assert other.high == pytest.approx(one.high / factor, rel=1e-6)


@given(blocks_of_counts)
def test_the_ratio_of_a_rate_to_itself_is_one_and_its_bounds_hold_it(
    pairs: list[tuple[int, int]],
) -> None:
    rates = of(pairs)
    bounds = block_rate_ratio_bounds(rates, rates, 0.05, 0.05)
    assert bounds.low <= 1 <= bounds.high
