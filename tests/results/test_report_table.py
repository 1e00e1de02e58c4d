"""The comparison as rows of text."""

from __future__ import annotations

import msgspec
import pytest

from results.report.table import Table, rows
from results.summary import (
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

METRICS = {
    "quality": Metric("quality", "share", "mean score", "higher"),
    "latency_p95": Metric("latency p95", "ms", "p95", "lower"),
    "output_tokens_per_s": Metric("output throughput", "tokens/s", "tokens over time", "higher"),
    "cost_per_1000": Metric("cost per 1,000 requests", "$", "cost", "lower"),
}
NO_PRICE = Estimate(value=None, reason="no price is given")


def estimate(value: float, half: float = 0.0) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half, n=100)


def differs(absolute: float, half: float, base: float) -> Difference:
    relative = (
        estimate(absolute / base, half / base) if base else Estimate(value=None, reason="zero")
    )
    return Difference(absolute=estimate(absolute, half), relative=relative)


def variant(
    name: str, values: dict[str, Estimate], changes: dict[str, Difference]
) -> VariantSummary:
    stage = StageSummary(
        stage="main",
        offered_rate=2.0,
        concurrency=None,
        blocks=4,
        window_s=10.0,
        planned=100,
        sent=100,
        dropped=0,
        succeeded=100,
        failures={},
        metrics={k: e for k, e in values.items() if k != "quality"},
        differences={k: d for k, d in changes.items() if k != "quality"},
        decomposition=None,
        notes=[],
    )
    return VariantSummary(
        variant=name,
        what="",
        prompt_style="plain",
        judged_stage="main",
        metrics={k: e for k, e in values.items() if k == "quality"},
        differences={k: d for k, d in changes.items() if k == "quality"},
        probes={},
        probe_differences={},
        stages=[stage],
    )


def summary() -> Summary:
    """Two variants, the baseline listed second."""
    tuned = {
        "quality": estimate(0.91, 0.02),
        "latency_p95": estimate(800, 20),
        "output_tokens_per_s": estimate(90, 1),
        "cost_per_1000": NO_PRICE,
    }
    base = {
        "quality": estimate(0.87, 0.02),
        "latency_p95": estimate(200, 10),
        "output_tokens_per_s": estimate(60, 1),
        "cost_per_1000": NO_PRICE,
    }
    changes = {
        "quality": differs(0.04, 0.05, 0.87),
        "latency_p95": differs(600, 20, 200),
        "output_tokens_per_s": differs(30, 2, 60),
    }
    return Summary(
        schema_version=1,
        name="t",
        baseline="base",
        metrics=METRICS,
        variants=[variant("tuned", tuned, changes), variant("base", base, {})],
        notes=[],
    )


def verdicts(outcome: str = "fails") -> Verdicts:
    objective = Objective(
        kind="slo",
        metric="latency_p95",
        label="latency p95",
        unit="ms",
        value=estimate(800, 20),
        limit=400.0,
        limit_text="2x",
        margin=-1.0,
        outcome=outcome,  # type: ignore[arg-type]
        sentence="",
    )
    verdict = VariantVerdict(
        variant="tuned",
        decision="DON'T SHIP",
        is_baseline=False,
        headline="",
        reasons=[],
        objectives=[objective],
        binding="latency p95",
        question=None,
        advice=[],
    )
    return Verdicts(
        schema_version=1,
        name="t",
        baseline="base",
        recommended=None,
        headline="",
        variants=[verdict],
    )


def texts(table: Table, label: str) -> list[str]:
    return next(
        line for row, line in zip(table.rows, table.texts(), strict=True) if row.label == label
    )


def test_the_baseline_comes_first_and_numbers_are_set_right() -> None:
    table = rows(summary())
    assert table.variants == ["base", "tuned"]
    assert [column.align for column in table.columns] == ["left", "right", "right"]
    assert all(len(line) == len(table.columns) for line in table.texts())


def test_a_row_has_one_unit_and_the_difference_to_the_baseline() -> None:
    assert texts(rows(summary()), "Latency p95") == ["Latency p95, ms", "200", "800 (+300 %)"]


def test_quality_differs_in_points_and_noise_is_marked() -> None:
    line = texts(rows(summary()), "Quality")
    assert line == ["Quality, %", "87.0", "91.0 (≈ +4.0 points)"]


def test_better_and_worse_only_outside_of_noise_and_where_a_direction_is_better() -> None:
    effects = {row.key: row.cells[1].effect for row in rows(summary()).rows}
    assert effects == {"quality": "unclear", "latency_p95": "worse", "output_tokens_per_s": ""}


def test_a_metric_that_no_variant_has_is_a_note_with_its_reason() -> None:
    table = rows(summary())
    assert "cost_per_1000" not in [row.key for row in table.rows]
    assert table.notes == [] and table.remarks == [
        "Left out: Cost per 1,000 requests: no price is given"
    ]


def test_a_missing_value_points_to_its_reason() -> None:
    summaries = summary()
    summaries.variants[0].stages[0].metrics["cost_per_1000"] = estimate(2.5, 0.1)
    table = rows(summaries)
    cell = next(row for row in table.rows if row.key == "cost_per_1000").cells[0]
    assert cell.value == "—" and cell.note is not None
    assert table.notes[cell.note - 1] == "no price is given"


def test_verdicts_add_the_limit_and_mark_what_misses_it() -> None:
    table = rows(summary(), verdicts())
    assert table.has_limits and table.columns[-1].title == "limit"
    assert texts(table, "Latency p95") == [
        "Latency p95, ms",
        "200",
        "800 ! (+300 %)",
        "≤ 400 ms (2x)",
    ]
    assert texts(rows(summary(), verdicts("holds")), "Latency p95")[2] == "800 (+300 %)"


def test_another_stage_shows_only_what_was_measured_there() -> None:
    summaries = summary()
    judged = summaries.variants[0].stages[0]
    summaries.variants[0].stages.append(
        StageSummary(
            **{f: getattr(judged, f) for f in judged.__struct_fields__}
            | {"stage": "busy", "metrics": {"latency_p95": estimate(900)}}
        )
    )
    table = rows(summaries, stage="busy")
    assert [row.key for row in table.rows] == ["latency_p95"]
    assert texts(table, "Latency p95")[1:] == ["—", "900 (+300 %)"]


@pytest.mark.parametrize(
    ("goal", "sentence"),
    [("2x", "≤ 400 ms (2x)"), ("+20 %", "≤ 400 ms (+20 %)"), ("400ms", "≤ 400 ms")],
)
def test_a_limit_relative_to_the_baseline_is_written_as_it_was_asked_for_too(
    goal: str, sentence: str
) -> None:
    of = verdicts()
    objective = msgspec.structs.replace(of.variants[0].objectives[0], limit_text=goal)
    variant = msgspec.structs.replace(of.variants[0], objectives=[objective])
    table = rows(summary(), msgspec.structs.replace(of, variants=[variant]))
    assert next(row.limit for row in table.rows if row.label == "Latency p95") == sentence


def test_an_interval_is_shown_where_both_ends_are_known_and_differ() -> None:
    [latency] = [row for row in rows(summary()).rows if row.label == "Latency p95"]
    assert [cell.interval for cell in latency.cells] == ["190 to 210", "780 to 820"]
