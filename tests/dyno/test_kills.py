"""A killed process leaves nothing behind, and `--resume` makes the run whole.

A stand-in for vLLM serves; `make bench-kills` uses the real one, at random moments.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
from pathlib import Path

import pytest

from benchmarks.kills.run import kill_once, watched
from tests.serve.stranger import Stranger
from tests.weightless_model import write_weightless_model

FAKE = Path(__file__).parents[1] / "serve" / "fake_vllm"
EXPERIMENT = """\
name: kills
model: base-model
data: {eval: eval.jsonl}
variants: [{name: base}, {name: other, model: other-model}]
baseline: base
serve: {device: cpu, kv_cache: 1MiB, memory: 64GiB, dtype: float32}
workload:
  stages: [{concurrency: 2, requests: 40}]
  blocks: 3
  warmup: 0s
  sampling: {max_tokens: 4}
  deadlines: {first: 20s, stall: 20s}
slo: {latency_p50: 60s, error_rate: 50%}
"""
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join([str(FAKE), str(Path(__file__).parents[2])]),
    "OMP_NUM_THREADS": "1",
}
BLOCKS = [
    f"{name}/concurrency-2/block-0{number}.jsonl"
    for name in ("base", "other")
    for number in (1, 2, 3)
]
WHOLE = {
    "records": dict.fromkeys(BLOCKS, 40),
    "counts": {"base/concurrency-2": [3, 120, 120], "other/concurrency-2": [3, 120, 120]},
    "failed": {},
    "decisions": {"base": "SHIP", "other": "SHIP"},
}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    for name in ("base-model", "other-model"):
        write_weightless_model(folder / name)
    rows = [json.dumps({"prompt": f"Say {n}", "completion": "yes"}) + "\n" for n in range(60)]
    (folder / "eval.jsonl").write_text("".join(rows))
    (folder / "experiment.yaml").write_text(EXPERIMENT)
    return folder


def is_loading(run: Path) -> bool:
    """Blocks of both variants have begun."""
    return all(any(run.glob(f"load/{name}/*/block-*.jsonl")) for name in ("base", "other"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", ["dyno", "engine"])
def test_a_process_of_a_run_is_killed(experiment: Path, tmp_path: Path, victim: str) -> None:
    folder = Path(shutil.copytree(experiment, tmp_path / "run"))
    kill = kill_once(folder, victim, 0.0, WHOLE, ENVIRONMENT, random.Random(victim), is_loading)
    said = (folder / "output.txt").read_text()
    assert kill.good, f"{kill}\n{said}"
    if victim == "dyno":
        assert kill.code == -9
    else:
        assert kill.code == 0
        assert "not measured further; resuming runs/kills tries again" in said
        assert not (folder / "runs" / "kills" / "failures.json").exists()


def run_once(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    with watched(folder, {**ENVIRONMENT, **environment}) as run:
        run.start("experiment.yaml", *arguments)
        code = run.wait(120)
        assert run.left() == []
    return code, (folder / "output.txt").read_text()


def test_the_variant_whose_server_died_does_not_ship_and_the_other_is_whole(
    experiment: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(experiment, tmp_path / "run"))
    code, said = run_once(folder, "--gate", FAKE_VLLM_DIES="other:60")
    assert code == 2, said
    assert "other: SHIP" not in said and "base (baseline): SHIP" in said
    assert "INCONCLUSIVE on other: it was not measured to the end: the server of other died" in said
    assert "RuntimeError: the wheels came off" in said and "chatter" not in said
    summary = json.loads((folder / "runs/kills/summary.json").read_text())
    assert list(summary["failed"]) == ["other"]
    assert summary["notes"][0].startswith("other: the server of other died"), "the worst first"
    stages = {v["variant"]: v["stages"] for v in summary["variants"]}
    assert (stages["base"][0]["planned"], stages["base"][0]["succeeded"]) == (120, 120)
    assert stages["other"][0]["validity"]["level"] == "INVALID"
    assert stages["other"][0]["planned"] < 80, "what was never sent is no failure of the server"


def test_a_block_that_a_stranger_may_have_answered_is_put_aside(
    experiment: Path, tmp_path: Path
) -> None:
    """It joins the server's port while a block is under way, and gets a part of the connections."""
    folder = Path(shutil.copytree(experiment, tmp_path / "run"))
    out = folder / "runs" / "kills"
    with watched(folder, {**ENVIRONMENT, "FAKE_VLLM_SHARES": "other"}) as run:
        run.start("experiment.yaml", "--gate")
        while run.process.poll() is None and not any(out.glob("load/other/*/block-01.jsonl")):
            time.sleep(0.02)
        ports = set(map(int, re.findall(r"--port=(\d+)", (out / "logs" / "other.log").read_text())))
        stranger = Stranger(ports.pop())
        stranger.start()
        code = run.wait(120)
        stranger.close()
    said = (folder / "output.txt").read_text()
    assert code == 2, said
    assert re.search(
        rf"the server of other does not have its port \d+ for itself: "
        rf"process {os.getpid()} .*listens there",
        said,
    )
    journals = sorted(out.glob("load/other/*/block-*"))
    assert [file.suffix for file in journals][-1] == ".cut" and len(journals) < 3
    assert "other: SHIP" not in said and "base (baseline): SHIP" in said


def test_a_run_of_which_no_server_lives_ends_with_4(experiment: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(experiment, tmp_path / "run"))
    text = EXPERIMENT.replace(", {name: other, model: other-model}", "")
    (folder / "experiment.yaml").write_text(text)
    code, said = run_once(folder, FAKE_VLLM_DIES="base:30")
    assert code == 4, said
    assert "nothing was measured to the end: the server of base died" in said
    code, said = run_once(folder, FAKE_VLLM_BREAKS="base")
    assert code == 4, said
    assert "the server of base died while it started: ValueError: this model is broken" in said
