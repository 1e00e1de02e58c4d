"""Quantizes a checkpoint: refuses what can't work, writes the checkpoint, and reads it back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from foundation.data.examples import Example, PromptStyle
from foundation.errors import BadInput
from foundation.models.companions import copy_companions
from foundation.models.model import ModelRef
from foundation.progress import Progress
from foundation.quiet_libraries import quiet_libraries
from quantize.checkpoint import make_room, write_recipe
from quantize.checkpoint_check import check_quantized
from quantize.config import MIN_CALIBRATION, QuantizeConfig
from quantize.layers import HEAD
from quantize.plan import QuantizationPlan, plan_quantization
from quantize.writers.bitsandbytes import write_bitsandbytes
from quantize.writers.compressed_tensors import write_rounded


def quantize(
    source: ModelRef,
    config: QuantizeConfig,
    out: Path,
    progress: Progress,
    learned: Sequence[Example] = (),
    style: PromptStyle | None = None,
) -> ModelRef:
    """Write `source` quantized to `out`, with `recipe.json`.

    A calibrated algorithm takes its sample from the examples `learned`, rendered in `style`. Raises
    BadInput as `check_quantize` does and where the disk is full. Raises SystemFailed where
    llm-compressor fails, or where the written files are not `source` quantized as configured.
    """
    plan = check_quantize(source, config, learned)
    make_room(out, source.size_bytes())
    started = time.perf_counter()
    details, packages = _write(plan, learned, style, out, progress)
    copy_companions(source.path, out)
    progress.stage(f"check {config.method}", None, "tensor")
    check_quantized(plan, ModelRef(source.id, None, out))
    recipe = {
        "method": config.method,
        "algorithm": config.algorithm,
        **details,
        "kept": plan.kept,
        "seconds": round(time.perf_counter() - started, 3),
    }
    write_recipe(out, source, packages, recipe)
    return ModelRef(id=f"{source.id}+{config.method}", revision=source.revision, path=out)


def check_quantize(
    source: ModelRef, config: QuantizeConfig, learned: Sequence[Example]
) -> QuantizationPlan:
    """Plan the quantization of `source`.

    Raises BadInput for a quantized source, for widths or `keep` that don't fit, and for too few
    examples to calibrate with.
    """
    if "quantization_config" in source.config():
        raise BadInput(f"{source.id}: already quantized; quantize the full-precision model, once")
    plan = plan_quantization(source, config)
    if config.algorithm == "awq" and (kept := [name for name in plan.kept if name != HEAD]):
        raise BadInput(
            "quantize.keep: awq scales every layer but the head before it rounds, "
            f"{kept[0]} too; keep only {HEAD}, or write gptq"
        )
    if config.calibrated and len(learned) < config.calibration:
        raise _too_few(config, len(learned))
    return plan


def _too_few(config: QuantizeConfig, examples: int) -> BadInput:
    instead = (
        f"calibration: {examples}"
        if examples >= MIN_CALIBRATION
        else f"{MIN_CALIBRATION} examples at least, or algorithm: rtn"
    )
    return BadInput(
        f"quantize.calibration: {config.algorithm} asks for {config.calibration} "
        f"training examples, data.train has {examples}; write {instead}"
    )


def _write(
    plan: QuantizationPlan,
    learned: Sequence[Example],
    style: PromptStyle | None,
    out: Path,
    progress: Progress,
) -> tuple[dict[str, object], list[str]]:
    """What the recipe says of the writing, and the packages whose versions it names."""
    format_, scheme = plan.method.format, plan.method.scheme
    if scheme is None:
        quiet_libraries()
        return write_bitsandbytes(plan, out, progress), [format_]
    if not plan.config.calibrated:
        return write_rounded(plan, scheme, out, progress), [format_]
    quiet_libraries()
    from quantize.llmcompressor.calibrated import calibration_texts, write_calibrated

    texts = calibration_texts(plan, learned, style)
    return write_calibrated(plan, scheme, texts, out, progress), []
