"""A server repeats every secret in every form, everywhere: no file or stream of a run has one.

Its answers also try to steer the terminal and to add elements to the report.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

import pyarrow.parquet as pq
import pytest
from aiohttp import web

from tests.dyno.test_odd_urls import running
from tests.loadgen.api import Api, ReceivedRequest

KEY, HEADER, QUERY, EXTRA = (
    f'{name}-{name[::-1]}/Zq+7"w{n}'
    for n, name in enumerate(("sk-canary", "headr", "query", "extra"))
)
USER, PASSWORD = "bobcanary7", 'pass/w0rd+"canary'
SECRETS = (KEY, HEADER, QUERY, EXTRA, PASSWORD)
STEERS = (
    "\x1b]0;PWNED\x07\x1b[2J\x9b31m\u202e<img src=x "
    "onerror=alert(1)><script>alert(2)</script>|`*\n::error::PWNED\n"
)


def forms(secret: str) -> set[str]:
    """As the server writes a secret."""
    encoded = base64.b64encode(secret.encode()).decode()
    return {
        secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1],
        html.escape(secret), encoded, base64.urlsafe_b64encode(secret.encode()).decode(),
        quote(encoded, safe=""), secret.encode().hex(),
    }  # fmt: skip


def traces(secret: str) -> set[str]:
    """What no file may hold: every form, and any part of the secret that would be of use."""
    return forms(secret) | {secret[at : at + 12] for at in range(len(secret) - 11)}


def everything(asked: ReceivedRequest) -> str:
    """All that the server was told, in all forms, and what would steer."""
    sent = [asked.target, unquote(asked.target), *asked.headers.values(), json.dumps(asked.body)]
    for line in asked.headers.values():
        if line.startswith("Basic "):
            sent.append(base64.b64decode(line.removeprefix("Basic ")).decode())
    known = [
        secret for secret in SECRETS if any(form in text for form in forms(secret) for text in sent)
    ]
    return STEERS + " ".join([*sent, *(form for secret in known for form in sorted(forms(secret)))])


@dataclass
class Echo:
    """Answers of every kind in turn, once a token was generated."""

    posts: int = 0

    def __call__(self, asked: ReceivedRequest) -> web.Response | None:
        if not asked.body or asked.body.get("max_tokens") == 1:
            return None
        self.posts += 1
        said = everything(asked)
        event = b"data: %s\n\n"
        chunk = {"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": None}]}
        end = {
            "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 9},
        }
        stream = [chunk, end | {"metrics": {"said": said, said: 1}}]
        kind = self.posts % 6
        if kind == 0:
            return web.json_response(
                {"error": {"message": f"Incorrect API key: {said}"}}, status=401
            )
        if kind == 1:
            return web.Response(text="x" * 290 + said, status=500)  # cut in the middle of a key
        if kind == 2:
            return web.Response(status=307, headers={"Location": f"/v2?{quote(said)}"})
        if kind == 3:
            stream = [chunk, {"error": {"message": said}}]
        if kind == 4:
            stream = [chunk, {"choices": [{"index": 0, "delta": {}, "finish_reason": said}]}]
        body = (
            b"".join(event % json.dumps(each, ensure_ascii=kind == 5).encode() for each in stream)
            + event % b"[DONE]"
        )
        return web.Response(body=body, content_type="text/event-stream")


EXPERIMENT = """\
name: echoed
model: m
data: {{prompt: Say hello}}
variants:
  - name: keyed
    url: "http://127.0.0.1:{port}/v1?api_key={query}"
    model: m
    api_key_env: CANARY_KEY
    request: {{headers: {{x-more: '{header}'}}, extra: {{session_token: '{extra}'}}}}
  - {{name: login, url: "http://{user}:{password}@127.0.0.1:{port}/v1", model: m}}
