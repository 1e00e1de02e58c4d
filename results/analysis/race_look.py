"""A look at a race: the journals so far, judged with the look's share of the error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from foundation.run.journal import read_prompts
from results.analysis.candidate import Candidate
from results.analysis.run_summary import summarise
from results.decision.elimination import Standings, departures
from results.decision.judging import judge_slo
from results.decision.looks import LookPlan
from results.decision.objectives import Tails, objective_specs, outcome_of
from results.decision.rivals import RaceCriteria, Rival, Worse, worse_in_everything
from results.decision.verdict import judge
from results.inputs import RunInputs
from results.measures.measured import MeasuredVariant, read_measured
from results.measures.request_limits import request_limits
from results.measures.stage_metrics import stage_metrics
from results.metrics import RECORDS
from results.race import Departure, Race
from results.summary import Summary, VariantSummary


def look(
    inputs: RunInputs,
    plan: LookPlan,
    block: int,
    left: Sequence[str],
    departed: Sequence[Departure],
) -> list[Departure]:
    """Who leaves once each variant in `left` has `block` blocks.

    What came later is not looked at, so a race that goes on after a break repeats its departures:
    neither later blocks, nor probes, nor that an earlier try of a variant failed.
    """
    errors = plan.at_look(block, plan.candidates(departed))
    at = replace(
        inputs,
        through=block,
        variants=[each for each in inputs.variants if each.name in {*left, inputs.baseline}],
        race=Race(
            departures=[each for each in departed if each.variant == inputs.baseline],
            errors=dict.fromkeys(left, errors),
        ),
        failed={name: why for name, why in inputs.failed.items() if name not in left},
    )
    prompts = read_prompts(at.run)
    measured = [replace(each, probes={}, probe_scores={}) for each in read_measured(at, prompts)]
    summary = summarise(at, measured, prompts)
    verdicts = judge(summary, at)
    names = [each.name for each in at.variants]
    specs = [spec for name in names for spec in objective_specs(at, name)]
    standings = Standings(
        verdicts=[verdict for verdict in verdicts.variants if verdict.variant in left],
        block=block,
        planned=plan.blocks,
        baseline=at.baseline if any(spec.relative for spec in specs) else None,
    )
    if any(spec.key.startswith("probe:") for spec in specs):  # probes come after the load
        return departures(standings, lambda ours, theirs: [])
    criteria = _criteria(at, measured)
    rivals = _rivals(at, summary, measured, plan.limits() / max(len(criteria.slos), 1))

    def compare(ours: str, theirs: str) -> list[Worse]:
        if ours not in rivals or theirs not in rivals:
            return []
        return worse_in_everything(
            rivals[ours], rivals[theirs], criteria, plan.worse(), plan.shares()
        )

    return departures(standings, compare)


def _criteria(inputs: RunInputs, measured: Sequence[MeasuredVariant]) -> RaceCriteria:
    base = next(each for each in measured if each.record.name == inputs.baseline)
    limits = inputs.slo.limits
    shares = {key: limit.absolute for key, limit in limits.items() if RECORDS[key].kind == "share"}
    return RaceCriteria(
        slos=[key for key in limits if key not in shares],
        shares=shares,
        price=inputs.budget.price if inputs.budget else None,
        limits=request_limits(inputs.slo, base.metrics.get(inputs.judged_stage, {})),
    )


def _rivals(
    inputs: RunInputs, summary: Summary, measured: Sequence[MeasuredVariant], tail: float
) -> Mapping[str, Rival]:
    """The variants that can be compared: their measurement is valid, and the load was held.

    `tail`: the probability with which a limit may falsely be shown to be kept.
    """
    by_name = {each.record.name: each for each in measured}
    base = by_name[inputs.baseline]
    names = [variant.variant for variant in summary.variants if _is_comparable(variant)]
    return {
        name: Rival(
            name=name,
            stage=by_name[name].stages[inputs.judged_stage],
            scores=by_name[name].scores,
            weights=by_name[name].record.weights,
            keeps=_kept(Candidate.of(inputs, by_name[name], base, None), tail),
        )
        for name in names
    }


def _kept(candidate: Candidate, tail: float) -> list[str]:
    """The times and rates whose limits a variant is shown to keep."""
    stage, tails = candidate.judged_stage, Tails(tail, tail)
    if stage is None:
        return []
    limits, baseline = candidate.limits(stage.stage), candidate.baseline(stage.stage)
    metrics = stage_metrics(stage, limits)
    judged = {
        spec: judge_slo(spec, stage, metrics[spec.metric], baseline, tails, limits)
        for spec in candidate.specs
        if spec.kind == "slo" and RECORDS[spec.metric].kind != "share"
    }
    return [spec.metric for spec, each in judged.items() if outcome_of(spec, each) == "holds"]


def _is_comparable(variant: VariantSummary) -> bool:
    stage = variant.at_judged_stage
    return (
        stage is not None
        and stage.validity.level != "INVALID"
        and (stage.held is True or stage.offered_rate is None)
    )
