"""The measured variants: journals as stages and probes, and the scores of the prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from foundation.errors import BadInput
from foundation.run.engine_records import EngineRecords, read_engine_records
from foundation.run.journal import Damage, Journal
from foundation.run.layout import RunDirectory, is_search_stage
from foundation.run.parquet import parquet_writer
from foundation.run.records import Prompt, VariantRecord
from results.config import Scoring
from results.inputs import RunInputs
from results.measures.answer_doubts import answer_doubts, scoring_doubts
from results.measures.copies import without_copies
from results.measures.counter_samples import (
    CounterSamples,
    Window,
    read_counter_samples,
    windows_of,
)
from results.measures.energy import energy_metrics, idle_power
from results.measures.prefix_cache import cache_metrics
from results.measures.quality import PromptScores, prompt_scores, with_labels
from results.measures.speculative import speculative_metrics
from results.measures.stage_journals import header_findings, journals_of, load_differs
from results.measures.stage_metrics import stage_metrics
from results.measures.steady_state import StageData, block_of
from results.measures.throttling import throttling_doubts
from results.measures.token_counts import length_notes
from results.measures.window import NOTHING_CUT, Settling, settling_of
from results.summary import Estimate

EVAL = "eval"
Scores = Mapping[str, float]


@dataclass(frozen=True)
class TokenFacts:
    """A stage's shares of the prefix cache, and notes on the count and length of its tokens."""

    cache: Mapping[str, Estimate]
    notes: Sequence[str]


@dataclass(frozen=True)
class ServerTelemetry:
    """A variant's samples, and the machine's power while no server of the run had a request.

    `damage`: why there are no samples, where the file can't be read.
    """

    samples: CounterSamples | None
    idle: Estimate
    damage: Damage | None = None

    def metrics(self, windows: Sequence[Window]) -> dict[str, Estimate]:
        """Energy, and speculative decoding where a server counts drafts, over a stage's windows."""
        return {
            **energy_metrics(self.samples, windows, self.idle),
            **speculative_metrics(self.samples, windows),
        }


