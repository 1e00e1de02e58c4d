"""Which differences are shown, for all variants together: several chances to be lucky count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from results.statistics.intervals import holm
from results.summary import Difference, VariantSummary

Differences = Mapping[str, Difference]


def with_shown(variants: Sequence[VariantSummary]) -> list[VariantSummary]:
    """The variants with `differs` of every difference, by Holm's correction over the variants."""
    of_variants = _family([variant.differences for variant in variants])
    of_probes = _family([variant.probe_differences for variant in variants])
    names = {stage.stage for variant in variants for stage in variant.stages}
    stages = [{stage.stage: stage for stage in variant.stages} for variant in variants]
    of_stages = {
        name: _family([s[name].differences if name in s else {} for s in stages]) for name in names
    }
    return [
        replace(
            variant,
            differences=of_variants[i],
            probe_differences=of_probes[i],
            stages=[
                replace(stage, differences=of_stages[stage.stage][i]) for stage in variant.stages
            ],
        )
        for i, variant in enumerate(variants)
    ]


def _family(differences: Sequence[Differences]) -> list[dict[str, Difference]]:
    """The differences of each variant, corrected metric by metric over the variants."""
    keys = {key for changes in differences for key in changes}
    rejected = {key: holm(_p_values(differences, key)) for key in keys}
    return [
        {key: replace(change, differs=rejected[key].get(str(i))) for key, change in changes.items()}
        for i, changes in enumerate(differences)
    ]


def _p_values(differences: Sequence[Differences], key: str) -> dict[str, float]:
    """Of one metric, by the place of the variant."""
    return {
        str(i): p
        for i, changes in enumerate(differences)
        if key in changes and (p := changes[key].p) is not None
    }
