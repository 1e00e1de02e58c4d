"""The capacity model's simulator against the emulator's scheduler, which shares no code with it.

Both get the same requests and the same costs; each request must have its tokens at the same time.
"""

from __future__ import annotations

import numpy as np
import pytest

from foundation.arrays import Floats, Ints
from loadgen.emulator.batch_limits import BatchLimits
from loadgen.emulator.behaviour import Distribution
from loadgen.emulator.plant import Plant, StepCost
from loadgen.emulator.virtual_server import VirtualServer
from results.capacity.demand.demand import NOBODY, Demand
from results.capacity.model.engine_model import (
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepTime,
)
from results.capacity.simulation.simulator import simulate

COST = (0.008, 1e-3, 1e-4, 2e-6, 1e-8)
ANY = LoadRange(1e9, 1e9, 1e9, 1e9, 1e9)
PREFIX = 24


def demand(rng: np.random.Generator, n: int = 80) -> Demand:
    """Requests at any load from light to far too heavy, some with a prefix or an adapter."""
    prefix = rng.integers(NOBODY, 3, n)
    return Demand(
        np.cumsum(rng.exponential(0.02 * rng.uniform(0.5, 6), n)),
        rng.integers(PREFIX + 2, 70, n),
        rng.integers(1, 30, n),
        prefix,
        np.where(prefix == NOBODY, 0, PREFIX),
        rng.integers(NOBODY, 3, n),
    )


def limits(rng: np.random.Generator, caching: bool) -> BatchLimits:
    """Any limits. The simulator forgets no prefix, so a prefix cache has room for all of them."""
    chunked, seqs = bool(rng.integers(2)), int(rng.integers(1, 12))
    return BatchLimits(
        max_num_seqs=seqs,
        max_num_batched_tokens=int(rng.integers(seqs, 60) if chunked else rng.integers(100, 200)),
        kv_blocks=None if caching or rng.integers(4) == 0 else int(rng.integers(14, 60)),
        block_size=8,
        chunked_prefill=chunked,
        prefix_caching=caching,
        max_loras=[None, 2][rng.integers(2)],
    )


@pytest.mark.parametrize("caching", [False, True])
def test_each_request_has_its_tokens_when_the_emulator_makes_them(caching: bool) -> None:
    preemptions = cached = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        asked, kept = demand(rng), limits(rng, caching)
        front = Distribution("fixed", 0.001)
        plant = Plant(StepCost(*COST), kept, front=front, front_per_token=1e-5, after=0.0005)
        model = EngineModel(
            StepTime(*COST), FrontEnd(0.001, 1e-5, 0.0005), Scheduler(**vars(kept)), ANY,
            "engine record",
        )  # fmt: skip
        served, simulated = VirtualServer(plant).open_loop(asked), simulate(model, asked)
        moments: list[tuple[Floats, Ints]] = [
            (simulated.queued, served.queued_ns),
            (simulated.scheduled, served.scheduled_ns),
            (simulated.first, served.first_ns),
            (simulated.last, served.last_ns),
        ]
        for seconds, ns in moments:
            assert seconds == pytest.approx(ns / 1e9, abs=1e-5), (seed, kept)
        assert (simulated.preemptions == served.preemptions).all()
        preemptions += int(served.preemptions.sum())
        cached += int(served.cached_tokens.sum())
    assert (cached > 0) is caching and (preemptions > 0) is not caching
