"""The verdict on each variant: every objective held against its limit, the one that binds, and what is made of them.

SHIP needs every objective shown to hold, DON'T SHIP needs one shown to fail; else it is INCONCLUSIVE, with what would settle it.
The bounds come from the analysis (`objectives`); nothing is measured or estimated here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf, log, sqrt

from msgspec.structs import replace
from scipy.special import stdtrit

from results.advice import advise, worth_it
from results.inputs import RunInputs
from results.objectives import Asked, asked_of, fixed_limit, undecided
from results.report.format import change, duration, points, quantity
from results.stats import FLOORS, absent, requests_to_show_share, smallest
from results.summary import (
    SCHEMA_VERSION,
    Decision,
    Estimate,
    Judged,
    Objective,
    Outcome,
    StageSummary,
    Summary,
    VariantSummary,
    VariantVerdict,
    Verdicts,
)

HOPELESS = 20


def judge(summary: Summary, inputs: RunInputs) -> Verdicts:
    """A verdict for every variant, the baseline's own among them, and which of them to ship."""
    judged = {variant.variant: _objectives(variant, inputs) for variant in summary.variants}
    decisions = {variant.variant: _decide(judged[variant.variant], _stage(variant)) for variant in summary.variants}
    recommended = _recommended(summary, decisions)
    return Verdicts(
        schema_version=SCHEMA_VERSION,
        name=summary.name,
        baseline=summary.baseline,
        recommended=recommended,
        headline=_overall(summary, decisions, recommended),
        variants=[_verdict(variant, summary, inputs, judged, decisions) for variant in summary.variants],
    )


def _verdict(
    variant: VariantSummary,
    summary: Summary,
    inputs: RunInputs,
    judged: dict[str, list[Objective]],
    decisions: dict[str, Decision],
) -> VariantVerdict:
    objectives, decision = judged[variant.variant], decisions[variant.variant]
    stage = _stage(variant)
    binding = _binding(objectives)
    passing = [name for name in _ranked(summary, decisions) if name != variant.variant]
    return VariantVerdict(
        variant=variant.variant,
        decision=decision,
        is_baseline=variant.variant == summary.baseline,
        headline=_headline(variant.variant, decision, objectives, binding, stage),
        reasons=[*_reasons(objectives, stage), *_shown(variant, decision, summary)],
        objectives=objectives,
        binding=binding.label if binding else None,
        question=worth_it(variant, binding, summary) if binding and decision != "SHIP" else None,
        advice=advise(variant, binding, summary, inputs, passing) if binding and decision != "SHIP" else [],
    )


def _stage(variant: VariantSummary) -> StageSummary | None:
    return next((stage for stage in variant.stages if stage.stage == variant.judged_stage), None)


def _objectives(variant: VariantSummary, inputs: RunInputs) -> list[Objective]:
    stage = _stage(variant)
    found = []
    for asked in asked_of(inputs, variant.variant):
        of = variant.judged.get(asked.key) or (stage.judged.get(asked.key) if stage else None)
        of = of or undecided(absent("not measured"), fixed_limit(asked), f"stage {variant.judged_stage} was not measured")
        found.append(_objective(asked, of, stage))
    return found


def _objective(asked: Asked, judged: Judged, stage: StageSummary | None) -> Objective:
    outcome = outcome_of(asked, judged)
    value, limit = judged.value.value, judged.limit
    return Objective(
        kind=asked.kind,
        metric=asked.metric,
        label=asked.label,
        unit=asked.unit,
        value=_between_bounds(asked, judged),
        limit=limit,
        limit_text=asked.text,
        margin=None if value is None or limit is None else _margin(asked, value, limit),
        outcome=outcome,
        sentence=_sentence(asked, judged, outcome, stage),
    )


def _between_bounds(asked: Asked, judged: Judged) -> Estimate:
    """The value with the bounds that decide, in place of its interval: a report shows why something is not settled."""
    low, high = (judged.optimistic, judged.pessimistic) if asked.better == "lower" else (judged.pessimistic, judged.optimistic)
    return replace(judged.value, low=low, high=high)


def outcome_of(asked: Asked, judged: Judged) -> Outcome:
    """Held against the limit: the pessimistic bound must keep it to hold, the optimistic one must break it to fail."""
    if judged.reason is not None or judged.limit is None:
        return "unsettled"
    sign = 1 if asked.better == "lower" else -1
    if judged.pessimistic is not None and sign * judged.pessimistic <= sign * judged.limit:
        return "holds"
    if judged.optimistic is not None and sign * judged.optimistic > sign * judged.limit:
        return "fails"
    return "unsettled"


def _margin(asked: Asked, value: float, limit: float) -> float:
    """Inside the limit as a share of it; a limit of zero is no measure, and there the distance itself stands."""
    inside = limit - value if asked.better == "lower" else value - limit
    return inside / abs(limit) if limit else inside


