"""What nvidia-smi reports about this machine's NVIDIA GPUs."""

from __future__ import annotations

import os
import shutil
import subprocess

from foundation.errors import SystemFailed

_TIMEOUT_S = 20


def gpu_descriptions() -> list[str]:
    """Name, memory and driver version of each GPU; empty without one."""
    return _query("name,memory.total,driver_version")


def smallest_gpu_bytes() -> int | None:
    """Memory of the smallest GPU in bytes; None without one."""
    sizes = [line.removesuffix(" MiB") for line in _query("memory.total")]
    return min((int(size) << 20 for size in sizes if size.isdigit()), default=None)


def visible_gpus() -> list[str]:
    """The GPUs that programs here may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return _query("index")
    names = (name.strip() for name in named.split(","))
    return [name for name in names if name and name != "-1"]


def compute_capability() -> float | None:
    """The lowest compute capability of the GPUs (8.9 for Ada, 9.0 for Hopper); None without one."""
    capabilities = [
        float(line) for line in _query("compute_cap") if line.replace(".", "", 1).isdigit()
    ]
    return min(capabilities, default=None)


def _query(fields: str) -> list[str]:
    """nvidia-smi's line for each GPU; empty if the program is missing or fails.

    Raises SystemFailed if it does not answer.
    """
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise SystemFailed(
            f"nvidia-smi did not answer in {_TIMEOUT_S} s; check the GPU and its driver"
        ) from None
    if answer.returncode != 0:
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]
