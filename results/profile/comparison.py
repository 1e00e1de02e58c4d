"""Why two variants' engine steps differ: each group's time per step, less the other's."""

from __future__ import annotations

from results.profile.groups import TITLES
from results.profile.record import GroupDifference, ProfileComparison, VariantProfile

_ALIKE = 0.1
"""Steps whose mean tokens differ by more than this share are not like for like."""


def compare(variant: VariantProfile, against: VariantProfile) -> ProfileComparison:
    """The variant less the other one, by group; the groups add up to the whole."""
    times = [{g.group: g.ms_per_step for g in each.groups} for each in (variant, against)]
    groups = [
        GroupDifference(
            group=group,
            title=title,
            ms_per_step=times[0].get(group, 0.0) - times[1].get(group, 0.0),
        )
        for group, title in TITLES.items()
        if group in times[0] or group in times[1]
    ]
    return ProfileComparison(
        variant=variant.variant,
        against=against.variant,
        ms_per_step=sum(each.ms_per_step for each in groups),
        groups=groups,
        notes=_unlike(variant, against),
    )


def _unlike(variant: VariantProfile, against: VariantProfile) -> list[str]:
    """How the mean steps differ in their tokens."""
    notes = []
    for name, words in (("prompt_tokens", "prompt"), ("answer_tokens", "answer")):
        ours, theirs = getattr(variant.tokens, name), getattr(against.tokens, name)
        if abs(ours - theirs) > _ALIKE * max(ours, theirs):
            notes.append(
                f"the steps are not alike: {variant.variant}'s hold {ours:.1f} {words} tokens, "
                f"{against.variant}'s {theirs:.1f}"
            )
    return notes
