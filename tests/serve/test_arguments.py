"""Command lines, held against the parser of the vLLM that is installed."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from serve import ServedVariant, check
from serve.config import ServeConfig
from serve.device import Device
from serve.vllm import engine_record, options
from serve.vllm.arguments import (
    check_checkpoint,
    command_line,
    environment,
    serves_bitsandbytes,
    template_option,
)
from serve.vllm.options import ask_parser

CPU, CUDA = Device("cpu", None, 1), Device("cuda", None, 1)


def test_vllm_takes_every_kind_of_command_line_we_write(tiny: ModelRef, tmp_path: Path):
    fields = {
        "dtype": "bfloat16",
        "max_model_len": 1024,
        "enforce_eager": True,
        "tensor_parallel": 2,
        "engine": {
            "max-num-seqs": 8,
            "enable_prefix_caching": False,
            "compilation-config.mode": 0,
            "async-scheduling": True,
            "speculative-config": '{"method": "ngram", "num_speculative_tokens": 4}',
        },
    }
    full = ServeConfig.model_validate(fields)
    awkward = tmp_path / "a=b, c"
    plain = [ServedVariant("base", tiny), ServedVariant("base-short", tiny)]
    tuned = [ServedVariant("t1", tiny, adapter=awkward), ServedVariant("t2", tiny, adapter=awkward)]
    lines = [
        command_line(tiny, variants, {"t1": 4, "t2": 24}, config, device)
        for variants in (plain, tuned)
        for config in (ServeConfig(), full)
        for device in (CPU, CUDA)
    ]
    lines[0] = (*lines[0], engine_record.OPTION)
    wrong = ("--model=x", "--max-num-seqs=many")
    options.begin_import()
    answer = ask_parser((*map(tuple, lines), tuple(wrong)))
    assert not options._importing  # the child that had begun answered
    assert answer.errors[:-1] == (None,) * len(lines)
    assert answer.errors[-1] is not None and "max-num-seqs" in answer.errors[-1]
    assert "--max-lora-rank=32" in lines[4] and "--max-loras=2" in lines[4]
    assert "--no-enable-prefix-caching" in lines[2]


def test_a_value_that_vllm_does_not_take(tiny: ModelRef):
    """An option that it does not know: `test_dry_run`."""
    config = ServeConfig.model_validate({"engine": {"max-num-seqs": "many"}, "memory": "64GB"})
    message = r"serve\.engine: vLLM [\d.]+ refuses it: .*max-num-seqs.*many"
    with pytest.raises(BadInput, match=message):
        check([ServedVariant("base", tiny)], config)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("max_model_len", r"serve\.engine\.max_model_len: write serve\.max_model_len"),
        ("no-enforce-eager", r"write serve\.enforce_eager"),
        ("api-key", r"write serve\.api_key_env instead"),
        ("enable-lora", "leave it out"),
    ],
)
def test_an_option_that_has_its_own_field_or_is_ours(tiny: ModelRef, option: str, message: str):
    with pytest.raises(BadInput, match=message):
        check(
            [ServedVariant("base", tiny)],
            ServeConfig.model_validate({"engine": {option: 1}, "memory": "64GB"}),
        )


def test_a_bitsandbytes_checkpoint_needs_the_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "config.json").write_text(
        '{"quantization_config": {"quant_method": "bitsandbytes"}}'
    )
    model = ModelRef("m", None, tmp_path)
    check_checkpoint("nf4", model)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"variants\.nf4: .*pip install --no-deps vllm-bnb-plugin"):
        check_checkpoint("nf4", model)


def test_a_vllm_that_loads_bitsandbytes_itself_needs_no_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    vllm = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: vllm if name == "vllm" else None)
    assert not serves_bitsandbytes()
    (tmp_path / "model_executor/layers/quantization").mkdir(parents=True)
    (tmp_path / "model_executor/layers/quantization/bitsandbytes.py").touch()
    assert serves_bitsandbytes()


def test_the_environment_is_ours_with_the_key_and_without_what_outvotes_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "40")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv(engine_record.VARIABLE, "another.jsonl")
    env = environment("secret")
    assert (
        env["VLLM_API_KEY"] == "secret"
        and env["HF_HUB_OFFLINE"] == "1"
        and env["CUDA_VISIBLE_DEVICES"] == "3"
    )
    assert not {"VLLM_CPU_KVCACHE_SPACE", engine_record.VARIABLE} & env.keys()


def test_weights_in_mistrals_own_form_are_not_read_in_place_of_the_others(tmp_path: Path):
    model = ModelRef("m", None, tmp_path)
    (tmp_path / "model.safetensors").touch()
    plain = [ServedVariant("base", model)]
    assert not any(
        "load-format" in argument for argument in command_line(model, plain, {}, ServeConfig(), CPU)
    )
    (tmp_path / "consolidated.safetensors").touch()
    assert "--load-format=safetensors" in command_line(model, plain, {}, ServeConfig(), CPU)


@pytest.mark.parametrize(
    ("method", "refused"),
    [("hqq", True), ("gguf", True), ("gptq", False), ("compressed_tensors", False), ("FP8", False)],
)
def test_a_format_that_vllm_does_not_know(tmp_path: Path, method: str, refused: bool):
    (tmp_path / "config.json").write_text(
        json.dumps({"quantization_config": {"quant_method": method}})
    )
    if refused:
        with pytest.raises(
            BadInput,
            match=rf"variants\.q: .*config\.json: quant_method: .* knows no format '{method}'",
        ):
            check_checkpoint("q", ModelRef("m", None, tmp_path))
    else:
        check_checkpoint("q", ModelRef("m", None, tmp_path))


def test_a_template_is_handed_over_in_a_file(tmp_path: Path):
    file = tmp_path / "tuned.chat_template.jinja"
    assert template_option(None, file) == [] and not file.exists()
    assert template_option("é {{ messages }}\n", file) == [f"--chat-template={file}"]
    assert file.read_bytes() == "é {{ messages }}\n".encode()


def test_a_server_that_works_elsewhere_finds_the_files_that_are_named_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("plain.jinja", "half"):
        (tmp_path / name).touch()
    long = json.dumps({"note": "x." * 400})
    engine = {
        "chat-template": "plain.jinja",
        "kv-cache-dtype": "half",
        "tokenizer": "org/name",
        "seed": 3,
        "hf-overrides": long,
    }
    config = ServeConfig.model_validate({"engine": engine})
    model = ModelRef("m", None, Path("runs/x/checkpoints/m"))
    line = command_line(model, [ServedVariant("base", model)], {}, config, CPU)
    assert f"--chat-template={tmp_path}/plain.jinja" in line
    assert {
        "--kv-cache-dtype=half",
        "--tokenizer=org/name",
        "--seed=3",
        f"--hf-overrides={long}",
    } <= set(line)
    assert f"--model={tmp_path}/runs/x/checkpoints/m" in line
