"""Refusals in the words of real servers, and the one step that each asks for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.http.endpoint import USUAL, Form
from loadgen.protocol.refusal import OPTIONAL, Change, change_for

BODY: dict[str, Any] = {
    "model": "m", "messages": [], "stream": True, "temperature": 0.0, "top_p": 1.0, "max_tokens": 1,
    "seed": 3, "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    "top_k": -1, "min_p": 0.0,
}  # fmt: skip
STATS = "stream_options.continuous_usage_stats"


def step(
    answer: object, status: int = 400, body: dict[str, Any] = BODY, form: Form = USUAL
) -> Change | None:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return change_for(status, text.encode(), body, form)


def openai(message: str, param: str | None = None) -> dict[str, Any]:
    return {
        "error": {
            "message": message,
            "type": "invalid_request_error",
            "param": param,
            "code": "unsupported_parameter",
        }
    }


EXTRA = "Extra inputs are not permitted"


def forbidden(*loc: str) -> dict[str, Any]:
    """pydantic's words for a field that a model does not have."""
    return {"type": "extra_forbidden", "loc": ["body", *loc], "msg": EXTRA, "input": 1}


LEFT_OUT = [
    (openai("Unrecognized request argument supplied: stream_options"), "stream_options"),
    (openai("Unsupported value: 'temperature' does not support 0 here. Only the default (1)",
        "temperature"), "temperature"),
    (openai("Unknown parameter: 'top_k'.", "top_k"), "top_k"),
    (openai(
            "Additional properties are not allowed ('stream_options' was unexpected) - "
            "'stream_options'"
        ), "stream_options"),
    (openai("property 'seed' is unsupported, did you mean 'stop'?"), "seed"),
    (openai(
            "`temperature` and `top_p` cannot both be specified for this model. "
            "Please use only one."
        ), "top_p"),
    ({"object": "error",
        "message": f"[{{'type': 'extra_forbidden', 'loc': ('body', 'top_k'), 'msg': '{EXTRA}'}}]"},
            "top_k"),
    ({"object": "error", "message": {"detail": [forbidden("stream_options", "include_usage")]}},
        "stream_options"),
    ({"detail": [forbidden("stream_options", "continuous_usage_stats")]}, STATS),
    ({"detail": [{"loc": ["body", "seed"], "msg": "extra fields not permitted",
        "type": "value_error.extra"}]}, "seed"),
    ({"error": "Input validation error: `temperature` must be strictly positive",
        "error_type": "validation"}, "temperature"),
    ({"error": "Input validation error: `top_p` must be > 0.0 and < 1.0",
        "error_type": "validation"}, "top_p"),
    ("Failed to deserialize the JSON body: unknown field `stream_options`, "
        "expected one of `model`, `seed`", "stream_options"),
    ({"error": 'json: unknown field "min_p"'}, "min_p"),
    ([{"error": {"code": 400,
        "message": 'Invalid JSON payload. Unknown name "top_k": Cannot find field.'}}], "top_k"),
    ({"error": {"message": "UnsupportedParamsError: azure does not support parameters: {'seed': 3}",
        "code": "400"}}, "seed"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "name"), LEFT_OUT)
def test_a_field_that_is_refused_is_left_out_and_said(answer: object, name: str) -> None:
    for status in (400, 422, 500):
        change = step(answer, status)
        assert change is not None
        assert (change.form.omit, change.form.rename) == ((name,), {})
        assert change.note.startswith(f"requests leave out {name}, which the server refuses: ")


def test_the_bound_of_an_answer_is_renamed_and_never_left_out() -> None:
    answer = openai(
        "Unsupported parameter: 'max_tokens' is not supported with this model. "
        "Use 'max_completion_tokens' instead.",
        "max_tokens",
    )
    change = step(answer)
    assert change is not None
    assert change.form == Form(rename={"max_tokens": "max_completion_tokens"})
    assert "max_completion_tokens" in change.note
    renamed = change.form.of(BODY)
    assert (
        step(
            openai("Unknown parameter: 'max_completion_tokens'.", "max_completion_tokens"),
            400,
            renamed,
            change.form,
        )
        is None
    )


@pytest.mark.parametrize(
    "answer",
    [
        openai("This model's maximum context length is 64 tokens. However, you requested more. "
            "Please reduce the length."),
        openai("'max_tokens' or 'max_completion_tokens' is too large: 4096. "
            "The context length is 2048 tokens.", "max_tokens"),
        openai("Invalid model 'm'"),
        openai("stop: unsupported", "stop"),
        {"error": "seed"},
        "",
        "<html>Bad Request</html>",
        "[[[[",
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
    ],
)  # fmt: skip
def test_what_names_no_field_that_may_be_given_up_changes_nothing(answer: object) -> None:
    assert step(answer) is None


@pytest.mark.parametrize("status", [200, 401, 404, 429, 503, None])
def test_other_statuses_are_no_refusal_of_a_field(status: int | None) -> None:
    assert (
        change_for(
            status, json.dumps(openai("Unknown parameter: 'seed'.", "seed")).encode(), BODY, Form()
        )
        is None
    )


def test_what_a_person_added_is_not_taken_out_again() -> None:
    added = Form(extra={"ignore_eos": True})
    assert (
        step(openai("Unknown parameter: 'ignore_eos'.", "ignore_eos"), 400, added.of(BODY), added)
        is None
    )


def test_a_field_that_is_not_sent_is_not_left_out_again() -> None:
    without = Form(omit=("seed",))
    assert (
        step(openai("Unknown parameter: 'seed'.", "seed"), 400, without.of(BODY), without) is None
    )


WORDS = st.text() | st.sampled_from(["param", "loc", "error", "seed", "unknown", "stream_options"])
REFUSALS = st.recursive(
    st.none() | st.booleans() | st.floats() | WORDS,
    lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner),
)


@given(REFUSALS, st.binary())
def test_no_refusal_breaks_the_reader_or_gives_up_what_bounds_an_answer(
    answer: object, junk: bytes
) -> None:
    for text in (json.dumps(answer).encode(), junk, json.dumps(answer).encode() + junk):
        change = change_for(400, text, BODY, USUAL)
        assert change is None or set(change.form.omit) <= set(OPTIONAL)
        assert "max_tokens" not in OPTIONAL and "stop" not in OPTIONAL
