"""`dyno improve` on a real system: the demo's model, whose adapter breaks its SLA on a CPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import yaml

from dyno.experiment.examples import example
from foundation.run.layout import IMPROVE_FILE
from results.decision.improvement.record import Improvement


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_adapter_that_breaks_the_sla_ends_with_a_variant_that_ships(tmp_path: Path) -> None:
    """The limit is relative to the base model, asked alike, so it holds on any CPU."""
    experiment = yaml.safe_load(example("news-topics").read_text())
    experiment["name"] = "improved"
    experiment["finetune"]["limit"] = 128
    experiment["variants"] = [
        {"name": "base", "prompt": "short"},
        {"name": "tuned", "prompt": "short", "adapter": "finetune"},
    ]
    experiment["workload"] = {
        "stages": [{"concurrency": 2, "requests": 20, "warmup": "500ms"}],
        "blocks": 8,
        "sampling": {"max_tokens": 2},
    }
    experiment["slo"] = {"latency_p50": "1.4x"}
    experiment["quality"] = {
        key: experiment["quality"][key]
        for key in ("scorer", "labels")
        if key in experiment["quality"]
    }
    for section in ("budget", "plan"):
        experiment.pop(section, None)
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    command = [sys.executable, "-m", "dyno.cli", "improve", "experiment.yaml", "--rounds", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "improved"
    record = msgspec.json.decode((run / IMPROVE_FILE).read_bytes(), type=Improvement)
    assert record.ending == "ships" and 1 <= len(record.rounds) <= 2
    for tried in record.rounds[0].tried:
        assert tried.expected is not None and tried.error is not None
        assert tried.measured is not None and tried.measured.value is not None
        print(f"{tried.variant}: expected x {tried.expected:.2f}, measured {tried.measured.value}")
    adapters = [folder / "adapters/finetune/adapter_model.safetensors" for folder in
                (run, run / record.rounds[0].folder)]  # fmt: skip
    assert adapters[0].samefile(adapters[1])  # taken over, not trained again
