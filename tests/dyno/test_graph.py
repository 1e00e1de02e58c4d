"""Dependencies by a hand-written table: one change makes stale exactly what the table says."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from dyno.artifacts.artifact import changed_facts
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
    return Graph(read, asked or prompts(), wordings, frozenset(), {}, externals)


def identities(of: Graph) -> dict[str, str]:
    """Of everything that a run makes, by a name that doesn't hang on identities."""
    variants = {v.name: v for v in of.experiment.variants}
    made = {
        "adapter": of.own_adapter,
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


def externals(**changes: Any) -> Graph:
    return graph(externals=replace(EXTERNALS, **changes))


def model_file(name: str) -> Graph:
    return externals(models={"base": {**EXTERNALS.models["base"], name: "f" * 64}})


def version(name: str) -> Graph:
    return externals(versions={**VERSIONS, name: "2"})


def reworded(style: str, group: str) -> Graph:
    """One question of a set, in one style."""
    asked = prompts()
    first = next(p for p in asked if p.set == group)
    first.messages[style][0]["content"] += "?"
    return graph(asked=asked)


OF_BASE = {*MADE_OF_BASE, *STUDENTS}
CHANGES: dict[str, tuple[Callable[[], Graph], set[str]]] = {
    "nothing": (graph, NOTHING),
    "a weight": (lambda: model_file("model.safetensors"), OF_BASE),
    "the tokenizer": (lambda: model_file("tokenizer.json"), OF_BASE),
    "the config": (lambda: model_file("config.json"), OF_BASE),
    "a file more": (lambda: model_file("chat_template.jinja"), OF_BASE),
    "an adapter's weight": (
        lambda: externals(
            adapters={
                **EXTERNALS.adapters,
                "a/checkpoint-500": {"adapter_model.safetensors": "f" * 64},
            }
        ),
        {"theirs"} | load_of("theirs"),
    ),
    "a line to learn": (
        lambda: externals(data={**EXTERNALS.data, "train": "f" * 64}),
        TRAINED | {"pruned", "answers"} | GPTQ,
    ),
    "a held-out line": (
        lambda: externals(data={**EXTERNALS.data, "eval": "f" * 64}),
        TRAINED | {"prompts"},  # what is asked of it stands in the prompts, and counts there
    ),
    "the tokens of an API's answers": (
        lambda: externals(tokenizer={"tokenizer.json": "f" * 64}),
        load_of("api") | TAUGHT,
    ),
    "the API's address": (lambda: externals(addresses={"api": "f" * 64}), load_of("api") | TAUGHT),
    "the machine": (lambda: externals(machine={"cpu": "Xeon", "cores": 2}), LOAD),
    "dyno": (lambda: version("tunedyno"), {*OF_BASE, *LOAD, *TAUGHT}),
    "vLLM": (lambda: version("vllm"), load_of(*SERVED)),
    "preloads": (lambda: version("preloads"), load_of(*SERVED)),
    "torch": (lambda: version("torch"), OF_BASE),
    "transformers": (lambda: version("transformers"), OF_BASE),
    "PEFT": (
        lambda: version("peft"),
        TRAINED | {"theirs", "also-theirs", "pruned"} | load_of("theirs", "also-theirs"),
    ),
    "TRL": (lambda: version("trl"), TRAINED),
    "bitsandbytes": (lambda: version("bitsandbytes"), {"nf4"} | load_of("nf4")),
    "numpy": (lambda: version("numpy"), NOTHING),
    "a question, in one style": (
        lambda: reworded("long", "eval"),
        {"prompts"} | load_of("plain", "api", parts=("main", "few")),
    ),
    "a probe's question": (
        lambda: reworded("short", "facts"),
        {"prompts"}
        | load_of(
            "tuned",
            "merged",
            "int8",
            "gptq",
            "nf4",
            "theirs",
            "also-theirs",
            parts=("probe-facts",),
        ),
    ),
    "an answer it should get": (
        lambda: graph(
            asked=[
                p if i else Prompt(p.id, p.set, p.messages, "other")
                for i, p in enumerate(prompts())
            ]
        ),
        {"prompts"},
    ),
    "a url": (lambda: graph(variant("api", url="http://127.0.0.1:8/v1")), load_of("api") | TAUGHT),
    "what a url is asked for": (lambda: graph(variant("api", model="n")), load_of("api") | TAUGHT),
    "a request's form": (
        lambda: graph(variant("api", request={"extra": {"priority": 1}})),
        load_of("api") | TAUGHT,
    ),
    "the epoch that is merged": (
        lambda: graph(variant("merged", merge="finetune")),
        {"merged"} | load_of("merged"),
    ),
    "the share that is pruned": (
        lambda: graph(variant("small", prune="25%")),
        {"pruned", "small's adapter", "small"} | load_of("small"),
    ),
    "an SLO": (lambda: graph({**EXPERIMENT, "slo": {"latency_p95": "1s"}}), NOTHING),
    "a scorer": (lambda: graph(changed("quality", "scorer", "contains")), NOTHING),
    "a probe's answers": (
        lambda: graph(
            changed(
                "quality", "probes", [{"name": "facts", "data": "facts.jsonl", "max_tokens": 5}]
            )
        ),
        load_of(*SERVED, "api", parts=("probe-facts",)),
    ),
    "the name": (lambda: graph({**EXPERIMENT, "name": "u"}), NOTHING),
    "the baseline": (lambda: graph({**EXPERIMENT, "baseline": "tuned"}), NOTHING),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_change_makes_stale_exactly_what_depends_on_it(change: str) -> None:
    made, expected = CHANGES[change]
    assert stale(made()) == expected


def test_a_score_that_is_watched_depends_on_the_scorer() -> None:
    watching = changed("finetune", "watch", "score")
    other = {**watching, "quality": {**EXPERIMENT["quality"], "scorer": "contains"}}
    assert graph(watching).own_adapter.identity != graph(other).own_adapter.identity


def test_a_mix_depends_on_everybody_in_it() -> None:
    made = copy.deepcopy(EXPERIMENT)
    made["workload"]["stages"][0]["mix"] = "uniform"
    before = identities(graph(made))
    after = identities(graph(made, externals=replace(EXTERNALS, addresses={"api": "f" * 64})))
    assert {n for n in before if before[n] != after[n]} == load_of(
        *SERVED, parts=("main",)
    ) | load_of("api") | TAUGHT


def folders(*variants: dict[str, Any], externals: Externals = EXTERNALS) -> list[str]:
    made = graph(
        {**EXPERIMENT, "variants": list(variants), "baseline": variants[0]["name"]},
        externals=externals,
    )
    return [made.place(each) for each in made.folders]


def test_two_adapters_of_one_name_are_two_checkpoints() -> None:
    merged = [
        {"name": "one", "merge": "a/checkpoint-500"},
        {"name": "two", "merge": "b/checkpoint-500"},
    ]
    [_, one, two] = folders(*merged)
    assert one != two and {one[:34], two[:34]} == {"checkpoints/merged-checkpoint-500-"}
    # Contents tell, not names: the same adapter in two places is one checkpoint.
    [_, one, two] = folders(
        *merged,
        externals=replace(
            EXTERNALS, adapters={name: {"w": "a" * 64} for name in EXTERNALS.adapters}
        ),
    )
    assert one == two == "checkpoints/merged-checkpoint-500"


def test_one_adapter_on_two_bases_is_two_checkpoints() -> None:
    models = {**EXTERNALS.models, "other": {"model.safetensors": "e" * 64}}
    merged = [
        {"name": "one", "merge": "a/checkpoint-500"},
        {"name": "two", "model": "other", "merge": "a/checkpoint-500"},
    ]
    [_, one, two] = folders(*merged, externals=replace(EXTERNALS, models=models))
    assert one != two


@pytest.mark.parametrize(
    "name", ["merged-default", "merged-finetune", "small-pruned", "merged-small"]
)
def test_no_name_of_a_variant_collides(name: str) -> None:
    adapters = {"default": {"w": "a" * 64}}
    several = [
        {"name": name, "quantize": "w8a8-int8"},
        {"name": "theirs", "merge": "default"},
        {"name": "ours", "merge": "finetune"},
        {"name": "small", "prune": "50%"},
    ]
    found = folders(*several, externals=replace(EXTERNALS, adapters=adapters))
    assert len(set(found)) == len(found) and f"checkpoints/{name}" in found


def test_a_change_is_named_once_and_by_its_key() -> None:
    def named(after: Graph) -> list[str]:
        return changed_facts(
            {name: each.recorded() for name, each in graph().all().items()}, after.all()
        )

    assert named(graph()) == []
    assert named(graph(changed("finetune", "rank", 8))) == ["finetune.rank: was 16, is 8"]
    assert named(graph(changed("workload", "sampling", {"max_tokens": 9}))) == [
        "workload.sampling.max_tokens: was 256, is 9"
    ]
    assert named(version("vllm")) == ["version of vllm: was 1, is 2"]
    assert named(model_file("model.safetensors")) == ["model base: model.safetensors changed"]
    assert named(externals(machine={"cpu": "Xeon", "cores": 2})) == [
        "machine.cpu: was EPYC, is Xeon"
    ]
    assert named(externals(data={**EXTERNALS.data, "train": "f" * 64})) == [
        "data.train: contents changed"
    ]
    assert named(graph(variant("int8", quantize={"method": "w4a16"}))) == [
        "checkpoints/int8: quantize.method: was w8a8-int8, is w4a16"
    ]
