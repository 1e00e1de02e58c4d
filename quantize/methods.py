"""Make a checkpoint smaller: which writer a method goes to, and what is refused before anything is written."""

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
from quantize.layers import HEAD, check_widths, kept_layers
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

    `learned` are the examples that a calibrated algorithm takes its sample from, worded in `style`. Raises BadInput as
    `check_quantize` does and where the disk is full, SystemFailed where llm-compressor fails, or where the files, read back, are
    not `source` quantized as asked.
    """
    check_quantize(source, config, learned)
    make_room(out, source.size_bytes())
    started = time.perf_counter()
    kept, group_size = kept_layers(source, config.keep), check_widths(source, config)
    if config.calibrated:
        quiet_libraries()
        from quantize.llmcompressor.calibrated import write_calibrated

        how = write_calibrated(source, config, group_size, kept, learned, style, out, progress)
        packages = []
    elif config.method in ("bnb-nf4", "bnb-int8"):
        quiet_libraries()
        how = write_bitsandbytes(source, config.method, kept, out, progress)
        packages = ["bitsandbytes"]
    else:
        how = write_rounded(source, config.method, group_size, kept, out, progress)
        packages = ["compressed-tensors"]
    copy_companions(source.path, out)
    progress.stage(f"check {config.method}", None, "tensor")
    check_quantized(source, config, group_size, kept, ModelRef(source.id, None, out))
    seconds = round(time.perf_counter() - started, 3)
    write_recipe(
        out,
        source,
        packages,
        method=config.method,
        algorithm=config.algorithm,
        **how,
        kept=kept,
        seconds=seconds,
    )
    return ModelRef(id=f"{source.id}+{config.method}", revision=source.revision, path=out)


def check_quantize(source: ModelRef, config: QuantizeConfig, learned: Sequence[Example]) -> None:
    """Raises BadInput for what can't work: a quantized source, widths or `keep` that don't fit, too little to calibrate with."""
    if "quantization_config" in source.config():
        raise BadInput(f"{source.id}: already quantized; quantize the full-precision model, once")
    check_widths(source, config)
    if config.algorithm == "awq" and (
        kept := [name for name in kept_layers(source, config.keep) if name != HEAD]
    ):
        raise BadInput(
            f"quantize.keep: awq scales every layer but the head before it rounds, {kept[0]} too; keep only {HEAD}, or write gptq"
        )
    if config.calibrated and (found := len(learned)) < config.calibration:
        instead = (
            f"calibration: {found}"
            if found >= MIN_CALIBRATION
            else f"{MIN_CALIBRATION} examples at least, or algorithm: rtn"
        )
        raise BadInput(
            f"quantize.calibration: {config.algorithm} asks for {config.calibration} training examples, data.train has {found}; "
            f"write {instead}"
        )
