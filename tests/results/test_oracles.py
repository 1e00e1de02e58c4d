"""What the statistics compute by hand is what scipy and statsmodels compute."""

from __future__ import annotations

from math import exp, inf, log, sqrt

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.rates import confint_poisson
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from results.comparison.resolution import PairSpread, smallest_change
from results.statistics.block_means import lognormal_mean_bounds
from results.statistics.block_percentiles import design_effect, mixture_bounds
from results.statistics.intervals import (
    Bounds,
    bootstrap_bounds,
    count_bounds,
    holm,
    log_t_bounds,
    order_statistic_bounds,
    paired_log_bounds,
    ratio_bounds,
    score_p,
    share_bounds,
    t_bounds,
    t_p,
)
from results.statistics.unpaired import Counted, Welch, fisher_p, kruskal_p

Floats = NDArray[np.float64]
TAILS = some.sampled_from([0.1, 0.05, 0.025, 0.005, 0.0005])
SAMPLES = arrays(np.float64, some.integers(2, 40), elements=some.floats(0.1, 1e4))
SPREAD = 1e-6
"""Of a sample's standard deviation to its largest value: under it, the two round differently."""


def ends(bounds: Bounds) -> tuple[float, float]:
    return bounds.low, bounds.high


def spreads(values: Floats) -> bool:
    return float(np.std(values)) > SPREAD * float(np.abs(values).max())


@given(some.integers(0, 5000), some.integers(1, 5000), TAILS, TAILS)
def test_a_share_is_bounded_as_by_clopper_and_pearson(
    count: int, n: int, low: float, high: float
) -> None:
    """Each side has a tail of its own: statsmodels' interval at twice the tail has that bound."""
    count = min(count, n)
    bounds = share_bounds(count, n, low, high)
    assert bounds.low == pytest.approx(
        proportion_confint(count, n, 2 * low, method="beta")[0], rel=1e-9
    )
    assert bounds.high == pytest.approx(
        proportion_confint(count, n, 2 * high, method="beta")[1], rel=1e-9
    )
    # And by what makes it exact, the binomial itself.
    if 0 < count < n:
        assert stats.binom.sf(count - 1, n, bounds.low) == pytest.approx(low, rel=1e-6)
        assert stats.binom.cdf(count, n, bounds.high) == pytest.approx(high, rel=1e-6)


@given(some.integers(0, 10_000), TAILS, TAILS)
def test_a_count_is_bounded_as_by_garwood(count: int, low: float, high: float) -> None:
    bounds = count_bounds(count, low, high)
    below, _ = confint_poisson(count, 1, method="exact-c", alpha=2 * low)
    _, above = confint_poisson(count, 1, method="exact-c", alpha=2 * high)
    assert bounds.low == pytest.approx(0.0 if count == 0 else below, rel=1e-9)
    assert bounds.high == pytest.approx(above, rel=1e-9)


@given(some.integers(0, 400), some.integers(0, 400), some.integers(0, 400))
def test_won_and_lost_answers_are_tested_as_by_mcnemar(won: int, lost: int, even: int) -> None:
    assume(won + lost + even > 0)
    differences = np.array([1.0] * won + [-1.0] * lost + [0.0] * even)
    assert score_p(differences) == pytest.approx(
        mcnemar([[even, won], [lost, 0]], exact=True).pvalue, rel=1e-9
    )
    if won + lost:
        assert score_p(differences) == pytest.approx(
            stats.binomtest(won, won + lost).pvalue, rel=1e-9
        )


@given(arrays(np.float64, some.integers(2, 40), elements=some.floats(-1, 1, width=32)))
def test_graded_answers_are_tested_as_by_student(differences: Floats) -> None:
    assume(spreads(differences) and not np.isin(differences, [-1, 0, 1]).all())
    assert score_p(differences) == pytest.approx(
        stats.ttest_1samp(differences, 0).pvalue, rel=1e-6, abs=1e-12
    )


