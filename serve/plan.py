"""Which variants share a server, with which arguments, and which are up together: decided and checked before any starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from foundation.errors import BadInput
from foundation.model import ModelRef
from serve import adapters, arguments, ports
from serve.config import ServeConfig
from serve.device import Device, device_for
from serve.memory import MemoryEstimate, estimate_memory
from serve.variant import ServedVariant

Residency = Literal["resident", "sleep", "turns"]


@dataclass(frozen=True)
class ServerPlan:
    """One vLLM server, named by the first of the variants it serves. `arguments` lack only host and port."""

    name: str
    variants: tuple[ServedVariant, ...]
    arguments: tuple[str, ...]
    memory: MemoryEstimate


@dataclass(frozen=True)
class ServePlan:
    """What will be served and when. `rounds` are the variants that are up together, in the order of the experiment."""

    servers: tuple[ServerPlan, ...]
    elsewhere: tuple[ServedVariant, ...]
    residency: Residency
    rounds: tuple[tuple[str, ...], ...]
    starts_together: int
    notes: tuple[str, ...]

    @property
    def memory_bytes(self) -> int:
        """With every server up."""
        return sum(server.memory.total for server in self.servers)


def check(variants: Sequence[ServedVariant], config: ServeConfig) -> ServePlan:
    """The plan. Raises BadInput for whatever can be known to fail: adapters, options, ports, memory."""
    device = device_for(config)
    groups = share_servers(variants)
    ranks = {v.name: _rank(v) for v in variants if v.adapter is not None}
    if groups:
        arguments.check_installed()
    servers = tuple(_server(model, group, ranks, config, device) for model, group in groups)
    arguments.check_engine_options(config, [server.arguments for server in servers])
    residency, why = choose_residency([server.memory for server in servers], config, device)
    rounds = _rounds(variants, servers, residency)
    if config.ports is not None:
        ports.check_ports(config.ports, len(servers) if residency != "turns" else min(1, len(servers)))
    notes = dict.fromkeys(note for note in (*(server.memory.note for server in servers), why) if note)
    elsewhere = tuple(v for v in variants if v.url is not None)
    return ServePlan(servers, elsewhere, residency, rounds, device.starts_together, tuple(notes))


def share_servers(variants: Sequence[ServedVariant]) -> list[tuple[ModelRef, tuple[ServedVariant, ...]]]:
    """Variants of one checkpoint share a server; those with adapters share another: LoRA support alone slows a server down."""
    groups: dict[object, list[ServedVariant]] = {}
    for variant in variants:
        if variant.model is not None:
            groups.setdefault((variant.model.path, variant.adapter is not None), []).append(variant)
    return [(group[0].model, tuple(group)) for group in groups.values() if group[0].model is not None]


def choose_residency(servers: Sequence[MemoryEstimate], config: ServeConfig, device: Device) -> tuple[Residency, str | None]:
    """Resident where every server fits, else turns, with the reason. Raises BadInput where not even one server fits."""
    limit = device.memory_bytes
    if config.residency == "sleep" and device.kind == "cpu" and servers:
        raise BadInput("serve.residency: vLLM has no sleep mode on a CPU; write resident or turns")
    if limit is None:
        why = "no accelerator on this machine: whether the servers fit its memory is not checked" if servers else None
        return ("turns" if config.residency == "auto" else config.residency), why
    largest = max((server.total for server in servers), default=0)
    for_one = limit if device.kind == "cpu" else int(limit * config.gpu_memory_utilization)
    if largest > for_one:
        remedy = "write a smaller serve.kv_cache or free memory" if device.kind == "cpu" else "raise serve.tensor_parallel"
        raise BadInput(
            f"serve: one server needs about {largest / 1e9:.1f} GB and there are {for_one / 1e9:.1f} GB for it; {remedy}"
        )
    if config.residency == "sleep":
        weights = sum(server.weights for server in servers)
        return "sleep", f"asleep, the servers keep {weights / 1e9:.1f} GB of weights in the host's memory; check that it has them"
    if config.residency != "auto":
        return config.residency, None
    together = sum(server.total for server in servers)
    if together <= limit:
        return "resident", None
    why = f"all servers together need {together / 1e9:.1f} GB and there are {limit / 1e9:.1f} GB, so they take turns"
    return "turns", why if device.kind == "cpu" else f"{why}; with serve.residency: sleep their blocks alternate"


def _rank(variant: ServedVariant) -> int:
    """The rank of a variant's adapter, or the one it will be trained with."""
    assert variant.adapter is not None
    if variant.adapter.exists() or variant.rank is None:
        return adapters.lora_rank(variant.name, variant.adapter)
    adapters.check_rank(variant.name, variant.rank)
    return variant.rank


def _server(
    model: ModelRef, variants: tuple[ServedVariant, ...], ranks: dict[str, int], config: ServeConfig, device: Device
) -> ServerPlan:
    arguments.check_checkpoint(variants[0].name, model)
    line = arguments.command_line(model, variants, ranks, config, device)
    return ServerPlan(variants[0].name, variants, line, estimate_memory(model, config, device))


def _rounds(
    variants: Sequence[ServedVariant], servers: Sequence[ServerPlan], residency: Residency
) -> tuple[tuple[str, ...], ...]:
    if residency != "turns":
        return (tuple(v.name for v in variants),)
    served = [tuple(v.name for v in server.variants) for server in servers]
    elsewhere = tuple(v.name for v in variants if v.url is not None)
    return (*served, elsewhere) if elsewhere else tuple(served)
