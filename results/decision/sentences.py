"""What a verdict says, word by word.

Each sentence is chosen by facts that were worked out before; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import ceil

from foundation.format import (
    beside,
    duration,
    limit_text,
    percent,
    shortened,
)
from results.decision.objective_words import writer
from results.decision.objectives import ObjectiveSpec
from results.race import Race
from results.summary import Decision, Judged, Objective, Outcome, StageSummary

UNJUDGED = " can't be judged: "


def together(sentences: Sequence[str]) -> list[str]:
    """The sentences, but one for all objectives that can't be judged for the same reason.

    It stands where the first of them stood.
    """
    whole: dict[str, list[str]] = {}
    for sentence in sentences:
        objective, unjudged, reason = sentence.partition(UNJUDGED)
        whole.setdefault(f"{unjudged}{reason}" if unjudged else sentence, []).append(
            objective if unjudged else ""
        )
    return [f"{_listed(names)}{end}" for end, names in whole.items()]


def objective_sentence(
    spec: ObjectiveSpec, judged: Judged, outcome: Outcome, stage: StageSummary | None
) -> str:
    """The value, the limit, the outcome, and the bound that decided it or what would settle it."""
    write, value, limit = writer(spec), judged.value.value, judged.limit
    if value is None or judged.reason is not None or limit is None:
        known = "" if limit is None else limit_text(limit, write)
        return (
            f"{spec.label} (limit: {_limit(spec, known)}){UNJUDGED}"
            f"{judged.reason}{_more(spec, judged, stage)}"
        )
    if outcome == "unsettled":
        ends = [judged.optimistic, judged.pessimistic]
        texts, limit_words = beside(
            [value, *sorted(end for end in ends if end is not None)], limit, write
        )
        span = (
            f"{texts[1]} to {texts[2]}"
            if len(texts) == 3
            else f"{_one_sided(spec, judged)} {texts[1]}"
        )
        open_ = f"{spec.label} is {texts[0]} (limit: {_limit(spec, limit_words)}), not settled"
        return f"{open_}: the data allow {span}{_more(spec, judged, stage)}"
    deciding = judged.pessimistic if outcome == "holds" else judged.optimistic
    assert deciding is not None
    texts, limit_words = beside([value, deciding], limit, write)
    edge = "at most" if (outcome == "holds") == (spec.better == "lower") else "at least"
    verb = "keeps" if outcome == "holds" else "breaks"
    return (
        f"{spec.label} is {texts[0]} and {verb} its limit ({_limit(spec, limit_words)}); {edge} "
        f"{texts[1]} with 95 % confidence"
    )


def _one_sided(spec: ObjectiveSpec, judged: Judged) -> str:
    """Of an interval that is open on one side."""
    return "at least" if (judged.pessimistic is None) == (spec.better == "lower") else "at most"


def _limit(spec: ObjectiveSpec, number: str) -> str:
    """The limit as it was written; of an SLO also as a number, if relative the baseline's."""
    if spec.kind != "slo":
        return spec.text
    return ", ".join(
        part for part in (f"{spec.text} of the baseline's" if spec.relative else "", number) if part
    )


def _more(spec: ObjectiveSpec, judged: Judged, stage: StageSummary | None) -> str:
    """What would settle an objective, as the end of its sentence; empty where nothing is known."""
    more, n = judged.more, judged.value.n
    if more is None or stage is None:
        return ""
    if more.total is None:
        return "; it is so near its limit that even 20 times as much data would hardly settle it"
    if more.unit == "prompts":
        return f"; about {more.total:,} prompts instead of {n:,} would settle it"
    if more.unit == "requests":
        per_block = stage.planned / stage.blocks
        total = max(more.total, stage.planned + ceil(per_block))
        blocks = _blocks(total / per_block - stage.blocks, stage)
        at = "with the same error rate" if spec.metric == "error_rate" else "with the same share"
        return f"; about {total:,} requests {at} would settle it: {blocks}"
    blocks = _blocks(more.total - stage.blocks, stage)
    return (
        f"; {blocks} would be enough to judge it"
        if more.to == "judge"
        else f"; {blocks} would settle it"
    )


def _blocks(count: float, stage: StageSummary) -> str:
    more = max(1, ceil(count))
    each = stage.window_s / stage.blocks
    return (
        f"about {more:,} more block{'s' if more > 1 else ''} of this size "
        f"({duration(more * each)} of load)"
    )


