"""What must hold of a replay, and what a person should know of it, before it is waited for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from foundation.errors import BadInput
from loadgen.config import Stage, WorkloadConfig
from loadgen.schedule.arrivals import SECOND, schedule
from loadgen.schedule.traces import arrivals_in

QUIET_S = 10.0
"""Longer without a request looks like a fault to a person who waits."""


def check_replays(workload: WorkloadConfig, say: Callable[[str], None]) -> None:
    """Say how long each replay is quiet. Raises BadInput for a trace that can't be replayed so."""
    asked = workload.dataset.trace if workload.dataset else None
    for stage in workload.stages:
        if stage.trace is None:
            continue
        if asked is None or asked.part != stage.trace.part:
            for arrival in arrivals_in(stage.trace):
                if arrival.then:
                    raise BadInput(
                        f"{stage.trace.file}:{arrival.then[0].line}: a further turn of a session, sent when the one before it "
                        f"is answered; write dataset: {{trace: {stage.trace.file.name}}} too, so that the sessions are asked"
                    )
        if words := quiet_in_words(stage, workload):
            say(words)


def quiet_in_words(stage: Stage, workload: WorkloadConfig) -> str | None:
    """The times of a replay in which nothing is sent, where they are over `QUIET_S`."""
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
