"""The time that a run has left: estimates of its stages, corrected by finished ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from dyno.estimates.machine_speed import Kind, Range, Work, record_work
from dyno.estimates.stages import StageEstimate, total
from foundation.format import duration
from foundation.progress import Progress


class Timeline:
    """Logs the time left after each part of a run, and records its duration.

    `device`: "cpu" or "cuda". `clock`: returns seconds.
    """

    def __init__(
        self,
        stages: Sequence[StageEstimate],
        device: str,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages = stages
        self._device = device
        self._progress = progress
        self._clock = clock
        self._done: dict[Kind, float] = {}
        self._slower = 1.0

    @contextmanager
    def doing(
        self, kind: Kind, amount: float = 0.0, model_bytes: int = 0, part: float = 1.0
    ) -> Iterator[None]:
        """Times the block as all work of a kind, or the share `part` of it.

        `amount`: the work that is not finished yet, 0 for none. A block that raises is neither
        recorded nor counted.
        """
        start = self._clock()
        yield
        seconds = self._clock() - start
        record_work(
            Work(
                kind=kind,
                device=self._device,
                model_bytes=model_bytes,
                amount=amount,
                seconds=seconds,
            )
        )
        estimate = total([s for s in self._stages if s.kind == kind])
        if amount and seconds > estimate.high * part > 0:
            self._slower = max(self._slower, seconds / (estimate.high * part))
        self._done[kind] = min(1.0, self._done.get(kind, 0.0) + part)
        if estimate.high and (left := self.left()).high:
            self._progress.log(f"{kind}: took {duration(seconds)}; {span(left)} left")

    def left(self) -> Range:
        """The seconds left.

        A machine that was slower than an estimate is expected to be so in stages new to it.
        """
        low = high = 0.0
        for stage in self._stages:
            if stage.seconds is None:
                continue
            factor = 1.0 - self._done.get(stage.kind, 0.0)
            if stage.basis not in ("seen here", "its time limit"):
                factor *= self._slower
            low, high = low + factor * stage.seconds.low, high + factor * stage.seconds.high
        return Range(low, high)


class BlockTimes:
    """Seconds and requests of the finished blocks, by variant and stage."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], list[float]] = {}
        self.requests: dict[tuple[str, str], int] = {}
        self._has_predicted = False

    def add(self, variant: str, stage: str, seconds: float, requests: int) -> None:
        """Adds a finished block."""
        self.seconds.setdefault((variant, stage), []).append(seconds)
        self.requests[variant, stage] = self.requests.get((variant, stage), 0) + requests

    def first_prediction(self, left: Sequence[tuple[str, str]]) -> float | None:
        """Seconds for the blocks left, once one of each kind is finished; None every other time.

        `left`: variant and stage of each block.
        """
        if self._has_predicted or any(kind not in self.seconds for kind in left):
            return None
        self._has_predicted = True
        return sum(float(np.mean(self.seconds[kind])) for kind in left)


def span(seconds: Range) -> str:
    """A range in words: "about 40 s", "2 to 12 min" or "40 s to 3 min"."""
    low, high = duration(seconds.low), duration(seconds.high)
    if low == high:
        return f"about {low}"
    number, unit = low.split()
    return f"{number if high.endswith(f' {unit}') else low} to {high}"
