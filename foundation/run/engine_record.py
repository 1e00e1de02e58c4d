"""The schema of an engine record: what a server's engine says of each request and each step.

An engine record is JSON lines in `engine/NAME.jsonl` of a run. Each start of a server appends an
`EngineStart`; lines after it come from that server. A line that was cut off is left out and
counted. Durations are the server's own. Moments are CLOCK_MONOTONIC ns of the host that loads it,
or None where another clock stamped them.
"""

from __future__ import annotations

import re

import msgspec

from foundation.run.records import Clock, Count, Stamp

ENGINE_SCHEMA_VERSION = 1


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the engine's scheduler keeps to, in vLLM's names; None where it is not known.

    `kv_blocks` of `block_size` tokens are the KV cache.
    """

    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    kv_blocks: Count | None = None
    block_size: Count | None = None
    chunked_prefill: bool | None = None
    prefix_caching: bool | None = None
    max_loras: Count | None = None


class EngineStart(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="start", tag_field="kind"
):
    """The first line of a server's start. `source`: who wrote it ("vLLM 0.32.0", "OTLP")."""

    schema_version: int
    source: str
    monotonic_ns: Clock
    unix_ns: Clock
    limits: EngineLimits | None = None


class EngineRequest(
    msgspec.Struct, frozen=True, kw_only=True, tag="request", tag_field="kind", gc=False
):
    """A finished request.

    `key`: its `request_key`. `finished_ns`: when the server had its last token. `in_server_ns`:
    from its arrival in the server to then; None where the server's clock was set in between.
    `queued_ns`: from the engine's queue to its first step.
    `prefill_ns`: from there to its first token. `decode_ns`: from there to its last token, with or
    without text. `cached_tokens`: the first tokens of the prompt that the prefix cache had.
    `preemptions`: how often the engine put it back; None where it does not say.
    """

    key: str
    finished_ns: Clock | None
    in_server_ns: Stamp | None
    queued_ns: Stamp
    prefill_ns: Stamp
    decode_ns: Stamp
    input_tokens: Count
    output_tokens: Count
    cached_tokens: Count = 0
    preemptions: Count | None = 0


class EngineStep(msgspec.Struct, frozen=True, kw_only=True, tag="step", tag_field="kind", gc=False):
    """One step of the engine: the requests and tokens of context (prefill) and generation in it.

    `ended_ns`: when the server had its outcome. `elapsed_ns`: how long the step took; None where
    steps overlap. `running` and `waiting`: requests after it.
    """

    ended_ns: Clock
    elapsed_ns: Stamp | None
    context_requests: Count
    context_tokens: Count
    generation_requests: Count
    generation_tokens: Count
    running: Count = 0
    waiting: Count = 0


EngineLine = EngineStart | EngineRequest | EngineStep

_KEY = re.compile("([0-7][0-9a-f]{15})([0-7][0-9a-f]{15})")


def request_key(origin_monotonic_ns: int, number: int) -> str:
    """The key of a request of a block, 32 hexadecimal digits.

    The client sends it as `X-Request-Id`, and as the trace id of `traceparent` (W3C Trace Context).
    The origin is that of the block's journal, the number is the record's `id`.
    """
    return f"{origin_monotonic_ns:016x}{number:016x}"


def key_parts(key: str) -> tuple[int, int] | None:
    """The origin and the number of a `request_key`; None for what is none."""
    if (match := _KEY.fullmatch(key)) is None:
        return None
    return int(match[1], 16), int(match[2], 16)
