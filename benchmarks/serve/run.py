"""`make bench-serve`: requests/s of our servers against vLLM's bare ones, for the demo's variants.

For each variant two servers are up: one with our defaults, one with the model's path alone (and its
adapter). `dyno run` loads them by turns, block by block, and gives the ratio with its interval.
Exits 1 if a ratio is shown to be below 1. The bare server gets one setting more: the size of its KV
cache, since it would take nearly all memory. On a machine with more than two cores the servers
share all of them, as bare ones do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import yaml

from benchmarks.serve.checkpoints import Checkpoint, make_checkpoints
from foundation.http.endpoint import Endpoint
from foundation.processes.python_child import run_module
from foundation.processor import processor_name
from foundation.progress import Silent
from results.summary import Difference, Summary
from serve import Hosting, ServedVariant, ServerFolders, ServerPlan, check
from serve.config import ServeConfig

OURS, BARE = "ours", "bare"
_RUN = "load"
_KV_GIB = 1
_OF_OURS = (
    "--dtype=",
    "--kv-cache-memory-bytes=",
    "--enable-per-request-metrics",
    "--disable-uvicorn-access-log",
)
"""The options that our servers have and a bare one has not."""


def main() -> int:
    """Measures all variants and prints a table; returns the exit code."""
    args = _arguments()
    print(f"{processor_name()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}\n")
    print("| variant | ours, requests/s | bare, requests/s | ratio | 95 % interval |")
    print("|---|---|---|---|---|", flush=True)
    is_slower = False
    with tempfile.TemporaryDirectory() as folder:
        for checkpoint in make_checkpoints(Path(folder)):
            if args.variants and checkpoint.name not in args.variants:
                continue
            out = Path(folder) / f"run-{checkpoint.name}"
            out.mkdir()
            summary = asyncio.run(_measure(checkpoint, out, args))
            line, slower = _line(checkpoint.name, summary)
            print(line, flush=True)
            is_slower |= slower
    print(f"\nOurs at least as fast as bare (goal 1.0): {'MISSED' if is_slower else 'met'}")
    return int(is_slower)


async def _measure(checkpoint: Checkpoint, out: Path, args: argparse.Namespace) -> Summary:
    """Starts both servers of a checkpoint and loads them by turns."""
    config = ServeConfig(device="cpu", kv_cache=_KV_GIB << 30, enforce_eager=args.eager)
    ours, bare = (
        check([ServedVariant(name, checkpoint.model, adapter=checkpoint.adapter)], config)
        for name in (OURS, BARE)
    )
    plan = replace(ours, servers=(ours.servers[0], _bare(bare.servers[0])), rounds=((BARE, OURS),))
    hosting = Hosting(plan, ServerFolders(out / "logs"), Silent(), _no_api_elsewhere)
    async with hosting.round(plan.rounds[0]) as endpoints:
        file = out / "experiment.yaml"
        experiment = _experiment(checkpoint, endpoints, args.blocks, args.requests)
        file.write_text(yaml.safe_dump(experiment), encoding="utf-8")
        keys = {_key(name): endpoint.api_key or "" for name, endpoint in endpoints.items()}
        load = await asyncio.create_subprocess_exec(
            *run_module("dyno.cli", "run", str(file), "--out", str(out)),
            env={**os.environ, **keys},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await load.communicate()
    summary = out / _RUN / "summary.json"
    if not summary.is_file():
        sys.exit(f"dyno run failed:\n{output.decode(errors='replace')[-3000:]}")
    return msgspec.json.decode(summary.read_bytes(), type=Summary)


def _bare(plan: ServerPlan) -> ServerPlan:
    """The server without our options, as `vllm serve MODEL` starts it."""
    arguments = tuple(each for each in plan.arguments if not each.startswith(_OF_OURS))
    return replace(plan, arguments=arguments, variables={"VLLM_CPU_KVCACHE_SPACE": str(_KV_GIB)})


def _experiment(
    checkpoint: Checkpoint, endpoints: Mapping[str, Endpoint], blocks: int, requests: int
) -> dict[str, object]:
    """A closed loop of four on both servers; each answer has exactly 16 tokens."""
    return {
        "name": _RUN,
        "model": str(checkpoint.model.path),
        "variants": [
            {
                "name": name,
                "url": endpoints[name].base_url,
                "model": endpoints[name].model,
                "api_key_env": _key(name),
            }
            for name in (BARE, OURS)
        ],
        "baseline": BARE,
        "workload": {
            "stages": [{"concurrency": 4, "requests": requests}],
            "dataset": {"synthetic": {"input_tokens": 96, "output_tokens": 16}},
            "blocks": blocks,
        },
    }


def _key(name: str) -> str:
    return f"BENCH_SERVE_KEY_{name.upper()}"


async def _no_api_elsewhere(endpoint: Endpoint) -> Endpoint:
    raise AssertionError(endpoint)


def _line(name: str, summary: Summary) -> tuple[str, bool]:
    """The variant's line of the table, and whether ours is shown to be slower."""
    stages = {variant.variant: variant.stages[0] for variant in summary.variants}
    rates = {arm: stage.metrics["requests_per_s"].value for arm, stage in stages.items()}
    difference: Difference = stages[OURS].differences["requests_per_s"]
    change = difference.relative
    if change.value is None or change.low is None or change.high is None:
        sys.exit(f"{name}: no ratio: {change.reason}")
    line = (
        f"| {name} | {rates[OURS]:.2f} | {rates[BARE]:.2f} | {1 + change.value:.3f} "
        f"| {1 + change.low:.3f} to {1 + change.high:.3f} |"
    )
    return line, change.high < 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Our servers against vLLM's bare ones.")
    parser.add_argument("--variants", nargs="*", help="of base, tuned, merged, int8; all if none")
    parser.add_argument("--eager", action="store_true", help="both without compilation")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--requests", type=int, default=32, help="in each block of each server")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
