"""The page and the Markdown file: the words and figures that the templates show."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from foundation.format import between, capital, change, plain, points, quantity, significant
from foundation.printable import visible
from foundation.run.journal import read_prompts
from results.capacity.plan.capacity_plan import CapacityPlan
from results.measures.doubt import some
from results.measures.measured import MeasuredVariant
from results.metrics import keys
from results.report import profile, recovery, samples
from results.report.capacity import searched
from results.report.capacity.investments import investment_section
from results.report.capacity.searched import SearchWords
from results.report.capacity.section import capacity_section
from results.report.capacity.words import SCALED, capacity_words
from results.report.cards import cards
from results.report.evidence import gather, trainings
from results.report.figures.loss import loss_curve
from results.report.improvement import ImprovementSection, improvement_section
from results.report.page_figures import figures, legend
from results.report.race import race_sentence, raced
from results.report.segments import difference_sentences, time_lines
from results.report.servers import servers_of
from results.report.table import (
    SHOWN,
    difference_text,
    effect_of,
    estimate_of,
    in_order,
    rows,
    stage_of,
)
from results.report.time_spent import STATISTICS, time_spent
from results.summary import (
    Difference,
    StageSummary,
    Summary,
    VariantSummary,
    Verdicts,
)

_LOADER = PackageLoader("results.report")


@cache
def _environment(autoescape: bool) -> Environment:
    """The templates' environment, for HTML with `autoescape`, else for Markdown."""
    environment = Environment(
        loader=_LOADER,
        autoescape=autoescape,
        undefined=StrictUndefined,
        finalize=_printable if autoescape else None,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "quantity": quantity,
        "significant": significant,
        "plain": plain,
        "words": words,
        "capital": capital,
    }
    return environment


