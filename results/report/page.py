"""The page and the Markdown file: everything that the templates show, put into words and figures."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from results.journal import read_prompts
from results.report import samples
from results.report.evidence import VariantEvidence, gather, trainings
from results.report.figures import bars, spread, time, tradeoff
from results.report.figures.gauge import gauge
from results.report.format import ABSENT, between, capital, change, plain, points, quantity, significant
from results.report.svg import Drawing, dash, variant_class
from results.report.table import SHOWN, difference_text, effect_of, estimate_of, in_order, rows, stage_of
from results.summary import (
    CapacityPlan,
    Difference,
    Estimate,
    Objective,
    StageSummary,
    Summary,
    VariantSummary,
    VariantVerdict,
    Verdicts,
)

MERITS = ("quality", "latency_p95", "latency_p50", "total_tokens_mean", "cost_per_1000")
_NONE = Estimate(value=None)


@cache
def _environment(autoescape: bool) -> Environment:
    made = Environment(
        loader=PackageLoader("results.report"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"quantity": quantity, "significant": significant, "plain": plain, "words": words, "capital": capital}
    return made


def words(key: str) -> str:
    """`memory_bytes` as "memory bytes"; names of packages and models stay as they are."""
    return str(key).replace("_", " ")


def html(run: Path, summary: Summary, verdicts: Verdicts, plan: CapacityPlan | None, provenance: Mapping[str, Any]) -> str:
    """The whole page, one file that asks the network for nothing."""
    environment = _environment(True)
    script, style = (environment.loader.get_source(environment, name)[0] for name in ("report.js", "report.css"))  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    evidence = gather(run, summary)
    slots = {name: slot for slot, name in enumerate(evidence)}
    context = (
        _opening(summary, verdicts)
        | _figures(summary, verdicts, evidence, slots)
        | {
            "cards": [_card(summary, verdict) for verdict in _verdicts_in_order(verdicts)],
            "table": rows(summary, verdicts),
            "other_stages": [(name, rows(summary, stage=name)) for name in _other_stages(summary)],
            "legend": _legend(slots),
            "trainings": [(t.name, time.loss_curve(t)) for t in trainings(run)],
            "samples": samples.choose(read_prompts(run), {name: found.answers for name, found in evidence.items()}),
            "plan": plan,
            "validity": validity(summary),
            "definitions": _definitions(summary),
            "provenance": provenance,
            "configuration": _text_of(run / "experiment.yaml"),
            "script": Markup(script),
            "style": Markup(style),
            "script_hash": f"sha256-{digest}",
        }
    )
    context["contents"] = _contents(context)
    return environment.get_template("report.html").render(context)


def markdown(summary: Summary, verdicts: Verdicts, plan: CapacityPlan | None) -> str:
    """What goes into a pull request: the verdict table first."""
    environment = _environment(False)
    environment.filters |= {"cell": markdown_text, "fenced": fenced}
    return environment.get_template("report.md").render(
        _opening(summary, verdicts)
        | {
            "cards": [_card(summary, verdict) for verdict in _verdicts_in_order(verdicts)],
            "table": rows(summary, verdicts),
            "plan": plan,
            "validity": validity(summary),
        }
    )


def markdown_text(text: object) -> str:
    """Text that Markdown takes as text: no tags, table bars, links, emphasis, mentions or line breaks of its own."""
    flat = " ".join(str(text).split())
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b")):
        flat = flat.replace(sign, safe)
    return "".join(f"\\{letter}" if letter in "\\`*_[]|~#" else letter for letter in flat)


def fenced(text: str) -> str:
    """Text as a code block of a list item, behind a fence longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return "\n".join(f"   {line}".rstrip() for line in (f"{fence}yaml", *text.splitlines(), fence))


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _verdicts_in_order(verdicts: Verdicts) -> list[VariantVerdict]:
    """What to ship first, then what else passes, what is open, what fails; the baseline last."""
    rank = {"SHIP": 0, "INCONCLUSIVE": 1, "DON'T SHIP": 2}
    return sorted(verdicts.variants, key=lambda v: (v.variant != verdicts.recommended, v.is_baseline, rank[v.decision]))


