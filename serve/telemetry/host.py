"""CPU and memory of this machine."""

from __future__ import annotations

from collections.abc import Mapping

import psutil


def read_host() -> Mapping[str, int | float]:
    """The fields of a sample.

    In a container the CPU seconds are still the whole machine's.
    """
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    steal = getattr(times, "steal", 0.0)
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return {
        # Linux counts the time of guests in `user` and `nice` too.
        "host_busy_s": sum(times) - idle - steal - guests,
        "host_steal_s": steal,
        "host_available_bytes": psutil.virtual_memory().available,
    }
