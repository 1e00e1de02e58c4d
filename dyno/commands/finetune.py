"""`dyno finetune`: trains the experiment's adapter."""

from __future__ import annotations

from pathlib import Path

from dyno.experiment.schema import Experiment
from dyno.pipeline.opened_run import opened_run
from dyno.pipeline.training import make_adapters
from foundation.errors import BadInput


def train_adapter(experiment: Path, out: Path, launch: str | None) -> None:
    """Trains the adapter. `launch`: accelerate and its options, or None for this process.

    Raises BadInput for an experiment without a section finetune.
    """

    def some_training(whole: Experiment) -> Experiment:
        if whole.finetune is None:
            raise BadInput(f"{experiment}: there is no section finetune")
        return whole

    with opened_run(experiment, out, change=some_training) as run:
        for adapter in make_adapters(run.prepared, run.directory, run.progress, launch_with=launch):
            run.progress.log(f"adapter: {adapter}")
