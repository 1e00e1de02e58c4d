"""Writes the checkpoints of variants: merged, pruned, distilled, quantized."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import quantize
from dyno.artifacts.artifact import Artifact
from dyno.artifacts.stored import is_done, making, mark
from dyno.experiment.variants import VariantConfig
from dyno.own_process import isolated
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.serving import served_variant
from dyno.pipeline.training import make_adapters, make_student
from foundation.models.model import ModelRef
from foundation.progress import Progress
from foundation.run.layout import RunDirectory
from foundation.run.recovery import FILE as RECOVERY


def make_checkpoints(
    prepared: Prepared,
    run: RunDirectory,
    progress: Progress,
    only: Sequence[str] = (),
    *,
    recovery: bool = False,
) -> dict[str, ModelRef]:
    """Writes the checkpoints of all variants, or of those in `only`; returns them by variant.

    A teacher's checkpoint comes before its student's. Measures what quantizing lost for variants
    that ask for it; with `recovery`, for all.
    """
    graph = prepared.graph
    variants = [
        v for v in prepared.experiment.variants if v.is_made and (not only or v.name in only)
    ]
    for student in (v for v in variants if v.is_student):
        adapter = graph.student(student)
        if is_done(prepared.path(adapter, run), adapter):
            continue
        if student.distil:
            make_adapters(prepared, run, progress, [student.distil])
            make_checkpoints(prepared, run, progress, [student.distil])
        make_student(prepared, student, run, progress)
    left = [v for v in variants if not _is_made(prepared, v, run, recovery)]
    if left:
        isolated(
            _make_checkpoints,
            prepared,
            left,
            run,
            recovery,
            progress=progress,
            log=run.logs / "quantize.log",
        )
    return {v.name: model for v in variants if (model := served_variant(prepared, v, run).model)}


def _is_made(prepared: Prepared, variant: VariantConfig, run: RunDirectory, recovery: bool) -> bool:
    """Whether a variant's checkpoint, and its recovery if it is needed, are done."""
    checkpoint = prepared.graph.checkpoint(variant)
    if checkpoint and not is_done(prepared.path(checkpoint, run), checkpoint):
        return False
    if not _needs_recovery(prepared, variant, recovery):
        return True
    return is_done(*_recovery(prepared, variant, run))


def _needs_recovery(prepared: Prepared, variant: VariantConfig, recovery: bool) -> bool:
    return bool(variant.quantize and prepared.heldout and (recovery or variant.quantize.recovery))


def _recovery(
    prepared: Prepared, variant: VariantConfig, run: RunDirectory
) -> tuple[Path, Artifact]:
    """The file of a quantized checkpoint's recovery, and its artifact."""
    checkpoint, recovery = prepared.graph.quantized(variant), prepared.graph.recovery(variant)
    assert checkpoint is not None and recovery is not None
    return prepared.path(checkpoint, run) / RECOVERY, recovery


def _make_checkpoints(
    prepared: Prepared,
    variants: Sequence[VariantConfig],
    run: RunDirectory,
    recovery: bool,
    *,
    progress: Progress,
) -> None:
    """Writes all checkpoints in one process; to load torch takes longer than a small model."""
    graph = prepared.graph
    for variant in variants:
        model = prepared.trained_base(variant, run)
        if (merged := graph.merged(variant)) and (adapter := prepared.merged_adapter(variant, run)):
            if not is_done(prepared.path(merged, run), merged):
                with making(run, graph.place(merged), merged) as out:
                    quantize.merge(model, adapter, out, progress)
            model = ModelRef(model.id, model.revision, prepared.path(merged, run))
        if variant.quantize and (quantized := graph.quantized(variant)):
            if not is_done(prepared.path(quantized, run), quantized):
                with making(run, graph.place(quantized), quantized) as out:
                    quantize.quantize(
                        model,
                        variant.quantize,
                        out,
                        progress,
                        prepared.train,
                        prepared.wording_of(variant),
                    )
            if _needs_recovery(prepared, variant, recovery):
                _measure_recovery(prepared, variant, model, run, progress)


def _measure_recovery(
    prepared: Prepared,
    variant: VariantConfig,
    model: ModelRef,
    run: RunDirectory,
    progress: Progress,
) -> None:
    file, artifact = _recovery(prepared, variant, run)
    if is_done(file, artifact):
        return
    quantized = ModelRef(model.id, model.revision, file.parent)
    recovery = quantize.measure_recovery(
        model, quantized, prepared.heldout, prepared.wording_of(variant), progress
    )
    mark(file, artifact)
    progress.log(f"{variant.name}: {recovery}")
    if recovery.warning:
        progress.log(f"warning: {variant.name}: {recovery.warning}")
