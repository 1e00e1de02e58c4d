"""`dyno plan`: how much hardware the peak needs with each variant, from a stored run."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.pipeline.decide import run_inputs, write_json
from dyno.terminal.progress import open_console
from dyno.terminal.results import show_capacity
from foundation.errors import BadInput
from foundation.files.folder_lock import locked
from foundation.run.layout import existing_run
from results.analysis import analyse
from results.config import PlanConfig
from results.decision.capacity import plan_capacity


def show_plan(run: Path, peak_rate: str | None, headroom: str, spare: int) -> None:
    """Prints the capacity plan and writes `plan.json`.

    Without `peak_rate`, the experiment's own section plan counts. The plan uses the experiment as
    it is now, with an slo that was changed since the run.
    """
    directory = existing_run(run)
    experiment = load_experiment(directory.experiment)
    plan = _plan_config(experiment, peak_rate, headroom, spare)
    with locked(directory.path):
        inputs = run_inputs(directory, experiment.model_copy(update={"plan": plan}))
        capacity = plan_capacity(analyse(inputs), inputs)
        write_json(capacity, directory.path / "plan.json")
    show_capacity(open_console(), capacity)


def _plan_config(
    experiment: Experiment, peak_rate: str | None, headroom: str, spare: int
) -> PlanConfig:
    if peak_rate is None:
        if experiment.plan is None:
            raise BadInput("write --peak-rate, the requests/s to plan for, such as --peak-rate 120")
        return experiment.plan
    try:
        return PlanConfig.model_validate(
            {"peak_rate": peak_rate, "headroom": headroom, "spare": spare}
        )
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0]).replace("_", "-")
        raise BadInput(f"--{field}: {problem['msg'].removeprefix('Value error, ')}") from None
