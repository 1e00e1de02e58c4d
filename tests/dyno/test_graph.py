"""Dependencies by a hand-written table: one change makes stale exactly what the table says."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from dyno.artifacts.externals import Externals
from dyno.artifacts.graph import Graph
from dyno.experiment.schema import Experiment
from finetune.config import FinetuneConfig
from foundation.run.records import Prompt
from loadgen.config import Deadlines, Sampling, Stage, WorkloadConfig
from quantize.config import QuantizeConfig
from serve.config import ServeConfig

EXPERIMENT: dict[str, Any] = {
    "name": "t",
    "model": "base",
    "data": {"train": "train.jsonl", "eval": "eval.jsonl"},
    "prompts": {"short": "S {input}", "long": "L {input}", "taught": "T {input}"},
    "finetune": {"prompt": "short"},
    "variants": [
        {"name": "plain", "prompt": "long"},
        {"name": "tuned", "prompt": "short", "adapter": "finetune"},
        {"name": "merged", "prompt": "short", "merge": "finetune/epoch-1"},
        {"name": "int8", "prompt": "short", "merge": "finetune", "quantize": "w8a8-int8"},
        {"name": "gptq", "prompt": "short", "quantize": {"method": "w4a16", "algorithm": "gptq"}},
        {"name": "nf4", "prompt": "short", "quantize": "bnb-nf4"},
        {"name": "theirs", "prompt": "short", "merge": "a/checkpoint-500"},
        {"name": "also-theirs", "prompt": "short", "merge": "b/checkpoint-500"},
        {"name": "api", "prompt": "long", "model": "m", "url": "http://127.0.0.1:9/v1"},
        {"name": "small", "prompt": "taught", "prune": "50%"},
        {"name": "student", "prompt": "taught", "prune": "50%", "distil": "api"},
    ],
    "baseline": "plain",
    "workload": {
        "stages": [
            {"name": "main", "rate": 5, "requests": 10},
            {"name": "few", "concurrency": 2, "requests": 4},
        ]
    },
    "quality": {"probes": [{"name": "facts", "data": "facts.jsonl"}]},
}
SERVED = [
    "plain",
    "tuned",
    "merged",
    "int8",
    "gptq",
    "nf4",
    "theirs",
    "also-theirs",
    "small",
    "student",
]
PACKAGES = (
    "tunedyno",
    "vllm",
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "compressed-tensors",
    "preloads",
    "numpy",
)
VERSIONS = dict.fromkeys(PACKAGES, "1")
EXTERNALS = Externals(
    models={
        "base": {"model.safetensors": "0" * 64, "tokenizer.json": "1" * 64, "config.json": "2" * 64}
    },
    adapters={f"{name}/checkpoint-500": {"adapter_model.safetensors": name * 64} for name in "ab"},
    data={"train": "3" * 64, "eval": "4" * 64},
    addresses={"api": "5" * 64},
    tokenizer={"tokenizer.json": "1" * 64},
    versions=VERSIONS,
    machine={"cpu": "EPYC", "cores": 2},
)


def prompts() -> list[Prompt]:
    def worded(number: int, group: str) -> Prompt:
        styles = {
            name: [{"role": "user", "content": f"{name} {group} {number}"}]
            for name in ("short", "long", "taught")
        }
        return Prompt(f"{group}-{number}", group, styles, reference=f"answer {number}")

    return [worded(number, group) for group in ("eval", "facts") for number in range(3)]


def graph(
    experiment: Mapping[str, Any] = EXPERIMENT,
    asked: list[Prompt] | None = None,
    externals: Externals = EXTERNALS,
) -> Graph:
    read = Experiment.model_validate(copy.deepcopy(dict(experiment)))
    wordings = {v.name: v.prompt or "plain" for v in read.variants}
    return Graph(read, externals, asked or prompts(), wordings, frozenset(), {})


def identities(of: Graph) -> dict[str, str]:
    """Of everything that a run makes, by a name that doesn't hang on identities."""
    variants = {v.name: v for v in of.experiment.variants}
    made = {
        "adapter": of.trained(),
        "merged": of.merged(variants["merged"]),
        "merged for int8": of.merged(variants["int8"]),
        "theirs": of.merged(variants["theirs"]),
        "also-theirs": of.merged(variants["also-theirs"]),
        "int8": of.quantized(variants["int8"]),
        "gptq": of.quantized(variants["gptq"]),
        "nf4": of.quantized(variants["nf4"]),
        "recovery of int8": of.recovery(variants["int8"]),
        "pruned": of.pruned(variants["small"]),
        "small's adapter": of.student(variants["small"]),
        "small": of.merged(variants["small"]),
        "answers": of.answers(variants["student"]),
        "student's adapter": of.student(variants["student"]),
        "student": of.merged(variants["student"]),
        "prompts": of.prompts_file,
        **of.measurements(),
    }
    return {name: artifact.identity for name, artifact in made.items() if artifact is not None}


