"""The prefix cache's shares and the notes on lengths, from hand-made journals and telemetry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foundation.run.journal import Journal
from foundation.run.records import JournalEnd, Prompt, RequestRecord, TelemetrySample
from foundation.run.requests import requests_of
from foundation.run.telemetry import write_samples
from results.measures.counter_samples import CounterSamples, read_counter_samples
from results.measures.prefix_cache import cache_metrics
from results.measures.token_counts import length_notes
from tests.run_files import header


def journal(origin_s: int, records: list[RequestRecord], lasted_s: int = 10) -> Journal:
    return Journal(
        header(origin_monotonic_ns=origin_s * 10**9, planned=len(records)),
        requests_of(records),
        JournalEnd(end="complete", ended_ns=lasted_s * 10**9, window_end_ns=10**10),
    )


def record(number: int, **fields: Any) -> RequestRecord:
    return RequestRecord(id=number, prompt_id=f"p{number}", scheduled_ns=number, **fields)


def sample(at_s: float, hits: int | None, queries: int | None) -> TelemetrySample:
    return TelemetrySample(
        monotonic_ns=int(at_s * 1e9),
        unix_ns=0,
        rss_bytes=None,
        cpu_s=None,
        prefix_cache_hits=hits,
        prefix_cache_queries=queries,
    )


RECORDS = [
    record(i, input_tokens=100, shared_tokens=shared)
    for i, shared in enumerate((None, 50, 70, 200))
]


def test_the_intended_share_is_of_all_input_and_never_more_than_it() -> None:
    metrics = cache_metrics([journal(100, RECORDS)], None)
    assert metrics["intended_cache_hit_share"].value == pytest.approx((50 + 70 + 100) / 400)
    assert (
        metrics["cache_hit_share"].value is None
        and metrics["cache_hit_share"].reason == "the server does not tell"
    )


def test_the_observed_share_is_what_the_counters_moved_by_during_the_blocks(tmp_path: Path) -> None:
    file = tmp_path / "telemetry" / "v.parquet"
    # Between the two blocks somebody else asked: 1,000 tokens, all hits.
    samples = [
        (99.0, 5, 100),
        (99.9, 10, 200),
        (105, 40, 300),
        (110.1, 60, 400),
        (119.9, 1060, 1400),
        (130.5, 1090, 1500),
    ]
    write_samples([sample(*each) for each in samples] + [sample(112, None, None)], file)
    counters = read_counter_samples(tmp_path, "v")
    assert isinstance(counters, CounterSamples)
    metrics = cache_metrics([journal(100, RECORDS), journal(120, RECORDS)], counters)[
        "cache_hit_share"
    ]
    assert metrics.value == pytest.approx((60 - 10 + 1090 - 1060) / (400 - 200 + 1500 - 1400))
    assert cache_metrics([journal(140, RECORDS)], counters)["cache_hit_share"].value is None


def test_without_counters_the_usage_of_each_request_tells() -> None:
    records = [
        record(i, input_tokens=100, cached_tokens=cached) for i, cached in enumerate((None, 64, 96))
    ]
    metrics = cache_metrics([journal(0, records)], None)
    assert metrics["cache_hit_share"].value == pytest.approx(160 / 300)
    assert "intended_cache_hit_share" not in metrics
    assert cache_metrics([journal(0, [record(0, input_tokens=5)])], None) == {}


def test_lengths_that_differ_from_what_was_asked_are_said() -> None:
    prompts = {
        f"p{i}": Prompt(f"p{i}", "eval", {}, input_tokens=100, output_tokens=20) for i in range(3)
    }
    good = [record(i, input_tokens=100, output_tokens=20, tokens_from="server") for i in range(3)]
    assert length_notes([journal(0, good)], prompts) == []
    off = [
        record(i, input_tokens=100 + i, output_tokens=20 - 5 * i, tokens_from="tokenizer")
        for i in range(3)
    ]
    failed = record(9, input_tokens=1, output_tokens=1, failure="reset")
    counted, prompt_note, answered = length_notes([journal(0, [*off, failed])], prompts)
    assert counted.startswith("the tokens of 3 answers were counted with the model's own tokenizer")
    assert (
        prompt_note == "2 of 3 prompts are not as long as asked: the server counts +1 to +2 tokens"
    )
    assert answered == "2 of 3 answers are not as long as asked: they have -10 to -5 tokens"
