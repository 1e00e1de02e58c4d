"""GPTQ, AWQ and SmoothQuant: llm-compressor learns the rounding in an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from foundation.data.examples import Example, PromptStyle, sample
from foundation.errors import SystemFailed
from foundation.models.loading import without_adapter
from foundation.progress import Progress
from quantize.llmcompressor import environment
from quantize.methods import CompressedTensors
from quantize.plan import QuantizationPlan
from quantize.templated_texts import TemplatedText, tokenize

MAX_LENGTH = 2048
"""Tokens of one text."""

_SCRIPT = Path(__file__).with_name("oneshot.py")
_LAST_LINES = 20


def calibration_texts(
    plan: QuantizationPlan, learned: Sequence[Example], style: PromptStyle | None
) -> list[TemplatedText]:
    """The configured number of examples, sampled from `learned` and rendered in `style`."""
    return tokenize(plan.source, sample(learned, plan.config.calibration), style, MAX_LENGTH)


def write_calibrated(
    plan: QuantizationPlan,
    scheme: CompressedTensors,
    texts: Sequence[TemplatedText],
    out: Path,
    progress: Progress,
) -> dict[str, object]:
    """Write the checkpoint, and return what the recipe says of it.

    Raises SystemFailed with llm-compressor's last lines.
    """
    what = f"quantize {plan.config.method}"
    interpreter = environment.python(progress)
    progress.stage(f"{what}, {plan.config.algorithm}", None, "layer")
    with tempfile.TemporaryDirectory() as folder, without_adapter(plan.source.path) as model:
        request = {
            "model": str(model),
            "out": str(out),
            "scheme": scheme.preset,
            "algorithm": plan.config.algorithm,
            "group_size": plan.group_size,
            "ignore": plan.kept,
            "samples": [text.ids for text in texts],
        }
        file = Path(folder) / "request.json"
        file.write_text(json.dumps(request), encoding="utf-8")
        command = [str(interpreter), "-I", str(_SCRIPT), str(file)]
        _run(command, Path(folder) / "log", what, progress)
    calibration = {"texts": len(texts), "tokens": sum(len(text.ids) for text in texts)}
    return plan.recipe | {
        "llmcompressor": environment.installed_version(),
        "calibration": calibration,
    }


def _run(command: list[str], log: Path, what: str, progress: Progress) -> None:
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    # The child ends when its standard input does: with this process, however that ends.
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
            event = json.loads(line)
            if "total" in event:
                progress.stage(what, event["total"], "layer")
            else:
                progress.advance(1)
    output = log.read_text(encoding="utf-8", errors="replace")
    print(output, flush=True)  # to the stage's own log
    if process.returncode:
        raise SystemFailed(
            f"{what}: llm-compressor failed (exit code {process.returncode})",
            "\n".join(output.splitlines()[-_LAST_LINES:]),
        )
