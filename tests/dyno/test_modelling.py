"""Measuring the models of variants: known engines in no time, and what is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dyno.experiment.schema import Experiment
from dyno.pipeline.blocks import LoadBlock
from dyno.pipeline.modelling import lacking_models, measure_models, stored_models
from dyno.pipeline.prepare import prepare
from dyno.pipeline.prepared import Prepared
from foundation.errors import BadInput
from foundation.progress import Silent
from foundation.run.layout import RunDirectory
from results.capacity.model.engine_model import StepTime
from results.capacity.model.loads import labelled
from results.capacity.model.record import VariantModel
from tests.dyno.stored_runs import dyno
from tests.dyno.virtual_engine import VirtualEngine

EXPERIMENT = {
    "name": "modelled",
    "model": "m",
    "data": {"prompt": "Say hello"},
    "variants": [
        {"name": "slow", "url": "http://127.0.0.1:9/v1", "model": "m"},
        {"name": "fast", "url": "http://127.0.0.1:9/v1", "model": "m"},
    ],
    "baseline": "slow",
    "workload": {"stages": [{"concurrency": 1, "requests": 1}], "cache_salt": "s"},
}
SLOW = StepTime(20e-3, 1e-3, 1e-4, 5e-7, 2e-8)
FAST = StepTime(10e-3, 1e-3, 3e-5, 5e-7, 2e-8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("experiment")
    return prepare(Experiment.model_validate(EXPERIMENT), folder, Silent())


class Lines(Silent):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, line: str) -> None:
        """Keeps a line."""
        self.lines.append(line)


def measured(
    prepared: Prepared, out: RunDirectory, engine: VirtualEngine, budget_s: float = 25.0
) -> VariantModel:
    """The model of the variant "slow", whose blocks the engine answers."""
    answers = measure_models(prepared, ["slow"], out, engine.answer, Silent(), budget_s)
    return asyncio.run(answers)["slow"]


def test_the_models_are_those_of_the_engines(prepared: Prepared, tmp_path: Path) -> None:
    out, progress = RunDirectory(tmp_path), Lines()
    engines = {"slow": VirtualEngine(SLOW, noise=0.003), "fast": VirtualEngine(FAST, noise=0.003)}
    engines["fast"].origin_ns = 2 * 10**15  # one engine after the other, as on one machine
    turns: list[str] = []

    async def run_load(block: LoadBlock) -> None:
        turns.append(block.variant)
        await engines[block.variant].answer(block)

    names = list(engines)
    assert lacking_models(prepared, names, out) == names
    models = asyncio.run(measure_models(prepared, names, out, run_load, progress, 25.0))
    assert turns[:6] == ["slow", "fast"] * 3
    for name, engine in engines.items():
        model = models[name]
        assert (model.none, model.source) == (None, "kernel stamps")
        for key in ("fixed", "per_decode", "per_prefill_token"):
            truth = getattr(engine.times, key)
            assert model.steps[key].value == pytest.approx(truth, rel=0.05)
    assert lacking_models(prepared, names, out) == []
    assert stored_models(out) == models
    assert "each request that decodes" in progress.lines[-1]


def test_an_interrupted_measurement_goes_on_with_the_next_load(
    prepared: Prepared, tmp_path: Path
) -> None:
    out, first, second = RunDirectory(tmp_path), VirtualEngine(SLOW), VirtualEngine(SLOW)
    early = measured(prepared, out, first, 12.0)
    late = measured(prepared, out, second, 20.0)
    assert first.log and second.log
    assert second.log[0].journal == out.model_load("slow", len(first.log) + 1)
    assert late.loads[: len(early.loads)] == early.loads
    assert late.measured_s > early.measured_s


def test_the_limit_of_a_server_that_does_not_say_it_is_seen(
    prepared: Prepared, tmp_path: Path
) -> None:
    engine = VirtualEngine(StepTime(8e-3, 1e-4, 3e-5), slots=12)
    model = measured(prepared, RunDirectory(tmp_path), engine, 16.0)
    assert model.scheduler is not None
    assert model.scheduler.max_num_seqs == 12
    assert "its steps had 12 requests while more were in flight" in " ".join(model.notes)
    assert all(load.in_flight <= 12 for load in model.loads[3:])


def test_loads_of_another_server_are_put_aside(prepared: Prepared, tmp_path: Path) -> None:
    out, engine = RunDirectory(tmp_path), VirtualEngine(SLOW)
    measured(prepared, out, engine, 12.0)
    moved = Experiment.model_validate(
        {**EXPERIMENT, "variants": [{"name": "slow", "url": "http://127.0.0.1:9/v1", "model": "n"}]}
    )
    again, other = VirtualEngine(FAST), prepare(moved, tmp_path, Silent())
    assert lacking_models(other, ["slow"], out) == ["slow"]
    measured(other, out, again, 12.0)
    assert again.log[0].journal == out.model_load("slow", 1)
    assert len(list(out.model.rglob("block-*.jsonl"))) == len(again.log)


def test_a_server_that_answers_nothing_has_no_model(prepared: Prepared, tmp_path: Path) -> None:
    engine = VirtualEngine(SLOW, longest=0)
    model = measured(prepared, RunDirectory(tmp_path), engine)
    assert model.none == "its server answered none of the first requests: too long"
    assert len(engine.log) == 1


def test_a_request_that_is_too_long_is_not_sent_again(prepared: Prepared, tmp_path: Path) -> None:
    engine = VirtualEngine(SLOW, longest=600)
    assert measured(prepared, RunDirectory(tmp_path), engine).none is None
    loads = [labelled(block.stage.label, block.stage.requests or 0) for block in engine.log]
    too_long = [load.context for load in loads if load.input_tokens > 600]
    assert too_long == sorted(set(too_long), reverse=True)


def test_a_time_for_no_load_of_its_own_is_too_short(prepared: Prepared, tmp_path: Path) -> None:
    model = measured(prepared, RunDirectory(tmp_path), VirtualEngine(SLOW), 8.0)
    assert model.none is not None
    first, least = "its first loads took 8 s", "and the shortest other one takes 4 s"
    assert model.none == f"8 s are too short: {first}, {least}"


def test_without_the_kernels_stamps_there_is_no_model(prepared: Prepared, tmp_path: Path) -> None:
    model = measured(prepared, RunDirectory(tmp_path), VirtualEngine(SLOW, clock="user"))
    assert model.none is not None
    assert "the kernel did not stamp the arrivals" in model.none


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name an experiment or a run, or the URL of a server"),
        (["--url", "http://127.0.0.1:9/v1"], "with --url, write --model"),
        (["--url", "https://127.0.0.1:9/v1", "--model", "m"], "--url: TLS hides when the kernel"),
        (
            ["--url", "http://127.0.0.1:9/v1", "--model", "m", "--max-time", "2s"],
            "--max-time: 2s is too short for any load; write at least 10s",
        ),
    ],
)
def test_what_the_command_refuses(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    code, _, error = dyno(capsys, monkeypatch, "calibrate-model", *arguments)
    assert code == 3
    assert says in " ".join(error.split())


def test_a_damaged_file_of_models_is_named(tmp_path: Path) -> None:
    out = RunDirectory(tmp_path)
    out.models.write_text("{")
    with pytest.raises(BadInput, match=r"model\.json: can't be read .*; delete it"):
        stored_models(out)
    out.models.write_text('{"schema_version": 99, "processor": "", "variants": {}}')
    with pytest.raises(BadInput, match="schema_version 99"):
        stored_models(out)