def _binding(objectives: Sequence[Objective]) -> Objective | None:
    """The one that decides: of those that fail, else of those unsettled, else of all, the one with the least margin."""
    for outcome in ("fails", "unsettled", "holds"):
        if some := [o for o in objectives if o.outcome == outcome]:
            return min(some, key=lambda o: o.margin if o.margin is not None else float("inf"))
    return None


def _decide(objectives: Sequence[Objective], stage: StageSummary | None) -> Decision:
    outcomes = {objective.outcome for objective in objectives}
    if stage is None or stage.validity.level == "INVALID" or not outcomes:
        return "INCONCLUSIVE"
    if "fails" in outcomes:
        return "DON'T SHIP"
    return "INCONCLUSIVE" if "unsettled" in outcomes else "SHIP"


def worded(asked: Asked, value: float) -> str:
    """A value of an objective as a person reads it; what is relative to the baseline with its sign."""
    if asked.kind == "quality" and asked.relative:
        return points(value)
    return change(value) if asked.kind == "budget" and asked.relative else quantity(value, asked.unit)


def _limit_words(asked: Asked, judged: Judged) -> str:
    if asked.kind == "slo":
        parts = [f"{asked.text} of the baseline's"] if asked.relative else []
        return ", ".join(parts + ([] if judged.limit is None else [quantity(judged.limit, asked.unit)]))
    return asked.text


def _sentence(asked: Asked, judged: Judged, outcome: Outcome, stage: StageSummary | None) -> str:
    limit = _limit_words(asked, judged)
    if judged.value.value is None or judged.reason is not None:
        more = _to_settle(asked, judged, stage)
        return f"{asked.label} (limit: {limit}) can't be judged: {judged.reason}{more}"
    value = worded(asked, judged.value.value)
    if outcome == "unsettled":
        ends = [worded(asked, end) for end in _ends(judged)]
        span = f"{ends[0]} to {ends[1]}" if len(ends) == 2 else " and beyond".join(ends)
        return f"{asked.label} is {value} (limit: {limit}), not settled: the data allow {span}{_to_settle(asked, judged, stage)}"
    deciding = judged.pessimistic if outcome == "holds" else judged.optimistic
    assert deciding is not None
    edge = "at most" if (outcome == "holds") == (asked.better == "lower") else "at least"
    verb = "keeps" if outcome == "holds" else "breaks"
    return f"{asked.label} is {value} and {verb} its limit ({limit}); {edge} {worded(asked, deciding)} with 95 % confidence"


def _ends(judged: Judged) -> list[float]:
    return sorted(end for end in (judged.optimistic, judged.pessimistic) if end is not None)


def _to_settle(asked: Asked, judged: Judged, stage: StageSummary | None) -> str:
    """What would settle an unsettled objective, as the end of a sentence; empty where nothing is known."""
    if stage is None or stage.planned == 0:
        return ""
    value, limit, n = judged.value.value, judged.limit, judged.value.n
    per_block = max(stage.planned / stage.blocks, 1)
    if value is None:
        _, _, q = asked.metric.rpartition("_p")
        short = FLOORS.get(float(q), 0) - n if n and q.replace(".", "").isdigit() else 0
        return f"; {_blocks(short / per_block, stage)} would be enough" if short > 0 else ""
    if limit is None:
        return ""
    if asked.metric == "error_rate" and value < limit:
        needed = requests_to_show_share(limit, round(value * n), n, 0.05)
        return (
            f"; {needed:,} requests failing at this rate would settle it ({_blocks(needed / per_block - stage.blocks, stage)})"
            if needed
            else ""
        )
    if (reach := _reach(judged)) is None:
        return ""
    more = prompts_to_settle(reach, n) if asked.kind == "quality" else blocks_to_settle(reach, stage.blocks)
    if more is None:
        return "; it is so near its limit that more data will hardly settle it"
    if asked.kind == "quality":
        return f"; about {more:,} prompts instead of {n:,} would settle it"
    return f"; {_blocks(more - stage.blocks, stage)} would settle it"


def blocks_to_settle(reach: float, blocks: int) -> int | None:
    """How many blocks in all would pull in a bound that is `reach` times as far from the value as the limit, if the value stays.

    As t over the blocks shrinks. None where it takes more than `HOPELESS` times as many.
    """

    if reach > sqrt(HOPELESS) * 2 or blocks < 2:
        return None

    def width(k: int) -> float:
        return float(stdtrit(k - 1, 0.95)) / sqrt(k)

    needed = smallest(blocks, lambda k: reach * width(k) <= width(blocks))
    return needed if 0 < needed <= HOPELESS * blocks else None


