"""Where a search begins: the range in which a run's engine model expects the capacity."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from dyno.experiment.schema import Experiment
from dyno.pipeline.search_plan import modelled_ranges
from foundation.run.layout import RunDirectory
from foundation.run.records import PLAIN, VariantRecord
from loadgen.emulator.batch_limits import BatchLimits
from loadgen.emulator.plant import Oddities, Plant, StepCost
from loadgen.emulator.virtual_load import ServedLoad, VirtualLoad
from loadgen.emulator.virtual_run import VirtualRun
from loadgen.emulator.virtual_server import VirtualServer

LIMIT_S = 0.4
PLANT = Plant(
    StepCost(0.010, decode=0.001, prefill=50e-6), BatchLimits(max_num_seqs=8), Oddities(noise=0.05)
)
EXPERIMENT = Experiment.model_validate(
    {
        "name": "searched",
        "model": "m",
        "data": {"prompt": "Hi"},
        "variants": [{"name": "url", "url": "http://127.0.0.1:9/v1", "model": "m"}],
        "baseline": "url",
        "slo": {"latency_p95": f"{LIMIT_S}s"},
        "workload": {"stages": [{"rate": 10, "requests": 300}, {"search": {"max_rate": "99/s"}}]},
    }
)


def served(server: VirtualServer, rate: float, requests: int, seed: int = 9) -> ServedLoad:
    rng = np.random.default_rng(seed)
    arrival = np.cumsum(rng.exponential(1 / rate, requests))
    lengths = rng.integers(20, 200, requests), rng.integers(4, 24, requests)
    return server.open_loop(VirtualLoad.of(arrival, *lengths))


def test_a_model_expects_the_capacity_where_the_engine_has_it(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert modelled_ranges(EXPERIMENT, run) == {}
    files, server = VirtualRun(run, "url", PLANT), VirtualServer(PLANT)
    for number, rate in enumerate((5.0, 10.0, 20.0, 40.0)):
        load = served(server, rate, 300, number)
        if not number:
            files.write_prompts(load)
        files.write(load, f"rate-{rate:g}", offered_rate=rate)
    variants = [VariantRecord(name="url", what="url", prompt_style=PLAIN)]
    (tmp_path / "variants.json").write_bytes(msgspec.json.encode(variants))
    expected = modelled_ranges(EXPERIMENT, run)["url"]
    assert expected.high < 1.5 * expected.low
    ends = expected.low * 0.95, expected.high * 1.05
    below, above = (served(VirtualServer(PLANT), rate, 6_000) for rate in ends)
    assert np.percentile(below.latency[600:], 95) < LIMIT_S < np.percentile(above.latency[600:], 95)
