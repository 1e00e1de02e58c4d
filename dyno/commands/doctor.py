"""`dyno doctor`: what works on this machine, and how to get the rest."""

from __future__ import annotations

import importlib.util
from typing import get_args

from rich.table import Table

from dyno.pipeline.environment import accelerators, compute_capability, environment
from dyno.terminal.progress import open_console
from finetune.config import FinetuneConfig
from foundation.processor import computes_bfloat16, fast_dtype
from quantize.config import ALGORITHMS, Method

_ROOMS = {
    "load, measure, decide": ((), ""),
    "fine-tune": (
        ("torch", "transformers", "peft", "trl", "datasets"),
        'pip install "tunedyno[tune]"',
    ),
    "quantize": (
        ("torch", "transformers", "compressed_tensors", "bitsandbytes"),
        'pip install "tunedyno[tune]"',
    ),
    "serve": (
        ("torch", "vllm"),
        'pip install "tunedyno[cpu]" or, with an NVIDIA GPU, "tunedyno[cuda]"',
    ),
}


def examine() -> None:
    """Print hardware, packages, rooms and quantization methods with what each can do here."""
    console = open_console()
    found = environment()
    console.print(_hardware(found["hardware"]))
    console.print(_rooms())
    console.print(_receiver())
    console.print(_training())
    console.print(_methods())
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    console.print(f"versions: {versions}", highlight=False, soft_wrap=True)


def _hardware(hardware: dict[str, object]) -> str:
    gpus = accelerators()
    memory = hardware["memory_bytes"]
    assert isinstance(memory, int)
    lines = [
        f"{hardware['cpu']}, {hardware['cores']} cores, {memory / 2**30:.0f} GiB, {hardware['system']}"
    ]
    lines += [_dtype(hardware["instruction_sets"])]
    lines += [f"accelerator: {gpu}" for gpu in gpus] or [
        "no NVIDIA accelerator: vLLM's CPU backend serves, which suits small models"
    ]
    return "\n".join(lines)


def _dtype(sets: object) -> str:
    """The processor's instruction sets, and what `dtype: auto` makes of them."""
    assert isinstance(sets, list)
    emulated = "" if computes_bfloat16(sets) else "; bfloat16 is emulated, about three times slower"
    return f"instruction sets: {', '.join(sets) or 'not known'}; dtype auto on the processor: {fast_dtype()}{emulated}"


def _rooms() -> Table:
    table = Table("what", "here", "how to get it", title="Rooms", title_justify="left")
    for room, (packages, how) in _ROOMS.items():
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        table.add_row(
            room, f"no: {', '.join(missing)} missing" if missing else "yes", how if missing else ""
        )
    return table


def _receiver() -> str:
    from loadgen.transport.receiver import KIND

    if KIND == "compiled":
        return "load generator: compiled receiver"
    return "load generator: receiver in Python, which costs more CPU; on Linux, an installation with a C compiler has another"


def _training() -> Table:
    table = Table(
        "method",
        "trained here",
        "served beside its base",
        title="Fine-tuning",
        title_justify="left",
    )
    has_gpu, can_train = bool(accelerators()), importlib.util.find_spec("peft") is not None
    for method in get_args(FinetuneConfig.model_fields["method"].annotation):
        how = (
            "yes, an nf4 base without evaluation inside"
            if method == "qlora" and not has_gpu
            else "yes"
        )
        why_not = FinetuneConfig(method=method).why_only_merged
        table.add_row(
            method,
            how if can_train else "no: peft missing",
            f"no, merged: {why_not}" if why_not else "yes",
        )
    return table


def _methods() -> Table:
    from quantize.llmcompressor import environment
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
    capability = compute_capability()
    is_there = environment.folder().is_dir()
    calibrated = "yes, in llm-compressor's environment" + (
        "" if is_there else ", which the first use sets up (1.5 GB)"
    )
    for method in get_args(Method):
        package = "bitsandbytes" if method.startswith("bnb") else "compressed_tensors"
        written = "yes" if importlib.util.find_spec(package) else f"no: {package} missing"
        why_not = (
            why_not_on_cpu(method) if capability is None else why_not_on_cuda(method, capability)
        )
        if method.startswith("bnb") and not why_not and not serves_bitsandbytes():
            why_not = "pip install --no-deps vllm-bnb-plugin"
        served = f"no: {why_not}" if why_not else "yes"
        for algorithm in ALGORITHMS[method]:
            table.add_row(method, algorithm, written if algorithm == "rtn" else calibrated, served)
    return table
