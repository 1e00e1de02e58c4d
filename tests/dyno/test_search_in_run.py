"""Searches over HTTP to their end: in a whole run, past a server that dies, and an audit."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foundation.run.layout import RunDirectory
from tests.dyno.conftest import CALM, emulator
from tests.dyno.test_cli import dyno

# 100 requests/s at most: 4 at a time, 10 steps of 4 ms.
STEPS = ["--step", "fixed=4ms", "--max-num-seqs", "4", "--tokens", "10"]
EXPERIMENT = """\
name: searched
model: m
data: {{prompt: Say hello}}
variants:
  - {{name: one, url: {first}, model: m}}
  - {{name: two, url: {second}, model: m}}
baseline: one
workload:
  stages:
    - {{name: main, rate: 20, requests: 40, warmup: 0s}}
    - {{search: {{max_rate: 300/s, max_time: 10s}}}}
  blocks: 1
slo: {{latency_p50: {limit}}}
"""
pytestmark = pytest.mark.slow


def listen(port: int = 0) -> tuple[subprocess.Popen[str], int]:
    """An emulator that a test may kill, and its port."""
    command = [sys.executable, "-m", "loadgen.emulator", "--port", str(port), *STEPS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())["port"]


def write(
    folder: Path, first: str, second: str, without: str = "nothing", limit: str = "200ms"
) -> None:
    """The experiment less the lines with the words `without`."""
    lines = EXPERIMENT.format(first=first, second=second, limit=limit).splitlines()
    text = "\n".join(line for line in lines if without not in line)
    (folder / "experiment.yaml").write_text(text)


def test_a_run_that_searches_judges_its_own_load_alone(tmp_path: Path) -> None:
    with emulator(STEPS) as first, emulator(STEPS) as second:
        write(tmp_path, first, second)
        done = dyno("run", "experiment.yaml", cwd=tmp_path)
        run = RunDirectory(tmp_path / "runs" / "searched")
        assert "highest rate that keeps the SLO" in done.stdout, done.stdout + done.stderr
        variants = json.loads(run.search.read_text())["variants"]
        assert [variant["variant"] for variant in variants] == ["one", "two"]
        assert all((variant["fails"] or 300) > 90 for variant in variants)
        assert 'id="search"' in (run.path / "report.html").read_text()
        before = run.search.read_bytes(), (run.path / "verdict.json").read_bytes()
    # The servers are gone, so that a request would fail.
    again = dyno("run", "--resume", str(run.path), cwd=tmp_path)
    assert (run.search.read_bytes(), (run.path / "verdict.json").read_bytes()) == before, again
    assert again.returncode == done.returncode
    for probe in (run.path / "load").glob("*/search-*"):
        probe.rename(tmp_path / f"{probe.parent.name}-{probe.name}")
    assert dyno("report", str(run.path), cwd=tmp_path).returncode == 0
    assert (run.path / "verdict.json").read_bytes() == before[1]


def test_a_server_that_dies_ends_its_own_search_and_is_searched_on_later(tmp_path: Path) -> None:
    dying, port = listen()
    with emulator(STEPS) as other:
        write(tmp_path, f"http://127.0.0.1:{port}/v1", other)
        command = [sys.executable, "-m", "dyno.cli", "search", "experiment.yaml"]
        search = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        run = RunDirectory(tmp_path / "runs" / "searched")
        while not run.journal("one", "search-02", 1).exists():
            assert search.poll() is None
            time.sleep(0.05)
        dying.kill()
        shown, _ = search.communicate(timeout=120)
        assert search.returncode == 4, shown
        assert "error: one: no token could be generated: nothing listens" in shown
        one, two = json.loads(run.search.read_text())["variants"]
        assert "the search did not end" in one["sentence"]
        assert "did not end" not in two["sentence"] and two["probes"]
        back, _ = listen(port)
        try:
            done = dyno("search", str(run.path), cwd=tmp_path)
        finally:
            back.kill()
            back.wait()
    assert done.returncode in (0, 2), done.stdout + done.stderr
    one, _ = json.loads(run.search.read_text())["variants"]
    assert "did not end" not in one["sentence"] and (one["fails"] or 300) > 90


def test_an_audit_stays_in_the_report_of_a_run_without_a_section_plan(tmp_path: Path) -> None:
    with emulator(CALM) as first, emulator(CALM) as second:
        write(tmp_path, first, second, without="search:", limit="2s")
        dyno("run", "experiment.yaml", cwd=tmp_path)
        run = tmp_path / "runs" / "searched"
        audit = dyno("plan", "runs/searched", "--peak-rate", "100", "--audit", cwd=tmp_path)
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "measured: " in audit.stdout and ", planned" in audit.stdout
    for _ in range(2):
        page = (run / "report.html").read_text()
        assert "Planned beside measured" in page and ", planned" in page
        assert dyno("report", str(run), cwd=tmp_path).returncode == 0
    kept = json.loads((run / "plan.json").read_text())["audits"]
    assert kept[0]["measured"]["latency_p50"]["value"] > 0
