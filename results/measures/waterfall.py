"""Where the time of a stage's requests goes: segments that add up, from schedule to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

from foundation.arrays import Flags, Floats
from foundation.format import quantity
from foundation.run.engine_times import (
    ENGINE_RECORD,
    OUTSIDE,
    RESPONSE_METRICS,
    TOO_LONG,
    TRACES,
)
from foundation.run.requests import Requests
from results.measures.doubt import some
from results.measures.stage_metrics import mean_of
from results.measures.steady_state import StageBlock, StageData
from results.statistics.intervals import TAIL, Bounds, absent, estimate, percentiles, ratio_bounds
from results.summary import Estimate, Segment, Waterfall

LABELS = {
    "slip": "sent late",
    "before_first": "before the first token",
    "before_queue": "before the queue",
    "queued": "queued",
    "prefill": "prefill",
    "decode": "decode",
    "end_of_answer": "end of answer",
    "client_lag": "client lag",
    "unexplained": "unexplained",
}
"""Every segment by its key, in the order of time."""
LATENCY_SEGMENTS = (
    "slip", "before_first", "before_queue", "queued", "prefill", "decode", "unexplained"
)  # fmt: skip
"""Those that add up to latency. The others come after the last text."""
MOST_MISSING = 0.5
"""A level of detail is taken where at most this share of the answers lacks it."""
ERROR_MS = 1.0
"""Stamps of two clocks may contradict one another by so much."""

Source = Literal["engine record", "traces", "response metrics", "client"]
_SOURCES: dict[int, Source] = {
    ENGINE_RECORD: "engine record", TRACES: "traces", RESPONSE_METRICS: "response metrics"
}  # fmt: skip


class Detail(IntEnum):
    """What is known of a request's time inside the server: nothing, durations, or moments too."""

    CLIENT = 0
    DURATIONS = 1
    MOMENTS = 2


@dataclass(frozen=True)
class BlockSegments:
    """The segments of n requests of a block, in ms: `values` (n, k), in the order of `keys`.

    Each row adds up to `total` (n,), and those of `LATENCY_SEGMENTS` to `latency` (n,).
    """

    keys: tuple[str, ...]
    values: Floats
    latency: Floats
    total: Floats

    def __len__(self) -> int:
        return len(self.total)


def answered(requests: Requests) -> Flags:
    """The requests (n,) whose time can be divided: they succeeded, and text came."""
    return np.asarray(requests.ok & ~np.isnan(requests.latency + requests.sent))


def detail_of(blocks: Sequence[StageBlock]) -> Detail:
    """The finest detail that most answers in the steady parts have."""
    known = [_details(b.steady)[answered(b.steady)] for b in blocks]
    details = np.concatenate([np.empty(0, np.int64), *known])
    for detail in (Detail.MOMENTS, Detail.DURATIONS):
        if len(details) and np.mean(details < detail) <= MOST_MISSING:
            return detail
    return Detail.CLIENT


def _details(requests: Requests) -> Floats:
    timed = np.where(np.isnan(requests.queue), Detail.CLIENT, Detail.DURATIONS)
    return np.where(np.isnan(requests.wait), timed, Detail.MOMENTS)


def block_segments(block: StageBlock, detail: Detail) -> BlockSegments:
    """The segments of the answers in a block's steady part that have this much detail.

    The client's lag is left out if any of them lacks it.
    """
    requests = block.steady
    keep = answered(requests) & (_details(requests) >= detail)
    lag = _client_lag(requests)
    lags = {} if np.isnan(lag[keep]).any() else {"client_lag": lag}
    by_key = {"slip": requests.slip} | _inside(requests, detail) | lags
    by_key["end_of_answer"] = requests.done - requests.last
    keys = tuple(key for key in LABELS if key in by_key)
    total = requests.done - requests.scheduled + lags.get("client_lag", 0.0)
    return BlockSegments(
        keys=keys,
        values=np.column_stack([by_key[key][keep] for key in keys]),
        latency=requests.latency[keep],
        total=total[keep],
    )


def _inside(requests: Requests, detail: Detail) -> dict[str, Floats]:
    """The segments from the request's sending to its last text."""
    decode = {"decode": requests.last - requests.first}
    if detail is Detail.CLIENT:
        return decode | {"before_first": requests.first - requests.sent}
    before_first = requests.first - requests.sent - requests.queue - requests.prefill
    before_queue = requests.wait if detail is Detail.MOMENTS else before_first
    return decode | {
        "before_queue": before_queue,
        "queued": requests.queue,
        "prefill": requests.prefill,
        "unexplained": before_first - before_queue,
    }


def _client_lag(requests: Requests) -> Floats:
    """From the kernel's stamp of the last chunk to the event loop's read of it (n,), NaN without
    one.
    """
    chunks = requests.chunks
    lag = np.full(len(requests), np.nan)
    has_lag = chunks.lags > 0
    lag[has_lag] = chunks.lag_ns[np.cumsum(chunks.lags)[has_lag] - 1] / 1e6
    return lag


def with_common_keys(blocks: Sequence[BlockSegments]) -> list[BlockSegments]:
    """The blocks without a client lag that some of them do not have."""
    if all("client_lag" in block.keys for block in blocks):
        return list(blocks)
    return [_without_lag(block) if "client_lag" in block.keys else block for block in blocks]


def _without_lag(block: BlockSegments) -> BlockSegments:
    place = block.keys.index("client_lag")
    return BlockSegments(
        keys=tuple(key for key in block.keys if key != "client_lag"),
        values=np.delete(block.values, place, axis=1),
        latency=block.latency,
        total=block.total - block.values[:, place],
    )


