"""Runs of any size: journals as the load generator writes them, drawn instead of measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LABELS = ("earn", "acq", "crude", "trade", "money-fx", "interest", "ship", "grain")
_TEXT = """the a of in and to said company quarter oil prices bank rate wheat shares tonnes dollar
board trade vessels profit loss billion under after minister export agreement stake would not been
market year from with which against record"""
_WORDS = _TEXT.split()
_PROMPTS = 500
_EPOCH_NS = 1_790_000_000 * 10**9
_RATE = 200.0
_GAP_MS, _FIRST_MS, _LAG_US = 20.0, 120.0, 60.0


@dataclass(frozen=True)
class Size:
    """How much is drawn: `requests` and chunks of all variants together; a chunk is a token."""

    variants: int
    blocks: int
    requests: int
    chunks: int

    @property
    def in_block(self) -> int:
        """Requests of one block."""
        return max(1, self.requests // (self.variants * self.blocks))


def write_run(run: Path, size: Size, seed: int = 0) -> None:
    """A run directory that `dyno report` reads, `run/load` being its journals."""
    names = [f"variant-{number}" for number in range(size.variants)]
    run.mkdir(parents=True)
    (run / "experiment.yaml").write_text(_experiment(names, size))
    (run / "environment.json").write_text(
        json.dumps({"hardware": {}, "versions": {}, "models": {}, "seeds": {}})
    )
    kinds = {"prompt_style": "plain", "size_bytes": None, "kind": "url", "unquantized": None}
    (run / "variants.json").write_text(
        json.dumps([{"name": name, "what": "drawn", **kinds} for name in names])
    )
    (run / "prompts.jsonl").write_text(
        "".join(_line(_prompt(number)) for number in range(_PROMPTS))
    )
    generator = np.random.default_rng(seed)
    for block in range(1, size.blocks + 1):
        for variant, name in enumerate(names):
            file = run / "load" / name / f"rate-{_RATE:g}" / f"block-{block:02d}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("w") as stream, _engine_file(run, name).open("a") as engine:
                for row in _journal(name, variant, block, size, generator):
                    stream.write(_line(row))
                    engine.writelines(map(_line, _engine(row, _began_ns(variant, block, size))))


def _experiment(names: list[str], size: Size) -> str:
    variants = ", ".join(
        f'{{name: {name}, url: "http://127.0.0.1:1/v1", model: m}}' for name in names
    )
    return (
        f"name: drawn\nmodel: m\ndata: {{prompt: hi}}\nvariants: [{variants}]\n"
        f"baseline: {names[0]}\n"
        f"workload: {{stages: [{{rate: {_RATE:g}, requests: {size.in_block}, warmup: 0s}}], "
        f"blocks: {size.blocks}}}\n"
        "slo: {ttft_p95: 500ms, latency_p95: 5s, tpot_p95: 40ms, error_rate: 1%}\n"
        "quality: {scorer: contains, min: 0.5}\n"
    )


def _prompt(number: int) -> dict[str, Any]:
    question = {"role": "user", "content": f"Which topic is story {number} about?"}
    return {
        "id": f"eval-{number:05d}",
        "set": "eval",
        "messages": {"plain": [question]},
        "reference": _label(number),
    }


def _label(number: int) -> str:
    return _LABELS[number % len(_LABELS)]


def _journal(
    name: str, variant: int, block: int, size: Size, generator: np.random.Generator
) -> Iterator[dict[str, Any]]:
    n, chunks = size.in_block, size.chunks
    window_ns = round(n / _RATE * 1e9)
    began_ns = _began_ns(variant, block, size)
    header: dict[str, Any] = {
        "schema_version": 1, "variant": name, "stage": f"rate-{_RATE:g}", "block": block,
        "seed": block, "model": "m", "transport": "socket", "clock": "kernel",
        "prompt_style": "plain", "api": "chat", "arrivals": "constant",
        "offered_rate": _RATE, "concurrency": None, "planned": n, "window_start_ns": 0,
        "window_end_ns": window_ns, "workers": 1, "receiver": "compiled",
    }  # fmt: skip
    yield header | {"origin_monotonic_ns": began_ns, "origin_unix_ns": _EPOCH_NS + began_ns}
    mood = (1 + 0.05 * variant) * float(generator.lognormal(0, 0.03))
    last_ns = 0
    for number in range(n):
        due_ns = round(number / _RATE * 1e9)
        record = _record(number, due_ns, chunks, mood, generator)
        last_ns = max(last_ns, record["done_ns"])
        yield record
    end = {
        "end": "complete",
        "ended_ns": last_ns + 1,
        "window_end_ns": window_ns,
        "loop_stall_max_ns": 10**6,
    }
    yield {**end, "client_cpu_s": 1.0, "clock_step_ns": 0}


def _began_ns(variant: int, block: int, size: Size) -> int:
    """The origin of a block's journal."""
    length_ns = round(size.in_block / _RATE * 1e9) + 60 * 10**9
    return 10**12 + (block * size.variants + variant) * length_ns


