"""This machine's processor: its name, its instruction sets, and the number format it is fast in."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

_CPUINFO = Path("/proc/cpuinfo")
_KNOWN = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni",
    "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm",
)  # fmt: skip
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
# oneDNN computes torch's layers on a CPU. ONEDNN_MAX_CPU_ISA limits it to these instruction sets.
_ONEDNN_LEVELS: dict[str, tuple[str, ...]] = {
    "SSE41": (),
    "AVX": (),
    "AVX2": ("avx2",),
    "AVX2_VNNI": ("avx2", "avx_vnni"),
    "AVX2_VNNI_2": ("avx2", "avx_vnni"),
    "AVX512_CORE": ("avx2", "avx512f"),
    "AVX512_CORE_VNNI": ("avx2", "avx512f", "avx512_vnni"),
    "AVX512_CORE_BF16": ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16"),
    "AVX512_CORE_FP16": (
        "avx2",
        "avx512f",
        "avx512_vnni",
        "avx_vnni",
        "avx512_bf16",
        "avx512_fp16",
    ),
}


def processor_name() -> str:
    """The processor's model, as the kernel names it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that the processor has and `ONEDNN_MAX_CPU_ISA` allows.

    Only those that matter to torch and vLLM; empty if the system does not list them.
    """
    flags = _cpuinfo("flags", "Features").split()
    return _allowed(set(flags), os.environ.get("ONEDNN_MAX_CPU_ISA", ""))


def _cpuinfo(*fields: str) -> str:
    """The first value of one of these fields in /proc/cpuinfo; empty without one."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    values = (line.partition(":")[2].strip() for line in lines if line.startswith(fields))
    return next(values, "")


def _allowed(flags: set[str], level: str) -> tuple[str, ...]:
    most = _ONEDNN_LEVELS.get(level.upper(), _KNOWN)
    return tuple(name for name in _KNOWN if name in flags and name in most)


def computes_bfloat16(sets: Iterable[str]) -> bool:
    """Whether bfloat16 has its own instructions; emulated, it is about three times slower."""
    return any(name in _BFLOAT16 for name in sets)


def fast_dtype() -> Literal["bfloat16", "float32"]:
    """The format that `dtype: auto` selects on this processor."""
    return "bfloat16" if computes_bfloat16(instruction_sets()) else "float32"
