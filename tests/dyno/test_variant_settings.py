"""The key `serve` of a variant: what it may say, what is kept of it, what depends on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyno.artifacts.artifact import changed_facts
from dyno.artifacts.graph import Graph
from dyno.commands.compare import settings_of
from dyno.experiment.loading import load_experiment
from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from dyno.pipeline.setting_words import differing_settings
from dyno.pipeline.settings import written
from dyno.pipeline.variants import unquantized
from foundation.errors import BadInput
from results.comparison.stored_runs.settings import lines, setting_changes
from serve.config import ServeConfig, VariantServe
from tests.dyno.test_graph import NOTHING, SERVED, graph, load_of, stale, variant

FILE = """\
name: trial
model: org/model
data: {train: train.jsonl, eval: eval.jsonl}
finetune: {rank: 8}
serve: {engine: {max-num-seqs: 64}}
variants:
  - {name: base}
  - name: few
    serve:
      enforce_eager: true
      engine: {max_num_seqs: 8, seed: null}
  - {name: prod, url: "http://127.0.0.1:9/v1", model: m}
baseline: base
workload: {stages: [{rate: 2.0, duration: 60s}]}
"""

# Every key of a variant's section: a value that differs, and whether a variant may have it.
KEYS: dict[str, tuple[object, bool]] = {
    "dtype": ("float32", True),
    "max_model_len": (512, True),
    "enforce_eager": (True, True),
    "kv_cache": ("2GiB", True),
    "gpu_memory_utilization": (0.5, True),
    "tensor_parallel": (2, True),
    "pipeline_parallel": (2, True),
    "data_parallel": (2, True),
    "executor": ("mp", True),
    "replicas": (2, True),
    "router": ("vllm-router", True),
    "engine": ({"max-num-seqs": 8}, True),
    "device": ("cpu", False),
    "residency": ("turns", False),
    "memory": ("4GiB", False),
    "start_timeout": ("1s", False),
    "trust_remote_code": (True, False),
    "ports": ("9000-9010", False),
    "host": ("127.0.0.2", False),
    "api_key_env": ("SERVED_KEY", False),
    "engine_record": (False, False),
}


def file_of(folder: Path, text: str = FILE) -> Path:
    file = folder / "experiment.yaml"
    file.write_text(text)
    return file


def test_the_tables_name_every_key_of_the_section() -> None:
    assert KEYS.keys() == ServeConfig.model_fields.keys()
    assert {key for key, (_, may) in KEYS.items() if may} == VariantServe.model_fields.keys()
    assert {key for key, (_, may) in KEYS.items() if not may} == VariantServe.elsewhere.keys()


@pytest.mark.parametrize("key", [key for key, (_, may) in KEYS.items() if may])
def test_a_setting_of_one_variant_measures_that_variant_again_and_only_that(key: str) -> None:
    value, _ = KEYS[key]
    assert stale(graph(variant("int8", serve={key: value}))) == load_of("int8")
    assert stale(graph(variant("api", serve=None))) == NOTHING


@pytest.mark.parametrize("adapter", ["finetune/epoch-1", "a/checkpoint-500"])
def test_adapters_that_no_longer_share_a_server_are_measured_again(adapter: str) -> None:
    """The server that they shared has another `--max-loras`."""

    def with_a_second_adapter(serve: dict[str, object]) -> Graph:
        made = variant("tuned")
        made["variants"].append({"name": "tuned-2", "adapter": adapter, "serve": serve})
        return graph(made)

    together = with_a_second_adapter({})
    assert stale(with_a_second_adapter({"dtype": "auto"}), together) == NOTHING
    apart = stale(with_a_second_adapter({"dtype": "float32"}), together)
    assert apart == load_of("tuned", "tuned-2")


def test_a_setting_that_moves_from_the_section_to_all_variants_changes_nothing() -> None:
    common = variant("plain")
    common["serve"] = {"enforce_eager": True, "engine": {"max-num-seqs": 8}}
    own = variant("plain")
    for each in own["variants"]:
        if each["name"] in SERVED:
            each["serve"] = {"engine": {"max_num_seqs": 8}, "enforce_eager": True}
    assert stale(graph(own), graph(common)) == NOTHING


def test_the_variant_whose_setting_changed_is_named() -> None:
    before = graph(variant("int8", serve={"engine": {"max-num-seqs": 8}})).all()
    after = graph(variant("int8", serve={"engine": {"max-num-seqs": 9}})).all()
    recorded = {name: artifact.recorded() for name, artifact in before.items()}
    assert changed_facts(recorded, after) == ["server int8: serve.engine.max-num-seqs: was 8, is 9"]
    everywhere = variant("int8")
    everywhere["serve"] = {"enforce_eager": True}
    recorded = {name: artifact.recorded() for name, artifact in graph().all().items()}
    assert changed_facts(recorded, graph(everywhere).all()) == [
        "serve.enforce_eager: was False, is True"
    ]


def test_the_resolved_file_keeps_what_a_variant_says_and_no_more(tmp_path: Path) -> None:
    loaded = load_experiment(file_of(tmp_path))
    again = load_experiment(file_of(tmp_path, loaded.as_yaml()))
    own = again.variants[1].serve
    assert again == loaded and own is not None
    assert own.model_fields_set == {"enforce_eager", "engine"}
    assert own.engine == {"max_num_seqs": 8, "seed": None}
    assert again.serve_of(again.variants[1]).options == {"max-num-seqs": 8}
    assert again.serve_of(again.variants[0]) == again.serve


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("enforce_eager: true", "enforce_eger: 1", 10, "serve.enforce_eger: unknown key (did you"),
        ("enforce_eager: true", "device: cpu", 10, "serve.device: unknown key; all variants are"),
        ("enforce_eager: true", "ports: 1-2", 10, "serve.ports: unknown key; all servers take"),
        ("enforce_eager: true", "tensor_parallel: 0", 10, "serve.tensor_parallel: "),
        ("seed: null", "api_key: sk-1234567890abcdef1234567890", 11, "serve.engine: api_key: "),
        ("model: m}", "model: m, serve: {}}", 12, "variants.2: serve says how dyno starts"),
        ("seed: null", "max-num-seqs: 1", 11, "serve.engine: max_num_seqs: stands there twice"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in FILE
    with pytest.raises(BadInput) as error:
        load_experiment(file_of(tmp_path, FILE.replace(old, new)))
    assert f"experiment.yaml:{line}: variants." in str(error.value)
    assert says in str(error.value)


def test_a_key_of_a_wrong_kind_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        load_experiment(file_of(tmp_path, FILE.replace("seed: null", "api_key: [hunter2]")))
    assert "api_key" in str(error.value) and "hunter2" not in str(error.value)


def test_the_table_has_the_settings_in_which_variants_differ(tmp_path: Path) -> None:
    assert differing_settings(load_experiment(file_of(tmp_path))) == {
        "base": {"serve.enforce_eager": "false", "serve.engine.max-num-seqs": "64"},
        "few": {"serve.enforce_eager": "true", "serve.engine.max-num-seqs": "8"},
        "prod": {},
    }


def test_a_setting_that_only_one_variant_has_stands_beside_the_default(tmp_path: Path) -> None:
    text = FILE.replace("max_num_seqs: 8, seed: null", "seed: 3").replace(
        "enforce_eager: true", "kv_cache: 2GiB"
    )
    assert differing_settings(load_experiment(file_of(tmp_path, text))) == {
        "base": {"serve.kv_cache": "1.07 GB", "serve.engine.seed": "vLLM's default"},
        "few": {"serve.kv_cache": "2.15 GB", "serve.engine.seed": "3"},
        "prod": {},
    }


def test_compare_names_the_settings_of_variants(tmp_path: Path) -> None:
    before = load_experiment(file_of(tmp_path))
    after = load_experiment(file_of(tmp_path, FILE.replace("max_num_seqs: 8", "max_num_seqs: 9")))
    changes = setting_changes(settings_of(before), settings_of(after))
    assert lines(changes) == ["variants.few.serve.engine.max_num_seqs: 8 -> 9"]


def test_what_quantizing_changed_is_told_apart_from_what_settings_changed(tmp_path: Path) -> None:
    def partner(*variants: dict[str, object]) -> str | None:
        made = variant("int8")
        made["variants"] = list(variants)
        made["baseline"] = "merged"
        experiment = Experiment.model_validate(made)
        return unquantized(experiment.variants[-1], experiment)

    merged = {"name": "merged", "merge": "finetune"}
    eager = {"name": "eager", "merge": "finetune", "serve": {"enforce_eager": True}}
    int8 = {"name": "int8", "merge": "finetune", "quantize": "w8a8-int8"}
    assert partner(merged, eager, int8) == "merged"
    assert partner(merged, eager, {**int8, "serve": {"enforce_eager": True}}) == "eager"
    assert partner(merged, {**int8, "serve": {"enforce_eager": True}}) is None


def test_a_setting_that_is_the_usual_one_is_a_difference_too() -> None:
    own = {"serve": {"enforce_eager": False, "max_model_len": None, "dtype": "auto"}}
    config = VariantConfig.model_validate({"name": "v", **own})
    keys = written(config)
    assert keys == {"name": "v", **own}
    assert VariantConfig.model_validate(keys) == config
