"""The pipeline: fine-tune, quantize, serve and load, decide.

Each stage reads and writes files, and skips what is done.
"""

from __future__ import annotations

import serve
from dyno.artifacts.record import Source
from dyno.artifacts.resume import settle_weights, with_earlier_measurements
from dyno.checks.templates import template_notes
from dyno.estimates.machine_speed import Pace, Work, pace_of, record_work
from dyno.estimates.stages import estimate_stages, model_bytes, training_tokens
from dyno.estimates.timeline import BlockTimes, Timeline
from dyno.pipeline.begin import begin
from dyno.pipeline.checkpoints import make_checkpoints
from dyno.pipeline.decide import decide, run_inputs, settled, unraced_inputs
from dyno.pipeline.environment import note_requests
from dyno.pipeline.measure import Decisions, measure
from dyno.pipeline.nodes import check_nodes
from dyno.pipeline.prepare import check_disk
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.search_plan import check_search, searches_of, write_search
from dyno.pipeline.serving import plan_serving
from dyno.pipeline.training import make_adapters
from dyno.pipeline.variants import write_variants
from foundation.gpus import gpu_descriptions
from foundation.progress import Progress
from foundation.run.layout import RunDirectory
from loadgen.event_loop import run as run_loop
from results.analysis.race_look import look
from results.comparison.resolution import plan_blocks
from results.summary import Summary, Verdicts
from serve.device import device_for

# An open loop that takes this many times its schedule was limited by the server.
SATURATED = 1.3


def run_pipeline(
    prepared: Prepared, run: RunDirectory, progress: Progress, source: Source | None = None
) -> tuple[Summary, Verdicts]:
    """Runs all stages that the run directory lacks, and returns the results.

    `source`: the experiment file of a new run. Raises what the stages raise; finished work stays.
    """
    check_search(prepared.experiment)
    check_nodes(prepared.experiment.workload, progress)
    prepared = with_earlier_measurements(prepared, run)
    check_disk(prepared, run)
    plan_serving(prepared, run)
    begin(prepared, run, progress, source)
    note_requests(run.environment, template_notes(prepared))
    serving = plan_serving(prepared, run)
    pace = pace_here(prepared, serving, progress)
    timeline = Timeline(estimate_stages(prepared, serving, pace), pace.device, progress)
    with timeline.doing("finetune", *_training_work(prepared, run)):
        make_adapters(prepared, run, progress)
    settle_weights(prepared, run, progress)
    with timeline.doing("checkpoint", *_checkpoint_work(prepared, run)):
        make_checkpoints(prepared, run, progress)
    while settle_weights(prepared, run, progress):  # a student's adapter came out otherwise
        make_checkpoints(prepared, run, progress)
    serving = plan_serving(prepared, run)
    write_variants(prepared, run, serving)
    searches = searches_of(prepared.experiment, run, progress)
    decisions = Decisions(
        settled=lambda: settled(run, prepared.experiment),
        plan_blocks=lambda: plan_blocks(run_inputs(run, prepared.experiment)),
        look=lambda *at: look(unraced_inputs(run, prepared.experiment), *at),
        searches=searches,
    )
    times = run_loop(measure(prepared, serving, run, progress, timeline, decisions))
    if searches is not None:
        write_search(prepared.experiment, searches.records(prepared), run)
    summary, verdicts = decide(run, prepared.experiment, progress)
    record_loads(prepared, serving, pace.device, times, summary)
    return summary, verdicts


def pace_here(prepared: Prepared, serving: serve.ServePlan, progress: Progress) -> Pace:
    """The speed of this machine with the stages of the experiment."""
    device = device_for(prepared.experiment.serve).kind
    works_here = bool(serving.servers or prepared.experiment.finetune)
    is_here = works_here and (device == "cpu" or bool(gpu_descriptions()))
    return pace_of(device, is_here=is_here, progress=progress)


def _training_work(prepared: Prepared, run: RunDirectory) -> tuple[float, int]:
    """Tokens and model bytes of the training; 0 tokens if it is done, partly done or several."""
    trainings = prepared.trainings()
    if len(trainings) != 1 or not trainings[0].job.base.path.is_dir():
        return 0.0, 0
    adapter = prepared.path(trainings[0].adapter, run)
    if adapter.exists() or run.partial(adapter).exists():
        return 0.0, 0
    return training_tokens(trainings[0].job), trainings[0].job.base.size_bytes()


def _checkpoint_work(prepared: Prepared, run: RunDirectory) -> tuple[float, int]:
    """Weight bytes of the checkpoints to make, and of the largest base.

    0 with students, whose training is part of this stage.
    """
    if any(v.is_student for v in prepared.experiment.variants):
        return 0.0, 0
    sizes = [base.size_bytes() for _, base in prepared.unmade(run) if base.path.is_dir()]
    return float(sum(sizes)), max(sizes, default=0)


def record_loads(
    prepared: Prepared, serving: serve.ServePlan, device: str, times: BlockTimes, summary: Summary
) -> None:
    """Records how fast this machine answered, for the estimates of later runs."""
    variants = {v.name: v for v in prepared.experiment.variants if not v.url}
    for variant in summary.variants:
        if variant.variant not in variants:
            continue
        size = model_bytes(prepared.base_of(variants[variant.variant]), serving)
        for stage in variant.stages:
            kind = variant.variant, stage.stage
            tokens = stage.metrics["total_tokens_mean"].value
            if kind in times.seconds and tokens is not None:
                seconds = sum(times.seconds[kind])
                scheduled = times.requests[kind] / stage.offered_rate if stage.offered_rate else 0.0
                amount = times.requests[kind] * tokens
                saturated = seconds > SATURATED * scheduled
                record_work(
                    Work(
                        kind="load",
                        device=device,
                        model_bytes=size,
                        amount=amount,
                        seconds=seconds,
                        saturated=saturated,
                    )
                )