def load_of(*variants: str, parts: tuple[str, ...] = ("main", "few", "probe-facts")) -> set[str]:
    return {f"load/{variant}/{part}" for variant in variants for part in parts}


STUDENTS = {"small's adapter", "small", "student's adapter", "student"} | load_of(
    "small", "student"
)
"""What healing and distilling train, and what is made and measured of it."""
TRAINED = (
    {"adapter", "merged", "merged for int8", "int8", "recovery of int8"}
    | load_of("tuned", "merged", "int8")
    | STUDENTS
)
QUANTIZED = {"int8", "recovery of int8", "gptq", "nf4"} | load_of("int8", "gptq", "nf4")
MADE_OF_BASE = {*TRAINED, *QUANTIZED, "theirs", "also-theirs", "pruned"} | load_of(*SERVED)
LOAD = load_of(*SERVED, "api")
TIMED = load_of(*SERVED, "api", parts=("main", "few"))
NOTHING: set[str] = set()

# Every key of the section finetune: another value, and what it makes stale.
FINETUNE: dict[str, tuple[Any, set[str]]] = {
    "method": ("rslora", TRAINED),
    "base_format": ("int8", TRAINED),
    "prompt": ("long", TRAINED - STUDENTS),
    "train_on": ("all", TRAINED | {"pruned"}),
    "chat_template": ("mine.jinja", TRAINED | {"pruned"}),
    "warm_start": ("earlier", TRAINED),
    "rank": (8, TRAINED),
    "alpha": (16, TRAINED),
    "dropout": (0.1, TRAINED),
    "target_modules": ("q_proj", TRAINED),
    "modules_to_save": (["norm"], TRAINED),
    "epochs": (3, TRAINED),
    "max_steps": (9, TRAINED),
    "optimizer": ("lion", TRAINED),
    "learning_rate": (1e-4, TRAINED),
    "schedule": ("linear", TRAINED),
    "warmup": (0.1, TRAINED),
    "weight_decay": (0.1, TRAINED),
    "max_grad_norm": (0.5, TRAINED),
    "batch_size": (8, TRAINED),
    "accumulation": (2, TRAINED),
    "max_length": (512, TRAINED | {"pruned"}),
    "too_long": ("drop", TRAINED | {"pruned"}),
    "packing": (True, TRAINED),
    "gradient_checkpointing": (True, TRAINED),
    "limit": (10, TRAINED | {"answers"}),
    "eval_limit": (64, TRAINED),
    "eval_steps": (5, TRAINED),
    "watch": ("score", TRAINED),
    "patience": (1, TRAINED),
    "checkpoint_steps": (5, NOTHING),
    "dtype": ("float32", TRAINED),
    "trust_remote_code": (True, TRAINED | {"pruned"}),
    "seed": (1, TRAINED | {"pruned", "answers"}),
}
SERVE: dict[str, tuple[Any, set[str]]] = {
    "device": ("cpu", load_of(*SERVED)),
    "dtype": ("float32", load_of(*SERVED)),
    "max_model_len": (512, load_of(*SERVED)),
    "enforce_eager": (True, load_of(*SERVED)),
    "kv_cache": ("2GiB", load_of(*SERVED)),
    "gpu_memory_utilization": (0.5, load_of(*SERVED)),
    "tensor_parallel": (2, load_of(*SERVED)),
    "pipeline_parallel": (2, load_of(*SERVED)),
    "data_parallel": (2, load_of(*SERVED)),
    "executor": ("mp", load_of(*SERVED)),
    "replicas": (2, load_of(*SERVED)),
    "router": ("vllm-router", load_of(*SERVED)),
    "host": ("127.0.0.2", NOTHING),
    "api_key_env": ("SERVED_KEY", NOTHING),
    "residency": ("turns", load_of(*SERVED)),
    "memory": ("4GiB", load_of(*SERVED)),
    "start_timeout": ("1s", NOTHING),
    "ports": ("9000-9010", NOTHING),
    "engine": ({"max-num-seqs": 8}, load_of(*SERVED)),
    "trust_remote_code": (True, load_of(*SERVED)),
    "engine_record": (False, load_of(*SERVED)),
}
TAUGHT = {"answers", "student's adapter", "student"} | load_of("student")
WORKLOAD: dict[str, tuple[Any, set[str]]] = {
    "dataset": ("eval", NOTHING),
    "tokenizer": ("another", NOTHING),  # its contents count
    "cache_salt": ("word", LOAD),
    "api": ("completions", LOAD | TAUGHT),
    "stages": (
        [{"name": "main", "rate": 6, "requests": 10}],
        load_of(*SERVED, "api", parts=("main",)),
    ),
    "model": (True, NOTHING),  # its loads follow
    "search": ({"max_rate": "9/s"}, NOTHING),  # so does a search
    "race": (False, NOTHING),  # nor does who leaves it change a block
    "blocks": (4, NOTHING),
    "warmup": ("2s", TIMED),
    "seed": (1, LOAD | TAUGHT),
    "sampling": ({"top_p": 0.5}, LOAD | TAUGHT),
    "deadlines": ({"first": "9s"}, LOAD | TAUGHT),
    "max_in_flight": (7, LOAD),
    "transport": ("aiohttp", LOAD | TAUGHT),
    "workers": (2, LOAD),
    "machines": ("auto", LOAD),
}
INT8, GPTQ = {"int8", "recovery of int8"} | load_of("int8"), {"gptq"} | load_of("gptq")
QUANTIZE: dict[str, tuple[str, Any, set[str]]] = {
    "method": ("int8", {"method": "w4a16"}, INT8),
    "algorithm": ("gptq", {"method": "w4a16", "algorithm": "awq"}, GPTQ),
    "group_size": ("gptq", {"method": "w4a16", "algorithm": "gptq", "group_size": 64}, GPTQ),
    "keep": ("int8", {"method": "w8a8-int8", "keep": ["lm_head", "down_proj"]}, INT8),
    "calibration": ("gptq", {"method": "w4a16", "algorithm": "gptq", "calibration": 64}, GPTQ),
    "recovery": ("int8", {"method": "w8a8-int8", "recovery": True}, NOTHING),
}


