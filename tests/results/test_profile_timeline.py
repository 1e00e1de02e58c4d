"""Where traced time goes: by hand, by torch's own table, and in a layer of a real server."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from foundation.errors import BadInput
from results.profile.groups import TITLES, group_of
from results.profile.timeline import Step, Timeline, Tokens, divide, step_of
from results.profile.trace import read_trace
from tests.results.profiled import (
    DETAILED,
    FOLDER,
    STEP,
    TWO_STEPS,
    TWO_STEPS_US,
    event,
    step,
    written,
)


def by_group(timeline: Timeline) -> dict[str, float]:
    times: defaultdict[str, float] = defaultdict(float)
    for each in timeline.slices:
        times[each.group] += each.own
    return {group: time for group, time in times.items() if time}


def by_operator(timeline: Timeline) -> dict[str, float]:
    times: defaultdict[str, float] = defaultdict(float)
    for each in timeline.slices:
        times[each.operator] += each.own
    return dict(times)


def test_groups_get_the_times_computed_by_hand(tmp_path: Path) -> None:
    timeline = divide(read_trace(written(tmp_path, *TWO_STEPS)))
    assert by_group(timeline) == pytest.approx(TWO_STEPS_US)
    assert sum(TWO_STEPS_US.values()) == timeline.traced == 300
    assert len(timeline.steps) == 2
    own = by_operator(timeline)
    assert own["_C::onednn_mm"] == pytest.approx(50 - 4)
    assert own["vllm::unified_attention_with_output"] == pytest.approx(10)


def test_own_times_are_those_that_torch_computed() -> None:
    """`small.own.json` is `key_averages()` of the profiler that wrote the trace."""
    timeline = divide(read_trace(FOLDER / "small.trace.json.gz"))
    table = json.loads((FOLDER / "small.own.json").read_text(encoding="utf-8"))
    operators = {name: own for name, (_, own) in table.items() if not name.startswith("execute_")}
    own = by_operator(timeline)
    assert own.keys() - {""} == operators.keys()
    for name, expected in operators.items():
        assert own[name] == pytest.approx(expected, abs=0.1), name
    groups = by_group(timeline)
    assert sum(groups.values()) == pytest.approx(timeline.traced, rel=0.02)
    assert {"linear", "elementwise", "copies", "sampling", "host"} <= groups.keys()
    assert "lora" not in groups  # its einsum is a product like any other


def test_a_real_layer_shows_the_adapters_operators() -> None:
    """A layer of SmolLM2 with a LoRA adapter, cut out of a real server's trace."""
    timeline = divide(read_trace(FOLDER / "lora-layer.trace.json.gz"))
    groups = by_group(timeline)
    assert sum(groups.values()) == pytest.approx(timeline.traced, rel=0.02)
    lora = [each.operator for each in timeline.slices if each.group == "lora"]
    # Seven projections, each with a product by A and one by B: gathered and multiplied.
    assert lora.count("aten::einsum") == lora.count("aten::index") == 2 * 7
    assert [e.operator for e in timeline.slices if e.group == "linear"].count("_C::onednn_mm") == 4
    norm = [e.operator for e in timeline.slices if e.group == "elementwise"]
    assert norm.count("aten::rsqrt") == 2 and norm.count("aten::silu") == 1
    assert groups["lora"] > groups["linear"]


def test_a_step_is_read_from_its_annotation() -> None:
    assert step_of(STEP) == Step(Tokens(1, 6), Tokens(2, 2))
    assert step_of(DETAILED) == Step(Tokens(1, 6, 6, 36, 36), Tokens(2, 2, 30, 2, 30))
    assert step_of("execute_model") is None


def test_steps_without_tokens_are_the_hosts_time_and_no_steps(tmp_path: Path) -> None:
    empty = step(270, 20, "execute_context_0(0)_generation_0(0)")
    timeline = divide(read_trace(written(tmp_path, *TWO_STEPS, empty)))
    assert len(timeline.steps) == 2
    hosts = TWO_STEPS_US["host"] + 20
    expected = TWO_STEPS_US | {"host": hosts, "idle": TWO_STEPS_US["idle"] - 20}
    assert by_group(timeline) == pytest.approx(expected)
    with pytest.raises(BadInput, match="no engine step"):
        divide(read_trace(written(tmp_path, empty)))


