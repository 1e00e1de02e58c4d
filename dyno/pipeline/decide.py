"""Computes summary, verdict, capacity plan and report from a run's journals."""

from __future__ import annotations

from dataclasses import replace

from dyno.experiment.schema import Experiment
from dyno.pipeline.capacity import plan_run
from dyno.pipeline.failures import read_failures
from dyno.pipeline.race import read_race
from dyno.pipeline.relative_rates import read_rates
from dyno.pipeline.settings import settings_of
from foundation.progress import Progress
from foundation.run.json_files import read_environment, read_variants, write_json
from foundation.run.layout import RunDirectory
from results.analysis import analyse
from results.decision.verdict import is_settled, judge
from results.inputs import RunInputs
from results.summary import Summary, Verdicts


def decide(
    run: RunDirectory, experiment: Experiment, progress: Progress
) -> tuple[Summary, Verdicts]:
    """Writes all results of a run: Parquet, summary, verdict, plan and report.

    It reads each journal once.
    """
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
    plan = plan_run(run, summary, inputs) if experiment.plan else None
    progress.advance(1, "verdict")
    for name, output in (("summary", summary), ("verdict", verdicts), ("plan", plan)):
        if output is not None:
            write_json(output, run.path / f"{name}.json")
    write_report(run.path, summary, verdicts, plan, read_environment(run.path).whole, measured)
    progress.advance(1, "report")
    return summary, verdicts


def run_inputs(run: RunDirectory, experiment: Experiment) -> RunInputs:
    """The inputs of `results` from a run directory.

    A variant that lost a race was measured to its end, whatever became of its server.
    """
    inputs, race = unraced_inputs(run, experiment), read_race(run, experiment)
    lost = {each.variant for each in race.departures if each.is_lost} if race else set()
    failed = {name: why for name, why in inputs.failed.items() if name not in lost}
    return replace(inputs, race=race, failed=failed)


def unraced_inputs(run: RunDirectory, experiment: Experiment) -> RunInputs:
    """The same without the record of a race, which a look makes anew."""
    environment = read_environment(run.path)
    rates = read_rates(run.rates, experiment) or {}
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
            *environment.notes,
            *(f"{label}: {rate.sentence}" for label, rate in rates.items()),
            *(
                f"{variant}: {note}"
                for variant, notes in environment.requests.items()
                for note in notes
            ),
        ],
        uneven={stage.label: why for stage in experiment.workload.stages if (why := stage.uneven)},
        failed=read_failures(run, [variant.name for variant in experiment.variants]),
        settings=settings_of(experiment, environment.whole),
    )


def settled(run: RunDirectory, experiment: Experiment) -> bool:
    """Whether the journals so far settle the verdict of every variant that has not failed."""
    inputs = run_inputs(run, experiment)
    verdicts = judge(analyse(inputs), inputs).variants
    return all(is_settled(verdict) for verdict in verdicts if verdict.variant not in inputs.failed)
