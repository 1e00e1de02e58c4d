"""What was measured of each variant: its journals as stages and probes, and the scores of its prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from foundation.errors import BadInput
from foundation.run.journal import Damage, Journal
from foundation.run.parquet import parquet_writer
from foundation.run.records import Prompt, VariantRecord
from results.config import Scoring
from results.inputs import RunInputs
from results.measures.answer_doubts import answer_doubts, scoring_doubts
from results.measures.cache_counters import Counters, read_counters
from results.measures.copies import without_copies
from results.measures.prefix_cache import cache_metrics
from results.measures.quality import PromptScores, prompt_scores, with_labels
from results.measures.stage_journals import header_findings, journals_of, load_differs
from results.measures.stage_metrics import stage_metrics
from results.measures.steady_state import Settling, StageData, block_of, settling_of
from results.measures.token_counts import length_notes
from results.summary import Estimate

EVAL = "eval"
Scores = Mapping[str, float]


@dataclass(frozen=True)
class TokenFacts:
    """Of a stage: the shares of the prefix cache, and notes on who counted and whether lengths are as asked."""

    cache: Mapping[str, Estimate]
    notes: Sequence[str]


@dataclass(frozen=True)
class Measured:
    """A variant's journals: stages (with facts about their tokens) and probes by name, and the mean score of each prompt.

    `unread`: what is wrong with its telemetry, and with the journals of stages that have no readable one.
    `score_notes`: what a reader of the scores has to know.
    """

    record: VariantRecord
    stages: Mapping[str, StageData]
    metrics: Mapping[str, Mapping[str, Estimate]]
    tokens: Mapping[str, TokenFacts]
    probes: Mapping[str, StageData]
    scores: Scores
    probe_scores: Mapping[str, Scores]
    score_notes: Sequence[str]
    unread: Sequence[Damage] = ()


def read_measured(
    inputs: RunInputs, prompts: Mapping[str, Prompt], *, parquet: bool = False
) -> list[Measured]:
    """Every variant of a run; with `parquet` each stage's journals become `requests.parquet` beside them as they are read.

    Raises BadInput for a run without a journal that can be read.
    """
    measured = [_read(inputs, record, prompts, parquet) for record in inputs.variants]
    if not any(variant.stages for variant in measured):
        raise BadInput(f"{inputs.run}: no journals under load/; was anything measured?")
    stages = without_copies({variant.record.name: variant.stages for variant in measured})
    return [replace(variant, stages=stages[variant.record.name]) for variant in measured]


def _read(
    inputs: RunInputs, record: VariantRecord, prompts: Mapping[str, Prompt], parquet: bool
) -> Measured:
    folder = inputs.run / "load" / record.name
    paths = (
        sorted(path for path in folder.iterdir() if any(path.glob("block-*.jsonl")))
        if folder.is_dir()
        else []
    )
    stages: dict[str, StageData] = {}
    tokens: dict[str, TokenFacts] = {}
    counters = read_counters(inputs.run, record.name)
    unread = [counters] if isinstance(counters, Damage) else []
    for path in paths:
        with parquet_writer(path / "requests.parquet") if parquet else nullcontext() as each:
            own, damage = journals_of(path, each)
        journals = list(own.values())
        if not journals:
            unread += damage
        else:
            probe = next(
                (probe for probe in inputs.quality.probes if path.name == f"probe-{probe.name}"),
                None,
            )
            stage = _stage(
                record,
                path.name,
                own,
                damage,
                Settling() if probe else settling_of(journals),
                prompts,
            )
            if probe or path.name == inputs.judged_stage:
                group, scoring = (probe.name, probe) if probe else (EVAL, inputs.quality)
                more = scoring_doubts(
                    [b.requests for b in stage.blocks], _of_set(prompts, group), scoring
                )
                stage = replace(stage, findings=[*stage.findings, *more])
            stages[path.name] = stage
            cache = cache_metrics(journals, counters if isinstance(counters, Counters) else None)
            tokens[path.name] = TokenFacts(cache, length_notes(journals, prompts))
    probes = {
        p.name: stages.pop(f"probe-{p.name}")
        for p in inputs.quality.probes
        if f"probe-{p.name}" in stages
    }
    order = {name: i for i, name in enumerate(inputs.stages)}
    ordered = dict(
        sorted(stages.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
    )
    judged = stages.get(inputs.judged_stage)
    scored = _scores(judged, EVAL, inputs.quality, prompts) if judged else PromptScores({}, 0)
    probed = {
        p.name: _scores(probes[p.name], p.name, p, prompts)
        for p in inputs.quality.probes
        if p.name in probes
    }
    return Measured(
        record=record,
        stages=ordered,
        metrics={name: stage_metrics(stage, {}) for name, stage in ordered.items()},
        tokens=tokens,
        probes=probes,
        scores=scored.scores,
        probe_scores={name: probe.scores for name, probe in probed.items()},
        score_notes=[note for found in (scored, *probed.values()) if (note := found.note())],
        unread=unread,
    )


def _stage(
    record: VariantRecord,
    name: str,
    own: Mapping[Path, Journal],
    damage: Sequence[Damage],
    settling: Settling,
    prompts: Mapping[str, Prompt],
) -> StageData:
    following = {prompt.id for prompt in prompts.values() if prompt.after is not None}
    made = (block_of(journal, settling.cut_ns, following) for journal in own.values())
    blocks = sorted(made, key=lambda block: block.number)
    requests = [block.requests for block in blocks]
    headers = [journal.header for journal in own.values()]
    return StageData(
        stage=name,
        offered_rate=headers[0].offered_rate,
        concurrency=headers[0].concurrency,
        arrivals=headers[0].arrivals,
        blocks=blocks,
        settling=settling,
        damage=damage,
        findings=[*header_findings(own, record.prompt_style), *answer_doubts(requests, prompts)],
        differs=load_differs(headers),
        begun=[
            sum(prompt not in following for prompt in block.steady.prompt_id) for block in blocks
        ],
        sessions=any(not following.isdisjoint(each.prompt_id) for each in requests),
    )


def _of_set(prompts: Mapping[str, Prompt], group: str) -> dict[str, Prompt]:
    return {prompt.id: prompt for prompt in prompts.values() if prompt.set == group}


def _scores(
    stage: StageData, group: str, scoring: Scoring, prompts: Mapping[str, Prompt]
) -> PromptScores:
    mine = _of_set(prompts, group)
    return prompt_scores(
        [block.requests for block in stage.blocks], mine, with_labels(scoring, mine.values())
    )
