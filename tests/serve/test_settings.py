"""Servers whose settings differ by variant: who shares one, its options, its memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundation.errors import BadInput
from foundation.models.model import ModelRef
from serve import ServedVariant, ServerPlan, check
from serve.config import ServeConfig, VariantServe
from serve.device import Device
from serve.plan import share_servers
from serve.vllm.arguments import command_line
from serve.vllm.engine_options import CommandLine, check_answer, check_engine_options
from serve.vllm.memory import MemoryEstimate, estimate_memory
from serve.vllm.options import ParserAnswer

GB = 10**9
CPU = Device("cpu", 64 * GB, 2)
GPU = Device("cuda", 80 * GB, 1)


def common(**fields: object) -> ServeConfig:
    return ServeConfig.model_validate({"kv_cache": "64MiB", "memory": "64GB", **fields})


def own(**fields: object) -> VariantServe:
    return VariantServe.model_validate(fields)


def absent(model_id: str) -> ModelRef:
    return ModelRef(model_id, None, Path("/nonexistent") / model_id)


def served(model: ModelRef, **variants: VariantServe | None) -> list[ServedVariant]:
    return [ServedVariant(name, model, settings=each) for name, each in variants.items()]


def servers(config: ServeConfig, **variants: VariantServe | None) -> dict[str, ServerPlan]:
    """The servers of variants of one model, by name."""
    plan = check(served(absent("org/model-1B"), **variants), config)
    return {server.name: server for server in plan.servers}


def memory(settings: VariantServe, model: ModelRef, device: Device = CPU) -> MemoryEstimate:
    config = common(device=device.kind).of_variant(settings)
    return estimate_memory(ServedVariant("v", model), config, device, "bfloat16")


def line(name: str, config: ServeConfig, settings: VariantServe | None) -> CommandLine:
    effective = config.of_variant(settings)
    arguments = command_line(
        absent("org/model-1B"), served(absent("org/model-1B"), **{name: None}), {}, effective, CPU
    )
    return CommandLine(name, effective, arguments)


def test_variants_share_a_server_as_far_as_their_settings_are_the_same():
    groups = share_servers(
        served(
            absent("m"),
            plain=None,
            said_again=own(enforce_eager=False, engine={"max-num-seqs": 64}),
            spelled_otherwise=own(engine={"max_num_seqs": 64}),
            few=own(engine={"max_num_seqs": 8}),
            few_too=own(engine={"max-num-seqs": 8}),
            eager=own(enforce_eager=True),
        ),
        common(engine={"max-num-seqs": 64}),
    )
    assert [[v.name for v in group.variants] for group in groups] == [
        ["plain", "said_again", "spelled_otherwise"],
        ["few", "few_too"],
        ["eager"],
    ]
    assert [group.config.options for group in groups] == [
        {"max-num-seqs": 64},
        {"max-num-seqs": 8},
        {"max-num-seqs": 64},
    ]


def test_a_server_starts_with_its_own_settings():
    planned = servers(common(), plain=None, eager=own(enforce_eager=True, max_model_len=64))
    assert {"--enforce-eager", "--max-model-len=64"} <= set(planned["eager"].arguments)
    assert not {"--enforce-eager", "--max-model-len=64"} & set(planned["plain"].arguments)


def test_adapters_of_other_settings_have_a_server_of_their_own(tiny: ModelRef, adapter: Path):
    variants = [
        ServedVariant("one", tiny, adapter=adapter),
        ServedVariant("two", tiny, adapter=adapter, settings=own(max_model_len=64)),
        ServedVariant("three", tiny, adapter=adapter),
    ]
    planned = check(variants, common()).servers
    assert [[v.name for v in server.variants] for server in planned] == [["one", "three"], ["two"]]
    assert "--max-loras=2" in planned[0].arguments
    assert "--max-loras=1" in planned[1].arguments


def test_null_leaves_an_option_to_vllm_and_a_whole_one_replaces_its_parts():
    section = common(engine={"speculative-config.method": "ngram", "max-num-seqs": 8, "seed": 1})
    less = section.of_variant(own(engine={"max_num_seqs": None, "speculative_config": None}))
    assert less.options == {"seed": 1}
    other = section.of_variant(own(engine={"speculative-config": {"method": "medusa"}}))
    assert json.loads(str(other.options["speculative-config"])) == {"method": "medusa"}
    assert "speculative-config.method" not in other.options
    limited = common(max_model_len=64)
    assert limited.of_variant(own(max_model_len=None)).max_model_len is None
    assert limited.of_variant(own()).max_model_len == 64


def test_the_memory_of_a_server_is_that_of_its_own_settings():
    planned = servers(common(), plain=None, large=own(kv_cache="1GiB"))
    assert planned["plain"].memory.kv_cache == 64 << 20
    assert planned["large"].memory.kv_cache == 1 << 30
    with pytest.raises(BadInput, match="one server needs about"):
        servers(common(memory="8GB"), plain=None, large=own(kv_cache="9GiB"))


def test_a_draft_model_counts_with_the_weights(tiny: ModelRef):
    size = tiny.size_bytes()
    drafted = {"method": "draft_model", "model": str(tiny.path.absolute())}
    assert memory(own(engine={"speculative-config": {"method": "ngram"}}), tiny).weights == size
    assert memory(own(engine={"speculative-config": drafted}), tiny).weights == 2 * size
    by_name = memory(own(engine={"speculative-config.model": "org/draft-1B"}), tiny)
    assert by_name.weights == size + 2 * GB and "2 GB by its name" in str(by_name.note)
    unknown = memory(own(engine={"spec-model": "org/mystery"}), tiny)
    assert unknown.weights == size and "not counted" in str(unknown.note)


def test_the_format_of_the_kv_cache_changes_no_size(tiny: ModelRef):
    assert memory(own(engine={"kv-cache-dtype": "fp8"}), tiny) == memory(own(), tiny)


def test_workers_of_a_gpu_server_divide_the_weights():
    four = own(tensor_parallel=2, pipeline_parallel=2)
    model = absent("org/model-1B")
    assert [memory(s, model, GPU).weights for s in (own(), own(tensor_parallel=2), four)] == [
        2 * GB,
        GB,
        GB // 2,
    ]


def test_a_server_may_take_what_its_own_share_of_the_accelerator_is():
    config = common(device="cuda", memory="24GB", residency="sleep")
    most, half = own(gpu_memory_utilization=0.95), own(gpu_memory_utilization=0.5)
    planned = servers(config, most=most, half=half)
    # Two sleepers keep 1.3 GB each of the 24.
    assert "--gpu-memory-utilization=0.89" in planned["most"].arguments
    assert "--gpu-memory-utilization=0.5" in planned["half"].arguments
    with pytest.raises(BadInput, match=r"there are 2\.4 GB for it"):
        servers(config, plain=None, little=own(gpu_memory_utilization=0.1))


@pytest.mark.parametrize(
    ("section", "variant", "says"),
    [
        ({}, {"enforce-eager": True}, "engine.enforce-eager: write variants.v.serve.enforce_eager"),
        ({"enforce-eager": True}, {}, "^serve.engine.enforce-eager: write serve.enforce_eager"),
        ({}, {"port": 1}, "variants.v.serve.engine.port: write serve.ports instead"),
        ({}, {"max-loras": 1}, "variants.v.serve.engine.max-loras: set by tunedyno"),
        (
            {"speculative-config": {"method": "ngram"}},
            {"speculative-config.num_speculative_tokens": 2},
            "variants.v.serve.engine.speculative-config.num_speculative_tokens: "
            "speculative-config stands beside it",
        ),
        (
            {},
            {"speculative-config": {"method": "draft_model", "model": "./draft"}},
            r"variants.v.serve.engine.speculative-config: model: \./draft: .* absolute path",
        ),
    ],
)
def test_an_option_that_has_another_place_is_refused(
    section: dict[str, object], variant: dict[str, object], says: str
):
    config = common(engine=section)
    lines = [line("plain", config, None), line("v", config, own(engine=variant))]
    with pytest.raises(BadInput, match=says):
        check_engine_options(config, lines)


def test_what_the_parser_refuses_is_told_with_its_place():
    """The parser's answer is written by hand; a slow test asks the real one."""
    config = common(engine={"seed": 1})
    lines = [
        line("plain", config, None),
        line("v", config, own(engine={"max-num-seqs": 1, "async-scheduling": False})),
    ]

    def problem(options: set[str], *errors: str | None) -> str:
        with pytest.raises(BadInput) as refused:
            check_answer(config, lines, ParserAnswer("9", frozenset(options), errors))
        return str(refused.value)

    known = {"--seed", "--max-num-seqs", "--async-scheduling", "--no-async-scheduling"}
    assert problem(known - {"--seed"}, None, None) == (
        "serve.engine.seed: vLLM 9 has no such option"
    )
    assert problem(known - {"--max-num-seqs"} | {"--max-num-seq"}, None, None) == (
        "variants.v.serve.engine.max-num-seqs: vLLM 9 has no such option "
        "(did you mean 'max-num-seq'?)"
    )
    assert problem(known - {"--no-async-scheduling"}, None, None).startswith(
        "variants.v.serve.engine.async-scheduling: can't be set to false in vLLM 9"
    )
    assert problem(known, None, "no") == "variants.v.serve.engine: vLLM 9 refuses it: no"
    assert problem(known, "no", None) == "serve.engine: vLLM 9 refuses it: no"
    check_answer(config, lines, ParserAnswer("9", frozenset(known), (None, None)))


