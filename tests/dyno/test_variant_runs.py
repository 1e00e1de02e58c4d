"""A real run of variants that differ in their engine and in their training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dyno.experiment.loading import load_experiment
from dyno.pipeline.prepare import prepare
from dyno.pipeline.run import run_pipeline
from foundation.progress import Silent
from foundation.run.layout import RunDirectory
from tests.tiny_model import build_tiny_model

EXPERIMENT = """\
name: trial
model: model
data: {train: train.jsonl, eval: eval.jsonl}
finetune: {rank: 4, epochs: 1, batch_size: 8}
variants:
  - {name: base}
  - name: few
    grid: {serve.engine.max-num-seqs: [2]}
  - {name: small, model: smaller, finetune: {rank: 2}}
  - {name: small-again, model: smaller, finetune: {rank: 2}}
baseline: base
serve: {max_model_len: 512, enforce_eager: true, kv_cache: 64MiB, residency: turns}
workload:
  stages: [{concurrency: 2, requests: 6}]
  blocks: 2
  sampling: {max_tokens: 4}
  race: false
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_engine_and_each_training_of_a_variant_is_its_own(tmp_path: Path) -> None:
    build_tiny_model(tmp_path / "model", layers=4)
    build_tiny_model(tmp_path / "smaller", layers=2)
    for name, words in (("train", "abcdefghijklmnop"), ("eval", "qrstuv")):
        rows = [{"prompt": f"word {c}", "completion": "xyz"[i % 3]} for i, c in enumerate(words)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT)
    prepared = prepare(load_experiment(tmp_path / "experiment.yaml"), tmp_path, Silent())
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    summary, _ = run_pipeline(prepared, run, Silent())

    assert [folder.name for folder in (run.path / "adapters").iterdir()] == ["small"]
    config = json.loads((run.path / "adapters/small/adapter_config.json").read_text())
    assert config["r"] == 2
    merged = json.loads((run.path / "checkpoints/merged-small/config.json").read_text())
    assert merged["num_hidden_layers"] == 2

    few = "few@max-num-seqs=2"
    logs = {log.stem: log.read_text() for log in run.logs.glob("*.log")}
    assert {"base", few, "small"} <= logs.keys() and "small-again" not in logs
    assert "--max-num-seqs=2" in logs[few] and "--max-num-seqs" not in logs["base"]
    limits = {
        name: json.loads((run.engine / f"{name}.jsonl").read_text().splitlines()[0])["limits"]
        for name in ("base", few)
    }
    assert limits[few]["max_num_seqs"] == 2 < limits["base"]["max_num_seqs"]

    settings = {variant.variant: variant.settings for variant in summary.variants}
    assert settings[few] == {"serve.engine.max-num-seqs": "2"}
    assert settings["base"] == {"serve.engine.max-num-seqs": "vLLM's default"}
    assert "serve.engine.max-num-seqs" in (run.path / "report.md").read_text().replace("\\", "")
    for variant in summary.variants:
        assert variant.stages[0].metrics["latency_p50"].n == 2 * 6
