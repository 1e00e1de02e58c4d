"""Input that is refused before anything slow starts: one line, exit code 3, no run begun."""

from __future__ import annotations

import json
import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from dyno.experiment.loading import load_experiment
from dyno.pipeline.prepare import prepare
from dyno.pipeline.run import run_pipeline
from foundation.errors import BadInput
from foundation.progress import Silent
from foundation.run.layout import new_run
from tests.dyno.test_cli import dyno
from tests.tiny_model import build_tiny_model

GOOD = """\
name: trial
model: model
data: {train: train.jsonl, eval: eval.jsonl}
finetune: {rank: 8, max_length: 200}
variants:
  - {name: base}
  - {name: tuned, adapter: finetune}
  - {name: int8, merge: finetune, quantize: w8a8-int8}
baseline: base
serve: {max_model_len: 512, enforce_eager: true}
workload: {stages: [{rate: 5, requests: 10}], blocks: 1}
"""

# The same without a training, whose data a process that loads torch would check first.
UNTRAINED = "".join(
    line.replace("merge: finetune, ", "")
    for line in GOOD.splitlines(keepends=True)
    if "finetune:" not in line and "tuned" not in line
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model") / "model").path


@pytest.fixture
def folder(tmp_path: Path, model: Path) -> Path:
    (tmp_path / "model").symlink_to(model)
    for name, numbers in (("train", range(20)), ("eval", range(20, 30))):
        rows = [{"prompt": f"Number {n}?", "completion": str(n)} for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def refusal(folder: Path, text: str = GOOD) -> str:
    """The refusal of the whole pipeline; nothing was trained, written or started."""
    (folder / "experiment.yaml").write_text(text)
    run = new_run(folder / "runs", "trial")
    with pytest.raises(BadInput) as error:
        run_pipeline(
            prepare(load_experiment(folder / "experiment.yaml"), folder, Silent()), run, Silent()
        )
    assert list(run.path.iterdir()) == []
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_model_that_does_not_exist(folder: Path) -> None:
    assert "model: './other' is no folder" in refusal(
        folder, GOOD.replace("model: model", "model: ./other")
    )


def test_a_malformed_line_of_data(folder: Path) -> None:
    line = '{"prompt": "Q", "completion": "A"}'
    (folder / "eval.jsonl").write_text(f"{line}\n\n{line}\n")
    assert "eval.jsonl:2: empty line" in refusal(folder)


def test_a_question_in_both_splits(folder: Path) -> None:
    (folder / "eval.jsonl").write_text('{"prompt": "number  3?", "completion": "3"}\n')
    message = refusal(folder)
    assert "train.jsonl:4" in message
    assert "eval.jsonl:1" in message


def test_an_example_longer_than_the_limit(folder: Path) -> None:
    with (folder / "train.jsonl").open("a") as file:
        file.write(json.dumps({"prompt": "x" * 300, "completion": "y"}) + "\n")
    assert "train.jsonl:21" in refusal(folder)


@pytest.mark.parametrize(
    ("quantize", "message"),
    [
        (
            "{method: w4a16, group_size: 48}",
            "group_size: 48 does not divide the model's input widths (64, 128); write 64 or 32",
        ),
        (
            "{method: w4a16, keep: [lm_head, down]}",
            "keep: model has no linear layer 'down' (did you mean 'down_proj'?)",
        ),
        (
            "{method: w4a16, algorithm: gptq}",
            "gptq asks for 256 training examples, data.train has 20; write 32 examples at",
        ),
        (
            "fp8-dynamic",
            "variants.int8.quantize: fp8-dynamic can't be served here: vLLM's CPU backend loads "
            "FP8 weights but",
        ),
    ],
)
def test_a_quantization_that_does_not_fit(folder: Path, quantize: str, message: str) -> None:
    text = UNTRAINED.replace("quantize: w8a8-int8", f"quantize: {quantize}")
    assert message in refusal(folder, text.replace("serve: {", "serve: {device: cpu, "))


def test_a_variant_whose_adapter_is_nowhere(folder: Path) -> None:
    message = refusal(folder, GOOD.replace("adapter: finetune", "adapter: ./adapters/old"))
    assert "variants.tuned.adapter" in message
    assert "no such adapter folder" in message


def test_an_adapter_for_another_base(folder: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    other = build_tiny_model(folder / "wider", hidden=128, id="test/wider")
    peft = get_peft_model(
        AutoModelForCausalLM.from_pretrained(other.path),
        LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False),
    )
    peft.save_pretrained(folder / "old")
    message = refusal(folder, GOOD.replace("adapter: finetune", "adapter: old"))
    assert str(folder / "old") in message
    assert "whose weights are not those of" in message


def test_a_rank_that_can_not_be_served(folder: Path) -> None:
    assert "rank" in refusal(folder, GOOD.replace("rank: 8", "rank: 600"))


def test_a_range_of_ports_that_is_full(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refusal(folder, UNTRAINED.replace("serve: {", f"serve: {{ports: {port}-{port}, "))
    assert f"serve.ports: {port}-{port}" in message


def test_no_room_on_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 99, 1))
    assert "the disk has 0.0 GB free" in refusal(folder, UNTRAINED)


def test_no_room_in_memory(folder: Path) -> None:
    text = UNTRAINED.replace("serve: {", "serve: {memory: 1GiB, ")
    assert "one server needs" in refusal(folder, text)


def test_a_key_that_is_not_in_the_environment(folder: Path) -> None:
    variant = "{name: base, url: http://127.0.0.1:9/v1, model: m, api_key_env: NO_SUCH_KEY}"
    assert "the environment has no NO_SUCH_KEY" in refusal(
        folder, GOOD.replace("{name: base}", variant)
    )


@pytest.mark.parametrize(
    ("workload", "more", "message"),
    [
        (
            "{rate: 5, requests: 10, mix: uniform}",
            "",
            "workload.stages: a mix needs all variants at once",
        ),
        (
            "{rate: 5, requests: 10}",
            "until_decided: {max_time: 1m}\n",
            "until_decided: the servers take turns",
        ),
        ("{rate: 5, requests: 10}", "resolution: 3%\n", "resolution: the servers take turns"),
    ],
)
def test_what_servers_that_take_turns_can_not_do(
    folder: Path, workload: str, more: str, message: str
) -> None:
    text = (
        UNTRAINED.replace("{rate: 5, requests: 10}", workload).replace(
            "serve: {", "serve: {residency: turns, "
        )
        + more
    )
    assert message in refusal(folder, text)


@pytest.mark.parametrize("command", ["quantize", "serve"])
def test_a_variant_that_is_none(folder: Path, command: str) -> None:
    (folder / "experiment.yaml").write_text(GOOD)
    done = dyno(command, "experiment.yaml", "--variant", "int", cwd=folder)
    assert (done.returncode, done.stderr.strip()) == (
        3,
        "error: --variant: 'int' is no variant (did you mean 'int8'?)",
    )
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("quality", "says"),
    [
        (
            "{scorer: choice, labels: [yes, no]}",
            "eval.jsonl:1: the answer: '20' is none of the labels (yes, no)",
        ),
        (
            "{scorer: json_equal, probes: [{name: p, data: words.jsonl, scorer: number}]}",
            "words.jsonl:1: the answer: 'many'",
        ),
    ],
)
def test_a_reference_that_no_answer_can_match(folder: Path, quality: str, says: str) -> None:
    (folder / "words.jsonl").write_text('{"prompt": "How many?", "completion": "many"}\n')
    assert says in refusal(folder, GOOD + f"quality: {quality}\n")