# Of up to twelve, no step's limit (0.05, 0.025, ...) itself, where the two may round differently.
P_VALUES = some.sampled_from(
    [0.0, 0.001, 0.0043, 0.0051, 0.0066, 0.0084, 0.012, 0.016, 0.024, 0.03, 0.049, 0.2, 1.0]
)


@given(
    some.lists(some.lists(some.integers(0, 20), min_size=1, max_size=12), min_size=2, max_size=4)
)
def test_samples_are_told_apart_by_rank_as_by_kruskal_and_wallis(groups: list[list[int]]) -> None:
    assume(len({value for group in groups for value in group}) > 1)
    samples = [np.array(group, float) for group in groups]
    assert kruskal_p(samples) == pytest.approx(stats.kruskal(*samples).pvalue, rel=1e-9)


@settings(max_examples=12)  # statsmodels collects garbage at every call
@given(some.lists(P_VALUES, min_size=1, max_size=12))
def test_several_hypotheses_are_rejected_as_by_holm(p_values: list[float]) -> None:
    rejected = holm({str(number): p for number, p in enumerate(p_values)}, 0.05)
    theirs = multipletests(p_values, 0.05, method="holm")[0]
    assert [rejected[str(number)] for number in range(len(p_values))] == list(theirs)


@given(SAMPLES, TAILS, TAILS)
def test_a_mean_is_bounded_as_by_student(values: Floats, low: float, high: float) -> None:
    assume(spreads(values))
    bounds = t_bounds(float(np.mean(values)), values, low, high)
    described = DescrStatsW(values)
    assert bounds.low == pytest.approx(
        described.tconfint_mean(low, "larger")[0], rel=1e-7, abs=1e-7
    )
    assert bounds.high == pytest.approx(
        described.tconfint_mean(high, "smaller")[1], rel=1e-7, abs=1e-7
    )
    assert t_p(values) == pytest.approx(described.ttest_mean(0)[1], rel=1e-6, abs=1e-12)
    # Of positive values, by their logarithms.
    logs = np.log(values)
    assume(spreads(logs))
    geometric = log_t_bounds(exp(float(np.mean(logs))), list(values), low, high)
    expected = stats.ttest_1samp(logs, 0).confidence_interval(1 - 2 * low)
    assume(expected.high < 600)
    assert geometric.low == pytest.approx(exp(expected.low), rel=1e-6)
    expected = stats.ttest_1samp(logs, 0).confidence_interval(1 - 2 * high)
    assume(expected.high < 600)
    assert geometric.high == pytest.approx(exp(expected.high), rel=1e-6)


@given(
    some.lists(some.tuples(some.floats(1, 1e3), some.floats(1, 1e3)), min_size=3, max_size=20),
    TAILS,
)
def test_the_ratio_of_paired_blocks_is_bounded_as_by_paired_t(
    pairs: list[tuple[float, float]], tail: float
) -> None:
    variant, base = np.array(pairs).T
    logs = np.log(variant) - np.log(base)
    assume(float(np.std(logs)) > SPREAD)
    interval = stats.ttest_rel(np.log(variant), np.log(base)).confidence_interval(1 - 2 * tail)
    assume(max(map(abs, interval)) < 600)
    bounds = paired_log_bounds(list(variant), list(base), exp(float(np.mean(logs))), tail, tail)
    assert ends(bounds) == pytest.approx((exp(interval.low), exp(interval.high)), rel=1e-6)


@given(
    some.lists(
        some.tuples(some.floats(0, 100, width=32), some.floats(1, 100)), min_size=3, max_size=30
    ),
    TAILS,
)
def test_a_ratio_of_means_is_bounded_by_the_delta_method(
    pairs: list[tuple[float, float]], tail: float
) -> None:
    """The gradient of y / x at the means, and the covariance of the means."""
    above, below = np.array(pairs).T
    gradient = np.array([1 / below.mean(), -above.mean() / below.mean() ** 2])
    variance = float(gradient @ np.cov(above, below) @ gradient) / len(pairs)
    assume(variance > 1e-12)
    reach = sqrt(variance) * stats.t.ppf(1 - tail, len(pairs) - 1)
    ratio = above.mean() / below.mean()
    assert ends(ratio_bounds(above, below, tail, tail)) == pytest.approx(
        (ratio - reach, ratio + reach), rel=1e-6, abs=1e-9
    )


