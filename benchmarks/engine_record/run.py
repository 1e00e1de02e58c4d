"""`python -m benchmarks.engine_record.run [BLOCKS]`: what the engine record costs a vLLM server.

Starts two servers of the bundled model, one with the record and one without. `dyno run` loads them
in turns, blocks interleaved. Prints the differences of latency p50 and requests/s with 95 %
intervals, then the CPU of the record itself at this load. Exits 1 if a difference is shown, if an
interval reaches further than 3 % to a side, if the CPU is over 1 % of a core, or if requests are
missing in the record.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import yaml

from dyno.experiment.bundled import bundled_model
from foundation.http.endpoint import Endpoint
from foundation.progress import Silent
from foundation.run.engine_record import EngineLine, EngineRequest, EngineStep, request_key
from foundation.run.journal import read_journals
from foundation.run.layout import RunDirectory
from results.summary import Difference, Summary
from serve import Hosting, ServedVariant, ServerFolders, check
from serve.config import ServeConfig

MODEL = "smollm2-135m-instruct"
METRICS = {"latency_p50": "latency p50", "requests_per_s": "requests/s"}
RESOLUTION, MOST_CPU = 0.03, 0.01
SECOND_NS = 1_000_000_000
EXPERIMENT = {
    "name": "engine-record",
    "model": f"bundled:{MODEL}",
    "data": {"eval": "bundled:news-topics/heldout.jsonl"},
    "baseline": "off",
    "workload": {
        "stages": [{"concurrency": 4, "requests": 60, "warmup": "500ms"}],
        "sampling": {"max_tokens": 16},
    },
    "slo": {"latency_p50": "60s"},
}


def main(blocks: int) -> int:
    """The exit code."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(_measure(folder, blocks))
        run = RunDirectory(folder / "runs" / "engine-record")
        summary = msgspec.json.decode((run.path / "summary.json").read_bytes(), type=Summary)
        differences = next(v for v in summary.variants if v.variant == "on").stages[0].differences
        fits = [_fits(label, differences[metric], blocks) for metric, label in METRICS.items()]
        fits += [_cpu_fits(folder), _is_whole(folder, run)]
    return 0 if all(fits) else 1


async def _measure(folder: Path, blocks: int) -> None:
    """Serves the model twice and lets `dyno run` load both."""
    model = bundled_model(MODEL, Silent())
    variants = []
    environment = dict(os.environ)
    async with AsyncExitStack() as stack:
        for name, record in (("off", False), ("on", True)):
            config = ServeConfig.model_validate(
                {"enforce_eager": True, "kv_cache": "256MiB", "engine_record": record}
            )
            plan = check([ServedVariant(name, model)], config)
            folders = ServerFolders(folder / "logs", engine=folder / "engine")
            hosting = Hosting(plan, folders, Silent(), _unreached)
            endpoint = (await stack.enter_async_context(hosting.round([name])))[name]
            key = f"KEY_{name}"
            environment[key] = endpoint.api_key
            variants.append(
                {"name": name, "url": endpoint.base_url, "model": name, "api_key_env": key}
            )
        experiment = {**EXPERIMENT, "variants": variants}
        experiment["workload"] = {**experiment["workload"], "blocks": blocks}
        (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")
        done = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dyno.cli", "run", "experiment.yaml",
            cwd=folder, env=environment,
        )  # fmt: skip
        if code := await done.wait():
            raise SystemExit(f"dyno run ended with {code}")


async def _unreached(endpoint: Endpoint) -> Endpoint:
    """Both servers are ours."""
    raise AssertionError(endpoint)


def _fits(label: str, difference: Difference, blocks: int) -> bool:
    """Prints a difference; whether it is not shown, at the resolution wanted."""
    value, low, high = (getattr(difference.relative, name) for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        print(f"{label}: {difference.relative.reason}")
        return False
    resolution = max(value - low, high - value)
    fits = low <= 0 <= high and resolution <= RESOLUTION
    print(
        f"{label}, on against off: {value:+.2%} (95 %: {low:+.2%} to {high:+.2%}), "
        f"{blocks} pairs of blocks, resolution {resolution:.2%} of {RESOLUTION:.0%}: "
        f"{'no difference shown' if fits else 'NOT as wanted'}"
    )
    return fits


def _lines(folder: Path) -> list[EngineLine]:
    decoder = msgspec.json.Decoder(EngineLine)
    return decoder.decode_lines((folder / "engine" / "on.jsonl").read_bytes())


def _cpu_fits(folder: Path) -> bool:
    """Prints the record's own CPU in the busiest second of the load."""
    command = [sys.executable, "-m", "benchmarks.engine_record.cpu", str(folder / "cpu.jsonl")]
    costs = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    seconds: dict[int, float] = {}
    for line in _lines(folder):
        if isinstance(line, EngineStep):
            second, cost = line.ended_ns // SECOND_NS, costs["step_us"]
        elif isinstance(line, EngineRequest) and line.finished_ns is not None:
            second, cost = line.finished_ns // SECOND_NS, costs["request_us"]
        else:
            continue
        seconds[second] = seconds.get(second, 0.0) + cost / 1e6
    share = max(seconds.values())
    print(
        f"the record's CPU: {costs['step_us']:.1f} us a step, {costs['request_us']:.1f} us a "
        f"request: {share:.3%} of a core in the busiest second, of {MOST_CPU:.0%}"
    )
    return share < MOST_CPU


def _is_whole(folder: Path, run: RunDirectory) -> bool:
    """Prints how many of the requests that succeeded have a line in the record."""
    keys = {line.key for line in _lines(folder) if isinstance(line, EngineRequest)}
    journals, _ = read_journals(run.path / "load" / "on")
    sent = [
        request_key(journal.header.origin_monotonic_ns, int(number))
        for journal in journals
        for number in journal.requests.id[journal.requests.ok]
    ]
    recorded = sum(key in keys for key in sent)
    print(f"{recorded} of {len(sent)} requests that succeeded are in the record")
    return recorded == len(sent) > 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
