"""The names that vLLM's bench, AIPerf, GuideLLM and others give the settings of `workload`."""

from __future__ import annotations

from collections.abc import Mapping


def _advice(**names: tuple[str, ...]) -> Mapping[str, str]:
    """What to write instead of each other name."""
    return {other: f"write {name}" for name, other_names in names.items() for other in other_names}


STAGE = _advice(
    rate=("request_rate", "qps", "rps", "requests_per_second"),
    concurrency=("max_concurrency", "num_users", "users", "virtual_users"),
    requests=("num_prompts", "request_count", "num_requests", "max_requests"),
    duration=("benchmark_duration", "max_seconds", "time_limit"),
    warmup=("warmup_requests", "num_warmups", "warmup_duration", "ramp_up"),
    trace=("fixed_schedule", "replay"),
    think=("think_time", "turn_delay"),
)
RECORDING = _advice(
    file=("input_file", "path", "dataset_path"),
    offset=("fixed_schedule_start_offset", "start_offset", "skip", "start"),
    length=("fixed_schedule_end_offset", "end_offset", "duration", "until"),
    speed=("speedup", "time_scale", "arrival_speedup_ratio", "replay_speed"),
)
SYNTHETIC = _advice(
    input_tokens=(
        "isl",
        "input_len",
        "random_input_len",
        "prompt_tokens",
        "synthetic_input_tokens_mean",
    ),
    output_tokens=("osl", "output_len", "random_output_len", "synthetic_output_tokens_mean"),
    prefixes=("num_prefixes", "num_prefix_prompts"),
    turns=("num_turns", "conversation_turn_mean"),
    cache_hit=("prefix_share", "prefix_ratio"),
)
SAMPLING = _advice(
    max_tokens=("max_new_tokens", "max_completion_tokens", "output_tokens"),
    stop=("stop_sequences",),
)
