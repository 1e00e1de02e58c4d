"""Statistics of two runs, against scipy's and against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as some
from scipy import stats

from results.statistics.unpaired import Counted, Welch, fisher_p, share_change_bounds

VALUES = some.lists(some.floats(0.1, 1e3), min_size=2, max_size=12)


@given(VALUES, VALUES)
def test_welch_is_scipys(after: list[float], before: list[float]) -> None:
    assume(min(np.std(after) / np.mean(after), np.std(before) / np.mean(before)) > 1e-6)
    ours, theirs = Welch.of(after, before), stats.ttest_ind(after, before, equal_var=False)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)
    interval = theirs.confidence_interval(0.9)
    assert (ours.bounds(0.05).low, ours.bounds(0.05).high) == pytest.approx(
        (interval.low, interval.high), rel=1e-6, abs=1e-9
    )


@given(some.lists(some.tuples(some.floats(1, 1e3), some.floats(1, 1e3)), min_size=3, max_size=12))
def test_pairs_are_scipys(pairs: list[tuple[float, float]]) -> None:
    after, before = zip(*pairs, strict=True)
    assume(np.std(np.subtract(after, before)) > 1e-3)
    assert Welch.of_pairs(after, before).p == pytest.approx(
        stats.ttest_rel(after, before).pvalue, rel=1e-6, abs=1e-12
    )


def test_equal_blocks_are_certain() -> None:
    assert Welch.of([3.0, 3.0], [3.0, 3.0, 3.0]).p == 1
    assert Welch.of([3.0, 3.0], [2.0, 2.0]).p == 0


@given(some.integers(0, 60), some.integers(1, 60), some.integers(0, 900), some.integers(1, 900))
def test_fishers_test_is_scipys(count: int, n: int, other: int, m: int) -> None:
    count, other = min(count, n), min(other, m)
    assert fisher_p(count, n, other, m) == pytest.approx(
        stats.fisher_exact([[count, n - count], [other, m - other]])[1], rel=1e-6
    )


def test_fishers_test_of_large_counts() -> None:
    assert fisher_p(0, 100_000, 100_000, 100_000) == 0
    assert fisher_p(500, 100_000, 520, 100_000) == pytest.approx(
        stats.fisher_exact([[500, 99_500], [520, 99_480]])[1], rel=1e-6
    )


def test_without_an_event_the_bounds_are_closed_forms() -> None:
    """No failure of n leaves out shares over 1 - tail^(1/n); either side has half of the tail."""
    bounds = share_change_bounds(Counted([0, 0], [200, 200]), Counted([0], [300]), 0.05)
    assert bounds.high == pytest.approx(1 - 0.025 ** (1 / 400))
    assert bounds.low == pytest.approx(-(1 - 0.025 ** (1 / 300)))


def test_bounds_of_a_difference_hold_it_in_nearly_all_samples() -> None:
    rng, missed = np.random.default_rng(3), 0
    for _ in range(400):
        now, then = (
            Counted.of([(int(c), 40) for c in rng.binomial(40, p, 8)]) for p in (0.05, 0.02)
        )
        bounds = share_change_bounds(now, then, 0.05)
        missed += not bounds.low <= 0.03 <= bounds.high
    assert missed <= 0.1 * 400


def test_bursts_are_told_from_chance() -> None:
    """Ten blocks of which one has all failures, and the same failures spread by chance."""
    assert Counted([30, *[0] * 9], [60] * 10).in_bursts
    assert not Counted([3, 2, 4, 3, 5, 1, 3, 2, 4, 3], [60] * 10).in_bursts
    assert not Counted([60] * 10, [60] * 10).in_bursts
    assert not Counted([3], [60]).in_bursts
    assert Counted.of([(0, 0), (1, 2)]) == Counted([1], [2])
