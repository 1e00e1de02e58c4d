"""Where an engine step's time goes: a table of groups from the run's last `dyno profile`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foundation.format import ABSENT
from foundation.run.journal import Damage
from foundation.run.json_files import read_json
from foundation.run.layout import RunDirectory
from results.profile.groups import TITLES
from results.profile.record import FILE, Profile, VariantProfile


@dataclass(frozen=True)
class ProfileSection:
    """A table of ms per step by group, and sentences; only sentences for a damaged file."""

    lead: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    sentences: list[str]


def section(run: Path) -> ProfileSection | None:
    """The section of a run; None where nothing was profiled."""
    file = RunDirectory(run).profile / FILE
    profile = read_json(run, str(file.relative_to(run)), Profile)
    if profile is None:
        return None
    if isinstance(profile, Damage):
        return ProfileSection("", [], [], [str(profile)])
    return ProfileSection(_lead(profile), columns(profile), rows(profile), _sentences(profile))


def _lead(profile: Profile) -> str:
    return (
        f"Milliseconds of a mean engine step under the load of stage {profile.stage}, from a "
        f"separate load with vLLM's profiler, on {profile.processor}. The profiler itself slows "
        "the host."
    )


def columns(profile: Profile) -> list[str]:
    """The heads of the columns of `rows`, without the group's."""
    names = [column for v in profile.variants for column in (v.variant, "share")]
    return names + (["difference"] if profile.comparison else [])


def rows(profile: Profile, decimals: int = 2, without: str = ABSENT) -> list[tuple[str, list[str]]]:
    """A row for each group that any variant has, and one for the whole step.

    Times are ms with so many decimals. `without` stands where a variant has no such group.
    """
    by_group = [{g.group: g for g in v.groups} for v in profile.variants]
    compared = profile.comparison
    differences = {d.group: d.ms_per_step for d in compared.groups} if compared else {}
    table = []
    for group, title in TITLES.items():
        times = [each.get(group) for each in by_group]
        if not any(times):
            continue
        cells = []
        for time in times:
            shown = [f"{time.ms_per_step:.{decimals}f}", f"{time.share:.1%}"] if time else None
            cells += shown or [without, without]
        if compared:
            cells.append(f"{differences[group]:+.{decimals}f}")
        table.append((title, cells))
    steps = [f"{v.traced_ms / v.steps:.{decimals}f}" for v in profile.variants]
    whole = [cell for step in steps for cell in (step, "")]
    change = [f"{compared.ms_per_step:+.{decimals}f}"] if compared else []
    table.append(("a step", whole + change))
    return table


def _sentences(profile: Profile) -> list[str]:
    sentences = [sentence for v in profile.variants for sentence in _of_variant(v)]
    return sentences + (profile.comparison.notes if profile.comparison else [])


def _of_variant(profile: VariantProfile) -> list[str]:
    limit = profile.roofline
    bound = limit.sentence if limit else f"{profile.variant} has no roofline: {profile.no_roofline}"
    top = ", ".join(f"{o.operator} {o.ms_per_step:.2f} ms" for o in profile.operators[:3])
    operators = f"{profile.variant}: most time goes to {top}"
    return [bound, operators, *(f"{profile.variant}: {note}" for note in profile.notes)]
