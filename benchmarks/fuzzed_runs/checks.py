"""All checks of a run's conclusions against its facts. Each check yields faults as sentences."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.fuzzed_runs.decisions import check_decision, check_recommendation
from benchmarks.fuzzed_runs.facts import Facts, read_run
from benchmarks.fuzzed_runs.files import read_json
from benchmarks.fuzzed_runs.hours import check_hours
from benchmarks.fuzzed_runs.numbers import check_summary
from benchmarks.fuzzed_runs.objectives import check_objectives
from benchmarks.fuzzed_runs.pages import check_page
from benchmarks.fuzzed_runs.plans import check_plan
from benchmarks.fuzzed_runs.races import check_race


def check(run: Path) -> list[str]:
    """Every fault in the outputs of a run directory."""
    summary, verdicts = (read_json(run / f"{name}.json") for name in ("summary", "verdict"))
    facts, experiment = read_run(run), json.loads((run / "experiment.yaml").read_text())
    records = {each["name"]: each for each in json.loads((run / "variants.json").read_text())}
    variants = {variant["variant"]: variant for variant in summary["variants"]}
    judged = {verdict["variant"]: verdict for verdict in verdicts["variants"]}
    faults = [*check_summary(run, summary, facts, experiment)]
    faults += check_hours(summary, facts, experiment, records)
    for name, verdict in judged.items():
        at = facts.get((name, variants[name]["judged_stage"]), Facts())
        faults += [f"{name}: {each}" for each in check_objectives(verdict, at, experiment)]
        faults += [
            f"{name}: {each}" for each in check_decision(verdict, variants[name], judged, at)
        ]
    faults += check_recommendation(verdicts)
    if (run / "plan.json").exists():
        faults += check_plan(run, read_json(run / "plan.json"), summary, experiment, records)
    faults += check_page(run, summary)
    if (run / "race.json").exists():
        faults += check_race(read_json(run / "race.json"), summary, verdicts)
    return faults
