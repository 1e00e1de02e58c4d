"""Calls functions at absolute times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from foundation.alarm import Alarm


async def act_at(at_ns: int, act: Callable[[], int | None], stop: asyncio.Event) -> None:
    """Calls `act` at `at_ns` (CLOCK_MONOTONIC), then at each time it returns, until that is None or
    `stop` is set.

    The event loop itself calls it: a waiting task would run only after everything else that is
    ready. Raises what `act` raises.
    """
    over = asyncio.get_running_loop().create_future()

    def expired() -> None:
        if over.done():
            return
        try:
            next_ns = act()
        except BaseException as problem:
            over.set_exception(problem)
            return
        if next_ns is None:
            over.set_result(None)
        else:
            alarm.set(next_ns)

    stopped = asyncio.create_task(stop.wait())
    with Alarm(expired) as alarm:
        alarm.set(at_ns)
        try:
            await asyncio.wait([over, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
    if over.done():
        over.result()
