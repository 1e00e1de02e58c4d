"""Where a variant's files lie in a run, how it is served, and what is refused beforehand."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file

import serve
from dyno.experiment.schema import Experiment
from dyno.pipeline.prepare import check_disk, prepare
from dyno.pipeline.prepared import Prepared
from dyno.pipeline.serving import served_variant
from foundation.errors import BadInput
from foundation.models.model import ModelRef
from foundation.progress import Silent
from foundation.run.layout import RunDirectory
from tests.serve.adapter_bytes import write_base
from tests.tiny_model import build_tiny_model, write_word_tokenizer

VARIANTS: list[dict[str, Any]] = [
    {"name": "base"},
    {"name": "tuned", "adapter": "finetune"},
    {"name": "first", "adapter": "finetune/epoch-1"},
    {"name": "theirs", "adapter": "./theirs"},
    {"name": "merged", "merge": "finetune/epoch-2"},
    {"name": "int8", "quantize": "w8a8-int8"},
    {"name": "nf4", "quantize": "bnb-nf4"},
]
STAGE = {"concurrency": 1, "requests": 1}


def experiment(variants: list[dict[str, Any]], **sections: Any) -> Experiment:
    fields = {
        "name": "x",
        "model": "./model",
        "data": {"prompt": "Hi"},
        "variants": variants,
        "baseline": variants[0]["name"],
    }
    return Experiment.model_validate(
        {**fields, "workload": {"stages": [STAGE], "blocks": 1}, **sections}
    )


@pytest.fixture
def model(tmp_path: Path) -> ModelRef:
    return write_base(tmp_path / "model")


def test_how_each_variant_is_served(tmp_path: Path, model: ModelRef) -> None:
    asked = experiment(
        VARIANTS, finetune={"rank": 8, "epochs": 2}, data={"prompt": "Hi", "train": "t.jsonl"}
    )
    made, run = (
        Prepared(asked, tmp_path, {"./model": model}, [], [], [], None, {}),
        RunDirectory(tmp_path / "run"),
    )
    served = {variant.name: served_variant(made, variant, run) for variant in asked.variants}
    own = run.path / "adapters/finetune"
    adapters = {name: each.adapter for name, each in served.items() if each.adapter}
    assert adapters == {"tuned": own, "first": own / "epoch-1", "theirs": tmp_path / "theirs"}
    assert made.merged_adapter(asked.variants[4], run) == own / "epoch-2"
    assert [name for name, each in served.items() if each.bits == 4] == ["nf4"]
    assert {name: each.rank for name, each in served.items() if each.rank} == {
        "tuned": 8,
        "first": 8,
    }


def test_a_checkpoint_still_to_be_made_counts_by_its_bases_files(tmp_path: Path) -> None:
    base = build_tiny_model(tmp_path / "model")
    asked = experiment(
        [{"name": "base"}, VARIANTS[4], VARIANTS[5]],
        finetune={"epochs": 2},
        data={"prompt": "Hi", "train": "t.jsonl"},
    )
    made = Prepared(asked, tmp_path, {"./model": base}, [], [], [], None, {})
    run = RunDirectory(tmp_path / "run")
    plan = serve.check([served_variant(made, v, run) for v in asked.variants], asked.serve)
    weights = {server.name: server.memory.weights for server in plan.servers}
    on_disk = sum(t.nbytes for t in load_file(base.path / "model.safetensors").values())
    wide = next(iter(plan.servers)).dtype.dtype == "float32"
    assert weights["merged"] == on_disk * (2 if wide else 1)
    assert 0 < weights["int8"] < weights["merged"]
    assert not any("not on this machine" in note for note in plan.notes)


def test_checkpoints_that_do_not_fit_on_the_disk_are_refused(
    tmp_path: Path, model: ModelRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = experiment([{"name": "base"}, {"name": "nf4", "quantize": "bnb-nf4"}])
    made, run = (
        Prepared(asked, tmp_path, {"./model": model}, [], [], [], None, {}),
        RunDirectory(tmp_path / "run"),
    )
    run.path.mkdir()
    for free, fits in ((model.size_bytes(), True), (model.size_bytes() - 1, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        if fits:
            check_disk(made, run)
        else:
            with pytest.raises(
                BadInput, match=r"the checkpoints need up to .* GB and the disk has"
            ):
                check_disk(made, run)


def test_what_can_not_be_made_of_a_model_is_refused_before_the_run(tmp_path: Path) -> None:
    write_base(tmp_path / "model", quantization_config={"quant_method": "gptq"})
    with pytest.raises(BadInput, match="quantized"):
        prepare(experiment([{"name": "small", "quantize": "w8a8-int8"}]), tmp_path, Silent())


@pytest.mark.parametrize(("named", "counts"), [(None, "model"), ("./words", "words")])
def test_the_tokenizer_that_counts_is_the_one_that_is_named(
    tmp_path: Path, named: str | None, counts: str
) -> None:
    for name in ("model", "words"):
        write_word_tokenizer(tmp_path / name)
    url = {"name": "a", "url": "http://127.0.0.1:1/v1", "model": "m"}
    workload = {"stages": [STAGE], "blocks": 1, "tokenizer": named}
    assert (
        prepare(experiment([url], workload=workload), tmp_path, Silent()).tokenizer
        == tmp_path / counts
    )


def test_the_base_that_only_training_needs_is_looked_up(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"prompt": "Hi", "completion": "Yes"}\n')
    served_elsewhere = {"name": "prod", "url": "http://127.0.0.1:9/v1", "model": "m"}
    trained = experiment(
        [served_elsewhere], finetune={}, data={"prompt": "Hi", "train": "train.jsonl"}
    ).model_copy(update={"model": "nobody/such-a-model"})
    prepared = prepare(trained, tmp_path, Silent(), need_models=False)
    assert list(prepared.models) == ["nobody/such-a-model"]
    only_asked = trained.model_copy(update={"finetune": None})
    assert not prepare(only_asked, tmp_path, Silent(), need_models=False).models


def test_one_prompt_for_all_requests_leaves_the_probes_their_own(tmp_path: Path) -> None:
    (tmp_path / "general.jsonl").write_text('{"prompt": "Q?", "completion": "A"}\n' * 3)
    probe = {"name": "general", "data": "general.jsonl", "scorer": "contains", "requests": 2}
    url = {"name": "base", "url": "http://127.0.0.1:1/v1", "model": "m"}
    of = experiment([url], data={"prompt": "Say hello"}, quality={"probes": [probe]})
    prompts = prepare(of, tmp_path, Silent()).prompts
    assert [(prompt.set, prompt.messages["plain"][0]["content"]) for prompt in prompts] == [
        ("eval", "Say hello"), ("general", "Q?"), ("general", "Q?")
    ]  # fmt: skip
