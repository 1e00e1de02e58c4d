"""The processor of this machine: the instruction sets that matter here, and the number format that it computes fast in."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

_CPUINFO = Path("/proc/cpuinfo")
_KNOWN = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm",
)  # fmt: skip
_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
# oneDNN, which computes torch's layers on a CPU, can be told to leave out newer instruction sets. What each level still has:
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


def instruction_sets() -> tuple[str, ...]:
    """Those of `_KNOWN` that the processor has and `ONEDNN_MAX_CPU_ISA` allows; empty where the system does not say."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    flags = next(
        (
            line.partition(":")[2].split()
            for line in lines
            if line.startswith(("flags", "Features"))
        ),
        [],
    )
    return _allowed(set(flags), os.environ.get("ONEDNN_MAX_CPU_ISA", ""))


def _allowed(flags: set[str], level: str) -> tuple[str, ...]:
    most = _ONEDNN_LEVELS.get(level.upper(), _KNOWN)
    return tuple(name for name in _KNOWN if name in flags and name in most)


def computes_bfloat16(sets: Iterable[str]) -> bool:
    """Whether bfloat16 has instructions of its own. Elsewhere it is emulated, about three times slower than float32."""
    return any(name in _BFLOAT16 for name in sets)


def fast_dtype() -> Literal["bfloat16", "float32"]:
    """What `dtype: auto` means on this processor."""
    return "bfloat16" if computes_bfloat16(instruction_sets()) else "float32"
