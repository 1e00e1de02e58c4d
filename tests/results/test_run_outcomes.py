"""What follows from evidence, by hand: each outcome at its edges."""

from __future__ import annotations

import numpy as np
import pytest

from results.comparison.stored_runs.conclusion import conclude
from results.comparison.stored_runs.evidence import (
    Evidence,
    by_blocks,
    by_counts,
    by_prompts,
    by_scores,
    not_comparable,
)
from results.comparison.stored_runs.outcomes import Compared, margin_of, outcomes
from results.metrics import METRICS
from results.statistics.bounded_means import paired_score_bounds
from results.statistics.intervals import Bounds, absent
from results.statistics.unpaired import Counted
from results.summary import Estimate, RunChange


def concluded(
    key: str,
    low: float,
    high: float,
    p: float,
    before: float = 100.0,
    barred: str | None = None,
    held: str | None = None,
) -> RunChange:
    """One number alone, whose change lies between `low` and `high`."""
    sides = Bounds(low, high)
    evidence = Evidence(before, (low + high) / 2, sides, sides, p, 10)
    values = Estimate(value=before, n=10), Estimate(value=before + (low + high) / 2, n=10)
    margin = margin_of(key, key == "error_rate")
    [change] = outcomes(
        [Compared("a", "main", key, METRICS[key], *values, evidence, margin, barred, held)]
    )
    return change


@pytest.mark.parametrize(
    ("key", "low", "high", "p", "outcome"),
    [
        ("latency_p50", -4.9, 4.9, 0.5, "equivalent"),
        ("latency_p50", -5.1, 4.9, 0.5, "no worse"),
        ("latency_p50", -4.9, 5.1, 0.5, "unsettled"),
        ("latency_p50", 1.0, 4.0, 0.001, "equivalent"),  # shown, and within the margin
        ("latency_p50", 1.0, 6.0, 0.001, "worse"),
        ("latency_p50", 1.0, 6.0, 0.06, "unsettled"),
        ("latency_p50", -6.0, -1.0, 0.001, "better"),
        (
            "latency_p95",
            1.0,
            9.9,
            0.001,
            "equivalent",
        ),  # percentiles of the tail have twice the margin
        ("requests_per_s", -6.0, -1.0, 0.001, "worse"),
        ("requests_per_s", -4.0, 6.0, 0.5, "no worse"),
        ("error_rate", -0.009, 0.009, 0.5, "equivalent"),
        (
            "error_rate",
            0.001,
            0.009,
            0.001,
            "worse",
        ),  # what is shown of a share counts however small
        ("quality", -0.02, -0.001, 0.001, "worse"),
        ("quality", -0.049, 0.2, 0.5, "no worse"),
    ],
)
def test_an_outcome_at_its_edges(key: str, low: float, high: float, p: float, outcome: str) -> None:
    change = concluded(key, low, high, p)
    assert change.outcome == outcome
    words = {"equivalent": "no difference beyond", "no worse": "not worse by more than"}.get(
        outcome, outcome
    )
    assert words in change.sentence


def test_what_is_barred_or_held_is_never_called_anything() -> None:
    assert (
        concluded("latency_p50", 50, 60, 1e-9, barred="another dataset").outcome == "not compared"
    )
    held = concluded("latency_p50", 50, 60, 1e-9, held="blocks are longer")
    assert held.outcome == "unsettled"
    assert held.sentence.endswith("unsettled: blocks are longer")


def test_ten_numbers_need_a_tenth_of_the_p_value() -> None:
    """Holm: the smallest of ten p-values must be under 0.005."""
    one = Evidence(100.0, 20.0, Bounds(5.0, 35.0), Bounds(6.0, 34.0), 0.006, 10)
    none = Evidence(100.0, 0.0, Bounds(-1.0, 1.0), Bounds(-1.0, 1.0), 1.0, 10)
    value = Estimate(value=100.0, n=10)

    def outcome(others: int) -> str:
        each = [
            Compared("a", "main", "latency_p50", METRICS["latency_p50"], value, value, e, 0.05)
            for e in (one, *[none] * others)
        ]
        return outcomes(each)[0].outcome

    assert outcome(others=0) == outcome(others=7) == "worse"
    assert outcome(others=9) == "unsettled"


def test_a_margin_is_no_wider_than_what_an_objective_allows() -> None:
    assert margin_of("latency_p50", False) == 0.05
    assert margin_of("latency_p99", False, 0.1) == 0.2
    assert margin_of("error_rate", True) == 0.01
    assert margin_of("error_rate", True, 0.05, [None, 0.001]) == 0.001
    assert margin_of("quality", False, 0.05, [0.0, 0.2]) == 0.05


def test_a_metric_of_one_run_is_not_known_to_be_anything() -> None:
    have, none = Estimate(value=5.0, n=9), absent("no successful request has this value")
    change = not_comparable(have, none, ("monday", "tuesday"))
    assert change is not None
    assert change.reason == "tuesday has none (no successful request has this value)"
    assert not_comparable(have, have, ("monday", "tuesday")) is None


def test_evidence_by_blocks_from_hand_made_blocks() -> None:
    """Twice as slow in every block is certain. A rate of 0 has no log, one block no spread."""
    twice = by_blocks(10.0, 20.0, [9.0, 10.0, 11.0], [18.0, 20.0, 22.0])
    assert twice.change == 10.0
    assert twice.interval.low < 10.0 < twice.interval.high
    assert twice.p is not None
    assert twice.p < 0.002
    gone = by_blocks(10.0, 0.0, [10.0, 10.1, 9.9], [0.0, 0.0, 0.0])
    assert gone.interval.low >= -10.0
    assert gone.p is not None
    assert gone.p < 0.001
    alone = by_blocks(10.0, 20.0, [10.0], [18.0, 20.0])
    assert alone.p is None
    assert "at least two blocks" in (alone.reason or "")


