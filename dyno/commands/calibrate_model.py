"""`dyno calibrate-model`: measures what an engine step takes, for each variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dyno.experiment.from_flags.target import Target
from dyno.experiment.from_flags.values import checked_experiment, seconds_of
from dyno.experiment.schema import Experiment
from dyno.pipeline.calibrating import calibrate_variants
from dyno.pipeline.checkpoints import make_checkpoints
from dyno.pipeline.opened_run import OpenedRun, opened_experiment, opened_run
from dyno.pipeline.serving import plan_serving
from dyno.pipeline.training import make_adapters
from dyno.pipeline.variants import write_variants
from dyno.terminal.engine_model import show_models
from dyno.terminal.progress import open_console
from foundation.errors import BadInput
from foundation.format import argument
from foundation.run.layout import RunDirectory
from foundation.units import format_seconds
from loadgen.event_loop import run as run_loop
from loadgen.sending.descriptors import allow_connections
from results.capacity.model.record import VariantModel

__all__ = ["Target", "calibrate_run", "calibrate_url", "experiment_for"]

LEAST_S = 10.0
"""No set of loads is shorter."""


def calibrate_run(experiment: Path, variants: Sequence[str], max_time: str, out: Path) -> None:
    """Measures the models of an experiment's variants, prints them and writes `model.json`.

    Trains and writes missing checkpoints first. Raises BadInput and SystemFailed.
    """
    budget_s = _budget_s(max_time)
    with opened_run(experiment, out, variants) as run:
        names = [v.name for v in run.prepared.experiment.variants if v.name in (variants or v.name)]
        make_adapters(run.prepared, run.directory, run.progress, names)
        make_checkpoints(run.prepared, run.directory, run.progress, names)
        models = _calibrate(run, names, budget_s)
    _show(models, run.directory)


def calibrate_url(
    target: Target, tokenizer: str | None, max_time: str, name: str, out: Path
) -> None:
    """Measures the model of a server that is up, in a new run directory under `out`."""
    budget_s, experiment = _budget_s(max_time), experiment_for(target, tokenizer, name)
    with opened_experiment(experiment, Path.cwd(), out) as run:
        models = _calibrate(run, [each.name for each in experiment.variants], budget_s)
    _show(models, run.directory)


def experiment_for(target: Target, tokenizer: str | None, name: str) -> Experiment:
    """The experiment that models a URL: a run of it measures one short stage before.

    Raises BadInput for a URL whose answers the kernel can't stamp.
    """
    if target.model is None:
        raise BadInput("with --url, write --model: the name its server knows the model by")
    if target.url.casefold().startswith("https"):
        raise BadInput(
            "--url: TLS hides when the kernel received each token, which shows the engine's steps; "
            "write the server's own http:// address"
        )
    return checked_experiment(
        {
            "name": name,
            "model": target.model,
            "variants": [target.variant("url", {})],
            "baseline": "url",
            "workload": {
                "api": target.effective_api(),
                "dataset": {"synthetic": {"input_tokens": 64, "output_tokens": 32}},
                "tokenizer": tokenizer,
                "model": True,
                "stages": [{"concurrency": 1, "requests": 20}],
                "blocks": 1,
            },
        }
    )


def _calibrate(run: OpenedRun, names: Sequence[str], budget_s: float) -> Mapping[str, VariantModel]:
    write_variants(run.prepared, run.directory, plan_serving(run.prepared, run.directory))
    allow_connections(run.prepared.experiment.workload, len(names))
    try:
        return run_loop(calibrate_variants(run, names, budget_s))
    except KeyboardInterrupt:
        run.progress.log(
            f"interrupted; go on with: dyno calibrate-model {argument(run.directory.path)}"
        )
        raise


def _show(models: Mapping[str, VariantModel], run: RunDirectory) -> None:
    """Prints the models. Raises BadInput if one could not be had."""
    show_models(open_console(), models, run.models)
    if missing := [f"{name}: {model.none}" for name, model in models.items() if model.none]:
        raise BadInput("; ".join(missing))


def _budget_s(max_time: str) -> float:
    budget_s = seconds_of("--max-time", max_time)
    if budget_s < LEAST_S:
        raise BadInput(
            f"--max-time: {max_time} is too short for any load; write at least "
            f"{format_seconds(LEAST_S)}"
        )
    return budget_s
