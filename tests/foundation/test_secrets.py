"""Secrets are masked in every form that a server or a tool writes them; other words stay."""

from __future__ import annotations

import base64
import html
import json
import string
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.secrets import (
    Mask,
    hide_keys,
    looks_like_key,
    masked,
    names_a_secret,
    remember,
    remember_environment,
)

KEY = 'sk-proj-aB3/+"x9&<Zq'
KEYS = st.text(string.ascii_letters + string.digits + "-_/+=\"'&<>\\ é", min_size=8, max_size=60)
AROUND = st.text(max_size=20)


def in_base64(before: str, key: str) -> str:
    """The part of the base64 of a longer text that the key alone decides."""
    return base64.b64encode((before + key).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "written",
    [
        KEY,
        quote(KEY, safe=""),
        quote(KEY, safe="").replace("%2F", "%2f"),
        quote_plus(KEY),
        json.dumps(KEY)[1:-1],
        json.dumps(json.dumps(KEY))[3:-3],
        json.dumps(KEY)[1:-1].replace("/", "\\/"),
        html.escape(KEY),
        html.escape(KEY).replace("&quot;", '"'),
        KEY.encode().hex(),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode(),
        quote(base64.b64encode(KEY.encode()).decode(), safe=""),
    ],
)
def test_every_form_of_a_key_is_taken_out(written: str) -> None:
    masked_text = Mask({KEY: "${KEY}"})(f"wrong key: {written}; try another")
    assert masked_text.startswith("wrong key: ${KEY}") and masked_text.endswith("; try another")
    assert written[:12] not in masked_text and written[-8:] not in masked_text


@pytest.mark.parametrize("before", ["", "a", "ab", "Bearer ", "user:"])
def test_base64_of_a_longer_text_that_holds_the_key(before: str) -> None:
    whole = in_base64(before, KEY)
    masked_text = Mask({KEY: "***"})(whole)
    assert "***" in masked_text and len(masked_text.replace("***", "")) < len(whole) / 2


@given(
    KEYS,
    AROUND,
    AROUND,
    st.sampled_from([str, quote, quote_plus, html.escape, lambda key: json.dumps(key)[1:-1]]),
)
def test_no_key_is_left_in_any_text(key, before, after, form) -> None:
    masked_text = Mask({key: "\0"})(before + form(key) + after)
    assert form(key) not in masked_text or form(key) in before + after


@given(st.integers(8, len(KEY)))
def test_a_key_that_was_cut_is_taken_out_as_far_as_it_goes(cut: int) -> None:
    assert Mask({KEY: "***"})(f"HTTP 401: Bearer {KEY[:cut]}") == "HTTP 401: Bearer ***"


@given(AROUND)
def test_a_text_without_the_key_stays(text: str) -> None:
    mask = Mask({"k3y-that-is-nowhere": "***"})
    assert mask(text) == text


def test_what_a_model_may_say_by_itself_is_no_secret_in_an_answer() -> None:
    secrets = {"user": "***", "newsroom": "***", "12345": "***", "hunter2": "***", KEY: "***"}
    assert Mask(secrets)("the user of newsroom 12345") == "the *** of *** ***"
    answers = Mask(secrets, whole=True)
    assert answers("the user of newsroom 12345") == "the user of newsroom 12345"
    assert answers(f"hunter2 and {KEY} and sk-proj-") == "*** and *** and sk-proj-"


def test_an_address_is_no_beginning_of_another() -> None:
    mask = Mask({"https://me:pw@host/v1": "${URL}"})
    assert mask("https://other/v1 and https://me:pw@host/v1") == "https://other/v1 and ${URL}"


def test_a_short_word_is_no_secret() -> None:
    assert Mask({"abc": "***"})("abc") == "abc"


def test_what_this_process_knows_is_masked_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    remember({"correct-horse-battery": "${HORSE}"})
    monkeypatch.setenv("SOME_SERVICES_TOKEN", "staple-0123456789")
    monkeypatch.setenv("SOME_FOLDER", "folder-0123456789")
    remember_environment()
    message = masked("ValueError: correct-horse-battery, staple-0123456789 in folder-0123456789")
    assert message == "ValueError: ${HORSE}, ${SOME_SERVICES_TOKEN} in folder-0123456789"


@pytest.mark.parametrize(
    "name", ["api_key", "api-key", "apikey", "token", "auth.token", "password", "hf-token"]
)
def test_names_of_secrets(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize(
    "name", ["max_tokens", "prompt_cache_key", "tokenizer", "priority", "keys", "monkey"]
)
def test_names_of_other_things(name: str) -> None:
    assert not names_a_secret(name)


@pytest.mark.parametrize(
    "key",
    ["sk-proj-0123456789abc", "hf_abcdefghijklmnop", "AKIAIOSFODNN7EXAMPLE", "xoxb-123456789"],
)
def test_keys_are_known_by_their_beginnings(key: str) -> None:
    assert looks_like_key(key)
    assert (
        hide_keys(f"model: {key!r} is none; http://me:{key}@h/v1")
        == "model: '***' is none; http://***@h/v1"
    )


@pytest.mark.parametrize(
    "word",
    ["OPENAI_API_KEY", "skating", "hf-internal-testing", "task-force-of-many-words", "http://h/@x"],
)
def test_other_words_are_no_keys(word: str) -> None:
    assert not looks_like_key(word) and hide_keys(word) == word
