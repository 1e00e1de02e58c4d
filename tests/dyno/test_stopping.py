"""Ctrl-C in a load: the first drains a block, later signals end the task; handlers are restored."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from dyno.pipeline.stopping import Stopping, handled
from dyno.terminal.signals import ENDING, end_as_ctrl_c


@pytest.fixture(autouse=True)
def as_they_were() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, action in before.items():
        signal.signal(number, action)


async def told(*numbers: int, in_block: bool) -> tuple[bool, bool, list[str]]:
    """Whether the block was told to drain, whether the task was cancelled, and what was said."""
    said: list[str] = []
    stop = Stopping(said.append)
    with handled(stop.actions):
        try:
            with stop.in_block() if in_block else nullcontext():
                for number in numbers:
                    os.kill(os.getpid(), number)
                    await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            return stop.drain.is_set(), True, said
    return stop.drain.is_set(), False, said


@pytest.mark.parametrize(
    ("numbers", "in_block", "drained", "cancelled"),
    [
        ([signal.SIGINT], True, True, False),
        ([signal.SIGINT, signal.SIGINT], True, True, True),
        ([signal.SIGINT], False, False, True),
        ([signal.SIGTERM], True, False, True),
        ([signal.SIGHUP], True, False, True),
        ([signal.SIGALRM], False, False, True),
    ],
)
def test_only_the_first_ctrl_c_in_a_block_drains_it(
    numbers: list[int], in_block: bool, drained: bool, cancelled: bool
) -> None:
    end_as_ctrl_c()
    before = [signal.getsignal(number) for number in ENDING]
    got = asyncio.run(told(*numbers, in_block=in_block))
    assert got[:2] == (drained, cancelled)
    assert len(got[2]) == drained
    assert [signal.getsignal(number) for number in ENDING] == before


def test_afterwards_a_signal_interrupts_what_is_not_in_the_loop() -> None:
    end_as_ctrl_c()
    asyncio.run(told(in_block=False))
    for number in ENDING:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            signal.pause()
