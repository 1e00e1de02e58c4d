"""Notes on a whole run: missing parts, the baseline's own noise, and variants without turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from foundation.format import percent
from foundation.run.ceiling import Ceiling
from foundation.run.journal import Damage, Prompts, damage_in_words, journal_files
from results.comparison.variants import reach_of
from results.inputs import RunInputs
from results.measures.cost import is_metered
from results.measures.measured import MeasuredVariant
from results.metrics import METRICS
from results.summary import Estimate, VariantSummary

# Of fewer pairs of blocks an A/A comparison says only that they are too few: two give an interval
# 13 standard errors wide.
FEWEST_PAIRS = 3


def noise_notes(baseline: str, floor: Mapping[str, Estimate]) -> list[str]:
    """How far the baseline is from itself, in the numbers that are looked at first."""
    reach = {
        METRICS[key].label: x
        for key in ("latency_p50", "latency_p95")
        if key in floor and floor[key].n >= FEWEST_PAIRS and (x := reach_of(floor[key])) is not None
    }
    notes = []
    if reach:
        words = " and ".join(f"{percent(x)} in {label}" for label, x in reach.items())
        notes.append(
            f"{baseline}'s own blocks differ from one another by up to {words}: less than that is "
            "no news"
        )
    median = floor.get("latency_p50")  # one number only: of many, some would differ by chance
    if (
        median
        and median.low is not None
        and median.high is not None
        and not median.low <= 0 <= median.high
    ):
        notes.append(
            f"{baseline}'s median latency differs from itself by more than chance: the machine "
            "changed its pace during the run"
        )
    return notes


def race_notes(inputs: RunInputs, measured: Sequence[MeasuredVariant]) -> list[str]:
    """What those that left a race were not asked."""
    if inputs.race is None or inputs.through is not None or not inputs.quality.probes:
        return []
    lost = {each.variant for each in inputs.race.departures if each.is_lost}
    unasked = [m.record.name for m in measured if m.record.name in lost and not m.probes]
    if not unasked:
        return []
    return [f"{', '.join(unasked)}: asked no probes after leaving the race"]


def turns_notes(inputs: RunInputs, variants: Sequence[VariantSummary]) -> list[str]:
    """Which variants were not measured by turns with the baseline, and what that means."""
    apart = [
        v.variant
        for v in variants
        if (stage := v.at_judged_stage) is not None and stage.alternated is False
    ]
    means = (
        "so differences to it hold whatever the machine did in between, which no interval covers"
    )
    return (
        [
            f"{', '.join(apart)}: not measured by turns with {inputs.baseline} but before or "
            f"after it, {means}"
        ]
        if apart
        else []
    )


def _strays(inputs: RunInputs) -> list[str]:
    """Folders beside those of the variants that hold journals."""
    names = {record.name for record in inputs.variants}
    folders = sorted(
        folder
        for folder in (inputs.run / "load").iterdir()
        if folder.is_dir() and folder.name not in names
    )
    return [folder.name for folder in folders if journal_files(folder)]


def run_notes(
    inputs: RunInputs,
    measured: Sequence[MeasuredVariant],
    prompts: Prompts,
    ceiling: Ceiling | Damage | None,
) -> list[str]:
    """What holds for the run as a whole."""
    notes = [
        f"{variant.record.name} has no journal of stage {inputs.judged_stage}, so there is "
        "nothing to judge it by"
        for variant in measured
        if inputs.judged_stage not in variant.stages
    ]
    notes += [
        f"{variant.record.name}: {damage_in_words(variant.unread)}"
        for variant in measured
        if variant.unread
    ]
    if prompts.damage:
        notes.append(damage_in_words(prompts.damage))
    notes += [
        f"{variant.record.name}: {note}" for variant in measured for note in variant.score_notes
    ]
    notes += dict.fromkeys(each.engine_note for each in measured if each.engine_note)
    if strays := _strays(inputs):
        notes.append(
            f"load/ holds journals of no variant of this run: {', '.join(strays)}; no number "
            "holds them"
        )
    if not prompts:
        notes.append("the run has no prompts.jsonl: quality can't be scored")
    if isinstance(ceiling, Damage):
        notes.append(
            f"{ceiling}: the load generator's ceiling on the machine of this run is not known"
        )
    elif ceiling is None:
        notes.append(
            "the load generator's ceiling on this machine is not known: `dyno calibrate` measures "
            "it, once, in a minute"
        )
    price = inputs.budget.price if inputs.budget else None
    if price and is_metered(price):
        free = [
            side
            for side, each in (("input", price.input_price), ("output", price.output_price))
            if each is None
        ]
        notes += [f"{side} tokens have no price: they count as free" for side in free]
    return notes
