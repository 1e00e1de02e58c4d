"""Costs by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.run.records import VariantRecord
from results.analysis import analyse
from results.summary import BreakEven, Summary
from tests.results.synthetic import Goals, inputs, request, write_journal, write_prompts


def measured(
    run: Path,
    budget: dict[str, object] | None,
    latency_ms: float = 50,
    rate: float | None = 10.0,
    behind_ms: float = 0,
) -> Summary:
    """100 requests with 10 tokens in and 4 out, 10 a second, in two blocks; three of four right.

    Each answer takes `behind_ms` longer than the one before.
    """
    write_prompts(run, {f"q{i}": "yes" for i in range(100)})
    for block in (1, 2):
        records = [
            request(
                i,
                f"q{i}",
                100 * i,
                latency_ms + i * behind_ms,
                20,
                output_tokens=4,
                text="yes" if i % 4 else "no",
            )
            for i in range(100)
        ]
        write_journal(
            run, "base", block, records, offered_rate=rate, concurrency=None if rate else 4
        )
    return analyse(inputs(run, ["base"], Goals(budget=budget)))


def costs(summary: Summary) -> dict[str, float | None]:
    return {
        key: e.value for key, e in summary.variants[0].metrics.items() if key.startswith("cost")
    }


def test_metered(tmp_path: Path) -> None:
    """10 x $2/M + 4 x $10/M = $0.00006."""
    price = {"input_per_million": "$2", "output_per_million": "$10"}
    figures = costs(measured(tmp_path, {"price": price, "requests_per_month": "1M"}))
    assert figures == {
        "cost_per_request": pytest.approx(60e-6),
        "cost_per_1000": pytest.approx(0.06),
        "cost_per_success": pytest.approx(60e-6),
        "cost_per_correct": pytest.approx(80e-6),
        "cost_per_million_output_tokens": pytest.approx(15.0),
        "cost_per_month": pytest.approx(60.0),
    }


def test_failed_tries_are_paid_for(tmp_path: Path) -> None:
    """Of ten requests at $0.004 two break off after their tokens: $0.04 for 8 successes."""
    records = [request(i, "q", 100 * i, 50, 20, output_tokens=4) for i in range(10)]
    for record in records[:2]:
        record.failure = "stream_error"
    write_journal(tmp_path, "base", 1, records)
    budget = {"price": {"output_per_token": "$0.001"}}
    assert costs(analyse(inputs(tmp_path, ["base"], Goals(budget=budget))))[
        "cost_per_success"
    ] == pytest.approx(0.005)


def tuned_after_training(
    run: Path,
    base_tokens: int,
    tuned_tokens: int,
    budget: dict[str, object],
    adapters: tuple[str, ...] = (),
) -> BreakEven:
    write_prompts(run, {f"q{i}": "yes" for i in range(60)})
    for variant, tokens in (("base", base_tokens), ("tuned", tuned_tokens)):
        for block in (1, 2):
            records = [
                request(i, f"q{i}", 100 * i, 50, 20, output_tokens=tokens + i % 2)
                for i in range(60)
            ]
            write_journal(run, variant, block, records)
    tuned = VariantRecord(
        name="tuned", what="tuned", prompt_style="short", kind="merged", adapters=[*adapters]
    )
    return analyse(inputs(run, ["base", tuned], Goals(budget=budget))).break_even["tuned"]


def test_tuning_is_earned_back(tmp_path: Path) -> None:
    """$30 of tuning, 20 tokens saved a request at $0.0001 each: 15,000 requests, half a month."""
    budget = {
        "price": {"output_per_token": "$0.0001"},
        "tuning": "$30",
        "requests_per_month": 30_000,
    }
    cost = tuned_after_training(tmp_path, 30, 10, budget)
    assert cost.requests.value == pytest.approx(15_000)
    assert cost.months == pytest.approx(0.5)


def test_tuning_is_priced_by_its_time(tmp_path: Path) -> None:
    """An hour of training and 20 s of measuring at $2 an hour; equal rates, so no saving."""
    adapter = tmp_path / "adapters/finetune"
    adapter.mkdir(parents=True)
    (adapter / "tunedyno.json").write_text('{"seconds": 3600}')
    cost = tuned_after_training(tmp_path, 30, 10, {"price": {"accelerator_hour": "$2"}})
    assert cost.tuning_cost == pytest.approx(2 * (3600 + 20) / 3600)
    assert cost.requests.value is None
    assert "saves nothing" in cost.sentence


def test_tuning_is_priced_by_the_trainings_that_the_variant_rests_on(tmp_path: Path) -> None:
    for name, about in (("one", '{"seconds": 3600}'), ("two", '{"seconds": 60}'), ("three", "{}")):
        (tmp_path / "adapters" / name).mkdir(parents=True)
        (tmp_path / "adapters" / name / "tunedyno.json").write_text(about)

    def cost(*adapters: str) -> float | None:
        price = {"price": {"accelerator_hour": "$2"}}
        return tuned_after_training(tmp_path, 30, 10, price, adapters).tuning_cost

    assert cost("adapters/two") == pytest.approx(2 * (60 + 20) / 3600)
    assert cost("adapters/two", "adapters/one") == pytest.approx(2 * (3660 + 20) / 3600)
    assert cost("adapters/two", "adapters/three") is None  # one of the times is not known


def test_tuning_of_unknown_cost_has_no_break_even(tmp_path: Path) -> None:
    cost = tuned_after_training(tmp_path, 30, 10, {"price": {"output_per_token": "$0.0001"}})
    assert cost.requests.value is None
    assert "budget.tuning" in cost.sentence


def test_self_hosted(tmp_path: Path) -> None:
    """Two accelerators at $1.80 an hour hold 10 requests/s: $3.60 / 36,000 = $0.0001 a request."""
    summary = measured(tmp_path, {"price": {"accelerator_hour": "$1.80", "accelerators": 2}})
    figures = costs(summary)
    assert figures["cost_per_request"] == pytest.approx(1e-4)
    assert figures["cost_per_million_output_tokens"] == pytest.approx(25.0)
    assert figures["cost_per_month"] is None
    assert "requests_per_month" in (summary.variants[0].metrics["cost_per_month"].reason or "")


def test_one_block_has_the_spread_of_its_count(tmp_path: Path) -> None:
    write_journal(tmp_path, "base", 1, [request(i, "q", 100 * i, 50, 20) for i in range(100)])
    goals = Goals(budget={"price": {"accelerator_hour": "$36"}})
    cost = analyse(inputs(tmp_path, ["base"], goals)).variants[0].metrics["cost_per_request"]
    assert cost.value == pytest.approx(1e-3)
    assert cost.low == pytest.approx(
        1e-3 * 100 / 121.6, rel=1e-3
    )  # Garwood's table: 100 counted, 81.4 to 121.6
    assert cost.high == pytest.approx(1e-3 * 100 / 81.4, rel=1e-3)


def test_a_load_that_was_not_held_has_no_cost(tmp_path: Path) -> None:
    """8.3 are answered a second: latency rises by 20 ms a request, 200 ms a second."""
    price = {"price": {"accelerator_hour": "$1"}}
    cost = measured(tmp_path, price, behind_ms=20).variants[0].metrics["cost_per_request"]
    assert cost.value is None
    assert "the queue grew: latency rose by 200 ms a second" in (cost.reason or "")


def test_a_closed_loop_has_no_cost_by_the_hour(tmp_path: Path) -> None:
    hourly, by_token = {"accelerator_hour": "$1"}, {"output_per_token": "$0.001"}
    cost = measured(tmp_path, {"price": hourly}, rate=None).variants[0].metrics["cost_per_request"]
    assert cost.value is None
    assert "a closed loop offers no rate" in (cost.reason or "")
    cost = (
        measured(tmp_path / "metered", {"price": by_token}, rate=None)
        .variants[0]
        .metrics["cost_per_request"]
    )
    assert cost.value == pytest.approx(0.004)


def test_windows_shorter_than_their_answers_show_no_rate(tmp_path: Path) -> None:
    """Answers take 9 s of a window of 10 s: the server keeps up, and 11 of 100 end inside."""
    cost = (
        measured(tmp_path, {"price": {"accelerator_hour": "$1"}}, latency_ms=8_950)
        .variants[0]
        .metrics["cost_per_request"]
    )
    assert cost.value is None
    assert "of 200 requests that arrived in the windows 22 ended there" in (cost.reason or "")


def test_no_prices_no_cost(tmp_path: Path) -> None:
    cost = measured(tmp_path, None).variants[0].metrics["cost_per_request"]
    assert cost.value is None
    assert "no budget with prices" in (cost.reason or "")


def test_a_side_without_a_price_is_said_to_be_free(tmp_path: Path) -> None:
    summary = measured(tmp_path, {"price": {"output_per_token": "$0.001"}})
    assert costs(summary)["cost_per_request"] == pytest.approx(0.004)
    assert "input tokens have no price" in " ".join(summary.notes)


def test_a_rise_in_cost_by_the_hour_is_the_ratio_of_what_is_done_in_an_hour(tmp_path: Path) -> None:
    """10 are answered in a second, and 8 where every fifth fails: 1.25 times the price."""
    for name, failing in (("base", 0), ("tuned", 5)):
        for block in (1, 2, 3):
            records = [
                request(
                    i,
                    f"q{i}",
                    100 * i,
                    50,
                    20,
                    failure="http_5xx" if failing and i % failing == 0 else None,
                )
                for i in range(100)
            ]
            write_journal(tmp_path, name, block, records)
    goals = Goals(budget={"price": {"accelerator_hour": "$1"}, "max_increase": "10%"})
    rise = (
        analyse(inputs(tmp_path, ["base", "tuned"], goals))
        .variants[1]
        .judged["cost_increase"]
        .value.value
    )
    assert rise == pytest.approx(0.25)


def test_costs_of_windows_of_another_length_are_compared_by_what_is_done_in_an_hour(
    tmp_path: Path,
) -> None:
    """10 are answered a second in both, for 10 s and for 5 s."""
    for name, seconds in (("base", 10), ("tuned", 5)):
        for block in (1, 2, 3):
            records = [request(i, f"q{i}", 100 * i, 50, 20) for i in range(10 * seconds)]
            write_journal(tmp_path, name, block, records, window_ms=(0, 1000 * seconds))
    goals = Goals(budget={"price": {"accelerator_hour": "$1"}, "max_increase": "10%"})
    rise = (
        analyse(inputs(tmp_path, ["base", "tuned"], goals))
        .variants[1]
        .judged["cost_increase"]
        .value.value
    )
    assert rise == pytest.approx(0.0, abs=1e-9)


def test_a_month_of_twice_the_requests_is_bounded_by_twice_the_dollars(tmp_path: Path) -> None:
    """Answers of 5, 6 and 7 tokens by turns, a tenth of a cent a token."""
    for block in (1, 2, 3):
        records = [
            request(i, f"q{i}", 100 * i, 50, 20, output_tokens=5 + (i + block) % 3)
            for i in range(99)
        ]
        write_journal(tmp_path, "base", block, records)
    months = []
    for requests in ("1M", "2M"):
        budget = {
            "price": {"output_per_token": "$0.001"},
            "per_month": "$5000",
            "requests_per_month": requests,
        }
        months.append(
            analyse(inputs(tmp_path, ["base"], Goals(budget=budget)))
            .variants[0]
            .judged["cost_per_month"]
        )
    once, twice = months
    assert once.value.value == pytest.approx(6_000)
    assert once.optimistic is not None and once.pessimistic is not None
    assert once.optimistic < 6_000 < once.pessimistic
    assert (twice.optimistic, twice.pessimistic) == pytest.approx(
        (2 * once.optimistic, 2 * once.pessimistic)
    )
