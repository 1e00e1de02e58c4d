"""`race.json`: a record that no race of the experiment can have left opens no gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dyno.experiment.loading import load_experiment
from dyno.pipeline.decide import run_inputs, unraced_inputs
from dyno.pipeline.race import look_plan, read_race
from foundation.errors import BadInput
from foundation.run.json_files import write_json
from foundation.run.layout import RunDirectory
from results.race import Departure, Race
from tests.dyno.stored_runs import StoredRun
from tests.dyno.test_race import RACE

STORED = StoredRun(
    variants=("a", "b", "c"),
    blocks=4,
    requests=5,
    workload=RACE,
    sections="slo: {latency_mean: 1s}",
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with a record: `b` and `c` left after the blocks 2 and 3."""
    out = RunDirectory(STORED.write(tmp_path / "run"))
    departures = [
        Departure(variant=name, block=block, reason="breaks", objective="o", sentence="s")
        for name, block in (("b", 2), ("c", 3))
    ]
    plan = look_plan(load_experiment(out.experiment), 3)
    write_json(Race(departures=departures, errors=plan.errors("abc", departures)), out.race)
    return out


def test_each_verdict_spends_what_its_look_may(run: RunDirectory) -> None:
    experiment = load_experiment(run.experiment)
    race, plan = read_race(run, experiment), look_plan(experiment, 3)
    assert race is not None
    assert race.errors == {"a": plan.at_end(1), "b": plan.at_look(2, 3), "c": plan.at_look(3, 2)}


def spend_more(record: dict[str, Any]) -> None:
    record["errors"]["a"]["ship"] = 0.5


def forget(record: dict[str, Any]) -> None:
    del record["errors"]["a"]


def rename(record: dict[str, Any]) -> None:
    record["departures"][0]["variant"] = "d"


def repeat(record: dict[str, Any]) -> None:
    record["departures"].append(record["departures"][0])


def leave_at_the_end(record: dict[str, Any]) -> None:
    record["departures"][0]["block"] = 4


def damage(record: dict[str, Any]) -> None:
    record["departures"] = 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (damage, "can't be read"),
        (spend_more, "the errors are not those of its looks"),
        (forget, "the errors are not those of its looks"),
        (rename, "is not of the experiment, or left twice"),
        (repeat, "is not of the experiment, or left twice"),
        (leave_at_the_end, "a variant left where no look is"),
    ],
)
def test_a_record_that_no_race_left_is_named_and_a_look_does_without_it(
    run: RunDirectory, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    """A resumed run takes its looks before it writes the record again."""
    experiment = load_experiment(run.experiment)
    record = json.loads(run.race.read_text())
    change(record)
    run.race.write_text(json.dumps(record))
    with pytest.raises(BadInput, match=rf"race.json: .*{why}.* --resume"):
        run_inputs(run, experiment)
    assert unraced_inputs(run, experiment).race is None


def test_an_experiment_without_a_race_reads_no_record(run: RunDirectory) -> None:
    run.experiment.write_text(run.experiment.read_text().replace("race: true", "race: false"))
    assert read_race(run, load_experiment(run.experiment)) is None


def test_a_server_that_fails_after_its_variant_left_changes_no_verdict_on_it(
    run: RunDirectory,
) -> None:
    run.failures.write_text('{"a": "it died", "b": "it died"}')
    assert run_inputs(run, load_experiment(run.experiment)).failed == {"a": "it died"}
