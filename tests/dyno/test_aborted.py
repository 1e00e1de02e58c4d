"""A server that aborts every second answer is fast and wrong: from its bytes to the exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dyno.conftest import BEHAVIOUR
from tests.dyno.test_cli import dyno


@pytest.fixture(scope="module")
def aborting() -> Iterator[str]:
    command = [
        sys.executable,
        "-m",
        "loadgen.emulator",
        *BEHAVIOUR,
        "--fault",
        "abort",
        "--fault-every",
        "2",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}/v1"
    process.terminate()
    process.wait(10)


EXPERIMENT = """\
name: aborted
model: m
data: {{prompt: "Say hello"}}
variants:
  - {{name: healthy, url: {healthy}, model: m}}
  - {{name: aborting, url: {aborting}, model: m}}
baseline: healthy
workload:
  stages: [{{rate: 30, requests: 40, warmup: 100ms, arrivals: constant}}]
  blocks: 2
  transport: {transport}
slo: {{latency_p50: 2s, error_rate: 5%}}
"""


@pytest.mark.parametrize("transport", ["socket", "aiohttp"])
def test_every_second_answer_aborted_does_not_ship(
    url: str, aborting: str, tmp_path: Path, transport: str
) -> None:
    (tmp_path / "experiment.yaml").write_text(
        EXPERIMENT.format(healthy=url, aborting=aborting, transport=transport)
    )
    done = dyno("run", "experiment.yaml", "--gate", cwd=tmp_path)
    # A machine that is too busy to send on time makes it INCONCLUSIVE (2); it never ships.
    assert done.returncode in (1, 2), done.stdout + done.stderr
    assert "aborting: SHIP" not in done.stdout and "aborted" in done.stdout
    assert re.search(r"FAIL error rate is (49|50|51)", done.stdout)
    summary = json.loads((tmp_path / "runs" / "aborted" / "summary.json").read_text())
    stages = {variant["variant"]: variant["stages"][0] for variant in summary["variants"]}
    assert stages["healthy"]["failures"] == {}
    assert stages["aborting"]["failures"].keys() == {"aborted"}
    assert stages["aborting"]["failures"]["aborted"] == pytest.approx(
        stages["aborting"]["planned"] / 2, abs=4
    )
    assert stages["aborting"]["metrics"]["error_rate"]["value"] == pytest.approx(0.5, abs=0.02)
    lines = (
        (tmp_path / "runs/aborted/load/aborting/rate-30/block-01.jsonl")
        .read_text()
        .splitlines()[1:-1]
    )
    ends = {(record["failure"], record["finish_reason"]) for record in map(json.loads, lines)}
    assert ends == {(None, "stop"), ("aborted", "abort")}
