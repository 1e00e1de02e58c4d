from __future__ import annotations

import sys
from pathlib import Path

import pytest

from foundation.errors import BadInput
from foundation.http.endpoint import Endpoint
from foundation.models.model import ModelRef
from serve import PlannedWeights, ServedVariant, check
from serve.config import ServeConfig
from serve.device import Device
from serve.plan import check_fits, choose_residency
from serve.vllm.memory import MemoryEstimate, parameters_in_name

GB = 10**9


def config(**fields: object) -> ServeConfig:
    return ServeConfig.model_validate({"kv_cache": "64MiB", "memory": "64GB", **fields})


def elsewhere(name: str) -> ServedVariant:
    return ServedVariant(name, None, elsewhere=Endpoint(name, "http://127.0.0.1:9/v1", "m", "k"))


def absent(model_id: str) -> ModelRef:
    return ModelRef(model_id, None, Path("/nonexistent") / model_id)


def test_variants_of_one_checkpoint_share_a_server_and_adapters_share_another(
    tiny: ModelRef, adapter: Path
):
    other = absent("merged-1B")
    plan = check(
        [
            ServedVariant("base", tiny),
            ServedVariant("tuned", tiny, adapter=adapter),
            ServedVariant("base-short", tiny),
            ServedVariant("merged", other),
            ServedVariant("tuned-2", tiny, adapter=adapter),
            elsewhere("prod"),
        ],
        config(),
    )
    assert {server.name: [v.name for v in server.variants] for server in plan.servers} == {
        "base": ["base", "base-short"],
        "tuned": ["tuned", "tuned-2"],
        "merged": ["merged"],
    }
    assert [v.name for v in plan.elsewhere] == ["prod"]


def test_every_server_has_the_same_flags_but_for_its_adapters(tiny: ModelRef, adapter: Path):
    plan = check(
        [ServedVariant("base", tiny), ServedVariant("tuned", tiny, adapter=adapter)],
        config(enforce_eager=True),
    )
    base, tuned = (set(server.arguments) for server in plan.servers)
    assert "--enable-lora" in tuned - base
    assert not any("lora" in argument for argument in base)
    assert {a for a in base - tuned if a.startswith("--")} == {"--served-model-name"}


def test_resident_is_one_round_and_turns_are_one_a_server(tiny: ModelRef, adapter: Path):
    variants = [
        ServedVariant("base", tiny),
        elsewhere("prod"),
        ServedVariant("tuned", tiny, adapter=adapter),
        ServedVariant("b2", tiny),
    ]
    together = check(variants, config())
    assert (together.residency, together.rounds) == ("resident", (("base", "prod", "tuned", "b2"),))
    apart = check(variants, config(memory="3GB"))
    assert (apart.residency, apart.rounds) == ("turns", (("base", "b2"), ("tuned",), ("prod",)))
    assert any("take turns" in note for note in apart.notes)
    assert check(variants, config(memory="3GB", residency="resident")).rounds == together.rounds


def test_a_server_that_can_never_fit_is_refused(tiny: ModelRef):
    with pytest.raises(BadInput, match=r"one server needs about 2\.\d GB and there are 1\.0 GB"):
        check([ServedVariant("base", tiny)], config(memory="1GB"))


def test_the_ports_must_be_enough_for_those_up_together(tiny: ModelRef, adapter: Path):
    variants = [ServedVariant("base", tiny), ServedVariant("tuned", tiny, adapter=adapter)]
    with pytest.raises(BadInput, match=r"serve\.ports: 61234-61234 has [01] free port"):
        check(variants, config(ports="61234-61234"))


def test_a_model_that_is_not_here_is_estimated_by_its_name_and_said_so():
    plan = check(
        [ServedVariant("base", absent("meta-llama/Llama-3.1-8B-Instruct"))],
        config(device="cuda", memory="80GB"),
    )
    assert plan.servers[0].memory.weights == 16 * GB
    assert any(
        "Llama-3.1-8B-Instruct: not on this machine; 8 billion" in note for note in plan.notes
    )
    unknown = check([ServedVariant("base", absent("org/mystery"))], config())
    assert any("not counted" in note for note in unknown.notes)