def _opening(summary: Summary, verdicts: Verdicts) -> dict[str, Any]:
    baseline = in_order(summary)[0]
    stage = stage_of(baseline)
    stages = [s for v in summary.variants if (s := stage_of(v)) is not None]
    sent, failed = sum(s.sent for s in stages), sum(sum(s.failures.values()) for s in stages)
    load = load_text(stage) if stage else "Nothing was measured"
    counted = f"{plain(sent, 0)} requests over {len(summary.variants)} variants, {plain(failed, 0)} failed"
    best = next((v for v in summary.variants if v.variant == verdicts.recommended and v.variant != summary.baseline), None)
    return {
        "summary": summary,
        "verdicts": verdicts,
        "facts": f"Baseline {summary.baseline}. {load}. {counted}.",
        "load": load,
        "merits": [] if best is None else _merits(summary, best),
        "merits_of": "" if best is None else f"{best.variant} against {summary.baseline}; differences with their 95 % intervals.",
    }


def load_text(stage: StageSummary) -> str:
    offered = (
        f"{stage.offered_rate:g} requests/s offered"
        if stage.offered_rate is not None
        else f"{stage.concurrency} requests at a time"
    )
    blocks = "one block" if stage.blocks == 1 else f"{stage.blocks} blocks"
    return f"Stage {stage.stage}: {offered}, {blocks} a variant, {significant(stage.window_s)} s of steady load each"


def _merits(summary: Summary, variant: VariantSummary) -> list[dict[str, str]]:
    """The few numbers that a reader wants beside the headline: those that were measured, p50 only where there is no p95."""
    found: list[dict[str, str]] = []
    for key in MERITS:
        estimate, changed = estimate_of(variant, key)
        if key not in summary.metrics or estimate is None or estimate.value is None:
            continue
        if key == "latency_p50" and any(f["key"] == "latency_p95" for f in found):
            continue
        metric = summary.metrics[key]
        effect = effect_of(changed, metric.better)
        tail = {"better": "better", "worse": "worse", "unclear": "within noise"}.get(effect, "")
        found.append(
            {
                "key": key,
                "label": capital(metric.label),
                "value": quantity(estimate.value, metric.unit),
                "difference": f"{difference_text(changed, metric.unit)} {tail}".strip(),
                "interval": "" if changed is None else _around(changed, metric.unit),
                "effect": effect,
            }
        )
    return found


def _around(changed: Difference, unit: str) -> str:
    """The interval of a difference, in the words of `difference_text`."""
    said, shown = (changed.absolute, points) if unit == "share" else (changed.relative, change)
    return "" if said.low is None or said.high is None else between(shown(said.low), shown(said.high))


def _card(summary: Summary, verdict: VariantVerdict) -> dict[str, Any]:
    """A verdict as it is shown. What the badge and the table of objectives say already is not said again."""
    variant = next((v for v in summary.variants if v.variant == verdict.variant), None)
    what = "" if variant is None else f"{variant.what} · prompt {variant.prompt_style}"
    headline = verdict.headline
    for lead in (f"{verdict.decision} {verdict.variant}: ", f"{verdict.decision} on {verdict.variant}: "):
        headline = headline.removeprefix(lead)
    told = {o.sentence for o in verdict.objectives if o.outcome == "holds" or o.sentence in headline}
    return {
        "variant": verdict.variant,
        "decision": verdict.decision,
        "is_baseline": verdict.is_baseline,
        "what": what,
        "headline": capital(headline),
        "binding": verdict.binding,
        "reasons": [capital(reason) for reason in verdict.reasons if reason not in told],
        "question": verdict.question,
        "advice": verdict.advice,
        "objectives": [_objective(o, o.label == verdict.binding) for o in verdict.objectives],
    }


def _objective(objective: Objective, binding: bool) -> dict[str, Any]:
    value, floor = objective.value, at_least(objective)
    limit = objective.limit
    return {
        "objective": objective,
        "binding": binding,
        "value": ABSENT if value.value is None else objective_text(objective, value.value),
        "interval": ""
        if value.low is None or value.high is None
        else between(objective_text(objective, value.low), objective_text(objective, value.high)),
        "limit": objective.limit_text if limit is None else f"{'≥' if floor else '≤'} {objective_text(objective, limit)}",
        "margin": _margin(objective, floor),
        "gauge": gauge(objective, floor),
    }


def _margin(objective: Objective, floor: bool) -> str:
    """As a share of the limit, or in points where the limit is itself a difference: a share of one point tells nothing."""
    if objective.margin is None or objective.value.value is None or objective.limit is None:
        return ABSENT
    if not _is_change(objective):
        return change(objective.margin)
    inside = objective.value.value - objective.limit
    return points(inside if floor else -inside)


def _is_change(objective: Objective) -> bool:
    """Whether the objective is on a difference to the baseline, which has no unit of its own."""
    return objective.metric == "cost_increase" or (objective.kind == "quality" and objective.metric != "quality")


