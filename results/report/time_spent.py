"""The section "Where the time goes": figures, table and notes of one load."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from foundation.format import ABSENT, capital, interval, quantity
from results.report.figures.waterfall import Bridge, bridge, key_of, stacks
from results.report.segments import NOTHING, milliseconds, name_of, source_note
from results.report.table import in_order, stage_of
from results.summary import Estimate, StageSummary, Summary, VariantSummary, Waterfall

_NONE = Estimate(value=None)
STATISTICS = ("mean", "share", "p50", "p95")


@dataclass(frozen=True)
class Line:
    """A segment or a sum of segments: value and interval of each of `STATISTICS`, as text."""

    label: str
    cells: list[tuple[str, str]]
    is_sum: bool = False


@dataclass(frozen=True)
class VariantTimes:
    """One variant's lines; times in ms."""

    name: str
    lines: list[Line]


@dataclass(frozen=True)
class Explained:
    """Why one variant's latency differs from the baseline's."""

    name: str
    sentence: str
    plot: Markup
    notes: list[str]


@dataclass(frozen=True)
class TimeSpent:
    """Where the time goes at one load.

    `notes` say of which variants they hold. `absent` says why nothing is known, of whom.
    """

    stage: str
    plot: Markup | None = None
    legend: Markup | None = None
    variants: list[VariantTimes] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    explained: list[Explained] = field(default_factory=list)
    absent: str = ""


def time_spent(summary: Summary, slots: dict[str, int], stage: str | None = None) -> TimeSpent:
    """The section's contents at a load, by default the judged one.

    `slots`: each variant's place, which decides its marker.
    """
    at = [(v, s) for v in in_order(summary) if (s := stage_of(v, stage)) is not None]
    rows = [(v.variant, s.waterfall) for v, s in at if s.waterfall is not None]
    known = [(name, w) for name, w in rows if w.total.value is not None]
    name = stage or next((s.stage for _, s in at), "")
    if not known:
        return TimeSpent(name, absent=_why_nothing([w for _, w in rows]))
    keys = dict.fromkeys(key for _, w in known for key in w.segments)
    return TimeSpent(
        stage=name,
        plot=stacks(known),
        legend=key_of(list(keys)),
        variants=[VariantTimes(name, _lines(w)) for name, w in known],
        notes=_notes(known),
        explained=_explained(summary, at, slots),
        absent=_without({v.variant for v, _ in at} - {name for name, _ in known}),
    )


def _why_nothing(waterfalls: list[Waterfall]) -> str:
    return next((w.total.reason for w in waterfalls if w.total.reason), NOTHING)


def _without(names: set[str]) -> str:
    return f"{', '.join(sorted(names))}: {NOTHING}" if names else ""


def _notes(rows: list[tuple[str, Waterfall]]) -> list[str]:
    """Who timed each variant, and the waterfalls' own notes, each once.

    A note names its variants unless it holds for all.
    """
    names: dict[str, list[str]] = {}
    for name, waterfall in rows:
        notes = (source_note(waterfall), *waterfall.notes, *_reasons(waterfall))
        for note in dict.fromkeys(notes):
            names.setdefault(note, []).append(name)
    return [
        capital(note) if len(each) == len(rows) else f"{', '.join(each)}: {note}"
        for note, each in names.items()
    ]


def _reasons(waterfall: Waterfall) -> list[str]:
    """Why a number of a segment is missing."""
    estimates = (
        each for s in waterfall.segments.values() for each in (s.mean, s.share, s.p50, s.p95)
    )
    return [each.reason for each in estimates if each.value is None and each.reason]


def _lines(waterfall: Waterfall) -> list[Line]:
    """A line a segment, then what they add up to."""
    lines = [
        Line(name_of(key), [_cell(s.mean), _share(s.share), _cell(s.p50), _cell(s.p95)])
        for key, s in waterfall.segments.items()
    ]
    sums = (("in all", waterfall.total), ("latency (to the last text)", waterfall.latency))
    none = [("", "")] * (len(STATISTICS) - 1)
    return lines + [Line(label, [_cell(e), *none], is_sum=True) for label, e in sums]


def _cell(estimate: Estimate) -> tuple[str, str]:
    """A time and its interval as text."""
    if estimate.value is None:
        return ABSENT, ""
    low, high = estimate.low, estimate.high
    around = "" if low is None or high is None else f"{milliseconds(low)} to {milliseconds(high)}"
    return milliseconds(estimate.value), around


def _share(estimate: Estimate) -> tuple[str, str]:
    return quantity(estimate.value, "share"), interval(estimate.low, estimate.high, "share")


def _explained(
    summary: Summary, at: list[tuple[VariantSummary, StageSummary]], slots: dict[str, int]
) -> list[Explained]:
    base = next((s for v, s in at if v.variant == summary.baseline), None)
    start = None if base is None else base.metrics.get("latency_mean", _NONE).value
    if start is None:
        return []
    baseline = (summary.baseline, slots[summary.baseline])
    return [
        Explained(
            variant.variant,
            difference.sentence,
            bridge(
                Bridge(
                    variant.variant,
                    baseline[0],
                    (slots[variant.variant], baseline[1]),
                    start,
                    difference,
                )
            ),
            difference.notes,
        )
        for variant, stage in at
        if (difference := stage.waterfall_difference) is not None
    ]
