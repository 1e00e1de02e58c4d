"""The OpenAI API as it goes over the wire: request bodies, and the JSON of a stream's chunks.

Reference: https://platform.openai.com/docs/api-reference/chat/create. vLLM and SGLang take more than that; a server that
names itself one of them in `/v1/models` is sent the extended form.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from foundation.http.endpoint import USUAL, Form
from foundation.models.tokenizer import completion_text
from loadgen.config import Sampling
from loadgen.prompts.questions import Question

Api = Literal["chat", "completions"]
PATHS: dict[Api, str] = {"chat": "/chat/completions", "completions": "/completions"}
_EXTENDED = {"vllm", "sglang"}
# What generation_config.json of a model folder could otherwise set.
_NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


def request_body(
    question: Question,
    model: str,
    api: Api,
    sampling: Sampling,
    extended: bool,
    cache_salt: str | None = None,
    form: Form = USUAL,
) -> bytes:
    """The JSON of `request_fields`."""
    return msgspec.json.encode(
        request_fields(question, model, api, sampling, extended, cache_salt, form)
    )


def request_fields(
    question: Question,
    model: str,
    api: Api,
    sampling: Sampling,
    extended: bool,
    cache_salt: str | None = None,
    form: Form = USUAL,
) -> dict[str, Any]:
    """The body that asks `question` as a stream with usage at its end, in the form that the API takes.

    `extended` adds what only vLLM and SGLang know: the running count of tokens in every chunk, so that a chunk which carries
    several tokens says so, neutral values for the sampling parameters that OpenAI's API lacks, an answer of exactly
    `question.output_tokens`, and the salt of the server's prefix cache (prompts of different salts share nothing in it).
    """
    body: dict[str, Any] = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": question.output_tokens or sampling.max_tokens,
    }
    if api == "chat":
        body["messages"] = question.messages
    else:
        body["prompt"] = completion_text(question.messages)
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if extended:
        body["stream_options"]["continuous_usage_stats"] = True
        body |= _NEUTRAL
        if question.output_tokens is not None:
            body |= {"min_tokens": question.output_tokens, "ignore_eos": True}
        if cache_salt is not None:
            body["cache_salt"] = cache_salt
    return form.of(body)


def takes_extended(models: bytes) -> bool:
    """Whether the answer to GET /v1/models is of a server that takes the extended form."""
    try:
        listed = _MODELS.decode(models)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return any(model.owned_by in _EXTENDED for model in listed.data)


class _Model(msgspec.Struct):
    owned_by: str = ""


class _Models(msgspec.Struct):
    data: list[_Model] = []


_MODELS = msgspec.json.Decoder(_Models)
