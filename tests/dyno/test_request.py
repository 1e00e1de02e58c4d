"""How a url is asked, from the file to the wire; and no file of a run holds a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from dyno.experiment.endpoints import endpoint_of
from dyno.experiment.loading import load_experiment
from dyno.experiment.request import shown_url
from dyno.experiment.schema import Experiment
from dyno.experiment.variants import VariantConfig
from foundation.errors import BadInput
from foundation.http.endpoint import Form
from foundation.path_fields import resolved

FILE = """\
name: asked
model: m
data: {{prompt: "Say hello"}}
variants:
  - name: prod
    url: {url}
    model: m
    request: {request}
baseline: prod
workload: {{stages: [{{rate: 5, requests: 10}}]}}
"""


def loaded(folder: Path, url: str = "http://h:1/v1", request: str = "{}") -> Experiment:
    file = folder / "experiment.yaml"
    file.write_text(FILE.format(url=url, request=request))
    return load_experiment(file)


def variant(**fields: object) -> VariantConfig:
    return VariantConfig.model_validate(
        {"name": "prod", "url": "http://h:1/v1", "model": "m", **fields}
    )


def test_the_request_of_a_url_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_KEY", "sekret")
    request = """{omit: [stream_options], rename: {max_tokens: max_completion_tokens},
    extra: {priority: 1},
      headers: {api-key: ${AZURE_KEY}, x-team: 7}}"""
    [prod] = loaded(tmp_path, "https://h/openai/deployments/gpt?api-version=1", request).variants
    endpoint = endpoint_of(prod, "chat")
    assert (endpoint.base_url, endpoint.query) == (
        "https://h/openai/deployments/gpt",
        "api-version=1",
    )
    assert endpoint.headers == {"api-key": "sekret", "x-team": "7"}
    assert endpoint.form == Form(
        ("stream_options",), {"max_tokens": "max_completion_tokens"}, {"priority": 1}
    )
    assert "sekret" not in repr(endpoint)


def test_an_unset_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH", raising=False)
    for fields, where in (
        ({"request": {"headers": {"api-key": "${NO_SUCH}"}}}, "request.headers.api-key"),
        ({"url": "https://me:${NO_SUCH}@h/v1"}, "url"),
        ({"url": "${NO_SUCH}"}, "url"),
        ({"api_key_env": "NO_SUCH"}, "api_key_env"),
    ):
        with pytest.raises(
            BadInput, match=rf"^variants\.prod\.{where}: the environment has no NO_SUCH; export it$"
        ):
            endpoint_of(variant(**fields), "chat")


def test_user_and_password_become_a_header_and_are_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PASSWORD", "p@ss/word")
    for url in ("https://bob:p%40ss%2Fword@h:8443/v1", "https://bob:${PASSWORD}@h:8443/v1"):
        endpoint = endpoint_of(variant(url=url), "chat")
        assert endpoint.base_url == "https://h:8443/v1"
        assert endpoint.headers == {"Authorization": "Basic Ym9iOnBAc3Mvd29yZA=="}
        assert "p@ss" not in endpoint.redacted("wrong password p@ss/word in Ym9iOnBAc3Mvd29yZA==")
        assert shown_url(url) == "https://h:8443/v1"
    with pytest.raises(BadInput, match="one Authorization"):
        monkeypatch.setenv("KEY", "k")
        endpoint_of(variant(url="https://bob:x@h/v1", api_key_env="KEY"), "chat")


def test_a_whole_url_may_be_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROD_URL", "https://bob:pw@h/v1?key=k")
    endpoint = endpoint_of(variant(url="${PROD_URL}"), "chat")
    assert (endpoint.base_url, endpoint.query) == ("https://h/v1", "key=k")
    assert shown_url("${PROD_URL}") == "${PROD_URL}"


def test_a_whole_endpoint_in_the_url_must_be_of_the_api_that_is_asked() -> None:
    assert (
        endpoint_of(variant(url="https://h/v1/chat/completions"), "chat").base_url == "https://h/v1"
    )
    assert (
        endpoint_of(variant(url="https://h/v1/completions"), "completions").base_url
        == "https://h/v1"
    )
    with pytest.raises(BadInput, match="write api: completions"):
        endpoint_of(variant(url="https://h/v1/completions"), "chat")


def test_a_run_keeps_references_in_place_of_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://bob:hidden@h/v1?api-version=2&api_key=hidden"
    kept = loaded(
        tmp_path, url, "{headers: {api-key: hidden, x-more: 'Bearer ${TOKEN}'}}"
    ).as_yaml()
    assert "hidden" not in kept and "bob" not in kept
    assert "api-version=2" in kept and "Bearer ${TOKEN}" in kept
    (tmp_path / "again.yaml").write_text(kept)
    [again] = load_experiment(tmp_path / "again.yaml").variants
    with pytest.raises(BadInput, match="the environment has no DYNO_URL_USER; export it"):
        endpoint_of(again, "chat")
    for name, value in {
        "DYNO_URL_USER": "bob",
        "DYNO_URL_PASSWORD": "hidden",
        "DYNO_QUERY_API_KEY": "hidden",
        "DYNO_HEADER_API_KEY": "hidden",
        "TOKEN": "t",
    }.items():
        monkeypatch.setenv(name, value)
    endpoint = endpoint_of(again, "chat")
    assert endpoint.query == "api-version=2&api_key=hidden"
    assert endpoint.headers == {
        "api-key": "hidden",
        "x-more": "Bearer t",
        "Authorization": "Basic Ym9iOmhpZGRlbg==",
    }


def test_a_header_that_would_not_stay_on_its_line_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEY", "good\n")
    assert endpoint_of(variant(api_key_env="KEY"), "chat").api_key == "good"
    monkeypatch.setenv("KEY", "bad\r\nHost: evil")
    for fields in ({"api_key_env": "KEY"}, {"request": {"headers": {"api-key": "${KEY}"}}}):
        with pytest.raises(BadInput, match="no header can") as refused:
            endpoint_of(variant(**fields), "chat")
        assert "evil" not in str(refused.value)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ("{omit: [stream]}", "stream stays as it is: times are measured on a stream"),
        ("{extra: {n: 2}}", "n stays 1"),
        ("{extra: {messages: []}}", "messages stays as it is"),
        ("{rename: {model: name}}", "model stays as it is"),
        ("{headers: {'api key': x}}", "no header's name"),
        ("{headers: {Content-Length: 5}}", "Content-Length says where a request ends"),
        ("{header: {}}", "did you mean 'headers'"),
    ],
)
def test_what_is_measured_can_not_be_written_away(tmp_path: Path, request_: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as refused:
        loaded(tmp_path, request=request_)
    assert str(refused.value).startswith(f"{tmp_path / 'experiment.yaml'}:8: variants.0.request")


def test_request_belongs_to_a_url() -> None:
    with pytest.raises(ValueError, match="request belongs to a url"):
        VariantConfig.model_validate({"name": "v", "request": {"insecure": True}})


def test_a_ca_file_is_found_beside_the_experiment(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    [prod] = resolved(loaded(tmp_path, request="{ca_file: ca.pem}"), tmp_path).variants
    assert endpoint_of(prod, "chat").ca_file == tmp_path / "ca.pem"


def test_a_key_in_an_extra_body_is_sent_and_kept_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENANT", "acme-4711")
    body = (
        "{api_key: hidden, auth: {token: hidden2}, user: '${TENANT}', note: sk-0123456789abc, "
        "max_tokens_key: 5}"
    )
    experiment = loaded(tmp_path, request=f"{{extra: {body}, headers: {{Accept: text/plain}}}}")
    [prod] = experiment.variants
    endpoint = endpoint_of(prod, "chat")
    assert endpoint.form.extra == {
        "api_key": "hidden", "auth": {"token": "hidden2"}, "user": "acme-4711",
        "note": "sk-0123456789abc", "max_tokens_key": 5
    }  # fmt: skip
    assert (
        endpoint.redacted("hidden2 acme-4711 sk-0123456789abc text/plain")
        == "*** ${TENANT} *** text/plain"
    )
    assert "hidden" not in repr(endpoint)
    kept = experiment.as_yaml()
    assert not any(secret in kept for secret in ("hidden", "acme-4711", "sk-0123"))
    assert "${DYNO_EXTRA_AUTH_TOKEN}" in kept and "${TENANT}" in kept and "text/plain" in kept
    (tmp_path / "again.yaml").write_text(kept)
    with pytest.raises(
        BadInput, match=r"extra\.api_key: the environment has no DYNO_EXTRA_API_KEY; export it"
    ):
        endpoint_of(load_experiment(tmp_path / "again.yaml").variants[0], "chat")


def test_a_proxys_password_is_masked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://me:p%40ssword9@proxy.example:3128")
    endpoint = endpoint_of(variant(url="https://far.example/v1"), "chat")
    assert endpoint.redacted("407: p@ssword9, bWU6cEBzc3dvcmQ5") == "407: ***, ***"


def test_where_a_server_is_may_stand_in_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOST", "llm-host-7")
    monkeypatch.setenv("PORT", "8000")
    monkeypatch.setenv("TENANT", "acme-4711")
    endpoint = endpoint_of(variant(url="http://${HOST}:${PORT}/${TENANT}/v1"), "chat")
    assert endpoint.base_url == "http://llm-host-7:8000/acme-4711/v1"
    assert (
        endpoint.redacted_answer("open llm-host-7:8000/acme-4711")
        == "open llm-host-7:8000/${TENANT}"
    )
