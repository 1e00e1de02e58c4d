"""What the model of a variant's engine expects of a remedy, by simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import msgspec
import numpy as np

from dyno.improve.measured_run import MeasuredRun
from dyno.pipeline.capacity import RunModels
from foundation.arrays import Ints
from foundation.errors import BadInput
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import EngineModel
from results.capacity.simulation.metrics import simulated_metrics
from results.capacity.simulation.replicas import ONE, Replicas
from results.capacity.simulation.simulator import simulate
from results.decision.binding_case import BindingCase, Remedy
from results.decision.improvement.expectation import is_floor, on_metric
from results.decision.work import RequestWork
from results.inputs import RunInputs

SOURCE = "through this run's engine model"


@dataclass(frozen=True)
class EngineExpectations:
    """The models of a run whose servers left an engine record."""

    run: MeasuredRun

    def of(self, case: BindingCase, remedy: Remedy) -> Remedy:
        """The remedy with the factor that the model of the variant's engine has for it.

        The same remedy where there is no model, where no schedule decides when requests come, or
        where the metric that binds is none of a simulation.
        """
        if remedy.work is None or case.stage.offered_rate is None:
            return remedy
        parts = self._parts(case.variant.variant)
        if parts is None:
            return remedy
        replicas = Replicas(case.stage.replicas)
        factor = simulated_factor(*parts, remedy.work, case.binding.metric, case.inputs, replicas)
        if factor is None:
            return remedy
        words = msgspec.structs.replace(remedy.words, source=f"{remedy.words.source}; {SOURCE}")
        burden = on_metric(factor, is_floor(case.binding))
        return replace(remedy, expected=burden, words=words)

    def _parts(self, variant: str) -> tuple[EngineModel, Demand] | None:
        models = self._models
        if models is None:
            return None
        model, demand = models.models.get(variant), models.demands[variant]
        if not isinstance(model, EngineModel) or not isinstance(demand, Demand):
            return None
        return (model, demand) if model.source == "engine record" else None

    @cached_property
    def _models(self) -> RunModels | None:
        if not any(self.run.directory.engine.glob("*.jsonl")):
            return None
        try:
            return RunModels.of(self.run.inputs)
        except BadInput:
            return None


def simulated_factor(
    model: EngineModel,
    demand: Demand,
    work: RequestWork,
    metric: str,
    inputs: RunInputs,
    replicas: Replicas = ONE,
) -> float | None:
    """The metric of a simulation after the change of the work, over that before it.

    None where the simulation has no such metric, or a request can't be served.
    """
    try:
        before = _metrics(model, demand, inputs, replicas)
        after = _metrics(changed_model(model, work), changed_demand(demand, work), inputs, replicas)
    except BadInput:
        return None
    if metric not in before or metric not in after or before[metric] <= 0:
        return None
    return after[metric] / before[metric] or None


def _metrics(
    model: EngineModel, demand: Demand, inputs: RunInputs, replicas: Replicas
) -> Mapping[str, float]:
    return simulated_metrics(simulate(model, demand, replicas), demand, inputs.slo)


def changed_model(model: EngineModel, work: RequestWork) -> EngineModel:
    """The engine whose steps take the changed time. What is fixed in a step reads the weights."""
    steps = model.steps
    decoded = steps.per_decoded_token
    per_decode = decoded * work.decode - (decoded - steps.per_decode) * work.prefill
    scheduler = model.scheduler
    if work.step_tokens is not None:
        scheduler = replace(scheduler, max_num_batched_tokens=work.step_tokens)
    return replace(
        model,
        steps=replace(
            steps,
            fixed=steps.fixed * work.decode,
            per_decode=per_decode,
            per_prefill_token=steps.per_prefill_token * work.prefill,
            per_kv_token=steps.per_kv_token * work.decode,
            per_pair=steps.per_pair * work.prefill,
        ),
        scheduler=scheduler,
    )


def changed_demand(demand: Demand, work: RequestWork) -> Demand:
    """The requests with the changed numbers of tokens, whole and at least 1."""
    return replace(
        demand,
        input_tokens=_scaled(demand.input_tokens, work.input),
        output_tokens=_scaled(demand.output_tokens, work.output),
        prefix_tokens=np.floor(demand.prefix_tokens * min(work.input, 1.0)).astype(np.int64),
    )


def _scaled(tokens: Ints, factor: float) -> Ints:
    return np.asarray(np.maximum(np.rint(tokens * factor), 1), np.int64)
