"""Simulates replicas that serve a demand by continuous batching, as vLLM's V1 scheduler does.

A step serves the running requests in the order in which they entered, one token each, then the
prompt in progress, then waiting requests in the order in which they came. The step that completes a
prompt makes its first token. Steps of pure decoding are not simulated one by one: their times are
an arithmetic series until a request ends, another comes, or the KV blocks are used up.

What it leaves out:
- The prefix cache never forgets a prefix, and knows only the prefixes that the demand names, each
  under its own adapter. A preempted request computes its own tokens again; vLLM may still have some
  of them. The blocks of a prefix are in use until none of its requests runs.
- Requests that are cut off or fail, speculative decoding, priorities, and asynchronous scheduling.
- Front-end delays do not grow with the load.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.arrays import Floats, Ints
from foundation.errors import BadInput
from results.capacity.demand.demand import NOBODY, Demand
from results.capacity.model.engine_model import (
    EngineModel,
    LoadRange,
    Scheduler,
    StepJump,
)
from results.capacity.simulation.cluster import ENGINE, JOB, PREFIX, Cluster, Rules
from results.capacity.simulation.replicas import ONE, Replicas
from results.capacity.simulation.simulated import Simulated

WARM_UP = 0.1
"""The share of the requests that come while the replicas fill: metrics leave them out."""
_WITHOUT_LIMIT = 1 << 60


def simulate(model: EngineModel, demand: Demand, replicas: Replicas = ONE) -> Simulated:
    """What becomes of each request of a demand. Raises BadInput where one can never be served."""
    if not len(demand):
        raise ValueError("a simulation needs a request")
    if reason := unservable(model.scheduler, demand):
        raise BadInput(reason)
    # It is compiled, and numba takes a second to import.
    from results.capacity.simulation.batching import run

    front = model.front
    queued = demand.arrival + front.per_request + front.per_input_token * demand.input_tokens
    assigned = replicas.assigned(demand)
    # Engines that do not depend on one another are run one after another, which the caches like.
    order = np.lexsort((queued,) if assigned is None else (queued, assigned))
    serving = np.zeros(len(demand), np.int64) if assigned is not None else replicas.serving(demand)
    settled = float(demand.arrival[int(WARM_UP * len(demand))])
    jobs = _jobs(demand.take(order), queued[order], model.scheduler)
    if assigned is not None:
        jobs["replica"] = assigned[order]
    cluster = _cluster(jobs, replicas.most, model.scheduler, _rules(model, settled))
    run(cluster, serving[order])
    return _simulated(cluster, demand, order, front.per_output_token)


def unservable(scheduler: Scheduler, demand: Demand) -> str | None:
    """Why a request of a demand can never be served; None where all can."""
    tokens = int((demand.input_tokens + demand.output_tokens).max())
    budget, blocks = scheduler.max_num_batched_tokens, scheduler.kv_blocks
    if not scheduler.chunked_prefill and budget is not None and tokens > budget:
        return (
            f"a request of {tokens:,} tokens does not fit into a step of {budget:,} tokens "
            "(max_num_batched_tokens), and prompts are not computed in pieces"
        )
    if blocks is not None and tokens - 1 > blocks * scheduler.block_size:
        return (
            f"a request of {tokens:,} tokens does not fit into the KV cache of "
            f"{blocks * scheduler.block_size:,} tokens"
        )
    return None


def _rules(model: EngineModel, settled: float) -> Rules:
    """The model's limits as numbers, with a number beyond reach where there is none.

    vLLM refuses to start with fewer tokens in a step than requests; here no more requests than
    tokens are in a step.
    """
    scheduler = model.scheduler
    budget = scheduler.max_num_batched_tokens or _WITHOUT_LIMIT
    steps, jump = model.steps, model.steps.jump or StepJump(_WITHOUT_LIMIT, 1.0)
    return Rules(
        seqs=min(scheduler.max_num_seqs or _WITHOUT_LIMIT, budget),
        budget=budget,
        block=scheduler.block_size,
        limited=scheduler.kv_blocks is not None,
        chunked=scheduler.chunked_prefill,
        loras=scheduler.max_loras or 0,
        fixed=float(steps.fixed),
        per_decode=float(steps.per_decode),
        per_prefill_token=float(steps.per_prefill_token),
        per_kv_token=float(steps.per_kv_token),
        per_pair=float(steps.per_pair),
        free=-1 if steps.free_tokens is None else steps.free_tokens,
        above=jump.above,
        factor=float(jump.factor),
        settled=settled,
    )


def _jobs(demand: Demand, queued: Floats, scheduler: Scheduler) -> NDArray[np.void]:
    """Requests in the order of their queue, as jobs that wait for their first step."""
    jobs = np.zeros(len(demand), JOB)
    for name in ("scheduled", "first", "last", "token_at"):
        jobs[name] = np.nan
    for name in ("due", "before", "after", "entry", "prefix", "adapter"):
        jobs[name] = NOBODY
    jobs["queued"] = queued
    jobs["input"] = jobs["prompt"] = demand.input_tokens
    jobs["output"] = demand.output_tokens
    if scheduler.prefix_caching:
        jobs["prefix"] = _shared_ones(_prefixes_of_adapters(demand))
        jobs["prefix_blocks"] = demand.prefix_tokens // scheduler.block_size
    if scheduler.max_loras:
        jobs["adapter"] = _numbered(demand.adapter)
    return jobs


def _cluster(jobs: NDArray[np.void], replicas: int, scheduler: Scheduler, rules: Rules) -> Cluster:
    """Idle engines, with room for all that they will keep."""
    from results.capacity.simulation.batching import GAP_BINS, NEVER

    engines = np.zeros(replicas, ENGINE)
    engines["partial"] = NOBODY
    engines["soonest"] = NEVER
    engines["free"] = NEVER if scheduler.kv_blocks is None else scheduler.kv_blocks
    with_prefix = int((jobs["prefix"] != NOBODY).sum())
    entries = min(with_prefix, replicas * (int(jobs["prefix"].max()) + 1))
    prefixes = np.zeros(1 << (2 * entries).bit_length(), PREFIX)
    prefixes["key"] = NOBODY
    return Cluster(
        jobs,
        engines,
        np.full((2 * replicas, 2), NOBODY),
        prefixes,
        np.zeros((replicas, int(jobs["adapter"].max()) + 1), np.int64),
        np.zeros((2, GAP_BINS)),
        np.zeros(replicas, np.int64),
        np.full(replicas, np.inf),
        rules,
    )


def _numbered(names: Ints) -> Ints:
    """The same names as 0, 1, ...; `NOBODY` stays."""
    numbers = np.unique(names[names != NOBODY], return_inverse=True)[1]
    numbered = np.full(len(names), NOBODY)
    numbered[names != NOBODY] = numbers
    return numbered


def _prefixes_of_adapters(demand: Demand) -> Ints:
    """A number for each prefix under each adapter: a prefix has other keys and values there."""
    prefix, adapter = _numbered(demand.prefix), _numbered(demand.adapter)
    numbers = prefix * (adapter.max() + 2) + adapter + 1
    return np.where(prefix == NOBODY, NOBODY, numbers)


def _shared_ones(prefixes: Ints) -> Ints:
    """The prefixes of two requests or more, numbered; another's would never be met again."""
    numbers = _numbered(prefixes)
    uses = np.bincount(numbers + 1)
    return _numbered(np.where(uses[numbers + 1] > 1, numbers, NOBODY))