def test_a_misspelled_null_is_refused_though_its_variant_shares_a_server(
    monkeypatch: pytest.MonkeyPatch,
):
    """It would leave the option that it means as it is, without a word."""
    monkeypatch.setattr(
        "serve.vllm.engine_options.ask_parser",
        lambda lines: ParserAnswer("9", frozenset({"--max-num-seqs"}), (None,) * len(lines)),
    )
    config = common(engine={"max-num-seqs": 8})
    fine = servers(config, plain=None, free=own(engine={"max-num-seqs": None}))
    assert fine.keys() == {"plain", "free"}
    with pytest.raises(BadInput, match=r"variants\.v\.serve\.engine\.max-num-seq: vLLM 9 has no"):
        servers(config, plain=None, v=own(engine={"max-num-seq": None}))


def test_a_part_of_a_whole_option_is_not_removed_in_silence():
    config = common(engine={"speculative-config": {"method": "ngram", "model": "x"}})
    with pytest.raises(BadInput, match=r"speculative-config\.model: speculative-config stands bes"):
        check_engine_options(
            config, [line("v", config, own(engine={"speculative-config.model": None}))]
        )


def test_a_switch_has_two_spellings_and_one_value():
    with pytest.raises(ValueError, match="enable-chunked-prefill: stands there twice"):
        common(engine={"enable-chunked-prefill": True, "no-enable-chunked-prefill": True})
    section = common(engine={"no-enable-chunked-prefill": True})
    assert section.of_variant(own(engine={"enable_chunked_prefill": None})).options == {}
    on = section.of_variant(own(engine={"enable-chunked-prefill": True}))
    assert on.options == {"enable-chunked-prefill": True}


