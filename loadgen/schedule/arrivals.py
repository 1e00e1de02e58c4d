"""When requests go out: schedules as pure functions of stage, seed and block, in integer nanoseconds from the block's origin.

A schedule is computed whole before the block starts and is never re-anchored: a late client stays late on record.
Every variant gets the same schedule in the same block, so that differences pair.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foundation.errors import BadInput
from loadgen.config import Mix, Stage, Trace
from loadgen.schedule.rate_profiles import Profile, profile_of
from loadgen.schedule.traces import arrival_seconds, recorded_seconds

SECOND = 1_000_000_000
_PURPOSE, _MIX = 1, 3


@dataclass(frozen=True)
class Schedule:
    """Arrivals of an open loop, sorted. Those in [`window_start_ns`, `window_end_ns`) count, those before warm up.

    `numbers` (the shape of `times_ns`) are their places among the `total` arrivals of the stage, of which a mix leaves each
    variant some.
    """

    times_ns: NDArray[np.int64]
    window_start_ns: int
    window_end_ns: int
    numbers: NDArray[np.int64]
    total: int


@dataclass(frozen=True)
class WorkerShare:
    """Which part of a block one of several worker processes sends: every `workers`-th request, from `worker` on."""

    worker: int = 0
    workers: int = 1

    def of(self, count: int) -> range:
        return range(self.worker, count, self.workers)


WHOLE = WorkerShare()


@dataclass(frozen=True)
class MixPlace:
    """Which of the variants of a mix this is, counted from 0."""

    variant: int = 0
    variants: int = 1

    def share(self, mix: Mix) -> float:
        """Its share of the arrivals, on average."""
        return float(_weights(mix, self.variants)[self.variant])


ALONE = MixPlace()


def _weights(mix: Mix, variants: int) -> NDArray[np.float64]:
    weights = np.arange(1, variants + 1) ** -(mix.zipf or 0.0)
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def warmup_of(stage: Stage, warmup: float) -> float:
    """The stage's own warm-up where it names one, else the workload's; seconds."""
    return stage.warmup if stage.warmup is not None else warmup


def schedule(
    stage: Stage, seed: int, block: int, warmup: float, place: MixPlace = ALONE
) -> Schedule:
    """The arrivals of one block of an open-loop stage, over warm-up and window; of a mix, those for the variant in `place`.

    A window given by `requests` ends where the arrival after its last one would be: the load offered over the window is then
    `rate` on average (for N arrivals in an exponential schedule E[N / T(N+1)] is the rate; N / T(N) is above it).
    """
    if not stage.open_loop:
        raise ValueError(f"{stage.label}: a closed loop has no schedule")
    whole = _whole(stage, seed, block, warmup)
    if stage.mix is None:
        return whole
    rng = np.random.default_rng([seed, zlib.crc32(stage.label.encode()), block, _MIX])
    own = np.flatnonzero(
        rng.choice(place.variants, whole.total, p=_weights(stage.mix, place.variants))
        == place.variant
    )
    return replace(whole, times_ns=whole.times_ns[own], numbers=own)


def _whole(stage: Stage, seed: int, block: int, warmup: float) -> Schedule:
    start = warmup_of(stage, warmup)
    if stage.trace is not None:
        return _replayed(stage, stage.trace, start)
    rng = np.random.default_rng([seed, zlib.crc32(stage.label.encode()), block, _PURPOSE])
    profile = profile_of(stage, start)
    if stage.requests is not None:
        times = _arrivals(stage, rng, start, stage.requests + 1, profile)
        last = int(np.searchsorted(times, start)) + stage.requests
        end = float(times[last])
    else:
        assert stage.duration is not None
        end = start + stage.duration
        times = _arrivals(stage, rng, end, 1, profile)
        last = int(np.searchsorted(times, end))
    return _schedule(times[:last], start, end)


def _replayed(stage: Stage, trace: Trace, start: float) -> Schedule:
    """The beginning of a recording, the same in every block. Raises BadInput where it is too short for the stage.

    What ends the window of so many requests is the arrival after the last, or the end of `length`.
    """
    times = arrival_seconds(trace) / trace.speed
    over = recorded_seconds(trace) / trace.speed
    if stage.requests is not None:
        last = int(np.searchsorted(times, start)) + stage.requests
        following = [*times, *([over] if over > times[-1] else [])][last : last + 1]
        if not following:
            raise BadInput(
                f"{trace.file}: {len(times)} arrivals; {stage.label} needs {last + 1} (the one after its last ends it)"
            )
        [end] = following
        if end <= start:
            raise BadInput(
                f"{trace.file}: {stage.requests + 1} arrivals at one moment; {stage.label} needs time between them"
            )
        return _schedule(times[:last], start, float(end))
    assert stage.duration is not None
    end = start + stage.duration
    if over < end:
        raise BadInput(
            f"{trace.file}: {over:.1f} s long at speed {trace.speed:g}; {stage.label} needs {end:.1f} s"
        )
    return _schedule(times[: int(np.searchsorted(times, end))], start, end)


def _schedule(times: NDArray[np.float64], start: float, end: float) -> Schedule:
    return Schedule(
        np.rint(times * SECOND).astype(np.int64),
        _ns(start),
        _ns(end),
        np.arange(len(times)),
        len(times),
    )


def planned_requests(
    stage: Stage, seed: int, block: int, warmup: float, place: MixPlace = ALONE
) -> int | None:
    """How many records a block will leave: all arrivals of an open loop, warm-up included; the requests of a closed loop,
    whose warm-up ones come on top. None where a closed loop's duration decides, or a rate that is not measured yet."""
    if stage.relative_rate is not None:
        return stage.requests
    return (
        len(schedule(stage, seed, block, warmup, place).times_ns)
        if stage.open_loop
        else stage.requests
    )


def _arrivals(
    stage: Stage, rng: np.random.Generator, start: float, n: int, profile: Profile
) -> NDArray[np.float64]:
    """Arrivals in seconds, at least `n` of them at or after `start`."""
    expected = profile.expected(start)
    n += 1  # one to spare: `when` rounds
    draw = int(expected + n + 6 * (expected + n) ** 0.5) + 8
    arrivals = _unit_process(stage, rng, draw)
    while len(arrivals) - np.searchsorted(arrivals, expected) < n:
        arrivals = np.concatenate([arrivals, arrivals[-1] + _unit_process(stage, rng, draw)])
    return profile.when(arrivals)


def _unit_process(stage: Stage, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """`n` arrivals of one a second on average. Constant ones begin at 0, the others after a gap."""
    if stage.arrivals == "constant":
        return np.arange(n, dtype=np.float64)
    if stage.arrivals == "gamma":
        assert stage.burstiness is not None
        return np.cumsum(rng.gamma(stage.burstiness, 1 / stage.burstiness, n))
    return np.cumsum(rng.exponential(1.0, n))


def _ns(seconds: float) -> int:
    return round(seconds * SECOND)
