"""`dyno doctor`: what works on this machine, and how to get the rest."""

from __future__ import annotations

import importlib.util
import os
from importlib import metadata
from typing import get_args

from rich.table import Table

from dyno.pipeline.environment import Hardware, environment
from dyno.terminal.progress import open_console
from finetune.config import FinetuneConfig
from foundation.errors import SystemFailed
from foundation.gpus import compute_capability
from foundation.processor import computes_bfloat16, fast_dtype
from quantize.methods import METHODS
from results.measures.doubt import some
from serve.ray_cluster import RayCluster, running_cluster

# How long a Ray cluster may take to answer.
_RAY_S = 20.0
# A feature, the packages that it needs, and how to get them.
_FEATURES: dict[str, tuple[tuple[str, ...], str]] = {
    "load, measure, decide": ((), ""),
    "fine-tune": (
        ("torch", "transformers", "peft", "trl", "datasets"),
        'pip install "tunedyno[tune]"',
    ),
    # Two of its methods need bitsandbytes too, which the table of methods says.
    "quantize": (
        ("torch", "transformers", "compressed_tensors"),
        'pip install "tunedyno[tune]"',
    ),
    "serve": (
        ("torch", "vllm"),
        'pip install "tunedyno[cpu]" or, with an NVIDIA GPU, "tunedyno[cuda]"',
    ),
}


def examine() -> None:
    """Prints hardware, features, fine-tuning and quantization methods, and what works here."""
    console = open_console()
    here = environment()
    gpus = here["hardware"]["accelerators"]
    console.print(_hardware(here["hardware"]))
    console.print(_features())
    console.print(_receiver())
    console.print(_telemetry(), highlight=False, soft_wrap=True)
    console.print(_ray(), highlight=False, soft_wrap=True, markup=False)
    if not gpus:
        console.print(_preloads(), soft_wrap=True)
    console.print(_finetuning(has_gpu=bool(gpus)))
    console.print(_quantization())
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    console.print(f"versions: {versions}", highlight=False, soft_wrap=True)


def _hardware(hardware: Hardware) -> str:
    lines = [
        f"{hardware['cpu']}, {hardware['cores']} cores, "
        f"{hardware['memory_bytes'] / 2**30:.0f} GiB, {hardware['system']}"
    ]
    lines += [_dtype(hardware["instruction_sets"])]
    lines += [f"accelerator: {gpu}" for gpu in hardware["accelerators"]] or [
        "no NVIDIA accelerator: vLLM's CPU backend serves, which suits small models"
    ]
    return "\n".join(lines)


def _dtype(sets: list[str]) -> str:
    """The processor's instruction sets, and the dtype that `dtype: auto` picks for them."""
    emulated = "" if computes_bfloat16(sets) else "; bfloat16 is emulated, about three times slower"
    return (
        f"instruction sets: {', '.join(sets) or 'not known'}; "
        f"dtype auto on the processor: {fast_dtype()}{emulated}"
    )


def _features() -> Table:
    table = Table("what", "here", "how to get it", title="Features", title_justify="left")
    for feature, (packages, how) in _FEATURES.items():
        missing = [package for package in packages if not _is_installed(package)]
        here = f"no: {', '.join(missing)} missing" if missing else "yes"
        table.add_row(feature, here, how if missing else "")
    return table


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _receiver() -> str:
    from loadgen.transport.receiver import KIND

    if KIND == "compiled":
        return "load generator: compiled receiver"
    return (
        "load generator: receiver in Python, which costs more CPU; "
        "on Linux, an installation with a C compiler has another"
    )


def _preloads() -> str:
    """The libraries that vLLM servers preload on the processor, and how to get those missing."""
    from serve.vllm.preloads import VARIABLE, find_preloads

    return "\n".join(
        f"vLLM's {preload.kind.purpose}: {preload.library or 'the usual one; ' + preload.why_not}"
        for preload in find_preloads(os.environ.get(VARIABLE, ""))
    )


def _telemetry() -> str:
    """What can be sampled beside a server's own metrics, its processes and this host."""
    from serve.telemetry.machine import MachineSensors

    sensors = MachineSensors()
    if sensors.gpus.absent is None:
        sensors.gpus.read()  # which of its numbers NVML does not give shows when it is asked
        gpus = f"{sensors.gpus.count} GPU{'s' * (sensors.gpus.count > 1)} through NVML"
        gpus += f"; {trouble}" if (trouble := sensors.gpus.trouble) else ""
    else:
        gpus = f"no GPU: {sensors.gpus.absent}"
    cpu = "yes, by RAPL" if sensors.rapl.absent is None else f"no: {sensors.rapl.absent}"
    return f"telemetry: {gpus}; energy of the processors: {cpu}"


def _ray() -> str:
    """Ray's version, and the cluster that this machine reaches; nothing is started."""
    if not _is_installed("ray"):
        return ray_line(None, None)
    try:
        return ray_line(metadata.version("ray"), running_cluster(_RAY_S))
    except SystemFailed as error:
        return f"Ray {metadata.version('ray')}: {error}"


def ray_line(version: str | None, cluster: RayCluster | None) -> str:
    """One line about Ray. `version`: None where it is not installed; `cluster`: None for none."""
    if version is None:
        return (
            "Ray: not installed; only load and servers on the nodes of a Ray cluster need it; "
            'pip install "tunedyno[ray]"'
        )
    if cluster is None:
        return f"Ray {version}: no cluster is up here"
    nodes, accelerators = some(cluster.nodes, "node"), some(cluster.accelerators, "accelerator")
    return f"Ray {version}: a cluster of {nodes} with {accelerators}"


def _finetuning(has_gpu: bool) -> Table:
    table = Table(
        "method",
        "trained here",
        "served beside its base",
        title="Fine-tuning",
        title_justify="left",
    )
    for method in get_args(FinetuneConfig.model_fields["method"].annotation):
        trained = "yes"
        if not _is_installed("peft"):
            trained = "no: peft missing"
        elif method == "qlora" and not has_gpu:
            trained = "yes, an nf4 base without evaluation inside"
        why_not = FinetuneConfig(method=method).why_only_merged
        table.add_row(method, trained, f"no, merged: {why_not}" if why_not else "yes")
    return table


def _quantization() -> Table:
    from quantize.llmcompressor import environment as llmcompressor
    from serve.vllm.arguments import serves_bitsandbytes
    from serve.vllm.quantization import why_not_on_cpu, why_not_on_cuda

    table = Table(
        "method",
        "rounding",
        "written here",
        "served here",
        title="Quantization",
        title_justify="left",
    )
    calibrated = "yes, in llm-compressor's environment"
    if not llmcompressor.folder().is_dir():
        calibrated += ", which the first use sets up (1.5 GB)"
    capability = compute_capability()
    for method, facts in METHODS.items():
        package = facts.package
        written = "yes" if _is_installed(package) else f"no: {package} missing"
        if capability is None:
            why_not = why_not_on_cpu(method)
        else:
            why_not = why_not_on_cuda(method, capability)
        if facts.format == "bitsandbytes" and not why_not and not serves_bitsandbytes():
            why_not = "pip install --no-deps vllm-bnb-plugin"
        served = f"no: {why_not}" if why_not else "yes"
        for algorithm in facts.algorithms:
            table.add_row(method, algorithm, written if algorithm == "rtn" else calibrated, served)
    return table