def _printable(value: object) -> object:
    """The value for the page: text loses its control and invisible characters, markup stays."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def words(key: str) -> str:
    """`memory_bytes` as "memory bytes"; names of packages and models stay as they are."""
    return str(key).replace("_", " ")


def html(
    run: Path,
    summary: Summary,
    verdicts: Verdicts,
    plan: CapacityPlan | None,
    provenance: Mapping[str, Any],
    measured: Sequence[MeasuredVariant],
) -> str:
    """The whole page, one file that needs no network."""
    environment = _environment(True)
    script, style = (
        _LOADER.get_source(environment, name)[0] for name in ("report.js", "report.css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    evidence = gather(measured, summary)
    slots = {name: slot for slot, name in enumerate(evidence)}
    servers = servers_of(run, measured, slots)
    context = (
        _opening(summary, verdicts)
        | figures(summary, verdicts, evidence, servers, slots)
        | {
            "cards": cards(summary, verdicts),
            "table": rows(summary, verdicts),
            "other_stages": [(name, rows(summary, stage=name)) for name in _other_stages(summary)],
            "time_spent": [
                time_spent(summary, slots, stage) for stage in (None, *_other_stages(summary))
            ],
            "statistics": STATISTICS,
            "legend": legend(slots),
            "improvement": improvement_section(run),
            "trainings": [(t.name, loss_curve(t)) for t in trainings(run)],
            "steps": profile.section(run),
            "recovered": recovery.section(run, summary, slots),
            "samples": samples.choose(
                read_prompts(run), {name: each.answers for name, each in evidence.items()}
            ),
            "search": searched.section(run, slots),
            "capacity": plan and capacity_section(plan, slots),
            "investment": plan and investment_section(plan, slots),
            "scaled_columns": SCALED,
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


def markdown(
    summary: Summary,
    verdicts: Verdicts,
    plan: CapacityPlan | None,
    search: SearchWords | None = None,
    improvement: ImprovementSection | None = None,
) -> str:
    """The report for a pull request, the verdict table first."""
    environment = _environment(False)
    environment.filters |= {"cell": markdown_text, "fenced": fenced}
    return environment.get_template("report.md").render(
        _opening(summary, verdicts)
        | {
            "cards": cards(summary, verdicts),
            "improvement": improvement,
            "table": rows(summary, verdicts),
            "time_lines": time_lines(summary),
            "time_differences": difference_sentences(summary),
            "search": search,
            "capacity": plan and capacity_words(plan),
            "validity": validity(summary),
        }
    )


# Signs that Markdown gives a meaning. A web address loses its colon or its dot.
_SIGNS = re.compile(r"[\\`*_\[\]|~#$]|(?<=\w):(?=//)|(?<=www)\.", re.IGNORECASE)
_LIST = re.compile(r"^(\d*)([-+=.)])")


def markdown_text(text: object) -> str:
    """Escapes text for Markdown.

    It makes no tags, table bars, links, emphasis, mentions, lists or line breaks.
    """
    flat = " ".join(visible(str(text)).split())
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("@", "@\u200b")):
        flat = flat.replace(sign, safe)
    return _LIST.sub(r"\1\\\2", _SIGNS.sub(r"\\\g<0>", flat))


def fenced(text: str) -> str:
    """Text as a code block of a list item, in a fence longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return "\n".join(
        f"   {line}".rstrip() for line in (f"{fence}yaml", *visible(text).splitlines(), fence)
    )


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _opening(summary: Summary, verdicts: Verdicts) -> dict[str, Any]:
    """What both the page and the Markdown file open with."""
    baseline = in_order(summary)[0]
    stage = stage_of(baseline)
    counts = [at.blocks for each in summary.variants if (at := stage_of(each)) is not None]
    load = load_text(stage, counts) if stage else "Nothing was measured"
    facts = (f"Baseline {summary.baseline}", load, _requests(summary), _validity_text(summary))
    best = next(
        (
            v
            for v in summary.variants
            if v.variant == verdicts.recommended and v.variant != summary.baseline
        ),
        None,
    )
    return {
        "summary": summary,
        "verdicts": verdicts,
        "facts": f"{'. '.join(facts)}.",
        "load": load,
        "raced": raced(summary),
        "race_sentence": race_sentence(summary),
        "merits": [] if best is None else _merits(summary, best),
        "merits_of": ""
        if best is None
        else f"{best.variant} against {summary.baseline}; differences with their 95 % intervals.",
    }


def _requests(summary: Summary) -> str:
    """The number of requests in the judged stages, and how many of them failed."""
    stages = [s for v in summary.variants if (s := stage_of(v)) is not None]
    sent = plain(sum(s.sent for s in stages), 0)
    failed = plain(sum(sum(s.failures.values()) for s in stages), 0)
    return f"{sent} requests over {some(len(summary.variants), 'variant')}, {failed} failed"


def _validity_text(summary: Summary) -> str:
    """The validity of the measurement, and the stages that lower it."""
    level = summary.validity.level
    if level == "VALID":
        return "The measurement is VALID"
    stages = [(v.variant, s) for v in summary.variants for s in v.stages]
    blamed = [f"{name} at {stage.stage}" for name, stage in stages if stage.validity.level == level]
    more = f" and {len(blamed) - 3} more" if len(blamed) > 3 else ""
    return f"The measurement is {level} ({', '.join(blamed[:3])}{more})"


def load_text(stage: StageSummary, counts: Sequence[int]) -> str:
    """A stage's offered load, blocks and steady window, in words.

    `counts`: the number of blocks of each variant, which differ after a race.
    """
    offered = (
        f"{stage.offered_rate:g} requests/s offered"
        if stage.offered_rate is not None
        else f"{stage.concurrency} requests at a time"
    )
    if len(set(counts)) > 1:
        each = f"{significant(stage.window_s / stage.blocks)} s of steady load a block"
        return f"Stage {stage.stage}: {offered}, {min(counts)} to {max(counts)} blocks, {each}"
    blocks = "one block" if stage.blocks == 1 else f"{stage.blocks} blocks"
    steady = f"{significant(stage.window_s)} s of steady load each"
    return f"Stage {stage.stage}: {offered}, {blocks} a variant, {steady}"


