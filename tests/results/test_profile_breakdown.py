"""A variant's profile, two variants' difference, and the roofline, computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.profile.breakdown import breakdown, short_name
from results.profile.comparison import compare
from results.profile.record import Roofline, VariantProfile
from results.profile.roofline import (
    MachineLimits,
    ModelShape,
    roofline,
    step_bytes,
    step_flops,
)
from results.profile.timeline import Timeline, divide
from results.profile.trace import read_trace
from tests.results.profiled import DETAILED, TWO_STEPS, TWO_STEPS_US, event, step, written


@pytest.fixture
def timeline(tmp_path: Path) -> Timeline:
    return divide(read_trace(written(tmp_path, *TWO_STEPS)))


def test_a_profile_has_groups_operators_and_the_mean_step(timeline: Timeline) -> None:
    profile = breakdown("int8", "cpu", timeline)
    assert profile.steps == 2 and profile.traced_ms == pytest.approx(0.3)
    assert {g.group: g.ms_per_step for g in profile.groups} == pytest.approx(
        {group: us / 2000 for group, us in TWO_STEPS_US.items()}
    )
    assert sum(g.share for g in profile.groups) == pytest.approx(1)
    assert profile.unattributed_ms == pytest.approx(0, abs=1e-9)
    top = profile.operators[0]
    assert (top.operator, top.group, top.calls, top.ms) == ("_C::onednn_mm", "linear", 1, 0.046)
    tokens = profile.tokens
    assert (tokens.requests, tokens.prompt_tokens, tokens.answer_tokens) == (3, 6, 2)
    assert profile.notes == ["only 2 steps were traced; a mean over them says little"]


def test_the_difference_adds_up_and_names_steps_that_are_not_alike(
    timeline: Timeline, tmp_path: Path
) -> None:
    ours = breakdown("int8", "cpu", timeline)
    longer = [
        step(0, 100, "execute_context_0(0)_generation_2(2)"),
        event("_C::onednn_mm", 10, 80),
        event("my::end", 100, 10),
    ]
    theirs = breakdown("merged", "cpu", divide(read_trace(written(tmp_path, *longer))))
    compared = compare(ours, theirs)
    by_group = {each.group: each.ms_per_step for each in compared.groups}
    assert by_group["linear"] == pytest.approx(0.045 - 0.080)
    assert by_group["quantize"] == pytest.approx(0.0075)
    assert by_group["sampling"] == pytest.approx(0.0075 - 0.010)
    assert compared.ms_per_step == pytest.approx(0.150 - 0.110)
    assert sum(by_group.values()) == pytest.approx(compared.ms_per_step)
    assert compared.notes == [
        "the steps are not alike: int8's hold 6.0 prompt tokens, merged's 0.0"
    ]


def test_names_of_kernels_lose_their_arguments() -> None:
    assert short_name("void vllm::rms_norm_kernel<float, 8>(float*)") == "vllm::rms_norm_kernel"
    flash = "flash::FlashAttnFwdSm90<flash::CollectiveMainloopFwdSm90<2, cute::tuple<...>>"
    wrapped = f"void cutlass::device_kernel<flash::enable_sm90_or_later<{flash}>>(Params)"
    assert short_name(wrapped) == "flash::FlashAttnFwdSm90"
    assert short_name("void cutlass::device_kernel<7>(int)") == "cutlass::device_kernel"
    assert short_name("Memcpy HtoD (Pinned -> Device)") == "Memcpy HtoD "


SHAPE = ModelShape(
    weight_bytes=1000, linear_weights=400, head_weights=100, kv_bytes=10, attention_width=8
)


@pytest.fixture
def detailed(tmp_path: Path) -> tuple[VariantProfile, Timeline]:
    events = [
        event("PyTorch Profiler (0)", 0, 1000, "Trace"),
        step(100, 900, DETAILED),
        event("_C::onednn_mm", 110, 700),
    ]
    timeline = divide(read_trace(written(tmp_path, *events)))
    return breakdown("merged", "cpu", timeline), timeline


def test_bytes_and_flops_of_a_step_are_those_by_hand(
    detailed: tuple[VariantProfile, Timeline],
) -> None:
    [only] = detailed[1].steps  # a prompt of 6 tokens, and 2 sequences of 30 tokens in all
    assert step_bytes(SHAPE, only) == 1000 + 10 * (6 + 30 + 6 + 2)
    attention = 4 * 8 * (30 + 36 - 36 / 2)
    assert step_flops(SHAPE, only) == 2 * 400 * 8 + 2 * 100 * 3 + attention


@pytest.mark.parametrize(
    ("bytes_per_s", "flops_per_s", "bound", "limit_s"),
    [(1440 / 450e-6, 1e12, "memory", 450e-6), (1e12, 8536 / 630e-6, "compute", 630e-6)],
)
def test_the_slower_of_memory_and_arithmetic_bounds_a_step(
    detailed: tuple[VariantProfile, Timeline],
    bytes_per_s: float,
    flops_per_s: float,
    bound: str,
    limit_s: float,
) -> None:
    profile, timeline = detailed
    limits = MachineLimits(bytes_per_s, flops_per_s, "bfloat16")
    result = roofline(profile, timeline.steps, SHAPE, limits)
    assert isinstance(result, Roofline)
    assert result.bound == bound
    assert result.limit_ms_per_step == pytest.approx(limit_s * 1e3)
    assert result.busy_ms_per_step == pytest.approx(0.9)
    assert result.share == pytest.approx(limit_s / 900e-6)
    share = {"memory": "50", "compute": "70"}[bound]
    assert result.sentence == f"merged is {bound}-bound at {share}% of the limit"


def test_limits_that_a_step_beats_are_no_limits(
    detailed: tuple[VariantProfile, Timeline],
) -> None:
    profile, timeline = detailed
    low = roofline(profile, timeline.steps, SHAPE, MachineLimits(1e6, 1e12, "bfloat16"))
    assert isinstance(low, str) and "the limits were measured too low" in low


def test_without_the_lengths_of_sequences_there_is_no_roofline(timeline: Timeline) -> None:
    profile = breakdown("int8", "cpu", timeline)
    reason = roofline(profile, timeline.steps, SHAPE, MachineLimits(1e9, 1e12, "int8"))
    assert reason == "the trace does not say how long the sequences of its steps are"
