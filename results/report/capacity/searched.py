"""The section "Highest rate": what a search showed of each variant, and its probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from foundation.format import between, capital, plain, quantity, significant
from foundation.run.journal import Damage
from foundation.run.json_files import read_json
from foundation.run.layout import SEARCH_FILE
from results.capacity.search.record import CapacitySearch, ProbedShare, ProbeRecord, VariantSearch
from results.metrics import RECORDS, label_of
from results.report.capacity.table import Fact, FactCell, FactTable, fact_table
from results.report.figures.rate_curve import (
    HeldRange,
    MeasuredPoint,
    RatePane,
    VariantRates,
    rate_curve,
)
from results.report.figures.spread import LimitLine
from results.summary import Estimate

_PROBES = (
    "A marker is a probe: the share of its requests that were over the limit, with the 99 % "
    "interval that the search counts by. The line is the share that the SLO allows. The upright "
    "shade: from the highest rate that was shown to hold to the lowest that was shown to fail. A "
    "pale probe does not count: the load generator was late. Probes at more than one and a half "
    "times the rate that failed are not drawn."
)
_FAR = 1.5


@dataclass(frozen=True)
class SearchWords:
    """What a search says without a figure; only sentences for a damaged file.

    `sentences`: pairs of a variant, or "", and its outcome.
    """

    lead: str
    table: FactTable
    sentences: list[tuple[str, str]]
    notes: list[str]


@dataclass(frozen=True)
class SearchSection:
    """The words, and the figure of each variant that was probed."""

    words: SearchWords
    plots: list[tuple[str, Markup]]
    caption: str


def words(run: Path) -> SearchWords | None:
    """What the search of a run showed; None without one."""
    search = read_json(run, SEARCH_FILE, CapacitySearch)
    if isinstance(search, Damage):
        return SearchWords("", FactTable([], [], []), [("", str(search))], [])
    return None if search is None else search_words(search)


def section(run: Path, slots: Mapping[str, int]) -> SearchSection | None:
    """The section of a run's search; None without one. `slots`: see `search_section`."""
    search, said = read_json(run, SEARCH_FILE, CapacitySearch), words(run)
    if isinstance(search, CapacitySearch):
        return search_section(search, slots)
    return None if said is None else SearchSection(said, [], "")


def search_words(search: CapacitySearch) -> SearchWords:
    """The interval of each variant, side by side."""
    limits = ", ".join(f"{label_of(metric)} ≤ {text}" for metric, text in search.slo.items())
    rows = [(label, unit, [read(v) for v in search.variants]) for label, unit, read in _ROWS]
    return SearchWords(
        lead=(
            f"The highest rate with {limits} lies between a rate that was shown to hold and one "
            f"that was shown to fail, {quantity(search.confidence, 'share')} sure. Rates up to "
            f"{quantity(search.max_rate, 'requests/s')} were tried."
        ),
        table=fact_table([v.variant for v in search.variants], rows),
        sentences=[(v.variant, v.sentence) for v in search.variants],
        notes=list(search.notes),
    )


def search_section(search: CapacitySearch, slots: Mapping[str, int]) -> SearchSection:
    """The section of a search; `slots`: each variant's place, which decides its colour."""
    plots = [
        (each.variant, rate_curve(_curve(each, search.slo, slots.get(each.variant, 0))))
        for each in search.variants
        if each.probes
    ]
    return SearchSection(search_words(search), plots, _PROBES)


def _end(rate: float | None, absent: str) -> FactCell:
    return absent if rate is None else Fact(significant(rate))


def _expected(variant: VariantSearch) -> FactCell:
    low, high = variant.prior_low, variant.prior_high
    if low is None:
        return None
    return Fact(f"≥ {significant(low)}" if high is None else between(f"{low:.3g}", f"{high:.3g}"))


_ROWS: Sequence[tuple[str, str, Callable[[VariantSearch], FactCell]]] = (
    ("Holds", "requests/s", lambda v: _end(v.holds, "no rate was shown to hold")),
    ("Fails at", "requests/s", lambda v: _end(v.fails, "no rate was shown to fail")),
    ("Expected by its model", "requests/s", _expected),
    ("Replicas", "", lambda v: Fact(str(v.replicas)) if v.replicas > 1 else None),
    ("Probes", "", lambda v: Fact(str(len(v.probes)))),
    ("Requests", "", lambda v: Fact(plain(sum(probe.requests for probe in v.probes), 0))),
)


def _curve(variant: VariantSearch, slo: Mapping[str, str], slot: int) -> VariantRates:
    held = None if variant.holds is None else HeldRange(variant.holds, variant.fails)
    rates = [probe.rate for probe in variant.probes]
    highest = _FAR * min([max(rates), *([] if variant.fails is None else [variant.fails])])
    panes = [_pane(variant.probes, metric, text, highest) for metric, text in slo.items()]
    return VariantRates(variant.variant, slot, panes, held, replicas=variant.replicas)


def _pane(probes: Sequence[ProbeRecord], metric: str, text: str, highest: float) -> RatePane:
    """The share of requests over one limit, by rate up to the `highest`."""
    allowed = max((probe.shares[metric].allowed for probe in probes), default=0.0)
    points = [
        MeasuredPoint(probe.rate, _estimate(probe.shares[metric]), probe.doubt or "")
        for probe in probes
        if probe.shares[metric].requests and probe.rate <= highest
    ]
    line = LimitLine(allowed, None, f"SLO ≤ {quantity(allowed, 'share')}")
    return RatePane(_over(metric, text), "share", points, None, line)


def _over(metric: str, text: str) -> str:
    """What the requests that count against a limit have: "TTFT over 500ms"."""
    record = RECORDS.get(metric)
    if record is None or record.kind == "share":
        return capital(label_of(metric))
    return capital(f"{record.label.removesuffix(f' {record.statistic}')} over {text}")


def _estimate(share: ProbedShare) -> Estimate:
    return Estimate(
        value=share.over / share.requests, low=share.low, high=share.high, n=share.requests
    )
