"""`make bench-telemetry`: what sampling every 250 ms costs, in under two minutes.

Blocks of the same load against the emulator, with and without a sampler beside them, by turns. The
sampler reads a server of 50 KB of metrics and a tree of processes. Exits 1 if a limit is missed.
Run it on a quiet machine.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil

from foundation.http.endpoint import Endpoint
from foundation.processes.end_with_parent import end_with
from foundation.processes.python_child import run_module
from foundation.progress import Silent
from loadgen import BlockPlan, Question, run_block
from loadgen.config import WorkloadConfig
from loadgen.emulator.process import emulator
from loadgen.event_loop import run
from serve.ports import HOST, held_port
from serve.telemetry import SampledServer, Telemetry

PAIRS = 4
BLOCK_S = 10
RATE = 40
ALONE_S = 10
MOST_SHARE, MOST_STALL_MS = 0.01, 2.0


@dataclass(frozen=True)
class Block:
    """A block's longest stall of the load loop, ms, and CPU seconds of client and sampler."""

    stall_ms: float
    client_s: float
    sampler_s: float


def main() -> int:
    """Prints the costs and whether they hold the limits; 1 if one of them does not."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        api_at = emulator("--ttft", "20ms", "--itl", "5ms", truth=folder / "truth.jsonl")
        with api_at as api, metrics_server("selects") as server:
            blocks = run(_by_turns(api, server, folder))
        is_held = _print_blocks(blocks)
        with metrics_server("whole") as server:
            share = run(_alone(server, folder)) / ALONE_S
        print(f"sampler of a server that can't select metrics: {share:.2%} of a core, no load")
    return 0 if is_held else 1


@contextmanager
def metrics_server(mode: str) -> Iterator[SampledServer]:
    """A metrics server in a process of its own, with this process tree to sample beside it."""
    with held_port(None) as port:
        command = run_module("benchmarks.telemetry.metrics_server", str(port.number), mode)
        process = subprocess.Popen(command, preexec_fn=partial(end_with, os.getpid()))
        try:
            page = f"http://{HOST}:{port.number}"
            _wait_for(f"{page}/metrics")
            yield SampledServer((Endpoint("server", f"{page}/v1", "m"),), os.getpid())
        finally:
            process.terminate()
            process.wait()


def _wait_for(url: str) -> None:
    for _ in range(100):
        try:
            urlopen(url).read()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


async def _by_turns(api: Endpoint, server: SampledServer, folder: Path) -> dict[bool, list[Block]]:
    """Blocks without a sampler and with one, by turns; which is first changes."""
    blocks: dict[bool, list[Block]] = {False: [], True: []}
    for pair in range(PAIRS):
        for sampled in (bool(pair % 2), not pair % 2):
            journal = folder / f"{pair}-{sampled}.jsonl"
            async with Telemetry([server] if sampled else [], folder / f"telemetry-{pair}"):
                before = _sampler_s()
                end = await run_block(_plan(api), journal, Silent(), asyncio.Event())
                used = _sampler_s() - before
            blocks[sampled].append(Block(end.loop_stall_max_ns / 1e6, end.client_cpu_s, used))
    return blocks


def _plan(api: Endpoint) -> BlockPlan:
    workload = WorkloadConfig.model_validate(
        {
            "stages": [{"rate": RATE, "duration": f"{BLOCK_S}s"}],
            "warmup": "0s",
            "api": "completions",
            "workers": 1,
            "sampling": {"max_tokens": 16},
        }
    )
    prompts = [Question(f"p{i}", [{"role": "user", "content": f"{i}"}]) for i in range(100)]
    return BlockPlan(api, workload.stages[0], 1, 0, prompts, "plain", workload)


async def _alone(server: SampledServer, folder: Path) -> float:
    async with Telemetry([server], folder / "telemetry-alone"):
        before = _sampler_s()
        await asyncio.sleep(ALONE_S)
        return _sampler_s() - before


def _sampler_s() -> float:
    """CPU seconds of the sampling process so far, 0 where there is none."""
    for child in psutil.Process().children():
        if "serve.telemetry.sampler" in child.cmdline():
            times = child.cpu_times()
            return float(times.user + times.system)
    return 0.0


def _print_blocks(blocks: dict[bool, list[Block]]) -> bool:
    """Prints what both kinds of blocks cost; whether both limits hold."""
    for sampled, name in ((False, "without"), (True, "with")):
        stalls = [block.stall_ms for block in blocks[sampled]]
        client = np.mean([block.client_s for block in blocks[sampled]]) / BLOCK_S
        print(
            f"{name:7} sampler: longest stall of the load loop by block "
            f"{', '.join(f'{stall:.2f}' for stall in stalls)} ms, "
            f"median {np.median(stalls):.2f} ms; client {client:.2%} of a core"
        )
    share = sum(block.sampler_s for block in blocks[True]) / (PAIRS * BLOCK_S)
    without, with_sampler = (
        float(np.median([block.stall_ms for block in blocks[sampled]])) for sampled in (False, True)
    )
    added = with_sampler - without
    fits, adds_little = share < MOST_SHARE, added < MOST_STALL_MS
    print(f"sampler: {share:.2%} of a core under load, limit {MOST_SHARE:.0%}: {_holds(fits)}")
    print(f"stall added: {added:+.2f} ms, limit {MOST_STALL_MS:g} ms: {_holds(adds_little)}")
    return fits and adds_little


def _holds(is_held: bool) -> str:
    return "holds" if is_held else "does not hold"


if __name__ == "__main__":
    raise SystemExit(main())
