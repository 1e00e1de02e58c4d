"""Every number of a run, from its journals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from foundation.errors import BadInput
from foundation.run.ceiling import Ceiling
from foundation.run.journal import Prompts, read_prompts
from foundation.section import nearest
from results.analysis.candidate import Candidate
from results.analysis.shown_differences import with_shown
from results.analysis.variant_metrics import variant_metrics
from results.analysis.variant_summary import variant_summary
from results.comparison.break_even import break_evens
from results.comparison.resolution import resolutions
from results.comparison.run_notes import noise_notes, race_notes, run_notes, turns_notes
from results.comparison.stored_runs.compare import StoredRun
from results.comparison.stored_runs.settings import Settings
from results.comparison.variants import noise
from results.inputs import RunInputs
from results.measures.measured import MeasuredVariant, read_measured
from results.measures.quality import statement
from results.measures.validity import (
    failed_validity,
    probe_validity,
    read_ceiling,
    unread_validity,
    worst,
)
from results.metrics import METRICS
from results.summary import SCHEMA_VERSION, Metric, Summary, Validity, VariantSummary


def analyse(inputs: RunInputs) -> Summary:
    """Reads the journals of a run and computes every number of it.

    Raises BadInput for a run without a readable journal.
    """
    prompts = read_prompts(inputs.run)
    return summarise(inputs, read_measured(inputs, prompts), prompts)


def read_run(
    inputs: RunInputs,
    environment: Mapping[str, Any] = MappingProxyType({}),
    settings: Settings = MappingProxyType({}),
) -> StoredRun:
    """A run as `compare_runs` takes it. Raises BadInput for a run without a readable journal."""
    prompts = read_prompts(inputs.run)
    measured = read_measured(inputs, prompts)
    summary = summarise(inputs, measured, prompts)
    return StoredRun(inputs, prompts, measured, summary, environment, settings)


def summarise(inputs: RunInputs, measured: Sequence[MeasuredVariant], prompts: Prompts) -> Summary:
    """Every number of a run whose journals are read.

    Raises BadInput for a baseline that is no variant of it.
    """
    base = _baseline(inputs, measured)
    calibrated = read_ceiling(inputs.run)
    ceiling = calibrated if isinstance(calibrated, Ceiling) else None
    metrics = {each.record.name: variant_metrics(inputs, each) for each in measured}
    candidates = [Candidate.of(inputs, each, base, ceiling) for each in measured]
    variants = with_shown([variant_summary(candidate, metrics) for candidate in candidates])
    judged = base.stages.get(inputs.judged_stage)
    run_noise = noise(judged) if judged else {}
    noisy = judged is not None and judged.held.value is not False
    resolved = resolutions(inputs, measured)
    return Summary(
        schema_version=SCHEMA_VERSION,
        name=inputs.name,
        baseline=inputs.baseline,
        metrics=METRICS | {"quality": _scored_by(inputs)},
        variants=variants,
        notes=[
            *(f"{name}: {why}" for name, why in inputs.failed.items()),
            *inputs.notes,
            *run_notes(inputs, measured, prompts, calibrated),
            *(noise_notes(inputs.baseline, run_noise) if noisy else ()),
            *turns_notes(inputs, variants),
            *race_notes(inputs, measured),
            *([each.sentence for each in resolved.values()] if inputs.resolution else ()),
        ],
        noise=run_noise,
        break_even=break_evens(inputs, variants),
        resolution=resolved,
        failed=dict(inputs.failed),
        race=inputs.race,
        validity=_validity(inputs, measured, variants),
    )


def _baseline(inputs: RunInputs, measured: Sequence[MeasuredVariant]) -> MeasuredVariant:
    names = [record.name for record in inputs.variants]
    if inputs.baseline not in names:
        hint = nearest(inputs.baseline, names)
        raise BadInput(f"baseline: {inputs.baseline!r} is no variant of this run{hint}")
    return next(each for each in measured if each.record.name == inputs.baseline)


def _scored_by(inputs: RunInputs) -> Metric:
    """What quality means in this run: its definition with the scorer's normalisation."""
    metric = METRICS["quality"]
    return replace(metric, definition=f"{metric.definition}. {statement(inputs.quality)}")


def _validity(
    inputs: RunInputs, measured: Sequence[MeasuredVariant], variants: Sequence[VariantSummary]
) -> Validity:
    """The worst of stages, probes, unread files and servers that failed."""
    parts = [(f"{v.variant}, {s.stage}", s.validity) for v in variants for s in v.stages]
    for each in measured:
        name = each.record.name
        parts += [
            (f"{name}, {probe.stage}", probe_validity(probe)) for probe in each.probes.values()
        ]
    parts += [(m.record.name, unread_validity(m.unread)) for m in measured if m.unread]
    for each in measured:
        if not each.stages and (why := inputs.failed.get(each.record.name)):
            parts.append((each.record.name, failed_validity(why)))
    return worst(parts)
