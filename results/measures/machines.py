"""What can be wrong with a stage that several machines sent: their clocks, and their number."""

from __future__ import annotations

import numpy as np

from foundation.format import quantity
from results.measures.doubt import Doubt, some
from results.measures.steady_state import StageData
from results.measures.values import Limits

BOUND_SHARE = 0.01
"""The share of the tightest objective that the machines' origins may lie apart."""


def machine_doubts(stage: StageData, limits: Limits) -> list[Doubt]:
    """The doubts about blocks that several machines sent. `limits`: of one request, ms."""
    return [*_stopped(stage), *_apart(stage, limits)]


def machine_note(stage: StageData) -> list[str]:
    """How many machines sent the stage, where it was more than one."""
    machines = max((block.machines for block in stage.blocks), default=1)
    return [f"{machines} machines sent it, each a share of the arrivals"] if machines > 1 else []


def _stopped(stage: StageData) -> list[Doubt]:
    """Blocks in which a machine stopped early, so that less was sent than offered."""
    cut_off = [block for block in stage.blocks if block.machines > 1 and block.cut_off]
    if not cut_off:
        return []
    missing = sum(block.missing for block in cut_off)
    numbers = ", ".join(str(block.number) for block in cut_off)
    lost = f"; {some(missing, 'planned request')} left no record" if missing else ""
    words = (
        f"not all of {max(block.machines for block in cut_off)} machines sent to the end of "
        f"block {numbers}: the load was lower than planned"
    )
    return [("INVALID", words + lost)]


def _apart(stage: StageData, limits: Limits) -> list[Doubt]:
    """How far the machines' clocks may lie apart: arrivals are shifted by as much."""
    shared = [block for block in stage.blocks if block.machines > 1]
    if not shared:
        return []
    machines = max(block.machines for block in shared)
    bounds = [block.clock_bound_ns for block in shared if block.clock_bound_ns is not None]
    if len(bounds) < len(shared):
        numbers = ", ".join(str(b.number) for b in shared if b.clock_bound_ns is None)
        words = (
            f"nobody knows how far the clocks of the {machines} machines lie apart "
            f"(block {numbers}), so arrivals may be shifted against one another"
        )
        return [("SUSPECT", words)]
    tightest = min((limit for limit in limits.values() if not np.isnan(limit)), default=np.inf)
    apart_ms, most_ms = max(bounds) / 1e6, BOUND_SHARE * tightest
    if apart_ms <= most_ms:
        return []
    words = (
        f"the clocks of the {machines} machines may lie {quantity(apart_ms, 'ms')} apart, and "
        f"should lie within {quantity(most_ms, 'ms')}, 1 % of the tightest objective"
    )
    return [("SUSPECT", words)]
