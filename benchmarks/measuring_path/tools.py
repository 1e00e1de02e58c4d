"""The load generators under test: how each is started against the emulator, and how its own record of arrivals is read."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Load:
    """`streams` answers at once, of `tokens` events each. Every prompt differs, so that each has its own truth."""

    streams: int
    tokens: int

    def prompt(self, number: int) -> str:
        return f"stream {number}"


class Tool(Protocol):
    """A load generator in a process of its own. All of them are asked for text completions, one request a stream, all at once."""

    name: str

    def command(self, url: str, load: Load, out: Path) -> list[str]: ...

    def arrivals(self, load: Load, out: Path) -> dict[str, NDArray[np.float64]]:
        """Prompt to the arrival of each of its events, ns on CLOCK_MONOTONIC. Prompts that failed are left out."""

    def cpu_s(self, out: Path) -> float | None:
        """The CPU time of the whole load by the tool's own account, None where the rig has to watch from outside."""


@dataclass(frozen=True)
class Tunedyno:
    transport: str

    @property
    def name(self) -> str:
        return f"tunedyno {self.transport}"

    def command(self, url: str, load: Load, out: Path) -> list[str]:
        return [
            sys.executable,
            str(HERE / "run_tunedyno.py"),
            url,
            str(load.streams),
            str(load.tokens),
            self.transport,
            str(out),
        ]

    def arrivals(self, load: Load, out: Path) -> dict[str, NDArray[np.float64]]:
        header, *records, _ = map(json.loads, out.read_text().splitlines())
        return {
            record["prompt_id"]: np.cumsum(np.array(record["chunk_ns"], float)) + header["origin_monotonic_ns"]
            for record in records
            if record["failure"] is None
        }

    def cpu_s(self, out: Path) -> float | None:
        return float(json.loads(out.read_text().splitlines()[-1])["client_cpu_s"])


@dataclass(frozen=True)
class VllmBench:
    """`vllm bench serve`, in-process. Its stamps are `time.perf_counter`, which is CLOCK_MONOTONIC on Linux."""

    name: str = "vllm bench serve"

    def command(self, url: str, load: Load, out: Path) -> list[str]:
        prompts = out.with_suffix(".prompts.jsonl")
        lines = (json.dumps({"prompt": load.prompt(number)}) for number in range(load.streams))
        prompts.write_text("\n".join(lines) + "\n")
        return [
            sys.executable,
            str(HERE / "run_vllm_bench.py"),
            url,
            str(load.streams),
            str(load.tokens),
            str(prompts),
            str(out),
        ]

    def arrivals(self, load: Load, out: Path) -> dict[str, NDArray[np.float64]]:
        result = json.loads(out.read_text())
        found = {}
        for number, (start, ttft, gaps) in enumerate(zip(result["start_times"], result["ttfts"], result["itls"], strict=True)):
            if ttft:
                found[load.prompt(number)] = (start + ttft + np.concatenate([[0.0], np.cumsum(gaps)])) * 1e9
        return found

    def cpu_s(self, out: Path) -> float | None:
        return None


def installed() -> list[Tool]:
    """tunedyno's two transports, and the others that this environment has."""
    tools: list[Tool] = [Tunedyno("socket"), Tunedyno("aiohttp")]
    if importlib.util.find_spec("vllm"):
        tools.append(VllmBench())
    return tools
