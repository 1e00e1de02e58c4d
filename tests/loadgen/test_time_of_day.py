"""The time of day on CLOCK_MONOTONIC: the kernel's bound, and a clock that somebody sets."""

from __future__ import annotations

import time

import pytest

from loadgen.transport import clocks, time_of_day
from loadgen.transport.time_of_day import Moment, TimeOfDay, disciplined_bound_ns

UNSYNC, PLL, NANO = 0x40, 0x1, 0x2000


@pytest.mark.parametrize(
    ("status", "maxerror_us", "bound_ns"),
    [
        (PLL | NANO, 1500, 1_500_000),
        (0, 0, 0),
        (UNSYNC, 16_000_000, None),
        (PLL | NANO | UNSYNC, 1500, None),
        (PLL, -1, None),
    ],
)
def test_the_kernels_bound(status: int, maxerror_us: int, bound_ns: int | None) -> None:
    assert disciplined_bound_ns(status, maxerror_us) == bound_ns


def test_the_kernels_own_account_is_read_where_it_lies() -> None:
    """`struct timex` also has the time of day, which Python reads in another way."""
    timex = time_of_day.kernel_account()
    if timex is None:
        pytest.skip("this kernel gives no account of its clock")
    assert abs(timex.seconds - time.time()) < 60


def test_a_clock_that_is_set_meanwhile_is_not_known_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offset_ns = 5_000_000_000
    monkeypatch.setattr(clocks, "offset_ns", lambda: offset_ns)
    monkeypatch.setattr(time_of_day, "kernel_bound_ns", lambda: 700)
    clock = TimeOfDay()
    assert clock.moment(1_000) == Moment(5_000_001_000, 700)
    offset_ns += 999_000  # slewed, or read on a busy machine
    assert (clock.step_ns, clock.moment(1_000)) == (0, Moment(5_001_000_000, 700))
    offset_ns -= 250_000_000
    assert clock.moment(1_000) == Moment(4_751_000_000, None)
    assert clock.step_ns == 249_001_000
    offset_ns = 5_000_000_000  # set back: what came between is not forgotten
    assert clock.moment(1_000) == Moment(5_000_001_000, None)
