"""Stages of known truth for the product's judges, built from numbers instead of journals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from foundation.arrays import Floats
from foundation.run.chunks import Chunks
from foundation.run.engine_times import EngineTimes
from foundation.run.requests import Requests
from results.comparison.pairing import Pairing
from results.decision.judging import Baseline
from results.measures.steady_state import StageBlock, StageData
from results.summary import Validity

RATE = 10.0
INPUT_TOKENS = 10


def requests(
    latency_ms: Floats,
    failed: Sequence[bool] | np.ndarray | None = None,
    output_tokens: Floats | None = None,
    prompts: Sequence[str] | None = None,
    finish: Sequence[str] | None = None,
) -> Requests:
    """n requests at ten a second; chunks come at half of the latency and at its end."""
    plain = _plain(len(latency_ms))
    last = plain.scheduled_ns + np.round(latency_ms * 1e6)
    first = plain.scheduled_ns + np.round(latency_ms * 0.5e6)
    chunks = replace(plain.chunks, gap_ns=(last - first).astype(np.int64))
    columns = replace(plain, first_ns=first, last_ns=last, done_ns=last, chunks=chunks)
    if failed is not None:
        columns = replace(columns, failure=["http_5xx" if each else None for each in failed])
    if output_tokens is not None:
        by_chunk = np.column_stack([np.ones(len(last)), output_tokens - 1]).ravel().astype(np.int64)
        columns = replace(
            columns, output_tokens=output_tokens, chunks=replace(chunks, tokens=by_chunk)
        )
    return replace(
        columns,
        prompt_id=prompts or columns.prompt_id,
        finish_reason=finish or columns.finish_reason,
    )


@cache
def _plain(n: int) -> Requests:
    """n answers of two tokens, in no time."""
    scheduled = (np.arange(n) * 1e9 / RATE).astype(np.int64)
    at, unknown, zeros = scheduled.astype(np.float64), np.full(n, np.nan), np.zeros(n, np.int64)
    return Requests(
        id=np.arange(n),
        prompt_id=[f"q{i}" for i in range(n)],
        scheduled_ns=scheduled,
        sent_ns=at,
        first_ns=at,
        last_ns=at,
        done_ns=at,
        status=np.full(n, 200.0),
        finish_reason=["stop"] * n,
        failure=[None] * n,
        error=[None] * n,
        input_tokens=np.full(n, float(INPUT_TOKENS)),
        output_tokens=np.full(n, 2.0),
        tokens_from=["server"] * n,
        shared_tokens=unknown,
        cached_tokens=unknown,
        text=["text"] * n,
        silent=np.zeros(n, np.bool_),
        replica=unknown,
        notes=[None] * n,
        chunks=Chunks(
            count=np.full(n, 2),
            gap_ns=zeros,
            tokens=np.ones(2 * n, np.uint8),
            lags=zeros,
            lag_ns=np.empty(0, np.int64),
        ),
        engine=EngineTimes.unknown(n),
    )


def stage(
    blocks: Sequence[Requests],
    completed: Sequence[int] | None = None,
    window_s: float | None = None,
) -> StageData:
    """A stage under open load. `completed`: successes in each block's window; default all."""
    done = [int(r.ok.sum()) for r in blocks] if completed is None else completed
    return StageData(
        "main",
        RATE,
        None,
        [
            StageBlock(
                number=i,
                seed=i,
                window_s=len(r) / RATE if window_s is None else window_s,
                requests=r,
                completed=count,
                ended=count,
                output_tokens=0.0,
                total_tokens=0.0,
                in_flight=1.0,
                notes=(),
            )
            for i, (r, count) in enumerate(zip(blocks, done, strict=True))
        ],
    )


def against(variant: StageData, base: StageData) -> Baseline:
    """The baseline of a variant, its blocks paired in order."""
    return Baseline(
        base, Pairing(list(zip(variant.blocks, base.blocks, strict=True)), ()), Validity()
    )
