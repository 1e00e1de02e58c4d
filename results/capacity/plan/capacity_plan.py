"""The schema of `plan.json`: how much hardware a load needs with each variant, and its price.

A number that can't be had is None with a `reason`, never zero. Money is dollars, a month has 730
hours. Rates are requests/s. Metrics have the keys and units of `results.metrics`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from results.summary import Estimate, Outcome, Validity

HOURS_PER_MONTH = 730.0

RateSource = Literal["model", "measured", "search"]
"""Where the rate of a replica comes from."""


class MetricBand(msgspec.Struct, frozen=True, kw_only=True):
    """A metric along a curve: value and 95 % interval at each rate, None where not known."""

    value: list[float | None]
    low: list[float | None]
    high: list[float | None]


class RateCurve(msgspec.Struct, frozen=True, kw_only=True):
    """What the model expects of one replica at each of `rates`, ascending. `metrics` by key."""

    rates: list[float]
    metrics: dict[str, MetricBand]


class LoadPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A measured load of one replica.

    `outcome`: of the times and shares of the SLO together. `left_out`: why it says nothing about
    the rate that a replica holds, None where it does.
    """

    stage: str
    rate: float
    outcome: Outcome
    metrics: dict[str, Estimate]
    left_out: str | None = None
    source: Literal["stage", "search", "audit"] = "stage"


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """The replicas that `rate` requests/s need, bursts, headroom and spare included.

    `replicas` is what to rent: it goes by the lower bound of what one replica holds. `likely` goes
    by the value and `fewest` by the upper bound, None where that is not known. `miss`: the
    probability that the SLO is missed at this rate with the spare replicas lost. Costs are None
    where there is no price.
    """

    rate: float
    replicas: int
    accelerators: int
    miss: Estimate
    likely: int | None = None
    fewest: int | None = None
    cost_per_hour: float | None = None
    cost_per_month: float | None = None


class DayPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the day, `hours` long from `begins` (hours).

    `running`: the most replicas up in it, those included that start for the parts after it.
    """

    begins: float
    hours: float
    fleet: Fleet
    running: int


class DayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Replicas that follow the traffic of a day, which repeats.

    `replica_hours` are of one such day, each start-up included, against `constant_hours` of a fleet
    that always has what the busiest part needs. `cost_per_month`: of the first, `constant_cost` of
    the second; None where there is no price.
    """

    parts: list[DayPart]
    replica_hours: float
    constant_hours: float
    cost_per_month: float | None = None
    constant_cost: float | None = None


