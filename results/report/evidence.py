"""The times, answers and timeline of each variant's requests, and the losses of trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from foundation.arrays import Floats
from foundation.run.journal import UNREADABLE
from results.measures.measured import MeasuredVariant
from results.measures.steady_state import BlockTrace, StageBlock
from results.measures.values import values_in
from results.report.figures.loss import Training
from results.report.figures.timeline import Lane, TimelineBlock
from results.report.table import in_order
from results.summary import Summary, VariantSummary


@dataclass(frozen=True)
class VariantEvidence:
    """What a variant's requests show in the report.

    `latency`, `ttft`: in ms, of successful requests in the judged stage's steady windows.
    `failed`: the number of failed requests there.
    `answers`: the first successful answer to each prompt, by prompt id.
    `lane`: every request of every stage, for the timeline.
    """

    latency: Floats
    ttft: Floats
    failed: int
    answers: dict[str, str]
    lane: Lane


def gather(measured: Sequence[MeasuredVariant], summary: Summary) -> dict[str, VariantEvidence]:
    """The evidence by variant, the baseline first; empty arrays for a variant without journals."""
    of = {variant.record.name: variant for variant in measured}
    origin_ns = origin_of([trace for each in measured for _, _, trace in traces_of(each)])
    return {
        variant.variant: _of_variant(variant, of.get(variant.variant), slot, origin_ns)
        for slot, variant in enumerate(in_order(summary))
    }


def origin_of(traces: Sequence[BlockTrace]) -> int:
    """When the first block began, Unix ns: the timeline's zero."""
    return min((trace.origin_unix_ns for trace in traces), default=0)


def traces_of(variant: MeasuredVariant) -> list[tuple[str, int, BlockTrace]]:
    """Stage, number and trace of every block that has a trace."""
    return [
        (stage.stage, block.number, block.trace)
        for stage in variant.stages.values()
        for block in stage.blocks
        if block.trace is not None
    ]


def _of_variant(
    summary: VariantSummary, variant: MeasuredVariant | None, slot: int, origin_ns: int
) -> VariantEvidence:
    blocks = _judged_blocks(summary, variant)
    return VariantEvidence(
        latency=_join([values_in(block, "latency") for block in blocks]),
        ttft=_join([values_in(block, "ttft") for block in blocks]),
        failed=sum(int((~block.requests.ok).sum()) for block in blocks),
        answers=_answers(blocks),
        lane=_lane(summary, variant, slot, origin_ns),
    )


def _judged_blocks(
    summary: VariantSummary, variant: MeasuredVariant | None
) -> Sequence[StageBlock]:
    stage = variant.stages.get(summary.judged_stage) if variant else None
    return stage.blocks if stage else ()


def _lane(
    summary: VariantSummary, variant: MeasuredVariant | None, slot: int, origin_ns: int
) -> Lane:
    """Every request of every stage; times in seconds after `origin_ns`."""
    due: list[Floats] = []
    latency: list[Floats] = []
    failed: list[Floats] = []
    spans: list[TimelineBlock] = []
    for stage, number, trace in traces_of(variant) if variant else ():
        began = (trace.origin_unix_ns - origin_ns) / 1e9
        at, timed = began + trace.due / 1e3, trace.ok & ~np.isnan(trace.latency)
        if len(at):
            spans.append(TimelineBlock(stage, number, float(at.min()), began + trace.end / 1e3))
        due.append(at[timed])
        latency.append(trace.latency[timed])
        failed.append(at[~trace.ok])
    return Lane(summary.variant, slot, _join(due), _join(latency), _join(failed), tuple(spans))


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
    """The loss of every training of the run, from `adapters/NAME/training.jsonl`, in name order.

    Lines with `step` and `loss` hold training loss, those with `step` and `heldout_loss` held-out
    loss. Other lines are skipped, and so are damaged ones.
    """
    curves = []
    for log in sorted((run / "adapters").glob("*/training.jsonl")):
        lines = [_read(line) for line in log.read_bytes().splitlines()]
        steps, losses = _curve(lines, "loss")
        heldout_steps, heldout_losses = _curve(lines, "heldout_loss")
        if steps or heldout_steps:
            curves.append(Training(log.parent.name, steps, losses, heldout_steps, heldout_losses))
    return curves


def _read(line: bytes) -> dict[str, object]:
    """The JSON object of a line; empty where the line holds none."""
    try:
        value = msgspec.json.decode(line)
    except UNREADABLE:
        return {}
    return value if isinstance(value, dict) else {}


def _curve(lines: Sequence[dict[str, object]], key: str) -> tuple[list[float], list[float]]:
    """The steps and the values of the lines that hold numbers as `step` and `key`."""
    steps, values = [], []
    for line in lines:
        step, value = line.get("step"), line.get(key)
        if isinstance(step, int | float) and isinstance(value, int | float):
            steps.append(float(step))
            values.append(float(value))
    return steps, values
