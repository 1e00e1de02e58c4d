"""int8 from merged's structure and a minute of its own, on a real vLLM of this machine.

`python -m benchmarks.plan.structure_real FOLDER` takes about eight minutes. `dyno calibrate-model`
measures SmolLM2-135M in bf16 for three minutes, and its int8 checkpoint for one. Then int8 goes on
to three minutes: the loads after the first minute are held out. A line for each says how long the
steps take by the model of the first minute, over what they took. Loads beyond what the model
answers are named. It needs a quiet machine: beside other work the same load repeats within a factor
of two at best.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.plan.calibrated import run_inputs
from foundation.processes.python_child import run_module
from foundation.run.engine_records import LeftOut
from foundation.run.engine_steps import read_server_records
from foundation.run.journal import Journal, journal_files, read_journal
from foundation.run.json_files import read_variants
from foundation.run.layout import RunDirectory
from results.capacity.model.engine_model import EngineModel
from results.capacity.model.models_of_run import engine_models
from results.capacity.model.recorded_steps import BlockSpan, recorded_steps
from results.capacity.model.step_fit import range_of
from results.capacity.model.steps import Steps

LIMIT, OWN = 0.10, "60s"
EXPERIMENT = {
    "name": "structure",
    "model": "bundled:smollm2-135m-instruct",
    "data": {"prompt": "Say hello"},
    "variants": [{"name": "merged"}, {"name": "int8", "quantize": {"method": "w8a8-int8"}}],
    "baseline": "merged",
    "serve": {"enforce_eager": True, "max_model_len": 2048, "residency": "turns"},
    "workload": {"stages": [{"concurrency": 2, "requests": 4}], "sampling": {"max_tokens": 32}},
}


def main() -> None:
    """Measures, prints a line for each held-out load, and exits with 1 above the limit."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "experiment.yaml"
    file.write_text(json.dumps(EXPERIMENT), encoding="utf-8")
    run = RunDirectory(folder / "runs" / "structure")
    _calibrate(file, "--variant", "merged", "--out", str(folder / "runs"))
    _calibrate(run.path, "--variant", "int8", "--max-time", OWN)
    inputs = replace(run_inputs(run, "merged", "int8"), variants=read_variants(run.path))
    model = engine_models(inputs)["int8"]
    assert isinstance(model, EngineModel), model
    is_shared = any("in proportion to merged" in note for note in model.notes)
    structure = "merged's structure" if is_shared else "its own structure, which its load shows"
    seen = len(journal_files(run.model / "int8"))
    _calibrate(run.path, "--variant", "int8")
    errors = []
    for journal, steps in _held_out(run, seen):
        if reason := replace(range_of(steps), rate=0.0).beyond(model.fitted):
            print(f"{journal.header.stage}: not known, {reason}")
            continue
        share = float(model.steps.seconds(steps.work).sum() / steps.elapsed.sum())
        errors.append(abs(share - 1))
        print(f"{journal.header.stage}: {len(steps)} steps, modelled over measured {share:.3f}")
    if not errors:
        sys.exit("no held-out load lies within what the model answers")
    print(
        f"int8 in {structure}, {len(errors)} held-out loads: off by "
        f"{np.median(errors):.1%} at the median, {max(errors):.1%} at most (limit {LIMIT:.0%})"
    )
    sys.exit(int(bool(np.median(errors) > LIMIT)))


def _calibrate(experiment: Path, *options: str) -> None:
    command = run_module("dyno.cli", "calibrate-model", str(experiment), *options)
    subprocess.run(command, check=True)


def _held_out(run: RunDirectory, seen: int) -> Iterator[tuple[Journal, Steps]]:
    """The loads after the first `seen`, each with its steps in the engine record."""
    records = [
        record
        for file in sorted(run.engine.glob("*.jsonl"))
        for record in read_server_records(file, LeftOut())
    ]
    for file in journal_files(run.model / "int8")[seen:]:
        journal = read_journal(file)
        if not isinstance(journal, Journal) or journal.end is None:
            continue
        origin_ns = journal.header.origin_monotonic_ns
        span = BlockSpan(origin_ns, origin_ns + journal.end.ended_ns, 0.0)
        for record in records:
            if origin_ns in record.requests.origin:
                steps = recorded_steps(record, [span])
                if isinstance(steps, Steps) and len(steps):
                    yield journal, steps


if __name__ == "__main__":
    main()
