"""The OpenAI API on the wire: request bodies, and which servers take more than OpenAI's fields.

Reference: https://platform.openai.com/docs/api-reference/chat/create. A server whose `/v1/models`
names vLLM or SGLang gets the extended form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from foundation.http.endpoint import USUAL, Api, Form
from foundation.models.tokenizer import completion_text
from loadgen.config import Sampling
from loadgen.prompts.questions import Question

PATHS: dict[Api, str] = {"chat": "/chat/completions", "completions": "/completions"}
_EXTENDED = {"vllm", "sglang"}
# A model folder's generation_config.json could otherwise set these.
_NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class RequestFormat:
    """The parts of a request that are the same for all requests to a server.

    `extended` adds fields that only vLLM and SGLang know: the running count of tokens in every
    chunk, so that a chunk of several tokens says so; neutral values for the sampling parameters
    that OpenAI's API lacks; an answer of exactly `question.output_tokens`; and `cache_salt`, the
    salt of the server's prefix cache. Prompts of different salts share nothing in that cache.
    """

    model: str
    api: Api
    sampling: Sampling
    extended: bool = False
    cache_salt: str | None = None
    form: Form = USUAL


def request_body(question: Question, format_: RequestFormat) -> bytes:
    """The JSON of `request_fields`."""
    return msgspec.json.encode(request_fields(question, format_))


def request_fields(question: Question, format_: RequestFormat) -> dict[str, Any]:
    """The body that asks `question` as a stream with usage at its end."""
    sampling = format_.sampling
    body: dict[str, Any] = {
        "model": format_.model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": question.output_tokens or sampling.max_tokens,
    }
    if format_.api == "chat":
        body["messages"] = question.messages
    else:
        body["prompt"] = completion_text(question.messages)
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if format_.extended:
        body["stream_options"]["continuous_usage_stats"] = True
        body |= _NEUTRAL
        if question.output_tokens is not None:
            body |= {"min_tokens": question.output_tokens, "ignore_eos": True}
        if format_.cache_salt is not None:
            body["cache_salt"] = format_.cache_salt
    return format_.form.of(body)


def takes_extended(models: bytes) -> bool:
    """Whether the answer to GET /v1/models comes from a server that takes the extended form."""
    try:
        answer = _MODELS.decode(models)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return any(model.owned_by in _EXTENDED for model in answer.data)


class _Model(msgspec.Struct):
    owned_by: str = ""


class _Models(msgspec.Struct):
    data: list[_Model] = []


_MODELS = msgspec.json.Decoder(_Models)
