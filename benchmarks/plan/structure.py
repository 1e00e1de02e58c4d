"""The capacity of a variant from another's structure and a minute of its own, in virtual time.

`python -m benchmarks.plan.structure [plants]` prints, for each pair of plants, the throughput of a
backlog by the model over the true one. `merged` has the loads of `dyno calibrate-model`. `int8` has
60 s of its traffic at a tenth of what it holds, and other costs: its weights' part by a drawn
factor, each coefficient by one of its own, and a cache that is nearly the same.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from msgspec.structs import replace as replaced

from benchmarks.plan.calibrated import run_inputs, write_calibration
from benchmarks.plan.plants import EmulatedPlant, drawn_plant
from foundation.arrays import Floats
from foundation.run.layout import RunDirectory
from loadgen.emulator.plant import StepCost
from loadgen.emulator.virtual_load import VirtualLoad
from loadgen.emulator.virtual_run import VirtualRun
from loadgen.emulator.virtual_server import VirtualServer
from results.capacity.demand.demand import Demand
from results.capacity.model.engine_model import EngineModel
from results.capacity.model.models_of_run import engine_models
from results.capacity.simulation.simulator import simulate

PLANTS, LIMIT = 40, 0.10
OWN_S, OWN_SHARE = 60.0, 0.1
BACKLOG, DRAWS = 1_000, 40
_LATER_NS = 10**13
WEIGHTS, EACH, CACHE = (0.45, 0.85), 0.15, 0.05


@dataclass(frozen=True)
class StructureResult:
    """The modelled over the true throughput of `int8`: in `merged`'s structure with its 95 %
    interval, and from its own load alone. `noted`: whether the model says whose structure it has.
    """

    number: int
    share: float
    low: float
    high: float
    alone: float
    noted: bool


def main() -> None:
    """Prints a line a pair, and what of them holds; exits with 1 where the limit does not."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PLANTS
    results = [measured(number) for number in range(count)]
    for each in results:
        print(
            f"{each.number:3d}  {each.share:.3f} ({each.low:.3f} to {each.high:.3f}), "
            f"alone {each.alone:.3f}{'' if each.noted else ', own structure'}"
        )
    errors = np.abs([each.share - 1 for each in results])
    alone = np.abs([each.alone - 1 for each in results])
    inside = np.mean([each.low <= 1 <= each.high for each in results])
    print(
        f"int8 in merged's structure: off by {np.median(errors):.1%} at the median, "
        f"{np.percentile(errors, 95):.1%} at p95, {errors.max():.1%} at most (limit {LIMIT:.0%}); "
        f"the interval has the truth in {inside:.0%}; alone it is off by {np.median(alone):.1%} "
        f"at the median, {alone.max():.1%} at most"
    )
    sys.exit(int(bool(np.percentile(errors, 95) > LIMIT)))


def measured(number: int) -> StructureResult:
    """A pair of plants: measured, modelled, and compared with the truth."""
    merged = drawn_plant("smooth", number)
    int8 = _int8(merged)
    truth = _true_throughput(int8)
    with tempfile.TemporaryDirectory() as name:
        run = RunDirectory(Path(name))
        write_calibration(merged, "merged", run)
        _load_for_a_minute(int8, OWN_SHARE * truth, run)
        inputs = run_inputs(run, "merged", "int8")
        records = [inputs.variants[0], replaced(inputs.variants[1], unquantized="merged")]
        model = engine_models(replace(inputs, variants=records))["int8"]
        alone = engine_models(run_inputs(run, "int8"))["int8"]
    assert isinstance(model, EngineModel)
    assert isinstance(alone, EngineModel)
    demand = int8.demand(int8.rng(8), BACKLOG)
    steps = [model.steps.with_coefficients(draw) for draw in model.draws[:DRAWS]]
    drawn = [replace(model, steps=each) for each in steps]
    shares = [modelled_throughput(each, demand) / truth for each in drawn]
    low, high = np.percentile(shares, (2.5, 97.5)).tolist()
    return StructureResult(
        number,
        modelled_throughput(model, demand) / truth,
        low,
        high,
        modelled_throughput(alone, demand) / truth,
        "in proportion to merged" in model.notes[0],
    )


def modelled_throughput(model: EngineModel, demand: Demand) -> float:
    """Requests/s of a backlog, by the model."""
    arrival = _backlog(len(demand))
    return _throughput(simulate(model, replace(demand, arrival=arrival)).last)


def _true_throughput(emulated: EmulatedPlant) -> float:
    demand = emulated.demand(emulated.rng(8), BACKLOG)
    backlog = VirtualLoad.of(_backlog(BACKLOG), demand.input_tokens, demand.output_tokens)
    return _throughput(VirtualServer(emulated.plant).open_loop(backlog).last_ns / 1e9)


def _backlog(requests: int) -> Floats:
    """Arrivals a millisecond apart, faster than any of the plants."""
    return np.arange(requests, dtype=np.float64) * 1e-3


def _throughput(last: Floats) -> float:
    """Requests/s from a tenth of the last tokens (n,), s, to nine tenths of them."""
    begin, end = np.quantile(last, (0.1, 0.9)).tolist()
    return 0.8 * len(last) / float(end - begin)


def _load_for_a_minute(emulated: EmulatedPlant, rate: float, run: RunDirectory) -> None:
    """Writes traffic of its own, on the clock after all loads of the other variant."""
    server = VirtualServer(emulated.plant)
    server.now_ns = _LATER_NS
    load = emulated.load(rate, max(1, round(rate * OWN_S)), emulated.rng(4))
    served = server.open_loop(load)
    files = VirtualRun(run, "int8", emulated.plant)
    files.write_prompts(served)
    files.write(served, "main", offered_rate=rate)


def _int8(merged: EmulatedPlant) -> EmulatedPlant:
    """The same engine with other costs."""
    cost, factors = merged.plant.cost, iter(_factors(merged.rng(7)))
    quantized = StepCost(
        fixed=cost.fixed * next(factors),
        decode=cost.decode * next(factors),
        prefill=cost.prefill * next(factors),
        kv=cost.kv * next(factors),
    )
    return replace(merged, plant=replace(merged.plant, cost=quantized))


def _factors(rng: np.random.Generator) -> Iterator[float]:
    weights = rng.uniform(*WEIGHTS)
    yield from (weights * rng.uniform(1 - EACH, 1 + EACH, 3)).tolist()
    yield float(rng.uniform(1 - CACHE, 1 + CACHE))


if __name__ == "__main__":
    main()
