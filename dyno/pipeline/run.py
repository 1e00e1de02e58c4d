"""The ring: fine-tune, quantize, serve and load, decide. Each stage reads and writes files; what is whole is skipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

import quantize
import serve
from dyno.artifacts.artifact import Artifact
from dyno.artifacts.record import Source
from dyno.artifacts.resume import keep_prompts, reconcile, settle_weights, taken_up
from dyno.artifacts.stored import is_done, making, mark, set_aside
from dyno.checks.kernels import check_kernels
from dyno.checks.templates import template_notes
from dyno.estimates.machine_speed import Pace, Work, keep, pace_of
from dyno.estimates.stages import estimate_stages, model_bytes, training_tokens
from dyno.estimates.timeline import BlockTimes, Timeline
from dyno.experiment.request import shown_url
from dyno.experiment.schema import Experiment, VariantConfig
from dyno.own_process import isolated
from dyno.pipeline.environment import accelerators, environment, note_requests
from dyno.pipeline.failures import read_failures
from dyno.pipeline.measure import measure
from dyno.pipeline.prepare import Prepared, check_disk
from dyno.pipeline.relative_rates import read_rates, unmeasured
from dyno.pipeline.training import make_adapter, make_student
from foundation.errors import BadInput
from foundation.files.atomic_write import write_whole
from foundation.models.model import ModelRef
from foundation.printable import json_printable
from foundation.progress import Progress
from foundation.run.description import read_environment, read_variants
from foundation.run.layout import RunDirectory, keep_private
from foundation.run.records import Kind, VariantRecord
from loadgen.event_loop import run as run_loop
from loadgen.sending.workers_needed import stored_ceiling
from quantize.recovery import FILE as RECOVERY
from results.analysis import analyse
from results.comparison.resolution import plan_blocks
from results.decision.capacity import plan_capacity
from results.decision.verdict import is_settled, judge
from results.inputs import RunInputs
from results.summary import CapacityPlan, Summary, Verdicts
from serve.device import device_for

# An open loop that takes so many times its schedule was bound by the server.
SATURATED = 1.3


def run_ring(prepared: Prepared, run: RunDirectory, progress: Progress, source: Source | None = None) -> tuple[Summary, Verdicts]:
    """All stages, from wherever the run directory stands. Raises what the stages raise; what is whole and still asked for stays.

    `source`: the experiment file that a new run is of.
    """
    prepared = taken_up(prepared, run)
    check_disk(prepared, run)
    plan_serving(prepared, run)
    begin(prepared, run, progress, source)
    note_requests(run.environment, template_notes(prepared))
    serving = plan_serving(prepared, run)
    pace = pace_here(prepared, serving, progress)
    timeline = Timeline(estimate_stages(prepared, serving, pace), pace.device, progress)
    with timeline.doing("finetune", *_training_work(prepared, run)):
        make_adapter(prepared, run, progress)
    settle_weights(prepared, run, progress)
    with timeline.doing("checkpoint", *_checkpoint_work(prepared, run)):
        make_checkpoints(prepared, run, progress)
    while settle_weights(prepared, run, progress):  # a student's adapter came out otherwise
        make_checkpoints(prepared, run, progress)
    serving = plan_serving(prepared, run)
    write_variants(prepared, run, serving)
    times = run_loop(
        measure(
            prepared,
            serving,
            run,
            progress,
            timeline,
            settled=lambda: settled(run, prepared.experiment),
            plan_blocks=lambda: plan_blocks(run_inputs(run, prepared.experiment)),
        )
    )
    summary, verdicts = decide(run, prepared.experiment, progress)
    keep_loads(prepared, serving, pace.device, times, summary)
    return summary, verdicts


def pace_here(prepared: Prepared, serving: serve.ServePlan, progress: Progress) -> Pace:
    """How fast this machine does what the experiment asks of it."""
    device = device_for(prepared.experiment.serve).kind
    works_here = bool(serving.servers or prepared.experiment.finetune)
    at_hand = works_here and (device == "cpu" or bool(accelerators()))
    return pace_of(device, at_hand=at_hand, progress=progress)


def _training_work(prepared: Prepared, run: RunDirectory) -> tuple[float, int]:
    """Tokens and model bytes of a training that begins now; 0 tokens for one that is done, or goes on."""
    if prepared.experiment.finetune is None or not prepared.base.path.is_dir():
        return 0.0, 0
    done = prepared.path(prepared.graph.own_adapter, run)
    if done.exists() or run.partial(done).exists():
        return 0.0, 0
    return training_tokens(prepared), prepared.base.size_bytes()


def _checkpoint_work(prepared: Prepared, run: RunDirectory) -> tuple[float, int]:
    """Weight bytes of the checkpoints that are made now, and the largest base; students train besides, which is other work."""
    if any(v.is_student for v in prepared.experiment.variants):
        return 0.0, 0
    sizes = [base.size_bytes() for _, base in prepared.unmade(run) if base.path.is_dir()]
    return float(sum(sizes)), max(sizes, default=0)


def settled(run: RunDirectory, experiment: Experiment) -> bool:
    """Whether what was measured so far decides all that is asked of every variant that can be measured further."""
    inputs = run_inputs(run, experiment)
    verdicts = judge(analyse(inputs), inputs).variants
    return all(is_settled(verdict) for verdict in verdicts if verdict.variant not in inputs.failed)


def begin(
    prepared: Prepared, run: RunDirectory, progress: Progress, source: Source | None = None, *, measures: bool = True
) -> None:
    """Set aside what no longer is what is asked for, and write down what is about to be run.

    Without `measures`, the environment that a run was measured in stays on record.
    """
    if any((served := prepared.served(v, run)).elsewhere and served.elsewhere.is_keyed for v in prepared.experiment.variants):
        keep_private(run.path)
    reconcile(prepared, run, progress, source, measures=measures)
    text = prepared.experiment.as_yaml()
    if not run.experiment.exists() or run.experiment.read_text(encoding="utf-8") != text:
        write_whole(run.experiment, text)
    _write_environment(prepared, run, measures)
    if not run.calibration.exists() and (ceiling := stored_ceiling(progress.log)):
        write_whole(run.calibration, msgspec.json.encode(ceiling) + b"\n")
    if not run.prompts.exists():
        keep_prompts(prepared, run)


def begin_stage(prepared: Prepared, run: RunDirectory, progress: Progress) -> None:
    """The same for a command that measures nothing."""
    begin(prepared, run, progress, measures=False)


def _write_environment(prepared: Prepared, run: RunDirectory, measures: bool) -> None:
    """Where hardware or versions are others than those of an earlier try, its files are set aside."""
    kept, here = read_environment(run.path), environment()
    if kept.whole and (not measures or all(kept.whole.get(key) == here[key] for key in ("hardware", "versions"))):
        return
    if kept.whole:
        set_aside(run, run.environment)
        if kept.whole.get("hardware") != here["hardware"] and run.calibration.exists():
            set_aside(run, run.calibration)
    seeds = {"workload": prepared.experiment.workload.seed}
    if prepared.experiment.finetune:
        seeds["finetune"] = prepared.experiment.finetune.seed
    models = {model.id: model.revision for model in prepared.models.values()}
    requests = {"requests": dict(kept.requests)} if kept.requests else {}
    write_whole(run.environment, json.dumps({**here, "models": models, "seeds": seeds, **requests}, indent=2) + "\n")


def make_checkpoints(
    prepared: Prepared, run: RunDirectory, progress: Progress, only: Sequence[str] = (), *, recovery: bool = False
) -> dict[str, ModelRef]:
    """Merge, prune, distil and quantize what the variants ask for (or those in `only`); variant name to checkpoint.

    A teacher is whole before its student asks it. What quantizing lost is measured for variants that ask for it, with `recovery`
    for all of them.
    """
    graph = prepared.graph
    asked = [v for v in prepared.experiment.variants if v.is_made and (not only or v.name in only)]
    for student in (v for v in asked if v.is_student and not is_done(prepared.path(graph.student(v), run), graph.student(v))):
        if student.distil:
            make_adapter(prepared, run, progress, [student.distil])
            make_checkpoints(prepared, run, progress, [student.distil])
        make_student(prepared, student, run, progress)
    left = [v for v in asked if not _is_made(prepared, v, run, recovery)]
    if left:
        isolated(_make_checkpoints, prepared, left, run, recovery, progress=progress, log=run.logs / "quantize.log")
    return {v.name: model for v in asked if (model := prepared.served(v, run).model)}


def _is_made(prepared: Prepared, variant: VariantConfig, run: RunDirectory, recovery: bool) -> bool:
    graph = prepared.graph
    wanted = [graph.checkpoint(variant)]
    return all(is_done(prepared.path(each, run), each) for each in wanted if each) and (
        not _wants_recovery(prepared, variant, recovery) or is_done(*_recovery(prepared, variant, run))
    )


def _wants_recovery(prepared: Prepared, variant: VariantConfig, recovery: bool) -> bool:
    return bool(variant.quantize and prepared.heldout and (recovery or variant.quantize.recovery))


def _recovery(prepared: Prepared, variant: VariantConfig, run: RunDirectory) -> tuple[Path, Artifact]:
    """The file of what quantizing lost, in its checkpoint's folder."""
    checkpoint, lost = prepared.graph.quantized(variant), prepared.graph.recovery(variant)
    assert checkpoint is not None and lost is not None
    return prepared.path(checkpoint, run) / RECOVERY, lost


