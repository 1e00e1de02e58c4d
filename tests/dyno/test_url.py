"""From a URL to a verdict, and later to reports and plans, against an emulator of known times."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.dyno.test_cli import dyno


@pytest.fixture(scope="module")
def run(calm_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished `dyno load` of 250 requests."""
    folder = tmp_path_factory.mktemp("loaded")
    done = dyno(
        "load",
        "--url",
        calm_url,
        "--model",
        "m",
        "--rate",
        "100",
        "--requests",
        "250",
        "--blocks",
        "2",
        "--warmup",
        "100ms",
        "--prompt",
        "Say hello",
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report: runs/load/report.html" in done.stdout
    return folder / "runs" / "load"


def test_what_was_measured_is_what_the_emulator_does(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    [variant] = summary["variants"]
    [stage] = variant["stages"]
    metrics = {name: estimate["value"] for name, estimate in stage["metrics"].items()}
    assert stage["planned"] == stage["succeeded"] == 250
    assert metrics["output_tokens_mean"] == 11
    assert metrics["service_ttft_p50"] >= 1000
    assert metrics["service_latency_p50"] >= 1020
    assert metrics["latency_p99"] is None
    assert "1,000" in stage["metrics"]["latency_p99"]["reason"]


def test_a_report_and_a_comparison_come_from_the_stored_run(run: Path) -> None:
    side_by_side = dyno("compare", str(run), str(run), str(run), cwd=run)
    assert side_by_side.returncode == 0, side_by_side.stderr
    heads = [line for line in side_by_side.stdout.splitlines() if line.startswith("┃")]
    assert sum(line.count("url") for line in heads) == 3
    with_itself = dyno("compare", str(run), str(run), "--gate", "--junit", "compared.xml", cwd=run)
    # 250 requests without a failure allow 1.5 points of them, more than the 1 that counts as none.
    assert with_itself.returncode == 2, with_itself.stderr
    assert "Not settled: " in with_itself.stdout
    assert ": worse" not in with_itself.stdout
    assert "<failure" not in (run / "compared.xml").read_text()
    before = (run / "report.html").read_bytes()
    assert dyno("report", str(run), cwd=run).returncode == 0
    assert (run / "report.html").read_bytes() == before


EXPERIMENT = """\
name: gated
model: m
data: {{prompt: "Say hello"}}
variants: [{{name: old, url: {url}, model: m}}, {{name: new, url: {url}, model: m}}]
baseline: old
workload: {{stages: [{{rate: 120, requests: 120, warmup: 100ms}}], blocks: 2}}
slo: {{latency_p95: {limit}}}
"""


@pytest.mark.parametrize(
    ("limit", "code", "decision"), [("10s", 0, "SHIP"), ("40ms", 1, "DON'T SHIP")]
)
def test_with_gate_the_exit_code_is_the_verdict(
    calm_url: str, tmp_path: Path, limit: str, code: int, decision: str
) -> None:
    (tmp_path / "experiment.yaml").write_text(EXPERIMENT.format(url=calm_url, limit=limit))
    done = dyno("run", "experiment.yaml", "--gate", cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert f"new: {decision}" in done.stdout
    if decision == "SHIP":
        check_plan(tmp_path / "runs" / "gated")


def check_plan(run: Path) -> None:
    """The one measured rate, 120/s, held: a lower bound of what a replica holds."""
    refused = dyno("plan", str(run), "--peak-rate", "1k/day", cwd=run)
    assert refused.returncode == 3
    assert "--peak-rate" in refused.stderr
    planned = dyno(
        "plan", str(run), "--peak-rate", "500", "--headroom", "50%", "--spare", "2", cwd=run
    )
    assert planned.returncode == 0, planned.stderr
    for capacity in json.loads((run / "plan.json").read_text())["variants"]:
        assert capacity["lower_bound"] is True
        assert capacity["rate_per_replica"] == 120
        assert capacity["replicas"] == 11  # 500 / (120 x 0.5) = 8.3, so 9, and 2 spare
    free = dyno("plan", str(run), "--peak-rate", "500", "--headroom", "100%", cwd=run)
    assert free.returncode == 3
    assert "--headroom: a replica that is kept free serves nobody" in free.stderr


def test_a_plan_goes_by_the_slo_as_it_is_now(run: Path) -> None:
    """A tighter limit after the run, then another metric. The measurement stays the same."""
    file = run / "experiment.yaml"
    written = file.read_text()
    try:
        for slo, held in (
            ("latency_p95: 10s", True),
            ("latency_p95: 1ms", False),
            ("latency_p95: 10s, ttft_p95: 1ms", False),
        ):
            file.write_text(written.replace("slo: {}", f"slo: {{{slo}}}"))
            planned = dyno("plan", str(run), "--peak-rate", "500", cwd=run)
            assert planned.returncode == (0 if held else 3), planned.stderr
            assert held or "no plan: url: " in planned.stderr
            [capacity] = json.loads((run / "plan.json").read_text())["variants"]
            assert (capacity["rate_per_replica"] == 100) is held
            assert "url: url:" not in planned.stdout
    finally:
        file.write_text(written)


def test_a_measurement_too_small_to_judge_gates_as_inconclusive(url: str, tmp_path: Path) -> None:
    text = EXPERIMENT.format(url=url, limit="10s").replace("requests: 120", "requests: 20")
    (tmp_path / "experiment.yaml").write_text(text)
    done = dyno("run", "experiment.yaml", "--gate", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr


def test_a_load_that_was_not_sent_is_invalid_and_gates_so(url: str, tmp_path: Path) -> None:
    """One in flight at 50 ms or more a request is at most 20 requests/s of the planned 120."""
    text = EXPERIMENT.format(url=url, limit="10s").replace(
        "blocks: 2", "blocks: 2, max_in_flight: 1"
    )
    (tmp_path / "experiment.yaml").write_text(text)
    done = dyno("run", "experiment.yaml", "--gate", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "INVALID: only" in done.stdout
    assert "new: SHIP" not in done.stdout


def test_until_decided_adds_blocks_until_the_verdict_is_settled(
    calm_url: str, tmp_path: Path
) -> None:
    text = EXPERIMENT.format(url=calm_url, limit="10s").replace("requests: 120", "requests: 80")
    (tmp_path / "experiment.yaml").write_text(text)
    done = dyno(
        "run", "experiment.yaml", "--gate", "--until-decided", "--max-time", "2m", cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Two blocks of 80 requests are below p95's minimum of 200; three suffice.
    journals = {
        name: len(list((tmp_path / "runs/gated/load" / name / "rate-120").glob("*.jsonl")))
        for name in ("old", "new")
    }
    assert journals["old"] == journals["new"] >= 3


@pytest.mark.slow
def test_a_resolution_plans_the_blocks_from_the_first_ones(url: str, tmp_path: Path) -> None:
    text = EXPERIMENT.format(url=url, limit="10s").replace("requests: 120", "requests: 60")
    text = text.replace("blocks: 2", "blocks: 4")
    (tmp_path / "experiment.yaml").write_text(text)
    done = dyno("run", "experiment.yaml", "--resolution", "2%", "--max-time", "15s", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    planned = int(re.findall(r"so there will be (\d+) blocks", done.stdout + done.stderr)[0])
    journals = list((tmp_path / "runs/gated/load/new/rate-120").glob("*.jsonl"))
    assert len(journals) == planned >= 3
    summary = json.loads((tmp_path / "runs/gated/summary.json").read_text())
    assert summary["resolution"]["new"]["blocks"] == planned
    dry = dyno(
        "run",
        "experiment.yaml",
        "--dry-run",
        "--resolution",
        "2%",
        "--pilot",
        "runs/gated",
        cwd=tmp_path,
    )
    assert dry.returncode == 0, dry.stdout + dry.stderr
    assert (
        "if it goes as in runs/gated: latency p95 of new against old: 4 blocks show a change of"
        in dry.stdout
    )


def test_a_baseline_of_a_url_shows_tokens_times_and_an_answer(url: str, tmp_path: Path) -> None:
    done = dyno(
        "baseline",
        url,
        "--model",
        "m",
        "--prompt",
        "Explain quantum computing in simple terms:",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in (
        "Input tokens",
        "Output tokens",
        "Latency p50",
        "TTFT p50",
        "tokens/s",
        "an answer:",
    ):
        assert words in done.stdout
    assert (tmp_path / "runs" / "baseline" / "summary.json").exists()


def test_a_url_where_nobody_answers_is_the_systems_failure(tmp_path: Path) -> None:
    done = dyno(
        "load",
        "--url",
        "http://127.0.0.1:9/v1",
        "--model",
        "m",
        "--rate",
        "5",
        "--prompt",
        "Q",
        cwd=tmp_path,
    )
    assert done.returncode == 4
    assert done.stderr.startswith("error: url: no token could be generated")
