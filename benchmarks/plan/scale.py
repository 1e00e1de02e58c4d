"""A million requests of a trace over a thousand replicas: seconds and memory on one core.

`python -m benchmarks.plan.scale` prints a line for each router; exits 1 over 60 s or 2 GB.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from typing import get_args

import numpy as np

from foundation.processor import processor_name
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import (
    EngineModel,
    FrontEnd,
    LoadRange,
    Scheduler,
    StepTime,
)
from results.capacity.simulation.replicas import Replicas, Router
from results.capacity.simulation.simulator import simulate

REQUESTS, REPLICAS = 1_000_000, 1_000
MOST_S, MOST_BYTES = 60.0, 2 << 30
_ANYWHERE = LoadRange(1e12, 1e12, 1e12, 1e12, 1e12)
_MODEL = EngineModel(
    StepTime(0.008, 50e-6, 20e-6, 5e-9),
    FrontEnd(0.001),
    Scheduler(max_num_seqs=64, max_num_batched_tokens=8192, kv_blocks=8_000),
    _ANYWHERE,
    "engine record",
)
_RATE_OF_ONE = 4.0


def trace(rng: np.random.Generator) -> Demand:
    """Bursty arrivals of conversations with shared beginnings, lognormal lengths."""
    gaps = rng.gamma(0.5, 2.0, REQUESTS) / (_RATE_OF_ONE * REPLICAS)
    inputs = np.clip(rng.lognormal(6.0, 1.0, REQUESTS), 8, 7_000).astype(np.int64)
    outputs = np.clip(rng.lognormal(4.8, 0.8, REQUESTS), 1, 2_000).astype(np.int64)
    plain = Demand.of(np.cumsum(gaps), inputs, outputs)
    prefix = rng.integers(0, 50_000, REQUESTS)
    return Demand(plain.arrival, inputs, outputs, prefix, np.minimum(inputs, 256), plain.adapter)


def main() -> int:
    """Runs each router once, after a small run that compiles; returns the exit code."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    demand = trace(np.random.default_rng(1))
    for router in get_args(Router):
        simulate(_MODEL, demand.take(np.arange(1_000)), Replicas(3, router))
    print(f"{processor_name()}, one core\n")
    print("| router | s | peak memory, GB | p95 TTFT, ms |")
    print("|---|---|---|---|", flush=True)
    missed = 0
    for router in get_args(Router):
        began = time.perf_counter()
        served = simulate(_MODEL, demand, Replicas(REPLICAS, router))
        seconds = time.perf_counter() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        ttft = float(np.percentile(served.first - demand.arrival, 95)) * 1e3
        missed += seconds > MOST_S or memory > MOST_BYTES
        print(f"| {router} | {seconds:.1f} | {memory / 1e9:.2f} | {ttft:.0f} |", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
