"""The schema of `summary.json` and `verdict.json`; that of `plan.json` is in `capacity`.

A number that can't be had is None with a `reason`, never zero. Shares are 0 to 1, money is dollars,
times are in the unit named.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from foundation.run.records import RouterKind
from results.race import Race

SCHEMA_VERSION = 1

Decision = Literal["SHIP", "DON'T SHIP", "INCONCLUSIVE"]
Outcome = Literal["holds", "fails", "unsettled"]


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A value, its 95 % two-sided confidence interval, and the number of observations."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    reason: str | None = None


class Metric(msgspec.Struct, frozen=True):
    """A metric's label, unit, definition, and which way is better.

    Units: "ms", "requests/s", "tokens", "$", "share", "bytes", ...
    """

    label: str
    unit: str
    definition: str
    better: Literal["lower", "higher"]


class Interval(msgspec.Struct, frozen=True):
    """A 95 % interval."""

    low: float
    high: float


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A variant less the baseline.

    `relative` is the difference over the baseline's value (0.5: half as much again). `p` is the
    two-sided p-value of no difference; `differs` says whether that is shown at 5 % for all variants
    together (Holm). `bootstrap` is the interval of `absolute` by resampling blocks or prompts,
    beside that of theory. None where there is none.
    """

    absolute: Estimate
    relative: Estimate
    p: float | None = None
    differs: bool | None = None
    bootstrap: Interval | None = None


class Decomposition(msgspec.Struct, frozen=True, kw_only=True):
    """Why mean latency changed against the baseline, in ms (metrics.md).

    The three parts and `residual` add up to `latency`.
    """

    latency: Estimate
    prefill_and_queueing: Estimate
    verbosity: Estimate
    speed_per_token: Estimate
    residual: float


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the requests' time, in ms over the requests; `share` is of the mean `total`."""

    mean: Estimate
    share: Estimate
    p50: Estimate
    p95: Estimate