@cache
def usual() -> dict[str, str]:
    return identities(graph())


def stale(after: Graph, before_it: Graph | None = None) -> set[str]:
    before, now = identities(before_it) if before_it else usual(), identities(after)
    return {name for name in before.keys() & now.keys() if before[name] != now[name]}


def changed(section: str, key: str, value: Any) -> dict[str, Any]:
    made = copy.deepcopy(EXPERIMENT)
    made.setdefault(section, {})[key] = value
    return made


def variant(name: str, **keys: Any) -> dict[str, Any]:
    made = copy.deepcopy(EXPERIMENT)
    next(v for v in made["variants"] if v["name"] == name).update(keys)
    return made


def test_the_tables_name_every_key() -> None:
    assert FINETUNE.keys() == FinetuneConfig.model_fields.keys()
    assert SERVE.keys() == ServeConfig.model_fields.keys()
    assert WORKLOAD.keys() == WorkloadConfig.model_fields.keys()
    assert QUANTIZE.keys() == QuantizeConfig.model_fields.keys()


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (name, key)
        for name, table in (("finetune", FINETUNE), ("serve", SERVE), ("workload", WORKLOAD))
        for key in table
    ],
)
def test_a_changed_setting_makes_stale_what_depends_on_it(section: str, key: str) -> None:
    value, expected = {"finetune": FINETUNE, "serve": SERVE, "workload": WORKLOAD}[section][key]
    before, made = copy.deepcopy(EXPERIMENT), changed(section, key, value)
    for each in (before, made):
        if key == "base_format":
            each["finetune"]["method"] = "qlora"
        if key == "modules_to_save":  # no server takes such an adapter, so it is merged
            each["variants"][1] = {"name": "tuned", "prompt": "short", "merge": "finetune"}
    odd = key in ("base_format", "modules_to_save")
    assert stale(graph(made), graph(before) if odd else None) == expected


