"""`dyno profile` on a real vLLM: a tiny model against its int8 checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from results.profile.record import Profile
from tests.tiny_model import build_tiny_model

ITERATIONS = 24


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_servers_steps_show_the_int8_product(tmp_path: Path) -> None:
    build_tiny_model(tmp_path / "model")
    experiment = {
        "name": "profiled",
        "model": "./model",
        "data": {"prompt": "Say hello"},
        "variants": [{"name": "base"}, {"name": "int8", "quantize": {"method": "w8a8-int8"}}],
        "baseline": "base",
        "serve": {
            "device": "cpu",
            "dtype": "bfloat16",
            "max_model_len": 512,
            "enforce_eager": True,
        },
        "workload": {
            "stages": [{"concurrency": 2, "requests": 12}],
            "blocks": 2,
            "sampling": {"max_tokens": 16},
        },
    }
    (tmp_path / "experiment.yaml").write_text(json.dumps(experiment), encoding="utf-8")
    command = (
        f"profile experiment.yaml --variant int8 --against base --iterations {ITERATIONS}".split()
    )
    done = subprocess.run(
        [sys.executable, "-m", "dyno.cli", *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    folder = tmp_path / "runs" / "profiled" / "profile"
    profile = msgspec.json.decode((folder / "profile.json").read_bytes(), type=Profile)
    int8, base = profile.variants
    for each in profile.variants:
        assert ITERATIONS / 2 <= each.steps <= ITERATIONS
        assert sum(g.ms for g in each.groups) == pytest.approx(each.traced_ms, rel=0.02)
        assert each.trace is not None and (folder / each.trace).is_file()
    products = {o.operator for o in int8.operators if o.group == "linear"}
    assert "_C::onednn_scaled_mm" in products
    assert "quantize" in {g.group for g in int8.groups}
    assert "quantize" not in {g.group for g in base.groups}
    assert not list((tmp_path / "runs" / "profiled").glob("load/*"))
    assert "difference" in done.stdout
