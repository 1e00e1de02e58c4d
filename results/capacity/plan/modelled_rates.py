"""What the engine models of a run's variants say that one replica holds."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from foundation.cores import usable_cores
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import EngineModel
from results.capacity.plan.measured_rate import absolute_slo, capacity_objectives, slo_limits
from results.capacity.plan.rate_curve import rate_curve
from results.capacity.plan.replica_rate import ModelledRate
from results.capacity.simulation.held_rate import HeldRate, held_rate
from results.capacity.simulation.replicas import ONE, Replicas
from results.inputs import RunInputs
from results.metrics import RECORDS
from results.summary import Estimate, Summary, VariantSummary

SEED = 0


def modelled_rates(
    summary: Summary,
    inputs: RunInputs,
    models: Mapping[str, EngineModel | str],
    demands: Mapping[str, Demand | str],
) -> dict[str, ModelledRate | str]:
    """By variant; a text says why there is no model. `demands`: the requests of each."""

    def rate(variant: VariantSummary) -> ModelledRate | str:
        name = variant.variant
        limits = slo_limits(variant, capacity_objectives(inputs, name))
        model, demand = models.get(name, "nothing was measured"), demands[name]
        if isinstance(model, str):
            return model
        if isinstance(demand, str):
            return demand
        return modelled_rate(model, demand, limits, measured_replicas(variant))

    # Compiled simulations hold no lock, so variants are simulated at once.
    with ThreadPoolExecutor(len(usable_cores())) as pool:
        rates = list(pool.map(rate, summary.variants))
    return {each.variant: rate for each, rate in zip(summary.variants, rates, strict=True)}


def measured_replicas(variant: VariantSummary) -> Replicas:
    """The replicas that the judged stage was measured with, behind their router."""
    stage = variant.at_judged_stage
    return Replicas(stage.replicas) if stage is not None else ONE


def modelled_rate(
    model: EngineModel, demand: Demand, limits: Mapping[str, float], replicas: Replicas = ONE
) -> ModelledRate:
    """The rate that one replica holds within the limits (in each metric's unit), and its curve.

    `replicas`: those that share the requests, in turns.
    """
    times = {metric: limit for metric, limit in limits.items() if RECORDS[metric].kind == "time"}
    held = held_rate(model, demand, absolute_slo(times), SEED, replicas=replicas)
    if held.rate is None:
        return ModelledRate(Estimate(value=None, reason=held.reason), notes=model.notes)
    rate = Estimate(
        value=held.rate, low=held.low, high=held.high, n=len(demand), reason=held.reason
    )
    curve = rate_curve(model, demand, times, held.rate, SEED, replicas)
    return ModelledRate(rate, curve, (*model.notes, *_notes(held, limits, times)))


def _notes(held: HeldRate, limits: Mapping[str, float], times: Mapping[str, float]) -> list[str]:
    """What the rate does not hold."""
    notes = [held.reason] if held.reason else []
    others = [metric for metric in limits if metric not in times]
    if others:
        notes.append(f"the model knows nothing of {', '.join(others)}: only measured loads do")
    return notes
