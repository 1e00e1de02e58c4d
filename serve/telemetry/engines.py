"""The names of engines' metrics, by the field of a telemetry sample that each fills.

Checked against vLLM 0.32's and SGLang's sources, TGI's metrics reference, and llama.cpp's server.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """A field is the sum over a metric's label sets that have the value `of` for the label `label`.

    `is_share`: it is their mean instead.
    """

    field: str
    label: str = ""
    of: str = ""
    is_share: bool = False


_VLLM = {
    "vllm:num_requests_running": [Series("running")],
    "vllm:num_requests_waiting": [Series("waiting")],
    "vllm:num_requests_waiting_by_reason": [
        Series("waiting_capacity", "reason", "capacity"),
        Series("waiting_deferred", "reason", "deferred"),
    ],
    "vllm:kv_cache_usage_perc": [Series("kv_cache_usage", is_share=True)],
    "vllm:prefix_cache_queries_total": [Series("prefix_cache_queries")],
    "vllm:prefix_cache_hits_total": [Series("prefix_cache_hits")],
    "vllm:num_preemptions_total": [Series("preemptions")],
    "vllm:prompt_tokens_total": [Series("prompt_tokens")],
    "vllm:generation_tokens_total": [Series("generation_tokens")],
    "vllm:iteration_tokens_total_count": [Series("iterations")],
    "vllm:iteration_tokens_total_sum": [Series("iteration_tokens")],
    "vllm:spec_decode_num_drafts_total": [Series("spec_drafts")],
    "vllm:spec_decode_num_draft_tokens_total": [Series("spec_draft_tokens")],
    "vllm:spec_decode_num_accepted_tokens_total": [Series("spec_accepted_tokens")],
}
# SGLang counts tokens at the end of a request. `prompt_tokens` holds the cached ones, so it is also
# what was looked up.
_SGLANG = {
    "sglang:num_running_reqs": [Series("running")],
    "sglang:num_queue_reqs": [Series("waiting")],
    "sglang:token_usage": [Series("kv_cache_usage", is_share=True)],
    "sglang:prompt_tokens_total": [Series("prompt_tokens"), Series("prefix_cache_queries")],
    "sglang:cached_tokens_total": [Series("prefix_cache_hits")],
    "sglang:num_retracted_requests_total": [Series("preemptions")],
    "sglang:generation_tokens_total": [Series("generation_tokens")],
}
_TGI = {
    "tgi_batch_current_size": [Series("running")],
    "tgi_queue_size": [Series("waiting")],
    "tgi_request_input_length_sum": [Series("prompt_tokens")],
    "tgi_request_generated_tokens_sum": [Series("generation_tokens")],
}
_LLAMA_CPP = {
    "llamacpp:requests_processing": [Series("running")],
    "llamacpp:requests_deferred": [Series("waiting")],
    "llamacpp:kv_cache_usage_ratio": [Series("kv_cache_usage", is_share=True)],
    "llamacpp:prompt_tokens_total": [Series("prompt_tokens")],
    "llamacpp:tokens_predicted_total": [Series("generation_tokens")],
}
SERIES = _VLLM | _SGLANG | _TGI | _LLAMA_CPP

LORA = "vllm:lora_requests_info"
"""Its labels name the adapters, its value is when they were those: the newest counts."""
LORA_LABELS = {"lora_running": "running_lora_adapters", "lora_waiting": "waiting_lora_adapters"}

NAMES = frozenset({*SERIES, LORA})
SELECTED = (*_VLLM, LORA, *_SGLANG)
"""Metrics of engines that expose them with prometheus_client, which can leave out all others."""