def test_a_quantized_model_that_is_not_here_is_not_refused_for_its_unquantized_size():
    nf4 = ServedVariant("nf4", absent("org/model-70B"), bits=4)
    card = config(device="cuda", memory="80GB")
    plan = check([nf4], card)
    assert plan.servers[0].memory.weights == 35 * GB
    assert any("35 GB or more in 4 bits" in note for note in plan.notes)
    with pytest.raises(BadInput, match="one server needs about 143"):
        check([ServedVariant("plain", absent("org/model-70B"))], card)


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 2), ("float32", 4)])
def test_a_checkpoint_still_to_be_made_counts_by_what_it_will_hold(dtype: str, size: int):
    future = ServedVariant("merged", absent("org/mystery"), planned=PlannedWeights(GB, 5))
    plan = check([future], config(dtype=dtype))
    assert plan.servers[0].memory.weights == size * GB + 5
    assert not any("mystery" in note for note in plan.notes)


def test_an_adapter_still_to_be_trained_is_served_with_the_rank_it_will_have(
    tiny: ModelRef, tmp_path: Path
):
    plan = check([ServedVariant("tuned", tiny, adapter=tmp_path / "later", rank=24)], config())
    assert "--max-lora-rank=32" in plan.servers[0].arguments
    with pytest.raises(BadInput, match="rank 600"):
        check([ServedVariant("tuned", tiny, adapter=tmp_path / "later", rank=600)], config())
    with pytest.raises(BadInput, match="not an adapter folder"):
        check([ServedVariant("tuned", tiny, adapter=tmp_path / "later")], config())


def test_only_urls_need_no_vllm(monkeypatch: pytest.MonkeyPatch, tiny: ModelRef):
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert check([elsewhere("prod")], config()).rounds == (("prod",),)
    with pytest.raises(BadInput, match=r"vLLM is not installed; pip install"):
        check([elsewhere("prod"), ServedVariant("base", tiny)], config())


def test_an_accelerator_is_shared_only_as_far_as_its_memory_is_claimed():
    h100, little_host = Device("cuda", 80 * GB, 1, 128 * GB), Device("cuda", 80 * GB, 1, 24 * GB)

    def server(share: float) -> MemoryEstimate:
        return MemoryEstimate(
            weights=16 * GB, kv_cache=int(80 * GB * share) - 19 * GB, runtime=3 * GB
        )

    whole, third = (
        ServeConfig(device="cuda"),
        ServeConfig.model_validate({"device": "cuda", "gpu_memory_utilization": 0.3}),
    )
    assert choose_residency([server(0.9)], whole, h100)[0] == "resident"
    assert choose_residency([server(0.9)] * 2, whole, h100)[0] == "sleep"
    assert choose_residency([server(0.9)] * 2, whole, little_host)[0] == "turns"
    assert choose_residency([server(0.3)] * 3, third, h100)[0] == "resident"
    with pytest.raises(BadInput, match="tensor_parallel"):
        check_fits(MemoryEstimate(weights=140 * GB, kv_cache=0, runtime=3 * GB), whole, h100)
    residency, note = choose_residency([server(0.9)] * 2, whole, Device("cuda", None, 1))
    assert residency == "sleep" and note is not None and "not checked" in note


def test_the_server_that_is_awake_leaves_room_for_what_the_sleepers_keep():
    variants = [ServedVariant(f"v{i}", absent(f"org/v{i}-1B")) for i in range(6)]
    small = check(variants, config(device="cuda", memory="24GB", residency="sleep"))
    assert all("--gpu-memory-utilization=0.67" in server.arguments for server in small.servers)
    assert any("67%" in note for note in small.notes)
    with pytest.raises(
        BadInput, match=r"serve\.residency: .* about 5\.0 GB, and 6 of them asleep leave 0\.2 GB"
    ):
        check(variants, config(device="cuda", memory="8GB", residency="sleep"))
    large = check(variants, config(device="cuda", memory="80GB", residency="sleep"))
    assert all("--gpu-memory-utilization=0.9" in server.arguments for server in large.servers)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8e9),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 135e6),
        ("Qwen/Qwen2.5-0.5B", 0.5e9),
        ("mistralai/Mixtral-8x7B-v0.1", 56e9),
        ("org/gpt-oss-20b", 20e9),
        ("70B-labs/tiny", None),
        ("org/model-4bit", None),
        ("org/v3.2", None),
    ],
)
def test_parameters_in_a_models_name(name: str, parameters: float | None):
    assert parameters_in_name(name) == parameters