def objective_text(objective: Objective, value: float) -> str:
    """A number of an objective: a change of quality in points, a change of cost in per cent, anything else with its unit."""
    if objective.kind == "quality" and objective.metric != "quality":
        return points(value)
    return change(value) if objective.metric == "cost_increase" else quantity(value, objective.unit)


def at_least(objective: Objective) -> bool:
    """Whether the limit is a floor: the margin is positive on the side that is allowed."""
    if objective.value.value is None or objective.limit is None or not objective.margin:
        return objective.kind == "quality"
    return (objective.value.value > objective.limit) == (objective.margin > 0)


def _limit(verdicts: Verdicts, key: str) -> spread.Limit | None:
    """The SLO on exactly this metric."""
    found = next((o for v in verdicts.variants for o in v.objectives if o.metric == key and o.limit is not None), None)
    if found is None or found.limit is None:
        return None
    name = key.rpartition("_")[2]
    return spread.Limit(
        found.limit, float(name[1:]) if name.startswith("p") else None, f"SLO {name} ≤ {quantity(found.limit, 'ms')}"
    )


def _limit_on(verdicts: Verdicts, time_name: str) -> spread.Limit | None:
    """The SLO on a time, that on p95 before any other."""
    asked = [o.metric for v in verdicts.variants for o in v.objectives if o.metric.startswith(f"{time_name}_")]
    keys = sorted(set(asked), key=lambda key: (not key.endswith("_p95"), key))
    return _limit(verdicts, keys[0]) if keys else None


def _figures(summary: Summary, verdicts: Verdicts, evidence: dict[str, VariantEvidence], slots: dict[str, int]) -> dict[str, Any]:
    variants = in_order(summary)
    drawn: dict[str, Any] = {}
    for name, label in (("latency", "Latency"), ("ttft", "Time to first token")):
        found = [_sample(v, slots[v.variant], evidence[v.variant], name) for v in variants]
        drawn[f"{name}_rows"] = spread.rows(found, _limit_on(verdicts, name), label)
        drawn[f"{name}_curve"] = spread.cumulative(found, _limit_on(verdicts, name), label)
    plot, thinning = time.timeline([evidence[v.variant].lane for v in variants])
    shown = "Every request" if thinning == 1 else f"One request in {thinning}, every failure"
    drawn["timeline"] = plot
    drawn["timeline_caption"] = (
        f"{shown} of every stage at the moment it was due, its height the latency, each lane on a scale of its own; "
        "shaded: the variant's blocks, numbered. Crosses are failures. Drift shows as a slope across blocks."
    )
    return drawn | {
        "load_curve": _load_curve(summary, verdicts, variants, slots),
        "tradeoff": _tradeoff(summary, verdicts, variants, slots),
        "tokens": _tokens(variants, slots),
        "decomposition": _decomposition(variants, slots),
        "probes": _probes(summary, variants, slots),
    }


def _sample(variant: VariantSummary, slot: int, evidence: VariantEvidence, name: str) -> spread.Sample:
    p50, p95 = (estimate_of(variant, f"{name}_{stat}")[0] or _NONE for stat in ("p50", "p95"))
    return spread.Sample(
        variant.variant, slot, evidence.latency if name == "latency" else evidence.ttft, evidence.failed, p50, p95
    )


def _latency_key(summary: Summary, verdicts: Verdicts) -> str | None:
    """The latency that the trade-off is drawn in: the one an SLO names, else p95, else p50 where p95 could not be had."""
    asked = [o.metric for v in verdicts.variants for o in v.objectives if o.metric.startswith(("latency_", "service_latency_"))]
    known = [*asked, "latency_p95", "latency_p50"]
    return next((k for k in known if any((e := estimate_of(v, k)[0]) and e.value is not None for v in summary.variants)), None)


def _tradeoff(summary: Summary, verdicts: Verdicts, variants: list[VariantSummary], slots: dict[str, int]) -> Markup | None:
    key = _latency_key(summary, verdicts)
    if key is None or "quality" not in summary.metrics:
        return None
    points = [
        tradeoff.Point(v.variant, slots[v.variant], *(estimate_of(v, k)[0] or _NONE for k in ("quality", key, "cost_per_1000")))
        for v in variants
    ]
    if not any(p.quality.value is not None for p in points):
        return None
    floors = [o.limit for v in verdicts.variants for o in v.objectives if o.metric == "quality" and o.limit is not None]
    labels = (summary.metrics[key].label, "cost per 1,000 requests")
    return tradeoff.quality_latency_cost(points, capital(labels[0]), labels[1], _limit(verdicts, key), max(floors, default=None))