def headline(
    name: str,
    decision: Decision,
    objectives: Sequence[Objective],
    binding: Objective | None,
    stage: StageSummary | None,
    undecided_since: str | None = None,
) -> str:
    """The decision on a variant and the objective that made it, in one line.

    `undecided_since`: why it has no decision, where that is not for want of evidence.
    """
    if undecided_since is not None:
        return f"INCONCLUSIVE on {name}: {undecided_since}"
    if stage is None:
        return f"INCONCLUSIVE on {name}: it was not measured"
    if stage.validity.level == "INVALID":
        return (
            f"INCONCLUSIVE on {name}: the measurement is not valid: "
            f"{stage.validity.reasons[0].partition(': ')[2]}"
        )
    if binding is None:
        return (
            f"INCONCLUSIVE on {name}: nothing is asked of it; write slo, quality or budget into "
            "the experiment"
        )
    if decision == "SHIP":
        many = len(objectives)
        which = (
            f"all {many} objectives hold; the tightest" if many > 1 else "its one objective holds"
        )
        return f"SHIP {name}: {which}: {binding.sentence}"
    if decision == "DON'T SHIP":
        others = sum(objective.outcome == "fails" for objective in objectives) - 1
        more = (
            f"; {others} more objective{'s' if others > 1 else ''} fail{'s' if others == 1 else ''}"
            if others
            else ""
        )
        return f"DON'T SHIP {name}: {binding.sentence}{more}"
    return f"INCONCLUSIVE on {name}: {binding.sentence}"


def departure_reasons(race: Race | None, variant: str) -> list[str]:
    """When and why a variant left a race; empty for one that stayed."""
    left = race.departure(variant) if race is not None else None
    if left is None:
        return []
    return [f"it left the race after block {left.block}: {left.sentence}"]


def reasons(objectives: Sequence[Objective], stage: StageSummary | None) -> list[str]:
    """Each objective's sentence, failing ones first, then the stage's doubts and failures."""
    order = ("fails", "unsettled", "holds")
    lines = [o.sentence for o in sorted(objectives, key=lambda o: order.index(o.outcome))]
    if stage is None:
        return lines
    lines += stage.validity.reasons
    failed = stage.planned - stage.succeeded
    if failed and not any(o.metric == "error_rate" for o in objectives):
        rest = "nothing else was measured" if failed == stage.planned else _of_failed(objectives)
        lines.append(
            f"{failed:,} of {stage.planned:,} requests failed, and the slo names no error_rate: "
            f"{rest}"
        )
    if stage.failures and stage.examples:
        most = max(stage.examples, key=lambda name: stage.failures.get(name, 0))
        lines.append(
            f"{most}, the first of {stage.failures[most]:,}: {shortened(stage.examples[most])}"
        )
    return lines


def _of_failed(objectives: Sequence[Objective]) -> str:
    """How failed requests count in the judged times; the metrics leave them out."""
    statistics = {
        o.metric.rpartition("_")[2] for o in objectives if o.kind == "slo" and o.unit == "ms"
    }
    parts = ["judged percentiles count them as infinite"] if statistics - {"mean"} else []
    parts += ["judged means leave them out"] if "mean" in statistics else []
    return " and ".join(parts) or "times are of those that succeeded"


def overall(
    baseline: str,
    decisions: Mapping[str, Decision],
    passing: Sequence[str],
    quality: Mapping[str, float | None],
    gainless: Collection[str] = (),
) -> str:
    """What to ship, first line of a report.

    `decisions`: on the variants with objectives. `passing`: those that may ship, best
    first. `quality`: of each variant, 0 to 1. `gainless`: those that are shown to be slower or
    dearer than the baseline, and better in nothing.
    """
    if not decisions:
        return (
            "Nothing is asked of any variant, so nothing is decided: write slo, quality or budget "
            "into the experiment."
        )
    if not passing:
        opened = [name for name, decision in decisions.items() if decision == "INCONCLUSIVE"]
        failing = [name for name, decision in decisions.items() if decision == "DON'T SHIP"]
        if opened:
            return f"No variant may ship yet; not settled: {', '.join(opened)}."
        return (
            f"No variant may ship: {_listed(failing)} break{'s' if len(failing) == 1 else ''} an "
            "objective."
        )
    best, others = passing[0], passing[1:]
    if best != baseline:
        return (
            f"Ship {best}: it meets every "
            f"objective{f' ({_listed(others)} would pass too)' if others else ''}."
        )
    if not others:
        alone = "" if list(decisions) == [baseline] else ", and no other variant is shown to"
        return f"Keep {best}: it meets every objective{alone}."
    poorer = [name for name in others if name not in gainless]
    rest = []
    if poorer:
        theirs = _listed([_quality(quality[name]) for name in poorer])
        rest.append(f"{_listed(poorer)} would pass too ({theirs})")
    if gainless:
        are = "is" if len(gainless) == 1 else "are"
        rest.append(
            f"{_listed(list(gainless))} would pass too, but {are} shown to be slower or dearer, "
            "and better in nothing"
        )
    most = f" with the best quality ({_quality(quality[best])})" if poorer else ""
    return f"Keep {best}: it meets every objective{most}; {'; '.join(rest)}."


def _quality(share: float | None) -> str:
    return "not known" if share is None else percent(share)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
