"""Plans the servers before any starts: who shares one, its arguments, which are up together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import floor
from typing import Literal

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from serve import ports
from serve.config import ServeConfig
from serve.device import Device, device_for
from serve.dtype import ServedDtype, served_dtype
from serve.key import ServerKey
from serve.placement import (
    check_accelerators,
    check_router,
    own_accelerators,
    shared_cores_note,
    sharing,
)
from serve.ray_cluster import address_variables, running_cluster
from serve.variant import ServedVariant
from serve.vllm import arguments, lora
from serve.vllm.engine_options import CommandLine, check_engine_options
from serve.vllm.lora_tensors import check_adapter_file, check_architecture
from serve.vllm.memory import MemoryEstimate, estimate_memory
from serve.vllm.parallel import check_executor

Residency = Literal["resident", "sleep", "turns"]

SLEEPER_BYTES = 1_300_000_000
"""A sleeping server's accelerator memory: CUDA's context and graphs.

With vLLM 0.26 that was 1.2 GiB on an H200, and without graphs 0.8 GiB on an H100.
"""


@dataclass(frozen=True)
class ServerPlan:
    """One vLLM server, named after the first variant that it serves.

    `arguments` lack host, port, and the option for `template`, a chat template's text. `replica`:
    its number among `replicas` that serve the same, from 1; 0 where it is the only one.
    `is_routed`: whether a program before them chooses one for each request. `processors`: those
    that its processes may use; None for all.
    `variables`: what its environment has beside the one that all servers have.
    """

    name: str
    variants: tuple[ServedVariant, ...]
    arguments: tuple[str, ...]
    memory: MemoryEstimate
    dtype: ServedDtype
    template: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    replica: int = 0
    replicas: int = 1
    is_routed: bool = False
    processors: frozenset[int] | None = None


@dataclass(frozen=True)
class ServePlan:
    """Which servers run, and when.

    `elsewhere`: variants whose APIs run already.
    `rounds`: the variants that are up together, in the order of the experiment.
    `notes`: sentences for the reader of the plan.
    `config`: the section `serve` with which the servers start, `residency` decided.
    `processors`: those that the servers may use; None for all.
    """

    servers: tuple[ServerPlan, ...]
    elsewhere: tuple[ServedVariant, ...]
    residency: Residency
    rounds: tuple[tuple[str, ...], ...]
    starts_together: int
    notes: tuple[str, ...]
    config: ServeConfig
    processors: frozenset[int] | None = None

    @property
    def memory_bytes(self) -> int:
        """Bytes that all servers take together."""
        return sum(server.memory.total for server in self.servers)


def check(variants: Sequence[ServedVariant], config: ServeConfig) -> ServePlan:
    """The plan. Raises BadInput for what is sure to fail: adapters, options, ports, memory."""
    device = device_for(config)
    groups = share_servers(variants, config)
    if any(group.config.executor == "ray" for group in groups):
        for group in groups:
            check_executor(group.config, device)
        device = replace(device, cluster=running_cluster())
    ranks = {
        v.name: _rank(v, v.model) for v in variants if v.adapter is not None and v.model is not None
    }
    if groups:
        arguments.check_installed()
    dtypes = [
        served_dtype(group.variants[0], group.config, device.kind == "cpu") for group in groups
    ]
    estimates = [
        estimate_memory(group.variants[0], group.config, device, dtype.dtype)
        for group, dtype in zip(groups, dtypes, strict=True)
    ]
    for group, estimate in zip(groups, estimates, strict=True):
        check_fits(estimate, group.config, device)
        check_accelerators(group.variants[0].name, group.config, device)
        check_router(group.config)
    together = [
        estimate
        for group, estimate in zip(groups, estimates, strict=True)
        for _ in range(sharing(group.config, device))
    ]
    residency, reason = choose_residency(together, config, device)
    if residency == "sleep" and any(
        sharing(group.config, device) > 1 or group.config.is_routed for group in groups
    ):
        residency, reason = _never_asleep(config)
    room, utilization_note = _room(groups, len(together), residency, device)
    servers = tuple(
        server
        for group, dtype in zip(groups, dtypes, strict=True)
        for server in _servers(group, ranks, _settled(group.config, residency, room), device, dtype)
    )
    check_engine_options(
        config,
        [
            CommandLine(variant.name, config.of_variant(variant.settings), server.arguments)
            for server in servers
            if server.replica <= 1
            for variant in server.variants
        ],
    )
    _check_names(servers)
    config = _settled(config, residency, room).model_copy(update={"device": device.kind})
    rounds = _rounds(variants, servers, residency)
    if config.ports is not None:
        most = max((server.replicas for server in servers), default=0)
        needed = len(servers) if residency != "turns" else most
        needed += 2 * sum(group.config.is_routed for group in groups)
        ports.check_ports(config.ports, needed, config.host)
    ServerKey.of(config.api_key_env)  # raises BadInput where the environment lacks it
    sources = (
        *(server.memory.note for server in servers),
        *(dtype.note for dtype in dtypes),
        *(
            shared_cores_note(group.variants[0].name, group.config.replicas, device)
            for group in groups
        ),
        reason,
        utilization_note,
    )
    return ServePlan(
        servers=servers,
        elsewhere=tuple(v for v in variants if v.elsewhere is not None),
        residency=residency,
        rounds=rounds,
        starts_together=device.starts_together,
        notes=tuple(dict.fromkeys(note for note in sources if note)),
        config=config,
    )


def _check_names(servers: Sequence[ServerPlan]) -> None:
    """Raises BadInput for a variant that is named like the files of another one's replica."""
    names = Counter(server.name for server in servers)
    if twice := next((name for name, count in names.items() if count > 1), None):
        raise BadInput(f"variants.{twice}: a replica has files of this name; write another name")


