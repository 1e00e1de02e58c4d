"""The data of one event, decoded as most servers write it.

`lenient_parser.read_chunk` reads every other form into the same classes. Only the fields that a
measurement uses are decoded. Reference:
https://platform.openai.com/docs/api-reference/chat/streaming.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

# A larger integer is not exact as a float, and a reader of the journal may use floats.
MOST_NUMBER = 2**53
Number = Annotated[int, msgspec.Meta(ge=-MOST_NUMBER, le=MOST_NUMBER)] | float
Metrics = dict[str, Number | str | bool | None]


class Delta(msgspec.Struct, gc=False):
    """New content.

    Content that is no text of the answer, such as a reasoning model's thoughts, counts only for its
    time.
    """

    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers in a chunk. `text` is the content of a text completion."""

    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    index: int = 0


class PromptTokensDetails(msgspec.Struct, gc=False):
    """Part of the usage: the prompt tokens that the prefix cache knew."""

    cached_tokens: int | None = None


class Usage(msgspec.Struct, gc=False):
    """Token counts, running or total."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None


class Chunk(msgspec.Struct, gc=False):
    """The data of one event.

    `metrics` is vLLM's under `--enable-per-request-metrics`. `error` makes the stream a failed one.
    """

    choices: list[Choice] | None
    usage: Usage | None = None
    metrics: Metrics | None = None
    error: str | None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
"""Raises `msgspec.MsgspecError`, `UnicodeDecodeError` or `RecursionError` on every other form."""

# As fields of the classes these would cost time on every event of every stream.
says_more = re.compile(
    rb'"(?:tool_calls|function_call|refusal|message)"\s*:\s*(?!null|\[\s*\]|"")'
).search
"""Whether an event without content in the usual fields has content of another kind.

Then `read_chunk` reads it.
"""
