"""The random choices of a run: its loads, its variants and how a server behaves."""

from __future__ import annotations

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


@dataclass
class Load:
    """One stage: an open loop with a rate, or a closed one with a concurrency."""

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
class RandomRun:
    """The random choices of one run. The checker reads the run's files instead."""

    folder: Path
    rng: np.random.Generator
    variants: list[str] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    blocks: int = 1
    calm: bool = False

    def chance(self, share: float) -> bool:
        """True with a probability of `share`."""
        return bool(self.rng.random() < share)

    def pick(self, *options: Any) -> Any:
        """One of the options, each with the same probability."""
        return options[int(self.rng.integers(len(options)))]


def draw_server(run: RandomRun) -> Server:
    """A random server; a calm run has well-behaved ones."""
    rng = run.rng
    if run.calm:
        return _calm_server(run)
    return Server(
        latency_ms=float(np.exp(rng.uniform(np.log(5), np.log(4000)))),
        spread=run.pick(0.0, 0.02, 0.2, 0.6),
        block_spread=run.pick(0.0, 0.0, 0.05, 0.3),
        growing_ms=run.pick(0.0, 0.0, 0.0, 0.0, 20.0, 400.0),
        tokens=run.pick(1, 2, 5, 40),
        per_chunk=run.pick(1, 1, 3, 100),
        failing=run.pick(0.0, 0.0, 0.0, 0.005, 0.03, 0.2, 0.6, 1.0),
        burst=run.chance(0.2),
        classes=[str(name) for name in rng.choice(CLASSES, run.pick(1, 1, 2, 4), replace=False)],
        words=[run.pick(*WORDS) for _ in range(2)],
        right=run.pick(0.0, 0.5, 0.8, 0.95, 1.0),
        empty=run.pick(0.0, 0.0, 0.0, 0.02, 0.5),
        late_ms=run.pick(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 60.0),
        first_share=run.pick(0.1, 0.5, 0.9, 1.0),
    )


def _calm_server(run: RandomRun) -> Server:
    """A well-behaved server, for which most objectives can be settled."""
    return Server(
        latency_ms=run.pick(50.0, 60.0, 200.0),
        spread=run.pick(0.02, 0.1),
        block_spread=run.pick(0.0, 0.01),
        growing_ms=0.0,
        tokens=run.pick(5, 6, 20),
        per_chunk=1,
        failing=run.pick(0.0, 0.0, 0.01),
        burst=False,
        classes=["http_5xx"],
        words=["busy", None],
        right=run.pick(0.7, 0.95, 1.0),
        empty=0.0,
        late_ms=0.0,
        first_share=0.5,
    )
