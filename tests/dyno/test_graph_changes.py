"""One change of what a run depends on makes stale exactly what a hand-written table says."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dyno.artifacts.artifact import changed_facts
from dyno.artifacts.graph import Graph
from foundation.run.records import Prompt
from tests.dyno.test_graph import (
    EXPERIMENT,
    EXTERNALS,
    GPTQ,
    LOAD,
    MADE_OF_BASE,
    NOTHING,
    SERVED,
    STUDENTS,
    TAUGHT,
    TRAINED,
    VERSIONS,
    changed,
    graph,
    identities,
    load_of,
    prompts,
    stale,
    variant,
)


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
    "a replica's url": (
        lambda: graph(variant("api", url=["http://127.0.0.1:9/v1", "http://127.0.0.1:8/v1"])),
        load_of("api") | TAUGHT,
    ),
    "replicas": (lambda: graph(variant("int8", serve={"replicas": 2})), load_of("int8")),
    "a router": (
        lambda: graph(variant("int8", serve={"router": "vllm-router"})),
        load_of("int8"),
    ),
    "the stages of a pipeline": (
        lambda: graph(variant("int8", serve={"pipeline_parallel": 2})),
        load_of("int8"),
    ),
    "an executor": (lambda: graph(variant("int8", serve={"executor": "mp"})), load_of("int8")),
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
    assert graph(watching).trained().identity != graph(other).trained().identity


def test_a_mix_depends_on_everybody_in_it() -> None:
    made = copy.deepcopy(EXPERIMENT)
    made["workload"]["stages"][0]["mix"] = "uniform"
    before = identities(graph(made))
    after = identities(graph(made, externals=replace(EXTERNALS, addresses={"api": "f" * 64})))
    assert {n for n in before if before[n] != after[n]} == load_of(
        *SERVED, parts=("main",)
    ) | load_of("api") | TAUGHT


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
