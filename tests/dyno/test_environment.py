"""What `nvidia-smi` says of this machine, and what is known where it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyno.pipeline.environment import accelerators, compute_capability


@pytest.mark.parametrize(
    ("script", "names", "capability"),
    [
        ("case $1 in *compute_cap*) printf '9.0\\n8.9\\n';; *) printf 'H100, 80 GB, 1\\nL4, 24 GB, 1\\n';; esac",
         ["H100, 80 GB, 1", "L4, 24 GB, 1"], 8.9),
        ("echo no devices were found; exit 6", [], None),
    ],
)  # fmt: skip
def test_the_gpus_that_nvidia_smi_names(
    script: str,
    names: list[str],
    capability: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert accelerators() == names
    assert compute_capability() == capability
