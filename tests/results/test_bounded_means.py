"""Bounds of means of bounded values against exact ones, resampled weights and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import beta, binomtest

from results.statistics.bounded_means import (
    bounded_mean_bounds,
    extrapolated_mean_bounds,
    paired_score_bounds,
    score_bounds,
)

levels = st.sampled_from([0.0, 0.25, 0.5, 2 / 3, 1.0])
scores = arrays(np.float64, st.integers(2, 40), elements=levels | st.floats(0, 1))


@pytest.mark.parametrize(("right", "n"), [(0, 20), (1, 3), (7, 400), (400, 400)])
def test_of_right_and_wrong_answers_they_are_exact(right: int, n: int) -> None:
    bounds = score_bounds(np.array([1.0] * right + [0.0] * (n - right)), 0.025, 0.025)
    exact = binomtest(right, n).proportion_ci(0.95, "exact")
    assert (bounds.low, bounds.high) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_of_losses_only_the_lower_bound_is_exact() -> None:
    """4 of 100 prompts lost, none won: the share of losses is binomial."""
    bounds = paired_score_bounds(np.array([-1.0] * 4 + [0.0] * 96), 0.05, 0.05)
    assert bounds.low == pytest.approx(-beta.ppf(0.95, 5, 96))


@pytest.mark.parametrize(
    "values",
    [
        np.array([-1.0] * 5 + [0.0] * 90 + [1.0] * 5),
        np.array([0.0, 0.5, 0.5, 1.0]),
        np.random.default_rng(1).beta(2, 0.5, 60),
        np.full(20, 0.5),
    ],
    ids=["won, lost or even", "four scores", "graded", "all equal"],
)
@pytest.mark.parametrize("tail", [0.05, 0.005])
def test_of_graded_scores_they_are_quantiles_of_a_randomly_weighted_mean(
    values: np.ndarray, tail: float
) -> None:
    bounds = bounded_mean_bounds(values, -1, 1, tail, tail)
    weights = np.random.default_rng(2).dirichlet(np.ones(len(values) + 1), 200_000)
    reach = bounds.high - bounds.low
    assert bounds.low == pytest.approx(
        np.quantile(weights @ np.append(values, -1), tail), abs=0.01 * reach
    )
    assert bounds.high == pytest.approx(
        np.quantile(weights @ np.append(values, 1), 1 - tail), abs=0.01 * reach
    )


@given(scores)
def test_they_hold_the_mean_and_stay_in_range(x: np.ndarray) -> None:
    bounds = score_bounds(x, 0.025, 0.025)
    assert 0 <= bounds.low <= np.mean(x) <= bounds.high <= 1
    surer = score_bounds(x, 0.01, 0.01)
    assert surer.low <= bounds.low + 1e-9
    assert surer.high >= bounds.high - 1e-9


@given(scores)
def test_paired_scores_turn_round_with_the_pair(x: np.ndarray) -> None:
    y = x[::-1]
    bounds, turned = paired_score_bounds(x - y, 0.05, 0.05), paired_score_bounds(y - x, 0.05, 0.05)
    assert (turned.low, turned.high) == (pytest.approx(-bounds.high), pytest.approx(-bounds.low))


@given(scores, st.floats(0.01, 100), st.floats(-50, 50))
def test_without_a_range_they_move_and_scale_with_the_values(
    x: np.ndarray, scale: float, shift: float
) -> None:
    bounds, moved = (
        extrapolated_mean_bounds(x, 0.05, 0.05),
        extrapolated_mean_bounds(scale * x + shift, 0.05, 0.05),
    )
    assert moved.low == pytest.approx(scale * bounds.low + shift, rel=1e-5, abs=1e-5 * scale)
    assert moved.high == pytest.approx(scale * bounds.high + shift, rel=1e-5, abs=1e-5 * scale)


def test_no_change_in_few_prompts_is_no_certainty() -> None:
    assert paired_score_bounds(np.zeros(20), 0.025, 0.025).low < -0.05
    assert score_bounds(np.full(20, 0.5), 0.025, 0.025).low < 0.5
    nothing = score_bounds(np.empty(0), 0.025, 0.025)
    assert (nothing.low, nothing.high) == (0, 1)


def test_values_whose_mean_rounds_to_the_highest_of_them() -> None:
    x = 3 * np.array([0, 2.220446049250313e-16, 2.220446049250313e-16, 2.220446049250313e-16]) + 4
    bounds = extrapolated_mean_bounds(x, 0.05, 0.05)
    assert (bounds.low, bounds.high) == (pytest.approx(4), pytest.approx(4))


def test_values_that_differ_by_rounding_are_one() -> None:
    values = np.array([0.1 + 0.2, 0.3] * 20)
    bounds = extrapolated_mean_bounds(values, 0.05, 0.05)
    assert (bounds.low, bounds.high) == (pytest.approx(0.3), pytest.approx(0.3))
