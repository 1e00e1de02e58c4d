"""A variant's profile from its timeline: time by group, the top operators, the mean step."""

from __future__ import annotations

import re
from collections import defaultdict

from results.profile.groups import IDLE, TITLES
from results.profile.record import GroupTime, OperatorTime, StepTokens, VariantProfile
from results.profile.timeline import Step, Timeline

TOP = 20
_LONGEST_NAME = 80
_FEW_STEPS = 8
# CUTLASS launches each of its kernels, and FlashAttention's, through these templates.
_WRAPPERS = re.compile(r"(?:cutlass::(?:device_kernel|Kernel2?)|\w+::enable_sm\w+)<(?=[A-Za-z_])")


def breakdown(variant: str, device: str, timeline: Timeline) -> VariantProfile:
    """The profile of a variant, without roofline and trace."""
    by_group: defaultdict[str, float] = defaultdict(float)
    by_operator: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for each in timeline.slices:
        by_group[each.group] += each.own
        if each.operator:
            by_operator[short_name(each.operator), each.group].append(each.own)
    steps = len(timeline.steps)
    operators = [
        OperatorTime(
            operator=name,
            group=group,
            calls=len(times),
            ms=sum(times) / 1e3,
            ms_per_step=sum(times) / 1e3 / steps,
        )
        for (name, group), times in by_operator.items()
    ]
    return VariantProfile(
        variant=variant,
        device=device,
        steps=steps,
        traced_ms=timeline.traced / 1e3,
        tokens=_mean_step(timeline.steps),
        groups=[
            GroupTime(
                group=group,
                title=title,
                ms=by_group[group] / 1e3,
                ms_per_step=by_group[group] / 1e3 / steps,
                share=by_group[group] / timeline.traced,
            )
            for group, title in TITLES.items()
            if by_group[group] > 0
        ],
        operators=sorted(operators, key=lambda each: (-each.ms, each.operator))[:TOP],
        unattributed_ms=(timeline.traced - sum(by_group.values())) / 1e3,
        trace=None,
        notes=_notes(timeline),
    )


def short_name(operator: str) -> str:
    """The name without template and call arguments, for kernels of C++ inside their wrappers."""
    name = operator.removeprefix("void ")
    while wrapper := _WRAPPERS.match(name):
        name = name[wrapper.end() :]
    for sign in "<(":
        if (at := name.find(sign)) > 0:
            name = name[:at]
    return name[:_LONGEST_NAME]


def busy_ms(profile: VariantProfile) -> float:
    """The traced time in which the engine was not idle."""
    return profile.traced_ms - sum(each.ms for each in profile.groups if each.group == IDLE)


def _mean_step(steps: list[Step]) -> StepTokens:
    count = len(steps)
    return StepTokens(
        requests=sum(s.context.requests + s.generation.requests for s in steps) / count,
        prompt_tokens=sum(s.context.tokens for s in steps) / count,
        answer_tokens=sum(s.generation.tokens for s in steps) / count,
    )


def _notes(timeline: Timeline) -> list[str]:
    notes = []
    if len(timeline.steps) < _FEW_STEPS:
        notes.append(f"only {len(timeline.steps)} steps were traced; a mean over them says little")
    if timeline.elsewhere > 0.01 * timeline.traced:
        notes.append(
            f"{timeline.elsewhere / 1e3:,.1f} ms of operators ran on other threads meanwhile, "
            "and stand in no group"
        )
    return notes
