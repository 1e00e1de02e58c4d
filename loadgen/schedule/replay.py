"""Checks replays of recordings before they start, and warns about quiet times."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from foundation.errors import BadInput
from loadgen.config import Stage, WorkloadConfig
from loadgen.schedule.arrivals import SECOND, schedule
from loadgen.schedule.traces import arrivals_in

QUIET_S = 10.0
"""A longer time without a request looks like a fault to a person who waits."""


def check_replays(workload: WorkloadConfig, log: Callable[[str], None]) -> None:
    """Logs how long each replay is quiet. Raises BadInput for a trace that can't be replayed so."""
    dataset = workload.dataset.trace if workload.dataset else None
    for stage in workload.stages:
        if stage.trace is None:
            continue
        if dataset is None or dataset.part != stage.trace.part:
            for arrival in arrivals_in(stage.trace):
                if arrival.then:
                    raise BadInput(
                        f"{stage.trace.file}:{arrival.then[0].line}: a further turn of a session, "
                        "sent when the one before it is answered; write "
                        f"dataset: {{trace: {stage.trace.file.name}}} too, "
                        "so that the sessions are asked"
                    )
        if words := quiet_in_words(stage, workload):
            log(words)


def quiet_in_words(stage: Stage, workload: WorkloadConfig) -> str | None:
    """The quiet times of a replay in words: those longer than `QUIET_S`. None without any."""
    timetable = schedule(stage.in_block(1), workload.seed, 1, workload.warmup)
    edges = np.concatenate([[0], timetable.times_ns, [timetable.window_end_ns]])
    gaps = np.diff(edges) / SECOND
    [long] = np.nonzero(gaps > QUIET_S)
    if not len(long):
        return None
    first = int(long[0])
    before = "the first request" if first == 1 else f"{first} requests"
    sent = f"after {before} nothing is sent for" if first else "nothing is sent for the first"
    more = f", and {len(long) - 1} more times for up to {gaps.max():.0f} s" if len(long) > 1 else ""
    return (
        f"{stage.label}: the recording is quiet: {sent} {gaps[first]:.0f} s{more}; "
        "offset skips a quiet beginning, speed shortens it"
    )