def _make_checkpoints(
    prepared: Prepared, variants: Sequence[VariantConfig], run: RunDirectory, recovery: bool, *, progress: Progress
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
                    quantize.quantize(model, variant.quantize, out, progress, prepared.train, prepared.wording_of(variant))
            if _wants_recovery(prepared, variant, recovery):
                _measure_recovery(prepared, variant, model, run, progress)


def _measure_recovery(prepared: Prepared, variant: VariantConfig, model: ModelRef, run: RunDirectory, progress: Progress) -> None:
    file, artifact = _recovery(prepared, variant, run)
    if is_done(file, artifact):
        return
    made = ModelRef(model.id, model.revision, file.parent)
    found = quantize.measure_recovery(model, made, prepared.heldout, prepared.wording_of(variant), progress)
    mark(file, artifact)
    progress.log(f"{variant.name}: {found}")
    if found.warning:
        progress.log(f"warning: {variant.name}: {found.warning}")


def plan_serving(prepared: Prepared, run: RunDirectory) -> serve.ServePlan:
    """Which servers, with which arguments, up together or in turns. Raises BadInput for what can't be served so."""
    experiment = prepared.experiment
    check_kernels(experiment, prepared.models)
    plan = serve.check([prepared.served(variant, run) for variant in experiment.variants], experiment.serve)
    if (len(plan.rounds) > 1 or plan.residency == "sleep") and any(stage.mix for stage in experiment.workload.stages):
        raise BadInput("workload.stages: a mix needs all variants at once; give their servers memory to be resident")
    first = set(plan.rounds[0]) if plan.rounds else set()
    if apart := [name for name in unmeasured(experiment) if name not in first]:
        raise BadInput(
            f"workload.stages: rates relative to {', '.join(apart)} must be measured before any stage begins, and the servers "
            "take turns; name a variant of the first turn, or give the servers memory to be resident"
        )
    adding = next((key for key in ("until_decided", "resolution") if getattr(experiment, key)), None)
    if adding and len(plan.rounds) > 1:
        raise BadInput(f"{adding}: the servers take turns, so blocks can't be added to all; give them memory to be resident")
    return plan


def write_variants(prepared: Prepared, run: RunDirectory, serving: serve.ServePlan) -> None:
    """`variants.json`: what each variant is and what its server computes in, for the report."""
    dtypes = {v.name: server.dtype for server in serving.servers for v in server.variants}
    records = []
    for variant in prepared.experiment.variants:
        served = prepared.served(variant, run)
        size = served.model.size_bytes() if served.model else None
        if size is not None and served.adapter:
            size += sum(file.stat().st_size for file in served.adapter.glob("*.safetensors"))
        records.append(
            VariantRecord(
                name=variant.name,
                what=describe(variant),
                prompt_style=prepared.style_of(variant),
                size_bytes=size,
                kind=kind(variant),
                unquantized=unquantized(variant, prepared.experiment),
                dtype=dtypes[variant.name].dtype if variant.name in dtypes else None,
                dtype_doubt=dtypes[variant.name].doubt if variant.name in dtypes else None,
            )
        )
    write_whole(run.variants, msgspec.json.format(msgspec.json.encode(records), indent=2) + b"\n")


def unquantized(variant: VariantConfig, experiment: Experiment) -> str | None:
    """The variant that differs from a quantized one in nothing else."""
    if variant.quantize is None:
        return None
    same = (
        v for v in experiment.variants if v.model_copy(update={"name": variant.name, "quantize": variant.quantize}) == variant
    )
    return next((v.name for v in same if v.quantize is None), None)


def kind(variant: VariantConfig) -> Kind:
    """What a variant is, in one word."""
    if variant.url:
        return "url"
    if variant.quantize:
        return "quantized"
    return "adapter" if variant.adapter else "merged" if variant.merge or variant.is_student else "model"


def describe(variant: VariantConfig) -> str:
    """What a variant is, in a few words."""
    if variant.url:
        return f"{variant.model} at {shown_url(variant.url)}"
    parts = ["base" if not variant.model else variant.model]
    if variant.adapter:
        parts.append("+ LoRA adapter")
    if variant.prune:
        parts.append(f"less {variant.prune:.0%} of its layers, healed")
    if variant.distil:
        parts.append(f"taught by {variant.distil}")
    if variant.merge:
        parts.append("+ merged adapter")
    if variant.quantize:
        how = f" {variant.quantize.algorithm}" if variant.quantize.calibrated else ""
        parts.append(f", {variant.quantize.method}{how}")
    return " ".join(parts).replace(" ,", ",")


def decide(run: RunDirectory, experiment: Experiment, progress: Progress) -> tuple[Summary, Verdicts]:
    """Everything that is made of the journals, each read once: Parquet, summary, verdict, plan, report."""
    from foundation.run.journal import read_prompts
    from results.analysis import summarise
    from results.measures.measured import read_measured
    from results.report import write as write_report

    progress.stage("analyse", 3, "steps")
    inputs = run_inputs(run, experiment)
    prompts = read_prompts(run.path)
    measured = read_measured(inputs, prompts, parquet=True)
    summary = summarise(inputs, measured, prompts)
    progress.advance(1, "summary")
    verdicts = judge(summary, inputs)
    plan = plan_capacity(summary, inputs) if experiment.plan else None
    progress.advance(1, "verdict")
    for name, output in (("summary", summary), ("verdict", verdicts), ("plan", plan)):
        if output is not None:
            write_json(output, run.path / f"{name}.json")
    write_report(run.path, summary, verdicts, plan, read_environment(run.path).whole, measured)
    progress.advance(1, "report")
    return summary, verdicts


def run_inputs(run: RunDirectory, experiment: Experiment) -> RunInputs:
    """What `results` reads of a run directory."""
    kept = read_environment(run.path)
    return RunInputs(
        name=experiment.name,
        baseline=experiment.baseline,
        judged_stage=experiment.judged_stage,
        variants=read_variants(run.path),
        slo=experiment.slo,
        quality=experiment.quality,
        budget=experiment.budget,
        plan=experiment.plan,
        run=run.path,
        looks=experiment.until_decided.looks if experiment.until_decided else 1,
        resolution=experiment.resolution,
        stages=[stage.label for stage in experiment.workload.stages],
        notes=[
            *kept.notes,
            *(f"{label}: {rate.sentence}" for label, rate in (read_rates(run.rates, experiment) or {}).items()),
            *(f"{variant}: {note}" for variant, notes in kept.requests.items() for note in notes),
        ],
        uneven={stage.label: why for stage in experiment.workload.stages if (why := stage.uneven)},
        failed=read_failures(run, [variant.name for variant in experiment.variants]),
    )


def write_json(output: Summary | Verdicts | CapacityPlan, file: Path) -> None:
    """Indented JSON, which a terminal can show; the same object gives the same bytes."""
    write_whole(file, json_printable(msgspec.json.format(msgspec.json.encode(output), indent=2).decode()) + "\n")


def keep_loads(prepared: Prepared, serving: serve.ServePlan, device: str, times: BlockTimes, summary: Summary) -> None:
    """Remember how fast this machine answered, for the estimates of later runs."""
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
                keep(Work(kind="load", device=device, model_bytes=size, amount=amount, seconds=seconds, saturated=saturated))
