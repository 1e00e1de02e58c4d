"""The shares of the 5 %: they add up, whatever happens in a race."""

from __future__ import annotations

from fractions import Fraction
from math import isclose

from hypothesis import given, settings
from hypothesis import strategies as st

from results.decision.looks import LookPlan

plans = st.builds(
    lambda blocks, variants, looks: LookPlan(
        blocks, variants, tuple(blocks + 3 * i for i in range(1, looks))
    ),
    st.integers(2, 60),
    st.integers(1, 24),
    st.integers(1, 6),
)


@settings(max_examples=50)
@given(plans, st.data())
def test_false_ships_of_all_variants_together_share_five_per_cent(
    plan: LookPlan, data: st.DataObject
) -> None:
    """The sum over the looks of what each candidate may spend, for any rising number of losers."""
    spent, candidates = 0.0, plan.variants
    for block in (*plan.before, *plan.verdicts):
        candidates = data.draw(st.integers(1, candidates))
        spent += candidates * plan.at_look(block, candidates).ship
    assert isclose(spent, 0.05)


@settings(max_examples=50)
@given(plans)
def test_false_departures_of_all_variants_together_share_five_per_cent(plan: LookPlan) -> None:
    looks, variants = len(plan.departures), plan.variants
    pairs = variants * (variants - 1)
    own, shares = plan.breaks() + plan.limits(), variants * plan.shares()
    spent = looks * (variants * own + pairs * plan.worse())
    whole = 0.05 if variants > 1 else 0.0375
    assert isclose(spent + shares, whole if looks else shares)
    assert isclose(shares, 0.05 / 8)


@settings(max_examples=50)
@given(plans)
def test_a_variants_own_false_dont_ship_is_five_per_cent_over_all_looks(plan: LookPlan) -> None:
    left = len(plan.departures) * plan.breaks()
    assert isclose(left + len(plan.verdicts) * plan.at_end(1).breaks, 0.05)


def test_the_shares_of_ten_blocks_and_four_variants() -> None:
    """By hand: looks after blocks 2 to 9, and the verdict after the tenth."""
    plan = LookPlan(10, 4)
    assert list(plan.departures) == list(range(2, 10))
    assert Fraction(plan.breaks()).limit_denominator(10**6) == Fraction(1, 20) / 2 / 4 / 8
    assert Fraction(plan.worse()).limit_denominator(10**6) == Fraction(1, 20) / 4 / 4 / 8 / 3
    assert isclose(plan.ship(2, 4), 0.05 * 0.2 / 8 / 4)
    assert isclose(plan.ship(10, 2), 0.05 * 0.8 / 2)
    assert isclose(plan.at_end(2).breaks, 0.05 - 0.05 / 2 / 4)


def test_with_two_blocks_nobody_leaves_and_nothing_is_spent_before_the_end() -> None:
    plan = LookPlan(2, 3)
    assert plan.departures == ()
    assert plan.at_end(1).ship == 0.05
