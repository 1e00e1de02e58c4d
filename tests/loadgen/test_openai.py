"""Bodies as servers want them."""

from __future__ import annotations

import json
from typing import Any

from loadgen.config import Sampling
from loadgen.prompts.questions import Question
from loadgen.protocol.openai import RequestFormat, request_body, takes_extended

QUESTION = Question(
    "q", [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why? é"}]
)


def body(api: Any = "chat", extended: bool = False, **sampling: Any) -> dict[str, Any]:
    return json.loads(
        request_body(QUESTION, RequestFormat("m", api, Sampling(**sampling), extended))
    )


def test_a_chat_body_holds_only_what_openai_knows() -> None:
    assert body(temperature=0.5, max_tokens="10", stop=("x",), seed=3) == {
        "model": "m",
        "messages": QUESTION.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 1.0,
        "max_tokens": 10,
        "stop": ["x"],
        "seed": 3,
    }


def test_a_text_completion_joins_the_messages() -> None:
    fields = body(api="completions")
    assert fields["prompt"] == "Be brief.\n\nWhy? é" and "messages" not in fields


def test_the_extended_form_counts_tokens_and_overrules_generation_config() -> None:
    fields = body(extended=True)
    assert fields["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    assert fields["repetition_penalty"] == 1.0 and fields["top_k"] == -1


def test_who_takes_the_extended_form() -> None:
    assert takes_extended(b'{"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 10}]}')
    assert not takes_extended(b'{"data": [{"id": "m", "owned_by": "openai"}]}')
    assert not takes_extended(b"<html>")
    assert not takes_extended(b'{"data": null}')
    assert not takes_extended(b'{"data": [{"id": "\xff"}]}')
    assert not takes_extended(b'{"data": [{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}]}")


def test_only_the_extended_form_fixes_lengths_and_salts_the_cache() -> None:
    exact = Question("q", QUESTION.messages, output_tokens=7)
    plain, extended = (
        json.loads(
            request_body(
                exact, RequestFormat("m", "chat", Sampling(max_tokens="99"), extended, "salt")
            )
        )
        for extended in (False, True)
    )
    assert plain["max_tokens"] == extended["max_tokens"] == 7
    assert (extended["min_tokens"], extended["ignore_eos"], extended["cache_salt"]) == (
        7,
        True,
        "salt",
    )
    assert not {"min_tokens", "ignore_eos", "cache_salt"} & set(plain)
    assert not {"min_tokens", "ignore_eos", "cache_salt"} & set(body(extended=True))
    assert plain["messages"] == extended["messages"] == QUESTION.messages
