"""Makes the checkpoints that variants ask for: merged, pruned, distilled, quantized."""

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
from dyno.pipeline.training import make_adapter, make_student
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
    """Merge, prune, distil and quantize what the variants ask for (or those in `only`); variant name to checkpoint.

    A teacher is whole before its student asks it. What quantizing lost is measured for variants that ask for it, with `recovery`
    for all of them.
    """
    graph = prepared.graph
    asked = [v for v in prepared.experiment.variants if v.is_made and (not only or v.name in only)]
    for student in (
        v
        for v in asked
        if v.is_student and not is_done(prepared.path(graph.student(v), run), graph.student(v))
    ):
        if student.distil:
            make_adapter(prepared, run, progress, [student.distil])
            make_checkpoints(prepared, run, progress, [student.distil])
        make_student(prepared, student, run, progress)
    left = [v for v in asked if not _is_made(prepared, v, run, recovery)]
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
    return {v.name: model for v in asked if (model := served_variant(prepared, v, run).model)}


def _is_made(prepared: Prepared, variant: VariantConfig, run: RunDirectory, recovery: bool) -> bool:
    graph = prepared.graph
    wanted = [graph.checkpoint(variant)]
    return all(is_done(prepared.path(each, run), each) for each in wanted if each) and (
        not _wants_recovery(prepared, variant, recovery)
        or is_done(*_recovery(prepared, variant, run))
    )


def _wants_recovery(prepared: Prepared, variant: VariantConfig, recovery: bool) -> bool:
    return bool(variant.quantize and prepared.heldout and (recovery or variant.quantize.recovery))


def _recovery(
    prepared: Prepared, variant: VariantConfig, run: RunDirectory
) -> tuple[Path, Artifact]:
    """The file of what quantizing lost, in its checkpoint's folder."""
    checkpoint, lost = prepared.graph.quantized(variant), prepared.graph.recovery(variant)
    assert checkpoint is not None and lost is not None
    return prepared.path(checkpoint, run) / RECOVERY, lost


def _make_checkpoints(
    prepared: Prepared,
    variants: Sequence[VariantConfig],
    run: RunDirectory,
    recovery: bool,
    *,
    progress: Progress,
) -> None:
    """In one process, since loading torch takes longer than quantizing a small model."""
    graph = prepared.graph
    for variant in variants:
        model = prepared.trained_base(variant, run)
        if (merged := graph.merged(variant)) and (adapter := prepared.merged_adapter(variant, run)):
            if not is_done(prepared.path(merged, run), merged):
                with making(run, graph.place(merged), merged) as out:
                    quantize.merge(model, adapter, out, progress)
            model = ModelRef(model.id, model.revision, prepared.path(merged, run))
        if variant.quantize and (smaller := graph.quantized(variant)):
            if not is_done(prepared.path(smaller, run), smaller):
                with making(run, graph.place(smaller), smaller) as out:
                    quantize.quantize(
                        model,
                        variant.quantize,
                        out,
                        progress,
                        prepared.train,
                        prepared.wording_of(variant),
                    )
            if _wants_recovery(prepared, variant, recovery):
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
    made = ModelRef(model.id, model.revision, file.parent)
    found = quantize.measure_recovery(
        model, made, prepared.heldout, prepared.wording_of(variant), progress
    )
    mark(file, artifact)
    progress.log(f"{variant.name}: {found}")
    if found.warning:
        progress.log(f"warning: {variant.name}: {found.warning}")
