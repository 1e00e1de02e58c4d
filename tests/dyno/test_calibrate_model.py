"""`dyno calibrate-model` from end to end, on an emulated engine of known steps over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dyno.conftest import emulator

TRUE = {"fixed": 20e-3, "per_decode": 1e-3, "per_prefill_token": 1e-4}


@pytest.mark.slow
def test_the_model_of_a_url_is_that_of_its_engine(tmp_path: Path) -> None:
    step = "fixed=20ms,decode=1ms,prefill=100us,kv=500ns"
    with emulator(["--step", step, "--max-num-seqs", "16"]) as url:
        command = ["dyno.cli", "calibrate-model", "--url", url, "--model", "m", "--max-time", "40s"]
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    models = json.loads((tmp_path / "runs" / "model" / "model.json").read_text())
    model = models["variants"]["url"]
    assert model["source"] == "kernel stamps"
    for name, truth in TRUE.items():  # a busy machine is late, which is no part of a step
        assert model["steps"][name]["value"] == pytest.approx(truth, rel=0.15)
    assert "each request that decodes" in done.stdout
    assert "fitted on up to 16 requests that decode" in done.stdout
    assert not (tmp_path / "runs" / "model" / "load").exists()
