"""GPTQ, AWQ and SmoothQuant: llm-compressor learns the rounding from training examples, in a process of its own environment."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundation.data.examples import Example, PromptStyle, sample
from foundation.errors import SystemFailed
from foundation.models.loading import without_adapter
from foundation.models.model import ModelRef
from foundation.progress import Progress
from quantize.config import QuantizeConfig
from quantize.llmcompressor import environment
from quantize.templated_texts import tokenize
from quantize.writers.compressed_tensors import PRESETS

MAX_LENGTH = 2048  # tokens of one text
_SCRIPT = Path(__file__).with_name("oneshot.py")


def write_calibrated(
    source: ModelRef,
    config: QuantizeConfig,
    group_size: int | None,
    kept: Sequence[str],
    learned: Sequence[Example],
    style: PromptStyle | None,
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Write the checkpoint; what the recipe has to tell of it. Raises SystemFailed with llm-compressor's last lines."""
    texts = (
        tokenize(source, sample(learned, config.calibration), style, MAX_LENGTH)
        if config.calibrated
        else []
    )
    request = {
        "out": str(out),
        "scheme": PRESETS[config.method],
        "algorithm": config.algorithm,
        "group_size": group_size,
        "ignore": list(kept),
        "samples": [text.ids for text in texts],
    }
    interpreter = environment.python(progress)
    progress.stage(f"quantize {config.method}, {config.algorithm}", None, "layer")
    with tempfile.TemporaryDirectory() as folder, without_adapter(source.path) as model:
        file = Path(folder) / "request.json"
        file.write_text(json.dumps(request | {"model": str(model)}), encoding="utf-8")
        _run(
            [str(interpreter), "-I", str(_SCRIPT), str(file)],
            Path(folder) / "log",
            f"quantize {config.method}",
            progress,
        )
    told: dict[str, Any] = {
        "format": "compressed-tensors",
        "llmcompressor": environment.installed_version(),
    }
    told["calibration"] = {"texts": len(texts), "tokens": sum(len(text.ids) for text in texts)}
    return told | ({"group_size": group_size} if group_size else {})


def _run(command: list[str], log: Path, what: str, progress: Progress) -> None:
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    # It ends when its standard input does: with this process at the latest, however that ends.
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            env=offline,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "total" in told:
                progress.stage(what, told["total"], "layer")
            else:
                progress.advance(1)
    said = log.read_text(encoding="utf-8", errors="replace")
    print(said, flush=True)  # to the stage's own log
    if process.returncode:
        raise SystemFailed(
            f"{what}: llm-compressor failed (exit code {process.returncode})",
            "\n".join(said.splitlines()[-20:]),
        )
