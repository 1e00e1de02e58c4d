"""`dyno profile`: where an engine step's time goes, and why two variants differ."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from dyno.estimates.machine_limits import Limits
from dyno.pipeline.checkpoints import make_checkpoints
from dyno.pipeline.model_shape import Unknown, costs_of
from dyno.pipeline.opened_run import OpenedRun, opened_run
from dyno.pipeline.profiling import TracedVariant, stage_named, trace_variants
from dyno.pipeline.training import make_adapters
from dyno.terminal.profile import show_profile
from dyno.terminal.progress import open_console
from foundation.errors import BadInput, SystemFailed
from foundation.processor import processor_name
from foundation.run.json_files import write_json
from foundation.run.layout import RunDirectory
from loadgen.event_loop import run as run_loop
from results.profile.breakdown import breakdown
from results.profile.comparison import compare
from results.profile.record import FILE, Profile, Roofline, VariantProfile
from results.profile.roofline import roofline
from results.profile.timeline import Timeline, divide
from results.profile.trace import read_trace
from serve.device import device_for
from serve.vllm.profiler import worker_cores

KEPT_BYTES = 200_000_000
"""The largest trace that is kept for Perfetto; it is packed."""


def profile_variants(
    experiment: Path, out: Path, variant: str, against: str | None, stage: str | None,
    iterations: int,
) -> None:  # fmt: skip
    """Profiles one variant, or two in turn, prints the result and writes `profile.json`.

    Trains and writes missing checkpoints first. Raises BadInput and SystemFailed.
    """
    names = [variant] if against is None else [variant, against]
    if variant == against:
        raise BadInput(f"--against: {against} is --variant itself; name another one, or none")
    with opened_run(experiment, out, names) as run:
        _check_served_here(run, names)
        loaded = stage_named(run.prepared.experiment, stage, run.prepared.rates)
        make_adapters(run.prepared, run.directory, run.progress, names)
        make_checkpoints(run.prepared, run.directory, run.progress, names)
        # The profile before this one stays until this one is whole.
        folder = RunDirectory(run.directory.partial(run.directory.profile))
        shutil.rmtree(folder.path, ignore_errors=True)
        traced = run_loop(trace_variants(run, folder, names, loaded, iterations))
        limits = Limits(run.progress)
        profiles = [_explained(run, each, limits) for each in traced]
        profile = Profile(
            experiment=run.prepared.experiment.name,
            stage=loaded.label,
            iterations=iterations,
            processor=processor_name(),
            variants=profiles,
            comparison=compare(*profiles) if len(profiles) == 2 else None,
        )
        write_json(profile, folder.path / FILE)
        shutil.rmtree(run.directory.profile, ignore_errors=True)
        folder.path.rename(run.directory.profile)
    show_profile(open_console(), profile, run.directory.profile / FILE)


def _check_served_here(run: OpenedRun, names: list[str]) -> None:
    for each in run.prepared.experiment.variants:
        if each.name in names and each.url:
            raise BadInput(
                f"variants.{each.name}: it runs elsewhere; only a server that dyno starts can be "
                "profiled"
            )


def _explained(run: OpenedRun, traced: TracedVariant, limits: Limits) -> VariantProfile:
    """The variant's profile from its trace; the trace stays if it is not too large."""
    run.progress.log(f"{traced.variant}: reading {traced.trace.name}")
    timeline = divide(read_trace(traced.trace))
    device = device_for(run.prepared.experiment.serve).kind
    profile = breakdown(traced.variant, device, timeline)
    notes, size = list(profile.notes), traced.trace.stat().st_size
    if size > KEPT_BYTES:
        traced.trace.unlink()
        notes.append(f"its trace of {size / 1e6:,.0f} MB is not kept; profile fewer steps")
    against_limits = _roofline(run, traced, profile, timeline, limits)
    is_known = isinstance(against_limits, Roofline)
    return msgspec.structs.replace(
        profile,
        notes=notes,
        trace=traced.trace.name if traced.trace.exists() else None,
        roofline=against_limits if is_known else None,
        no_roofline=None if is_known else against_limits,
    )


def _roofline(
    run: OpenedRun,
    traced: TracedVariant,
    profile: VariantProfile,
    timeline: Timeline,
    limits: Limits,
) -> Roofline | str:
    """The steps against what the machine can do, or the reason why that is unknown."""
    [server] = traced.plan.servers
    variant = next(v for v in run.prepared.experiment.variants if v.name == traced.variant)
    config = run.prepared.experiment.serve_of(variant)
    try:
        costs = costs_of(run.prepared, variant, run.directory, server)
        measured = limits.of(
            costs.arithmetic,
            device_for(config).kind,
            worker_cores(traced.log),
            traced.log.with_name("limits.log"),
        )
    except Unknown as reason:
        return str(reason)
    except SystemFailed as failure:
        return f"the machine's limits could not be measured: {failure}"
    return roofline(profile, timeline.steps, costs.shape, measured)