def test_rates_of_the_same_arrivals_are_paired() -> None:
    """Arrivals make a rate differ from block to block by half, and 2 % from run to run."""
    before = [8.0, 10.0, 12.0, 9.0, 11.0, 13.0]
    after = [x * (0.98 + 0.001 * i) for i, x in enumerate(before)]
    apart, together = (
        by_blocks(10.5, 10.32, before, after, paired=paired) for paired in (False, True)
    )
    assert apart.sides.low < -1.0
    assert -0.3 < together.sides.low < together.sides.high < -0.1


def test_evidence_by_prompts_and_scores_needs_prompts_in_common() -> None:
    tokens = {f"q{i}": (10.0 + i % 3, 1) for i in range(30)}
    assert by_prompts(11.0, 11.0, tokens, {f"other{i}": (1.0, 1) for i in range(30)}) is None
    same = by_prompts(11.0, 11.0, tokens, tokens)
    assert same is not None
    assert (same.change, same.p, same.sides) == (0.0, 1.0, Bounds(0.0, 0.0))
    none = by_scores(0.5, {"q": 1.0}, {"other": 1.0})
    assert none.change is None
    assert none.reason == "no prompt was scored in both"


def test_graded_scores_are_shown_by_bounds_that_hold() -> None:
    """Sixty prompts a tenth worse each are shown to be; three that lost all they had are not."""
    before = {f"q{i}": 0.9 for i in range(60)}
    lower = by_scores(0.9, before, dict.fromkeys(before, 0.5))
    assert lower.p is not None
    assert lower.p < 0.001
    three = by_scores(0.9, before, before | {"q1": 0.0, "q2": 0.0, "q3": 0.0})
    assert three.p is not None
    assert three.p > 0.05


def test_failures_in_a_burst_are_tested_between_blocks() -> None:
    clean = Counted([0] * 10, [60] * 10)
    burst, spread = Counted([40, *[0] * 9], [60] * 10), Counted([4] * 10, [60] * 10)
    assert by_counts(clean, spread).test == "Fisher's exact test"
    assert (by_counts(clean, spread).p or 0) < 1e-9
    assert (by_counts(clean, burst).p or 0) > 0.05


@pytest.mark.parametrize(
    ("changes", "missing", "invalid", "conclusion"),
    [
        ([], [], False, "nothing compared"),
        (["not compared"], [], False, "nothing compared"),
        (["not compared"], [], True, "unsettled"),
        (["equivalent", "no worse", "better"], [], False, "nothing worse"),
        (["equivalent", "unsettled"], [], False, "unsettled"),
        (["equivalent", "not compared"], [], False, "unsettled"),
        (["equivalent"], ["only monday has stage high"], False, "unsettled"),
        (["worse", "unsettled", "not compared"], ["only monday has stage high"], True, "worse"),
    ],
)
def test_the_conclusion_is_that_of_the_worst_that_is_known(
    changes: list[str], missing: list[str], invalid: bool, conclusion: str
) -> None:
    by_outcome = {
        "equivalent": concluded("latency_p50", -1, 1, 0.5),
        "no worse": concluded("latency_p50", -9, 1, 0.5),
        "better": concluded("latency_p50", -30, -20, 1e-9),
        "worse": concluded("latency_p50", 20, 30, 1e-9),
        "unsettled": concluded("latency_p50", -20, 30, 0.5),
        "not compared": concluded("latency_p50", 20, 30, 1e-9, barred="another dataset"),
    }
    got, headline = conclude([by_outcome[change] for change in changes], missing, invalid)
    assert got == conclusion
    assert headline.endswith(".")
    assert all(line in headline for line in missing) or conclusion == "worse"


@pytest.mark.parametrize(
    ("open_", "says"),
    [(0, "p50."), (1, "; one more is not settled."), (2, "; 2 more are not settled.")],
)
def test_a_worse_number_is_told_with_how_many_are_open(open_: int, says: str) -> None:
    worse = concluded("latency_p50", 20, 30, 1e-9)
    _, headline = conclude([worse, *[concluded("latency_p50", -20, 30, 0.5)] * open_], [], False)
    assert headline.startswith("Worse: ")
    assert headline.endswith(says)


def test_the_p_value_of_graded_scores_is_twice_the_tail_at_which_their_bounds_reach_zero() -> None:
    changes = np.linspace(-0.2, 0.2, 400) + 0.012
    before = {f"q{i}": 0.4 for i in range(400)}
    p = by_scores(0.4, before, {f"q{i}": 0.4 + change for i, change in enumerate(changes)}).p
    assert p is not None
    assert (
        paired_score_bounds(changes, 0.49 * p, 0.49 * p).low
        < 0
        < paired_score_bounds(changes, 0.51 * p, 0.51 * p).low
    )


def test_a_share_has_a_relative_change_too() -> None:
    """From 0.5 to 0.6, at least to 0.55: a fifth more, at least a tenth."""
    sides = Bounds(0.05, 0.15)
    relative = Evidence(0.5, 0.1, sides, sides, 0.01, 10).difference.relative
    assert (relative.value, relative.low, relative.high) == pytest.approx((0.2, 0.1, 0.3))