@pytest.mark.parametrize(
    "engine",
    [
        {"kv-transfer-config": {"extra": [{"api_key": "sup3r"}]}},
        {"kv-transfer-config": '{"extra": {"note": "hf_abcdefghijklmnop"}}'},
        {"kv-transfer-config.api_key": "sup3r"},
    ],
)
def test_a_key_within_an_option_is_refused_without_being_told(engine: dict[str, object]):
    with pytest.raises(ValueError, match="everybody on the machine can read"):
        own(engine=engine)
    own(engine={"speculative-config": {"num_speculative_tokens": 3}, "note": "[not JSON"})


@pytest.mark.slow
def test_the_installed_vllm_takes_what_people_turn_and_refuses_what_it_can_not():
    taken = check(
        served(
            absent("org/model-1B"),
            plain=None,
            ngram=own(
                engine={"speculative-config": {"method": "ngram", "num_speculative_tokens": 3}}
            ),
            uncached=own(engine={"enable-prefix-caching": False}),
            chunks=own(engine={"enable-prefix-caching": True, "max-num-batched-tokens": 512}),
            pipeline=own(pipeline_parallel=2),
            fp8=own(engine={"kv-cache-dtype": "fp8_e5m2"}),
            whole=own(engine={"enable-chunked-prefill": False}),
        ),
        common(),
    )
    assert len(taken.servers) == 7
    for engine, says in (
        ({"kv-cache-dtype": "fp9"}, r"variants.v.serve.engine: vLLM .* refuses it: .*fp9"),
        ({"max-num-sequences": 1}, r"variants.v.serve.engine.max-num-sequences: vLLM .* has no"),
    ):
        with pytest.raises(BadInput, match=says):
            servers(common(), plain=None, v=own(engine=engine))


def test_one_option_spelled_twice_is_refused():
    with pytest.raises(ValueError, match="max-num-seqs: stands there twice"):
        own(engine={"max-num-seqs": 1, "max_num_seqs": 2})
