"""What a capacity plan needs beside the run: a trace's traffic, a catalogue, earlier audits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from dyno.experiment.loading import load_section
from dyno.experiment.schema import Experiment
from foundation.arrays import Floats
from foundation.errors import BadInput
from foundation.format import argument
from foundation.path_fields import resolved
from foundation.run.journal import Damage, Prompts, read_prompts
from foundation.run.json_files import read_json
from foundation.run.layout import PLAN_FILE, SEARCH_FILE, RunDirectory
from loadgen.dataset_config import Recording
from loadgen.schedule.traces import arrival_seconds, read_trace
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import EngineModel
from results.capacity.model.models_of_run import demand_of_run, engine_models
from results.capacity.plan.capacity_plan import Audit, CapacityPlan
from results.capacity.plan.catalogue import Catalogue
from results.capacity.plan.changed_demand import Demands, changed_demands
from results.capacity.plan.modelled_rates import modelled_rates
from results.capacity.plan.plan import PlanBasis, plan_capacity
from results.capacity.plan.questions import PlanQuestion
from results.capacity.plan.replica_rate import SearchedRate
from results.capacity.plan.what_if import Models
from results.capacity.search.record import CapacitySearch, VariantSearch
from results.config import FEWEST_PARTS, PlanConfig
from results.inputs import RunInputs
from results.metrics import RECORDS
from results.summary import Summary

MINUTE = 60.0


def plan_run(run: RunDirectory, summary: Summary, inputs: RunInputs) -> CapacityPlan:
    """The capacity plan of a run. Raises BadInput for a trace or catalogue that can't be used."""
    assert inputs.plan is not None
    inputs = replace(inputs, plan=with_traffic(resolved(inputs.plan, run.path)))
    return plan_capacity(summary, inputs, plan_basis(summary, inputs, RunModels.of(inputs)))


def kept_plan(run: RunDirectory, experiment: Experiment) -> CapacityPlan | None:
    """The plan that the last decision wrote; None where the experiment has no section plan."""
    plan = read_json(run.path, PLAN_FILE, CapacityPlan) if experiment.plan else None
    return plan if isinstance(plan, CapacityPlan) else None


@dataclass(frozen=True)
class RunModels:
    """The engine model, the requests and the prompt style of each variant of a run.

    A text in place of a model or of requests says why there are none.
    """

    models: Mapping[str, EngineModel | str]
    demands: Demands
    styles: Mapping[str, str]

    @classmethod
    def of(cls, inputs: RunInputs, *, searched: bool = True) -> RunModels:
        """Fitted to the run's own records and journals, those of a search if `searched`."""
        names, prompts = [record.name for record in inputs.variants], read_prompts(inputs.run)
        return cls(
            engine_models(inputs, searched=searched),
            {name: _demand(inputs, name, prompts) for name in names},
            {record.name: record.prompt_style for record in inputs.variants},
        )

    def rates(self, summary: Summary, inputs: RunInputs) -> Models:
        """What one replica holds of the requests as they were measured."""
        return modelled_rates(summary, inputs, self.models, self.demands)

    def answers(self, summary: Summary, inputs: RunInputs, question: PlanQuestion) -> Models:
        """What one replica holds of the requests that a question asks of. Raises BadInput."""
        demands = changed_demands(self.demands, self.styles, question)
        return modelled_rates(summary, inputs, self.models, demands)


def _demand(inputs: RunInputs, variant: str, prompts: Prompts) -> Demand | str:
    try:
        return demand_of_run(inputs, variant, prompts)
    except BadInput as reason:
        return str(reason)


def plan_basis(summary: Summary, inputs: RunInputs, models: RunModels) -> PlanBasis:
    """What models and search say, the catalogue and the earlier audits. Raises BadInput."""
    assert inputs.plan is not None
    return PlanBasis(
        models=models.rates(summary, inputs),
        searches=searched_rates(RunDirectory(inputs.run), inputs),
        catalogue=read_catalogue(inputs.plan.catalogue),
        audits=earlier_audits(inputs.run),
    )


