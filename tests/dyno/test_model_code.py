"""A model with Python code of its own: one setting for every stage that runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyno.checks.model_code import check_model_code
from dyno.experiment.schema import Experiment
from foundation.errors import BadInput
from foundation.models.model import ModelRef
from tests.serve.adapter_bytes import write_base


def experiment(variant: dict[str, Any], **more: Any) -> Experiment:
    workload = {"stages": [{"concurrency": 1, "requests": 1}]}
    raw = {
        "name": "x",
        "model": "own",
        "data": {"eval": "e", "train": "t"},
        "baseline": "v",
        "workload": workload,
    }
    return Experiment.model_validate({**raw, "variants": [{"name": "v", **variant}], **more})


@pytest.fixture
def own(tmp_path: Path) -> dict[str, ModelRef]:
    return {
        "own": write_base(
            tmp_path / "own", model_type="own", auto_map={"AutoModelForCausalLM": "own.Own"}
        )
    }


def test_one_setting_for_training_and_serving(own: dict[str, ModelRef]) -> None:
    asked = experiment({"adapter": "finetune"}, finetune={"rank": 4}, trust_remote_code=True)
    assert asked.finetune is not None
    assert (asked.finetune.trust_remote_code, asked.serve.trust_remote_code) == (True, True)
    check_model_code(asked, own)


def test_nothing_is_run_unasked(own: dict[str, ModelRef]) -> None:
    for more in ({}, {"finetune": {"trust_remote_code": True}}):
        with pytest.raises(
            BadInput,
            match=r"variants\.v: .*config\.json: auto_map: "
            r".*write trust_remote_code: true at the top",
        ):
            check_model_code(experiment({}, **more), own)


def test_own_code_that_vllm_finds_no_way_into(tmp_path: Path) -> None:
    asked = experiment({}, trust_remote_code=True)
    for code, served in (
        ({"AutoModel": "own.Own"}, True),
        ({"AutoModelForCausalLM": "own.OwnForCausalLM"}, False),
    ):
        folder = tmp_path / str(served)
        own = {
            "own": write_base(
                folder, model_type="own", architectures=["OwnForCausalLM"], auto_map=code
            )
        }
        if served:
            check_model_code(asked, own)
        else:
            with pytest.raises(
                BadInput,
                match=r"variants\.v: .*which vLLM loads by auto_map\.AutoModel, and it has none",
            ):
                check_model_code(asked, own)


@pytest.mark.parametrize(
    ("key", "variant"),
    [
        ("merge", {"merge": "finetune"}),
        ("quantize", {"quantize": "w8a8-int8"}),
        ("prune", {"prune": 0.5}),
        ("distil", {"distil": "base", "model": "own"}),
    ],
)
def test_a_stage_that_runs_no_code_is_refused_at_the_start(
    own: dict[str, ModelRef], key: str, variant: dict[str, Any]
) -> None:
    made = [{"name": "base"}, {"name": "v", **variant}]
    for trusted in (True, False):
        asked = experiment({}, variants=made, finetune={"rank": 4}, trust_remote_code=trusted)
        with pytest.raises(BadInput, match=rf"variants\.v\.{key}: .* and in no other stage"):
            check_model_code(asked, own)


def test_a_model_that_libraries_know_needs_no_code_of_its_own(tmp_path: Path) -> None:
    for known in ("llama", "chatglm"):  # of transformers, of vLLM
        model = write_base(
            tmp_path / known, model_type=known, auto_map={"AutoModelForCausalLM": "own.Own"}
        )
        check_model_code(experiment({}), {"own": model})


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("OwnTokenizer", True),
        (None, True),
        ("LlamaTokenizerFast", False),
        ("PreTrainedTokenizerFast", False),
        ("TokenizersBackend", False),
    ],
)
def test_a_tokenizer_with_code_of_its_own(tmp_path: Path, name: str | None, own: bool) -> None:
    """transformers would ask on the terminal whether to run it, in the middle of a merge."""
    model = write_base(tmp_path / "m", model_type="llama")
    settings = {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": name}
    (model.path / "tokenizer_config.json").write_text(json.dumps(settings))
    asked = experiment({"merge": "finetune"}, finetune={"rank": 4}, trust_remote_code=True)
    if own:
        with pytest.raises(BadInput, match=r"v\.merge: .*tokenizer_config\.json: auto_map: "):
            check_model_code(asked, {"own": model})
        with pytest.raises(BadInput, match=r"write trust_remote_code: true at the top"):
            check_model_code(experiment({}), {"own": model})
    else:
        check_model_code(asked, {"own": model})
    check_model_code(experiment({}, trust_remote_code=True), {"own": model})
