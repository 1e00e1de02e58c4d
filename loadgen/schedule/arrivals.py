"""Schedules of requests, as pure functions of stage, seed and block.

Times are integer nanoseconds from the block's origin. A schedule is computed before the block
starts and never changes: a late client stays late on record. Every variant gets the same schedule
in the same block, so differences pair.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foundation.errors import BadInput
from loadgen.config import Mix, Stage, TraceReplay
from loadgen.schedule.rate_profiles import Profile, profile_of
from loadgen.schedule.traces import arrival_seconds, recorded_seconds

SECOND = 1_000_000_000
# The numbers of this module's random streams, beside the seed.
_GAPS, _MIX = 1, 3


@dataclass(frozen=True)
class Schedule:
    """Arrivals of an open loop, sorted. Those in [`window_start_ns`, `window_end_ns`) count,
    earlier ones warm up.

    `numbers` (the shape of `times_ns`): their places among the `total` arrivals of the stage. A mix
    gives each variant some of them.
    """

    times_ns: NDArray[np.int64]
    window_start_ns: int
    window_end_ns: int
    numbers: NDArray[np.int64]
    total: int


@dataclass(frozen=True)
class WorkerShare:
    """The part of a block that one worker process sends: every `workers`-th request, starting at
    `worker`.
    """

    worker: int = 0
    workers: int = 1

    def of(self, count: int) -> range:
        """The worker's places among `count` requests."""
        return range(self.worker, count, self.workers)

    def divided(self, workers: int) -> list[WorkerShare]:
        """The shares of so many workers that send this share together."""
        total = self.workers * workers
        return [WorkerShare(self.worker + self.workers * n, total) for n in range(workers)]


WHOLE = WorkerShare()


@dataclass(frozen=True)
class MixPlace:
    """The place of a variant among those of a mix, from 0."""

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
    """The stage's own warm-up if it has one, else the workload's, in seconds."""
    return stage.warmup if stage.warmup is not None else warmup


def schedule(
    stage: Stage, seed: int, block: int, warmup: float, place: MixPlace = ALONE
) -> Schedule:
    """The arrivals of one block of an open-loop stage, over warm-up and window.

    Of a mix, those for the variant in `place`. A window given by `requests` ends where the arrival
    after its last one would be. So the load over the window is `rate` on average: for N arrivals in
    an exponential schedule E[N / T(N+1)] is the rate, and N / T(N) is above it.
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
    rng = np.random.default_rng([seed, zlib.crc32(stage.label.encode()), block, _GAPS])
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


def _replayed(stage: Stage, trace: TraceReplay, start: float) -> Schedule:
    """The beginning of a recording, the same in every block.

    A window of so many requests ends at the arrival after the last one, or at the end of `length`.
    Raises BadInput where the recording is too short for the stage.
    """
    times = arrival_seconds(trace) / trace.speed
    recorded_s = recorded_seconds(trace) / trace.speed
    if stage.requests is not None:
        last = int(np.searchsorted(times, start)) + stage.requests
        next_times = [*times, *([recorded_s] if recorded_s > times[-1] else [])][last : last + 1]
        if not next_times:
            raise BadInput(
                f"{trace.file}: {len(times)} arrivals; {stage.label} needs {last + 1} "
                "(the one after its last ends it)"
            )
        [end] = next_times
        if end <= start:
            raise BadInput(
                f"{trace.file}: {stage.requests + 1} arrivals at one moment; "
                f"{stage.label} needs time between them"
            )
        return _schedule(times[:last], start, float(end))
    assert stage.duration is not None
    end = start + stage.duration
    if recorded_s < end:
        raise BadInput(
            f"{trace.file}: {recorded_s:.1f} s long at speed {trace.speed:g}; "
            f"{stage.label} needs {end:.1f} s"
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


def length_ns(
    stage: Stage, seed: int, block: int, warmup: float, place: MixPlace = ALONE
) -> int | None:
    """How long a block sends, warm-up included, or None where answers decide when it ends.

    Where sessions arrive, turns of the last ones come later.
    """
    if stage.open_loop:
        return schedule(stage, seed, block, warmup, place).window_end_ns
    return None if stage.duration is None else _ns(warmup_of(stage, warmup) + stage.duration)


def planned_requests(
    stage: Stage, seed: int, block: int, warmup: float, place: MixPlace = ALONE
) -> int | None:
    """How many records a block will leave, or None where that is not known beforehand.

    It counts all arrivals of an open loop, warm-up included, or the requests of a closed loop
    without its warm-up. It is not known where a closed loop's duration decides, or a rate that is
    not measured yet.
    """
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
    n += 1  # one more, because `when` rounds
    draw = int(expected + n + 6 * (expected + n) ** 0.5) + 8
    arrivals = _unit_process(stage, rng, draw)
    while len(arrivals) - np.searchsorted(arrivals, expected) < n:
        arrivals = np.concatenate([arrivals, arrivals[-1] + _unit_process(stage, rng, draw)])
    return profile.when(arrivals)


def _unit_process(stage: Stage, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """`n` arrivals of a process with one a second on average. Constant ones begin at 0, others
    after a gap.
    """
    if stage.arrivals == "constant":
        return np.arange(n, dtype=np.float64)
    if stage.arrivals == "gamma":
        assert stage.burstiness is not None
        return np.cumsum(rng.gamma(stage.burstiness, 1 / stage.burstiness, n))
    return np.cumsum(rng.exponential(1.0, n))


def _ns(seconds: float) -> int:
    return round(seconds * SECOND)