@dataclass(frozen=True)
class MeasuredVariant:
    """A variant's stages and probes by name, and the mean score of each prompt.

    `tokens` holds facts about the tokens of each stage. `unread`: damage to its telemetry, and to
    the journals of stages without a readable one. `score_notes`: what a reader of the scores must
    know. `engine_note`: what is left out of the run's engine records. `sampled`: the metrics of
    each stage that come from telemetry. `earlier`: what it was when another
    left a race, by the last block of that one: of the baseline, when any variant did, and of a
    variant, when the baseline did.
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
    engine_note: str | None = None
    sampled: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    earlier: Mapping[int, MeasuredVariant] = field(default_factory=dict)


def read_measured(
    inputs: RunInputs, prompts: Mapping[str, Prompt], *, parquet: bool = False
) -> list[MeasuredVariant]:
    """Reads every variant of a run.

    With `parquet`, each stage's journals become `requests.parquet` beside them as they are read.
    Raises BadInput for a run without a readable journal, and for files of a newer tunedyno.
    """
    engine = read_engine_records(RunDirectory(inputs.run).engine)
    telemetry = _telemetry(inputs)
    measured = [
        _read(inputs, record, prompts, engine, telemetry[record.name], parquet)
        for record in inputs.variants
    ]
    if not any(variant.stages for variant in measured):
        raise BadInput(f"{inputs.run}: no journals under load/; was anything measured?")
    stages = without_copies({variant.record.name: variant.stages for variant in measured})
    whole = [replace(variant, stages=stages[variant.record.name]) for variant in measured]

    def through(block: int, record: VariantRecord) -> MeasuredVariant:
        until = replace(inputs, through=block)
        return _read(until, record, prompts, engine, telemetry[record.name], parquet=False)

    return [
        replace(each, earlier={block: through(block, each.record) for block in _ends(inputs, each)})
        for each in whole
    ]


def _ends(inputs: RunInputs, variant: MeasuredVariant) -> list[int]:
    """The blocks after which what it is compared with left a race, while it was measured on."""
    stage = variant.stages.get(inputs.judged_stage)
    if inputs.race is None or stage is None:
        return []
    is_baseline = variant.record.name == inputs.baseline
    last = max((block.number for block in stage.blocks), default=0)
    others = [each for each in inputs.race.departures if each.block < last]
    return sorted({d.block for d in others if is_baseline or d.variant == inputs.baseline})


def _telemetry(inputs: RunInputs) -> dict[str, ServerTelemetry]:
    """By variant."""
    read = {each.name: read_counter_samples(inputs.run, each.name) for each in inputs.variants}
    samples = {name: None if isinstance(one, Damage) else one for name, one in read.items()}
    return {
        name: ServerTelemetry(
            samples[name], idle_power(name, samples), one if isinstance(one, Damage) else None
        )
        for name, one in read.items()
    }


def _read(
    inputs: RunInputs,
    record: VariantRecord,
    prompts: Mapping[str, Prompt],
    engine: EngineRecords,
    telemetry: ServerTelemetry,
    parquet: bool,
) -> MeasuredVariant:
    stages: dict[str, StageData] = {}
    sampled: dict[str, Mapping[str, Estimate]] = {}
    tokens: dict[str, TokenFacts] = {}
    unread = [telemetry.damage] if telemetry.damage else []
    for path in _stage_folders(inputs.run / "load" / record.name):
        with parquet_writer(path / "requests.parquet") if parquet else nullcontext() as each:
            untimed, damage = journals_of(path, each)
        last = inputs.last_block(record.name) if path.name == inputs.judged_stage else None
        own = {
            file: engine.timed(journal)
            for file, journal in untimed.items()
            if last is None or journal.header.block <= last
        }
        if not own:
            unread += damage
            continue
        stage = _read_stage(inputs, record, path.name, own, damage, prompts)
        journals = list(own.values())
        windows = windows_of(stage, journals)
        doubts = throttling_doubts(telemetry.samples, windows)
        stages[path.name] = replace(stage, findings=[*stage.findings, *doubts])
        sampled[path.name] = telemetry.metrics(windows)
        cache = cache_metrics(journals, telemetry.samples)
        tokens[path.name] = TokenFacts(cache, length_notes(journals, prompts))
    probes = {
        p.name: stages.pop(f"probe-{p.name}")
        for p in inputs.quality.probes
        if f"probe-{p.name}" in stages
    }
    judged = stages.get(inputs.judged_stage)
    scored = _scores(judged, EVAL, inputs.quality, prompts) if judged else PromptScores({}, 0)
    probed = {
        p.name: _scores(probes[p.name], p.name, p, prompts)
        for p in inputs.quality.probes
        if p.name in probes
    }
    ordered = _in_order(stages, inputs.stages)
    return MeasuredVariant(
        record=record,
        stages=ordered,
        metrics={name: stage_metrics(stage, {}) for name, stage in ordered.items()},
        tokens=tokens,
        probes=probes,
        scores=scored.scores,
        probe_scores={name: probe.scores for name, probe in probed.items()},
        score_notes=[note for scores in (scored, *probed.values()) if (note := scores.note())],
        unread=unread,
        engine_note=engine.left_out.note(),
        sampled=sampled,
    )


def _stage_folders(folder: Path) -> list[Path]:
    """The folders of a variant that hold journals, less those of a search's probes."""
    if not folder.is_dir():
        return []
    stages = (path for path in folder.iterdir() if not is_search_stage(path.name))
    return sorted(path for path in stages if any(path.glob("block-*.jsonl")))


def _in_order(stages: Mapping[str, StageData], names: Sequence[str]) -> dict[str, StageData]:
    """The stages in the order of `names`, then the others by name."""
    order = {name: i for i, name in enumerate(names)}
    return dict(sorted(stages.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def _read_stage(
    inputs: RunInputs,
    record: VariantRecord,
    name: str,
    own: Mapping[Path, Journal],
    damage: Sequence[Damage],
    prompts: Mapping[str, Prompt],
) -> StageData:
    """A stage or a probe; where its answers are scored, with the doubts about that."""
    probe = next((p for p in inputs.quality.probes if name == f"probe-{p.name}"), None)
    settling = NOTHING_CUT if probe else settling_of(list(own.values()))
    stage = _stage(record, name, own, damage, settling, prompts)
    if probe is None and name != inputs.judged_stage:
        return stage
    group, scoring = (probe.name, probe) if probe else (EVAL, inputs.quality)
    requests = [block.requests for block in stage.blocks]
    doubts = scoring_doubts(requests, _of_set(prompts, group), scoring)
    return replace(stage, findings=[*stage.findings, *doubts])


def _stage(
    record: VariantRecord,
    name: str,
    own: Mapping[Path, Journal],
    damage: Sequence[Damage],
    settling: Settling,
    prompts: Mapping[str, Prompt],
) -> StageData:
    following = {prompt.id for prompt in prompts.values() if prompt.after is not None}
    unordered = (
        replace(block_of(journal, settling.cut_ns, following), accelerators=record.accelerators)
        for journal in own.values()
    )
    blocks = sorted(unordered, key=lambda block: block.number)
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