baseline: keyed
workload: {{stages: [{{concurrency: 2, requests: 12, warmup: 0s}}], blocks: 2, workers: {workers}}}
slo: {{error_rate: 1%}}
"""


@dataclass(frozen=True)
class Ran:
    """A folder with the run, and all that was printed."""

    folder: Path
    printed: str

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "echoed"


def dyno(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dyno.cli", *arguments], cwd=folder, capture_output=True,
        timeout=120, check=False, env={**os.environ, "CANARY_KEY": KEY,
            "TUNEDYNO_CACHE": str(folder / "cache"), "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    return (done.stdout + done.stderr).decode("utf-8", "surrogateescape")


@pytest.fixture(scope="module", params=[1, 2], ids=["here", "workers"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("echo") / "work"
    folder.mkdir()
    with running(Api(Echo())) as api:
        text = EXPERIMENT.format(
            port=api.port, query=quote(QUERY, safe=""), header=HEADER, extra=EXTRA, user=USER,
            password=quote(PASSWORD, safe=""), workers=request.param,
        )  # fmt: skip
        (folder / "experiment.yaml").write_text(text)
        printed = dyno(folder, "run", "experiment.yaml", "--debug")
        if request.param == 1:
            flags = [
                "--model",
                "m",
                "--prompt",
                "Hi",
                "--concurrency",
                "1",
                "--requests",
                "7",
                "--warmup",
                "0s",
                "--json",
                "--debug",
            ]
            user = f"{USER}:{quote(PASSWORD, safe='')}"
            url = f"http://{user}@127.0.0.1:{api.port}/v1?token={quote(QUERY, safe='')}"
            printed += dyno(
                folder, "load", "--url", url, *flags, "--extra-body", json.dumps({"api_key": EXTRA})
            )
            refused = ["--url", f"{url}#@", "--api-key-env", KEY]
            printed += dyno(folder, "load", *refused, *flags)
    yield Ran(folder, printed)


def held(path: Path) -> str:
    """What a file says; of Parquet every value."""
    if path.suffix == ".parquet":
        return json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False)
    return path.read_bytes().decode("utf-8", "surrogateescape")


def test_the_server_was_told_and_did_repeat(ran: Ran) -> None:
    """Else the other tests would show nothing."""
    journals = [held(path) for path in (ran.run / "load").rglob("*.jsonl")]
    assert len(journals) == 4 and all("***" in text or "${CANARY_KEY}" in text for text in journals)
    failures = {json.loads(line).get("failure") for text in journals for line in text.splitlines()}
    assert {"http_4xx", "http_5xx", "stream_error", "aborted", "malformed", None} <= failures
    assert '"masked"' in "".join(journals)
    summary = json.loads(held(ran.run / "summary.json"))
    assert any(
        "repeated a key of ours" in note
        for v in summary["variants"]
        for s in v["stages"]
        for note in s["notes"]
    )


def test_no_secret_is_in_any_file_or_stream(ran: Ran) -> None:
    texts = {
        str(path): held(path)
        for path in ran.folder.rglob("*")
        if path.is_file() and path.name != "experiment.yaml"
    }
    texts |= {str(path): held(path) for path in (ran.folder / "runs").rglob("experiment.yaml")}
    assert {"requests.parquet", "report.html", "junit.xml", "environment.json"} <= {
        Path(name).name for name in texts
    }
    texts["printed"] = ran.printed
    left = [
        (name, trace)
        for name, text in texts.items()
        for secret in SECRETS
        for trace in traces(secret)
        if trace in text
    ]
    assert left == []
    # The user's name is no secret of an answer, which is scored; everywhere else it is gone.
    assert [name for name, text in texts.items() if USER in text and "/load/" not in name] == []


def test_nothing_that_was_printed_steers_the_terminal(ran: Ran) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", ran.printed)
    assert not re.search(r"^\s*::", ran.printed, re.MULTILINE)
    assert "error:" in ran.printed and "${DYNO" not in ran.printed.partition("error:")[0]


def test_the_files_are_their_owners_alone(ran: Ran) -> None:
    for path in (ran.run, *ran.run.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


class Elements(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}


def test_the_report_has_no_element_of_an_answers(ran: Ran) -> None:
    page = Elements(held(ran.run / "report.html"))
    assert page.tags.count("script") == 1 and "img" not in page.tags
    assert not any(name.startswith("on") for name in page.attributes)
    for name in ("report.html", "report.md", "junit.xml"):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", held(ran.run / name))
