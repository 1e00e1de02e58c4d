"""The emulator's scheduler takes the steps that vLLM's own scheduler takes, without a model.

Requests get made-up tokens. Both are held to the same requests, limits and order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadgen.emulator.batch_limits import BatchLimits
from loadgen.emulator.block_keys import keys_of_words
from loadgen.emulator.planned_step import ScheduledRequest
from loadgen.emulator.scheduler import ContinuousBatching
from tests.tiny_model import build_tiny_model

pytestmark = pytest.mark.slow

LONGEST = 90
Arrival = tuple[int, list[int], int]
"""The step by which a request has come, its prompt, and its output tokens."""
Row = tuple[int, int, list[tuple[int, int, int]], list[int]]
"""Requests that decode, tokens in their KV cache, pieces of prompts, requests preempted."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pytest.importorskip("vllm")
    folder = tmp_path_factory.mktemp("model") / "tiny"
    build_tiny_model(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        yield folder


def made_token(request: int, number: int) -> int:
    return 10_000 + request * 100 + number


def drawn_limits(rng: np.random.Generator) -> BatchLimits:
    chunked, seqs = bool(rng.integers(2)), int(rng.integers(1, 9))
    return BatchLimits(
        max_num_seqs=seqs,
        max_num_batched_tokens=int(
            rng.integers(max(seqs, 4), 50) if chunked else rng.integers(LONGEST, 150)
        ),
        kv_blocks=None if rng.integers(4) == 0 else int(rng.integers(12, 50)),
        block_size=8,
        chunked_prefill=chunked,
        prefix_caching=bool(rng.integers(2)),
    )


def drawn_arrivals(rng: np.random.Generator) -> list[Arrival]:
    """30 requests, of which most begin with one of two texts."""
    prefixes = [rng.integers(3, 200, 24).tolist() for _ in range(2)]
    arrivals, at = [], 0
    for _ in range(30):
        at += int(rng.integers(0, 12))
        length, prefix = int(rng.integers(1, 60)), rng.integers(-1, 2)
        shared = prefixes[prefix] if prefix >= 0 else []
        prompt = (shared + rng.integers(3, 200, length).tolist())[:length]
        arrivals.append((at, prompt, int(rng.integers(1, 30))))
    return arrivals


def vllm_scheduler(model: Path, limits: BatchLimits) -> Any:
    import torch
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
    from vllm.v1.structured_output import StructuredOutputManager

    config = EngineArgs(
        model=str(model),
        max_num_seqs=limits.max_num_seqs,
        max_num_batched_tokens=limits.max_num_batched_tokens,
        block_size=limits.block_size,
        enable_chunked_prefill=limits.chunked_prefill,
        enable_prefix_caching=limits.prefix_caching,
        max_model_len=LONGEST,
        async_scheduling=False,
    ).create_engine_config()
    blocks = (limits.kv_blocks or 5_000) + 1  # vLLM keeps one of them empty
    config.cache_config.num_gpu_blocks = blocks
    spec = FullAttentionSpec(
        block_size=limits.block_size, num_kv_heads=1, head_size=32, dtype=torch.bfloat16
    )
    cache = KVCacheConfig(
        num_blocks=blocks, kv_cache_tensors=[], kv_cache_groups=[KVCacheGroupSpec(["l"], spec)]
    )
    manager = StructuredOutputManager(config)
    return Scheduler(config, cache, manager, limits.block_size, log_stats=True)


def vllm_rows(model: Path, limits: BatchLimits, arrivals: list[Arrival]) -> list[Row | None]:
    from vllm.sampling_params import SamplingParams
    from vllm.utils.hashing import sha256
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.request import Request

    init_none_hash(sha256)
    scheduler = vllm_scheduler(model, limits)
    hasher = get_request_block_hasher(limits.block_size, sha256)
    rows: list[Row | None] = []
    coming = list(enumerate(arrivals))
    made: set[str] = set()
    while coming or scheduler.has_unfinished_requests():
        while coming and coming[0][1][0] <= len(rows):
            number, (_, prompt, tokens) = coming.pop(0)
            sampling = SamplingParams(ignore_eos=True, max_tokens=tokens)
            request = Request(str(number), prompt, sampling, None, block_hasher=hasher)
            scheduler.add_request(request)
        if not scheduler.has_unfinished_requests():
            rows.append(None)
            continue
        row, made = vllm_step(scheduler, made)
        rows.append(row)
    return rows


def vllm_step(scheduler: Any, made: set[str]) -> tuple[Row, set[str]]:
    """A step, and the requests that it makes a token for. `made`: those of the step before."""
    from vllm.v1.outputs import ModelRunnerOutput

    requests = dict(scheduler.requests)
    before = {name: request.num_preemptions for name, request in requests.items()}
    decoding = made & {request.request_id for request in scheduler.running}
    planned = scheduler.schedule()
    cached = planned.scheduled_cached_reqs
    known = {each.req_id: each.num_computed_tokens for each in planned.scheduled_new_reqs}
    known |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
    tokens = planned.num_scheduled_tokens
    decodes = [known[name] for name in tokens if name in decoding]
    pieces = [(int(n), known[n], count) for n, count in tokens.items() if n not in decoding]
    preempted = [int(n) for n, each in requests.items() if each.num_preemptions > before[n]]
    made = {n for n in tokens if requests[n].num_computed_tokens >= requests[n].num_tokens}
    sampled = [
        [made_token(int(name), requests[name].num_output_tokens)] if name in made else []
        for name in tokens
    ]
    places = {name: place for place, name in enumerate(tokens)}
    scheduler.update_from_output(planned, ModelRunnerOutput(list(tokens), places, sampled))
    return (len(decodes), sum(decodes), pieces, sorted(preempted)), made


def our_rows(scheduler: ContinuousBatching, arrivals: list[Arrival]) -> list[Row | None]:
    rows: list[Row | None] = []
    coming = list(enumerate(arrivals))
    while True:
        while coming and coming[0][1][0] <= len(rows):
            number, (_, prompt, tokens) = coming.pop(0)
            words = [str(token) for token in prompt]
            answer = [str(made_token(number, token)) for token in range(tokens)]
            keys = keys_of_words(words, answer, scheduler.limits.block_size, None)
            scheduler.add(ScheduledRequest(number, len(words), tokens, keys))
        if step := scheduler.plan():
            pieces = [(each.request.number, each.before, each.tokens) for each in step.pieces]
            preempted = sorted(request.number for request in step.preempted)
            rows.append((step.decodes, step.kv_tokens, pieces, preempted))
            scheduler.end_step()
        elif coming:
            rows.append(None)
        else:
            return rows


def test_steps_are_those_of_vllms_own_scheduler(model: Path) -> None:
    preemptions = hits = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        limits, arrivals = drawn_limits(rng), drawn_arrivals(rng)
        scheduler = ContinuousBatching(limits)
        ours = our_rows(scheduler, arrivals)
        assert ours == vllm_rows(model, limits, arrivals), (seed, limits)
        preemptions += scheduler.preemptions
        hits += scheduler.prefix_hits
    assert preemptions > 10 and hits > 1_000
