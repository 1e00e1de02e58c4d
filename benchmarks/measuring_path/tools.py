"""Load generators that run in this environment, and the list of all that are installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring_path.executables import AIPerf, GuideLLM, VllmRustBench, from_gaps
from benchmarks.measuring_path.tool import Load, Tool

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Tunedyno(Tool):
    """This project's load generator."""

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
            record["prompt_id"]: np.cumsum(np.array(record["chunk_ns"], float))
            + header["origin_monotonic_ns"]
            for record in records
            if record["failure"] is None
        }

    def cpu_s(self, out: Path) -> float | None:
        return float(json.loads(out.read_text().splitlines()[-1])["client_cpu_s"])


@dataclass(frozen=True)
class VllmBench(Tool):
    """`vllm bench serve`, in-process. Its stamps are `time.perf_counter` (CLOCK_MONOTONIC)."""

    name: str = "vllm bench serve"

    def command(self, url: str, load: Load, out: Path) -> list[str]:
        prompts = load.write_prompts(out.with_suffix(".prompts.jsonl"), "prompt")
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
        return from_gaps(load, json.loads(out.read_text()))


def installed() -> list[Tool]:
    """tunedyno's two transports, and the others that this environment or PATH has."""
    tools: list[Tool] = [Tunedyno("socket"), Tunedyno("aiohttp")]
    if importlib.util.find_spec("vllm"):
        tools.append(VllmBench())
    for kind, program in ((GuideLLM, "guidellm"), (AIPerf, "aiperf"), (VllmRustBench, "vllm-rs")):
        if path := shutil.which(program):
            tools.append(kind(path))
    return tools
