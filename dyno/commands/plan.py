"""`dyno plan`: how much hardware the traffic needs with each variant, from a stored run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
from pydantic import ValidationError

from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.pipeline.capacity import RunModels, earlier_audits, plan_basis, with_traffic
from dyno.pipeline.decide import decide, run_inputs
from dyno.terminal.capacity import show_capacity
from dyno.terminal.progress import open_console
from foundation.errors import BadInput
from foundation.files.folder_lock import locked
from foundation.path_fields import resolved
from foundation.run.journal import read_prompts
from foundation.run.json_files import json_text, write_json
from foundation.run.layout import RunDirectory, existing_run
from foundation.wrong_values import wrong_value
from results.analysis import summarise
from results.capacity.plan.capacity_plan import CapacityPlan
from results.capacity.plan.plan import plan_capacity
from results.capacity.plan.questions import PlanQuestion, parse_question
from results.capacity.plan.what_if import WhatIfEvidence, what_if
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
    with locked(directory.path):
        inputs = _inputs(directory, options)
        capacity = _planned(inputs, questions)
        write_json(capacity, directory.plan)
    if as_json:
        sys.stdout.write(json_text(capacity) + "\n")
    _check_some_plan(capacity)
    if not as_json:
        show_capacity(open_console(), capacity, directory.plan)


def audit_plan(run: Path, options: Mapping[str, object]) -> None:
    """Measures the load that the plan names, and keeps what was expected and measured.

    Raises BadInput where the plan names none, and SystemFailed where it can't be measured.
    """
    # What it takes to start servers is slow to import, and a plan needs none of it.
    from dyno.pipeline.audit import audited, load_audit
    from dyno.pipeline.opened_run import opened_run
    from loadgen.event_loop import run as run_loop

    directory = existing_run(run)
    inputs = _inputs(directory, options)
    plan = _planned(inputs, ())
    _check_some_plan(plan)
    named = [audit for audit in plan.audits if audit.measured is None]
    if not named:
        raise BadInput("--audit: every load that this plan could name was measured already")
    [limits] = [v.limits for v in plan.variants if v.variant == named[0].variant]
    section = partial(_with_section, options=options)
    with opened_run(directory.path, directory.path, [named[0].variant], section) as opened:
        folder = run_loop(load_audit(opened, named[0]))
        measured = audited(named[0], folder, inputs, limits)
        audits = [*earlier_audits(directory.path), measured]
        kept = msgspec.structs.replace(plan, audits=[a for a in audits if a.measured is not None])
        write_json(kept, directory.plan)
        decide(directory, opened.prepared.experiment, opened.progress)


def _inputs(run: RunDirectory, options: Mapping[str, object]) -> RunInputs:
    """The run under its experiment as it is now, and the options."""
    experiment = load_experiment(run.experiment)
    plan = _plan(experiment, options)
    inputs = run_inputs(run, experiment.model_copy(update={"plan": plan}))
    return replace(inputs, plan=with_traffic(plan))


def _plan(experiment: Experiment, options: Mapping[str, object]) -> PlanConfig:
    """The section plan with the options, whose files the current folder is the start of."""
    return resolved(plan_config(experiment.plan, options), Path.cwd())


def _with_section(experiment: Experiment, options: Mapping[str, object]) -> Experiment:
    """The experiment, which takes the options for its section plan where it has none.

    Without a plan its report could not show the audit.
    """
    if experiment.plan is not None:
        return experiment
    return experiment.model_copy(update={"plan": _plan(experiment, options)})


def _check_some_plan(plan: CapacityPlan) -> None:
    if all(variant.peak is None for variant in plan.variants):
        raise BadInput(plan.sentence)


def _planned(inputs: RunInputs, questions: Sequence[PlanQuestion]) -> CapacityPlan:
    """The plan and the answers to the questions; the journals are read once."""
    prompts = read_prompts(inputs.run)
    measured = read_measured(inputs, prompts)
    summary, models = summarise(inputs, measured, prompts), RunModels.of(inputs)
    basis = plan_basis(summary, inputs, models)
    plan = plan_capacity(summary, inputs, basis)
    evidence = WhatIfEvidence(
        summary=lambda changed: summarise(changed, measured, prompts), models=models.answers
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
        message = wrong_value(problem)
        if problem["loc"]:
            message = f"{problem['loc'][0]}: {message}"
        field, _, reason = message.partition(": ")
        raise BadInput(f"--{field.replace('_', '-')}: {reason}") from None
