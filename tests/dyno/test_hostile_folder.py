"""A folder with files named like our modules and Python's own: none of them is ever executed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_model import build_tiny_model
from tests.weightless_model import write_weightless_model

ROOT = Path(__file__).parents[2]
FAKE_VLLM = ROOT / "tests" / "serve" / "fake_vllm"
NAMES = (
    "dyno", "finetune", "foundation", "quantize", "results", "serve",
    "socket", "signal", "json", "typing", "asyncio", "aiohttp", "numpy", "msgspec", "pip", "torch",
    "accelerate", "vllm", "llmcompressor",
)  # fmt: skip
# Both lie outside the hostile folder, like console scripts: their children must not look into it.
DYNO = "from dyno.cli import main\nif __name__ == '__main__':\n    main()\n"
PARTS = """\
import asyncio, sys
from pathlib import Path
from dyno.own_process import isolated
from foundation.progress import Silent
from loadgen.calibration import calibrate

def where(*, progress):
    import foundation.run.records, signal, socket
    return [foundation.run.records.__file__, signal.__file__, socket.__file__]

if __name__ == "__main__":
    print(*isolated(where, progress=Silent(), log=Path("isolated.log")), sep="\\n")
    settings = {"event_rates": [100], "request_rates": [50], "streams": [2], "seconds": 0.3}
    done = asyncio.run(calibrate(Silent(), **settings))
    assert done.events[0].failed == 0, done
"""
EXPERIMENT = """\
name: two-workers
model: m
data: {{prompt: Say hello}}
variants: [{{name: url, url: "{url}", model: m}}]
baseline: url
workload: {{stages: [{{rate: 20, requests: 20, warmup: 0s}}], blocks: 1, workers: 2}}
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """The folder. Whatever is imported from it leaves a mark."""
    folder = tmp_path / "hostile"
    (folder / "loadgen").mkdir(parents=True)
    evil = (
        f"open({str(tmp_path / 'executed')!r}, 'a').write(__file__ + '\\n')\n"
        "raise SystemExit('executed ' + __file__)\n"
    )
    for file in (*(f"{name}.py" for name in NAMES), "loadgen/__init__.py", "sitecustomize.py"):
        (folder / file).write_text(evil)
    return folder


def run(
    folder: Path, script: str, *arguments: str, here: bool = False, installed: Path = ROOT
) -> str:
    """Run a script in the folder. `here`: PYTHONPATH names the current folder, as a shell's
    `PYTHONPATH=$PYTHONPATH:/x` does. `installed`: what stands in for a package.
    """
    file = folder.with_name("script.py")
    file.write_text(script)
    paths = [str(installed), str(ROOT), *(["", "."] if here else [])]
    done = subprocess.run(
        [sys.executable, str(file), *arguments], cwd=folder, capture_output=True, encoding="utf-8",
        timeout=400, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    executed = folder.parent / "executed"
    assert not executed.exists(), executed.read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_load_with_two_workers(hostile: Path, url: str) -> None:
    (hostile / "experiment.yaml").write_text(EXPERIMENT.format(url=url))
    run(hostile, DYNO, "run", "experiment.yaml")
    [journal] = (hostile / "runs/two-workers/load").rglob("block-01.jsonl")
    assert '"workers":2' in journal.read_text().splitlines()[0]


def test_the_current_folder_in_pythonpath_is_left_out(hostile: Path, url: str) -> None:
    (hostile / "sitecustomize.py").unlink()  # the interpreter's own start is not ours to guard
    for name in NAMES:  # nor are the modules that are imported before a line of ours runs
        if name not in (
            "finetune",
            "quantize",
            "results",
            "serve",
            "pip",
            "torch",
            "accelerate",
            "vllm",
            "llmcompressor",
        ):
            (hostile / f"{name}.py").unlink()
    (hostile / "experiment.yaml").write_text(EXPERIMENT.format(url=url))
    run(hostile, DYNO, "run", "experiment.yaml", here=True)


def test_stages_in_processes_of_their_own_and_the_calibration(hostile: Path) -> None:
    imported = run(hostile, PARTS).splitlines()
    assert imported[0] == str(ROOT / "foundation/run/records.py")
    assert not any(str(hostile) in file for file in imported)


SERVED = """\
name: served
model: model
data: {eval: eval.jsonl}
variants: [{name: base}]
baseline: base
serve: {device: cpu, kv_cache: 1MiB, memory: 64GiB, dtype: float32}
workload:
  stages: [{concurrency: 1, requests: 20}]
  blocks: 1
  warmup: 0s
  sampling: {max_tokens: 4}
"""


def test_a_server_its_supervisor_and_its_engine(hostile: Path) -> None:
    """A stand-in for vLLM is installed; vLLM's command line is checked by a process, too."""
    write_weightless_model(hostile / "model")
    (hostile / "eval.jsonl").write_text('{"prompt": "Say 1", "completion": "yes"}\n')
    (hostile / "experiment.yaml").write_text(SERVED)
    run(hostile, DYNO, "run", "experiment.yaml", installed=FAKE_VLLM)
    [journal] = (hostile / "runs/served/load").rglob("block-01.jsonl")
    assert len(journal.read_text().splitlines()) == 22


QUANTIZED = """\
import sys
from pathlib import Path
from foundation.errors import SystemFailed
from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize.config import QuantizeConfig
from quantize.llmcompressor import calibrated, environment
from quantize.methods import METHODS
from quantize.plan import QuantizationPlan

environment.python = lambda progress: Path(sys.executable)
try:
    config = QuantizeConfig(method="w4a16", algorithm="rtn")
    plan = QuantizationPlan(ModelRef("model", None, Path("model")), config, 64, [])
    scheme = METHODS["w4a16"].scheme
    calibrated.write_calibrated(plan, scheme, [], Path("out"), Silent())
except SystemFailed as error:
    print(error.detail)
"""


def test_the_process_of_llm_compressor(hostile: Path) -> None:
    """It runs by our own Python, which has no llm-compressor: it does not take the folder's."""
    write_weightless_model(hostile / "model")
    assert "No module named 'llmcompressor'" in run(hostile, QUANTIZED)


LAUNCHED = """\
name: launched
model: {model}
data: {{train: train.jsonl, eval: eval.jsonl}}
finetune:
  {{rank: 4, epochs: 1, batch_size: 4, accumulation: 1, learning_rate: 0.001, dtype: float32,
    watch: loss}}
variants: [{{name: base}}, {{name: tuned, adapter: finetune}}]
baseline: base
workload: {{stages: [{{concurrency: 1, requests: 2}}]}}
"""
TWO = (
    "accelerate --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no "
    "--dynamo_backend no --main_process_port 0"
)


@pytest.mark.slow
def test_a_training_in_several_processes(hostile: Path, tmp_path: Path) -> None:
    model = build_tiny_model(tmp_path / "model", initializer_range=0.5)
    for file, count in (("train.jsonl", 16), ("eval.jsonl", 4)):
        rows = [{"prompt": f"{file} story {n}", "completion": "abc"[n % 3]} for n in range(count)]
        (hostile / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (hostile / "experiment.yaml").write_text(LAUNCHED.format(model=model.path))
    run(hostile, DYNO, "finetune", "experiment.yaml", "--launch", TWO)
    assert (hostile / "runs/launched/adapters/finetune/adapter_model.safetensors").is_file()