def prompts_to_settle(reach: float, prompts: int) -> int | None:
    """The same of prompts, whose bounds shrink with the root of their number."""
    return ceil(prompts * reach**2) if reach**2 <= HOPELESS else None


def _reach(judged: Judged) -> float | None:
    """How far the bound in doubt is from the value, in distances of the limit from it (in logarithms where all are positive).

    None where the data bound nothing on the limit's side.
    """
    value, limit = judged.value.value, judged.limit
    assert value is not None and limit is not None
    if value == limit:
        return inf
    bounds = [b for b in (judged.pessimistic, judged.optimistic) if b is not None and (b - value) * (limit - value) > 0]
    if not bounds:
        return None
    if min(value, limit, *bounds) > 0:
        return log(bounds[0] / value) / log(limit / value)
    return (bounds[0] - value) / (limit - value)


def _blocks(count: float, stage: StageSummary) -> str:
    more = max(1, ceil(count))
    each = stage.window_s / stage.blocks
    return f"about {more:,} more block{'s' if more > 1 else ''} of this size, {duration(more * each)} of load"


def _headline(
    name: str, decision: Decision, objectives: Sequence[Objective], binding: Objective | None, stage: StageSummary | None
) -> str:
    if stage is None:
        return f"INCONCLUSIVE on {name}: it was not measured"
    if stage.validity.level == "INVALID":
        return f"INCONCLUSIVE on {name}: the measurement is not valid: {stage.validity.reasons[0].partition(': ')[2]}"
    if binding is None:
        return f"INCONCLUSIVE on {name}: nothing is asked of it; write slo, quality or budget into the experiment"
    if decision == "SHIP":
        return f"SHIP {name}: all {len(objectives)} objectives hold; the tightest: {binding.sentence}"
    if decision == "DON'T SHIP":
        others = sum(objective.outcome == "fails" for objective in objectives) - 1
        more = f"; {others} more objective{'s' if others > 1 else ''} fail{'s' if others == 1 else ''}" if others else ""
        return f"DON'T SHIP {name}: {binding.sentence}{more}"
    return f"INCONCLUSIVE on {name}: {binding.sentence}"


def _reasons(objectives: Sequence[Objective], stage: StageSummary | None) -> list[str]:
    """Each objective's sentence, the failing ones first, then what else a reader of the verdict must know."""
    order = ("fails", "unsettled", "holds")
    reasons = [o.sentence for o in sorted(objectives, key=lambda o: order.index(o.outcome))]
    if stage is None:
        return reasons
    reasons += stage.validity.reasons
    failed = stage.planned - stage.succeeded
    if failed and not any(o.metric == "error_rate" for o in objectives):
        reasons.append(
            f"{failed} of {stage.planned} requests failed, and the slo names no error_rate: percentiles are of the others"
        )
    return reasons


def _shown(variant: VariantSummary, decision: Decision, summary: Summary) -> list[str]:
    """Where nothing is decided: what change against the baseline the blocks could have shown."""
    found = summary.resolution.get(variant.variant)
    return [found.sentence] if found is not None and decision == "INCONCLUSIVE" else []


def _ranked(summary: Summary, decisions: dict[str, Decision]) -> list[str]:
    """The variants that may ship, best first: cheap and fast ones among those not shown to be under the best quality."""
    ready = [variant for variant in summary.variants if decisions[variant.variant] == "SHIP"]
    if not ready:
        return []
    best = max(ready, key=lambda v: v.metrics["quality"].value or 0.0).metrics["quality"]

    def rank(variant: VariantSummary) -> tuple[bool, bool, float, float]:
        stage, quality = _stage(variant), variant.metrics["quality"].value or 0.0
        latency = stage.metrics["latency_mean"].value if stage else None
        cost = variant.metrics["cost_per_request"].value
        return (
            quality < (best.low or 0.0),
            variant.variant == summary.baseline,
            round(log(cost), 1) if cost else 0.0,
            latency if latency is not None else float("inf"),
        )

    return [variant.variant for variant in sorted(ready, key=rank)]


def _recommended(summary: Summary, decisions: dict[str, Decision]) -> str | None:
    return next(iter(_ranked(summary, decisions)), None)


def _overall(summary: Summary, decisions: dict[str, Decision], recommended: str | None) -> str:
    if recommended is None:
        undecided_ = [name for name, decision in decisions.items() if decision == "INCONCLUSIVE"]
        rest = f"; not settled: {', '.join(undecided_)}" if undecided_ else ""
        return f"No variant may ship yet{rest}."
    others = [name for name in _ranked(summary, decisions) if name != recommended]
    also = f" ({', '.join(others)} would pass too)" if others else ""
    if recommended == summary.baseline:
        return f"Keep {recommended}: it meets every objective, and no other variant is shown to{also}."
    return f"Ship {recommended}: it meets every objective{also}."