class Merits(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant gives and costs, of one replica at the rate that it holds.

    `requests_per_accelerator`: requests/s. `cost_per_million` requests and `cost_per_correct`
    answer: dollars, every replica in full use. `joules_per_request`: as measured at the judged
    stage, as are `quality` and `latency`, the metric `latency_metric` in ms.
    """

    requests_per_accelerator: Estimate
    cost_per_million: Estimate
    cost_per_correct: Estimate
    joules_per_request: Estimate
    quality: Estimate
    latency: Estimate
    latency_metric: str


class VariantCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """How much hardware the peak needs with this variant.

    `rate`: requests/s that one replica holds within the SLO. Its `low` decides, and is
    `rate_per_replica`; its `high` is a rate that it is known not to hold, and None where none is
    known: then `lower_bound` is True. `reason`: why there is no rate. `limits`: of the SLO, by
    metric, in its unit. `points`: what was measured. `contradiction`: where the measurement and the
    model disagree; the measurement counts then. `quality_floor`: the outcome of the quality
    objectives, None where there are none.
    """

    variant: str
    rate_per_replica: float | None
    lower_bound: bool
    replicas: int | None
    cost_per_month: float | None
    sentence: str
    rate: Estimate = Estimate(value=None, reason="the plan is of an earlier version")
    source: RateSource | None = None
    reason: str | None = None
    limits: dict[str, float] = {}
    curve: RateCurve | None = None
    points: list[LoadPoint] = []
    peak: Fleet | None = None
    mean: Fleet | None = None
    day: DayPlan | None = None
    merits: Merits | None = None
    quality_floor: Outcome | None = None
    contradiction: str | None = None
    notes: list[str] = []


class ScaledCapacity(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate of a variant on an accelerator of the catalogue that was not measured.

    `rate` is that of the measured accelerator times `factor`, by `rule`; the rule's own error is
    not in its interval.
    """

    variant: str
    accelerator: str
    factor: float
    rule: str
    rate: Estimate
    peak: Fleet
    cost_per_million: Estimate


class BreakEvenRate(msgspec.Struct, frozen=True, kw_only=True):
    """From `rate` requests/s on, `variant` costs no more than `instead_of`, and less somewhere.

    `rate` is None where that is so at no rate up to `up_to`.
    """

    variant: str
    instead_of: str
    rate: float | None
    up_to: float
    sentence: str


class ParetoPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A variant's quality (higher is better), latency in ms and dollars per million requests.

    A dimension that is not known is None and compares no variants. `beaten_by`: a variant that is
    as good in all and better in one; None: it is on the front.
    """

    variant: str
    quality: float | None
    latency: float | None
    cost: float | None
    beaten_by: str | None


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """A load that was not measured when it was named, what was expected there, and what came.

    `expected` has value and interval by metric; where there is no model, only a `high`, the limit.
    `limits`: of the SLO then, by metric. `measured`, `outcome` and `measured_at` (UTC, ISO 8601)
    are None until `dyno plan RUN --audit`.
    `inside` says by metric whether the two intervals meet.
    """

    variant: str
    rate: float
    expected_outcome: Outcome
    expected: dict[str, Estimate]
    source: RateSource
    sentence: str
    limits: dict[str, float] = {}
    measured: dict[str, Estimate] | None = None
    outcome: Outcome | None = None
    inside: dict[str, bool] = {}
    measured_at: str | None = None


class Investment(msgspec.Struct, frozen=True, kw_only=True):
    """Whether fine-tuning a variant pays, against the baseline.

    Differences are the variant less the baseline: `quality` a share, `latency` in ms (of
    `latency_metric`), `tokens` of a month at `rate` requests/s. `saved`: dollars a month, negative
    where the variant costs more. `tuning_cost`: dollars, once. `months`: until it is earned back.
    """

    variant: str
    instead_of: str
    rate: float
    quality: Estimate
    latency: Estimate
    latency_metric: str
    tokens: Estimate
    saved: Estimate
    tuning_cost: float | None
    months: Estimate
    answer: Literal["yes", "no", "not shown", "not known"]
    sentence: str


class WhatIfVariant(msgspec.Struct, frozen=True, kw_only=True):
    """A variant under a changed plan. `peak` is None with a `reason`.

    `holds`: whether the number of replicas in the question holds the peak, None where no number is.
    """

    variant: str
    rate: Estimate
    peak: Fleet | None
    holds: Outcome | None = None
    reason: str | None = None


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """A question, as it was written, and its answer for each variant."""

    question: str
    variants: list[WhatIfVariant]
    sentence: str


class CapacityPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`plan.json`. `validity` is that of the measurement it rests on.

    Traffic: `peak_rate`, `mean_rate` (None where not known), each times `burst`. `headroom`: the
    share of each replica that is kept free; `spare`: replicas beyond need; `startup`: seconds until
    a new replica serves. `accelerator` is the measured one's name, None where nobody named it;
    `accelerators` are those of one replica of the first variant, `price_hour` dollars an hour of
    one of them.
    `recommended`: the cheapest variant within SLO and quality floor, None where none is.
    `scaled` are estimates for hardware that was not measured. `audits`: every load that was ever
    named and measured, and last the one that is named now. `notes`: what the plan does not know.
    """

    schema_version: int
    name: str
    peak_rate: float
    headroom: float
    spare: int
    variants: list[VariantCapacity]
    validity: Validity = Validity()
    mean_rate: float | None = None
    burst: float = 1.0
    startup: float = 0.0
    accelerator: str | None = None
    accelerators: int = 1
    price_hour: float | None = None
    recommended: str | None = None
    sentence: str = ""
    break_even: list[BreakEvenRate] = []
    pareto: list[ParetoPoint] = []
    scaled: list[ScaledCapacity] = []
    audits: list[Audit] = []
    investments: list[Investment] = []
    what_if: list[WhatIf] = []
    notes: list[str] = []
