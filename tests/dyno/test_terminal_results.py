"""The terminal's results: failures in the server's words, worst notes first, runs of failures."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from dyno.terminal.results import NOTES, outage, show_results
from foundation.run.layout import RunDirectory
from results.analysis import analyse
from results.decision.verdict import judge
from results.summary import Summary
from tests.dyno.test_cli import dyno
from tests.results.report_run import make_run
from tests.results.synthetic import Goals, inputs, request, write_journal
from tests.results.test_report_time import with_times

WELL = 12  # requests answered before the server fails: readiness and warm-up are among them
CHUNK = {"choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}


@pytest.fixture
def failing() -> Iterator[str]:
    """A server that answers a few requests and then says that its engine is dead."""
    served = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal served
            served += 1
            self.rfile.read(int(self.headers["Content-Length"]))
            if served > WELL:
                return self._answer(
                    503,
                    "application/json",
                    json.dumps({"error": {"message": "EngineDeadError: no GPU left"}}),
                )
            lines = [json.dumps(CHUNK), json.dumps(USAGE), "[DONE]"]
            return self._answer(
                200, "text/event-stream", "".join(f"data: {line}\n\n" for line in lines)
            )

        def do_GET(self) -> None:
            self._answer(404, "text/plain", "")

        def _answer(self, status: int, kind: str, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()


def test_a_run_in_which_nothing_succeeded_ends_with_4_and_the_servers_words(
    failing: str, tmp_path: Path
) -> None:
    done = dyno(
        "load",
        "--url",
        failing,
        "--model",
        "m",
        "--rate",
        "20",
        "--requests",
        "40",
        "--prompt",
        "hi",
        cwd=tmp_path,
    )
    assert done.returncode == 4, done.stdout + done.stderr
    assert "nothing succeeded: all 40 requests failed (http_5xx 40)" in done.stderr
    assert "EngineDeadError: no GPU left" in done.stderr
    assert "EngineDeadError: no GPU left" in done.stdout  # beside the table, as in the report


def said(run: Path, *variants: str) -> tuple[str, Summary]:
    asked = inputs(run, variants, Goals({"latency_p50": "1s"}))
    summary = analyse(asked)
    shown = io.StringIO()
    show_results(Console(file=shown, width=200), RunDirectory(run), summary, judge(summary, asked))
    return shown.getvalue(), summary


def test_failures_come_with_one_example_of_each_class_worst_first(tmp_path: Path) -> None:
    for block in (1, 2):
        good = [request(i, "q", i * 100, 50) for i in range(60)]
        bad = [
            msgspec.structs.replace(request(i, "q", i * 100, 5, failure=failure), error=error)
            for i in range(60)
            for failure, error in [
                ("http_5xx", "upstream is gone") if i % 3 else ("http_4xx", "no such model: m")
            ]
        ]
        write_journal(tmp_path, "good", block, good)
        write_journal(tmp_path, "bad", block, bad)
    shown, summary = said(tmp_path, "good", "bad")
    notes = [line for line in shown.splitlines() if line.startswith("note: bad, main: ")]
    assert notes[0].endswith(
        "all 120 requests failed (http_5xx 80, http_4xx 40): nothing but the failures was measured"
    )
    assert notes[1].endswith("http_5xx, the first of 80: upstream is gone")
    assert notes[2].endswith("http_4xx, the first of 40: no such model: m")
    assert summary.variants[1].stages[0].examples == {
        "http_5xx": "upstream is gone",
        "http_4xx": "no such model: m",
    }
    assert outage(summary) is None  # the other variant answered


def test_many_notes_are_cut_with_a_pointer_to_the_report(tmp_path: Path) -> None:
    for block in (1, 2):
        for number in range(NOTES + 5):
            records = [
                request(i, "q", i * 100, 50, failure="reset" if i < number + 1 else None)
                for i in range(60)
            ]
            write_journal(tmp_path, f"v{number}", block, records)
    shown, _ = said(tmp_path, *(f"v{number}" for number in range(NOTES + 5)))
    notes = [line for line in shown.splitlines() if line.startswith("note: ")]
    assert len(notes) == NOTES + 1 and notes[-1].endswith("more in the report")
    assert "v19, main: 40 of 120 requests failed (reset 40)" in notes[0]


def test_the_plan_is_one_sentence_after_the_verdict(tmp_path: Path) -> None:
    summary, verdicts, plan = make_run(tmp_path)
    texts = []
    for each in (None, msgspec.structs.replace(plan, sentence="int8: 12 replicas [b]")):
        console = Console(file=io.StringIO(), width=100)
        show_results(console, RunDirectory(tmp_path), summary, verdicts, each)
        texts.append(console.file.getvalue())
    assert "capacity" not in texts[0]
    assert "capacity\n  int8: 12 replicas [b]\n" in texts[1]


def test_it_says_where_the_time_goes_and_why_it_differs(tmp_path: Path) -> None:
    summary, verdicts, _ = make_run(tmp_path)
    texts = []
    for each in (summary, with_times(summary, "int8 is 45 ms faster: decode 45 ± 2 ms.")):
        console = Console(file=io.StringIO(), width=100)
        show_results(console, RunDirectory(tmp_path), each, verdicts)
        texts.append(console.file.getvalue())
    before, after = texts
    assert "where the time" not in before
    assert "  int8: before the queue 20.0 ms (10.0 %), queued 9.00 ms (4.5 %), prefill" in after
    assert "\n  int8 is 45 ms faster: decode 45 ± 2 ms.\n" in after