def test_an_idle_server_gives_one_sentence(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, event("aten::to", 0, 5)))
    with pytest.raises(BadInput, match="no engine step; the server was idle"):
        divide(trace)


def test_other_threads_are_told_and_stand_in_no_group(tmp_path: Path) -> None:
    other = [event("aten::copy_", 20, 30, thread=2), event("aten::to", 40, 30, thread=2)]
    timeline = divide(read_trace(written(tmp_path, *TWO_STEPS, *other)))
    assert timeline.elsewhere == 50
    assert by_group(timeline) == pytest.approx(TWO_STEPS_US)


def test_an_accelerators_time_is_divided_by_kernels_host_and_idle(tmp_path: Path) -> None:
    kernels = [
        event("void flash::flash_fwd_splitkv_kernel<Traits>(Params)", 30, 20, "kernel", 20),
        event("nvjet_tst_64x8_64x16_4x1_v_bz_TNT", 40, 30, "kernel", 21),  # overlaps by 10
        event("Memcpy HtoD (Pinned -> Device)", 100, 5, "gpu_memcpy", 20),
    ]
    timeline = divide(
        read_trace(
            written(
                tmp_path,
                event("PyTorch Profiler (0)", 0, 200, "Trace"),
                step(10, 100),
                *kernels,
            )
        )
    )
    assert by_group(timeline) == pytest.approx(
        {
            "attention": 20,
            "linear": 20,
            "copies": 5,
            "host": (30 - 10) + (100 - 70) + (110 - 105),
            "idle": 10 + (200 - 110),
        }
    )
    assert sum(by_group(timeline).values()) == pytest.approx(200)


@pytest.mark.parametrize(
    ("operator", "group"),
    [
        ("_C::onednn_scaled_mm", "linear"),
        ("_C::dynamic_scaled_int8_quant", "quantize"),
        ("bitsandbytes::dequantize_4bit", "quantize"),
        ("void gptq_marlin::Marlin<...>", "linear"),
        ("ampere_bf16_s16816gemm_bf16_128x64_ldg8_f2f_stages_64x4_tn", "linear"),
        ("void cutlass::device_kernel<flash::FlashAttnFwdSm90<...>>", "attention"),
        ("void vllm::reshape_and_cache_flash_kernel<__nv_bfloat16>", "attention"),
        ("void flash::prepare_varlen_num_blocks_kernel<1>(cutlass::FastDivmod)", "attention"),
        ("nvjet_sm90_tst_8x64_64x16_4x1_v_bz_TNN", "linear"),
        ("_gumbel_sample_kernel", "sampling"),
        ("void vllm::rotary_embedding_kernel<c10::BFloat16, true>", "attention"),
        ("void vllm::fused_add_rms_norm_kernel<c10::BFloat16, 8>", "elementwise"),
        ("void vllm::act_and_mul_kernel<c10::BFloat16, ...>", "elementwise"),
        ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0", "elementwise"),
        ("void vllm::dynamic_per_token_scaled_fp8_quant_kernel<...>", "quantize"),
        ("_lora_shrink_kernel", "lora"),
        ("_lora_expand_kernel", "lora"),
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(...)", "communication"),
        ("void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>", "communication"),
        ("void at::native::reduce_kernel<512, 1, ArgMaxOps<float>>", "sampling"),
        ("void at::native::vectorized_elementwise_kernel<4, CUDAFunctor_add>", "elementwise"),
        ("Memset (Device)", "copies"),
        ("a_kernel_nobody_knows", "other"),
    ],
)
def test_operators_and_kernels_have_their_group(operator: str, group: str) -> None:
    assert group_of(operator) == group
    assert group in TITLES
