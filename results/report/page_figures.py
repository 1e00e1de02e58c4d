"""Every figure of the page, from the summary, the verdicts and the journals' evidence."""

from __future__ import annotations

from functools import partial
from typing import Any

from markupsafe import Markup, escape

from foundation.format import capital, limit_text, written
from results.report.evidence import VariantEvidence
from results.report.figures import bars, spread, timeline, tradeoff
from results.report.figures.svg import STYLES, Drawing, dash, variant_class
from results.report.servers import Servers
from results.report.table import estimate_of, in_order, stage_of
from results.summary import Estimate, Summary, VariantSummary, Verdicts

_NONE = Estimate(value=None)


def figures(
    summary: Summary,
    verdicts: Verdicts,
    evidence: dict[str, VariantEvidence],
    servers: Servers,
    slots: dict[str, int],
) -> dict[str, Any]:
    """The figures and captions by their names in the template; None for a figure without data.

    `slots`: each variant's place, which decides its colour, dash and marker.
    """
    variants = in_order(summary)
    drawn: dict[str, Any] = {}
    for name, label in (("latency", "Latency"), ("ttft", "Time to first token")):
        samples = [_sample(v, slots[v.variant], evidence[v.variant], name) for v in variants]
        limit = _limit_on(verdicts, name)
        drawn[f"{name}_rows"] = spread.rows(samples, limit, label)
        drawn[f"{name}_curve"] = spread.cumulative(samples, limit, label)
    lanes = [evidence[v.variant].lane for v in variants]
    plot, is_crowded = timeline.timeline(lanes, servers.panels)
    return drawn | {
        "timeline": plot,
        "timeline_caption": _timeline_caption(is_crowded, bool(servers.panels)),
        "timeline_notes": servers.notes,
        "load_curve": _load_curve(summary, verdicts, variants, slots),
        "tradeoff": _tradeoff(summary, verdicts, variants, slots),
        "tradeoff_caption": _tradeoff_caption(variants),
        "tokens": _tokens(variants, slots),
        "decomposition": _decomposition(variants, slots),
        "probes": _probes(summary, variants, slots),
    }


def _timeline_caption(is_crowded: bool, has_panels: bool) -> str:
    dots = (
        "A dot is a request, or in a lane of very many the median of a moment's, with a stroke "
        "from the fastest to the slowest"
        if is_crowded
        else "A dot is a request"
    )
    under = (
        " Under the lanes: what each variant's server and machine did, from zero to the value on "
        "the right."
        if has_panels
        else ""
    )
    return (
        f"{dots}: at the moment it was due, as high as its latency, each lane on a scale of its "
        "own up to its p99. Strokes at the top of a lane are failures. Shaded: the variant's "
        f"blocks, numbered. Drift shows as a slope across blocks.{under}"
    )


def _tradeoff_caption(variants: list[VariantSummary]) -> str:
    costs = [estimate_of(variant, "cost_per_1000")[0] for variant in variants]
    price = (
        "The size of a marker, and the number beside it, is the cost per 1,000 requests."
        if any(cost is not None and cost.value is not None for cost in costs)
        else "No price is given."
    )
    return (
        "Up and to the left is better. The shaded region meets the limits that are drawn; "
        f"whiskers are 95 % intervals. {price}"
    )


def _limit(verdicts: Verdicts, key: str) -> spread.LimitLine | None:
    """The SLO on exactly this metric."""
    objectives = [o for v in verdicts.variants for o in v.objectives if o.metric == key]
    limit = next((o.limit for o in objectives if o.limit is not None), None)
    if limit is None:
        return None
    statistic = key.rpartition("_")[2]
    return spread.LimitLine(
        limit,
        float(statistic[1:]) if statistic.startswith("p") else None,
        f"SLO {statistic} ≤ {limit_text(limit, partial(written, 'ms'))}",
    )


def _limit_on(verdicts: Verdicts, time_name: str) -> spread.LimitLine | None:
    """The SLO on a time, that on p95 before any other."""
    metrics = {
        o.metric
        for v in verdicts.variants
        for o in v.objectives
        if o.metric.startswith(f"{time_name}_")
    }
    keys = sorted(metrics, key=lambda key: (not key.endswith("_p95"), key))
    return _limit(verdicts, keys[0]) if keys else None


def _sample(
    variant: VariantSummary, slot: int, evidence: VariantEvidence, name: str
) -> spread.LatencySample:
    p50, p95 = (estimate_of(variant, f"{name}_{stat}")[0] or _NONE for stat in ("p50", "p95"))
    return spread.LatencySample(
        variant.variant,
        slot,
        evidence.latency if name == "latency" else evidence.ttft,
        evidence.failed,
        p50,
        p95,
    )


