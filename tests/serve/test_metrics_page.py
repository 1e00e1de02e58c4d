"""A server's metrics: selected, whole, slow, endless, missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from foundation.http.endpoint import Endpoint
from serve.readiness import session
from serve.telemetry import metrics_page
from serve.telemetry.metrics_page import MetricsPage
from tests.serve.metrics_server import answering

GOOD = b"vllm:num_requests_running 2\n"


@asynccontextmanager
async def page_of(endpoint: Endpoint, is_expected: bool = False) -> AsyncIterator[MetricsPage]:
    async with session(endpoint) as web:
        yield MetricsPage(endpoint, web, is_expected)


async def test_only_the_metrics_that_a_sample_has_fields_for_are_asked_for() -> None:
    async with answering(GOOD) as server, page_of(server.endpoint(query="v=1")) as page:
        assert await page.read() == {"running": 2}
    [target] = server.targets
    assert target.startswith("/metrics?v=1&name%5B%5D=vllm%3Anum_requests_running&")
    assert page.troubles == [] and page.answered


async def test_a_server_that_selects_nothing_is_asked_for_the_whole_page_from_then_on() -> None:
    async with answering(GOOD, selected=b"") as server, page_of(server.endpoint()) as page:
        assert await page.read() == await page.read() == {"running": 2}
    assert [target == "/metrics" for target in server.targets] == [False, True, True]


async def test_a_page_without_end_is_cut_off_and_asked_for_again_only_after_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with (
        answering(b"x" * (1 << 18), ends=False) as server,
        page_of(server.endpoint()) as page,
    ):
        page.answered = True
        for _ in range(5):
            assert await page.read() == {}
        assert len(server.targets) == 3
        monkeypatch.setattr(metrics_page, "_PAUSE_S", 0.0)
        page._next_s = 0.0
        await page.read()
    assert len(server.targets) == 4
    assert page.troubles == [
        "a: its /metrics is longer than 1 MiB, so some of its own numbers are missing"
    ]


async def test_a_server_that_does_not_answer_in_time_is_asked_once_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics_page, "_TIMEOUT", aiohttp.ClientTimeout(total=0.05))
    async with answering(b"", ends=False) as server, page_of(server.endpoint()) as page:
        assert await page.read() == {}
        assert len(server.targets) == 1
        page.answered = True
    assert page.troubles == [
        "a: its /metrics did not end in 0.05 s, so some of its own numbers are missing"
    ]


async def test_our_own_server_without_metrics_has_trouble_from_the_beginning() -> None:
    async with answering(GOOD, status=500) as server:
        async with page_of(server.endpoint(), is_expected=True) as page:
            assert await page.read() == {}
        assert page.troubles == [
            "a: its /metrics answered HTTP 500, so its own numbers are missing"
        ]
    async with answering(b"<html>") as server, page_of(server.endpoint(), True) as page:
        assert await page.read() == {}
        assert "has no number that a sample holds" in page.troubles[0]
    async with answering(b"<html>") as server, page_of(server.endpoint()) as page:
        assert await page.read() == {} and page.troubles == []


async def test_a_server_that_is_gone_or_has_no_metrics_says_why() -> None:
    async with page_of(Endpoint("a", "http://127.0.0.1:9/v1", "m")) as page:
        assert await page.read() == {} and page.troubles == []  # it never had any
        page.answered = True
        assert "(ClientConnectorError)" in page.troubles[0]
    async with answering(GOOD, status=500) as server, page_of(server.endpoint()) as page:
        page.answered = True
        assert await page.read() == {} and "HTTP 500" in page.troubles[0]
