"""Begins or resumes a run: sets stale files aside, and writes what describes the run."""

from __future__ import annotations

import json

import msgspec

from dyno.artifacts.record import Source
from dyno.artifacts.resume import keep_prompts, reconcile
from dyno.artifacts.stored import set_aside
from dyno.pipeline.environment import environment
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.serving import served_variant
from foundation.files.atomic_write import write_whole
from foundation.progress import Progress
from foundation.run.ceiling import Ceiling
from foundation.run.json_files import read_environment
from foundation.run.layout import RunDirectory, keep_private
from loadgen.sending.workers_needed import stored_ceiling


def begin(
    prepared: Prepared,
    run: RunDirectory,
    progress: Progress,
    source: Source | None = None,
    *,
    measures: bool = True,
) -> None:
    """Sets aside stale files, and writes the experiment, the environment and the prompts.

    `source`: the experiment file of a new run. Without `measures`, the environment of earlier
    measurements stays on record.
    """
    elsewhere = (served_variant(prepared, v, run).elsewhere for v in prepared.experiment.variants)
    if any(endpoint.is_keyed for endpoint in elsewhere if endpoint):
        keep_private(run.path)
    reconcile(prepared, run, progress, source, measures=measures)
    text = prepared.experiment.as_yaml()
    if not run.experiment.exists() or run.experiment.read_text(encoding="utf-8") != text:
        write_whole(run.experiment, text)
    _write_environment(prepared, run, measures)
    is_own = prepared.experiment.workload.machines is None  # else it is that of the machines
    if is_own and not run.calibration.exists():
        write_ceiling(run, stored_ceiling(progress.log))
    if not run.prompts.exists():
        keep_prompts(prepared, run)


def write_ceiling(run: RunDirectory, ceiling: Ceiling | None) -> None:
    """Writes the ceiling of the load generator into a run, if it is known."""
    if ceiling is not None:
        write_whole(run.calibration, msgspec.json.encode(ceiling) + b"\n")


def begin_stage(prepared: Prepared, run: RunDirectory, progress: Progress) -> None:
    """Begins or resumes a run for a command that measures nothing."""
    begin(prepared, run, progress, measures=False)


def _write_environment(prepared: Prepared, run: RunDirectory, measures: bool) -> None:
    """Writes `environment.json`; sets that of an earlier try aside if the machine has changed."""
    stored, here = read_environment(run.path), environment()
    if stored.whole:
        same_hardware = stored.whole.get("hardware") == here["hardware"]
        if not measures or (same_hardware and stored.whole.get("versions") == here["versions"]):
            return
        set_aside(run, run.environment)
        if not same_hardware and run.calibration.exists():
            set_aside(run, run.calibration)
    seeds = {"workload": prepared.experiment.workload.seed}
    if prepared.experiment.finetune:
        seeds["finetune"] = prepared.experiment.finetune.seed
    models = {model.id: model.revision for model in prepared.models.values()}
    requests = {"requests": dict(stored.requests)} if stored.requests else {}
    contents = {**here, "models": models, "seeds": seeds, **requests}
    write_whole(run.environment, json.dumps(contents, indent=2) + "\n")
