"""What one process of the load generator keeps up with on this machine, and how many a load therefore needs."""

from __future__ import annotations

import platform
from math import ceil
from pathlib import Path

import msgspec

from foundation.cache import cache_folder
from loadgen.config import Stage, WorkloadConfig
from results.records import Ceiling

# Of its ceiling a process is used to this share: beyond it, its stamps and sends begin to suffer now and then.
_ROOM = 0.7
# Events/s of one stream in a closed loop, where no rate is known beforehand: more than today's servers give to one of many.
_STREAM_RATE = 100.0


def calibration_file() -> Path:
    """Where this machine's calibration is kept."""
    return cache_folder() / f"calibration-{platform.node() or 'here'}.json"


def stored_ceiling() -> Ceiling | None:
    """This machine's ceiling; None where it was never calibrated, or by another version."""
    try:
        return msgspec.json.decode(calibration_file().read_bytes(), type=Ceiling)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def workers_for(stage: Stage, workload: WorkloadConfig, ceiling: Ceiling | None, cores: int) -> int:
    """As many as keep each under its ceiling if answers are as long as may be, at most one a core; one where none is known."""
    if workload.workers is not None:
        return workload.workers
    if ceiling is None:
        return 1
    peak = max(stage.fixed_rate or 0.0, stage.rate_to or 0.0)
    events = peak * workload.sampling.max_tokens if stage.concurrency is None else stage.concurrency * _STREAM_RATE
    loads = ((events, ceiling.events_per_s), (peak, ceiling.requests_per_s), (stage.concurrency or 0, ceiling.streams))
    needed = [ceil(load / (_ROOM * most)) if most else cores for load, most in loads if load]
    return min(max(needed, default=1), cores)
