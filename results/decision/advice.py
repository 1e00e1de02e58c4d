"""What to try next: remedies for the objective that binds, the largest expected effect first."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from foundation.format import change, percent, points, quantity
from results.decision.binding_case import BindingCase, Remedy
from results.decision.patch import Patch
from results.decision.remedies import REMEDIES, failures, references
from results.inputs import RunInputs
from results.measures.validity import too_much_to_send
from results.metrics import RECORDS
from results.statistics.intervals import absent
from results.summary import Advice, More, Objective, StageSummary, Summary, VariantSummary


def advise(
    variant: VariantSummary,
    binding: Objective,
    summary: Summary,
    inputs: RunInputs,
    passing: Sequence[str],
) -> list[Advice]:
    """Remedies for one variant: a measured variant that passes, then more data, then the rest.

    Where the measurement is INVALID no remedy for the variant can be judged by it: a better
    measurement is the only one. Where the objective that binds can't be judged, a faster or better
    model is no remedy either.
    """
    stage = variant.at_judged_stage
    first = _measured(passing[0], binding, summary) if passing else []
    if stage is None:
        return first
    if stage.validity.level == "INVALID":
        return [*first, _measure_again(stage)]
    case = binding_case(variant, stage, binding, summary, inputs)
    if binding.outcome == "unsettled" and (longer := _more_data_for(case)) is not None:
        first = [*first, longer]
    return [*first, *(remedy.advice for remedy in remedies_for(case))]


def binding_case(
    variant: VariantSummary,
    stage: StageSummary,
    binding: Objective,
    summary: Summary,
    inputs: RunInputs,
) -> BindingCase:
    """What the variant's remedies are chosen by. `stage`: its judged one."""
    record = next(r for r in inputs.variants if r.name == variant.variant)
    measured = {each.variant: each for each in summary.variants}
    return BindingCase(variant, record, stage, binding, inputs, measured)


def remedies_for(case: BindingCase) -> list[Remedy]:
    """The remedies that apply, the largest expected effect first, those without a number last."""
    makers = REMEDIES if case.judged else (failures, references)
    remedies = [remedy for make in makers if (remedy := make(case)) is not None]
    return sorted(remedies, key=lambda r: 1.0 if r.expected is None else r.expected)


def _measured(name: str, binding: Objective, summary: Summary) -> list[Advice]:
    other = next(v for v in summary.variants if v.variant == name)
    stage = other.at_judged_stage
    measured = stage.metrics if stage else {}
    estimate = measured.get(binding.metric) or other.metrics.get(binding.metric)
    effect = "it meets every objective"
    if estimate is not None and estimate.value is not None and binding.value.value is not None:
        theirs, ours = (
            quantity(estimate.value, binding.unit),
            quantity(binding.value.value, binding.unit),
        )
        effect = f"{binding.label} {theirs} where this one has {ours}"
    keep = name == summary.baseline
    return [
        Advice(
            remedy=f"Keep {name}, the baseline, for now"
            if keep
            else f"Take {name} instead: {other.what}",
            why="It was measured beside this one and every objective holds.",
            effect=effect,
            source="this run",
        )
    ]


def _measure_again(stage: StageSummary) -> Advice:
    how = "put right first what is named here"
    if too_much_to_send(stage.validity):
        how = "at a lower rate, with a higher workload.max_in_flight, or with more workload.workers"
    return Advice(
        remedy=f"Measure again: {how}",
        why=f"Nothing is decided on this measurement: {'; '.join(stage.validity.reasons)}.",
        effect="numbers that can be judged",
        source="this run",
    )


def _more_data_for(case: BindingCase) -> Advice | None:
    """Only where it is known that more of the same would settle it, and how much that is."""
    more, stage = case.binding.more, case.stage
    if more is None:
        return _several_blocks(case) if stage.blocks == 1 and case.slow else None
    if more.total is None:
        return None
    why = f"The data do not settle it: {case.binding.sentence}."
    if more.unit == "prompts":
        return Advice(
            remedy=f"Score more prompts: about {more.total:,} instead of {case.binding.value.n:,}",
            why=why,
            effect=(
                "the interval of a score shrinks with the number of different prompts, not with "
                "asking them again"
            ),
            source="this run",
        )
    return Advice(
        remedy="Measure longer",
        why=why,
        effect="in four of five runs like this one so many blocks settle it"
        if more.to == "settle"
        else "enough requests for the percentile to be judged",
        source="this run",
        change=_with_blocks(blocks_needed(more, more.total, stage)),
    )


def blocks_needed(more: More, total: int, stage: StageSummary) -> int:
    """The blocks of `total` blocks or requests, more than there are."""
    blocks = total if more.unit == "blocks" else ceil(total * stage.blocks / stage.planned)
    return max(blocks, stage.blocks + 1)


def _several_blocks(case: BindingCase) -> Advice:
    return Advice(
        remedy="Measure in several blocks",
        why="One block does not tell how much blocks differ from one another.",
        effect="a spread between blocks, which tells how much data settle it",
        source="this run",
        change=_with_blocks(10),
    )


def _with_blocks(blocks: int) -> str:
    return Patch(sections={"workload": {"blocks": blocks}}).text


def worth_it(variant: VariantSummary, binding: Objective, summary: Summary) -> str | None:
    """The question for people if quality rose and the binding value got worse; None otherwise."""
    base = next((v for v in summary.variants if v.variant == summary.baseline), None)
    if base is None or base is variant:
        return None
    stages = [v.at_judged_stage for v in (base, variant)]
    scores = [v.metrics["quality"].value for v in (base, variant)]
    metric, label, unit = binding.metric, binding.label, binding.unit
    if binding.kind == "budget":
        metric, label, unit = "cost_per_request", "cost per request", "$"
    before, now = (
        (stage.metrics.get(metric) or v.metrics.get(metric) or absent("")).value if stage else None
        for v, stage in zip((base, variant), stages, strict=True)
    )
    if binding.kind == "quality" or not before or not now:
        return None
    falls = metric in RECORDS and RECORDS[metric].better == "higher"
    if (before / now if falls else now / before) < 1.02:
        return None
    if scores[0] is None or scores[1] is None or scores[1] <= scores[0]:
        return None
    rise = now / before - 1
    what = label.removesuffix(f" {metric.rpartition('_')[2]}")
    price = f"{rise + 1:.2g} times the {what}" if rise >= 1 else f"{change(rise)} {what}"
    return (
        f"Quality goes from {percent(scores[0])} to {percent(scores[1])} and {label} from "
        f"{quantity(before, unit)} to "
        f"{quantity(now, unit)}: is {points(scores[1] - scores[0])} of quality worth {price}?"
    )