def waterfall(stage: StageData) -> Waterfall | None:
    """Where the time of the steady answers of a stage goes; None where no answer has text.

    Means have t over the blocks' means; shares, those of the total, t over the blocks too.
    Percentiles have the intervals and the floors of any other time.
    """
    detail = detail_of(stage.blocks)
    blocks = [each for block in stage.blocks if len(each := block_segments(block, detail))]
    if not blocks:
        return None
    blocks = with_common_keys(blocks)
    steady = [block.steady for block in stage.blocks]
    n, succeeded = sum(map(len, blocks)), sum(int(answered(r).sum()) for r in steady)
    keys, total = blocks[0].keys, [block.total for block in blocks]
    segments = {
        key: _segment([block.values[:, place] for block in blocks], total)
        for place, key in enumerate(keys)
    }
    if "client_lag" not in keys:
        segments = _in_order(segments | {"client_lag": _absent_segment(_NO_LAG)})
    return Waterfall(
        source=_source(steady, detail),
        n=n,
        succeeded=succeeded,
        latency=_mean([block.latency for block in blocks]),
        total=_mean(total),
        segments=segments,
        notes=[
            *_detail_notes(detail, n, succeeded),
            *_contradictions(steady),
            *_negatives(blocks),
            *([f"client lag is not in it: {_NO_LAG}"] if "client_lag" not in keys else ()),
        ],
    )


_NO_LAG = "no stamp of the kernel says when the chunks came"


def _segment(values: Sequence[Floats], total: Sequence[Floats]) -> Segment:
    p50, p95 = percentiles(np.concatenate(values), (50.0, 95.0))
    return Segment(mean=_mean(values), share=_share(values, total), p50=p50, p95=p95)


def _absent_segment(reason: str) -> Segment:
    return Segment(
        mean=absent(reason), share=absent(reason), p50=absent(reason), p95=absent(reason)
    )


def _in_order(segments: dict[str, Segment]) -> dict[str, Segment]:
    return {key: segments[key] for key in LABELS if key in segments}


def _mean(values: Sequence[Floats]) -> Estimate:
    return mean_of(np.concatenate(values), [float(np.mean(block)) for block in values])


def _share(values: Sequence[Floats], total: Sequence[Floats]) -> Estimate:
    """A segment's part of the total, with t over the blocks; over the requests of one block.

    The bounds are 0 to 1 at most, unless a segment of some request is not.
    """
    part, whole = np.concatenate(values), np.concatenate(total)
    if not float(np.sum(whole)) > 0:
        return absent("the requests took no time", len(whole))
    if len(values) > 1:
        parts, wholes = (np.array([float(np.sum(b)) for b in each]) for each in (values, total))
    else:
        parts, wholes = part, whole
    share = float(np.sum(part) / np.sum(whole))
    bounds = ratio_bounds(parts, wholes, TAIL, TAIL)
    if bool(np.all((part >= 0) & (part <= whole))):
        bounds = Bounds(max(0.0, bounds.low), min(1.0, bounds.high))
    return estimate(share, bounds, len(part), scale=1.0)


def _source(steady: Sequence[Requests], detail: Detail) -> Source:
    """Who timed most of the answers with this much detail."""
    if detail is Detail.CLIENT:
        return "client"
    sources = np.concatenate(
        [r.engine.source[answered(r) & (_details(r) >= detail)] for r in steady]
    )
    return max(_SOURCES.items(), key=lambda item: int((sources == item[0]).sum()))[1]


def _detail_notes(detail: Detail, n: int, succeeded: int) -> list[str]:
    notes = []
    if detail is Detail.CLIENT:
        notes.append(
            "most answers have no times inside the server (an engine record, traces or metrics in "
            "the answer), so these are the segments that the client sees"
        )
    if detail is Detail.DURATIONS:
        notes.append(
            "only durations are known inside the server: the time before the queue holds the way "
            "back of the first token too, and nothing is unexplained"
        )
    if n < succeeded:
        notes.append(
            f"{succeeded - n:,} of {succeeded:,} answers have no such times inside the server; "
            "they are left out"
        )
    return notes


def _contradictions(steady: Sequence[Requests]) -> list[str]:
    """What the times inside the server say that can't be true."""
    sources = np.concatenate([r.engine.source[answered(r)] for r in steady])
    reasons = {
        TOO_LONG: "that add up to more than the request took",
        OUTSIDE: "from before the request was sent or after it had ended",
    }
    return [
        f"{some(count, 'request')} with times inside the server {words}: these times are left out"
        for code, words in reasons.items()
        if (count := int((sources == code).sum()))
    ]


def _negatives(blocks: Sequence[BlockSegments]) -> list[str]:
    """Segments that are below zero by more than clocks may differ: they count as they are."""
    values, notes = np.concatenate([block.values for block in blocks]), []
    for place, key in enumerate(blocks[0].keys):
        below = values[:, place] < -ERROR_MS
        if count := int(below.sum()):
            notes.append(
                f"{LABELS[key]} is below zero in {some(count, 'request')}, down to "
                f"{quantity(float(values[:, place].min()), 'ms')}: "
                f"{_LATE_END if key == 'unexplained' else _CONTRADICTION}"
            )
    return notes


_CONTRADICTION = "a clock was set, or the times inside the server contradict the client's"
# The end of an engine's times is the moment when the API server had the last token.
_LATE_END = (
    "the last token waited that long on its way out of the engine, and time before the queue is as "
    "much too long; or a clock was set"
)
