"""How many processes a load needs, from this machine's calibration."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf
from pathlib import Path

import msgspec

from foundation.cores import usable_cores
from foundation.errors import BadInput
from foundation.format import rate_text
from foundation.machine import this_machine
from foundation.run.ceiling import CEILING_SHARE, Ceiling
from loadgen.config import Stage, WorkloadConfig
from loadgen.schedule.arrivals import WHOLE, WorkerShare

# Events/s of one stream in a closed loop, where no rate is known beforehand. Today's servers give
# less to one stream of many.
_STREAM_RATE = 100.0
_MAX_BYTES = 1 << 20


def calibration_file() -> Path:
    """The file of this machine's calibration."""
    return this_machine().file("calibration", ".json")


def stored_ceiling(log: Callable[[str], None] = lambda line: None) -> Ceiling | None:
    """This machine's ceiling; None where it was never calibrated as it is now.

    `log` gets the reason why another calibration does not count.
    """
    file, machine = calibration_file(), this_machine()
    try:
        with file.open("rb") as stream:
            ceiling = msgspec.json.decode(stream.read(_MAX_BYTES), type=Ceiling)
    except FileNotFoundError:
        if machine.others("calibration", ".json"):
            log(
                "calibrated with another processor, kernel, Python or dyno, "
                "which does not count here; run dyno calibrate"
            )
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log(
            f"{file}: no calibration that can be read ({error}), so none counts; "
            "dyno calibrate writes it again"
        )
        return None
    if ceiling.machine != machine.words:
        log(
            f"{file}: it is of another machine ({ceiling.machine}), so it does not count; "
            "dyno calibrate writes it again"
        )
        return None
    return ceiling


def check_rate(rate: float, where: str) -> None:
    """Raises BadInput for more requests/s than this machine is calibrated to send.

    `where`: the field or option that asks for them.
    """
    ceiling, cores = stored_ceiling(), len(usable_cores())
    most = inf if ceiling is None else CEILING_SHARE * ceiling.requests_per_s * cores
    if rate > most:
        raise BadInput(
            f"{where}: {rate_text(rate)} requests/s is beyond the load generator: by dyno "
            f"calibrate, this machine's {cores} cores send up to {rate_text(most)} requests/s; "
            "write less, or load from a larger machine"
        )


def workers_for(
    stage: Stage,
    workload: WorkloadConfig,
    ceiling: Ceiling | None,
    cores: int,
    share: WorkerShare = WHOLE,
) -> int:
    """How many processes keep each one below its ceiling, at most one a core.

    Answers are assumed to be as long as allowed. It is one where no ceiling is known. `share`: of
    the load, what this machine sends.
    """
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
    needed = [
        ceil(load / (share.workers * CEILING_SHARE * limit)) if limit else cores
        for load, limit in loads
        if load
    ]
    return min(max(needed, default=1), cores)