@given(some.integers(20, 400), some.sampled_from([50.0, 90.0, 95.0]), TAILS)
def test_a_percentile_lies_between_the_exact_ranks(n: int, q: float, tail: float) -> None:
    """scipy's interval keeps the tail by whole ranks; the fractional rank lies inside."""
    values = np.arange(1.0, n + 1)  # a value is its own rank
    bounds = order_statistic_bounds(values, q, tail, tail)
    whole = stats.quantile_test(values, p=q / 100).confidence_interval(1 - 2 * tail)
    if np.isfinite(whole.low):
        assert whole.low - 1e-6 <= bounds.low < whole.low + 1 + 1e-6
    if np.isfinite(whole.high):
        assert whole.high - 1 - 1e-6 < bounds.high <= whole.high + 1e-6
    assert (bounds.low == -inf) == bool(stats.binom.cdf(0, n, q / 100) > tail * (1 + 1e-6))
    assert (bounds.high == inf) == bool(stats.binom.sf(n - 1, n, q / 100) > tail * (1 + 1e-6))
    # A rank's share of the population is beta: the fractional rank is where beta meets the tail.
    if bounds.low > -inf:
        rank = brentq(lambda r: stats.beta.sf(q / 100, r, n + 1 - r) - tail, 1e-9, n + 1 - 1e-9)
        assert bounds.low == pytest.approx(rank, abs=1e-5)


@given(SAMPLES, SAMPLES, TAILS)
def test_two_samples_are_compared_as_by_welch(after: Floats, before: Floats, tail: float) -> None:
    assume(spreads(after) and spreads(before))
    theirs = CompareMeans(DescrStatsW(after), DescrStatsW(before))
    ours = Welch.of(list(after), list(before))
    assert ours.p == pytest.approx(theirs.ttest_ind(usevar="unequal")[1], rel=1e-6, abs=1e-12)
    interval = theirs.tconfint_diff(2 * tail, usevar="unequal")
    assert ends(ours.bounds(tail)) == pytest.approx(interval, rel=1e-6, abs=1e-6)


@given(
    some.lists(some.tuples(some.integers(0, 30), some.integers(30, 60)), min_size=2, max_size=12)
)
def test_bursts_are_what_the_test_of_equal_shares_calls_unequal(
    blocks: list[tuple[int, int]],
) -> None:
    counts, sizes = zip(*blocks, strict=True)
    assume(0 < sum(counts) < sum(sizes))
    table = [counts, np.subtract(sizes, counts)]
    p = stats.chi2_contingency(table, correction=False).pvalue
    assume(abs(p - 0.05) > 1e-9)
    assert Counted(counts, sizes).in_bursts == (p < 0.05)


@given(some.integers(2, 40), some.integers(0, 40), some.integers(2, 40), some.integers(0, 40))
def test_two_shares_are_tested_as_by_fisher(n: int, count: int, m: int, other: int) -> None:
    count, other = min(count, n), min(other, m)
    p = stats.fisher_exact([[count, n - count], [other, m - other]])[1]
    assert fisher_p(count, n, other, m) == pytest.approx(p, rel=1e-6)


@pytest.mark.parametrize("blocks", [8, 40, 400])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_what_blocks_show_is_the_power_of_t(blocks: int, power: float) -> None:
    """For a known spread: statsmodels' power is for a spread that the test itself estimates."""
    change = smallest_change(PairSpread(0.1, freedom=10**7), blocks, power)
    effect = TTestPower().solve_power(nobs=blocks, alpha=0.05, power=power)
    assert log(1 + change) / 0.1 == pytest.approx(effect, rel=0.06 if blocks == 8 else 0.01)


