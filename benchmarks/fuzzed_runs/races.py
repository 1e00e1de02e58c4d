"""A stored run as a race leaves it: who left has no block after its last, and `race.json` says why.

The looks are the product's; what is checked is what every other command makes of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.fuzzed_runs.files import Json
from dyno.experiment.loading import load_experiment
from dyno.pipeline.decide import unraced_inputs
from dyno.pipeline.race import judged_stage, look_plan
from foundation.errors import BadInput
from foundation.run.json_files import write_json
from foundation.run.layout import RunDirectory
from results.analysis.race_look import look
from results.race import Departure, Race


def race(folder: Path) -> bool:
    """Takes a race's looks at a stored run. False where the run can hold no race."""
    experiment = json.loads((folder / "experiment.yaml").read_text())
    experiment["workload"]["race"] = True
    before = (folder / "experiment.yaml").read_text()
    (folder / "experiment.yaml").write_text(json.dumps(experiment, indent=1))
    run = RunDirectory(folder)
    try:
        loaded = load_experiment(run.experiment)
    except BadInput:
        (folder / "experiment.yaml").write_text(before)
        return False
    names = [variant.name for variant in loaded.variants]
    plan, inputs = look_plan(loaded, len(names)), unraced_inputs(run, loaded)
    left, departed = list(names), list[Departure]()
    for block in plan.departures:
        if not left or block > loaded.workload.blocks:
            break
        leaving = look(replace(inputs, race=None), plan, block, left, departed)
        departed += leaving
        left = [name for name in left if name not in {each.variant for each in leaving}]
    stage = judged_stage(loaded).label
    for each in departed:
        for file in (folder / "load" / each.variant / stage).glob("block-*.jsonl"):
            if int(file.stem.removeprefix("block-")) > each.block:
                file.unlink()
    record = Race(
        departures=departed,
        errors=plan.errors(names, departed),
        blocks_full=len(names) * loaded.workload.blocks,
        blocks_measured=sum(1 for _ in folder.glob("load/*/*/block-*.jsonl")),
    )
    write_json(record, run.race)
    return True


def check_race(record: Json, summary: Json, verdicts: Json) -> Iterator[str]:
    """Faults in what is said of the variants that left a race."""
    lost = {d["variant"]: d for d in record["departures"] if d["reason"] != "settled"}
    decisions = {verdict["variant"]: verdict for verdict in verdicts["variants"]}
    if verdicts["recommended"] in lost:
        yield f"{verdicts['recommended']} left the race and is recommended: {verdicts['headline']}"
    for name, left in lost.items():
        decision, head = decisions[name]["decision"], decisions[name]["headline"]
        if left["reason"] == "breaks" and decision == "SHIP":
            yield f"{name} was shown to break an objective, and now: {head}"
        if not any("left the race" in reason for reason in decisions[name]["reasons"]):
            yield f"{name} left the race, and no reason says so"
    blocks = {
        variant["variant"]: stage["blocks"]
        for variant in summary["variants"]
        for stage in variant["stages"]
        if stage["stage"] == variant["judged_stage"]
    }
    for left in record["departures"]:
        if blocks.get(left["variant"], 0) > left["block"]:
            yield f"{left['variant']} left after block {left['block']}, and has {blocks}"
