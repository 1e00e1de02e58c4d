"""The key `finetune` of a variant: its own training, trained once, and what depends on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dyno.artifacts.graph import Graph
from dyno.experiment.loading import load_experiment
from dyno.experiment.variants import VariantConfig
from dyno.pipeline.prepare import check_trainings
from dyno.pipeline.setting_words import differing_settings
from dyno.pipeline.settings import written
from dyno.pipeline.variants import describe
from finetune.config import FinetuneConfig
from finetune.job import TrainingJob
from foundation.data.examples import Example
from foundation.errors import BadInput
from foundation.progress import Silent
from tests.dyno.test_graph import EXPERIMENT, EXTERNALS, NOTHING, graph, load_of, stale, variant
from tests.tiny_model import build_tiny_model

FILE = """\
name: trial
model: org/model
data: {train: train.jsonl, eval: eval.jsonl}
prompts: {short: "S {input}"}
finetune: {rank: 8, epochs: 3, batch_size: 64, prompt: short}
variants:
  - {name: base}
  - {name: own, finetune: {accumulation: 32, limit: null}}
baseline: base
workload: {stages: [{rate: 2.0, duration: 60s}]}
"""
OWN = "finetune: {accumulation: 32, limit: null}"


def file_of(folder: Path, text: str = FILE) -> Path:
    file = folder / "experiment.yaml"
    file.write_text(text)
    return file


def test_what_a_variant_says_takes_the_place_of_the_section(tmp_path: Path) -> None:
    experiment = load_experiment(file_of(tmp_path))
    base, own = experiment.variants
    config = experiment.finetune_of(own)
    assert config is not None and experiment.finetune is not None
    assert type(config) is FinetuneConfig
    assert (config.accumulation, config.batch_size, config.rank) == (32, 64, 8)
    assert experiment.finetune_of(base) == experiment.finetune
    assert own.merge == "finetune" and base.merge is None
    again = load_experiment(file_of(tmp_path, experiment.as_yaml()))
    assert again == experiment
    assert again.finetune_of(again.variants[1]) == config
    assert VariantConfig.model_validate(written(own)) == own


@pytest.mark.parametrize(
    ("new", "says"),
    [
        ("finetune: {accumulation: 3}", "variants.1.finetune.accumulation: 3 parts do not divide"),
        ("finetune: {ranks: 3}", "variants.1.finetune.ranks: unknown key (did you mean 'rank'?)"),
        ("finetune: {lora_alpha: 3}", "variants.1.finetune.lora_alpha: unknown key; "),
        ("finetune: {rank: 0}", "variants.1.finetune.rank: "),
        ("finetune: {prompt: long}", "variants.1.finetune.prompt: 'long' is no prompt"),
        ("finetune: {max_steps: 3}", "variants.1.finetune.max_steps: 3 steps or 3 epochs"),
        ("finetune: {epochs: 1}, merge: finetune/epoch-2", "variants.1.merge: epoch 2 of 1"),
        (
            "finetune: {method: dora}, adapter: finetune",
            "variants.1.adapter: vLLM does not serve DoRA adapters; write merge instead",
        ),
        ("finetune: {}, merge: ./theirs", "write merge: finetune or adapter: finetune, or leave"),
        (
            'finetune: {}, url: "http://127.0.0.1:9/v1", model: m',
            "variants.1: finetune trains a model here, and a url is served elsewhere",
        ),
    ],
)
def test_a_mistake_gets_one_line(tmp_path: Path, new: str, says: str) -> None:
    with pytest.raises(BadInput) as error:
        load_experiment(file_of(tmp_path, FILE.replace(OWN, new)))
    assert f"experiment.yaml:8: {says}" in str(error.value) or (
        "experiment.yaml:8: variants.1: " in str(error.value) and says in str(error.value)
    )


def test_without_a_section_there_is_nothing_to_differ_from(tmp_path: Path) -> None:
    text = FILE.replace("finetune: {rank: 8, epochs: 3, batch_size: 64, prompt: short}\n", "")
    with pytest.raises(BadInput, match=r"variants\.1\.finetune: there is no section finetune"):
        load_experiment(file_of(tmp_path, text))


# ---- the artifacts ----


def of(*variants: dict[str, Any]) -> Graph:
    models = {**EXTERNALS.models, "other": {"model.safetensors": "e" * 64}}
    made = {**EXPERIMENT, "variants": [{"name": "plain"}, *variants], "baseline": "plain"}
    return graph(made, externals=replace(EXTERNALS, models=models))


def folders(made: Graph) -> list[str]:
    return list(dict.fromkeys(made.place(each) for each in made.folders))


def test_the_same_settings_are_trained_once_under_the_name_of_the_first() -> None:
    made = of(
        {"name": "low", "finetune": {"rank": 4}},
        {"name": "low-int8", "finetune": {"rank": 4}, "quantize": "w8a8-int8"},
        {"name": "low-served", "finetune": {"rank": 4}, "adapter": "finetune"},
        {"name": "first-epoch", "finetune": {"rank": 4}, "merge": "finetune/epoch-1"},
        {"name": "lower", "finetune": {"rank": 2}},
    )
    assert folders(made) == [
        "adapters/low",
        "adapters/lower",
        "checkpoints/merged-low",
        "checkpoints/low-int8",
        "checkpoints/merged-low-epoch-1",
        "checkpoints/merged-lower",
    ]
    low, _, served, *_ = made.experiment.variants[1:]
    assert made.adapter(low) == made.adapter(served)


def test_a_grid_of_engines_shares_one_quantized_checkpoint() -> None:
    grid = {"serve.engine.max-num-seqs": [2, 4]}
    made = of(
        {"name": "int8", "merge": "finetune", "quantize": "w8a8-int8", "grid": grid},
        {"name": "in-other-words", "merge": "finetune", "quantize": "w8a8-int8", "prompt": "long"},
    )
    assert folders(made) == [
        "adapters/finetune",
        "checkpoints/merged-finetune",
        "checkpoints/int8@max-num-seqs=2",
        "checkpoints/in-other-words",
    ]


def test_settings_that_say_nothing_new_are_the_sections_own_training() -> None:
    made = of(
        {"name": "same", "finetune": {}},
        {"name": "said-again", "finetune": {"rank": 16, "prompt": "short"}},
        {"name": "tuned", "adapter": "finetune"},
    )
    assert folders(made) == ["adapters/finetune", "checkpoints/merged-finetune"]


def test_another_model_is_tuned_on_the_same_data() -> None:
    made = of({"name": "small", "model": "other", "finetune": {}})
    assert folders(made) == ["adapters/small", "checkpoints/merged-small"]
    small = made.experiment.variants[1]
    adapter, merged = made.adapter(small), made.merged(small)
    assert adapter is not None and merged is not None
    assert adapter.inputs["model"].name == merged.inputs["model"].name == "model other"
    assert adapter.inputs["train"] == made.trained().inputs["train"]


def test_the_sections_own_adapter_is_trained_only_if_a_variant_needs_it() -> None:
    tuned = {"name": "tuned", "merge": "finetune"}
    low = {"name": "low", "finetune": {"rank": 4}}
    assert folders(of(low))[0] == "adapters/low" and len(folders(of(low))) == 2
    assert folders(of(low, tuned))[:2] == ["adapters/low", "adapters/finetune"]
    assert folders(of())[0] == "adapters/finetune"


def test_a_pruned_variant_is_healed_as_it_says_itself() -> None:
    both = [
        {"name": "a", "prune": "50%"},
        {"name": "b", "prune": "50%", "finetune": {"epochs": 2}},
    ]
    a, b = (each for each in of(*both).experiment.variants[1:])
    made = of(*both)
    assert made.student(a).identity != made.student(b).identity
    assert made.pruned(a).identity == made.pruned(b).identity


def test_a_setting_of_one_training_makes_stale_that_variant_and_no_other() -> None:
    own, other = variant("int8", finetune={"rank": 4}), variant("int8", finetune={"rank": 2})
    expected = {"merged for int8", "int8", "recovery of int8"} | load_of("int8")
    assert stale(graph(other), graph(own)) == expected
    assert stale(graph(variant("int8", finetune={})), graph()) == NOTHING


def test_a_base_without_a_chat_template_is_refused_with_its_variant(tmp_path: Path) -> None:
    base = build_tiny_model(tmp_path)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    settings = tmp_path / "tokenizer_config.json"
    kept = {k: v for k, v in json.loads(settings.read_text()).items() if k != "chat_template"}
    settings.write_text(json.dumps(kept))
    example = Example(tmp_path, 1, ({"role": "user", "content": "a"},), "b", {})
    job = TrainingJob(FinetuneConfig(), base, [example], [], None)
    with pytest.raises(BadInput) as error:
        check_trainings([("variants.small.finetune", job)], progress=Silent())
    assert str(error.value).startswith(f"variants.small.finetune: {tmp_path}: its tokenizer has no")


def test_a_variant_is_described_with_what_it_has_otherwise() -> None:
    own = {"name": "v", "finetune": {"epochs": 1, "rank": 8}, "quantize": "w8a8-int8"}
    served = {
        "enforce_eager": True,
        "kv_cache": "2GiB",
        "engine": {"max-num-seqs": 8, "seed": None},
    }
    assert describe(VariantConfig.model_validate({**own, "serve": served})) == (
        "base + merged adapter, w8a8-int8, trained with rank=8 epochs=1, served with "
        "enforce_eager=true kv_cache=2.15 GB max-num-seqs=8 seed=vLLM's default"
    )
    assert describe(VariantConfig(name="v")) == "base"
    small = VariantConfig.model_validate({"name": "v", "model": "/home/me/small", "finetune": {}})
    assert describe(small) == "small + merged adapter"


def test_the_table_has_the_settings_of_training_in_which_trained_variants_differ(
    tmp_path: Path,
) -> None:
    text = FILE.replace(OWN, "finetune: {rank: 4, limit: 100}") + "\n"
    text = text.replace(
        "  - {name: base}\n", "  - {name: base}\n  - {name: tuned, adapter: finetune}\n"
    )
    assert differing_settings(load_experiment(file_of(tmp_path, text))) == {
        "base": {},
        "tuned": {"finetune.rank": "8", "finetune.limit": "none"},
        "own": {"finetune.rank": "4", "finetune.limit": "100"},
    }
