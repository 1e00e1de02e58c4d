"""Statistics against closed forms, properties and simulated truth."""

from __future__ import annotations

from math import exp, inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import nct, norm

from benchmarks.decision.simulate import (
    Machine,
    coverage,
    differences,
    differences_by_bootstrap,
    differences_when_peeking,
    false_ships,
)
from results.metrics import FLOORS
from results.statistics.block_percentiles import design_effect, mixture_bounds, percentile_bounds
from results.statistics.intervals import (
    Bounds,
    bootstrap_bounds,
    count_bounds,
    estimate,
    holm,
    order_statistic_bounds,
    paired_log_bounds,
    percentile,
    ratio_bounds,
    score_p,
    share_bounds,
    t_bounds,
    t_p,
    upper_percentile,
)

NOMINAL = 0.05 + 0.014  # 5 %, and two standard errors of 1,000 comparisons

values = arrays(np.float64, st.integers(20, 60), elements=st.floats(0.1, 1e4))


def test_t_interval_by_hand() -> None:
    """1, 2, 3: mean 2, standard error 1/sqrt(3), and t(0.975, 2) is 4.303."""
    bounds = t_bounds(2.0, [1.0, 2.0, 3.0], 0.025, 0.025)
    assert bounds.low == pytest.approx(2 - 4.30265 / 3**0.5, rel=1e-5)
    assert bounds.high == pytest.approx(2 + 4.30265 / 3**0.5, rel=1e-5)
    assert t_bounds(2.0, [2.0], 0.025, 0.025).low == -inf


def test_exact_share_by_hand() -> None:
    """No failure in n: the upper bound u has (1 - u)^n = tail; the rule of three is near."""
    bounds = share_bounds(0, 200, 0.05, 0.05)
    assert bounds.low == 0
    assert (1 - bounds.high) ** 200 == pytest.approx(0.05)
    assert share_bounds(200, 200, 0.05, 0.05).low == pytest.approx(0.05 ** (1 / 200))
    assert share_bounds(0, 0, 0.05, 0.05).high == 1


def test_count_by_hand() -> None:
    """Nothing counted: e^-u = tail. One counted: the lower bound l has 1 - e^-l = tail."""
    assert count_bounds(0, 0.05, 0.05).high == pytest.approx(-log(0.05))
    assert count_bounds(1, 0.05, 0.05).low == pytest.approx(-log(0.95))


def test_order_statistics_of_the_median_by_hand() -> None:
    """The ranks of a median's bounds are symmetric; the extreme ones miss it by 2 x 2^-n."""
    ordered = np.arange(1.0, 6.0)
    bounds = order_statistic_bounds(ordered, 50, 2**-5, 2**-5)
    assert (bounds.low, bounds.high) == (pytest.approx(1), pytest.approx(5))
    assert order_statistic_bounds(ordered, 50, 0.01, 0.01).low == -inf


@pytest.mark.parametrize(("q", "floor"), FLOORS.items())
def test_no_percentile_under_its_floor(q: float, floor: int) -> None:
    assert percentile(np.ones(floor), q).value == 1
    under = percentile(np.ones(floor - 1), q)
    assert under.value is None
    assert f"{floor:,}" in (under.reason or "")


@given(values, st.sampled_from([50.0, 90.0]))
def test_percentile_bounds_hold_the_percentile_and_scale_with_the_values(
    x: np.ndarray, q: float
) -> None:
    bounds = order_statistic_bounds(np.sort(x), q, 0.025, 0.025)
    assert bounds.low <= np.percentile(x, q) + 1e-9
    assert bounds.high >= np.percentile(x, q) - 1e-9
    twice = order_statistic_bounds(np.sort(2 * x), q, 0.025, 0.025)
    assert twice.high == pytest.approx(2 * bounds.high)
    wider = order_statistic_bounds(np.sort(x), q, 0.005, 0.005)
    assert wider.low <= bounds.low
    assert wider.high >= bounds.high


@given(st.lists(values, min_size=2, max_size=5))
def test_deciding_bounds_hold_the_pooled_percentile(blocks: list[np.ndarray]) -> None:
    bounds = percentile_bounds(blocks, 50, 0.05, 0.05)
    assert bounds.low <= np.percentile(np.concatenate(blocks), 50) * (1 + 1e-9)
    assert bounds.high >= np.percentile(np.concatenate(blocks), 50) * (1 - 1e-9)


