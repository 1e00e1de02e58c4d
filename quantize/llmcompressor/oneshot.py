"""llm-compressor, run by the Python of its own environment: `python oneshot.py REQUEST.json`. Imports nothing of tunedyno.

The request: `model` and `out` (folders), `scheme` (a preset of compressed-tensors), `algorithm`, `group_size` (or null), `ignore`
(layers kept as they are), `samples` (token ids, one list a text). Standard output: JSON lines, `{"total": STEPS}` first, then
`{"done": N}`. Everything that libraries print goes to standard error. It ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

SMOOTHING = 0.8  # of SmoothQuant: between 0.5 of its paper for OPT and 0.85 for Llama


def main() -> None:
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    threading.Thread(target=_end_with_input, daemon=True).start()
    told = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    import torch
    from llmcompressor import oneshot
    from torch.utils.data import DataLoader

    model = load(request["model"])
    texts = [torch.tensor([ids]) for ids in request["samples"]]
    samples = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in texts]
    # Each layer and the head are a step where data passes through them; rounding to nearest is one for all.
    steps = (model.config.num_hidden_layers + 1 if samples else 0) + (
        request["algorithm"] != "gptq"
    )
    print(json.dumps({"total": steps}), file=told)
    _count_steps(told)
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
    """Raises ValueError where a weight is missing or has no place: transformers only warns, and begins with random ones."""
    from transformers import AutoModelForCausalLM

    model, report = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", use_safetensors=True, output_loading_info=True
    )
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[fault]:
            raise ValueError(f"{folder}: {fault.replace('_', ' ')}: {sorted(report[fault])[:3]}")
    return model


def modifiers(request: dict[str, Any]) -> list[Any]:
    """llm-compressor's recipe. SmoothQuant and AWQ only scale; what they scaled is rounded to nearest."""
    from compressed_tensors.quantization import preset_name_to_scheme
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    scheme = preset_name_to_scheme(request["scheme"], targets=["Linear"])
    if request["group_size"]:
        scheme.weights.group_size = request["group_size"]
    what = {"config_groups": {"group_0": scheme}, "ignore": request["ignore"]}
    if request["algorithm"] == "gptq":
        return [GPTQModifier(**what)]
    scaling = {
        "rtn": [],
        "awq": [AWQModifier()],
        "smoothquant": [SmoothQuantModifier(smoothing_strength=SMOOTHING)],
    }
    return [*scaling[request["algorithm"]], QuantizationModifier(**what)]


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(1)


def _pin_no_memory() -> None:
    """llm-compressor 0.14's AWQ pins memory for copies to a device, also where there is none, and fails."""
    from llmcompressor.pipelines.cache import IntermediatesCache

    IntermediatesCache.pin_memory = lambda *_, **__: None


def _count_steps(told: Any) -> None:
    """Tell of every part of the model that is done: llm-compressor ends an epoch of its own there."""
    from llmcompressor.core import LifecycleCallbacks

    ended, done = LifecycleCallbacks.sequential_epoch_end, 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal done
        result = ended(*args, **options)
        done += 1
        print(json.dumps({"done": done}), file=told)
        return result

    LifecycleCallbacks.sequential_epoch_end = counted


if __name__ == "__main__":
    main()