def _load_curve(summary: Summary, verdicts: Verdicts, variants: list[VariantSummary], slots: dict[str, int]) -> Markup | None:
    """Only where more than one rate was offered."""
    key = _latency_key(summary, verdicts)
    rates = {s.offered_rate for v in variants for s in v.stages if s.offered_rate is not None}
    if key is None or len(rates) < 2:
        return None
    curves = []
    for variant in variants:
        at = sorted((s.offered_rate, s.metrics.get(key, _NONE)) for s in variant.stages if s.offered_rate is not None)
        curves.append(tradeoff.LoadCurve(variant.variant, slots[variant.variant], [r for r, _ in at], [e for _, e in at]))
    label = capital(summary.metrics[key].label)
    return tradeoff.latency_by_load(curves, "Offered load, requests/s", label, _limit(verdicts, key))


def _tokens(variants: list[VariantSummary], slots: dict[str, int]) -> Markup | None:
    found: list[bars.TokenRow] = []
    for variant in variants:
        total, changed = estimate_of(variant, "total_tokens_mean")
        given, written = (estimate_of(variant, f"{side}_tokens_mean")[0] or _NONE for side in ("input", "output"))
        found.append(
            bars.TokenRow(variant.variant, slots[variant.variant], given, written, total or _NONE, changed if found else None)
        )
    return bars.tokens(found) if any(r.output.value is not None for r in found) else None


def _decomposition(variants: list[VariantSummary], slots: dict[str, int]) -> Markup | None:
    found = [
        (v.variant, slots[v.variant], s.decomposition) for v in variants if (s := stage_of(v)) is not None and s.decomposition
    ]
    return bars.decomposition(found) if found else None


def _probes(summary: Summary, variants: list[VariantSummary], slots: dict[str, int]) -> list[tuple[str, Markup]]:
    drawn = []
    for name in dict.fromkeys(name for v in variants for name in v.probes):
        scored = [
            bars.ScoreRow(v.variant, slots[v.variant], v.probes.get(name, _NONE), v.probe_differences.get(name)) for v in variants
        ]
        baseline = next((row.score.value for row in scored if row.name == summary.baseline), None)
        drawn.append((name, bars.scores(name, scored, baseline)))
    return drawn


def _legend(slots: dict[str, int]) -> Markup:
    """Colour, dash and shape of every variant, for all figures."""
    items = []
    for name, slot in slots.items():
        drawing = Drawing(38, 14)
        drawing.line(0, 7, 38, 7, f"curve {variant_class(slot)}", dash=dash(slot))
        drawing.marker(19, 7, slot, 4.5)
        items.append(Markup('<li data-slot="{}">{}{}</li>').format(slot % 8, drawing.render(name), escape(name)))
    return Markup('<ul class="legend">') + Markup("").join(items) + Markup("</ul>")


def _other_stages(summary: Summary) -> list[str]:
    judged = {v.judged_stage for v in summary.variants}
    return list(dict.fromkeys(s.stage for v in summary.variants for s in v.stages if s.stage not in judged))


def validity(summary: Summary) -> list[tuple[str, str]]:
    """What a careful reader should know: where it applies, and the note."""
    found = [("", note) for note in summary.notes]
    for variant in in_order(summary):
        found += [(f"{variant.variant}, {s.stage}", f"not valid: {s.invalid}") for s in variant.stages if s.invalid]
        found += [(f"{variant.variant}, {stage.stage}", note) for stage in variant.stages for note in stage.notes]
    return found


def _definitions(summary: Summary) -> tuple[list[Any], list[Any]]:
    """The metrics of the table, then all the others."""
    first = [summary.metrics[key] for key in SHOWN if key in summary.metrics]
    return first, [metric for key, metric in summary.metrics.items() if key not in SHOWN]


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    """The sections that this report has."""
    return [
        (id, title)
        for id, title, there in (
            ("verdict", "Verdict", True),
            ("reasons", "Reasons", True),
            ("comparison", "Comparison", True),
            ("latency", "Latency", True),
            ("tradeoff", "Quality, latency, cost", context["tradeoff"]),
            ("tokens", "Tokens", context["tokens"]),
            ("why", "Why latency changed", context["decomposition"]),
            ("timeline", "Timeline", True),
            ("probes", "What tuning forgot", context["probes"]),
            ("training", "Training", context["trainings"]),
            ("answers", "Answers", context["samples"]),
            ("capacity", "Capacity", context["plan"]),
            ("validity", "Validity", True),
            ("definitions", "Definitions", True),
            ("provenance", "Provenance", True),
        )
        if there
    ]
