"""The search for a capacity, in virtual time: plants of known capacity, seeded."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.plan.search_coverage import bisected, searched
from benchmarks.plan.search_plants import Plant, cliff, curve, drifting, flat, in_turn, mm1
from results.capacity.search.backlog import backlog_grows
from results.capacity.search.bracket import bracket, lower_bound, upper_bound
from results.capacity.search.posterior import RateRange
from results.capacity.search.probe import ProbeShare, RateProbe, ShareLimit, overload, probe_share
from results.capacity.search.search import NextProbe, Search, SearchEffort, SearchOutcome

LIMIT = ShareLimit("ttft_p95", 0.05, 500.0, "500ms")


def probe(
    rate: float,
    over: int,
    n: int = 200,
    *,
    inflation: float = 1.0,
    overloaded: str | None = None,
    arrived: float | None = None,
) -> RateProbe:
    shares = {LIMIT.metric: ProbeShare(over, n, inflation)}
    return RateProbe(rate, arrived or rate, shares, overloaded, rate)


def test_bounds_are_those_of_exact_binomials() -> None:
    [high] = [upper_bound([probe(1, 3)], LIMIT.metric, 0.05)]
    assert binom.cdf(3, 200, high) == pytest.approx(0.05, rel=1e-6)
    low = lower_bound([probe(1, 30)], LIMIT.metric, 0.05)
    assert binom.sf(29, 200, low) == pytest.approx(0.05, rel=1e-6)
    assert lower_bound([probe(1, 0)], LIMIT.metric) == 0.0
    assert upper_bound([probe(1, 200)], LIMIT.metric) == pytest.approx(1.0, abs=1e-6)


def test_ends_of_the_bracket_are_probes_that_show_it() -> None:
    ends = bracket([probe(5, 0), probe(10, 9), probe(20, 60)], [LIMIT])
    assert (ends.holds.rate, ends.fails.rate) == (5, 20)


def test_neighbours_that_settle_nothing_alone_do_so_together() -> None:
    few = [probe(10, 1, 80), probe(10.2, 1, 80), probe(10.4, 0, 80)]
    assert all(bracket([each], [LIMIT]).holds.rate == 0 for each in few)
    assert bracket(few, [LIMIT]).holds.rate == 10.2  # the upper two
    many = [probe(10, 10, 80), probe(10.4, 9, 80), probe(10.8, 10, 80)]
    assert all(bracket([each], [LIMIT]).fails.rate == np.inf for each in many)
    assert bracket(many, [LIMIT]).fails.rate == 10.4  # the lower two


def test_an_end_is_the_rate_that_arrived_where_chance_made_it_easier() -> None:
    ends = bracket([probe(5, 0, arrived=4.5), probe(10, 60, arrived=9.0)], [LIMIT])
    assert (ends.holds.rate, ends.fails.rate) == (pytest.approx(4.5), 10)
    ends = bracket([probe(5, 0, arrived=5.5), probe(10, 60, arrived=11.0)], [LIMIT])
    assert (ends.holds.rate, ends.fails.rate) == (5, pytest.approx(11.0))


def test_an_overloaded_server_fails_whatever_its_share() -> None:
    ends = bracket([probe(5, 0), probe(10, 0, overloaded="the queue grew")], [LIMIT])
    assert (ends.holds.rate, ends.fails.rate) == (5, 10)


def test_every_objective_must_hold_and_one_that_fails_is_enough() -> None:
    other = ShareLimit("error_rate", 0.1, None, "10%")
    shares = {LIMIT.metric: ProbeShare(0, 200, 1.0), other.metric: ProbeShare(60, 200, 1.0)}
    ends = bracket([RateProbe(5, 5, shares, None, 5)], [LIMIT, other])
    assert (ends.holds.rate, ends.fails.rate) == (0.0, 5)


def test_independent_requests_count_in_full_and_busy_spells_count_once() -> None:
    rng = np.random.default_rng(1)
    independent = [
        probe_share(rng.random(1000) < 0.05, rng.random(1000), 0.05).inflation for _ in range(20)
    ]
    assert 1.0 <= np.median(independent) < 1.5
    spells = np.repeat(rng.random(20) < 0.3, 50)
    assert probe_share(spells, spells.astype(float), 0.05).inflation > 20


def test_a_probe_without_a_slow_request_still_shows_its_busy_spells() -> None:
    rng = np.random.default_rng(2)
    at = np.cumsum(rng.exponential(1.0, 2000))
    took = in_turn(at, rng.exponential(0.8, 2000))
    share = probe_share(np.zeros(2000, dtype=np.bool_), took, 0.05)
    assert share.over == 0
    assert share.inflation > 5


def test_a_queue_that_grows_is_an_overload_and_a_steady_one_is_not() -> None:
    rng = np.random.default_rng(3)
    at = np.cumsum(rng.exponential(1.0, 1000))
    assert overload(at, in_turn(at, rng.exponential(1.3, 1000))) is not None
    assert overload(at, in_turn(at, rng.exponential(0.5, 1000))) is None


def test_backlog_grows_at_twice_the_capacity_and_not_below_it() -> None:
    rng = np.random.default_rng(4)
    at = np.cumsum(rng.exponential(1.0, 400))
    moments = np.arange(20.0, at[-1], 2.0)

    def grows(work: float) -> bool:
        ends = np.sort(at + in_turn(at, rng.exponential(work, 400)))
        arrived, ended = np.searchsorted(at, moments), np.searchsorted(ends, moments)
        return any(backlog_grows(arrived[:k], ended[:k]) for k in range(len(moments)))

    assert grows(2.0)
    assert not any(grows(0.7) for _ in range(20))


@pytest.mark.parametrize(
    "plant", [mm1(1.0), curve(20.0, 8.0), cliff(12.0), curve(7.0, 40.0)], ids=lambda p: p.name
)
def test_the_interval_has_the_true_capacity_and_is_narrow(plant: Plant) -> None:
    result = searched(plant, plant.capacity * 6, np.random.default_rng(5))
    assert result.covers, result.outcome
    assert result.outcome.resolved
    assert result.width <= 0.2
    assert len(result.probes) <= 10


def test_the_capacity_of_an_mm1_queue_is_that_of_the_closed_form() -> None:
    plant, rng = mm1(1.0), np.random.default_rng(6)
    at = np.cumsum(rng.exponential(1 / plant.capacity, 200_000))
    over = plant.serve(at, rng, 0.0, plant.capacity)[10_000:] > plant.limit_s
    assert plant.capacity == pytest.approx(10 - log(20))
    assert over.mean() == pytest.approx(0.05, abs=0.004)


def test_where_all_hold_it_says_at_least() -> None:
    result = searched(flat(0.3), 50.0, np.random.default_rng(7))
    assert result.outcome.holds == pytest.approx(50, rel=0.05)
    assert result.outcome.fails is None
    assert result.outcome.resolved
    assert "holds at least" in result.outcome.sentence
    assert len(result.probes) == 2  # the highest rate, and its confirmation


def test_where_none_holds_it_says_so_after_the_lowest_rate() -> None:
    result = searched(flat(3.0), 50.0, np.random.default_rng(8))
    assert result.outcome.holds is None
    assert result.outcome.resolved
    assert "no rate holds" in result.outcome.sentence
    assert [each.rate for each in result.probes][-1] == 0.5
    assert len(result.probes) <= 3


def test_a_server_that_slows_down_meanwhile_is_not_resolved_with_its_old_capacity() -> None:
    outcomes = [
        searched(drifting(1.0, 1.5, 1_500.0), 30.0, np.random.default_rng(seed)).outcome
        for seed in range(8)
    ]
    for outcome in outcomes:
        assert not (outcome.resolved and (outcome.holds or 0) > 3.7)  # 10 / 2.5 - ln 20 < 1.1


def test_a_rate_that_held_and_failed_later_is_a_change_of_the_server() -> None:
    search = Search.up_to(50.0, [LIMIT])
    outcome = search.after([probe(10, 0), probe(8, 60)])
    assert isinstance(outcome, SearchOutcome)
    assert not outcome.resolved
    assert "did not stay as it was" in outcome.sentence


def test_a_prior_starts_the_search_beside_its_middle() -> None:
    plant = mm1(1.0)
    near = searched(plant, 200.0, np.random.default_rng(9), RateRange(6.5, 7.5))
    assert 6.3 < near.probes[0].rate < 7.7
    assert near.covers


def test_a_wrong_prior_costs_probes_and_no_coverage() -> None:
    plant = mm1(1.0)
    for seed in range(5):
        result = searched(plant, 60.0, np.random.default_rng(seed), RateRange(20.0, 22.0))
        assert result.covers, result.outcome


def test_it_ends_unresolved_where_its_time_is_over() -> None:
    result = searched(mm1(1.0), 60.0, np.random.default_rng(10), effort=SearchEffort(seconds=200.0))
    assert not result.outcome.resolved
    assert sum(each.seconds for each in result.probes) <= 205
    assert result.covers


def test_the_last_probe_takes_the_time_that_is_left() -> None:
    search = Search.up_to(60.0, [LIMIT], effort=SearchEffort(seconds=200.0))
    step = search.after([probe(60, 900, 1000), probe(10, 9, 1500)])  # 17 s, and 150 s
    assert isinstance(step, NextProbe)
    assert step.requests / step.rate <= 200 - 1000 / 60 - 150


def test_it_names_the_rate_that_kept_the_limits_without_showing_that_it_holds() -> None:
    search = Search.up_to(60.0, [LIMIT], effort=SearchEffort(seconds=50.0))
    kept = [probe(4, 0, 100, inflation=4.0), probe(8, 0, 80, inflation=4.0)]
    outcome = search.after([probe(60, 300, 300), *kept, probe(9, 1, 80, inflation=4.0)])
    assert isinstance(outcome, SearchOutcome)
    assert outcome.sentence == (
        "fails at 60 requests/s; no rate was shown to hold; 80 requests at 8 requests/s kept the "
        "limits, too few to show it; unresolved after 4 probes, 49 s; more time may help"
    )
    few = replace(search, effort=SearchEffort(probes=4))
    over = few.after([probe(60, 300, 300), *kept, probe(9, 60, 80, inflation=4.0)])
    assert isinstance(over, SearchOutcome)
    assert over.sentence.endswith("; unresolved after 4 probes, 49 s; more probes may help")


def test_a_rate_that_the_client_could_not_offer_is_no_failure_of_the_server() -> None:
    search = Search.up_to(100.0, [LIMIT])
    late = probe(100, 200)
    doubtful = RateProbe(100, 100, late.shares, None, 80, doubt="the load generator sent late")
    step = search.after([doubtful])
    assert isinstance(step, NextProbe)
    assert step.rate == 80
    held = [doubtful, probe(80, 0), probe(80, 0)]
    outcome = search.after(held)
    assert isinstance(outcome, SearchOutcome)
    assert (outcome.holds, outcome.fails, outcome.resolved) == (80, None, False)
    assert "sent late" in outcome.sentence


def test_a_wide_interval_is_not_resolved_where_the_client_was_late_inside_it() -> None:
    search = Search.up_to(100.0, [LIMIT], effort=SearchEffort(seconds=60.0))
    late = RateProbe(40, 40, probe(40, 0).shares, None, 40, doubt="the load generator sent late")
    probes = [probe(100, 200), late, probe(32, 0), probe(32, 0)]
    outcome = search.after(probes)
    assert isinstance(outcome, SearchOutcome)
    assert (outcome.holds, outcome.fails, outcome.resolved) == (32, 100, False)
    assert "at 40 requests/s the load generator sent late" in outcome.sentence
    long = replace(late, shares=probe(40, 0, 2_400).shares)  # 60 s that count for nothing
    over = search.after([probe(100, 200), long])
    assert isinstance(over, SearchOutcome)
    assert "unresolved after 2 probes, 62 s; more time may help; at 40 requests/s" in over.sentence


def test_the_same_probes_give_the_same_next_probe() -> None:
    probes = [probe(50, 200, overloaded="x"), probe(10, 2), probe(14, 11)]
    search = Search.up_to(50.0, [LIMIT])
    assert search.after(probes) == search.after(list(probes))


def test_it_needs_fewer_probes_than_bisection() -> None:
    plant = curve(9.0, 8.0)
    ours = [len(searched(plant, 50.0, np.random.default_rng(s)).probes) for s in range(6)]
    halved = [bisected(plant, 50.0, np.random.default_rng(s)) for s in range(6)]
    assert np.mean(ours) < np.mean(halved)


def test_a_prior_beyond_the_highest_rate_is_no_reason_to_offer_more() -> None:
    step = Search.up_to(50.0, [LIMIT], RateRange(200.0, 300.0)).after([])
    assert isinstance(step, NextProbe)
    assert step.rate == 50.0
