"""Loads that the model has not seen, planned and then measured: on the emulator, and on vLLM.

`dyno calibrate-model` fits a model. Loads at 50, 80 and 95 % of the capacity that it says follow,
twice the same. The model then plans the arrivals and lengths that were measured. Beside its error
stands the noise: how far the second measurement is off the first. An error within the noise is no
miss. Where the noise is large or requests failed, the load judges nothing.
`python -m benchmarks.plan.held_out emulator|vllm [FOLDER]` prints the table, and ends with 1 unless
all of it is ok. The runs stay in FOLDER if it is given.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from foundation.arrays import Floats, Ints
from foundation.http.endpoint import Endpoint
from foundation.processor import processor_name
from foundation.run.journal import Journal, read_journals
from loadgen.emulator.process import emulator
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import EngineModel
from results.capacity.model.models_of_run import model_of_loads
from results.capacity.simulation.held_rate import held_rate
from results.capacity.simulation.simulator import simulate
from results.config import Slo

SHARES = (0.5, 0.8, 0.95)
REPETITIONS = 2
GOALS = {
    "emulator": {"itl": 0.03, "latency_p50": 0.03, "latency_p95": 0.06, "ttft_p50": 0.05,
                 "ttft_p95": 0.10},
    "vllm": {"itl": 0.05, "latency_p50": 0.05, "latency_p95": 0.10, "ttft_p50": 0.10,
             "ttft_p95": 0.20},
}  # fmt: skip
MOST_NOISE = 0.25
"""Beyond it something else disturbed one of the two measurements."""
PLANT = (
    "--step=fixed=12ms,decode=250us,prefill=60us,kv=100ns", "--front=2ms", "--step-noise=0.03",
    "--max-num-seqs=32", "--max-num-batched-tokens=2048", "--tokens=100000",
)  # fmt: skip
LENGTHS = {
    "emulator": {"input_tokens": "lognormal:128:0.4", "output_tokens": "lognormal:48:0.4"},
    "vllm": {"input_tokens": "lognormal:48:0.3", "output_tokens": "lognormal:24:0.3"},
}
SLOS = {"emulator": {"ttft_p95": "250ms"}, "vllm": {"ttft_p95": "1500ms"}}
SECONDS = {"emulator": 30, "vllm": 40}
"""Of a block."""
BUDGET = {"emulator": "60s", "vllm": "120s"}
VARIANT = "base"


@dataclass(frozen=True)
class Server:
    """What an experiment says of the server that is loaded."""

    kind: str
    settings: dict[str, object]


def main() -> int:
    """Measures one kind of server and prints its table; returns the exit code."""
    kind = sys.argv[1] if len(sys.argv) > 1 else "emulator"
    print(f"{kind}, {processor_name()}\n", flush=True)
    if len(sys.argv) > 2:
        folder = Path(sys.argv[2])
        folder.mkdir(parents=True)
        return _measured_table(kind, folder)
    with tempfile.TemporaryDirectory() as name:
        return _measured_table(kind, Path(name))


def _measured_table(kind: str, folder: Path) -> int:
    if kind == "vllm":
        server = Server(kind, {
            "model": "bundled:smollm2-135m-instruct",
            "serve": {"enforce_eager": True, "kv_cache": "512MiB"},
        })  # fmt: skip
        return _table(folder, server)
    with _emulator(folder) as endpoint:
        variant = {"name": VARIANT, "url": endpoint.base_url, "model": endpoint.model}
        return _table(folder, Server(kind, {"model": "emulated", "variants": [variant]}))


def _emulator(folder: Path) -> AbstractContextManager[Endpoint]:
    return emulator(*PLANT, truth=folder / "truth.jsonl")


def _table(folder: Path, server: Server) -> int:
    model = _model(folder, server)
    print(f"model: {model.steps}\n{model.front}\n", flush=True)
    slo = Slo(SLOS[server.kind])
    lengths = _lengths(folder, server)
    held = held_rate(model, lengths, slo, seed=1)
    if held.rate is None:
        sys.exit(f"the model says no rate: {held.reason}")
    print(f"one replica holds {held.rate:.3g} requests/s ({held.low} to {held.high}) {slo}\n")
    print("| load | metric | planned, ms | measured, ms | error | noise | goal | |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    rates = [float(f"{share * held.rate:.3g}") for share in SHARES]
    stages = [_stage(rate, SECONDS[server.kind]) for rate in rates]
    runs = [_run(folder, server, f"held-out-{n}", stages) for n in range(REPETITIONS)]
    all_ok = True
    for share, rate in zip(SHARES, rates, strict=True):
        measured = [_journals(run, f"at-{rate:g}") for run in runs]
        if failed := sum(map(_failures, measured)):
            all_ok = False
            print(f"| {share:.0%}, {rate:g}/s | | | | | | | not judged: {failed} failed requests |")
            continue
        planned, first, second = _planned(model, measured[0]), *map(_measured, measured)
        for metric, goal in GOALS[server.kind].items():
            both = (first[metric] + second[metric]) / 2
            error, noise = planned[metric] / both - 1, abs(first[metric] - second[metric]) / both
            word = judgement(error, noise, goal)
            all_ok = all_ok and word == "ok"
            print(
                f"| {share:.0%}, {rate:g}/s | {metric} | {planned[metric]:.1f} | {both:.1f} "
                f"| {error:+.1%} | {noise:.1%} | {goal:.0%} | {word} |",
                flush=True,
            )
    return int(not all_ok)


def judgement(error: float, noise: float, goal: float) -> str:
    """What an error says beside the noise of repeating the load."""
    if not noise <= MOST_NOISE:
        return "not judged"
    return "ok" if abs(error) <= max(goal, noise) else "MISSED"


def _failures(journals: Sequence[Journal]) -> int:
    return sum(int((~journal.requests.ok).sum()) for journal in journals)


def _model(folder: Path, server: Server) -> EngineModel:
    """The model after `dyno calibrate-model`."""
    run = _dyno(folder, server, "model", [_stage(1.0, 10)], "calibrate-model",
                "--max-time", BUDGET[server.kind])  # fmt: skip
    model = model_of_loads(run, VARIANT)
    if isinstance(model, str):
        sys.exit(f"no model: {model}")
    return model


def _lengths(folder: Path, server: Server) -> Demand:
    """The lengths of a short run of the same kind."""
    run = _run(folder, server, "lengths", [_stage(4.0, 30)])
    return _demand(_journals(run, "at-4"))


def _stage(rate: float, seconds: int) -> dict[str, object]:
    return {"name": f"at-{rate:g}", "rate": rate, "duration": f"{seconds}s", "warmup": "0s"}


def _run(folder: Path, server: Server, name: str, stages: Sequence[dict[str, object]]) -> Path:
    return _dyno(folder, server, name, stages, "run")


def _dyno(
    folder: Path, server: Server, name: str, stages: Sequence[dict[str, object]], *command: str
) -> Path:
    """Writes an experiment, runs a command on it, and returns the run directory."""
    experiment = {
        "name": name,
        "baseline": VARIANT,
        **server.settings,
        "workload": {
            "stages": list(stages),
            "dataset": {"synthetic": LENGTHS[server.kind]},
            "blocks": 3,
            "sampling": {"max_tokens": 512},
        },
        "slo": SLOS[server.kind],
    }
    if "variants" not in experiment:
        experiment["variants"] = [{"name": VARIANT}]
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(experiment), encoding="utf-8")
    verb, *options = command
    done = subprocess.run(
        [sys.executable, "-m", "dyno.cli", verb, str(file), *options, "--out", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode not in (0, 1, 2):
        sys.exit(f"dyno {verb} failed:\n{done.stdout[-3000:]}")
    return folder / name


def _journals(run: Path, stage: str) -> list[Journal]:
    journals, damage = read_journals(run / "load" / VARIANT / stage)
    if damage or not journals:
        sys.exit(f"{run}: no whole journals of {stage}")
    return journals


def _demand(journals: Sequence[Journal]) -> Demand:
    """All requests of the blocks, one after another, a minute of rest between them."""
    arrivals, inputs, outputs, begin = [], [], [], 0.0
    for journal in journals:
        requests = journal.requests
        arrival = begin + requests.scheduled_ns / 1e9
        order = np.argsort(arrival, kind="stable")
        arrivals.append(arrival[order])
        inputs.append(requests.input_tokens[order])
        outputs.append(requests.output_tokens[order])
        begin = float(arrival.max()) + 60.0
    return Demand.of(
        np.concatenate(arrivals),
        np.concatenate(inputs).astype(np.int64),
        np.concatenate(outputs).astype(np.int64),
    )


def _planned(model: EngineModel, journals: Sequence[Journal]) -> dict[str, float]:
    demand = _demand(journals)
    served = simulate(model, demand)
    gaps = demand.output_tokens - 1
    return _metrics(served.first - demand.arrival, served.last - demand.arrival,
                    (served.last - served.first)[gaps > 0], gaps[gaps > 0])  # fmt: skip


def _measured(journals: Sequence[Journal]) -> dict[str, float]:
    rows = [journal.requests for journal in journals]
    first = np.concatenate([(each.first_ns - each.scheduled_ns) / 1e9 for each in rows])
    last = np.concatenate([(each.last_ns - each.scheduled_ns) / 1e9 for each in rows])
    gaps = np.concatenate([each.output_tokens - 1 for each in rows])
    return _metrics(first, last, (last - first)[gaps > 0], gaps[gaps > 0])


def _metrics(
    first: Floats, last: Floats, decoding: Floats, gaps: Floats | Ints
) -> dict[str, float]:
    """ms: the mean time between tokens, and percentiles of times from the schedule on."""
    return {
        "itl": float(decoding.sum() / gaps.sum()) * 1e3,
        "latency_p50": float(np.percentile(last, 50)) * 1e3,
        "latency_p95": float(np.percentile(last, 95)) * 1e3,
        "ttft_p50": float(np.percentile(first, 50)) * 1e3,
        "ttft_p95": float(np.percentile(first, 95)) * 1e3,
    }


if __name__ == "__main__":
    sys.exit(main())