def _engine_file(run: Path, name: str) -> Path:
    """The engine record of a variant's server, with its first line."""
    file = run / "engine" / f"{name}.jsonl"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        start = {"kind": "start", "schema_version": 1, "source": "drawn"}
        file.write_text(_line({**start, "monotonic_ns": 0, "unix_ns": 0}))
    return file


def _engine(record: dict[str, Any], origin_ns: int) -> Iterator[dict[str, Any]]:
    """A request and a step, of a row of a journal that is an answer."""
    if not record.get("chunk_ns"):
        return
    first_ns, decode_ns = record["chunk_ns"][0], sum(record["chunk_ns"][1:])
    before_ns = first_ns - record["sent_ns"]
    finished_ns = origin_ns + first_ns - before_ns // 8 + decode_ns
    yield {
        "kind": "request", "key": f"{origin_ns:016x}{record['id']:016x}",
        "finished_ns": finished_ns, "in_server_ns": before_ns + decode_ns,
        "queued_ns": before_ns // 8, "prefill_ns": before_ns // 2, "decode_ns": decode_ns,
        "input_tokens": 120, "output_tokens": record["output_tokens"],
        "cached_tokens": 0, "preemptions": 0,
    }  # fmt: skip
    yield {
        "kind": "step", "ended_ns": finished_ns, "elapsed_ns": 20_000_000, "context_requests": 1,
        "context_tokens": 120, "generation_requests": 9, "generation_tokens": 9, "running": 10,
        "waiting": 0,
    }  # fmt: skip


def _record(
    number: int, due_ns: int, chunks: int, mood: float, generator: np.random.Generator
) -> dict[str, Any]:
    """A request of the journal; one in a hundred failed."""
    prompt = int(generator.integers(_PROMPTS))
    record: dict[str, Any] = {
        "id": number,
        "prompt_id": f"eval-{prompt:05d}",
        "scheduled_ns": due_ns,
        "sent_ns": due_ns + 20_000,
    }
    first_ns = due_ns + round(_FIRST_MS * mood * float(generator.lognormal(0, 0.3)) * 1e6)
    if generator.random() < 0.01:
        failed = {
            "done_ns": first_ns,
            "status": 503,
            "failure": "http_5xx",
            "error": "503 Service Unavailable: overloaded",
        }
        return record | {"chunk_ns": [], "chunk_tokens": [], "client_lag_ns": []} | failed
    gaps = _ns(generator.gamma(8, _GAP_MS * mood / 8, chunks) * 1e6)
    gaps[0] = first_ns
    answer = " ".join(
        [_label(prompt if generator.random() < 0.8 else prompt + 1), *_said(chunks - 1, generator)]
    )
    return record | {
        "chunk_ns": gaps, "chunk_tokens": [1] * chunks, "done_ns": sum(gaps) + 50_000,
        "status": 200, "finish_reason": "stop", "failure": None, "error": None, "input_tokens": 120,
        "output_tokens": chunks, "tokens_from": "server", "text": answer,
        "server_metrics": None, "client_lag_ns": _ns(generator.exponential(_LAG_US * 1e3, chunks)),
        "shared_tokens": None, "cached_tokens": None,
    }  # fmt: skip


def _said(count: int, generator: np.random.Generator) -> list[str]:
    return [_WORDS[place] for place in generator.integers(0, len(_WORDS), count).tolist()]


def _ns(values: NDArray[np.float64]) -> list[int]:
    return [int(value) for value in values.astype(np.int64).tolist()]


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":")) + "\n"
