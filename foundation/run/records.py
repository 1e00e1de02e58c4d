"""The schema of a run's files: prompts, and a journal's header, records and end line.

A journal is JSON lines: one `JournalHeader`, then a `RequestRecord` for each planned arrival, in
the order of their ends, then one `JournalEnd`. A journal without an end line was cut off; its
records still hold. All times are integer nanoseconds from the journal's origin, on CLOCK_MONOTONIC.
The types bound the numbers: a reader refuses a line with a number out of bounds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

SCHEMA_VERSION = 1
MOST_TOKENS = 10_000_000
"""No model has a context of more tokens, so a larger count is wrong."""

EXACT = 2**53
"""A float holds every whole number up to here; as nanoseconds it is 104 days."""
Stamp = Annotated[int, msgspec.Meta(ge=0, le=EXACT)]
"""Nanoseconds after the journal's origin or after another stamp."""
Whole = Annotated[int, msgspec.Meta(ge=-EXACT, le=EXACT)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Clock = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""A reading of a clock, in nanoseconds."""
Positive = Annotated[float, msgspec.Meta(gt=0)]

Failure = Literal[
    "connect", "tls", "http_4xx", "http_5xx",
    "timeout_connect", "timeout_first", "timeout_stall", "timeout_total",
    "reset", "truncated", "aborted", "malformed", "stream_error", "dropped", "cancelled",
]  # fmt: skip
ENDS_WELL = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})
"""The finish reasons of a whole answer. `content_filter` is one that somebody cut on purpose."""
Note = Literal["no_done", "run_on", "bad_text", "compressed", "usage_zero", "usage_odd", "masked"]
"""An oddity of an answer that is no failure.

- `no_done`: the body ended well and `[DONE]` was missing. - `run_on`: no empty lines between
events. - `bad_text`: half a character, U+FFFD in the text. - `compressed`: the server compressed
the body unasked, so chunks may share an arrival. - `usage_zero`: zero tokens beside text, or for a
prompt. - `usage_odd`: counts that are invalid (negative, NaN, too large) or contradict one another.
- `masked`: the text held a key of the request. The kept and scored text has a placeholder for it.
"""


ReceiverKind = Literal["compiled", "python"]
RouterKind = Literal["round robin", "vllm-router"]
"""Who divides requests among replicas: the load generator, in turns, or a router before them."""
Kind = Literal["model", "adapter", "merged", "quantized", "url"]


PLAIN = "plain"
"""The style of prompts where the experiment names none: each line as it is."""


class Prompt(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of `prompts.jsonl`: one prompt in every style, and the answer it should get.

    `set` is "eval" or the name of a probe. `messages` maps a style ("short", "long"; "plain" where
    the experiment names none) to chat messages. For text completions a style holds one message of
    role "user". A turn that follows another (`after`, the id of that one) holds only its own
    messages. `input_tokens` and `output_tokens`: the lengths of a prompt made to length.
    `shared_tokens`: how many of its first tokens a prefix cache should know already. A recorded
    turn goes out `delay_s` seconds after the answer before it, and at the earliest `at_s` seconds
    after its session began.
    """

    id: str
    set: str
    messages: dict[str, list[dict[str, str]]]
    reference: str | None = None
    after: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    shared_tokens: int | None = None
    delay_s: float | None = None
    at_s: float | None = None


class JournalHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of a journal: the load, the clock, and the window that counts.

    Exactly one of `offered_rate` (requests/s, open loop) and `concurrency` (closed loop) is set.
    `planned` is the number of arrivals of an open loop or requests of a closed one, None where a
    duration decides. Where arrivals are sessions of several turns both count sessions, and a window
    whose end is None includes the last turn. The steady window is [`window_start_ns`,
    `window_end_ns`): after warm-up, up to the end of the schedule. The end of a closed loop is
    known only when it is over, so it is None here and is in the end line. `workers`: processes that
    sent the block, on all `machines`. `receiver`: the code that read the sockets, None where the
    transport decides that. `identity`: a hash of everything that the stage's measurement depends
    on, the same in all of its blocks; empty where the caller gave none. `clock_bound_ns`: how far
    the machines' origins may lie apart at most; None for one machine, or where nobody knows it. In
    a part of a block, which is not merged yet, it is how far the part's own origin may be off.
    `replicas`: how many servers answered, and `router`: who chose one for each request, None for
    one server. The rates are of all together.
    """

    schema_version: int
    variant: str
    stage: str
    block: Count
    seed: int
    transport: str
    clock: Literal["kernel", "user"]
    origin_monotonic_ns: Clock
    origin_unix_ns: Clock
    model: str
    prompt_style: str
    api: Literal["chat", "completions"]
    arrivals: str
    offered_rate: Positive | None
    concurrency: Count | None
    planned: Count | None
    window_start_ns: Stamp
    window_end_ns: Stamp | None
    workers: Count = 1
    receiver: ReceiverKind | None = None
    identity: str = ""
    machines: Count = 1
    clock_bound_ns: Stamp | None = None
    replicas: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 1
    router: RouterKind | None = None


class RequestRecord(msgspec.Struct, kw_only=True):
    """One planned arrival and its outcome.

    `chunk_ns`: arrivals of the content chunks, the first from the origin, each other as the gap to
    the one before it. `chunk_tokens`: output tokens in each. `failure` None is a success as
    metrics.md defines it. `sent_ns` is None for a request that never reached the wire.
    `tokens_from`: whether the server's `usage` or the model's own tokenizer counted.
    `client_lag_ns`, one a chunk, only where the clock is the kernel's. `shared_tokens`: the first
    tokens of the input that a prefix cache should know, None where nothing is intended;
    `cached_tokens`: those that the server says it knew. `finish_reason` as the server wrote it, of
    failures too. `notes`: oddities of the answer that are no failure. `replica`: the one of several
    that it went to, from 1; None for one server, and where a router chose.
    """

    id: Whole
    prompt_id: str
    scheduled_ns: Stamp
    sent_ns: Stamp | None = None
    chunk_ns: list[Stamp] = msgspec.field(default_factory=list)
    chunk_tokens: list[Count] = msgspec.field(default_factory=list)
    done_ns: Stamp | None = None
    status: Whole | None = None
    finish_reason: str | None = None
    failure: Failure | None = None
    error: str | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    tokens_from: Literal["server", "tokenizer"] | None = None
    text: str = ""
    server_metrics: dict[str, Any] | None = None
    client_lag_ns: list[Whole] | None = None
    shared_tokens: Count | None = None
    cached_tokens: Count | None = None
    notes: list[Note] | None = None
    replica: Count | None = None


class JournalEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The last line: how the block ended, and the client's own condition while it ran.

    `loop_stall_max_ns`: the longest time that the event loop was late. `clock_step_ns`: how far the
    kernel's receive clock was set against CLOCK_MONOTONIC meanwhile (0 unless somebody set the time
    of day), or the CLOCK_MONOTONIC of a machine against that of the others: the largest such step.
    """

    end: Literal["complete", "interrupted"]
    ended_ns: Stamp
    window_end_ns: Stamp
    loop_stall_max_ns: Stamp = 0
    client_cpu_s: float = 0.0
    clock_step_ns: Whole = 0


class VariantRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One variant: `what` in a few words ("merged, W8A8 INT8"), and facts that advice needs.

    `size_bytes`: size of its weight files, None where unknown. `kind` says which remedies are in
    place: an adapter can be merged, a quantized model is quantized. `unquantized`: the variant that
    differs from a quantized one in nothing else. `weight_bits`: bits of a quantized weight, None
    where it is not quantized or nobody recorded it. `dtype`: the number format its server computed
    in. `dtype_doubt`: why another would have been faster on that processor. `weights`: the identity
    of the weights and number formats that it answers with; variants that share it differ in speed.
    `settings`: those of server and training in which the variants of the run differ, by their keys
    in an experiment. `adapters`: the folders of those that the run trained for it, its teacher's
    too. `accelerators`: those that one server of it computes on, None where it runs on a processor,
    or elsewhere.
    """

    name: str
    what: str
    prompt_style: str
    size_bytes: int | None = None
    kind: Kind = "model"
    unquantized: str | None = None
    weight_bits: int | None = None
    dtype: str | None = None
    dtype_doubt: str | None = None
    weights: str | None = None
    settings: dict[str, str] = {}
    adapters: list[str] = []
    accelerators: int | None = None


class TelemetrySample(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `telemetry/VARIANT.parquet`: the variant's server, every 250 ms from ready to stop.

    `monotonic_ns` is on the journals' clock (CLOCK_MONOTONIC). A number that nobody could read is
    None. Earlier versions sampled once a second and had only the numbers up to
    `generation_tokens`.

    Of the server's processes, None where somebody else runs it: `rss_bytes` (shared pages count
    every time), `cpu_s` and its two parts, and page faults. `engine_cpu_s` is of the processes that
    compute (vLLM's engine core and workers), `api_cpu_s` of all others. All but `rss_bytes` run
    from the start of the server.

    Of the server's own metrics, summed over its engines: requests that run and wait, and why they
    wait; `kv_cache_usage`, a share, the mean over the engines; tokens looked up in the prefix cache
    and hit; preemptions, tokens, engine steps (`iterations`) and their tokens; drafts of
    speculative decoding, their tokens, and those accepted. Counts run from the server's start.
    `lora_running` and `lora_waiting`: LoRA adapters with requests that run or wait.

    Of this machine, None where somebody else runs the server: CPU seconds of all cores since the
    boot, busy, and stolen by other guests; memory that programs could take; energy of the
    processors' packages (RAPL) since the sampling began.

    Of the NVIDIA GPUs that the server may use: mean utilization, a share; sums of memory, power,
    energy since the driver was loaded, and PCIe traffic in bytes/s; the lowest SM and memory clock,
    the highest temperature in degrees Celsius, and `gpu_throttle`, every reason that any of them
    gave for a lower clock (NVML's clocks event reasons, a bit mask).
    """

    monotonic_ns: int
    unix_ns: int
    rss_bytes: int | None
    cpu_s: float | None
    running: int | None = None
    waiting: int | None = None
    kv_cache_usage: float | None = None
    prefix_cache_queries: int | None = None
    prefix_cache_hits: int | None = None
    preemptions: int | None = None
    prompt_tokens: int | None = None
    generation_tokens: int | None = None
    waiting_capacity: int | None = None
    waiting_deferred: int | None = None
    iterations: int | None = None
    iteration_tokens: int | None = None
    spec_drafts: int | None = None
    spec_draft_tokens: int | None = None
    spec_accepted_tokens: int | None = None
    lora_running: int | None = None
    lora_waiting: int | None = None
    engine_cpu_s: float | None = None
    api_cpu_s: float | None = None
    minor_faults: int | None = None
    major_faults: int | None = None
    host_busy_s: float | None = None
    host_steal_s: float | None = None
    host_available_bytes: int | None = None
    cpu_energy_j: float | None = None
    gpu_utilization: float | None = None
    gpu_memory_bytes: int | None = None
    gpu_power_w: float | None = None
    gpu_energy_j: float | None = None
    gpu_sm_clock_mhz: int | None = None
    gpu_memory_clock_mhz: int | None = None
    gpu_temperature_c: int | None = None
    gpu_throttle: int | None = None
    gpu_pcie_rx_bytes_s: int | None = None
    gpu_pcie_tx_bytes_s: int | None = None
