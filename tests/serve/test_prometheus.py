"""Numbers from pages of metrics of four engines, and from pages that are none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from foundation.run.records import TelemetrySample
from serve.telemetry.engines import LORA, LORA_LABELS, NAMES, SELECTED, SERIES
from serve.telemetry.prometheus import read_metrics


def vllm_page(selected: bool) -> str:
    """Two engines, as vLLM 0.32 exposes its metrics."""
    registry = CollectorRegistry()
    names = ["model_name", "engine"]

    def both(metric: Gauge | Counter | Histogram, *more: str) -> list[Gauge | Counter | Histogram]:
        return [metric.labels("m", engine, *more) for engine in "01"]

    for name in ("num_requests_running", "num_requests_waiting"):
        for gauge in both(Gauge(f"vllm:{name}", "", names, registry=registry)):
            gauge.set(3)
    reasons = Gauge(
        "vllm:num_requests_waiting_by_reason", "", [*names, "reason"], registry=registry
    )
    for reason, count in (("capacity", 2), ("deferred", 1)):
        for gauge in both(reasons, reason):
            gauge.set(count)
    usage = both(Gauge("vllm:kv_cache_usage_perc", "", names, registry=registry))
    usage[0].set(0.5)
    usage[1].set(0.1)
    for name in ("prompt_tokens", "spec_decode_num_drafts"):
        for counter in both(Counter(f"vllm:{name}", "", names, registry=registry)):
            counter.inc(50)
    for steps in both(Histogram("vllm:iteration_tokens_total", "", names, registry=registry)):
        steps.observe(7)
        steps.observe(8)
    lora = Gauge(LORA, "", ["max_lora", *LORA_LABELS.values()], registry=registry)
    lora.labels("2", "a,b", "").set(1_700_000_000)
    lora.labels("2", "b", "c").set(1_700_000_001)
    return generate_latest(
        registry.restricted_registry(SELECTED) if selected else registry
    ).decode()


@pytest.mark.parametrize("selected", [True, False])
def test_a_page_of_vllm_is_summed_over_engines_and_a_share_is_their_mean(selected: bool) -> None:
    reading = read_metrics(vllm_page(selected))
    assert reading.refused == {}
    assert reading.fields == {
        "running": 6, "waiting": 6, "waiting_capacity": 4, "waiting_deferred": 2,
        "kv_cache_usage": pytest.approx(0.3), "prompt_tokens": 100, "spec_drafts": 100,
        "iterations": 4, "iteration_tokens": 30, "lora_running": 1, "lora_waiting": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("page", "fields"),
    [
        (
            'sglang:num_running_reqs{model_name="m"} 3.0\nsglang:num_queue_reqs{} 2.0\n'
            'sglang:token_usage{model_name="m"} 0.28\nsglang:prompt_tokens_total{} 8.0e+06\n'
            'sglang:cached_tokens_total{cache_source="device"} 5\n'
            'sglang:cached_tokens_total{cache_source="host"} 6\n',
            {
                "running": 3, "waiting": 2, "kv_cache_usage": 0.28, "prompt_tokens": 8_000_000,
                "prefix_cache_queries": 8_000_000, "prefix_cache_hits": 11,
            },
        ),
        (
            'tgi_batch_current_size 4\ntgi_queue_size 7\ntgi_request_generated_tokens_sum 8123\n'
            'tgi_request_generated_tokens_bucket{le="1"} 0\n',
            {"running": 4, "waiting": 7, "generation_tokens": 8123},
        ),
        (
            "llamacpp:requests_processing 1\nllamacpp:requests_deferred 46\n"
            "llamacpp:tokens_predicted_total 17029\n",
            {"running": 1, "waiting": 46, "generation_tokens": 17029},
        ),
    ],
)  # fmt: skip
def test_other_engines_have_other_names(page: str, fields: dict[str, float]) -> None:
    assert read_metrics(page).fields == fields


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("vllm:num_requests_running NaN", "is nan"),
        ("vllm:num_requests_running +Inf", "is inf"),
        ("vllm:num_requests_running -1", "is -1"),
        ("vllm:num_requests_running 1e300", "is 1e+300"),
        (
            'vllm:num_requests_running{e="0"} 4e18\nvllm:num_requests_running{e="1"} 4e18',
            "is 8e+18 in all",
        ),
        ("vllm:num_requests_running{", "can't be parsed"),
        ("vllm:num_requests_running many", "can't be parsed"),
        ("vllm:num_requests_running{" + "a=" * 9999 + "} 1", "can't be parsed"),
        (
            'vllm:num_requests_running{e="0"} 1\nvllm:num_requests_running{e="0"} 1',
            "is there twice",
        ),
    ],
)
def test_a_number_that_can_not_be_is_left_out_and_the_others_stay(line: str, why: str) -> None:
    reading = read_metrics(f"\xff\x00\n{line}\n\nvllm:num_requests_waiting 4\n")
    assert reading.fields == {"waiting": 4}
    assert reading.refused == {"vllm:num_requests_running": why}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(NAMES)), st.text(max_size=30)), max_size=4))
def test_no_page_ends_the_reading(lines: list[tuple[str, str]]) -> None:
    reading = read_metrics("\n".join(f"{name}{rest}" for name, rest in lines))
    assert all(value >= 0 for value in reading.fields.values())


def test_every_series_fills_a_field_of_a_sample() -> None:
    fields = {series.field for every in SERIES.values() for series in every} | LORA_LABELS.keys()
    assert fields <= set(TelemetrySample.__struct_fields__)
