"""Calls at absolute times, to the end, a stop or a failure, by the kernel's timer or the loop's."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest

from loadgen.event_loop import run
from loadgen.sending.kernel_timer import act_at

MS = 1_000_000


@pytest.fixture(params=["timerfd", "loop"], autouse=True)
def timer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "loop":
        monkeypatch.setattr(sys, "platform", "darwin")


def test_it_acts_at_each_time_it_is_given_and_ends_when_there_is_none() -> None:
    async def main() -> None:
        start_ns = time.monotonic_ns()
        times = iter(
            [start_ns + 5 * MS, start_ns + 5 * MS, start_ns + 1 * MS, start_ns + 30 * MS]
        )  # one of them is past
        acted: list[int] = []
        due: list[int] = [next(times)]

        def act() -> int | None:
            now_ns = time.monotonic_ns()
            if now_ns >= due[-1]:  # the loop's timers may be a little early
                acted.append(now_ns)
                if (following := next(times, None)) is None:
                    return None
                due.append(following)
            return due[-1]

        await act_at(due[0], act, asyncio.Event())
        assert len(acted) == len(due) == 4

    run(main())


def test_a_stop_ends_it_long_before_its_time() -> None:
    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, stop.set)
        async with asyncio.timeout(5):
            await act_at(time.monotonic_ns() + 3600 * 1000 * MS, lambda: pytest.fail("acted"), stop)

    run(main())


def test_what_it_raises_comes_out() -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await act_at(time.monotonic_ns(), lambda: 1 // 0, asyncio.Event())

    run(main())