@pytest.mark.parametrize(("q", "k"), [(50, 4), (90, 10), (95, 10), (95, 40), (99, 12)])
@pytest.mark.parametrize("tail", [0.05, 0.025])
def test_equal_requests_in_blocks_have_the_normal_tolerance_limit(
    q: float, k: int, tail: float
) -> None:
    """The percentile of lognormal values, a level a block: k1 = t'(n - 1, z sqrt(n)) / sqrt(n)."""
    levels = np.random.default_rng(k).normal(size=k)
    logs = (levels - levels.mean()) / levels.std(ddof=1)
    bounds = mixture_bounds([np.full(30, exp(level)) for level in logs], q, tail, tail)
    shift = stats.norm.ppf(q / 100) * sqrt(k)
    low, high = stats.nct.ppf([tail, 1 - tail], k - 1, shift) / sqrt(k)
    assert log(bounds.high) == pytest.approx(high, rel=0.02, abs=0.02)
    assert log(bounds.low) == pytest.approx(low, rel=0.05, abs=0.02)


@pytest.mark.parametrize("k", [4, 10, 30])
@pytest.mark.parametrize("tail", [0.05, 0.025])
def test_the_mean_of_lognormal_values_has_a_generalised_interval(k: int, tail: float) -> None:
    """The pivot, drawn: mean - z s / sqrt(chi2 / (k - 1)) / sqrt(k) + the variance's half."""
    logs = np.random.default_rng(k).normal(2, 0.5, k)
    mean, deviation = logs.mean(), logs.std(ddof=1)
    rng = np.random.default_rng(1)
    sigma = deviation * np.sqrt((k - 1) / rng.chisquare(k - 1, 400_000))
    drawn = mean + rng.normal(size=400_000) * sigma / sqrt(k) + sigma**2 / 2
    bounds = lognormal_mean_bounds(np.exp(logs), tail, tail)
    assert np.log(ends(bounds)) == pytest.approx(np.quantile(drawn, [tail, 1 - tail]), abs=0.02)


@settings(max_examples=20)
@given(some.integers(0, 1000), some.integers(30, 200))
def test_many_values_are_resampled_as_by_scipy(seed: int, n: int) -> None:
    values = np.random.default_rng(seed).lognormal(size=n)
    ours = bootstrap_bounds(values, 0.05, 0.05)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=0.9,
        n_resamples=4000,
        method="percentile",
        rng=seed,
        vectorized=True,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ends(ours) == pytest.approx((theirs.low, theirs.high), abs=0.1 * width)


@pytest.mark.parametrize("k", [6, 10, 20])
def test_few_values_are_resampled_by_their_t(k: int) -> None:
    """Each resample's t by scipy, one resample at a time."""
    values = np.random.default_rng(k).lognormal(0, 0.3, k)
    rng = np.random.default_rng(99)
    resamples = rng.choice(values, (20_000, k))
    resamples = resamples[np.ptp(resamples, axis=1) > 0]
    far = stats.ttest_1samp(resamples, values.mean(), axis=1).statistic
    error = stats.sem(values)
    low, high = (values.mean() - error * np.quantile(far, each) for each in (0.95, 0.05))
    assert ends(bootstrap_bounds(values, 0.05, 0.05)) == pytest.approx(
        (low, high), abs=0.12 * (high - low)
    )


@given(some.lists(some.integers(0, 3), min_size=2, max_size=12).filter(any))
def test_the_design_effect_is_the_dispersion_of_shares(late: list[int]) -> None:
    """Of blocks of 40 requests, up to 3 are late: p90 is not, and the late lie above it."""
    blocks = [np.array([2.0] * count + [1.0] * (40 - count)) for count in late]
    chi2 = stats.chi2_contingency(
        [late, [40 - count for count in late]], correction=False
    ).statistic
    share = sum(late) / (40 * len(late))
    expected = chi2 / (len(late) - 1) * share * (1 - share) / (0.9 * 0.1)
    assert design_effect(blocks, 90) == pytest.approx(expected, rel=1e-6, abs=1e-9)