def test_a_common_factor_drops_out_of_a_paired_ratio() -> None:
    moods = np.array([1.0, 3.0, 0.5, 2.0])
    bounds = paired_log_bounds((1.1 * moods).tolist(), moods.tolist(), 1.1, 0.025, 0.025)
    assert (bounds.low, bounds.high) == (pytest.approx(1.1), pytest.approx(1.1))
    assert paired_log_bounds([0.0, 1.0], [1.0, 1.0], 0.5, 0.025, 0.025).high == inf


def test_paired_ratio_by_hand() -> None:
    """Log-ratios log 2 and log 4: mean log sqrt(8), error log(2)/2, and t(0.975, 1) is 12.706."""
    bounds = paired_log_bounds([2.0, 4.0], [1.0, 1.0], 3.0, 0.025, 0.025)
    assert bounds.low == pytest.approx(exp(log(8) / 2 - 12.7062 * log(2) / 2), rel=1e-4)


def test_ratio_of_means_that_are_proportional_is_certain() -> None:
    below = np.array([1.0, 5.0, 2.0])
    assert ratio_bounds(1.5 * below, below, 0.05, 0.05).low == pytest.approx(1.5)


def test_mcnemar_by_hand() -> None:
    """Won 5, lost 0: 2 x 0.5^5. Won 9, lost 3: 2 x P(Bin(12, 1/2) <= 3) = 2 x 299/4096."""
    assert score_p(np.array([1.0] * 5 + [0.0] * 40)) == pytest.approx(2 * 0.5**5)
    assert score_p(np.array([1.0] * 9 + [-1.0] * 3)) == pytest.approx(2 * 299 / 4096)
    assert score_p(np.zeros(10)) == 1


def test_holm_by_hand() -> None:
    """0.01 <= 0.05/3, 0.03 > 0.05/2, and after the first that is kept all are."""
    assert holm({"a": 0.03, "b": 0.01, "c": 0.04}) == {"b": True, "a": False, "c": False}


def test_the_bootstrap_of_many_values_is_as_wide_as_t_and_holds_the_truth_of_few() -> None:
    x = np.random.default_rng(1).normal(5, 1, 200)
    bounds, theory = bootstrap_bounds(x, 0.025, 0.025), t_bounds(float(np.mean(x)), x, 0.025, 0.025)
    assert bounds.high - bounds.low == pytest.approx(theory.high - theory.low, rel=0.1)
    assert (
        differences_by_bootstrap(Machine(), 95, comparisons=500, seed=16, per_block=100)
        <= NOMINAL + 0.006
    )  # 2 errors of 500
    assert bootstrap_bounds([1.0, 2.0, 3.0], 0.025, 0.025).high == inf
    assert bootstrap_bounds([2.0] * 8, 0.025, 0.025).high == 2


def test_t_test_by_hand() -> None:
    """1, 2, 3: t = 2 x sqrt(3) with 2 degrees of freedom; p = 1 - t / sqrt(t^2 + 2)."""
    t = 2 * 3**0.5
    assert t_p([1.0, 2.0, 3.0]) == pytest.approx(1 - t / (t * t + 2) ** 0.5)


def test_blocks_that_differ_say_so() -> None:
    rng = np.random.default_rng(5)
    alike = [rng.lognormal(size=100) for _ in range(10)]
    apart = [block * factor for block, factor in zip(alike, np.linspace(0.5, 3, 10), strict=True)]
    assert design_effect(alike, 95) < 2
    assert design_effect(alike[:1], 95) == 1
    assert design_effect(apart, 95) > 4
    assert (
        percentile_bounds(apart, 95, 0.05, 0.05).high
        > order_statistic_bounds(np.sort(np.concatenate(apart)), 95, 0.05, 0.05).high
    )


@pytest.mark.parametrize("value", [0.9, 2.1, inf])
def test_a_value_outside_its_own_interval_can_not_be_made(value: float) -> None:
    with pytest.raises(ValueError, match="outside its own bounds"):
        estimate(value, Bounds(1.0, 2.0), 10)


@given(st.floats(0.1, 10), st.floats(0, 1), st.floats(0, 1))
def test_rounding_is_put_right(value: float, below: float, above: float) -> None:
    bounds = estimate(value * (1 - 1e-15), Bounds(value - below, value + above), 1)
    assert bounds.low is not None
    assert bounds.high is not None
    assert bounds.value is not None
    assert bounds.low <= bounds.value <= bounds.high


# What the decision promises, on simulated measurements (the long version: make bench-decision).


