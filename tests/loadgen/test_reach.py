"""Readiness by the load's own client: it finds and reports what an API wants, and leaks no
secret.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from foundation.errors import BadInput, SystemFailed
from foundation.http.endpoint import Endpoint, Form
from loadgen.config import WorkloadConfig
from loadgen.sending.readiness import reach
from tests.loadgen.api import Api, ReceivedRequest, refusal, self_signed, serving

STAGES = [{"concurrency": 1, "requests": 1}]


async def reached(endpoint: Endpoint, log: list[str] | None = None, **workload: Any) -> Endpoint:
    config = WorkloadConfig.model_validate({"stages": STAGES, **workload})
    return await reach(endpoint, config, (log if log is not None else []).append)


def at(api: Api, path: str = "/v1", **more: Any) -> Endpoint:
    return Endpoint("v", f"http://127.0.0.1:{api.port}{path}", "m", **more)


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
async def test_ready_means_one_token_asked_for_as_the_load_asks(transport: str) -> None:
    async with serving(Api()) as api:
        plain = at(api, query="api-version=1", more_headers={"api-key": "k"})
        assert await reached(plain, transport=transport, sampling={"seed": 7}) == plain
        [request] = api.posts
        assert request.target == "/v1/chat/completions?api-version=1"
        assert request.headers["api-key"] == "k"
        assert (request.body["max_tokens"], request.body["stream"], request.body["seed"]) == (
            1,
            True,
            7,
        )
        assert request.body["stream_options"] == {"include_usage": True}
        assert [each.target for each in api.requests if not each.body] == [
            "/v1/models?api-version=1"
        ]


async def test_what_several_refusals_name_is_adapted_step_by_step_and_noted() -> None:
    def picky(request: ReceivedRequest) -> web.Response | None:
        for name in ("stream_options", "temperature", "seed"):
            if name in request.body:
                return refusal(f"Unsupported parameter: '{name}'", name)
        if "max_tokens" in request.body:
            return refusal(
                "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
                "max_tokens",
            )
        return None

    async with serving(Api(picky)) as api:
        endpoint = await reached(at(api), sampling={"seed": 7})
    assert endpoint.form == Form(
        ("stream_options", "temperature", "seed"), {"max_tokens": "max_completion_tokens"}
    )
    assert [note.split(",")[0] for note in endpoint.notes] == [
        "requests leave out stream_options",
        "requests leave out temperature",
        "requests leave out seed",
        "max_tokens is sent as max_completion_tokens",
    ]
    assert api.posts[-1].body["max_completion_tokens"] == 1


async def test_a_server_that_refuses_for_ever_is_asked_a_bounded_number_of_times() -> None:
    async with serving(
        Api(lambda request: refusal("Unsupported: 'temperature'", "temperature"))
    ) as api:
        with pytest.raises(SystemFailed, match="v: no token could be generated") as failure:
            await reached(at(api))
    assert "Unsupported: 'temperature'" in failure.value.detail
    assert len(api.posts) == 2


@pytest.mark.parametrize(
    ("written", "found"),
    [("", "/v1"), ("/team", "/team/v1"), ("/openai/deployments/gpt", "/openai/deployments/gpt")],
)
async def test_an_address_without_its_version_is_found(written: str, found: str) -> None:
    def only_there(request: ReceivedRequest) -> web.Response | None:
        return (
            None
            if request.target.startswith(f"{found}/chat/")
            else web.json_response({"detail": "Not Found"}, status=404)
        )

    async with serving(Api(only_there)) as api:
        endpoint = await reached(at(api, written))
        assert endpoint.base_url == at(api, found).base_url
        assert endpoint.notes == (
            (f"the API is at {endpoint.base_url}, which the address left out",)
            if written != found
            else ()
        )


async def test_where_no_address_answers_each_is_named_with_the_servers_words() -> None:
    async with serving(
        Api(lambda request: web.json_response({"detail": "nothing here"}, status=404))
    ) as api:
        with pytest.raises(SystemFailed, match="v: no token could be generated") as failure:
            await reached(at(api, "/team"))
        lines = failure.value.detail.splitlines()
        assert [line.split(": ")[0].partition("from ")[2] for line in lines] == [
            f"{at(api, path).base_url}/chat/completions" for path in ("/team", "/team/v1")
        ]
        assert all("nothing here" in line for line in lines)


async def test_a_redirect_is_followed_once_for_all() -> None:
    def moved(request: ReceivedRequest) -> web.Response | None:
        if request.target.startswith("/old/"):
            return web.Response(
                status=307, headers={"Location": request.target.replace("/old/", "/new/")}
            )
        return None

    async with serving(Api(moved)) as api:
        found = await reached(at(api, "/old/v1", query="api-version=1", api_key="k"))
        assert (found.base_url, found.query) == (at(api, "/new/v1").base_url, "api-version=1")
        assert f"/old/v1 redirects to {found.base_url}, which is asked instead" in found.notes[0]
        assert api.posts[-1].headers["Authorization"] == "Bearer k"


async def test_a_key_is_not_sent_to_another_host() -> None:
    async with serving(Api()) as other:
        there = f"http://127.0.0.1:{other.port}/v1"
        away = Api(
            lambda request: web.Response(
                status=308, headers={"Location": f"{there}/chat/completions"}
            )
        )
        async with serving(away) as api:
            for secret in ({"api_key": "k"}, {"more_headers": {"api-key": "k"}}):
                with pytest.raises(
                    SystemFailed, match=rf"redirects to another host.*write url: {there}"
                ):
                    await reached(at(api, **secret))
            assert other.requests == []
            found = await reached(at(api))  # no secret: the other host may be asked
            assert found.base_url == there


@pytest.mark.parametrize(
    "where", ["/login", "https://user:sekret@example.org/sso?token=sekret", "mailto:x", "http://["]
)
async def test_a_redirect_to_what_is_no_api_is_refused_by_name(where: str) -> None:
    async with serving(
        Api(lambda request: web.Response(status=302, headers={"Location": where}))
    ) as api:
        with pytest.raises(
            SystemFailed, match=r"/v1/chat/completions redirects to .*write the API's own url"
        ) as failure:
            await reached(at(api))
    assert "sekret" not in str(failure.value)


async def test_a_redirect_in_a_circle_ends() -> None:
    def round_and_round(request: ReceivedRequest) -> web.Response:
        return web.Response(status=307, headers={"Location": request.target})

    async with serving(Api(round_and_round)) as api:
        with pytest.raises(SystemFailed, match="no token could be generated"):
            await reached(at(api))
        assert len(api.posts) < 20


async def test_a_busy_server_is_asked_again_and_that_is_said() -> None:
    states = iter([429, 503])

    def busy(request: ReceivedRequest) -> web.Response | None:
        return (
            web.json_response({"error": "busy"}, status=status)
            if request.body and (status := next(states, 0))
            else None
        )

    log: list[str] = []
    async with serving(Api(busy)) as api:
        await reached(at(api), log)
    assert log == [
        "v: busy (HTTP 429); asked again in 1 s",
        "v: busy (HTTP 503); asked again in 2 s",
    ]


async def test_a_key_that_the_server_repeats_is_not_repeated() -> None:
    def wrong(request: ReceivedRequest) -> web.Response:
        return refusal(
            f"Incorrect API key provided: {request.headers['Authorization'].split()[1]}", status=401
        )

    async with serving(Api(wrong)) as api:
        with pytest.raises(SystemFailed, match="the server wants a key it knows") as failure:
            await reached(at(api, api_key="sk-12345", secrets={"sk-12345": "${KEY}"}))
    assert "sk-12345" not in failure.value.detail
    assert "provided: ${KEY}" in failure.value.detail


async def test_answers_that_come_whole_are_not_ready() -> None:
    whole = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    async with serving(Api(lambda request: web.json_response(whole))) as api:
        with pytest.raises(SystemFailed, match="answers come whole, and dyno measures streams"):
            await reached(at(api))


async def test_nobody_there() -> None:
    for url, words in (
        ("http://127.0.0.1:9/v1", "nothing listens at http://127.0.0.1:9/v1; start the server"),
        ("http://no-such.invalid/v1", "no host has the name in http://no-such.invalid/v1; write"),
    ):
        with pytest.raises(
            SystemFailed, match=f"v: no token could be generated: {words}"
        ) as failure:
            await reached(Endpoint("v", url, "m"))
        assert url in failure.value.detail


async def test_a_server_without_tls_is_not_reached_by_https() -> None:
    async with serving(Api()) as api:
        with pytest.raises(SystemFailed, match=r"no TLS at https://.*has an http:// url"):
            await reached(Endpoint("v", f"https://127.0.0.1:{api.port}/v1", "m"))


async def test_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    certificate, context = self_signed(tmp_path)
    async with serving(Api(), context) as api:
        base = f"https://127.0.0.1:{api.port}/v1"
        with pytest.raises(
            SystemFailed, match=r"its certificate is not trusted.*ca_file.*insecure"
        ):
            await reached(Endpoint("v", base, "m"))
        assert api.requests == []
        assert (await reached(Endpoint("v", base, "m", ca_file=certificate))).notes == ()
        assert (await reached(Endpoint("v", base, "m", insecure=True))).notes == (
            "the server's certificate is not checked",
        )
        with pytest.raises(BadInput, match=r"none\.pem: no file of PEM certificates"):
            await reached(Endpoint("v", base, "m", ca_file=tmp_path / "none.pem"))
        (tmp_path / "empty.pem").write_text("not PEM")
        with pytest.raises(BadInput, match=r"empty\.pem: no file of PEM certificates"):
            await reached(Endpoint("v", base, "m", ca_file=tmp_path / "empty.pem"))


async def test_a_proxy_with_a_password_is_asked_and_named_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(Api()) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        endpoint = await reached(Endpoint("v", "http://far.example/v1", "m", "k"))
        assert endpoint.notes == (
            f"requests go through the proxy http://127.0.0.1:{proxy.port} (HTTP_PROXY)",
        )
        [request] = proxy.posts
        assert request.target == "http://far.example/v1/chat/completions"
        assert request.headers["Proxy-Authorization"] == "Basic bWU6cEBzcw=="  # me:p@ss
        assert request.headers["Authorization"] == "Bearer k"
        with pytest.raises(BadInput, match="HTTP_PROXY names a proxy"):
            await reached(Endpoint("v", "http://far.example/v1", "m"), transport="socket")


async def test_what_a_person_asks_otherwise_is_noted() -> None:
    form = Form(("seed",), {"max_tokens": "max_new"}, {"priority": 1})
    async with serving(Api()) as api:
        endpoint = await reached(at(api, form=form))
    assert endpoint.notes == (
        "requests leave out seed",
        "max_tokens is sent as max_new",
        'requests also hold {"priority":1}',
    )
    assert api.posts[0].body["priority"] == 1 and api.posts[0].body["max_new"] == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses_is_named_without_its_password(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(Api(lambda request: web.Response(status=407, text="who are you?"))) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://me:p%40ssword@127.0.0.1:{proxy.port}")
        with pytest.raises(SystemFailed, match="v: no token could be generated") as failure:
            await reached(Endpoint("v", f"{scheme}://far.example/v1", "m"))
    assert "HTTP 407" in failure.value.detail or "the proxy answered 404" in failure.value.detail
    for secret in ("p@ssword", "p%40ssword", "bWU6cEBzc3dvcmQ="):
        assert secret not in failure.value.detail


async def test_tls_goes_through_a_tunnel_that_sees_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, context = self_signed(tmp_path)
    heads: list[str] = []
    async with serving(Api(), context) as api:

        async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Wherever it is told to go, it goes to the API."""
            heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            there, back = await asyncio.open_connection("127.0.0.1", api.port)
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

            async def pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                while data := await source.read(65536):
                    sink.write(data)
                sink.close()

            await asyncio.gather(pour(reader, back), pour(there, writer))

        proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
        async with proxy:
            port = proxy.sockets[0].getsockname()[1]
            monkeypatch.setenv("https_proxy", f"http://me:p%40ss@127.0.0.1:{port}")
            unsigned = Endpoint("v", "https://far.example/v1", "m", "sk-12345", insecure=True)
            endpoint = await reached(unsigned)
            assert (
                endpoint.notes[1]
                == f"requests go through the proxy http://127.0.0.1:{port} (HTTPS_PROXY)"
            )
            with pytest.raises(
                SystemFailed, match="its certificate is not trusted"
            ):  # it is 127.0.0.1's
                await reached(replace(unsigned, insecure=False, ca_file=certificate))
    assert heads[0].startswith("CONNECT far.example:443 HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic bWU6cEBzcw==" in heads[0]
    assert "sk-12345" not in "".join(heads)
    [request] = api.posts
    assert (
        request.headers["Authorization"] == "Bearer sk-12345"
        and "Proxy-Authorization" not in request.headers
    )
