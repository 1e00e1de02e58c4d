"""vLLM's metrics in Prometheus' text: what is no number is left out, engines are added up."""

from __future__ import annotations

import pytest

from serve.vllm.metrics import read_metrics


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "1e300", "1_0x", "�"])
def test_a_metric_that_is_no_number_is_left_out_and_the_others_stay(value: str):
    text = f"vllm:num_requests_running {value}\nvllm:num_requests_waiting 2\n"
    assert read_metrics(text) == {"waiting": 2}


def test_engines_are_added_up_and_time_stamps_passed_over():
    text = (
        'vllm:prompt_tokens_total{engine="0"} 3 1395066363000\n'
        'vllm:prompt_tokens_total{engine="1"} 4.0\n'
    )
    assert read_metrics(text) == {"prompt_tokens": 7}


def test_one_engine_of_nonsense_spoils_the_sum():
    text = 'vllm:prompt_tokens_total{engine="0"} 3\nvllm:prompt_tokens_total{engine="1"} NaN\n'
    assert read_metrics(text) == {}