@dataclass(frozen=True)
class SharedServer:
    """Variants that one server serves from one checkpoint, with the settings of that server."""

    model: ModelRef
    variants: tuple[ServedVariant, ...]
    config: ServeConfig


def share_servers(variants: Sequence[ServedVariant], config: ServeConfig) -> list[SharedServer]:
    """The servers of the variants.

    Variants of one checkpoint and the same settings share a server. Those with adapters share
    another one, since LoRA support alone slows a server down. A server has one chat template, so
    adapters that were trained with different templates share none.
    """
    groups: dict[object, tuple[ModelRef, ServeConfig, list[ServedVariant]]] = {}
    for variant in variants:
        if variant.model is not None:
            own = config.of_variant(variant.settings)
            key = (variant.model.path, variant.adapter is not None, variant.template, _key(own))
            groups.setdefault(key, (variant.model, own, []))[2].append(variant)
    return [SharedServer(model, tuple(group), own) for model, own, group in groups.values()]


def is_same_server(one: ServeConfig, other: ServeConfig) -> bool:
    """Whether variants of one checkpoint with these settings may share a server."""
    return _key(one) == _key(other)


def _key(config: ServeConfig) -> str:
    """The same text for the same settings, however their options are spelled and ordered."""
    return config.model_copy(
        update={"engine": dict(sorted(config.options.items()))}
    ).model_dump_json()


def choose_residency(
    servers: Sequence[MemoryEstimate], config: ServeConfig, device: Device
) -> tuple[Residency, str | None]:
    """The residency and its reason (None: there is nothing to explain).

    "auto" is resident if every server fits, else sleep if the sleepers fit, else turns.
    """
    limit = device.memory_bytes
    if config.residency == "sleep" and device.kind == "cpu" and servers:
        raise BadInput("serve.residency: vLLM has no sleep mode on a CPU; write resident or turns")
    if limit is None:
        return _without_memory_check(servers, config)
    awake = max((server.weights + server.runtime for server in servers), default=0)
    room = limit - len(servers) * SLEEPER_BYTES
    weights = sum(server.weights for server in servers)
    asleep = f"asleep, the servers keep {weights / 1e9:.1f} GB of weights in the host's memory"
    if config.residency == "sleep":
        if awake > room:
            raise BadInput(
                f"serve.residency: awake, a server needs about {awake / 1e9:.1f} GB, and "
                f"{len(servers)} of them asleep leave {max(room, 0) / 1e9:.1f} GB; write turns"
            )
        return "sleep", f"{asleep}; check that it has them"
    if config.residency != "auto":
        return config.residency, None
    together = sum(server.total for server in servers)
    if together <= limit:
        return "resident", None
    reason = f"all servers together need {together / 1e9:.1f} GB and there are {limit / 1e9:.1f} GB"
    host = device.host_memory_bytes
    if device.kind == "cuda" and awake <= room and (host is None or weights < host):
        check = "; check that it has them" if host is None else ""
        return "sleep", f"{reason}, so one is awake at a time; {asleep}{check}"
    return "turns", f"{reason}, so they take turns"


def _without_memory_check(
    servers: Sequence[MemoryEstimate], config: ServeConfig
) -> tuple[Residency, str | None]:
    """The residency on an accelerator that is not in this machine."""
    reason = "no accelerator on this machine: whether the servers fit its memory is not checked"
    automatic: Residency = "sleep" if len(servers) > 1 else "resident"
    residency = automatic if config.residency == "auto" else config.residency
    return residency, reason if servers else None


