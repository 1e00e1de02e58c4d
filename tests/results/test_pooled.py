"""Statistics of pooled times against numpy's; times of chunks and tokens against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.run.chunks import CHUNK_TIMES, Chunks, compact
from foundation.run.pooled_times import Times, order_statistics
from foundation.run.records import RequestRecord
from foundation.run.requests import requests_of

QUANTILES = (0, 25, 50, 90, 95, 99, 99.9, 100)
whole = st.integers(0, 2**31 - 1) | st.integers(0, 2**40) | st.integers(0, 3)


@given(st.lists(st.lists(whole, max_size=40), min_size=1, max_size=4), st.integers(0, 30))
def test_pooled_statistics_are_those_of_one_array(parts: list[list[int]], zeros: int) -> None:
    times = Times([(compact(np.array(part, dtype=np.int64)), None) for part in parts], zeros)
    together = np.array([*(value for part in parts for value in part), *[0] * zeros]) / 1e6
    assert len(times) == len(together)
    if not len(together):
        return
    assert (
        times.percentiles(QUANTILES) == np.percentile(together, QUANTILES).tolist()
    )  # to the last bit
    assert times.mean() == pytest.approx(together.mean(), rel=1e-12)
    assert times.count_of_zeros() == np.count_nonzero(together == 0)
    if len(together) > 1:
        assert times.deviation() == pytest.approx(together.std(ddof=1), rel=1e-9, abs=1e-12)


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=60), st.data())
def test_any_rank_among_those_that_are_kept(values: list[int], data: st.DataObject) -> None:
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    kept = sorted(value for value, kept in zip(values, keep, strict=True) if kept)
    if kept:
        ranks = list(range(len(kept)))
        assert order_statistics([(np.array(values), keep)], ranks) == kept


def test_one_time_far_out_leaves_the_others_apart() -> None:
    values = np.arange(3_000_000, dtype=np.int64)
    values[7] = 2**52
    times = Times([(values, None)])
    assert times.percentiles((50, 99.9)) == np.percentile(values / 1e6, (50, 99.9)).tolist()


chunks = st.lists(
    st.tuples(st.integers(0, 2**33), st.integers(0, 3), st.integers(-5, 2**20)), max_size=6
)
answers = st.lists(
    st.tuples(chunks, st.sampled_from(["all", "no tokens", "no lags", "odd lags"]), st.booleans()),
    max_size=6,
)


def by_hand(record: RequestRecord, name: str) -> list[float]:
    """The times of one request, one step after another."""
    count = len(record.chunk_ns)
    if name == "client_lag":
        return (
            [lag / 1e6 for lag in record.client_lag_ns or ()]
            if len(record.client_lag_ns or ()) == count
            else []
        )
    if name == "icl":
        return [gap / 1e6 for gap in record.chunk_ns[1:]]
    times, at, last = [], 0, None
    if len(record.chunk_tokens) == count:
        for gap, tokens in zip(record.chunk_ns, record.chunk_tokens, strict=True):
            at += gap
            for _ in range(tokens):
                times += [] if last is None else [(at - last) / 1e6]
                last = at
    return times


@given(answers)
def test_times_of_chunks_are_those_of_a_plain_loop(
    drawn: list[tuple[list[tuple[int, int, int]], str, bool]],
) -> None:
    records = []
    for number, (each, kind, failed) in enumerate(drawn):
        gaps, tokens, lags = ([part[i] for part in each] for i in range(3))
        record = RequestRecord(
            id=number,
            prompt_id="p",
            scheduled_ns=0,
            chunk_ns=gaps,
            chunk_tokens=[] if kind == "no tokens" else tokens,
            client_lag_ns=None if kind == "no lags" else [*lags, 1] if kind == "odd lags" else lags,
            failure="reset" if failed else None,
        )
        records.append(record)
    requests = requests_of(records)
    for name in CHUNK_TIMES:
        by_loop = [by_hand(record, name) for record in records]
        good = [
            time
            for times, record in zip(by_loop, records, strict=True)
            if record.failure is None
            for time in times
        ]
        assert requests.chunks.values(name, requests.ok).tolist() == good
        times = requests.chunks.times(name, requests.ok)
        assert len(times) == len(good)
        if good:
            assert times.percentiles(QUANTILES) == np.percentile(good, QUANTILES).tolist()
        means = requests.chunks.means(name).tolist()
        assert means == pytest.approx(
            [np.mean(each) if each else np.nan for each in by_loop], nan_ok=True
        )


def test_chunks_are_taken_with_their_requests() -> None:
    counts = [3, 0, 1, 2]
    records = [
        RequestRecord(
            id=i,
            prompt_id="p",
            scheduled_ns=0,
            chunk_ns=[10 * i + k for k in range(n)],
            chunk_tokens=[1] * n,
        )
        for i, n in enumerate(counts)
    ]
    index = np.array([3, 0, 2, 1])
    taken, fresh = (
        requests_of(records).chunks.take(index),
        requests_of(records[i] for i in range(4)).chunks,
    )
    assert isinstance(taken, Chunks)
    assert taken.count.tolist() == [2, 3, 1, 0]
    assert taken.gap_ns.tolist() == [31, 1, 2]
    assert fresh.gap_ns.tolist() == [1, 2, 31]
