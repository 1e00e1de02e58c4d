"""Which requests come to an engine at rest, by hand."""

from __future__ import annotations

from pathlib import Path

from foundation.run.journal import Journal, read_journal
from results.capacity.front_end import comes_alone
from tests.results.synthetic import request, write_journal


def test_a_request_is_alone_if_none_is_there_before_its_first_token(tmp_path: Path) -> None:
    rows = [
        request(0, "p0", 0, latency_ms=50, ttft_ms=20),  # alone
        request(1, "p1", 50, latency_ms=50, ttft_ms=20),  # sent the moment that the last ended
        request(2, "p2", 200, latency_ms=90, ttft_ms=40),  # the next comes before its first token
        request(3, "p3", 210, latency_ms=90, ttft_ms=40),
        request(4, "p4", 400, latency_ms=50, ttft_ms=20),  # the next comes after its first token
        request(5, "p5", 430, latency_ms=50, ttft_ms=20),
        request(6, "p6", 600, latency_ms=50, ttft_ms=20),  # two at once
        request(7, "p7", 600, latency_ms=50, ttft_ms=20),
    ]
    journal = read_journal(write_journal(tmp_path, "v", 1, rows))
    assert isinstance(journal, Journal)
    alone = [True, True, False, False, True, False, False, False]
    assert comes_alone(journal.requests).tolist() == alone