def _merits(summary: Summary, variant: VariantSummary) -> list[dict[str, str]]:
    """The measured numbers beside the headline; latency p50 only where p95 is unknown."""
    merits: list[dict[str, str]] = []
    for key in keys("headline"):
        estimate, difference = estimate_of(variant, key)
        if key not in summary.metrics or estimate is None or estimate.value is None:
            continue
        p95 = estimate_of(variant, "latency_p95")[0] if key == "latency_p50" else None
        if p95 is not None and p95.value is not None:
            continue
        metric = summary.metrics[key]
        effect = effect_of(difference, metric.better)
        tail = {"better": "better", "worse": "worse", "unclear": "within noise"}.get(effect, "")
        merits.append(
            {
                "key": key,
                "label": capital(metric.label),
                "value": quantity(estimate.value, metric.unit),
                "difference": f"{difference_text(difference, metric.unit)} {tail}".strip(),
                "interval": "" if difference is None else _around(difference, metric.unit),
                "effect": effect,
            }
        )
    return merits


def _around(difference: Difference, unit: str) -> str:
    """The interval of a difference, in the unit of `difference_text`."""
    is_share = unit == "share"
    estimate, write = (difference.absolute, points) if is_share else (difference.relative, change)
    if estimate.low is None or estimate.high is None:
        return ""
    return between(write(estimate.low), write(estimate.high))


def _other_stages(summary: Summary) -> list[str]:
    """The stages that no verdict judges."""
    judged = {v.judged_stage for v in summary.variants}
    return list(
        dict.fromkeys(s.stage for v in summary.variants for s in v.stages if s.stage not in judged)
    )


def validity(summary: Summary) -> list[tuple[str, str]]:
    """Reasons for doubt and notes, each with its variant and stage, or "" for the whole run."""
    notes = [("", note) for note in summary.notes]
    for variant in in_order(summary):
        stages = [(f"{variant.variant}, {stage.stage}", stage) for stage in variant.stages]
        notes += [(place, reason) for place, stage in stages for reason in stage.validity.reasons]
        notes += [(place, note) for place, stage in stages for note in stage.notes]
    return notes


def _definitions(summary: Summary) -> tuple[list[Any], list[Any]]:
    """The metrics of the table, then all the others."""
    first = [summary.metrics[key] for key in SHOWN if key in summary.metrics]
    return first, [metric for key, metric in summary.metrics.items() if key not in SHOWN]


def _has_why(context: dict[str, Any]) -> bool:
    """Whether anything is known of why latency differs at the judged load."""
    return bool(context["decomposition"] or context["time_spent"][0].explained)


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    """The id and title of every section of this report."""
    return [
        (id, title)
        for id, title, present in (
            ("verdict", "Verdict", True),
            ("reasons", "Reasons", True),
            ("improve", "What was tried", context["improvement"]),
            ("race", "The race", context["raced"]),
            ("comparison", "Comparison", True),
            ("latency", "Latency", True),
            ("tradeoff", "Quality, latency, cost", context["tradeoff"]),
            ("tokens", "Tokens", context["tokens"]),
            ("time", "Where the time goes", True),
            ("why", "Why it differs", _has_why(context)),
            ("steps", "Where a step goes", context["steps"]),
            ("timeline", "Timeline", True),
            ("probes", "What tuning forgot", context["probes"]),
            ("training", "Training", context["trainings"]),
            ("recovery", "What quantizing lost", context["recovered"]),
            ("answers", "Answers", context["samples"]),
            ("search", "Highest rate", context["search"]),
            ("capacity", "Capacity", context["capacity"]),
            ("investment", "When to invest", context["investment"]),
            ("validity", "Validity", True),
            ("definitions", "Definitions", True),
            ("provenance", "Provenance", True),
        )
        if present
    ]
