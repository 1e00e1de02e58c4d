"""Random journals and their damage, written with `json` and numpy as documented."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from benchmarks.fuzzed_runs.draws import Load, RandomRun, Server

DAMAGE = ("cut", "garbage", "type", "negative", "twice", "after", "empty", "header", "missing")
SECOND = 1_000_000_000


def write_journal(
    run: RandomRun, variant: str, load: Load, block: int, server: Server, prompts: list[str]
) -> None:
    """Writes the journal of one block, sometimes damaged or not at all."""
    rng, rate = run.rng, load.rate or 1000 / server.latency_ms * (load.concurrency or 1)
    n = max(2, min(load.n, int(30 * rate)))  # windows of 40 s and more are cut to what is steady
    gaps = np.full(n, 1 / rate) if run.chance(0.5) else rng.exponential(1 / rate, n)
    due = np.rint((np.cumsum(gaps) - gaps[0]) * SECOND).astype(int)
    span = int(due[-1]) + SECOND // 10
    start = run.pick(0, 0, span // 5)
    end = run.pick(span, span, span * 9 // 10)
    level = server.latency_ms * float(np.exp(server.block_spread * rng.normal()))
    failing = (
        min(1.0, server.failing * run.blocks)
        if server.burst and block == 1
        else 0.0
        if server.burst
        else server.failing
    )
    records = [_record(run, i, int(due[i]), level, failing, server, prompts) for i in range(n)]
    header = {
        "schema_version": 1,
        "variant": variant,
        "stage": load.name,
        "block": block,
        "seed": block,
        "transport": "socket",
        "clock": "kernel",
        "origin_monotonic_ns": 10**12 + block * 10**11,
        "origin_unix_ns": 1_795_709_885_000_000_000 + block * 10**11,
        "model": variant,
        "prompt_style": "plain",
        "api": "chat",
        "arrivals": "closed" if load.rate is None else "poisson",
        "offered_rate": load.rate,
        "concurrency": load.concurrency,
        "planned": n,
        "window_start_ns": start,
        "window_end_ns": None if load.rate is None else end,
        "workers": 1,
        "receiver": "compiled",
    }
    last = max([end, *(r["done_ns"] for r in records if r["done_ns"] is not None)])
    ending = {
        "end": "complete",
        "ended_ns": last + 1000,
        "window_end_ns": end,
        "loop_stall_max_ns": 10**6,
        "client_cpu_s": 0.1,
        "clock_step_ns": 0,
    }
    lines = [json.dumps(each) for each in (header, *records, ending)]
    file = run.folder / "load" / variant / load.name / f"block-{block:02d}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    damage = run.pick(*DAMAGE) if run.chance(0.06) else None
    if damage != "missing":
        file.write_bytes(_damaged(run, damage, lines, records))


def _record(
    run: RandomRun,
    i: int,
    due: int,
    level: float,
    failing: float,
    server: Server,
    prompts: list[str],
) -> dict[str, Any]:
    rng = run.rng
    took = (level * float(np.exp(server.spread * rng.normal())) + server.growing_ms * i) * 1e6
    sent = due + int(1000 + server.late_ms * 1e6 * rng.random())
    record: dict[str, Any] = {
        "id": i,
        "prompt_id": prompts[i % len(prompts)],
        "scheduled_ns": due,
        "sent_ns": sent,
        "chunk_ns": [],
        "chunk_tokens": [],
        "done_ns": None,
        "status": 200,
        "finish_reason": "stop",
        "failure": None,
        "error": None,
        "input_tokens": run.pick(5, 5, 7),
        "output_tokens": None,
        "tokens_from": "server",
        "text": "",
        "server_metrics": None,
        "client_lag_ns": [],
    }
    if rng.random() < failing:
        failure = server.classes[int(rng.integers(len(server.classes)))]
        never = failure in ("connect", "tls", "timeout_connect", "dropped")
        record |= {
            "failure": failure,
            "error": server.words[int(rng.integers(2))],
            "finish_reason": None,
            "input_tokens": None,
            "tokens_from": None,
            "sent_ns": None if never else sent,
            "done_ns": None if failure == "dropped" else sent + int(took),
            "status": {"http_4xx": 400, "http_5xx": 503}.get(failure, None if never else 200),
        }
        return record
    if rng.random() < server.empty:
        return record | {"done_ns": sent + int(took), "output_tokens": 0}
    tokens = max(1, server.tokens + int(rng.integers(-1, 2)))
    chunks = -(-tokens // server.per_chunk)
    first = sent + int(took * (server.first_share if chunks > 1 else 1.0))
    gap = int(took * (1 - server.first_share) / (chunks - 1)) if chunks > 1 else 0
    counts = [server.per_chunk] * (chunks - 1) + [tokens - server.per_chunk * (chunks - 1)]
    return record | {
        "server_metrics": _timings(i, (first - sent) / 1e6, gap * (chunks - 1) / 1e6)
        if server.tokens % 2
        else None,
        "chunk_ns": [first, *[gap] * (chunks - 1)],
        "chunk_tokens": counts,
        "client_lag_ns": [1000] * chunks,
        "done_ns": first + gap * (chunks - 1) + 1000,
        "output_tokens": tokens,
        "finish_reason": run.pick("stop", "stop", "stop", "length", "content_filter"),
        "text": "yes" if rng.random() < server.right else "no",
    }


def _timings(i: int, first_ms: float, decode_ms: float) -> dict[str, float]:
    """vLLM's timings of an answer; one in eleven is longer than the answer took."""
    queued_ms = 1e6 if i % 11 == 10 else first_ms / 8
    return {
        "queue_time_ms": queued_ms,
        "time_to_first_token_ms": first_ms / 2,
        "generation_time_ms": decode_ms,
    }


def _damaged(
    run: RandomRun, damage: str | None, lines: list[str], records: list[dict[str, Any]]
) -> bytes:
    """The bytes of a journal, after a kill, a full disk or a careless edit."""
    middle = 1 + len(records) // 2
    if damage == "empty":
        return b""
    if damage == "header":
        lines[0] = lines[0][: len(lines[0]) // 2]
    if damage == "garbage":
        lines[middle] = "\u0000\u0000" + lines[middle][5:40]
    if damage == "type":
        lines[middle] = json.dumps(records[middle - 1] | {"scheduled_ns": "soon"})
    if damage == "negative":
        lines[middle] = json.dumps(records[middle - 1] | {"scheduled_ns": -5})
    if damage == "twice":
        lines.insert(middle, lines[middle])
    if damage == "after":
        lines.append(lines[middle])
    text = "".join(line + "\n" for line in lines)
    if damage == "cut":
        text = text[: int(len(text) * run.rng.uniform(0.3, 0.95))]
    return text.encode()
