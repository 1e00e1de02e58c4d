"""Cards: what the page and the Markdown file show of each variant's decision."""

from __future__ import annotations

from typing import Any

from foundation.format import ABSENT, beside, between, capital, change, points
from results.decision.objective_words import is_change, is_floor, sign, writer
from results.decision.sentences import together
from results.report.figures.gauge import gauge
from results.summary import Objective, Summary, VariantVerdict, Verdicts


def cards(summary: Summary, verdicts: Verdicts) -> list[dict[str, Any]]:
    """The recommended variant first, then SHIP, INCONCLUSIVE and DON'T SHIP.

    Among variants of one decision the baseline comes last.
    """
    rank = {"SHIP": 0, "INCONCLUSIVE": 1, "DON'T SHIP": 2}
    ordered = sorted(
        verdicts.variants,
        key=lambda v: (v.variant != verdicts.recommended, v.is_baseline, rank[v.decision]),
    )
    return [_card(summary, verdict) for verdict in ordered]


def _card(summary: Summary, verdict: VariantVerdict) -> dict[str, Any]:
    """One variant's card, without what its badge and its table of objectives say already."""
    variant = next((v for v in summary.variants if v.variant == verdict.variant), None)
    what = "" if variant is None else f"{variant.what} · prompt {variant.prompt_style}"
    headline = verdict.headline
    for lead in (
        f"{verdict.decision} {verdict.variant}: ",
        f"{verdict.decision} on {verdict.variant}: ",
    ):
        headline = headline.removeprefix(lead)
    redundant = {
        o.sentence for o in verdict.objectives if o.outcome == "holds" or o.sentence in headline
    }
    return {
        "variant": verdict.variant,
        "decision": verdict.decision,
        "is_baseline": verdict.is_baseline,
        "what": what,
        "headline": capital(headline),
        "binding": verdict.binding,
        "reasons": [
            capital(reason)
            for reason in together([r for r in verdict.reasons if r not in redundant])
        ],
        "question": verdict.question,
        "advice": verdict.advice,
        "outcomes": _outcomes(verdict),
        "objectives": [_objective(o, o.label == verdict.binding) for o in verdict.objectives],
    }


def _outcomes(verdict: VariantVerdict) -> list[tuple[str, str]]:
    """A sentence and its outcome for each objective, or for those that share one reason."""
    notes = {
        o.sentence: f"{o.outcome}{', binding' if o.label == verdict.binding else ''}"
        for o in verdict.objectives
    }
    return [(text, notes.get(text, "unsettled")) for text in together(list(notes))]


def _objective(objective: Objective, binding: bool) -> dict[str, Any]:
    value, low, high, limit = _texts(objective)
    return {
        "objective": objective,
        "binding": binding,
        "value": value or ABSENT,
        "bounds": _bounds(low, high),
        "limit": f"{sign(objective)} {limit}" if limit else objective.limit_text,
        "margin": _margin(objective),
        "gauge": gauge(objective, is_floor(objective)),
    }


def _texts(objective: Objective) -> tuple[str | None, str | None, str | None, str | None]:
    """The value, its bounds and the limit.

    Each has the digits that show it on its own side of the limit.
    """
    estimate, write = objective.value, writer(objective)
    numbers = [estimate.value, estimate.low, estimate.high]
    if objective.limit is None:
        value, low, high = (None if number is None else write(number, 0) for number in numbers)
        return value, low, high, None
    texts, limit = beside(
        [number for number in numbers if number is not None], objective.limit, write
    )
    written = iter(texts)
    value, low, high = (None if number is None else next(written) for number in numbers)
    return value, low, high, limit


def _bounds(low: str | None, high: str | None) -> str:
    if low and high:
        return between(low, high)
    return f"at most {high}" if high else f"at least {low}" if low else ""


def _margin(objective: Objective) -> str:
    """The margin as a share of the limit, or in points where the limit is itself a difference.

    A share of a limit of one point says nothing.
    """
    if objective.margin is None or objective.value.value is None or objective.limit is None:
        return ABSENT
    if not is_change(objective):
        return change(objective.margin)
    inside = objective.value.value - objective.limit
    return points(inside if is_floor(objective) else -inside)
