"""Companies' APIs, loaded as a person would: odd keys, paths, proxies and certificates."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.dyno.test_cli import dyno
from tests.loadgen.api import Api, ReceivedRequest, refusal, self_signed, serving

FEW = ["--model", "m", "--prompt", "Hi", "--concurrency", "1", "--requests", "3", "--warmup", "0s"]


@contextmanager
def running(api: Api, tls: ssl.SSLContext | None = None) -> Iterator[Api]:
    """The API in a thread of its own, while this one waits for a command."""
    up, over = threading.Event(), threading.Event()

    async def main() -> None:
        async with serving(api, tls):
            up.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert up.wait(30)
    try:
        yield api
    finally:
        over.set()
        thread.join(30)


def load(url: str, *flags: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = dyno("load", "--url", url, *FEW, *flags, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def succeeded(folder: Path, run: str = "load") -> int:
    summary = json.loads((folder / "runs" / run / "summary.json").read_text())
    [stage] = summary["variants"][0]["stages"]
    return int(stage["succeeded"])


def test_azure_wants_its_key_in_a_header_and_a_version_in_every_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def azure(asked: ReceivedRequest) -> web.Response | None:
        if "api-version=2024-10-21" not in asked.target:
            return web.json_response({"error": {"message": "Resource not found"}}, status=404)
        if asked.headers.get("api-key") != "correcthorse":
            return web.json_response({"error": {"message": "Access denied"}}, status=401)
        return None

    monkeypatch.setenv("AZURE_KEY", "correcthorse")
    with running(Api(azure)) as api:
        url = f"http://127.0.0.1:{api.port}/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
        load(url, "--header", "api-key: ${AZURE_KEY}", cwd=tmp_path)
        assert succeeded(tmp_path) == 3
        posts = {asked.target for asked in api.posts}
        assert posts == {"/openai/deployments/gpt/chat/completions?api-version=2024-10-21"}
        assert all("api-version" in asked.target for asked in api.requests)  # telemetry too
        assert any(
            "/metrics?" in asked.target and asked.headers["api-key"] == "correcthorse"
            for asked in api.requests
        )
    secret = [
        file
        for file in tmp_path.rglob("*")
        if file.is_file() and b"correcthorse" in file.read_bytes()
    ]
    assert secret == []


def test_what_is_asked_otherwise_is_in_the_report_and_stays_there(tmp_path: Path) -> None:
    def new(asked: ReceivedRequest) -> web.Response | None:
        if "max_tokens" in asked.body:
            return refusal(
                "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
                "max_tokens",
            )
        return None

    words = "url: max_tokens is sent as max_completion_tokens, as the server asks"
    with running(Api(new)) as api:
        done = load(f"http://127.0.0.1:{api.port}/v1", cwd=tmp_path)
    run = tmp_path / "runs/load"
    assert succeeded(tmp_path) == 3
    assert done.stdout.count(words) == 2  # as it happens, and among the notes
    assert words in (run / "report.md").read_text().replace("\\", "")
    assert words.removeprefix("url: ") in (run / "environment.json").read_text()
    assert f"note: {words}" in dyno("report", "runs/load", cwd=tmp_path).stdout


def test_a_certificate_of_their_own(tmp_path: Path) -> None:
    certificate, context = self_signed(tmp_path)
    with running(Api(), context) as api:
        url = f"https://bob:pass%20word@127.0.0.1:{api.port}/v1"
        refused = dyno("load", "--url", url, *FEW, cwd=tmp_path)
        assert refused.returncode == 4 and "its certificate is not trusted" in refused.stderr
        assert api.requests == []
        load(url, "--ca-file", certificate.name, "--name", "signed", cwd=tmp_path)
        assert (
            "the server's certificate is not checked"
            in load(url, "--insecure", "--name", "unsure", cwd=tmp_path).stdout
        )
        assert succeeded(tmp_path, "signed") == succeeded(tmp_path, "unsure") == 3
        assert {asked.headers["Authorization"] for asked in api.requests} == {
            "Basic Ym9iOnBhc3Mgd29yZA=="
        }  # telemetry too


def test_all_requests_go_through_the_proxy_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Api()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:correcthorse@127.0.0.1:{proxy.port}")
        done = load("http://llm.invalid/v1", cwd=tmp_path)
        assert succeeded(tmp_path) == 3
        assert (
            f"requests go through the proxy http://127.0.0.1:{proxy.port} (HTTP_PROXY)"
            in done.stdout
        )
        assert {asked.target.rpartition("/")[0] for asked in proxy.posts} == {
            "http://llm.invalid/v1/chat"
        }
        assert any(asked.target == "http://llm.invalid/metrics" for asked in proxy.requests)
        assert all("Proxy-Authorization" in asked.headers for asked in proxy.requests)
    assert "correcthorse" not in done.stdout + done.stderr


def test_a_throttled_request_is_a_failure_and_is_not_asked_again(tmp_path: Path) -> None:
    """Only readiness asks again: what the load is refused counts against the server."""
    posts = 0

    def throttle(asked: ReceivedRequest) -> web.Response | None:
        nonlocal posts
        posts += bool(asked.body)
        refused = asked.body and (posts == 1 or posts > 10)
        return web.json_response({"error": "slow down"}, status=429) if refused else None

    with running(Api(throttle)) as api:
        done = dyno("load", "--url", f"http://127.0.0.1:{api.port}/v1", *FEW, cwd=tmp_path)
        assert "busy (HTTP 429); asked again in 1 s" in done.stdout
        assert len(api.posts) == 2 + 8 + 3  # readiness, warm-up, and each measured one once
    assert done.returncode == 4 and "all 3 requests failed (http_4xx 3)" in done.stderr