def check_fits(server: MemoryEstimate, config: ServeConfig, device: Device) -> None:
    """Raises BadInput if a server of these settings alone needs more memory than it may take."""
    if (limit := device.memory_bytes) is None:
        return
    for_one = limit if device.kind == "cpu" else int(limit * config.gpu_memory_utilization)
    if (copies := sharing(config, device)) > 1 and copies * server.total > limit:
        where, key = "one accelerator", "gpu_memory_utilization"
        if device.kind == "cpu":
            where, key = "this machine", "kv_cache"
        raise BadInput(
            f"serve.replicas: {copies} replicas on {where} need about "
            f"{copies * server.total / 1e9:.1f} GB and there are {limit / 1e9:.1f} GB; write "
            f"fewer, or a smaller {key}"
        )
    if server.total > for_one:
        remedy = (
            "write a smaller serve.kv_cache or free memory"
            if device.kind == "cpu"
            else "raise serve.tensor_parallel or serve.pipeline_parallel"
        )
        raise BadInput(
            f"serve: one server needs about {server.total / 1e9:.1f} GB "
            f"and there are {for_one / 1e9:.1f} GB for it; {remedy}"
        )


def _never_asleep(config: ServeConfig) -> tuple[Residency, str]:
    """The residency of replicas that all would wake on one accelerator, or that a router asks."""
    reason = "replicas behind a router, or on one accelerator, don't sleep"
    if config.residency == "sleep":
        raise BadInput(f"serve.residency: {reason}; write turns, or fewer replicas")
    return "turns", f"{reason}, so the servers take turns"


def _room(
    servers: Sequence[SharedServer], together: int, residency: Residency, device: Device
) -> tuple[float, str | None]:
    """The share of an accelerator that the server that is awake may take, and a note.

    It leaves the sleepers their part of the memory. `together`: servers and replicas in it.
    """
    if residency != "sleep" or not device.memory_bytes:
        return 1.0, None
    room = floor(100 * (1 - together * SLEEPER_BYTES / device.memory_bytes)) / 100
    if all(server.config.gpu_memory_utilization <= room for server in servers):
        return room, None
    return room, (
        f"gpu_memory_utilization is {room:.0%} at most for each of {together} servers: "
        "what sleeps keeps about 1.3 GB a server"
    )


def _settled(config: ServeConfig, residency: Residency, room: float) -> ServeConfig:
    """The settings with the residency decided, and no more of the accelerator than `room`."""
    utilization = min(config.gpu_memory_utilization, room)
    return config.model_copy(update={"residency": residency, "gpu_memory_utilization": utilization})


def _rank(variant: ServedVariant, base: ModelRef) -> int:
    """The rank of a variant's adapter, trained or still to train."""
    assert variant.adapter is not None
    check_architecture(variant.name, base)
    if variant.adapter.exists() or variant.rank is None:
        rank = lora.lora_rank(variant.name, variant.adapter)
        check_adapter_file(
            variant.name, variant.adapter, lora.read_config(variant.name, variant.adapter), base
        )
        return rank
    lora.check_rank(variant.name, variant.rank)
    return variant.rank


def _servers(
    group: SharedServer,
    ranks: dict[str, int],
    config: ServeConfig,
    device: Device,
    dtype: ServedDtype,
) -> list[ServerPlan]:
    """The server of a group, or its replicas."""
    first, count = group.variants[0], config.replicas
    arguments.check_checkpoint(first.name, group.model)
    line = arguments.command_line(
        group.model,
        group.variants,
        ranks,
        config.model_copy(update={"dtype": dtype.dtype}),
        device,
    )
    memory = estimate_memory(first, config, device, dtype.dtype)
    variables = arguments.device_variables(device)
    if config.executor == "ray":
        variables |= address_variables(device.cluster, os.environ)
    plan = ServerPlan(first.name, group.variants, line, memory, dtype, first.template, variables)
    if count == 1:
        return [plan]
    return [
        replace(
            plan,
            name=f"{first.name}.replica-{replica}",
            variables={**variables, **own_accelerators(replica, config, device)},
            replica=replica,
            replicas=count,
            is_routed=config.is_routed,
        )
        for replica in range(1, count + 1)
    ]


def _rounds(
    variants: Sequence[ServedVariant], servers: Sequence[ServerPlan], residency: Residency
) -> tuple[tuple[str, ...], ...]:
    if residency != "turns":
        return (tuple(v.name for v in variants),)
    served = dict.fromkeys(tuple(v.name for v in server.variants) for server in servers)
    elsewhere = tuple(v.name for v in variants if v.elsewhere is not None)
    return (*served, elsewhere) if elsewhere else tuple(served)
