"""A node's clock: the true offset lies within the bound, whatever each way takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.sending.nodes.clock import ClockDrift, ClockOffset, clock_offset, joint_clock

MS = 1_000_000
DELAY = st.integers(0, 10_000 * MS)
WAYS = st.lists(st.tuples(DELAY, DELAY, DELAY, DELAY), min_size=1, max_size=16)


def stamps(ahead_ns: int, ways: list[tuple[int, int, int, int]]) -> list[list[int]]:
    """Ping-pongs with a node whose clock is ahead: (pause, way there, answering, way back) each."""
    now_ns, pings = 10**12, []
    for pause, there, answering, back in ways:
        sent = now_ns + pause
        arrived = sent + there
        left = arrived + answering
        now_ns = left + back
        pings.append([sent, arrived + ahead_ns, left + ahead_ns, now_ns])
    return np.array(pings, np.int64).T.tolist()


@given(ahead_ns=st.integers(-(10**17), 10**17), ways=WAYS)
def test_the_true_offset_is_within_the_bound(
    ahead_ns: int, ways: list[tuple[int, int, int, int]]
) -> None:
    clock = clock_offset(*stamps(ahead_ns, ways))
    assert abs(clock.offset_ns - ahead_ns) <= clock.bound_ns
    shortest = min(there + back for _, there, _, back in ways)
    assert clock.bound_ns == (shortest + 1) // 2


def test_equal_ways_give_the_offset_itself() -> None:
    clock = clock_offset(*stamps(250 * MS, [(0, 900, 50, 900), (0, 10, 5, 10), (5, 300, 0, 800)]))
    assert (clock.offset_ns, clock.bound_ns) == (250 * MS, 10)


@pytest.mark.parametrize(
    "pings",
    [[], [(5, 10, 9, 7)], [(5, 10, 20, 7)]],
    ids=["none", "answered before it was received", "back before it could be"],
)
def test_stamps_that_no_clocks_give_are_refused(pings: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="ping-pong"):
        clock_offset(*np.array(pings, np.int64).reshape(-1, 4).T)


def drift(moved_ns: int, seconds: float, bounds: tuple[int, int] = (MS, MS)) -> ClockDrift:
    first = ClockOffset(7, bounds[0], 0)
    return ClockDrift(first, ClockOffset(7 + moved_ns, bounds[1], round(seconds * 1e9)))


@pytest.mark.parametrize(
    ("clock", "bound_ns", "step_ns"),
    [
        (drift(0, 60), MS, 0),
        (drift(0, 60, (3 * MS, MS)), 3 * MS, 0),
        (drift(-2 * MS, 60), 3 * MS, 0),  # both intervals hold one offset
        (drift(50 * MS, 60), 51 * MS, 0),  # a kernel may slew two clocks 60 ms apart meanwhile
        (drift(-250 * MS, 60), 251 * MS, 248 * MS),
        (drift(250 * MS, 3600), 251 * MS, 0),
    ],
)
def test_what_a_clock_does_in_a_block(clock: ClockDrift, bound_ns: int, step_ns: int) -> None:
    assert (clock.bound_ns, clock.step_ns) == (bound_ns, step_ns)


def test_two_origins_lie_apart_by_both_bounds_at_most() -> None:
    clocks = [drift(0, 60, (bound, bound)) for bound in (1, 5, 3)]
    assert joint_clock(clocks).bound_ns == 8
    assert joint_clock([clocks[1]]).bound_ns == 5
    assert joint_clock([drift(0, 1), drift(250 * MS, 1)]).step_ns == 248 * MS
