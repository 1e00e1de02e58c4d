"""What a plan says in words and tables, the same for the page and for the Markdown file."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.format import ABSENT, quantity, rate_text
from results.capacity.plan.capacity_plan import Audit, CapacityPlan, ScaledCapacity
from results.capacity.plan.merits import deciding_cost
from results.report.capacity.table import Fact, FactTable, estimate_fact, facts

SCALED = (
    "Variant",
    "Accelerator",
    "Requests/s a replica",
    "Replicas",
    "$ a month",
    "$ a million",
    "Rule",
)
"""The columns of `CapacityWords.scaled`."""


@dataclass(frozen=True)
class CapacityWords:
    """The answer, the table of all variants, and sentences.

    `sentences`, `what_if` and `unknown` are pairs of a variant, a question or "", and a sentence.
    `unknown`: what the plan could not know. `audits`: each load that the plan named, and what came
    of it. `investments`: whether tuning pays, by variant.
    """

    answer: str
    lead: str
    table: FactTable
    sentences: list[tuple[str, str]]
    break_even: list[str]
    scaled: list[tuple[str, ...]]
    what_if: list[tuple[str, str]]
    unknown: list[tuple[str, str]]
    audits: list[str]
    investments: list[tuple[str, str]]


def capacity_words(plan: CapacityPlan) -> CapacityWords:
    """All that can be said of a plan without a figure."""
    return CapacityWords(
        answer=plan.sentence,
        lead=_lead(plan),
        table=facts(plan),
        sentences=[(v.variant, v.sentence) for v in plan.variants],
        break_even=[each.sentence for each in plan.break_even],
        scaled=[_scaled(each) for each in plan.scaled],
        what_if=[(each.question, each.sentence) for each in plan.what_if],
        unknown=_unknown(plan),
        audits=[_audit(each) for each in plan.audits],
        investments=[(each.variant, each.sentence) for each in plan.investments],
    )


def _lead(plan: CapacityPlan) -> str:
    """What was planned for, in one sentence."""
    mean = "" if plan.mean_rate is None else f", {rate_text(plan.mean_rate)} requests/s on average"
    burst = "" if plan.burst == 1 else f", bursts of {plan.burst:g} times that"
    return (
        f"For a peak of {rate_text(plan.peak_rate)} requests/s{mean}{burst}, with "
        f"{100 * plan.headroom:.3g} % of every replica kept free and {plan.spare} spare."
    )


def _unknown(plan: CapacityPlan) -> list[tuple[str, str]]:
    """The plan's own notes, then each of the variants', with those that have it."""
    variants_of: dict[str, list[str]] = {}
    for each in plan.variants:
        for note in (*([each.contradiction] if each.contradiction else []), *each.notes):
            variants_of.setdefault(note, []).append(each.variant)
    shared = [(", ".join(dict.fromkeys(names)), note) for note, names in variants_of.items()]
    return [*(("", note) for note in plan.notes), *shared]


def _scaled(each: ScaledCapacity) -> tuple[str, ...]:
    """A row of the estimates, in the order of `SCALED`."""
    held, month = estimate_fact(each.rate, ""), each.peak.cost_per_month
    million = deciding_cost(each.cost_per_million)
    return (
        each.variant,
        each.accelerator,
        held.short if isinstance(held, Fact) else ABSENT,
        f"{each.peak.replicas:,}",
        ABSENT if month is None else quantity(month, "$"),
        ABSENT if million is None else quantity(million, "$"),
        f"x {each.factor:.3g}, {each.rule}",
    )


def _audit(each: Audit) -> str:
    """What was expected of the load, or what came of it, and when."""
    return f"{each.sentence} ({each.measured_at})" if each.measured_at else each.sentence