def searched_rates(run: RunDirectory, inputs: RunInputs) -> dict[str, SearchedRate]:
    """What the run's search showed of one replica, by variant; nothing for another SLO.

    A server that changed while it was searched has no interval. Raises BadInput for a damaged file.
    """
    search = read_json(run.path, SEARCH_FILE, CapacitySearch)
    if isinstance(search, Damage):
        raise BadInput(f"{run.search}: {search.why}; dyno search {argument(run.path)} writes it")
    limits = {metric: limit.text for metric, limit in inputs.slo.limits.items()}
    if search is None or search.slo.items() != {k: limits.get(k) for k in search.slo}.items():
        return {}
    if any(RECORDS[metric].kind != "rate" for metric in limits.keys() - search.slo.keys()):
        return {}
    return {
        each.variant: _of_one(each)
        for each in search.variants
        if each.fails is None or (each.holds or 0.0) < each.fails
    }


def _of_one(search: VariantSearch) -> SearchedRate:
    """What a search of all replicas together showed of one."""
    holds, fails = (
        None if rate is None else rate / search.replicas for rate in (search.holds, search.fails)
    )
    return SearchedRate(holds, fails, search.sentence)


def read_catalogue(file: Path | None) -> Catalogue | None:
    """The catalogue of accelerators and prices. Raises BadInput with file, line and field."""
    if file is None:
        return None
    return load_section(file, Catalogue, "a catalogue, starting with accelerators:")


def check_plan(plan: PlanConfig | None) -> None:
    """Raises BadInput for a trace or a catalogue that can't be used, before a run begins."""
    if plan is not None:
        with_traffic(plan)
        read_catalogue(plan.catalogue)


class _KeptPlan(msgspec.Struct):
    """The part of an earlier `plan.json` that later plans keep."""

    audits: list[Audit] = []


def earlier_audits(run: Path) -> list[Audit]:
    """The audits in the run's `plan.json`. Raises BadInput where the file can't be read."""
    kept = read_json(run, PLAN_FILE, _KeptPlan)
    if isinstance(kept, Damage):
        raise BadInput(
            f"{run / PLAN_FILE}: {kept.why}; it holds the audits of this run: repair it, or delete "
            "it to plan without them"
        )
    return kept.audits if kept else []


def with_traffic(plan: PlanConfig) -> PlanConfig:
    """The plan with its trace turned into the rates of a day. Raises BadInput."""
    if plan.trace is None:
        return plan
    _check_lengths(plan.trace)
    times = arrival_seconds(Recording(file=plan.trace))
    seconds = float(times[-1] - times[0])
    if seconds <= 0:
        raise BadInput(
            f"{plan.trace}: all arrivals come at one moment, so it has no rate; write peak_rate"
        )
    parts = max(FEWEST_PARTS, round(seconds / 3600))
    rates = busiest_rates(times - times[0], seconds, parts)
    mean = plan.mean_rate if plan.mean_rate is not None else len(times) / seconds
    if plan.peak_rate is not None and plan.peak_rate < max(rates):
        raise BadInput(
            f"plan.peak_rate: {plan.peak_rate:g} is below the {max(rates):.4g} requests/s of the "
            f"busiest minute in {plan.trace}; write the highest, or leave it out"
        )
    return plan.model_copy(
        update={
            "trace": None,
            "day": tuple(rates),
            "day_hours": seconds / 3600,
            "mean_rate": min(mean, max(rates)),
        }
    )


def _check_lengths(trace: Path) -> None:
    """Raises BadInput for a request of zero tokens: nobody can plan for what did not happen."""
    turns = (turn for arrival in read_trace(trace) for turn in arrival.turns)
    if empty := next((turn for turn in turns if turn.is_empty), None):
        raise BadInput(
            f"{trace}:{empty.line}: zero input or output tokens, a request that failed; leave such "
            "lines out to plan for the others"
        )


def busiest_rates(times: Floats, seconds: float, parts: int) -> list[float]:
    """The rate of the busiest minute that begins in each of `parts` equal parts, requests/s.

    `times` (n,): sorted, from 0 to `seconds`. In parts shorter than a minute it is the part's own.
    """
    window = min(MINUTE, seconds / parts)
    in_window = np.searchsorted(times, times + window) - np.arange(len(times))
    part = np.minimum((times / (seconds / parts)).astype(int), parts - 1)
    most = np.zeros(parts)
    np.maximum.at(most, part, in_window)
    return [float(each) for each in most / window]
