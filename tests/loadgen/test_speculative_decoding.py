"""Several tokens in one chunk, as speculative decoding sends them: times stay those of tokens.

Fast against the emulator; slow against vLLM, which counts what it accepted and times each answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from foundation.http.endpoint import Endpoint
from foundation.progress import Silent
from foundation.run.journal import Journal as ReadJournal
from foundation.run.journal import read_journal as read_product_journal
from foundation.run.records import RequestRecord
from loadgen import BlockPlan, Question, reach, run_block
from loadgen.config import WorkloadConfig
from results.measures.stage_metrics import stage_metrics
from results.measures.steady_state import StageData, block_of
from results.summary import Estimate
from serve import Hosting, ServedVariant, ServerFolders, check
from serve.config import ServeConfig
from tests.loadgen.conftest import RunBlock, StartEmulator, read_journal

MS = 1_000_000
DRAFTS = 4
NGRAM = {"method": "ngram", "num_speculative_tokens": DRAFTS, "prompt_lookup_max": 4}
REPETITIVE = (
    "Write the sentence 'I love my dog and my dog loves me' five times.",
    "Count from one to twenty, then count again from one to twenty.",
)


def metrics_of(journal: Path) -> dict[str, Estimate]:
    read = read_product_journal(journal)
    assert isinstance(read, ReadJournal)
    return stage_metrics(StageData("s", None, 1, [block_of(read)]), {})


def token_times_ms(records: Sequence[RequestRecord]) -> dict[str, float]:
    """TPOT and ITL by docs/metrics.md, from stamps and counts: one gap a token, 0 in a chunk."""
    gaps = [
        gap / MS
        for record in records
        for chunk, tokens in zip(record.chunk_ns[1:], record.chunk_tokens[1:], strict=True)
        for gap in (chunk, *[0] * (tokens - 1))
    ]
    gaps += [0.0 for record in records for _ in range(record.chunk_tokens[0] - 1)]
    times_per_token = [
        sum(record.chunk_ns[1:]) / MS / ((record.output_tokens or 0) - 1) for record in records
    ]
    return {"tpot_mean": float(np.mean(times_per_token)), "itl_mean": float(np.mean(gaps))}


def test_tokens_that_come_together_are_timed_one_by_one(
    emulator: StartEmulator, block: RunBlock, tmp_path: Path
) -> None:
    server = emulator(
        "--owned-by", "vllm", "--tokens", "21", "--tokens-per-chunk", "5", "--itl", "10ms"
    )
    records = block(server.endpoint, {"concurrency": 1, "requests": 6}).records
    stage = metrics_of(tmp_path / "block.jsonl")
    assert {tuple(record.chunk_tokens) for record in records} == {(5, 5, 5, 5, 1)}
    expected = token_times_ms(records)
    assert {name: stage[name].value for name in expected} == pytest.approx(expected)
    # Four gaps of 10 ms for twenty tokens: chunks are five times as far apart as tokens.
    assert stage["icl_mean"].value == pytest.approx(5 * expected["tpot_mean"])


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_vllm_decodes_speculatively_and_its_token_times_are_ours(tmp_path: Path) -> None:
    from dyno.experiment.bundled import bundled_model

    config = ServeConfig.model_validate(
        {
            "device": "cpu",
            "enforce_eager": True,
            "kv_cache": "256MiB",
            "engine": {"speculative-config": json.dumps(NGRAM)},
        }
    )
    plan = check([ServedVariant("base", bundled_model("smollm2-135m-instruct", Silent()))], config)
    workload = WorkloadConfig.model_validate(
        {
            "stages": [{"concurrency": 1, "requests": 6}],
            "warmup": "0s",
            "sampling": {"max_tokens": 80},
        }
    )
    asked = [
        Question(f"q{i}", [{"role": "user", "content": text}]) for i, text in enumerate(REPETITIVE)
    ]
    journal = tmp_path / "block.jsonl"

    async def answers(endpoint: Endpoint) -> Endpoint:
        return await reach(endpoint, workload=workload, log=print)

    async with Hosting(plan, ServerFolders(tmp_path), Silent(), answers).round(
        plan.rounds[0]
    ) as endpoints:
        before = await counters(endpoints["base"])
        block = BlockPlan(endpoints["base"], workload.stages[0], 1, 0, asked, "plain", workload)
        await run_block(block, journal, Silent(), asyncio.Event())
        after = await counters(endpoints["base"])
    change = {name: after[name] - before.get(name, 0.0) for name in after}
    records = read_journal(journal).records
    tokens = sum(record.output_tokens or 0 for record in records)
    accepted = change["vllm:spec_decode_num_accepted_tokens"]

    assert [record.failure for record in records] == [None] * len(records)
    assert tokens == change["vllm:generation_tokens"]
    assert 0 < accepted <= change["vllm:spec_decode_num_draft_tokens"]
    assert max(max(record.chunk_tokens) for record in records) > 1
    for record in records:
        assert (record.output_tokens or 0) - sum(record.chunk_tokens) in (0, 1)  # the end token
        # vLLM times from its first token to its last, and so do we, at the other end of a socket.
        server_ms = (record.server_metrics or {})["mean_itl_ms"]
        client_ms = sum(record.chunk_ns[1:]) / MS / ((record.output_tokens or 0) - 1)
        print(f"{len(record.chunk_ns)} chunks, {record.output_tokens} tokens: "
              f"{client_ms:.2f} ms a token, {server_ms:.2f} by vLLM")  # fmt: skip
    expected = token_times_ms(records)
    stage = metrics_of(journal)
    assert {name: stage[name].value for name in expected} == pytest.approx(expected)


async def counters(endpoint: Endpoint) -> dict[str, float]:
    """vLLM's counters by name without `_total`, from the samples that have no position."""
    url = endpoint.base_url.removesuffix("/v1") + "/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        families = list(text_string_to_metric_families(await answer.text()))
    return {
        family.name: sample.value
        for family in families
        for sample in family.samples
        if sample.name.endswith("_total") and "position" not in sample.labels
    }
