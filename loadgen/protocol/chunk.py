"""One event's data, decoded as most servers write it; `lenient.read_chunk` reads every other form into the same shape.

Only what a measurement uses is decoded. Reference: https://platform.openai.com/docs/api-reference/chat/streaming.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

# An integer beyond is not exact as the float that a reader may make of it.
MOST_NUMBER = 2**53
Number = Annotated[int, msgspec.Meta(ge=-MOST_NUMBER, le=MOST_NUMBER)] | float
Metrics = dict[str, Number | str | bool | None]


class Delta(msgspec.Struct, gc=False):
    """New content. What is not text of the answer, a reasoning model's thoughts above all, is content in time only."""

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class Choice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    index: int = 0


class PromptTokensDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None


class Chunk(msgspec.Struct, gc=False):
    """`metrics` is vLLM's under `--enable-per-request-metrics`; `error` makes the stream a failed one."""

    choices: list[Choice] | None
    usage: Usage | None = None
    metrics: Metrics | None = None
    error: str | None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
"""Raises `msgspec.MsgspecError`, `UnicodeDecodeError` or `RecursionError` on every other form."""

# Fields for these would cost every event of every stream.
says_more = re.compile(
    rb'"(?:tool_calls|function_call|refusal|message)"\s*:\s*(?!null|\[\s*\]|"")'
).search
"""Whether the data of an event that seems to say nothing has content of another kind, for `read_chunk` to read."""
