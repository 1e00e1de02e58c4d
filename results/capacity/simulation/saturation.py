"""The rate that a replica completes when requests always wait: none above it has a steady state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from results.capacity.demand.demand import NOBODY, Demand
from results.capacity.model.engine_model import EngineModel
from results.capacity.simulation.chances import Chances
from results.capacity.simulation.simulator import simulate

_EDGE = 0.1
"""The share of the answers at each end that is left out: the batch fills, and runs empty."""


def saturation(model: EngineModel, lengths: Demand, chances: Chances) -> float:
    """Requests/s; infinite where requests take no time.

    Without a limit on requests in a step or on KV blocks the batch would grow for ever, and the
    fixed time of a step is shared by ever more requests: then the rate follows from the sums.
    """
    scheduler = model.scheduler
    if scheduler.max_num_seqs is None and scheduler.kv_blocks is None:
        seconds = _seconds_in_a_large_batch(model, lengths)
        return 1 / seconds if seconds > 0 else np.inf
    waiting = replace(chances.load(lengths, 1.0), arrival=np.zeros(len(chances.waits)))
    ends = np.sort(simulate(model, waiting).last)
    first, last = int(_EDGE * len(ends)), int((1 - _EDGE) * len(ends)) - 1
    elapsed = float(ends[last] - ends[first])
    return (last - first) / elapsed if elapsed > 0 else np.inf


def _seconds_in_a_large_batch(model: EngineModel, lengths: Demand) -> float:
    """What a request adds to the steps that serve it, on average."""
    steps, scheduler = model.steps, model.scheduler
    prompt, decodes = lengths.input_tokens, lengths.output_tokens - 1
    known = np.zeros(len(lengths), np.int64)
    if scheduler.prefix_caching:
        block = scheduler.block_size
        known = np.where(lengths.prefix == NOBODY, 0, lengths.prefix_tokens // block * block)
    seconds = (
        steps.per_decoded_token * decodes
        + steps.per_prefill_token * (prompt - known)
        + steps.per_kv_token * decodes * (prompt + (decodes - 1) / 2)
        + steps.per_pair * (prompt - known) * (prompt + known) / 2
    )
    return float(seconds.mean()) * (steps.jump.factor if steps.jump else 1.0)
