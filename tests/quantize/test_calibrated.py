"""The contract with llm-compressor's process, with a script in its place; slow: the real one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from foundation.data.examples import Example, PromptStyle
from foundation.errors import BadInput, SystemFailed
from foundation.models.model import ModelRef
from foundation.progress import Silent
from quantize import measure_recovery, quantize
from quantize.config import QuantizeConfig
from quantize.llmcompressor import calibrated, environment

STYLE = PromptStyle("Sort: {input}")
LEARNED = [
    Example(
        Path("train.jsonl"),
        n,
        ({"role": "user", "content": f"w{n}"},),
        ("vowel", "consonant")[n % 2],
        {"input": f"w{n}"},
    )
    for n in range(40)
]
CONFIG = QuantizeConfig(method="w4a16", algorithm="gptq", calibration=32)


class Watched(Silent):
    def __init__(self) -> None:
        self.total: float | None = None
        self.done = 0.0

    def stage(self, name: str, total: float | None, unit: str) -> None:
        self.total = total or self.total

    def advance(self, amount: float = 1, note: str = "") -> None:
        self.done += amount


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "stand_in.py"
    monkeypatch.setattr(calibrated, "_SCRIPT", script)
    monkeypatch.setattr(environment, "python", lambda progress: Path(sys.executable))
    return script


def test_what_is_asked_and_what_is_told(stand_in: Path, base: ModelRef, tmp_path: Path) -> None:
    rounded = quantize(base, QuantizeConfig(method="w4a16"), tmp_path / "rounded", Silent())
    stand_in.write_text(
        "import json, pathlib, shutil, sys\n"
        f"shutil.copyfile(sys.argv[1], {str(tmp_path / 'seen.json')!r})\n"
        "out = pathlib.Path(json.load(open(sys.argv[1]))['out'])\n"
        f"for name in 'model.safetensors', 'config.json': shutil.copyfile({str(rounded.path)!r} "
        "+ '/' + name, out / name)\n"
        "(out / 'tokenizer_config.json').write_text('{}')\n"
        "print('noise', file=sys.stderr)\n"
        "print(json.dumps({'total': 3}))\n"
        "for n in 1, 2, 3: print(json.dumps({'done': n}))\n"
    )
    progress = Watched()
    out = quantize(base, CONFIG, tmp_path / "out", progress, LEARNED, STYLE)
    job = json.loads((tmp_path / "seen.json").read_text())
    samples = job.pop("samples")
    assert job == {
        "model": str(base.path), "out": str(out.path), "scheme": "W4A16", "algorithm": "gptq",
        "group_size": 64, "ignore": ["lm_head"],
    }  # fmt: skip
    from transformers import AutoTokenizer

    texts = {AutoTokenizer.from_pretrained(base.path).decode(ids) for ids in samples}
    assert len(texts) == 32  # a sample of the 40, each once, worded and answered as in training
    assert texts < {
        f"<|im_start|>user\nSort: w{n}<|im_end|>\n<|im_start|>assistant\n"
        f"{LEARNED[n].completion}<|im_end|>"
        for n in range(40)
    }
    assert (progress.total, progress.done) == (3, 3)
    recipe = json.loads((out.path / "recipe.json").read_text())
    assert (recipe["algorithm"], recipe["calibration"]["texts"], recipe["group_size"]) == (
        "gptq",
        32,
        64,
    )
    assert recipe["calibration"]["tokens"] == sum(map(len, samples))
    assert (out.path / "tokenizer_config.json").read_bytes() == (
        base.path / "tokenizer_config.json"
    ).read_bytes()


def test_awq_keeps_no_layer_that_it_scales(base: ModelRef, tmp_path: Path) -> None:
    config = QuantizeConfig(
        method="w4a16", algorithm="awq", calibration=32, keep=("lm_head", "down_proj")
    )
    with pytest.raises(
        BadInput,
        match=r"keep: awq scales every layer but the head "
        r".*layers\.0\.mlp\.down_proj too; keep only lm_head",
    ):
        quantize(base, config, tmp_path / "out", Silent(), LEARNED, STYLE)


def test_its_failure_is_told_with_its_last_lines(
    stand_in: Path, base: ModelRef, tmp_path: Path
) -> None:
    stand_in.write_text("import sys; sys.exit('RuntimeError: the Hessian is singular')")
    with pytest.raises(
        SystemFailed, match=r"quantize w4a16: llm-compressor failed \(exit code 1\)"
    ) as failure:
        quantize(base, CONFIG, tmp_path / "out", Silent(), LEARNED, STYLE)
    assert "the Hessian is singular" in failure.value.detail


def test_the_script_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """The real script, kept from finishing: once its standard input ends, it does."""
    (tmp_path / "torch.py").write_text("import time; time.sleep(60)")
    (tmp_path / "request.json").write_text("{}")
    script = Path(calibrated.__file__).with_name("oneshot.py")
    run = (
        f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); "
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", run, str(tmp_path / "request.json")], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    time.sleep(0.5)
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(timeout=20) == 1


def test_the_environment_is_made_once_and_wholly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDYNO_CACHE", str(tmp_path / "cache"))
    environments: list[Path] = []

    def install(into: Path) -> None:
        environments.append(into)
        if len(environments) == 1:
            raise SystemFailed("no network")
        (into / "bin").mkdir()

    monkeypatch.setattr(environment, "_install", install)
    with pytest.raises(SystemFailed, match="no network"):
        environment.python(Silent())
    assert not list((tmp_path / "cache").iterdir())
    assert (
        environment.python(Silent())
        == environment.python(Silent())
        == environment.folder() / "bin" / "python"
    )
    assert len(environments) == 2
    assert list((tmp_path / "cache").iterdir()) == [environment.folder()]


def test_the_lock_pins_every_package() -> None:
    lines = [line for line in environment.LOCK.read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    assert {"torch", "llmcompressor", "compressed-tensors", "transformers"} <= {
        line.partition("==")[0] for line in lines
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("method", "algorithm"),
    [("w4a16", "gptq"), ("w4a16", "awq"), ("w8a8-int8", "gptq"), ("w8a8-int8", "smoothquant")],
)
def test_llm_compressor_writes_what_transformers_reads(
    method: str, algorithm: str, base: ModelRef, tmp_path: Path
) -> None:
    """Sets up its environment the first time: minutes, and the package index must be reachable."""
    keep = ("lm_head",) if algorithm == "awq" else ("lm_head", "layers.1.mlp.down_proj")
    config = QuantizeConfig(method=method, algorithm=algorithm, calibration=32, keep=keep)
    progress = Watched()
    out = quantize(base, config, tmp_path / "out", progress, LEARNED, STYLE)
    assert (
        progress.total == progress.done == (3 if algorithm == "gptq" else 4)
    )  # two layers, the head; then the rounding
    stored = load_file(out.path / "model.safetensors")
    if algorithm != "awq":
        assert stored["model.layers.1.mlp.down_proj.weight"].dtype is torch.bfloat16
    assert "lm_head.weight" not in stored  # tied
    packed = "weight_packed" if method == "w4a16" else "weight"
    assert stored[f"model.layers.0.mlp.down_proj.{packed}"].dtype is (
        torch.int32 if method == "w4a16" else torch.int8
    )
    recovery = measure_recovery(base, out, LEARNED[32:], STYLE, Silent()).all_text
    if (
        algorithm == "awq"
    ):  # no random weight matters more than another, so scaling neither gains nor loses
        rounded = quantize(base, QuantizeConfig(method=method), tmp_path / "rtn", Silent())
        plain = measure_recovery(base, rounded, LEARNED[32:], STYLE, Silent()).all_text
        assert recovery.kl_divergence < 1.25 * plain.kl_divergence
    else:
        assert recovery.top1_agreement > 0.5
    assert not [
        child for child in psutil.Process().children() if "oneshot" in " ".join(child.cmdline())
    ]