def _latency_key(summary: Summary, verdicts: Verdicts) -> str | None:
    """The latency of the trade-off figure: the first known of an SLO's, p95 and p50."""
    judged = [
        o.metric
        for v in verdicts.variants
        for o in v.objectives
        if o.metric.startswith(("latency_", "service_latency_"))
    ]
    for key in (*judged, "latency_p95", "latency_p50"):
        estimates = [estimate_of(variant, key)[0] for variant in summary.variants]
        if any(estimate is not None and estimate.value is not None for estimate in estimates):
            return key
    return None


def _tradeoff(
    summary: Summary, verdicts: Verdicts, variants: list[VariantSummary], slots: dict[str, int]
) -> Markup | None:
    key = _latency_key(summary, verdicts)
    if key is None or "quality" not in summary.metrics:
        return None
    points = [
        tradeoff.Point(
            v.variant,
            slots[v.variant],
            *(estimate_of(v, k)[0] or _NONE for k in ("quality", key, "cost_per_1000")),
        )
        for v in variants
    ]
    if not any(p.quality.value is not None for p in points):
        return None
    floors = [
        o.limit
        for v in verdicts.variants
        for o in v.objectives
        if o.metric == "quality" and o.limit is not None
    ]
    labels = (summary.metrics[key].label, "cost per 1,000 requests")
    return tradeoff.quality_latency_cost(
        points, capital(labels[0]), labels[1], _limit(verdicts, key), max(floors, default=None)
    )


def _load_curve(
    summary: Summary, verdicts: Verdicts, variants: list[VariantSummary], slots: dict[str, int]
) -> Markup | None:
    """Latency by offered rate; None where fewer than two rates were offered."""
    key = _latency_key(summary, verdicts)
    rates = {s.offered_rate for v in variants for s in v.stages if s.offered_rate is not None}
    if key is None or len(rates) < 2:
        return None
    curves = []
    for variant in variants:
        at = sorted(
            (s.offered_rate, s.metrics.get(key, _NONE))
            for s in variant.stages
            if s.offered_rate is not None
        )
        curves.append(
            tradeoff.LoadCurve(
                variant.variant, slots[variant.variant], [r for r, _ in at], [e for _, e in at]
            )
        )
    label = capital(summary.metrics[key].label)
    return tradeoff.latency_by_load(
        curves, "Offered load, requests/s", label, _limit(verdicts, key)
    )


def _tokens(variants: list[VariantSummary], slots: dict[str, int]) -> Markup | None:
    rows: list[bars.TokenRow] = []
    for variant in variants:
        total, difference = estimate_of(variant, "total_tokens_mean")
        change = difference if rows else None
        rows.append(
            bars.TokenRow(
                variant.variant,
                slots[variant.variant],
                estimate_of(variant, "input_tokens_mean")[0] or _NONE,
                estimate_of(variant, "output_tokens_mean")[0] or _NONE,
                total or _NONE,
                change,
            )
        )
    return bars.tokens(rows) if any(row.output.value is not None for row in rows) else None


def _decomposition(variants: list[VariantSummary], slots: dict[str, int]) -> Markup | None:
    rows = [
        (variant.variant, slots[variant.variant], stage.decomposition)
        for variant in variants
        if (stage := stage_of(variant)) is not None and stage.decomposition
    ]
    return bars.decomposition(rows) if rows else None


def _probes(
    summary: Summary, variants: list[VariantSummary], slots: dict[str, int]
) -> list[tuple[str, Markup]]:
    drawn = []
    for name in dict.fromkeys(name for v in variants for name in v.probes):
        rows = [
            bars.ScoreRow(
                v.variant,
                slots[v.variant],
                v.probes.get(name, _NONE),
                v.probe_differences.get(name),
            )
            for v in variants
        ]
        baseline = next((row.score.value for row in rows if row.name == summary.baseline), None)
        drawn.append((name, bars.scores(name, rows, baseline)))
    return drawn


def legend(slots: dict[str, int]) -> Markup:
    """The colour, dash and marker of every variant, for all figures."""
    items = []
    for name, slot in slots.items():
        drawing = Drawing(38, 14)
        drawing.path([(0, 7), (38, 7)], f"curve {variant_class(slot)}", dash=dash(slot))
        drawing.marker(19, 7, slot, 4.5)
        items.append(
            Markup('<li data-slot="{}">{}{}</li>').format(
                slot % STYLES, drawing.render(name), escape(name)
            )
        )
    return Markup('<ul class="legend">') + Markup("").join(items) + Markup("</ul>")
