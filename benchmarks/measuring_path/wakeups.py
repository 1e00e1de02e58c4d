"""`python -m benchmarks.measuring_path.wakeups`: how late this machine wakes a waiting process.

No schedule can be more accurate here: a late send may be a late wake-up.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np


def lateness_ms(rate: float, seconds: float) -> tuple[float, float, float]:
    """p99, p99.9 and the longest of waking - time, of `rate` times/s, ms."""
    step_ns = 1e9 / rate
    start_ns = time.monotonic_ns() + 10_000_000
    late = []
    for number in range(round(rate * seconds)):
        at_ns = start_ns + number * step_ns
        while (left_ns := at_ns - time.monotonic_ns()) > 0:
            time.sleep(left_ns / 1e9)
        late.append((time.monotonic_ns() - at_ns) / 1e6)
    p99, p999, most = np.percentile(late, [99, 99.9, 100])
    return float(p99), float(p999), float(most)


def main(core: str = "0", rate: str = "2000", seconds: str = "5") -> None:
    """Prints percentiles of the delay of wake-ups."""
    os.sched_setaffinity(0, {int(core)})
    p99, p999, most = lateness_ms(float(rate), float(seconds))
    print(
        f"sleeping alone, {float(rate):,.0f} times/s: woken late by p99 {p99:.3f} ms, "
        f"p99.9 {p999:.3f}, at most {most:.1f}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
