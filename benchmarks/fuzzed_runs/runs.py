"""A run directory made by chance: any mixture of times, failures, tokens, windows, blocks, prompts, questions and damage.

Journals are written with `json` and numpy alone, as the documentation describes them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = (
    "connect",
    "tls",
    "http_4xx",
    "http_5xx",
    "timeout_connect",
    "timeout_first",
    "timeout_stall",
    "timeout_total",
    "reset",
    "truncated",
    "aborted",
    "malformed",
    "stream_error",
    "dropped",
    "cancelled",
)
WORDS = (
    "upstream is gone",
    "[bold]no such model[/bold]",
    '<b>busy</b> & "late"',
    "line one\nline two",
    "x" * 2000,
    "",
    "\u202eodd",
    None,
)
DAMAGE = ("cut", "garbage", "type", "negative", "twice", "after", "empty", "header", "missing")
SECOND = 1_000_000_000


@dataclass
class Load:
    name: str
    rate: float | None
    concurrency: int | None
    n: int


@dataclass
class Server:
    """How one variant behaves under one load."""

    latency_ms: float
    spread: float
    block_spread: float
    growing_ms: float
    tokens: int
    per_chunk: int
    failing: float
    burst: bool
    classes: list[str]
    words: list[Any]
    right: float
    empty: float
    late_ms: float
    first_share: float


@dataclass
class Made:
    """What was drawn; the checker reads the files and not this."""

    folder: Path
    rng: np.random.Generator
    variants: list[str] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    blocks: int = 1
    calm: bool = False

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]


def make(folder: Path, seed: int) -> None:
    """Write the run of one seed."""
    made = Made(folder, np.random.default_rng(seed))
    folder.mkdir(parents=True)
    made.variants = ["base", "tuned", "int8"][: made.pick(1, 2, 2, 3, 3)]
    made.calm = made.chance(0.4)
    made.blocks = made.pick(5, 8) if made.calm else made.pick(1, 2, 3, 4, 5, 8)
    rates = sorted({made.pick(2.0, 5.0, 10.0, 20.0, 40.0) for _ in range(made.pick(1, 1, 2, 3))})
    made.loads = [
        Load(
            f"rate-{rate:g}",
            rate,
            None,
            int(min(35 * rate, made.pick(60, 90, 120) if made.calm else made.pick(5, 30, 60, 90))),
        )
        for rate in rates
    ]
    if made.chance(0.25):
        made.loads.insert(
            made.pick(0, len(made.loads)),
            Load("closed", None, made.pick(1, 4, 16), made.pick(10, 40, 80)),
        )
    prompts = _prompts(made)
    typical: dict[str, float] = {}
    for variant in made.variants:
        for load in made.loads:
            server = _server(made)
            typical.setdefault(variant, server.latency_ms)
            for block in range(1, made.blocks + 1):
                _journal(made, variant, load, block, server, prompts)
    _experiment(made, list(typical.values()))


def _prompts(made: Made) -> list[str]:
    count, referenced = made.pick(1, 3, 20, 60), made.pick("all", "all", "half", "none")
    lines = []
    for i in range(count):
        line: dict[str, Any] = {
            "id": f"q{i}",
            "set": "eval",
            "messages": {"plain": [{"role": "user", "content": f"question {i}"}]},
        }
        if referenced == "all" or (referenced == "half" and i % 2):
            line["reference"] = "yes"
        if made.chance(0.02):
            line["after"] = "q0"
        lines.append(line)
    (made.folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [line["id"] for line in lines] + (["unknown"] if made.chance(0.05) else [])


def _server(made: Made) -> Server:
    rng = made.rng
    if made.calm:
        return _calm(made)
    return Server(
        latency_ms=float(np.exp(rng.uniform(np.log(5), np.log(4000)))),
        spread=made.pick(0.0, 0.02, 0.2, 0.6),
        block_spread=made.pick(0.0, 0.0, 0.05, 0.3),
        growing_ms=made.pick(0.0, 0.0, 0.0, 0.0, 20.0, 400.0),
        tokens=made.pick(1, 2, 5, 40),
        per_chunk=made.pick(1, 1, 3, 100),
        failing=made.pick(0.0, 0.0, 0.0, 0.005, 0.03, 0.2, 0.6, 1.0),
        burst=made.chance(0.2),
        classes=[str(name) for name in rng.choice(CLASSES, made.pick(1, 1, 2, 4), replace=False)],
        words=[made.pick(*WORDS) for _ in range(2)],
        right=made.pick(0.0, 0.5, 0.8, 0.95, 1.0),
        empty=made.pick(0.0, 0.0, 0.0, 0.02, 0.5),
        late_ms=made.pick(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 60.0),
        first_share=made.pick(0.1, 0.5, 0.9, 1.0),
    )


def _calm(made: Made) -> Server:
    """One that does its work: most of what is asked of it can be shown."""
    return Server(
        latency_ms=made.pick(50.0, 60.0, 200.0),
        spread=made.pick(0.02, 0.1),
        block_spread=made.pick(0.0, 0.01),
        growing_ms=0.0,
        tokens=made.pick(5, 6, 20),
        per_chunk=1,
        failing=made.pick(0.0, 0.0, 0.01),
        burst=False,
        classes=["http_5xx"],
        words=["busy", None],
        right=made.pick(0.7, 0.95, 1.0),
        empty=0.0,
        late_ms=0.0,
        first_share=0.5,
    )


def _journal(
    made: Made, variant: str, load: Load, block: int, server: Server, prompts: list[str]
) -> None:
    rng, rate = made.rng, load.rate or 1000 / server.latency_ms * (load.concurrency or 1)
    n = max(2, min(load.n, int(30 * rate)))  # windows of 40 s and more are cut to what is steady
    gaps = np.full(n, 1 / rate) if made.chance(0.5) else rng.exponential(1 / rate, n)
    due = np.rint((np.cumsum(gaps) - gaps[0]) * SECOND).astype(int)
    span = int(due[-1]) + SECOND // 10
    start = made.pick(0, 0, span // 5)
    end = made.pick(span, span, span * 9 // 10)
    level = server.latency_ms * float(np.exp(server.block_spread * rng.normal()))
    failing = (
        min(1.0, server.failing * made.blocks)
        if server.burst and block == 1
        else 0.0
        if server.burst
        else server.failing
    )
    records = [_record(made, i, int(due[i]), level, failing, server, prompts) for i in range(n)]
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
    file = made.folder / "load" / variant / load.name / f"block-{block:02d}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    damage = made.pick(*DAMAGE) if made.chance(0.06) else None
    if damage != "missing":
        file.write_bytes(_damaged(made, damage, lines, records))


def _record(
    made: Made, i: int, due: int, level: float, failing: float, server: Server, prompts: list[str]
) -> dict[str, Any]:
    rng = made.rng
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
        "input_tokens": made.pick(5, 5, 7),
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
        "chunk_ns": [first, *[gap] * (chunks - 1)],
        "chunk_tokens": counts,
        "client_lag_ns": [1000] * chunks,
        "done_ns": first + gap * (chunks - 1) + 1000,
        "output_tokens": tokens,
        "finish_reason": made.pick("stop", "stop", "stop", "length", "content_filter"),
        "text": "yes" if rng.random() < server.right else "no",
    }


def _damaged(
    made: Made, damage: str | None, lines: list[str], records: list[dict[str, Any]]
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
        text = text[: int(len(text) * made.rng.uniform(0.3, 0.95))]
    return text.encode()


def _experiment(made: Made, typical: list[float]) -> None:
    """What is asked, near what was drawn, so that all three outcomes come up."""
    stages = [
        {"name": load.name, "requests": load.n, "warmup": "0s"}
        | ({"rate": load.rate} if load.rate is not None else {"concurrency": load.concurrency})
        for load in made.loads
    ]
    for stage in stages:
        if "rate" in stage and made.chance(0.05):
            stage |= {"bursts": {"on": "1s", "off": "1s"}}
    asked: dict[str, Any] = {
        "name": "fuzzed",
        "model": "m",
        "data": {"prompt": "hi"},
        "variants": [
            {"name": name, "url": "http://127.0.0.1:1/v1", "model": "m"} for name in made.variants
        ],
        "baseline": "base",
        "workload": {"stages": stages, "blocks": made.blocks},
        "slo": _slo(made, typical),
        "quality": _quality(made),
    }
    if budget := _budget(made):
        asked["budget"] = budget
    if made.chance(0.5):
        asked["plan"] = {
            "peak_rate": made.pick(1.5, 30, 1000),
            "headroom": made.pick("0%", "20%", "99%"),
            "spare": made.pick(0, 1, 3),
        }
    if made.chance(0.2):
        asked["until_decided"] = {"looks": 5}
    (made.folder / "experiment.yaml").write_text(json.dumps(asked, indent=1))  # JSON is YAML
    kinds = {"base": "url", "tuned": made.pick("adapter", "merged", "url"), "int8": "quantized"}
    records = [
        {
            "name": name,
            "what": name,
            "prompt_style": "plain",
            "size_bytes": made.pick(None, 10**9),
            "kind": kinds[name],
        }
        for name in made.variants
    ]
    (made.folder / "variants.json").write_text(json.dumps(records))
    (made.folder / "environment.json").write_text(
        json.dumps({"hardware": {}, "versions": {}, "models": {}, "seeds": {}})
    )


_SHARES = ("error_rate", "empty_rate", "length_share")


def _slo(made: Made, typical: list[float]) -> dict[str, str]:
    slo: dict[str, str] = {}
    for metric in ("latency", "ttft", "service_latency", "tpot", "itl"):
        if made.chance(0.3):
            statistic = made.pick("mean", "p50", "p90", "p95", "p99")
            near = (
                made.pick(*typical)
                * (
                    made.pick(1.2, 2.0, 4.0)
                    if made.calm
                    else made.pick(0.3, 0.7, 0.97, 1.0, 1.03, 1.5, 4.0)
                )
                * (0.02 if metric in ("tpot", "itl") else 1)
            )
            limit = f"{round(max(near, 0.01), made.pick(0, 1, 2, 3)) or 0.01:g}ms"
            slo[f"{metric}_{statistic}"] = made.pick(limit, limit, limit, "1.1x", "+5%", "2x")
    for metric in _SHARES:
        if made.chance(0.25):
            slo[metric] = made.pick("0.1%", "1%", "3%", "25%", "0.5")
    timed = any(metric not in _SHARES for metric in slo)
    for metric in ("goodput", "requests_per_s", "output_tokens_per_s"):
        if made.chance(0.2) and (timed or metric != "goodput"):
            slo[metric] = made.pick("0.5/s", "3/s", "60/min", "0.02k/s", "0.8x", "-5%", "1.2x")
    return slo


def _quality(made: Made) -> dict[str, Any]:
    if made.chance(0.4):
        return {}
    asked: dict[str, Any] = {"scorer": "exact_match"}
    if made.chance(0.6):
        asked["min"] = made.pick("50%", "79.95%", "0.9", "100%", "0%")
    if made.chance(0.5):
        asked["max_drop"] = made.pick("0%", "1%", "5%", "33.3%")
    return asked


def _budget(made: Made) -> dict[str, Any]:
    if made.chance(0.4):
        return {}
    price = made.pick(
        {"accelerator_hour": "$2.5"},
        {"accelerator_hour": "$0.07", "accelerators": 8},
        {"output_per_million": "$163"},
        {"input_per_million": "$1.2", "output_per_million": "$3.05"},
        {"input_per_token": "$0.0000001", "accelerator_hour": "$1"},
    )
    asked: dict[str, Any] = {"price": price}
    if made.chance(0.7):
        asked |= {"requests_per_month": made.pick("1k", "1M", "1000M")}
        if made.chance(0.8):
            asked["per_month"] = made.pick("$1.50", "$0.51", "$2", "$999.99", "$5000", "$123456")
    if made.chance(0.5):
        asked["max_increase"] = made.pick("0%", "15.5%", "20%", "200%")
    if made.chance(0.3):
        asked["tuning"] = "$50"
    return asked
