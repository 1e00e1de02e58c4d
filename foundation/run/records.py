"""The schema of what a measurement leaves behind: prompts, and a journal's header, records and end line.

A journal is JSON lines: one `JournalHeader`, then one `RequestRecord` a planned arrival (in the order they ended),
then one `JournalEnd`. A journal without an end line was cut off; its records still hold.
All times are integer nanoseconds from the journal's origin, on CLOCK_MONOTONIC. The types say which numbers can be: a reader
refuses a line with any other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

SCHEMA_VERSION = 1
MOST_TOKENS = 10_000_000
"""No model has a context of more tokens: a larger count is no count."""

EXACT = 2**53
"""A float holds every whole number up to here; as nanoseconds it is 104 days."""
Stamp = Annotated[int, msgspec.Meta(ge=0, le=EXACT)]
"""Nanoseconds after the journal's origin or after another stamp."""
Whole = Annotated[int, msgspec.Meta(ge=-EXACT, le=EXACT)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Clock = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""What a clock showed, in nanoseconds."""
Positive = Annotated[float, msgspec.Meta(gt=0)]

Failure = Literal[
    "connect", "tls", "http_4xx", "http_5xx",
    "timeout_connect", "timeout_first", "timeout_stall", "timeout_total",
    "reset", "truncated", "aborted", "malformed", "stream_error", "dropped", "cancelled",
]  # fmt: skip
ENDS_WELL = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})
"""The finish reasons that mean a whole answer, `content_filter` one that somebody cut on purpose."""
Note = Literal["no_done", "run_on", "bad_text", "compressed", "usage_zero", "usage_odd", "masked"]
"""What is odd about an answer and no failure.

`no_done`: the body ended well and `[DONE]` was missing. `run_on`: no empty lines between events. `bad_text`: half a character,
U+FFFD in the text. `compressed`: the server compressed the body unasked, so that chunks may share an arrival. `usage_zero`: zero
tokens beside text, or for a prompt. `usage_odd`: counts that are none (negative, NaN, too large) or contradict one another.
`masked`: the text held a key of the request; what is kept, and scored, has a reference in its place.
"""


ReceiverKind = Literal["compiled", "python"]
Kind = Literal["model", "adapter", "merged", "quantized", "url"]


PLAIN = "plain"
"""The style of prompts where the experiment names none: each line as it stands."""


class Prompt(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of `prompts.jsonl`: one question, as every prompt style words it, and the answer it should get.

    `set` is "eval" or the name of a probe. `messages` maps a style ("short", "long"; "plain" where the experiment names none)
    to chat messages; for text completions a style holds one message of role "user". A turn that follows another (`after`, its
    id) holds only what it adds. `input_tokens` and `output_tokens`: the lengths it was made for, where it was.
    `shared_tokens`: how many of its first tokens a prefix cache should know already. A recorded turn goes out `delay_s` seconds
    after the answer before it, and not before `at_s` seconds of its session are over.
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
    """The first line of a journal: what was sent where, by which clock, and which part of it counts.

    Of `offered_rate` (requests/s, open loop) and `concurrency` (closed loop) exactly one is set.
    `planned` is the number of arrivals of an open loop or requests of a closed one, None where a duration decides. Where
    arrivals are sessions of several turns both count sessions, and a window whose end is None takes in the last turn.
    The steady window is [`window_start_ns`, `window_end_ns`): after warm-up, up to the end of the schedule; a closed
    loop's end is known when it is over, so there it is None and stands in the end line. `workers`: processes that sent it.
    `receiver`: what read the sockets, None where that was not ours to choose.
    `identity`: a hash of all that the stage's measurement depends on, the same in all of its blocks;
    empty where nobody wrote it down.
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


class RequestRecord(msgspec.Struct, kw_only=True):
    """One planned arrival and what became of it.

    `chunk_ns`: arrival of each content chunk, the first from the origin, the others as gaps to the one before;
    `chunk_tokens`: output tokens in each. `failure` None means success as metrics.md defines it. `sent_ns` is None for a
    request that never reached the wire. `tokens_from` says who counted: the server's `usage`, or the model's own tokenizer.
    `client_lag_ns`, per chunk, only where the clock is the kernel's. `shared_tokens`: the first tokens of the input that a prefix
    cache should know already, None where nothing is intended; `cached_tokens`: those the server says it did know.
    `finish_reason` as the server wrote it, of failures too. `notes`: what is odd about the answer and no failure.
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


class JournalEnd(msgspec.Struct, frozen=True, kw_only=True):
    """The last line: how the block ended, and the client's own condition while it ran.

    `loop_stall_max_ns`: the longest time the event loop was away from its work. `clock_step_ns`: how far the kernel's receive
    clock was set against CLOCK_MONOTONIC meanwhile (0 unless somebody set the time of day).
    """

    end: Literal["complete", "interrupted"]
    ended_ns: Stamp
    window_end_ns: Stamp
    loop_stall_max_ns: Stamp = 0
    client_cpu_s: float = 0.0
    clock_step_ns: Whole = 0


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """What one process of the load generator was shown to keep up with on a machine: `calibration.json`, in its short form."""

    machine: str
    events_per_s: Annotated[float, msgspec.Meta(ge=0)]
    requests_per_s: Annotated[float, msgspec.Meta(ge=0)]
    streams: Count


class VariantRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What stood on the bench: `what` in a few words ("merged, W8A8 INT8"), `size_bytes` of its weight files, None where unknown.

    `kind` tells the advice which remedies are already in place: an adapter can be merged, a quantized model is quantized.
    `unquantized` names the variant on the bench that differs from a quantized one in nothing else. `dtype` is what its server
    computed in, `dtype_doubt` why another would have been faster on that processor.
    """

    name: str
    what: str
    prompt_style: str
    size_bytes: int | None = None
    kind: Kind = "model"
    unquantized: str | None = None
    dtype: str | None = None
    dtype_doubt: str | None = None


class TelemetrySample(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `telemetry/VARIANT.parquet`: the variant's server, once a second from ready to stop.

    `monotonic_ns` is on the journals' clock (CLOCK_MONOTONIC). Counts of tokens, preemptions and `cpu_s` run from the server's
    start. The server's own numbers are None where it did not answer, those of its processes where somebody else runs it.
    `rss_bytes` adds up its processes, shared pages every time.
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
