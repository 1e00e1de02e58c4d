"""The ring: fine-tune, quantize, serve and load, decide. Each stage reads and writes files; what is whole is skipped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

import quantize
import serve
from dyno.environment import accelerators, environment, note_requests
from dyno.estimates import estimate_stages, model_bytes, training_tokens
from dyno.experiment import FINETUNE, Experiment, VariantConfig
from dyno.failures import read_failures
from dyno.isolate import isolated
from dyno.kernels import check_kernels
from dyno.measure import measure
from dyno.pace import Pace, Work, keep, pace_of
from dyno.prepare import Prepared, check_disk, checkpoint_name, merged_name, write_prompts
from dyno.rates import read_rates, unmeasured
from dyno.request import shown_url
from dyno.run_directory import RunDirectory, whole_or_not
from dyno.run_files import read_environment, read_variants
from dyno.templates import template_notes
from dyno.timeline import BlockTimes, Timeline
from dyno.training import make_adapter, make_student
from foundation.errors import BadInput
from foundation.model import ModelRef
from foundation.progress import Progress
from foundation.whole_file import write_whole
from loadgen import run as run_loop
from loadgen.ceiling import stored_ceiling
from results import RunInputs, analyse, judge, plan_blocks, plan_capacity
from results.records import Kind, VariantRecord
from results.summary import CapacityPlan, Summary, Verdicts
from results.verdict import is_settled
from serve.device import device_for

# An open loop that takes so many times its schedule was bound by the server.
SATURATED = 1.3


def run_ring(prepared: Prepared, run: RunDirectory, progress: Progress) -> tuple[Summary, Verdicts]:
    """All stages, from wherever the run directory stands. Raises what the stages raise; what is whole stays."""
    check_disk(prepared, run)
    plan_serving(prepared, run)
    begin(prepared, run)
    note_requests(run.environment, template_notes(prepared))
    serving = plan_serving(prepared, run)
    pace = pace_here(prepared, serving, progress)
    timeline = Timeline(estimate_stages(prepared, serving, pace), pace.device, progress)
    with timeline.doing("finetune", *_training_work(prepared, run)):
        make_adapter(prepared, run, progress)
    with timeline.doing("checkpoint", *_checkpoint_work(prepared, run)):
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
    begun = any(folder.exists() for folder in (run.adapter(FINETUNE), run.partial(run.adapter(FINETUNE))))
    if begun or prepared.experiment.finetune is None or not prepared.base.path.is_dir():
        return 0.0, 0
    return training_tokens(prepared), prepared.base.size_bytes()


def _checkpoint_work(prepared: Prepared, run: RunDirectory) -> tuple[float, int]:
    """Weight bytes of the checkpoints that are made now, and the largest base; students train besides, which is other work."""
    made = [v for v in prepared.experiment.variants if v.is_made]
    if any(v.is_student for v in made):
        return 0.0, 0
    names = {checkpoint_name(v): prepared.base_of(v) for v in made}
    names |= {merged_name(v): prepared.base_of(v) for v in made if v.merge}
    sizes = [base.size_bytes() for name, base in names.items() if not run.checkpoint(name).is_dir() and base.path.is_dir()]
    return float(sum(sizes)), max(sizes, default=0)


def settled(run: RunDirectory, experiment: Experiment) -> bool:
    """Whether what was measured so far decides all that is asked of every variant that can be measured further."""
    inputs = run_inputs(run, experiment)
    verdicts = judge(analyse(inputs), inputs).variants
    return all(is_settled(verdict) for verdict in verdicts if verdict.variant not in inputs.failed)


def begin(prepared: Prepared, run: RunDirectory) -> None:
    """Write down what is about to be run; a run that goes on keeps what it began with."""
    if not run.experiment.exists():
        write_whole(run.experiment, prepared.experiment.as_yaml())
    if not run.environment.exists():
        seeds = {"workload": prepared.experiment.workload.seed}
        if prepared.experiment.finetune:
            seeds["finetune"] = prepared.experiment.finetune.seed
        models = {model.id: model.revision for model in prepared.models.values()}
        write_whole(run.environment, json.dumps({**environment(), "models": models, "seeds": seeds}, indent=2) + "\n")
    if not run.calibration.exists() and (ceiling := stored_ceiling()):
        write_whole(run.calibration, msgspec.json.encode(ceiling) + b"\n")
    if not run.prompts.exists():
        write_prompts(prepared.prompts, run.prompts)


def make_checkpoints(
    prepared: Prepared, run: RunDirectory, progress: Progress, only: Sequence[str] = (), *, recovery: bool = False
) -> dict[str, ModelRef]:
    """Merge, prune, distil and quantize what the variants ask for (or those in `only`); variant name to checkpoint.

    A teacher is whole before its student asks it. What quantizing lost is measured for variants that ask for it, with `recovery`
    for all of them.
    """
    asked = [v for v in prepared.experiment.variants if v.is_made and (not only or v.name in only)]
    made = {v.name: _model_of(prepared, v, run) for v in asked}
    for student in (v for v in asked if v.is_student and not run.adapter(v.name).is_dir()):
        if student.distil:
            make_adapter(prepared, run, progress, [student.distil])
            make_checkpoints(prepared, run, progress, [student.distil])
        make_student(prepared, student, run, progress)
    if any(not model.path.is_dir() for model in made.values()):
        isolated(_make_checkpoints, prepared, asked, run, recovery, progress=progress, log=run.logs / "quantize.log")
    return made


def _model_of(prepared: Prepared, variant: VariantConfig, run: RunDirectory) -> ModelRef:
    base = prepared.base_of(variant)
    return ModelRef(base.id, base.revision, run.checkpoint(checkpoint_name(variant)))


def _make_checkpoints(
    prepared: Prepared, variants: Sequence[VariantConfig], run: RunDirectory, recovery: bool, *, progress: Progress
) -> None:
    """In one process, since loading torch takes longer than quantizing a small model."""
    for variant in variants:
        model = prepared.trained_base(variant, run)
        if adapter := prepared.merged_adapter(variant, run):
            merged = run.checkpoint(merged_name(variant))
            if not merged.is_dir():
                with whole_or_not(merged) as out:
                    quantize.merge(model, adapter, out, progress)
            model = ModelRef(model.id, model.revision, merged)
        if variant.quantize and not (done := run.checkpoint(checkpoint_name(variant))).is_dir():
            style = prepared.wording_of(variant)
            with whole_or_not(done) as out:
                made = quantize.quantize(model, variant.quantize, out, progress, prepared.train, style)
                if prepared.heldout and (recovery or variant.quantize.recovery):
                    found = quantize.measure_recovery(model, made, prepared.heldout, style, progress)
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
    from results.analysis import summarise
    from results.journal import read_prompts
    from results.measured import read_measured
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
    """Indented JSON; the same object gives the same bytes."""
    write_whole(file, msgspec.json.format(msgspec.json.encode(output), indent=2) + b"\n")


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
