"""What one process of the load generator keeps up with on this machine, and how many a load therefore needs."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from pathlib import Path

import msgspec

from foundation.machine import this_machine
from foundation.run.ceiling import Ceiling
from loadgen.config import Stage, WorkloadConfig

# Of its ceiling a process is used to this share: beyond it, its stamps and sends begin to suffer now and then.
_ROOM = 0.7
# Events/s of one stream in a closed loop, where no rate is known beforehand: more than today's servers give to one of many.
_STREAM_RATE = 100.0
_LARGEST = 1 << 20


def calibration_file() -> Path:
    """Where this machine's calibration is kept."""
    return this_machine().file("calibration", ".json")


def stored_ceiling(log: Callable[[str], None] = lambda line: None) -> Ceiling | None:
    """This machine's ceiling; None where it was never calibrated as it is now. `log` hears why another one does not count."""
    file, machine = calibration_file(), this_machine()
    try:
        with file.open("rb") as opened:
            found = msgspec.json.decode(opened.read(_LARGEST), type=Ceiling)
    except FileNotFoundError:
        if machine.others("calibration", ".json"):
            log(
                "calibrated with another processor, kernel, Python or dyno, which does not count here; run dyno calibrate"
            )
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log(
            f"{file}: no calibration that can be read ({error}), so none counts; dyno calibrate writes it again"
        )
        return None
    if found.machine != machine.words:
        log(
            f"{file}: it is of another machine ({found.machine}), so it does not count; dyno calibrate writes it again"
        )
        return None
    return found


def workers_for(stage: Stage, workload: WorkloadConfig, ceiling: Ceiling | None, cores: int) -> int:
    """As many as keep each under its ceiling if answers are as long as may be, at most one a core; one where none is known."""
    if workload.workers is not None:
        return workload.workers
    if ceiling is None:
        return 1
    peak = max(stage.fixed_rate or 0.0, stage.rate_to or 0.0)
    events = (
        peak * workload.sampling.max_tokens
        if stage.concurrency is None
        else stage.concurrency * _STREAM_RATE
    )
    loads = (
        (events, ceiling.events_per_s),
        (peak, ceiling.requests_per_s),
        (stage.concurrency or 0, ceiling.streams),
    )
    needed = [ceil(load / (_ROOM * most)) if most else cores for load, most in loads if load]
    return min(max(needed, default=1), cores)
