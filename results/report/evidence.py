"""What the report shows of single requests: read back from the journals, by variant."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from results.journal import Journal, read_journals
from results.metrics import values_in
from results.report.figures.time import Block, Lane, Training
from results.report.table import in_order
from results.requests import Requests
from results.steady import block_of, settling_of
from results.summary import Summary, VariantSummary

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VariantEvidence:
    """`latency` and `ttft` in ms: successful requests in the judged stage's steady windows. `failed`: the others there.

    `answers`: the first successful answer to each prompt, by prompt id. `lane`: every request of every stage, for the timeline.
    """

    latency: Floats
    ttft: Floats
    failed: int
    answers: dict[str, str]
    lane: Lane


@dataclass
class _Collected:
    latency: list[Floats] = field(default_factory=list)
    ttft: list[Floats] = field(default_factory=list)
    failed: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    due: list[Floats] = field(default_factory=list)
    took: list[Floats] = field(default_factory=list)
    lost: list[Floats] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)


def gather(run: Path, summary: Summary) -> dict[str, VariantEvidence]:
    """By variant, the baseline first. A variant without journals has empty arrays."""
    journals = {v.variant: _journals(run, v) for v in summary.variants}
    origin = min((j.header.origin_unix_ns for found in journals.values() for j in found), default=0)
    return {
        variant.variant: _of_variant(variant, slot, journals[variant.variant], origin)
        for slot, variant in enumerate(in_order(summary))
    }


def _journals(run: Path, variant: VariantSummary) -> list[Journal]:
    folders = [run / "load" / variant.variant / stage.stage for stage in variant.stages]
    return [journal for folder in folders for journal in read_journals(folder)[0]]


def _of_variant(variant: VariantSummary, slot: int, journals: list[Journal], origin: int) -> VariantEvidence:
    got = _Collected()
    cut_ns = settling_of([journal for journal in journals if journal.header.stage == variant.judged_stage]).cut_ns
    for journal in journals:
        requests = journal.requests
        began = (journal.header.origin_unix_ns - origin) / 1e9
        _place(got, journal, requests, began)
        if journal.header.stage == variant.judged_stage:
            _judge(got, journal, requests, cut_ns)
    lane = Lane(variant.variant, slot, _join(got.due), _join(got.took), _join(got.lost), tuple(got.blocks))
    return VariantEvidence(_join(got.latency), _join(got.ttft), got.failed, got.answers, lane)


def _place(got: _Collected, journal: Journal, requests: Requests, began: float) -> None:
    due, timed = began + requests.scheduled / 1e3, requests.ok & ~np.isnan(requests.latency)
    if len(requests):
        ended = np.fmax(requests.last, requests.scheduled).max() / 1e3
        got.blocks.append(Block(journal.header.stage, journal.header.block, float(due.min()), float(began + ended)))
    got.due.append(due[timed])
    got.took.append(requests.latency[timed])
    got.lost.append(due[~requests.ok])


def _judge(got: _Collected, journal: Journal, requests: Requests, cut_ns: int) -> None:
    block = block_of(journal, cut_ns)
    got.latency.append(values_in(block, "latency"))
    got.ttft.append(values_in(block, "ttft"))
    got.failed += int(np.count_nonzero(~block.requests.ok))
    for prompt, text, ok in zip(requests.prompt_id, requests.text, requests.ok, strict=True):
        if ok:
            got.answers.setdefault(prompt, text)


def _join(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.empty(0)


def trainings(run: Path) -> list[Training]:
    """The loss of every training the run holds, from `adapters/NAME/training.jsonl`, in name order.

    Lines with `step` and `loss` are training loss, those with `step` and `heldout_loss` held-out loss; others are passed over.
    """
    found = []
    for log in sorted((run / "adapters").glob("*/training.jsonl")):
        lines: list[dict[str, Any]] = [msgspec.json.decode(line) for line in log.read_bytes().splitlines() if line.strip()]
        loss = [(float(x["step"]), float(x["loss"])) for x in lines if _has(x, "step", "loss")]
        held = [(float(x["step"]), float(x["heldout_loss"])) for x in lines if _has(x, "step", "heldout_loss")]
        if loss or held:
            found.append(
                Training(log.parent.name, [s for s, _ in loss], [v for _, v in loss], [s for s, _ in held], [v for _, v in held])
            )
    return found


def _has(line: dict[str, Any], *keys: str) -> bool:
    return all(isinstance(line.get(key), int | float) for key in keys)