@pytest.mark.parametrize(
    ("key", "expected"), [("chat_template", TRAINED | {"pruned"}), ("warm_start", TRAINED)]
)
def test_what_a_file_of_the_training_holds_counts_and_not_where_it_lies(
    key: str, expected: set[str]
) -> None:
    def holding(path: str, contents: str) -> Graph:
        return graph(
            changed("finetune", key, path),
            externals=replace(EXTERNALS, files={path: contents * 64}),
        )

    assert stale(holding("a", "1"), holding("a", "2")) == expected
    assert stale(holding("a", "1"), holding("b", "1")) == NOTHING


@pytest.mark.parametrize("key", QUANTIZE)
def test_a_changed_quantization_makes_stale_one_checkpoint(key: str) -> None:
    name, value, expected = QUANTIZE[key]
    assert stale(graph(variant(name, quantize=value))) == expected


@pytest.mark.parametrize("kind", [Sampling, Deadlines])
def test_every_key_of_a_request_counts(kind: type[Sampling] | type[Deadlines]) -> None:
    section = kind.__name__.lower()
    for key in kind.model_fields:
        value: Any = (
            ["x"]
            if key == "stop"
            else 0.5
            if key == "top_p"
            else 1
            if section == "sampling"
            else "500ms"
        )
        expected = (
            TIMED | TAUGHT if key == "max_tokens" else LOAD | TAUGHT
        )  # a probe says itself how many
        assert stale(graph(changed("workload", section, {key: value}))) == expected, key


STAGE: dict[str, dict[str, Any]] = {
    "rate": {"rate": 6},
    "arrivals": {"arrivals": "constant"},
    "burstiness": {"arrivals": "gamma", "burstiness": 0.5},
    "rate_to": {"rate_to": 9, "requests": None, "duration": "2s"},
    "steps": {"rate_to": 9, "steps": 2, "requests": None, "duration": "2s"},
    "bursts": {"bursts": {"on": "1s", "off": "1s"}},
    "concurrency": {"rate": None, "concurrency": 3},
    "trace": {"rate": None, "trace": {"file": "recording.jsonl"}},
    "duration": {"requests": None, "duration": "2s"},
    "requests": {"requests": 11},
    "one_more_in": {"one_more_in": 1},
    "warmup": {"warmup": "3s"},
    "think": {"rate": None, "concurrency": 3, "think": "1s"},
    "mix": {"mix": "uniform"},
}


@pytest.mark.parametrize("key", STAGE)
def test_a_changed_stage_makes_stale_its_own_journals(key: str) -> None:
    made = copy.deepcopy(EXPERIMENT)
    stage = {"name": "main", "rate": 5, "requests": 10} | STAGE[key]
    made["workload"]["stages"][0] = {
        name: value for name, value in stage.items() if value is not None
    }
    assert stale(graph(made)) == load_of(*SERVED, "api", parts=("main",))
    assert STAGE.keys() | {"name"} == Stage.model_fields.keys()
