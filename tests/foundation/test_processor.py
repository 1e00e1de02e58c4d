"""What the processor computes fast, read from what the system and the user's setting say."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation import processor

EPYC = "avx avx2 avx512f avx512dq avx512_bf16 avx512_vnni"
XEON = "avx avx2 avx512f avx512dq avx512_vnni"
SAPPHIRE_RAPIDS = f"{XEON} avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8"


@pytest.mark.parametrize(
    ("flags", "level", "dtype"),
    [
        (EPYC, None, "bfloat16"),
        (XEON, None, "float32"),
        (SAPPHIRE_RAPIDS, None, "bfloat16"),
        ("avx2 fma", None, "float32"),
        (EPYC, "AVX512_CORE_VNNI", "float32"),
        (EPYC, "avx512_core", "float32"),
        (EPYC, "AVX512_CORE_BF16", "bfloat16"),
        (EPYC, "DEFAULT", "bfloat16"),
        (SAPPHIRE_RAPIDS, "AVX2", "float32"),
        (SAPPHIRE_RAPIDS, "AVX512_CORE_AMX", "bfloat16"),
    ],
)
def test_auto_is_what_has_instructions(
    flags: str, level: str | None, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(
        f"processor\t: 0\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\nflags\t\t: fpu {flags}\n"
    )
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if level:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", level)
    assert processor.fast_dtype() == dtype
    assert set(processor.instruction_sets()) <= set(flags.split())


def test_arm_says_it_in_another_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n")
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert processor.instruction_sets() == ("asimd", "bf16", "i8mm")
    assert processor.fast_dtype() == "bfloat16"


def test_a_system_that_says_nothing_gets_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "missing")
    assert processor.instruction_sets() == ()
    assert processor.fast_dtype() == "float32"
