"""`dyno profile`: the stage it loads, a model's costs by hand, mistakes, and what it prints."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from rich.console import Console

from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from dyno.pipeline.model_shape import Unknown, costs_of
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.profiling import _Tracing, stage_named
from dyno.terminal.profile import show_profile
from foundation.errors import BadInput
from foundation.run.layout import RunDirectory
from loadgen.schedule.arrivals import WorkerShare
from results.profile.breakdown import breakdown
from results.profile.comparison import compare
from results.profile.record import Profile
from results.profile.roofline import ModelShape
from results.profile.timeline import divide
from results.profile.trace import read_trace
from serve import ServerPlan
from serve.dtype import Dtype, ServedDtype
from serve.vllm.memory import MemoryEstimate
from tests.dyno.stored_runs import dyno
from tests.results.profiled import FOLDER
from tests.weightless_model import write_weightless_model

VARIANTS = [
    {"name": "base"},
    {"name": "int8", "quantize": {"method": "w8a8-int8"}},
    {"name": "away", "url": "http://127.0.0.1:9/v1", "model": "m"},
]
STAGES = [
    {"rate": 4, "requests": 20},
    {"name": "relative", "rate": {"of": "base", "share": "25%"}, "requests": 20},
    {"name": "mixed", "rate": 4, "requests": 20, "mix": "uniform"},
]
EXPERIMENT = {
    "name": "profiled",
    "model": "./model",
    "data": {"prompt": "Say hello"},
    "variants": VARIANTS,
    "baseline": "base",
    "serve": {"device": "cpu", "dtype": "bfloat16"},
    "workload": {"stages": STAGES},
}


def test_the_stage_is_the_judged_one_or_the_one_named() -> None:
    experiment = Experiment.model_validate(EXPERIMENT)
    assert stage_named(experiment, None, {}).label == "rate-4"
    relative = stage_named(experiment, "relative", {"relative": 7.5})
    assert (relative.label, relative.fixed_rate) == ("relative", 7.5)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rate-5", "--stage: 'rate-5' is no stage (did you mean 'rate-4'?)"),
        ("mixed", "--stage: mixed is a mix of all variants; name a stage of one"),
        ("relative", "--stage: the rate of relative is relative to base and is not measured yet"),
    ],
)
def test_a_stage_that_one_variant_cannot_have_is_refused(name: str, says: str) -> None:
    with pytest.raises(BadInput) as error:
        stage_named(Experiment.model_validate(EXPERIMENT), name, {})
    assert says in str(error.value)


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    experiment = Experiment.model_validate(EXPERIMENT)
    model = write_weightless_model(tmp_path / "model")
    return Prepared(experiment, tmp_path, {"./model": model}, [], [], [], None, {})


def server(dtype: Dtype = "bfloat16", *arguments: str) -> ServerPlan:
    return ServerPlan("base", (), arguments, MemoryEstimate(0, 0, 0), ServedDtype(dtype))


def test_a_models_costs_are_those_of_its_files(tmp_path: Path, prepared: Prepared) -> None:
    run, base = RunDirectory(tmp_path / "run"), prepared.base
    words = base.config()["vocab_size"]
    assert isinstance(words, int)
    # By hand: q and o are 64x64, k and v 32x64, the MLP has three of 64x128, three norms of 64.
    weights = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128 + 3 * 64
    expected = ModelShape(
        weight_bytes=base.size_bytes(),
        linear_weights=weights,
        head_weights=words * 64,
        kv_bytes=2 * 1 * 1 * 32 * 2,
        attention_width=1 * 2 * 32,
    )
    variant = prepared.experiment.variants[0]
    costs = costs_of(prepared, variant, run, server())
    assert (costs.shape, costs.arithmetic) == (expected, "bfloat16")
    eight = costs_of(prepared, variant, run, server("float32", "--kv-cache-dtype=fp8"))
    assert (eight.shape.kv_bytes, eight.arithmetic) == (2 * 32, "float32")


def test_an_int8_checkpoint_multiplies_in_int8_and_has_its_own_bytes(
    tmp_path: Path, prepared: Prepared
) -> None:
    variant, run = prepared.experiment.variants[1], RunDirectory(tmp_path / "run")
    checkpoint = prepared.graph.checkpoint(variant)
    assert checkpoint is not None
    quantized = write_weightless_model(prepared.path(checkpoint, run))
    costs = costs_of(prepared, variant, run, server())
    assert costs.arithmetic == "int8"
    assert costs.shape.weight_bytes == quantized.size_bytes()


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"num_local_experts": 8}, "the model has experts"),
        ({"quantization_config": {}}, "was quantized elsewhere"),
        ({"num_attention_heads": None}, "its config.json has no num_attention_heads"),
        ({"vocab_size": "many"}, "its config.json has no vocab_size"),
    ],
)
def test_costs_that_files_do_not_tell_are_unknown(
    tmp_path: Path, prepared: Prepared, setting: dict[str, object], says: str
) -> None:
    file = prepared.base.path / "config.json"
    file.write_text(json.dumps({**prepared.base.config(), **setting}), encoding="utf-8")
    with pytest.raises(Unknown, match=says):
        costs_of(
            prepared, prepared.experiment.variants[0], RunDirectory(tmp_path / "run"), server()
        )


def test_the_first_of_two_replicas_is_profiled_under_its_share_of_the_load(
    tmp_path: Path, prepared: Prepared
) -> None:
    two = Experiment.model_validate({**EXPERIMENT, "serve": {"device": "cpu", "replicas": 2}})
    run = SimpleNamespace(prepared=replace(prepared, experiment=two))
    stage = stage_named(two, None, {})
    block, *_ = _Tracing(run, RunDirectory(tmp_path), "base", stage, 8)._blocks()
    assert block.planned is not None and block.share == WorkerShare(0, 2)
    assert block.requests == (block.planned + 1) // 2


def test_a_trace_of_one_worker_is_not_held_against_a_whole_model(
    tmp_path: Path, prepared: Prepared
) -> None:
    for size in ("tensor_parallel", "pipeline_parallel"):
        own = VariantConfig.model_validate({"name": "base", "serve": {size: 2}})
        with pytest.raises(Unknown, match="one of several workers"):
            costs_of(prepared, own, RunDirectory(tmp_path / "run"), server())


def test_the_terminal_shows_groups_difference_operators_and_reasons(tmp_path: Path) -> None:
    profiles = [
        msgspec.structs.replace(
            breakdown(name, "cpu", divide(read_trace(FOLDER / f"{file}.trace.json.gz"))),
            no_roofline="the model has experts",
            trace=f"{name}.trace.json.gz",
        )
        for name, file in (("tuned", "lora-layer"), ("merged", "small"))
    ]
    profile = Profile(
        experiment="profiled",
        stage="rate-4",
        iterations=64,
        processor="AMD EPYC",
        variants=profiles,
        comparison=compare(*profiles),
    )
    printed = io.StringIO()
    show_profile(Console(file=printed, width=110), profile, tmp_path / "profile.json")
    text = printed.getvalue()
    lora = next(g for g in profiles[0].groups if g.group == "lora").ms_per_step
    row = next(line for line in text.splitlines() if "LoRA" in line)
    assert f"{lora:.3f}" in row and f"{lora:+.3f}" in row
    for words in ("ms per engine step, stage rate-4", "aten::index", "difference", "a step"):
        assert words in text
    assert "tuned: no roofline: the model has experts" in text
    assert f"trace: {tmp_path / 'merged.trace.json.gz'}" in text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--variant", "base", "--against", "base"), "--against: base is --variant itself"),
        (("--variant", "int9"), "--variant: 'int9' is no variant (did you mean 'int8'?)"),
        (("--variant", "away"), "variants.away: it runs elsewhere"),
        (("--variant", "base", "--iterations", "0"), "Invalid value for '--iterations'"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    says: str,
) -> None:
    write_weightless_model(tmp_path / "model")
    file = tmp_path / "experiment.yaml"
    file.write_text(json.dumps({**EXPERIMENT, "workload": {"stages": STAGES[:1]}}))
    runs = str(tmp_path / "runs")
    code, _, text = dyno(capsys, monkeypatch, "profile", str(file), "--out", runs, *options)
    assert code == 3
    assert says in text
