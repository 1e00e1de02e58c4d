"""How much of a run is left: the estimates of its stages, corrected by what each one took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from dyno.estimates.machine_speed import Kind, Range, Work, keep
from dyno.estimates.stages import StageEstimate, total
from foundation.format import duration
from foundation.progress import Progress


class Timeline:
    """Logs the time left after each part of a run, and keeps what it took. `clock` gives seconds."""

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
        """Everything of a kind, or that `part` of it. `amount`: the work that is done for the first time, 0 for none.

        A part that raises is neither kept nor counted.
        """
        began = self._clock()
        yield
        took = self._clock() - began
        keep(
            Work(
                kind=kind, device=self._device, model_bytes=model_bytes, amount=amount, seconds=took
            )
        )
        estimated = total([s for s in self._stages if s.kind == kind])
        if amount and took > estimated.high * part > 0:
            self._slower = max(self._slower, took / (estimated.high * part))
        self._done[kind] = min(1.0, self._done.get(kind, 0.0) + part)
        if estimated.high and (left := self.left()).high:
            self._progress.log(f"{kind}: took {duration(took)}; {span(left)} left")

    def left(self) -> Range:
        """Seconds. A machine slower than its estimates is taken to be so in what it has not done before."""
        low = high = 0.0
        for stage in self._stages:
            if stage.seconds is None:
                continue
            factor = 1.0 - self._done.get(stage.kind, 0.0)
            if stage.basis != "seen here":
                factor *= self._slower
            low, high = low + factor * stage.seconds.low, high + factor * stage.seconds.high
        return Range(low, high)


class BlockTimes:
    """How long the blocks of a variant and stage took: seconds and requests of each."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], list[float]] = {}
        self.requests: dict[tuple[str, str], int] = {}
        self._told = False

    def add(self, variant: str, stage: str, seconds: float, requests: int) -> None:
        self.seconds.setdefault((variant, stage), []).append(seconds)
        self.requests[variant, stage] = self.requests.get((variant, stage), 0) + requests

    def news_of(self, left: Sequence[tuple[str, str]]) -> float | None:
        """Seconds for the blocks that are left, once, as soon as one of each kind was measured."""
        if self._told or any(kind not in self.seconds for kind in left):
            return None
        self._told = True
        return sum(float(np.mean(self.seconds[kind])) for kind in left)


def span(seconds: Range) -> str:
    """ "about 40 s", "2 to 12 min" or "40 s to 3 min"."""
    low, high = duration(seconds.low), duration(seconds.high)
    if low == high:
        return f"about {low}"
    number, unit = low.split()
    return f"{number if high.endswith(f' {unit}') else low} to {high}"
