"""What more replicas would do for a variant, from the model of its engine."""

from __future__ import annotations

from math import ceil

from dyno.improve.measured_run import MeasuredRun
from dyno.pipeline.capacity import RunModels
from foundation.errors import BadInput
from results.capacity.plan.replica_rate import ModelledRate
from results.decision.advice import binding_case, remedies_for
from results.decision.remedies.engine import REPLICAS
from results.decision.verdict import binding_of
from results.summary import VariantVerdict


def replicas_words(run: MeasuredRun, verdict: VariantVerdict) -> str | None:
    """How many replicas hold the load that was offered; None where waiting does not bind."""
    variant = next(v for v in run.summary.variants if v.variant == verdict.variant)
    stage, binding = variant.at_judged_stage, binding_of(verdict.objectives)
    if stage is None or binding is None or stage.offered_rate is None:
        return None
    case = binding_case(variant, stage, binding, run.summary, run.inputs)
    if all(remedy.kind != REPLICAS for remedy in remedies_for(case)):
        return None
    try:
        modelled = RunModels.of(run.inputs).rates(run.summary, run.inputs)[verdict.variant]
    except BadInput as error:
        modelled = str(error)
    return replicas_sentence(verdict.variant, stage.offered_rate, modelled)


def replicas_sentence(variant: str, offered: float, modelled: ModelledRate | str) -> str:
    """The replicas that hold `offered` requests/s, or why nobody knows.

    `modelled`: what one replica holds; a text says why there is no model. The lower end of its
    interval counts.
    """
    if isinstance(modelled, str):
        return f"no model says ({modelled})"
    rate = modelled.rate
    if not rate.value:
        return rate.reason or "the model names no rate"
    held = rate.low or rate.value
    count = ceil(offered / held)
    return (
        f"the engine model says that one replica of {variant} holds {held:.3g} requests/s "
        f"within the SLO, so {count} hold{'s' if count == 1 else ''} the {offered:.3g} "
        f"that were offered (dyno plan RUN --audit measures it)"
    )
