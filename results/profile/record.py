"""The schema of `profile/profile.json`: where the engine steps of one or two variants spend time.

Times are ms unless named otherwise. A number that can't be had is null, with its reason.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

SCHEMA_VERSION = 1
FILE = "profile.json"


class GroupTime(msgspec.Struct, frozen=True, kw_only=True):
    """A group's time over the traced steps; `share` is of the traced time."""

    group: str
    title: str
    ms: float
    ms_per_step: float
    share: float


class OperatorTime(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's or kernel's own time, without what it calls, within one group."""

    operator: str
    group: str
    calls: int
    ms: float
    ms_per_step: float


class StepTokens(msgspec.Struct, frozen=True, kw_only=True):
    """What the mean step computes: requests, and tokens of prompts and of answers."""

    requests: float
    prompt_tokens: float
    answer_tokens: float


class Roofline(msgspec.Struct, frozen=True, kw_only=True):
    """What the steps need against what the machine can do.

    `limit_ms_per_step`: the mean over the steps of the longer of their transfer and their
    arithmetic at the machine's measured limits. `share` is that over the time per step that is not
    idle. `bound`: which of the two takes longer in the steps' sum.
    """

    bound: str
    share: float
    limit_ms_per_step: float
    busy_ms_per_step: float
    gigabytes_per_step: float
    gigaflops_per_step: float
    machine_gigabytes_per_s: float
    machine_gigaflops_per_s: float
    arithmetic: str
    sentence: str


class VariantProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One variant's traced steps.

    `unattributed_ms` is the traced time less the groups' sum. `trace`: the file beside this one for
    Perfetto, or null where it was too large to keep.
    """

    variant: str
    device: str
    steps: Annotated[int, msgspec.Meta(ge=1)]
    traced_ms: float
    tokens: StepTokens
    groups: list[GroupTime]
    operators: list[OperatorTime]
    unattributed_ms: float
    trace: str | None
    roofline: Roofline | None = None
    no_roofline: str | None = None
    notes: list[str] = []


class GroupDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A group's time per step in the variant less that in the other one."""

    group: str
    title: str
    ms_per_step: float


class ProfileComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Why the steps of `variant` take longer or shorter than those of `against`.

    The groups add up to `ms_per_step`. `notes` say where the steps are not alike.
    """

    variant: str
    against: str
    ms_per_step: float
    groups: list[GroupDifference]
    notes: list[str]


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The file `profile.json`."""

    experiment: str
    stage: str
    iterations: int
    processor: str
    variants: list[VariantProfile]
    comparison: ProfileComparison | None
    schema_version: int = SCHEMA_VERSION
