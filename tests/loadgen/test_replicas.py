"""Requests that take turns among replicas: each emulator's own log says what came to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dyno.pipeline.failures import ends_without_server
from foundation.errors import SystemFailed
from foundation.http.endpoint import Endpoint
from loadgen.config import WorkloadConfig
from loadgen.emulator.process import emulator
from loadgen.sending.readiness import reach
from tests.loadgen.conftest import Journal, RunBlock, questions
from tests.loadgen.test_session import SESSIONS

NOBODY = "http://127.0.0.1:9/v1"


def joined(*endpoints: Endpoint) -> Endpoint:
    return replace(endpoints[0], others=endpoints[1:])


def prompts_of(log: Path) -> set[str]:
    return {json.loads(line)["prompt"] for line in log.read_text().splitlines()}


def replicas_by_prompt(journal: Journal) -> dict[str, int | None]:
    return {record.prompt_id: record.replica for record in journal.records}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Endpoint, Endpoint]]:
    folder = tmp_path_factory.mktemp("two")
    with (
        emulator("--tokens", "2", truth=folder / "1.jsonl") as first,
        emulator("--tokens", "2", truth=folder / "2.jsonl") as second,
    ):
        yield first, second


def test_each_replica_sees_every_second_request_of_every_kind_of_load(
    two: tuple[Endpoint, Endpoint], block: RunBlock
) -> None:
    first, second = two
    endpoint = joined(first, second)
    open_loop = block(endpoint, {"rate": 200, "requests": 21}, questions(21, "open"))
    assert open_loop.header.replicas == 2 and open_loop.header.router == "round robin"
    assert {r.id: r.replica for r in open_loop.records} == {i: i % 2 + 1 for i in range(21)}
    closed = block(endpoint, {"concurrency": 3, "requests": 20}, questions(20, "closed"), workers=2)
    assert Counter(r.replica for r in closed.records) == {1: 10, 2: 10}
    dataset = {"synthetic": {"input_tokens": 9, "output_tokens": 3, "turns": 3}}
    talks = block(
        endpoint, {"rate": 60, "arrivals": "constant", "requests": 6}, SESSIONS, dataset=dataset
    )
    turns = replicas_by_prompt(talks)
    assert [turns[f"s{i}.3"] for i in range(6)] == [1, 2] * 3
    assert all(turns[f"s{i}.{n}"] == turns[f"s{i}.3"] for i in range(6) for n in (2, 1))
    for journal in (open_loop, closed, talks):
        assert {record.failure for record in journal.records} == {None}


def test_what_a_journal_says_of_its_replicas_is_what_came_to_them(
    block: RunBlock, tmp_path: Path
) -> None:
    files = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    with (
        emulator("--tokens", "2", truth=files[0]) as first,
        emulator("--tokens", "2", truth=files[1]) as second,
    ):
        journal = block(joined(first, second), {"rate": 300, "requests": 30}, workers=2)
    for number, file in enumerate(files, start=1):
        own = {f"question {r.prompt_id[1:]}" for r in journal.records if r.replica == number}
        assert len(own) == 15 and prompts_of(file) == own


def test_one_server_has_no_replicas_in_its_journal(
    two: tuple[Endpoint, Endpoint], block: RunBlock
) -> None:
    journal = block(two[0], {"concurrency": 2, "requests": 4})
    assert (journal.header.replicas, journal.header.router) == (1, None)
    assert {record.replica for record in journal.records} == {None}


def test_a_replica_that_is_gone_is_noticed_beside_one_that_answers(
    two: tuple[Endpoint, Endpoint], block: RunBlock, tmp_path: Path
) -> None:
    first, _ = two
    endpoint = joined(first, replace(first, base_url=NOBODY))
    journal = block(endpoint, {"rate": 200, "requests": 20})
    assert Counter((r.replica, r.failure) for r in journal.records) == {
        (1, None): 10,
        (2, "connect"): 10,
    }
    assert ends_without_server(tmp_path / "block.jsonl")


async def test_readiness_asks_every_replica_and_names_the_one_that_fails(
    two: tuple[Endpoint, Endpoint],
) -> None:
    first, second = two
    workload = WorkloadConfig.model_validate({"stages": [{"concurrency": 1, "requests": 1}]})
    endpoint = joined(first, second)
    ready = await reach(endpoint, workload, lambda line: None)
    assert [each.base_url for each in ready.replicas] == [
        first.base_url,
        second.base_url,
    ]
    dead = joined(first, replace(first, base_url=NOBODY))
    with pytest.raises(SystemFailed, match=r"no token could be generated.*replica 2, .*:9/v1"):
        await reach(dead, workload, lambda line: None)
