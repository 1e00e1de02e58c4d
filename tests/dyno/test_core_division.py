"""Which runs divide the machine's cores, and what `environment.json` says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyno.pipeline import core_division as subject
from dyno.pipeline.core_division import core_division
from dyno.pipeline.environment import note_cores
from foundation.cores import CoreDivision
from foundation.http.endpoint import Endpoint
from foundation.models.model import ModelRef
from foundation.run.json_files import read_environment
from loadgen.config import WorkloadConfig
from serve import ServedVariant, ServePlan, check
from serve.config import ServeConfig
from tests.weightless_model import write_weightless_model

WORKLOAD = WorkloadConfig.model_validate(
    {"stages": [{"concurrency": 2, "requests": 1}, {"rate": 1, "requests": 1}], "workers": 3}
)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelRef:
    """A model on a machine of eight cores."""
    monkeypatch.setattr(subject, "usable_cores", lambda: [frozenset({core}) for core in range(8)])
    monkeypatch.setattr(subject, "quota_cores", lambda: None)
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    return write_weightless_model(tmp_path / "model")


def plan(*variants: ServedVariant, device: str = "cpu") -> ServePlan:
    section = {"device": device, "kv_cache": "1MiB", "memory": "64GiB", "dtype": "float32"}
    return check(variants, ServeConfig.model_validate(section))


def test_a_load_with_three_workers_leaves_the_servers_five_of_eight_cores(model: ModelRef) -> None:
    assert core_division(WORKLOAD, plan(ServedVariant("base", model))) == CoreDivision(
        load=frozenset({5, 6, 7}), servers=frozenset(range(5))
    )


def test_accelerators_apis_elsewhere_and_threads_bound_by_hand_divide_nothing(
    model: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = ServedVariant("base", model)
    api = ServedVariant("api", None, elsewhere=Endpoint("api", "http://127.0.0.1:9/v1", "m"))
    assert core_division(WORKLOAD, plan(api)) is None
    assert core_division(WORKLOAD, plan(base, device="cuda")) is None
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0-3")
    assert core_division(WORKLOAD, plan(base)) is None


def test_the_environment_of_the_run_names_the_cores(tmp_path: Path) -> None:
    file = tmp_path / "environment.json"
    file.write_text('{"hardware": {"cores": 8}}')
    note_cores(file, None)
    assert read_environment(tmp_path).whole == {"hardware": {"cores": 8}}
    note_cores(file, CoreDivision(load=frozenset({7}), servers=frozenset(range(7))))
    assert read_environment(tmp_path).whole == {
        "hardware": {"cores": 8},
        "cores": {"load": "7", "servers": "0-6"},
    }