def _simulated(cluster: Cluster, demand: Demand, order: Ints, delivery: float) -> Simulated:
    """The jobs in the order of the demand, and the largest load of an engine."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))

    def of_jobs(field: str) -> NDArray[Any]:
        return np.asarray(cluster.jobs[field][place])

    sums, counts = cluster.gaps
    some = np.flatnonzero(counts)
    return Simulated(
        queued=of_jobs("queued"),
        scheduled=of_jobs("scheduled"),
        first=of_jobs("first") + delivery,
        last=of_jobs("last") + delivery,
        replica=of_jobs("replica"),
        preemptions=of_jobs("preemptions"),
        gaps=sums[some] / counts[some],
        gap_tokens=counts[some].astype(np.int64),
        settled=cluster.rules.settled,
        delivery=delivery,
        reached=_reached(cluster, demand),
    )


def _reached(cluster: Cluster, demand: Demand) -> LoadRange:
    engines, requests = cluster.engines, np.bincount(cluster.jobs["replica"])
    return LoadRange(
        decodes=float(engines["most_decodes"].max()),
        prefill_tokens=float(engines["most_prefill"].max()),
        context=float((demand.input_tokens + demand.output_tokens).max()),
        kv_tokens=float(engines["most_kv"].max()),
        rate=demand.rate * float(requests.max()) / len(demand),
    )
