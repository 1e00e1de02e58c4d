"""The files a run writes first, the checkpoints it makes, and the inputs of its analysis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import quantize
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.pipeline import begin, checkpoints
from dyno.pipeline.checkpoints import make_checkpoints
from dyno.pipeline.decide import run_inputs
from dyno.pipeline.prepared import Prepared
from foundation.data.examples import Example
from foundation.models.model import ModelRef
from foundation.progress import Silent
from foundation.run.layout import RunDirectory
from quantize.recovery import FILE as RECOVERY
from tests.dyno.stored_runs import StoredRun
from tests.serve.adapter_bytes import write_base


def prepared(folder: Path, *variants: dict[str, Any], heldout: int = 0) -> Prepared:
    experiment = Experiment.model_validate(
        {
            "name": "t", "model": "base", "data": {"prompt": "Hi"},
            "variants": [{"name": "base"}, *variants], "baseline": "base",
            "workload": {"stages": [{"name": "s", "concurrency": 1, "requests": 1}], "blocks": 1},
        }
    )  # fmt: skip
    examples = [Example(Path("e.jsonl"), number, (), "yes", {}) for number in range(heldout)]
    return Prepared(
        experiment, folder, {"base": write_base(folder / "base")}, [], examples, [], None, {}
    )


def test_a_ceiling_belongs_to_the_machine_that_a_run_is_measured_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, run = prepared(tmp_path), RunDirectory(tmp_path / "run")
    run.path.mkdir()
    written = []
    for ceiling, cpu in ((1, "here"), (2, "here"), (3, "there"), (4, "there")):
        monkeypatch.setattr(begin, "stored_ceiling", lambda _, each=ceiling: {"ceiling": each})
        monkeypatch.setattr(
            begin, "environment", lambda cpu=cpu: {"hardware": {"cpu": cpu}, "versions": {}}
        )
        begin.begin(of, run, Silent())
        written.append(run.calibration.read_text().strip())
    assert written == ['{"ceiling":1}', '{"ceiling":1}', '{"ceiling":3}', '{"ceiling":3}']
    assert (run.path / "set-aside/1" / run.calibration.name).read_text().strip() == '{"ceiling":1}'


def test_what_quantizing_lost_is_measured_once_and_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []

    def here(
        work: Callable[..., object], *arguments: object, progress: Silent, log: Path
    ) -> object:
        return work(*arguments, progress=progress)

    def make(model: ModelRef, config: Any, out: Path, *more: object) -> None:
        calls.append(("made", config.method))
        (out / "model.safetensors").write_bytes(b"smaller")

    def measure_recovery(model: ModelRef, made: ModelRef, *more: object) -> Any:
        calls.append(("measured", made.path.name))
        (made.path / RECOVERY).write_text("{}")
        return type("Recovery", (), {"warning": None})()

    monkeypatch.setattr(checkpoints, "isolated", here)
    monkeypatch.setattr(quantize, "quantize", make)
    monkeypatch.setattr(quantize, "measure_recovery", measure_recovery)
    variants = [
        {"name": "int8", "quantize": {"method": "w8a8-int8", "recovery": True}},
        {"name": "nf4", "quantize": {"method": "bnb-nf4", "recovery": False}},
    ]
    of, run = prepared(tmp_path, *variants, heldout=2), RunDirectory(tmp_path / "run")
    assert list(make_checkpoints(of, run, Silent(), ["nf4"])) == ["nf4"]
    assert calls == [("made", "bnb-nf4")]
    assert list(make_checkpoints(of, run, Silent())) == ["int8", "nf4"]
    assert calls[1:] == [("made", "w8a8-int8"), ("measured", "int8")]
    make_checkpoints(of, run, Silent(), recovery=True)
    assert calls[3:] == [("measured", "nf4")]
    make_checkpoints(of, run, Silent(), recovery=True)
    assert calls[4:] == []


@pytest.mark.parametrize(("sections", "looks"), [("", 1), ("until_decided: {looks: 3}", 3)])
def test_the_error_is_shared_among_as_many_looks_as_a_run_takes(
    tmp_path: Path, sections: str, looks: int
) -> None:
    run = StoredRun(blocks=1, requests=2, variants=("a", "b"), sections=sections).write(
        tmp_path / "run"
    )
    assert run_inputs(RunDirectory(run), load_experiment(run / "experiment.yaml")).looks == looks
