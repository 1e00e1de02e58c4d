"""`dyno plan`: how much hardware the traffic needs with each variant, from a stored run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from pydantic import ValidationError

from dyno.experiment.loading import load_experiment
from dyno.pipeline.capacity import plan_basis, with_traffic
from dyno.pipeline.decide import run_inputs, write_json
from dyno.terminal.capacity import show_capacity
from dyno.terminal.progress import open_console
from foundation.errors import BadInput
from foundation.files.folder_lock import locked
from foundation.path_fields import resolved
from foundation.printable import json_printable
from foundation.run.journal import read_prompts
from foundation.run.layout import RunDirectory, existing_run
from results.analysis import summarise
from results.capacity.capacity_plan import PLAN_FILE, CapacityPlan
from results.capacity.plan import plan_capacity
from results.capacity.questions import PlanQuestion, parse_question
from results.capacity.what_if import WhatIfEvidence, what_if
from results.config import PlanConfig
from results.inputs import RunInputs
from results.measures.measured import read_measured

_TRAFFIC = ("peak_rate", "mean_rate", "day", "day_hours", "trace")


def show_plan(
    run: Path, options: Mapping[str, object], what_ifs: Sequence[str], *, as_json: bool
) -> None:
    """Prints the capacity plan and writes `plan.json`.

    `options`: fields of the section plan that the command line sets; the others are those of the
    experiment as it is now. So are slo and prices, with what was changed since the run.
    Raises BadInput where no variant can be planned; `plan.json` then has the reasons.
    """
    questions = [parse_question(text) for text in what_ifs]
    directory = existing_run(run)
    experiment = load_experiment(directory.experiment)
    plan = resolved(plan_config(experiment.plan, options), Path.cwd())
    with locked(directory.path):
        inputs = run_inputs(directory, experiment.model_copy(update={"plan": plan}))
        inputs = replace(inputs, plan=with_traffic(plan))
        capacity = _planned(directory, inputs, questions)
        write_json(capacity, directory.path / PLAN_FILE)
    if as_json:
        text = msgspec.json.format(msgspec.json.encode(capacity), indent=2).decode()
        sys.stdout.write(json_printable(text) + "\n")
    else:
        show_capacity(open_console(), capacity)
    if all(variant.peak is None for variant in capacity.variants):
        raise BadInput(capacity.sentence)


def _planned(
    run: RunDirectory, inputs: RunInputs, questions: Sequence[PlanQuestion]
) -> CapacityPlan:
    """The plan and the answers to the questions; the journals are read once."""
    prompts = read_prompts(inputs.run)
    measured = read_measured(inputs, prompts)
    basis = plan_basis(run, inputs)
    plan = plan_capacity(summarise(inputs, measured, prompts), inputs, basis)
    evidence = WhatIfEvidence(
        summary=lambda changed: summarise(changed, measured, prompts),
        models=lambda changed, question: {},
    )
    answers = [what_if(question, inputs, basis, evidence) for question in questions]
    return msgspec.structs.replace(plan, what_if=answers)


def plan_config(section: PlanConfig | None, options: Mapping[str, object]) -> PlanConfig:
    """The experiment's section plan with the options of the command line. Raises BadInput."""
    other_traffic = options.keys() & {"peak_rate", "trace"}
    if section is None and not other_traffic:
        raise BadInput("write --peak-rate, the requests/s to plan for, such as --peak-rate 120")
    written = section.model_dump(mode="json", exclude_unset=True) if section else {}
    if other_traffic:  # it takes the place of the section's whole traffic
        written = {name: value for name, value in written.items() if name not in _TRAFFIC}
    try:
        return PlanConfig.model_validate({**written, **options})
    except ValidationError as error:
        problem = error.errors()[0]
        message = problem["msg"].removeprefix("Value error, ")
        if problem["loc"]:
            message = f"{problem['loc'][0]}: {message}"
        field, _, reason = message.partition(": ")
        raise BadInput(f"--{field.replace('_', '-')}: {reason}") from None
