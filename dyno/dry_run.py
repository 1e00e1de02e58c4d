"""`dyno run --dry-run`: everything checked, the stages with estimated time and memory, nothing started."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from rich.table import Table

from dyno.console import PlainProgress, open_console
from dyno.environment import accelerators
from dyno.experiment import Experiment, load_experiment
from dyno.pipeline import plan_serving, run_inputs
from dyno.prepare import Prepared, checkpoint_name, merged_name, prepare
from dyno.run_directory import RunDirectory, existing_run
from loadgen import planned_requests
from results import forecast
from results.report.format import duration, percent
from serve import ServePlan

# Seen on 2 CPU cores with a 135 M-parameter model, and typical of one data-centre GPU with an 8 B one: estimates, no promises.
_TOKENS_PER_S = {"cpu": 600.0, "gpu": 8000.0}
_SERVER_START_S = {"cpu": 30.0, "gpu": 90.0}
_CHECKPOINT_S = {"cpu": 15.0, "gpu": 120.0}
_TOKENS_PER_CHARACTER = 0.25


def show_dry_run(experiment: Experiment, where: Path, pilot: Path | None = None) -> None:
    """Check and print; `pilot` is an earlier run that tells how many blocks a resolution takes.

    Raises what a real run would raise before its first slow step.
    """
    console = open_console()
    prepared = prepare(experiment, where, PlainProgress(console), need_models=False)
    with tempfile.TemporaryDirectory() as nowhere:
        plan = plan_serving(prepared, RunDirectory(Path(nowhere) / experiment.name))
    table = Table("stage", "what", "about", title=f"{experiment.name}: what would run", title_justify="left")
    total = 0.0
    for stage, what, seconds in _stages(prepared, plan):
        table.add_row(stage, what, duration(seconds))
        total += seconds
    table.add_section()
    table.add_row("", "estimated, not measured", duration(total))
    console.print(table)
    console.print(_servers(plan))
    for note in (*plan.notes, *_resolution_notes(experiment, pilot)):
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    console.print("everything checks out; nothing was started")


def _stages(prepared: Prepared, plan: ServePlan) -> list[tuple[str, str, float]]:
    experiment = prepared.experiment
    machine = "gpu" if experiment.serve.device == "cuda" or accelerators() else "cpu"
    stages = []
    if config := experiment.finetune:
        examples = min(len(prepared.train), config.limit or len(prepared.train))
        characters = sum(len(example.key) + len(example.completion) for example in prepared.train) / len(prepared.train)
        tokens = examples * config.epochs * min(characters * _TOKENS_PER_CHARACTER, config.max_length)
        what = f"{examples:,} examples x {config.epochs} epochs, {config.method} rank {config.rank}"
        stages.append(("finetune", what, tokens / _TOKENS_PER_S[machine]))
        for variant in (v for v in experiment.variants if v.is_student):
            taught = [f"less {variant.prune:.0%} of the layers"] if variant.prune else []
            taught += [f"on the answers of {variant.distil}"] if variant.distil else []
            stages.append(("finetune", f"{variant.name}: {', '.join(taught)}", tokens / _TOKENS_PER_S[machine]))
    checkpoints = {merged_name(v) for v in experiment.variants if v.merge or v.is_student}
    checkpoints |= {checkpoint_name(v) for v in experiment.variants if v.quantize}
    if checkpoints:
        stages.append(("quantize", ", ".join(sorted(checkpoints)), _CHECKPOINT_S[machine] * len(checkpoints)))
    stages.append(("serve", f"{len(plan.servers)} servers, {plan.residency}", _SERVER_START_S[machine] * len(plan.servers)))
    variants = len(experiment.variants)
    workload = experiment.workload
    for stage in workload.stages:
        n = planned_requests(stage, workload.seed, 1, workload.warmup)
        seconds = stage.duration or (stage.requests / stage.rate if stage.rate and stage.requests else 0.0)
        how = (
            f"{stage.rate:g} requests/s" if stage.rate else f"{stage.concurrency} in flight" if stage.concurrency else "replayed"
        )
        each = f"{n} requests" if n else f"{stage.duration:g} s"
        what = f"{stage.label}: {how}, {each} a block, {workload.blocks} blocks x {variants} variants"
        warmup = workload.warmup if stage.warmup is None else stage.warmup
        stages.append(("load", what, (seconds + warmup) * workload.blocks * variants))
    asked = sum(prompt.set != "eval" for prompt in prepared.prompts)
    if asked:
        stages.append(("probe", f"{asked} questions x {variants} variants", 0.5 * asked * variants))
    return stages


def _resolution_notes(experiment: Experiment, pilot: Path | None) -> list[str]:
    """What the planned blocks will show, as far as an earlier run tells; else when it will be known."""
    wanted = experiment.resolution
    if pilot is not None:
        run = existing_run(pilot)
        inputs = replace(run_inputs(run, load_experiment(run.experiment)), resolution=wanted)
        return [f"if it goes as in {pilot}: {sentence}" for sentence in forecast(inputs, experiment.workload.blocks)]
    if wanted is None:
        return []
    return [
        f"the first {wanted.pilot} blocks tell how many a change of {percent(wanted.change)} takes, "
        f"within {duration(wanted.max_time)}; --pilot RUN tells it now, from an earlier run"
    ]


def _servers(plan: ServePlan) -> Table:
    table = Table("server", "variants", "memory", title="Servers", title_justify="left")
    for server in plan.servers:
        table.add_row(server.name, ", ".join(v.name for v in server.variants), f"{server.memory.total / 2**30:.1f} GiB")
    return table
