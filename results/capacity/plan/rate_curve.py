"""The metrics of one replica against the rate, by simulation, each with the model's interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import exp

import numpy as np
from scipy.special import stdtrit

from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import EngineModel
from results.capacity.plan.capacity_plan import MetricBand, RateCurve
from results.capacity.plan.measured_rate import absolute_slo
from results.capacity.simulation.chances import Chances, by_length
from results.capacity.simulation.metrics import simulated_metrics
from results.capacity.simulation.replicas import ONE, Replicas
from results.capacity.simulation.saturation import saturation
from results.capacity.simulation.simulator import simulate
from results.capacity.simulation.slo_load import requests_for
from results.metrics import RECORDS

POINTS, DRAWS = 8, 6
"""Rates of a curve; draws of the model that its bands rest on."""
BEYOND = 1.1
"""A curve goes on to this many times the rate that is held, or to saturation."""
_ALMOST = 0.99
_TAIL = 0.025


def rate_curve(
    model: EngineModel,
    demand: Demand,
    limits: Mapping[str, float],
    held: float,
    seed: int,
    replicas: Replicas = ONE,
) -> RateCurve:
    """The times that are limited, and goodput, of requests that arrive by chance.

    Rates are of one of the `replicas`, which share the requests.
    `limits`: ms, by metric. `held`: requests/s, about which the curve ends. Rates beyond the
    model's reach are left out.
    """
    rng, lengths, slo = np.random.default_rng(seed), by_length(demand), absolute_slo(limits)
    families = {RECORDS[metric].family for metric in limits}
    chances = Chances.of(requests_for(limits, replicas=replicas.count), rng)
    most = min(held * BEYOND, _ALMOST * saturation(model, lengths, chances))
    draws = len(model.draws)
    places = rng.choice(draws, min(DRAWS, draws), replace=False) if draws else ()
    models = [model, *(model.drawn(place) for place in places)]
    rates: list[float] = []
    rows: list[list[dict[str, float]]] = []
    for rate in np.linspace(most / POINTS, most, POINTS).tolist():
        load = chances.load(lengths, rate * replicas.count)
        simulated = [simulate(each, load, replicas) for each in models]
        if replace(simulated[0].reached, rate=rate).beyond(model.fitted):
            break
        rates.append(rate)
        rows.append(
            [_of_one(simulated_metrics(each, load, slo, families), replicas) for each in simulated]
        )
    metrics = [*limits, "goodput"] if rows else []
    return RateCurve(rates=rates, metrics={metric: _band(metric, rows) for metric in metrics})


def _of_one(metrics: Mapping[str, float], replicas: Replicas) -> dict[str, float]:
    """The metrics of one replica: its share of goodput, and the times of all."""
    shares = {key: metrics[key] / replicas.count for key in ("goodput",) if key in metrics}
    return {**metrics, **shares}


def _band(metric: str, rows: Sequence[Sequence[Mapping[str, float]]]) -> MetricBand:
    """The model's value and its interval at each rate."""
    intervals = [_interval([each.get(metric) for each in row]) for row in rows]
    return MetricBand(
        value=[value for value, _, _ in intervals],
        low=[low for _, low, _ in intervals],
        high=[high for _, _, high in intervals],
    )


def _interval(values: Sequence[float | None]) -> tuple[float | None, float | None, float | None]:
    """The first value, and where the draws' values lie around it (log-normal)."""
    known = [each for each in values if each is not None and each > 0]
    if values[0] is None:
        return None, None, None
    if len(known) < len(values) or len(values) < 3:
        return values[0], None, None
    logs = np.log(known)
    ratios = logs[1:] - logs[0]
    half = float(stdtrit(len(ratios) - 1, 1 - _TAIL) * ratios.std(ddof=1))
    return values[0], values[0] * exp(-half), values[0] * exp(half)
