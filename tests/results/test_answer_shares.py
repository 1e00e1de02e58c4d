"""Empty answers and answers cut short: counted with exact bounds, and objectives like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import beta

from foundation.run.records import RequestRecord
from results.analysis import analyse
from results.config import ResolutionConfig, Slo
from results.decision.verdict import judge
from results.summary import StageSummary, VariantVerdict
from tests.results.synthetic import Goals, inputs, request, write_journal

N = 300


def with_finish(reason: str, count: int) -> list[RequestRecord]:
    """300 answers, the first `count` of which end so."""
    records = [request(i, "q", i * 30, 50, 20, text="some words") for i in range(N)]
    for record in records[:count]:
        record.finish_reason = reason
    return records


def measured(
    run: Path, records: list[RequestRecord], slo: dict[str, str]
) -> tuple[StageSummary, VariantVerdict]:
    write_journal(run, "base", 1, records)
    run_inputs = inputs(run, ["base"], Goals(slo))
    summary = analyse(run_inputs)
    return summary.variants[0].stages[0], judge(summary, run_inputs).variants[0]


def exact(count: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson."""
    return float(beta.ppf(0.025, count, n - count + 1)), float(
        beta.ppf(0.975, count + 1, n - count)
    )


def test_answers_that_were_cut_short_are_counted(tmp_path: Path) -> None:
    stage, verdict = measured(tmp_path, with_finish("length", 60), {"length_share": "5%"})
    share = stage.metrics["length_share"]
    assert (share.value, share.n) == (0.2, N)
    assert (share.low, share.high) == pytest.approx(exact(60, N))
    assert verdict.decision == "DON'T SHIP"


def test_no_answer_cut_short_keeps_the_limit(tmp_path: Path) -> None:
    stage, verdict = measured(
        tmp_path, with_finish("length", 0), {"length_share": "5%", "empty_rate": "5%"}
    )
    assert (stage.metrics["length_share"].value, stage.metrics["empty_rate"].value) == (0, 0)
    assert verdict.decision == "SHIP"


def test_an_answer_is_empty_without_chunks_and_without_text(tmp_path: Path) -> None:
    """10 have no chunks, 5 have chunks without text (reasoning only), 3 call a tool: not empty."""
    records = with_finish("stop", 0)
    for i in range(10):
        records[i] = request(i, "q", i * 30, 50, output_tokens=0)
    for i in range(10, 18):
        records[i].text = " \n"
    for i in range(15, 18):
        records[i].finish_reason = "tool_calls"
    stage, verdict = measured(tmp_path, records, {"empty_rate": "1%"})
    assert stage.metrics["empty_rate"].value == pytest.approx(15 / N)
    assert verdict.decision == "DON'T SHIP"


def test_failures_are_not_answers(tmp_path: Path) -> None:
    """Of 300, 30 fail and 27 others are cut short: 10 %. More fail than the limit allows: open."""
    records = with_finish("length", 57)
    for i in range(30):
        records[i] = request(i, "q", i * 30, 10, failure="http_5xx")
    stage, verdict = measured(tmp_path, records, {"length_share": "9%"})
    share = stage.metrics["length_share"]
    assert (share.value, share.n) == (pytest.approx(0.1), 270)
    assert verdict.decision == "INCONCLUSIVE"
    assert "30 of 300 requests failed, more than the limit allows of the answers" in " ".join(
        verdict.reasons
    )


def test_where_nothing_succeeded_there_are_no_answers(tmp_path: Path) -> None:
    records = [request(i, "q", i * 30, 10, failure="connect") for i in range(N)]
    stage, verdict = measured(tmp_path, records, {"empty_rate": "1%"})
    assert stage.metrics["empty_rate"].value is None
    assert stage.metrics["empty_rate"].reason == "no request succeeded"
    assert verdict.decision == "INCONCLUSIVE"


def test_their_limits_are_shares_and_no_times() -> None:
    assert Slo({"empty_rate": "0.1%"}).limits["empty_rate"].absolute == pytest.approx(0.001)
    with pytest.raises(ValueError, match="not a time"):
        ResolutionConfig.model_validate({"change": "3%", "metric": "length_share"})
