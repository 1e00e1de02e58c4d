"""What the report shows of single requests, by variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from foundation.arrays import Floats
from foundation.run.journal import UNREADABLE
from results.measures.measured import MeasuredVariant
from results.measures.steady_state import BlockTrace, StageBlock
from results.measures.values import values_in
from results.report.figures.time import Lane, TimelineBlock, Training
from results.report.table import in_order
from results.summary import Summary, VariantSummary


@dataclass(frozen=True)
class VariantEvidence:
    """What the figures draw of one variant.

    `latency` and `ttft` in ms, of successful requests in the judged stage's steady windows;
    `failed` are the others. `answers`: the first successful answer to each prompt, by prompt id.
    `lane`: every request of every stage, for the timeline.
    """

    latency: Floats
    ttft: Floats
    failed: int
    answers: dict[str, str]
    lane: Lane


def gather(measured: Sequence[MeasuredVariant], summary: Summary) -> dict[str, VariantEvidence]:
    """By variant, the baseline first. A variant without journals has empty arrays."""
    of = {variant.record.name: variant for variant in measured}
    traces = [trace for variant in measured for _, _, trace in _traces(variant)]
    origin_ns = min((trace.origin_unix_ns for trace in traces), default=0)
    return {
        variant.variant: _of_variant(variant, of.get(variant.variant), slot, origin_ns)
        for slot, variant in enumerate(in_order(summary))
    }


def _traces(variant: MeasuredVariant) -> list[tuple[str, int, BlockTrace]]:
    """Stage and number of every block, and its requests."""
    every = [(stage, block) for stage in variant.stages.values() for block in stage.blocks]
    return [
        (stage.stage, block.number, block.trace)
        for stage, block in every
        if block.trace is not None
    ]


def _of_variant(
    summary: VariantSummary, variant: MeasuredVariant | None, slot: int, origin_ns: int
) -> VariantEvidence:
    due: list[Floats] = []
    took: list[Floats] = []
    lost: list[Floats] = []
    spans: list[TimelineBlock] = []
    for stage, number, trace in _traces(variant) if variant else ():
        began = (trace.origin_unix_ns - origin_ns) / 1e9
        at, timed = began + trace.due / 1e3, trace.ok & ~np.isnan(trace.latency)
        if len(at):
            spans.append(TimelineBlock(stage, number, float(at.min()), began + trace.end / 1e3))
        due.append(at[timed])
        took.append(trace.latency[timed])
        lost.append(at[~trace.ok])
    lane = Lane(summary.variant, slot, _join(due), _join(took), _join(lost), tuple(spans))
    judged = variant.stages.get(summary.judged_stage) if variant else None
    blocks = judged.blocks if judged else ()
    latency, ttft = (
        _join([values_in(block, name) for block in blocks]) for name in ("latency", "ttft")
    )
    return VariantEvidence(
        latency, ttft, sum(int((~b.requests.ok).sum()) for b in blocks), _answers(blocks), lane
    )


def _answers(blocks: Sequence[StageBlock]) -> dict[str, str]:
    """The first successful answer to each prompt."""
    answers: dict[str, str] = {}
    for requests in (block.requests for block in blocks):
        for i, (prompt, ok) in enumerate(
            zip(requests.prompt_id, requests.ok.tolist(), strict=True)
        ):
            if ok and prompt not in answers:
                answers[prompt] = requests.text[i]
    return answers


def _join(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.empty(0)


def trainings(run: Path) -> list[Training]:
    """The loss of every training the run holds, from `adapters/NAME/training.jsonl`, in name order.

    Lines with `step` and `loss` are training loss, those with `step` and `heldout_loss` held-out
    loss; others are passed over, damaged ones too.
    """
    trainings_ = []
    for log in sorted((run / "adapters").glob("*/training.jsonl")):
        lines = [
            read for line in log.read_bytes().splitlines() if isinstance(read := _read(line), dict)
        ]
        loss = [(float(x["step"]), float(x["loss"])) for x in lines if _has(x, "step", "loss")]
        held = [
            (float(x["step"]), float(x["heldout_loss"]))
            for x in lines
            if _has(x, "step", "heldout_loss")
        ]
        if loss or held:
            trainings_.append(
                Training(
                    log.parent.name,
                    [s for s, _ in loss],
                    [v for _, v in loss],
                    [s for s, _ in held],
                    [v for _, v in held],
                )
            )
    return trainings_


def _read(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except UNREADABLE:
        return None


def _has(line: dict[str, Any], *keys: str) -> bool:
    return all(isinstance(line.get(key), int | float) for key in keys)