@pytest.mark.parametrize(
    "machine",
    [Machine(), Machine(0.5), Machine(0.9), Machine(drift=0.5)],
    ids=["iid", "rho 0.5", "rho 0.9", "drift"],
)
def test_two_equal_variants_are_seldom_called_different(machine: Machine) -> None:
    assert differences(machine, 95, comparisons=2000, seed=11, per_block=200) <= NOMINAL


@pytest.mark.parametrize("autocorrelation", [0.0, 0.5, 0.9])
def test_a_variant_at_its_limit_seldom_ships(autocorrelation: float) -> None:
    assert (
        false_ships(Machine(autocorrelation), 95, comparisons=400, seed=12, per_block=100)
        <= NOMINAL + 0.008
    )  # 2 errors of 400


@pytest.mark.parametrize("effect", [0.1, 0.3, 0.6])
def test_nor_does_one_whose_blocks_differ(effect: float) -> None:
    machine = Machine(0.5, block_effect=effect)
    assert (
        false_ships(machine, 95, comparisons=300, seed=17, blocks=8, per_block=26)
        <= NOMINAL + 0.011
    )  # 2 errors of 300


def test_peeking_after_every_block_adds_no_errors() -> None:
    assert (
        differences_when_peeking(Machine(0.5), 95, comparisons=1000, seed=15, per_block=100)
        <= NOMINAL
    )


def test_ten_percent_slower_is_seen() -> None:
    assert differences(Machine(), 95, comparisons=200, seed=13, factor=1.1) >= 0.8


@pytest.mark.parametrize("shape", ["lognormal", "Pareto", "bimodal"])
@pytest.mark.parametrize(("q", "n"), [(50, 200), (95, 400), (99, 1000)])
def test_intervals_of_percentiles_cover_the_truth(shape: str, q: float, n: int) -> None:
    assert 0.93 <= coverage(shape, q, n, comparisons=1000, seed=14) <= 0.97


@pytest.mark.parametrize("tail", [0.05, 0.025, 0.005, 0.001])
def test_equal_requests_in_a_block_have_the_tolerance_limit_of_the_tables(tail: float) -> None:
    """Ten blocks with log levels of mean 0 and deviation 1: noncentral t (tables: 2.911, 95 %)."""
    logs = np.array([-1.0, 1.0] * 5) / np.std([-1.0, 1.0] * 5, ddof=1)
    bounds = mixture_bounds([np.full(30, np.exp(x)) for x in logs], 95, tail, tail)
    low, high = nct.ppf([tail, 1 - tail], 9, norm.ppf(0.95) * 10**0.5) / 10**0.5
    assert np.log(bounds.high) == pytest.approx(high, rel=0.015)
    assert np.log(bounds.low) == pytest.approx(low, rel=0.04)


def test_bounds_of_many_blocks_close_in_on_the_percentile() -> None:
    """Levels that spread by 0.3 and requests by 0.4, in logarithms: together by 0.5."""
    rng = np.random.default_rng(6)
    widths = []
    for k in (10, 1000):
        blocks = [rng.lognormal(level, 0.4, size=50) for level in rng.normal(0, 0.3, k)]
        bounds = mixture_bounds(blocks, 95, 0.05, 0.05)
        widths.append(log(bounds.high / bounds.low))
    assert widths[1] < widths[0] / 5
    assert bounds.high == pytest.approx(exp(0.5 * norm.ppf(0.95)), rel=0.1)


@given(st.lists(values, min_size=2, max_size=5), st.floats(0.1, 10))
def test_mixture_bounds_scale_with_the_values_and_widen_with_confidence(
    blocks: list[np.ndarray], factor: float
) -> None:
    bounds, scaled = (
        mixture_bounds([times * b for b in blocks], 95, 0.05, 0.05) for times in (1, factor)
    )
    if bounds.low > 0 and bounds.high < inf and scaled.low > 0 and scaled.high < inf:
        assert scaled.low == pytest.approx(factor * bounds.low, rel=1e-3)
        assert scaled.high == pytest.approx(factor * bounds.high, rel=1e-3)
    surer = mixture_bounds(blocks, 95, 0.01, 0.01)
    assert surer.low <= bounds.low * (1 + 1e-9)
    assert surer.high >= bounds.high * (1 - 1e-9)


def test_a_percentile_beside_a_failure_rests_on_the_value_alone() -> None:
    """p95 of 201 values is the 191st; the ten after it failed, and have no weight in it."""
    values = np.where(np.arange(201.0) > 190, np.inf, np.arange(201.0))
    assert upper_percentile(values, 95) == 190
    assert upper_percentile(np.append(values, np.inf), 95) == np.inf
