"""A random run directory: any mixture of times, failures, tokens, windows, blocks and damage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzzed_runs.draws import Load, RandomRun, draw_server
from benchmarks.fuzzed_runs.experiments import write_experiment
from benchmarks.fuzzed_runs.journals import write_journal


def write_run(folder: Path, seed: int) -> None:
    """Writes the run of one seed to `folder`."""
    run = RandomRun(folder, np.random.default_rng(seed))
    folder.mkdir(parents=True)
    run.variants = ["base", "tuned", "int8"][: run.pick(1, 2, 2, 3, 3)]
    run.calm = run.chance(0.4)
    run.blocks = run.pick(5, 8) if run.calm else run.pick(1, 2, 3, 4, 5, 8)
    rates = sorted({run.pick(2.0, 5.0, 10.0, 20.0, 40.0) for _ in range(run.pick(1, 1, 2, 3))})
    run.loads = [
        Load(
            f"rate-{rate:g}",
            rate,
            None,
            int(min(35 * rate, run.pick(60, 90, 120) if run.calm else run.pick(5, 30, 60, 90))),
        )
        for rate in rates
    ]
    if run.chance(0.25):
        run.loads.insert(
            run.pick(0, len(run.loads)),
            Load("closed", None, run.pick(1, 4, 16), run.pick(10, 40, 80)),
        )
    prompts = _prompts(run)
    typical: dict[str, float] = {}
    for variant in run.variants:
        for load in run.loads:
            server = draw_server(run)
            typical.setdefault(variant, server.latency_ms)
            for block in range(1, run.blocks + 1):
                write_journal(run, variant, load, block, server, prompts)
    write_experiment(run, list(typical.values()))


def _prompts(run: RandomRun) -> list[str]:
    count, referenced = run.pick(1, 3, 20, 60), run.pick("all", "all", "half", "none")
    lines = []
    for i in range(count):
        line: dict[str, Any] = {
            "id": f"q{i}",
            "set": "eval",
            "messages": {"plain": [{"role": "user", "content": f"question {i}"}]},
        }
        if referenced == "all" or (referenced == "half" and i % 2):
            line["reference"] = "yes"
        if run.chance(0.02):
            line["after"] = "q0"
        lines.append(line)
    (run.folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [line["id"] for line in lines] + (["unknown"] if run.chance(0.05) else [])
