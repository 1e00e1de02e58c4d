"""Addresses taken apart, bodies in a form, and headers whose names have no case."""

from __future__ import annotations

import pytest

from foundation.errors import BadInput
from foundation.http.connections import proxy_of
from foundation.http.endpoint import Endpoint, Form, merged_headers, read_address


@pytest.mark.parametrize(
    ("url", "base", "query", "api"),
    [
        ("http://h:8000/v1", "http://h:8000/v1", "", None),
        ("http://h:8000/v1/", "http://h:8000/v1", "", None),
        ("http://h:8000", "http://h:8000", "", None),
        ("http://h:8000/", "http://h:8000", "", None),
        ("https://h/v1/chat/completions", "https://h/v1", "", "chat"),
        ("https://h/v1/completions/", "https://h/v1", "", "completions"),
        ("https://h/v1/models", "https://h/v1", "", None),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1", "", None),
        ("https://h/team a/v1", "https://h/team%20a/v1", "", None),
        ("https://h/a%2Fb/v1?api-version=1&x=y#z", "https://h/a%2Fb/v1", "api-version=1&x=y", None),
        ("https://h/deployments/gpt/chat/completions?api-version=1", "https://h/deployments/gpt",
            "api-version=1", "chat"),
        ("http+unix://%2Frun%2Fllm.sock/v1", "http+unix://%2Frun%2Fllm.sock/v1", "", None),
    ],
)  # fmt: skip
def test_an_address_is_understood(url: str, base: str, query: str, api: str | None) -> None:
    address = read_address(url)
    assert (address.base_url, address.query, address.api) == (base, query, api)
    assert address.user is None and address.password is None


def test_user_and_password_are_no_part_of_the_base() -> None:
    address = read_address("https://bob:p%40ss@h:8443/v1")
    assert (address.base_url, address.user, address.password) == (
        "https://h:8443/v1",
        "bob",
        "p%40ss",
    )
    assert "bob" not in repr(address) and "p%40ss" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "h:8000/v1",
        "ftp://h/v1",
        "http:///v1",
        "http://[::1/v1",
        "http://h:99999/v1",
        "http://h:x/v1",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"such as http|write it as http"):
        read_address(url)


def test_another_api_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="/responses is another API"):
        read_address("https://h/v1/responses")


def test_a_form_leaves_out_renames_and_adds() -> None:
    form = Form(
        ("seed", "stream_options.include_usage", "none", "no.ne"),
        {"max_tokens": "max_completion_tokens"},
        {"top_p": 0.5},
    )
    body = {
        "max_tokens": 5,
        "seed": 1,
        "top_p": 1.0,
        "stream_options": {"include_usage": True, "other": 1},
    }
    assert form.of(body) == {
        "max_completion_tokens": 5,
        "top_p": 0.5,
        "stream_options": {"other": 1},
    }
    assert body["stream_options"] == {"include_usage": True, "other": 1}
    assert Form().of(body) == body


def test_later_headers_replace_earlier_ones_whatever_their_case() -> None:
    assert merged_headers({"User-Agent": "a", "B": "1"}, {"user-agent": "c"}) == {
        "user-agent": "c",
        "B": "1",
    }
    assert Endpoint(
        "v", "http://h/v1", "m", "k", more_headers={"authorization": "mine"}
    ).headers == {"authorization": "mine"}


def test_a_query_goes_with_every_target_and_metrics_lie_beside_the_api() -> None:
    endpoint = Endpoint("v", "https://h:1/a/v1", "m", query="api-version=1")
    assert endpoint.url(endpoint.target("/models")) == "https://h:1/a/v1/models?api-version=1"
    assert endpoint.beside("/metrics") == "/a/metrics?api-version=1"
    unix = Endpoint("v", "http+unix://%2Fs%2Fock/v1", "m")
    assert (unix.unix_socket, unix.url(unix.target("/models"))) == (
        "/s/ock",
        "http://localhost/v1/models",
    )


def test_a_key_is_neither_shown_nor_said() -> None:
    endpoint = Endpoint("v", "http://h/v1", "m", "sk-1234", secrets={"sk-1234": "${KEY}"})
    assert "sk-1234" not in repr(endpoint)
    assert endpoint.redacted("wrong key sk-1234!") == "wrong key ${KEY}!"


def test_a_proxy_is_of_the_environment_and_its_password_is_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "http://me:p%40ss@proxy.example:3128")
    monkeypatch.setenv("no_proxy", "near.example")
    proxy = proxy_of(Endpoint("v", "https://far.example/v1", "m"))
    assert proxy is not None
    assert (proxy.url, proxy.user, proxy.password) == ("http://proxy.example:3128", "me", "p@ss")
    assert "p@ss" not in repr(proxy)
    for direct in ("https://near.example/v1", "https://127.0.0.1/v1", "http://far.example/v1"):
        assert proxy_of(Endpoint("v", direct, "m")) is None
    monkeypatch.setenv("https_proxy", "socks5://proxy.example:1080")
    with pytest.raises(
        BadInput, match=r"HTTPS_PROXY: socks5://proxy\.example:1080 is no HTTP proxy"
    ):
        proxy_of(Endpoint("v", "https://far.example/v1", "m"))
