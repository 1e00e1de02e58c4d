"""Verdicts of chosen outcome, as a race takes them: one objective each."""

from __future__ import annotations

from results.metrics import RECORDS
from results.summary import Decision, Estimate, Objective, Outcome, VariantVerdict

DECISIONS: dict[Outcome, Decision] = {
    "holds": "SHIP",
    "fails": "DON'T SHIP",
    "unsettled": "INCONCLUSIVE",
}
OUTCOMES = {decision: outcome for outcome, decision in DECISIONS.items()}


def verdict(
    name: str, outcome: Outcome, metric: str, *, is_baseline: bool, is_judged: bool = True
) -> VariantVerdict:
    """A verdict on the limit of a time; `is_judged`: whether the variant has that limit."""
    label = RECORDS[metric].label
    objective = Objective(
        kind="slo",
        metric=metric,
        label=label,
        unit="ms",
        value=Estimate(value=0.0, n=1),
        limit=1.0,
        limit_text="",
        margin=None,
        outcome=outcome,
        sentence=f"{name}: {label}",
    )
    return VariantVerdict(
        variant=name,
        decision=DECISIONS[outcome],
        is_baseline=is_baseline,
        headline="",
        reasons=[],
        objectives=[objective] if is_judged else [],
        binding=label,
        question=None,
        advice=[],
    )
