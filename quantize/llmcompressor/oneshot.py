"""Runs llm-compressor in its own environment: `python oneshot.py REQUEST.json`.

Imports nothing of tunedyno. The request holds `model` and `out` (folders), `scheme` (a preset of
compressed-tensors), `algorithm`, `group_size` (or null), `ignore` (layers in full precision) and
`samples` (token ids, one list a text). Standard output holds JSON lines, `{"total": STEPS}` first,
then `{"done": N}`. What libraries print goes to standard error. The program ends when its standard
input does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

SMOOTHING = 0.8
"""SmoothQuant's strength: between 0.5, its paper's for OPT, and 0.85, its paper's for Llama."""


def main() -> None:
    """Quantize as the request says."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    threading.Thread(target=_end_with_input, daemon=True).start()
    events = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    import torch
    from llmcompressor import oneshot
    from torch.utils.data import DataLoader

    model = load(request["model"])
    texts = [torch.tensor([ids]) for ids in request["samples"]]
    samples = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in texts]
    # Each layer and the head are a step where data passes through them.
    # Rounding to nearest is one step for all layers.
    steps = (model.config.num_hidden_layers + 1 if samples else 0) + (
        request["algorithm"] != "gptq"
    )
    print(json.dumps({"total": steps}), file=events)
    _count_steps(events)
    if not torch.accelerator.is_available():
        _pin_no_memory()
    oneshot(
        model=model,
        dataset=DataLoader(samples, batch_size=None) if samples else None,
        recipe=modifiers(request),
        num_calibration_samples=len(samples),
    )
    model.save_pretrained(request["out"], save_compressed=True)


def load(folder: str) -> Any:
    """The model of a folder. Raises ValueError where a weight is missing or has no place.

    transformers only warns of these, and starts from random weights.
    """
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", use_safetensors=True, output_loading_info=True
    )
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[fault]:
            raise ValueError(f"{folder}: {fault.replace('_', ' ')}: {sorted(report[fault])[:3]}")
    return model


def modifiers(request: dict[str, Any]) -> list[Any]:
    """llm-compressor's recipe. SmoothQuant and AWQ only scale; the result is rounded to nearest."""
    from compressed_tensors.quantization import preset_name_to_scheme
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    scheme = preset_name_to_scheme(request["scheme"], targets=["Linear"])
    if request["group_size"]:
        scheme.weights.group_size = request["group_size"]
    layers = {"config_groups": {"group_0": scheme}, "ignore": request["ignore"]}
    if request["algorithm"] == "gptq":
        return [GPTQModifier(**layers)]
    scaling = {
        "rtn": [],
        "awq": [AWQModifier()],
        "smoothquant": [SmoothQuantModifier(smoothing_strength=SMOOTHING)],
    }
    return [*scaling[request["algorithm"]], QuantizationModifier(**layers)]


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(1)


def _pin_no_memory() -> None:
    """Stop AWQ of llm-compressor 0.14 from pinning memory, which fails without a device."""
    from llmcompressor.pipelines.cache import IntermediatesCache

    IntermediatesCache.pin_memory = lambda *_, **__: None


def _count_steps(events: TextIO) -> None:
    """Write an event for each finished part of the model, where llm-compressor ends an epoch."""
    from llmcompressor.core import LifecycleCallbacks

    end_epoch, done = LifecycleCallbacks.sequential_epoch_end, 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal done
        result = end_epoch(*args, **options)
        done += 1
        print(json.dumps({"done": done}), file=events)
        return result

    LifecycleCallbacks.sequential_epoch_end = counted


if __name__ == "__main__":
    main()
