"""Clocks of GPUs that were lowered while a block was measured.

NVML's clocks event reasons. Heat, a hardware slowdown and the power brake say that the machine was
not at its best, and may not come again: the numbers are SUSPECT. The power limit (software power
cap) is how a busy GPU usually works, and a setting of the machine: it is no doubt.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from results.measures.counter_samples import CounterSamples, Window
from results.measures.doubt import Doubt, some

REASONS = {
    0x8: "a hardware slowdown",
    0x20: "heat (software thermal slowdown)",
    0x40: "heat (hardware thermal slowdown)",
    0x80: "the power brake",
}
_LONGEST_S = 1.0
"""A sample says nothing about more time than this after it."""


def throttling_doubts(telemetry: CounterSamples | None, windows: Sequence[Window]) -> list[Doubt]:
    """A doubt about a stage whose blocks met lowered clocks: why, and for how long."""
    if telemetry is None:
        return []
    at_ns, (masks,) = telemetry.known("gpu_throttle")
    if not len(at_ns):
        return []
    ends_ns = np.append(at_ns[1:], at_ns[-1])
    seen, seconds, blocks = 0, 0.0, []
    for window in windows:
        lasted = np.minimum(ends_ns, window.end_ns) - np.maximum(at_ns, window.start_ns)
        lasted_s = np.clip(lasted / 1e9, 0.0, _LONGEST_S)
        bits = masks.astype(np.int64) & sum(REASONS)
        throttled = (bits != 0) & (lasted_s > 0)
        if throttled.any():
            seen |= int(np.bitwise_or.reduce(bits[throttled]))
            seconds += float(lasted_s[throttled].sum())
            blocks.append(window.block)
    if not blocks:
        return []
    why = " and ".join(words for bit, words in REASONS.items() if seen & bit)
    whole = sum(window.seconds for window in windows)
    return [
        (
            "SUSPECT",
            f"{why} lowered the GPUs' clocks for {seconds:.1f} s of {whole:,.0f} s, in "
            f"{some(len(blocks), 'block')} ({', '.join(map(str, blocks))})",
        )
    ]
