"""What `nvidia-smi` reports of this machine, and what is known where it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation import gpus
from foundation.errors import SystemFailed
from foundation.gpus import compute_capability, gpu_descriptions, smallest_gpu_bytes


def install(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `nvidia-smi` that runs this script."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


TWO_GPUS = """case $1 in
*compute_cap*) printf '9.0\\n8.9\\n';;
*name*) printf 'H100, 81559 MiB, 1\\nL4, 23034 MiB, 1\\n';;
*) printf '81559 MiB\\n23034 MiB\\n';;
esac"""
# Some GPUs share the machine's memory and report none of their own.
NO_MEMORY = (
    "case $1 in *compute_cap*) echo 12.1;; *name*) echo 'GB10, [N/A], 1';; *) echo '[N/A]';; esac"
)


@pytest.mark.parametrize(
    ("script", "names", "size", "capability"),
    [
        (TWO_GPUS, ["H100, 81559 MiB, 1", "L4, 23034 MiB, 1"], 23034 * 2**20, 8.9),
        (NO_MEMORY, ["GB10, [N/A], 1"], None, 12.1),
        ("echo no devices were found; exit 6", [], None, None),
    ],
)
def test_the_gpus_that_nvidia_smi_names(
    script: str,
    names: list[str],
    size: int | None,
    capability: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(script, tmp_path, monkeypatch)
    assert gpu_descriptions() == names
    assert smallest_gpu_bytes() == size
    assert compute_capability() == capability


def test_a_driver_that_hangs_is_an_error_and_not_a_machine_without_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("exec sleep 60", tmp_path, monkeypatch)
    monkeypatch.setattr(gpus, "_TIMEOUT_S", 0.2)
    with pytest.raises(SystemFailed, match="nvidia-smi did not answer"):
        gpu_descriptions()
