"""Where servers and replicas go: which cores and accelerators each gets, and who is before them."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from math import ceil

from foundation.cores import usable_cores
from foundation.errors import BadInput
from serve.config import ServeConfig
from serve.device import Device, bound_by_hand

ROUTER_PACKAGE = "vllm_router"
LEAST_CORES = 2
"""A vLLM server on fewer cores has none left for its API."""


def check_accelerators(name: str, config: ServeConfig, device: Device) -> None:
    """Raises BadInput if this machine, or Ray's cluster, has too few accelerators for the servers.

    On this machine replicas may share accelerators; Ray gives each worker one of its own.
    """
    if device.kind == "cpu":
        return
    on_ray = config.executor == "ray" and device.cluster is not None
    there = device.cluster.accelerators if on_ray and device.cluster else len(device.accelerators)
    needed = config.accelerators * (config.replicas if on_ray else 1)
    if needed <= there or (not there and not on_ray):
        return
    parts = {
        "tensor_parallel": config.tensor_parallel,
        "pipeline_parallel": config.pipeline_parallel,
        "data_parallel": config.data_parallel,
        "replicas": config.replicas if on_ray else 1,
    }
    product = " x ".join(f"{key} {value}" for key, value in parts.items() if value > 1)
    where = "Ray's cluster" if on_ray else "this machine"
    raise BadInput(
        f"serve: {name} needs {needed} accelerators ({product or 'one a server'}) and {where} has "
        f"{there}; write smaller numbers"
    )


def sharing(config: ServeConfig, device: Device) -> int:
    """How many replicas of a server are in one memory at most: of this machine, or of a device."""
    if device.kind == "cpu":
        return config.replicas
    if config.executor == "ray" or not device.accelerators:
        return 1
    return ceil(config.replicas * config.accelerators / len(device.accelerators))


def own_accelerators(replica: int, config: ServeConfig, device: Device) -> dict[str, str]:
    """The environment that gives a replica (from 1) accelerators of its own.

    After the last accelerator comes the first one again. Nothing for a server without replicas, and
    where Ray places the workers.
    """
    ids, count = device.accelerators, config.accelerators
    if config.replicas == 1 or not ids or config.executor == "ray":
        return {}
    first = (replica - 1) * count
    own = (ids[(first + place) % len(ids)] for place in range(count))
    return {"CUDA_VISIBLE_DEVICES": ",".join(own)}


def replica_cores(
    replica: int, replicas: int, cores: Sequence[frozenset[int]]
) -> frozenset[int] | None:
    """The processors of a replica (from 1): its part of the cores, in order.

    `cores`: the logical processors of each core. None: too few cores, so the replicas share them.
    """
    each = len(cores) // replicas
    if replicas == 1 or each < LEAST_CORES:
        return None
    return frozenset().union(*cores[(replica - 1) * each : replica * each])


def own_processors(
    replica: int, replicas: int, allowed: frozenset[int] | None
) -> frozenset[int] | None:
    """The processors of a replica on this machine's CPU, of those that servers may use.

    None: all, as for `allowed`.
    """
    if bound_by_hand():
        return allowed
    cores = [core if allowed is None else core & allowed for core in usable_cores()]
    own = replica_cores(replica, replicas, [core for core in cores if core])
    return allowed if own is None else own


def shared_cores_note(name: str, replicas: int, device: Device) -> str | None:
    """What a reader should know of replicas on a CPU with too few cores."""
    if device.kind != "cpu" or replicas == 1 or len(usable_cores()) // replicas >= LEAST_CORES:
        return None
    return (
        f"{name}: its {replicas} replicas share all cores of this machine, so each holds less than "
        "one would alone"
    )


def check_router(config: ServeConfig) -> None:
    """Raises BadInput for a router that is not installed."""
    if config.is_routed and importlib.util.find_spec(ROUTER_PACKAGE) is None:
        raise BadInput(
            "serve.router: vllm-router is not installed; pip install vllm-router, "
            "or write round-robin"
        )
