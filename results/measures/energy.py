"""Energy that the machine used for the requests: of its GPUs and its processors' packages.

The counters are the machine's. They hold what other programs and servers used meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Floats, Ints
from results.measures.counter_samples import CounterSamples, Window, increase
from results.statistics.intervals import TAIL, UNBOUNDED, absent, estimate, ratio_bounds
from results.summary import Estimate

COUNTERS = ("gpu_energy_j", "cpu_energy_j")
ENERGY = ("energy_per_request", "energy_per_output_token", "energy_above_idle", "idle_power")
_LEAST_IDLE_S = 2.0
_LONGEST_STEP_NS = 1_500_000_000
"""Between samples further apart nobody knows whether a server was idle."""
_LAG_NS = 500_000_000
"""So long after work a GPU's counter may still book it: that of an H200 moves every 0.1 s."""
_MOVED_BYTES = 1 << 30
"""GPU memory comes and goes by more where a server wakes or falls asleep, which is work too."""


def energy_metrics(
    telemetry: CounterSamples | None, windows: Sequence[Window], idle: Estimate
) -> dict[str, Estimate]:
    """Joules per request and per output token over a stage's windows. `idle`: the idle power."""
    used = _used(telemetry, windows)
    if isinstance(used, str):
        return dict.fromkeys(ENERGY, absent(used))
    requests = np.array([float(window.completed) for window in windows])
    tokens = np.array([window.output_tokens for window in windows])
    above = absent(idle.reason or "the idle power is not known")
    if idle.value is not None:
        seconds = np.array([window.seconds for window in windows])
        above = _per(used - idle.value * seconds, requests, "request")
    return {
        "energy_per_request": _per(used, requests, "request"),
        "energy_per_output_token": _per(used, tokens, "output token"),
        "energy_above_idle": above,
        "idle_power": idle,
    }


def idle_power(variant: str, telemetries: Mapping[str, CounterSamples | None]) -> Estimate:
    """Watts while no server of the run had a request.

    `telemetries`: those of all variants, since all of them may use this machine.
    """
    own = telemetries[variant]
    counters = _counters(own)
    if isinstance(counters, str) or own is None:
        return absent(str(counters))
    edges_ns, joules = _joined(own, counters)
    steps_ns = np.diff(edges_ns)
    idle = steps_ns <= _LONGEST_STEP_NS
    for name, other in telemetries.items():
        if other is None or np.isnan(other.columns["running"]).all():
            return absent(f"whether {name} was idle is not known")
        idle &= ~_is_busy(other, edges_ns)
    if "gpu_energy_j" in counters:
        if np.isnan(own.columns["gpu_memory_bytes"]).all():
            return absent("GPU memory was not read: whether a server woke is not known")
        idle = _settled(idle & ~_moves_memory(own, edges_ns), edges_ns)
    seconds = float(steps_ns[idle].sum()) / 1e9
    if seconds < _LEAST_IDLE_S:
        return absent(f"no server was idle for {_LEAST_IDLE_S:g} s")
    used = np.diff(joules)[idle]
    if np.any(used < 0):  # also where samples of two boots of the machine are mixed
        return absent("an energy counter began again while no server had a request")
    return Estimate(
        value=float(used.sum()) / seconds,
        n=int(idle.sum()),
        reason="no interval: idle time is not divided into blocks",
    )


def _is_busy(other: CounterSamples, edges_ns: Ints) -> NDArray[np.bool_]:
    """For each step between `edges_ns`: whether a server had a request, or may have had one."""
    requests = other.columns["running"] + np.nan_to_num(other.columns["waiting"])
    tokens = other.columns["prompt_tokens"] + other.columns["generation_tokens"]
    # NaN is not zero: where the server did not answer it may have been busy.
    busy = (requests[1:] != 0) | (requests[:-1] != 0) | (np.nan_to_num(np.diff(tokens)) != 0)
    busy |= np.diff(other.at_ns) > _LONGEST_STEP_NS
    starts, ends = other.at_ns[:-1][busy], other.at_ns[1:][busy]
    begun = np.searchsorted(starts, edges_ns[1:], side="left")
    over = np.searchsorted(ends, edges_ns[:-1], side="right")
    return np.asarray(begun > over)


def _moves_memory(own: CounterSamples, edges_ns: Ints) -> NDArray[np.bool_]:
    """For each step between `edges_ns`: whether a server moved much GPU memory, or may have."""
    memory = own.columns["gpu_memory_bytes"][np.searchsorted(own.at_ns, edges_ns)]
    return ~np.asarray(np.abs(np.diff(memory)) <= _MOVED_BYTES)  # NaN is not zero


def _settled(idle: NDArray[np.bool_], edges_ns: Ints) -> NDArray[np.bool_]:
    """The idle steps whose energy can't be that of the work before them."""
    long_ago = edges_ns[0] - _LAG_NS
    worked_until = np.maximum.accumulate(np.where(idle, long_ago, edges_ns[1:]))
    return np.asarray(idle & (edges_ns[:-1] - worked_until >= _LAG_NS))


def _used(telemetry: CounterSamples | None, windows: Sequence[Window]) -> Floats | str:
    """Joules in each window, or why they are not known."""
    counters = _counters(telemetry)
    if isinstance(counters, str) or telemetry is None:
        return str(counters)
    used = [
        sum(value for value in values if value is not None) if None not in values else None
        for values in ([increase(telemetry, each, w) for each in counters] for w in windows)
    ]
    missing = [str(w.block) for w, value in zip(windows, used, strict=True) if value is None]
    if missing or not windows:
        return (
            f"the energy counter has a gap at block {', '.join(missing)}"
            if missing
            else ("nothing was measured in the steady window")
        )
    return np.array(used, dtype=np.float64)


def _counters(telemetry: CounterSamples | None) -> tuple[str, ...] | str:
    """The counters that were read, or why there are none."""
    if telemetry is None:
        return "no energy counter: the server has no telemetry"
    there = tuple(c for c in COUNTERS if not np.isnan(telemetry.columns[c]).all())
    if there:
        return there
    reasons = dict.fromkeys(telemetry.absent[c] for c in COUNTERS if c in telemetry.absent)
    return f"no energy counter: {', and '.join(reasons) or 'none was read'}"


def _joined(telemetry: CounterSamples, counters: Sequence[str]) -> tuple[Ints, Floats]:
    """The moments at which all counters were read, and their sum."""
    at_ns, joules = telemetry.known(*counters)
    return at_ns, joules.sum(axis=0)


def _per(joules: Floats, amounts: Floats, of: str) -> Estimate:
    """A ratio of sums; its interval is the delta method's, with t over the blocks."""
    amount = float(amounts.sum())
    if not amount > 0:
        return absent(f"no {of} was completed in the steady window")
    bounds = ratio_bounds(joules, amounts, TAIL, TAIL) if len(joules) > 1 else UNBOUNDED
    reason = None if len(joules) > 1 else "an interval needs at least two blocks"
    return estimate(float(joules.sum()) / amount, bounds, round(amount), reason)
