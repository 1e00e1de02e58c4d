"""Models of an emulated engine in virtual time, from its record and from the stamps alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foundation.run.layout import RunDirectory
from loadgen.emulator.batch_limits import VLLM_DEFAULTS
from loadgen.emulator.behaviour import Distribution
from loadgen.emulator.plant import Oddities, Plant, StepCost
from loadgen.emulator.virtual_load import VirtualLoad
from loadgen.emulator.virtual_run import VirtualRun
from loadgen.emulator.virtual_server import VirtualServer
from results.capacity.model.engine_model import EngineModel
from results.capacity.model.models_of_run import engine_models
from tests.results.synthetic import inputs

COST = StepCost(fixed=8e-3, decode=0.8e-3, prefill=0.1e-3, kv=1e-6)
TRUE = np.array([COST.fixed, COST.decode, COST.prefill, COST.kv, COST.pair])
LIMITS = replace(VLLM_DEFAULTS, max_num_seqs=16, max_num_batched_tokens=512, kv_blocks=400)
PLANT = Plant(
    COST, LIMITS, Oddities(noise=0.03), Distribution.parse("3ms"), front_per_token=4e-6, after=5e-4
)
LOADS = np.array([[1, 1, 0, 200, 0], [1, 8, 0, 3000, 0], [1, 12, 150, 4000, 0]])


def emulated(run: Path, plant: Plant) -> None:
    """Loads of 1, 6 and 12 requests/s for 20 s: the last one fills every place in a step."""
    server = VirtualServer(plant)
    virtual = VirtualRun(RunDirectory(run), "v", plant)
    for rate in (1, 6, 12):
        rng = np.random.default_rng(rate)
        n = rate * 20
        load = VirtualLoad.of(
            np.cumsum(rng.exponential(1 / rate, n)),
            rng.integers(20, 500, n),
            rng.integers(2, 80, n),
        )
        virtual.write(server.open_loop(load), f"rate-{rate}", offered_rate=float(rate))


def models(run: Path, elsewhere: Path) -> list[EngineModel]:
    """From the engine record, and from the stamps alone."""
    (elsewhere / "load").symlink_to(run / "load")
    each = [engine_models(inputs(folder, ["v"]))["v"] for folder in (run, elsewhere)]
    assert all(isinstance(model, EngineModel) for model in each), each
    return [model for model in each if isinstance(model, EngineModel)]


def test_the_truth_is_found_from_the_record_and_from_the_stamps(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    emulated(tmp_path, PLANT)
    recorded, stamped = models(tmp_path, tmp_path_factory.mktemp("stamps"))
    assert (recorded.source, stamped.source) == ("engine record", "kernel stamps")
    for model in (recorded, stamped):
        assert LOADS @ model.steps.coefficients == pytest.approx(LOADS @ TRUE, rel=0.02)
        assert model.residual == pytest.approx(0.03, rel=0.15)
    assert recorded.front.per_request == pytest.approx(3e-3, rel=0.01)
    assert recorded.front.per_input_token == pytest.approx(4e-6, rel=0.02)
    assert recorded.front.per_output_token == pytest.approx(5e-4, rel=0.01)
    assert stamped.front.per_request == pytest.approx(3.5e-3, abs=1e-3)
    assert recorded.scheduler.kv_blocks == 400 and recorded.scheduler.block_size == 16


def test_a_cliff_is_found_and_named(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cliff = Oddities(noise=0.03, cliff=8, cliff_share=0.5)
    emulated(tmp_path, replace(PLANT, oddities=cliff))
    recorded, stamped = models(tmp_path, tmp_path_factory.mktemp("stamps"))
    assert LOADS @ recorded.steps.coefficients == pytest.approx(LOADS @ TRUE, rel=0.02)
    for model in (recorded, stamped):
        assert model.steps.jump is not None
        assert model.steps.jump.above == 8
        assert model.steps.jump.factor == pytest.approx(1.5, rel=0.05)
        assert any("more than 8 requests take" in note for note in model.notes)
