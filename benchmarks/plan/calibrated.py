"""What the engine model knows of an emulated plant, after the loads of `dyno calibrate-model`."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.plan.plants import LONGEST, EmulatedPlant
from foundation.arrays import Floats
from foundation.run.layout import RunDirectory
from foundation.run.records import PLAIN, VariantRecord
from loadgen.emulator.virtual_load import VirtualLoad
from loadgen.emulator.virtual_run import VirtualRun
from loadgen.emulator.virtual_server import VirtualServer
from results.capacity.model.design import Design
from results.capacity.model.engine_model import EngineModel, Scheduler, StepTime
from results.capacity.model.loads import BUDGET_S, SPREAD, ModelLoad, candidate_loads
from results.capacity.model.models_of_run import engine_models
from results.config import QualityConfig, Slo
from results.inputs import RunInputs

VARIANT = "plant"
FIRST_LOADS = (ModelLoad(1, 64, 8, 32), ModelLoad(8, 64, 32, 2))
"""As `dyno calibrate-model` begins: requests that come to an engine at rest, and a few at once."""
FIRST_GUESS = StepTime(0.01, 100e-6, 30e-6, 50e-9)
SHORTEST_PROMPT = 16


@dataclass(frozen=True)
class Calibrated:
    """The models from the engine record and from the stamps alone; a str says why there is none."""

    recorded: EngineModel | str
    stamped: EngineModel | str
    seconds: float

    @property
    def stamped_with_limits(self) -> EngineModel | str:
        """The steps that the stamps show, under the limits that only the record tells."""
        if isinstance(self.stamped, str) or isinstance(self.recorded, str):
            return self.stamped
        return replace(self.stamped, scheduler=self.recorded.scheduler)


def calibrated(emulated: EmulatedPlant) -> Calibrated:
    """Serves the loads that the design chooses, writes them as a run, and fits the run."""
    with tempfile.TemporaryDirectory() as name:
        run = RunDirectory(Path(name))
        seconds = write_calibration(emulated, VARIANT, run)
        recorded = engine_models(run_inputs(run, VARIANT))[VARIANT]
        shutil.rmtree(run.engine)
        stamped = engine_models(run_inputs(run, VARIANT))[VARIANT]
    return Calibrated(recorded, stamped, seconds)


def write_calibration(emulated: EmulatedPlant, variant: str, run: RunDirectory) -> float:
    """Writes the loads that the design chooses for a plant; returns what they took, s."""
    limits = emulated.plant.limits
    scheduler = Scheduler(limits.max_num_seqs, limits.max_num_batched_tokens, limits.kv_blocks)
    design = Design(candidate_loads(scheduler, LONGEST, SHORTEST_PROMPT), FIRST_GUESS, scheduler)
    loads = [*FIRST_LOADS, *design.loads(BUDGET_S, FIRST_LOADS)]
    server = VirtualServer(emulated.plant)
    files = VirtualRun(run, variant, emulated.plant)
    rng = emulated.rng(1)
    for number, load in enumerate(loads):
        served = server.closed_loop(_asked(load, rng), load.in_flight)
        if number == 0:
            files.write_prompts(served)
        files.write(served, f"{load.label}-{number}", concurrency=load.in_flight)
    return server.now_ns / 1e9


def run_inputs(run: RunDirectory, *variants: str) -> RunInputs:
    """A run of these variants, of which the first is the baseline."""
    records = [VariantRecord(name=name, what=name, prompt_style=PLAIN) for name in variants]
    return RunInputs(
        "plan", variants[0], "none", records, Slo({}), QualityConfig(), None, None, run.path
    )


def coefficient_errors(model: EngineModel, emulated: EmulatedPlant) -> Floats:
    """The error of each coefficient's part of a typical step, over that step's time; (4,).

    The typical step: half of the slots decode at the demand's mean context, beside a mean prompt.
    A coefficient that takes no part in a step's time may be off by any factor; its part may not.
    """
    cost = emulated.plant.cost
    truth = np.array([cost.fixed, cost.decode, cost.prefill, cost.kv])
    inputs, outputs = emulated.lengths(emulated.rng(9), 10_000)
    decodes = emulated.plant.limits.max_num_seqs / 2
    context = decodes * (inputs.mean() + outputs.mean() / 2)
    work = np.array([1.0, decodes, inputs.mean(), context, 0.0])
    modelled = model.steps.coefficients * model.steps.columns(work[None])[0]
    parts = truth * work[:4]
    return np.asarray((modelled[:4] - parts) / parts.sum())


def _asked(load: ModelLoad, rng: np.random.Generator) -> VirtualLoad:
    n = load.requests
    answers = load.output_tokens * rng.uniform(1 - SPREAD, 1 + SPREAD, n)
    outputs = np.maximum(1, answers).astype(np.int64)
    return VirtualLoad.of(np.zeros(n), np.full(n, load.input_tokens), outputs)