class Waterfall(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time of the requests goes, from schedule to the end of the answer (metrics.md).

    `source` says who timed the inside of the server: its engine record, its traces, the metrics
    in its answers, or nobody but the client. `segments` are by key, in the order of time, and add
    up to `total`; those up to the last text and `unexplained` add up to `latency`. Both are of the
    `n` requests that have every segment, of `succeeded`.
    """

    source: Literal["engine record", "traces", "response metrics", "client"]
    n: int
    succeeded: int
    latency: Estimate
    total: Estimate
    segments: dict[str, Segment]
    notes: list[str] = []


class WaterfallDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Why mean latency differs from the baseline's, by segment, in ms, over paired blocks.

    `segments` and `residual` add up to `latency`, the difference in the table.
    """

    latency: Estimate
    segments: dict[str, Estimate]
    residual: float
    sentence: str
    notes: list[str] = []


class More(msgspec.Struct, frozen=True, kw_only=True):
    """The data in all that would settle an objective, or lift a percentile over its floor.

    `total` is None where it takes over twenty times what there is: the value is that near its
    limit.
    """

    unit: Literal["blocks", "requests", "prompts"]
    total: int | None
    to: Literal["settle", "judge"] = "settle"


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What an objective is decided on: value, limit in its unit, and one-sided bounds.

    The value is no worse than `pessimistic` at 95 %; it is no better than `optimistic` at 95 % for
    all objectives of the variant together. None where the data can't bound that side; `reason` says
    why nothing can be decided, `more` what data would settle it, None where nothing is known of
    that.
    """

    value: Estimate
    limit: float | None
    pessimistic: float | None = None
    optimistic: float | None = None
    reason: str | None = None
    more: More | None = None


class Validity(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the load generator may be believed.

    INVALID: nothing is decided on these numbers. Each reason names its level.
    """

    level: Literal["VALID", "SUSPECT", "INVALID"] = "VALID"
    reasons: list[str] = []


class StageSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One variant under one offered load, over all blocks.

    Metric keys are those of `Summary.metrics`. `judged` holds the SLOs at this load, by metric.
    `alternated`: whether its blocks took turns with the baseline's, None where that is not known;
    where they did not, differences hold what the machine did in between. `planned` are the requests
    of the windows, which are counted; times and rates are of their steady parts, `window_s` in all.
    `held`: whether the offered load was held, None where that can't be said; where it is not True,
    `held_reason` says why, and the stage shows no capacity and no cost by the hour. `sessions`:
    whether conversations of several requests arrive. `examples` has, by class of failure, what the
    first of it said. `arrivals`: how requests came: "constant", "poisson", "gamma", "trace" (whose
    rate is a mean only) or "closed".
    `replicas`: how many servers answered together, chosen by `router`, so that the rate of one is
    `offered_rate / replicas`; `accelerators`: of one of them, None where that is not known.
    """

    stage: str
    offered_rate: float | None
    concurrency: int | None
    blocks: int
    window_s: float
    planned: int
    sent: int
    dropped: int
    succeeded: int
    failures: dict[str, int]
    metrics: dict[str, Estimate]
    differences: dict[str, Difference]
    decomposition: Decomposition | None
    notes: list[str]
    judged: dict[str, Judged] = {}
    validity: Validity = Validity()
    alternated: bool | None = None
    arrivals: str = ""
    held: bool | None = None
    held_reason: str | None = None
    sessions: bool = False
    examples: dict[str, str] = {}
    waterfall: Waterfall | None = None
    waterfall_difference: WaterfallDifference | None = None
    replicas: int = 1
    router: RouterKind | None = None
    accelerators: int | None = None


class VariantSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One variant.

    `metrics` holds what there is once a variant (size; quality and cost at the judged stage).
    `judged` holds quality and budget, by the objective's key. `settings` are those in which the
    variants differ, in words.
    """

    variant: str
    what: str
    prompt_style: str
    judged_stage: str
    metrics: dict[str, Estimate]
    differences: dict[str, Difference]
    probes: dict[str, Estimate]
    probe_differences: dict[str, Difference]
    stages: list[StageSummary]
    judged: dict[str, Judged] = {}
    settings: dict[str, str] = {}

    @property
    def at_judged_stage(self) -> StageSummary | None:
        """The stage that the verdict is made on; None where it was not measured."""
        return next((s for s in self.stages if s.stage == self.judged_stage), None)


class BreakEven(msgspec.Struct, frozen=True, kw_only=True):
    """When a tuned variant has paid for its tuning.

    `tuning_cost` is in dollars, `requests` until it is earned back.
    """

    tuning_cost: float | None
    requests: Estimate
    months: float | None
    sentence: str


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """The change of `metric` that a variant's paired blocks show with `power`.

    `smallest` is that change, a share. For a `wanted` change it takes `needed` blocks, `seconds` of
    load for all variants. None if unknown.
    """

    metric: str
    power: float
    blocks: int
    sentence: str
    smallest: float | None = None
    wanted: float | None = None
    needed: int | None = None
    seconds: float | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """`summary.json`.

    `noise` is the run's A/A comparison, by metric of the judged stage: the relative difference
    between the baseline's own neighbouring blocks. A difference smaller than the reach of its
    interval is no news. `break_even` and `resolution` (of the judged stage) are by variant.
    `validity` is the worst of the stages, with all their reasons. `failed` says, by variant, why
    its server did not live to the end of the run. `race`: who left the race of the variants, None
    where there was none.
    """

    schema_version: int
    name: str
    baseline: str
    metrics: dict[str, Metric]
    variants: list[VariantSummary]
    notes: list[str]
    noise: dict[str, Estimate] = {}
    break_even: dict[str, BreakEven] = {}
    validity: Validity = Validity()
    resolution: dict[str, Resolution] = {}
    failed: dict[str, str] = {}
    race: Race | None = None


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was asked for.

    `margin` is how far inside the limit the value is, as a share of it (negative: beyond it).
    `value.low` and `value.high` are the one-sided bounds of `Judged`, which decide, None where
    there is none on that side. `more` is what data would settle it.
    """

    kind: Literal["slo", "quality", "budget"]
    metric: str
    label: str
    unit: str
    value: Estimate
    limit: float | None
    limit_text: str
    margin: float | None
    outcome: Outcome
    sentence: str
    more: More | None = None


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """A remedy for the objective that binds.

    It says what to do, why it should help, by how much, who says so, and the lines to paste.
    """

    remedy: str
    why: str
    effect: str
    source: str
    change: str | None = None


class VariantVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """The decision on one variant.

    `binding` is the label of the objective with the least margin (the one that decided).
    """

    variant: str
    decision: Decision
    is_baseline: bool
    headline: str
    reasons: list[str]
    objectives: list[Objective]
    binding: str | None
    question: str | None
    advice: list[Advice]


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """`verdict.json`. `recommended` is the variant to ship, None where none passes."""

    schema_version: int
    name: str
    baseline: str
    recommended: str | None
    headline: str
    variants: list[VariantVerdict]


class RunChange(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of one variant in two runs.

    `margin` is the largest change that counts as none: a share of the earlier value, or points of a
    share. `bounds` are what the change is held against it by, in the same measure, each end wrong
    with at most 5 %. `outcome` (docs/decision.md): "equivalent" where the bounds lie within the
    margin, "no worse" where the one on the worse side does, "worse" and "better" where a change is
    shown for all metrics together, "unsettled" where the data show none of them, "not compared"
    where the runs answer different questions or one of them is INVALID.
    """

    variant: str
    stage: str | None
    metric: str
    label: str
    unit: str
    before: Estimate
    after: Estimate
    difference: Difference
    margin: float
    bounds: Interval | None
    outcome: Literal["better", "worse", "equivalent", "no worse", "unsettled", "not compared"]
    sentence: str


class RunWaterfall(msgspec.Struct, frozen=True, kw_only=True):
    """Why a variant's mean latency at a stage differs between two runs, later less earlier."""

    variant: str
    stage: str
    difference: WaterfallDifference


class RunComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two stored runs. `conclusion` is what the gate goes by, `headline` the same in words.

    `asked`: what makes their numbers answers to different questions. `settings` and `environment`:
    what else differs ("versions.vllm: 0.31.0 -> 0.32.0"). `validity`: why a measurement is SUSPECT
    or INVALID. `missing`: what only the earlier run has. `waterfalls`: of the stages that both runs
    were asked alike.
    """

    schema_version: int
    before: str
    after: str
    conclusion: Literal["nothing worse", "worse", "unsettled", "nothing compared"]
    headline: str
    changes: list[RunChange]
    asked: list[str]
    validity: list[str]
    missing: list[str]
    settings: list[str]
    environment: list[str]
    notes: list[str]
    waterfalls: list[RunWaterfall] = []
