"""Servers that take turns: what the first turn measured holds for the later ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.dyno.test_kills import EXPERIMENT, experiment, run_once

__all__ = ["experiment"]

TURNS = EXPERIMENT.replace("serve: {", "serve: {residency: turns, ").replace(
    "[{concurrency: 2, requests: 40}]",
    "[{name: half, rate: {of: base, share: 50%}, requests: 20}]",
)


def test_a_relative_rate_is_measured_in_the_first_turn_and_sent_in_all(
    experiment: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(experiment, tmp_path / "run"))
    (folder / "experiment.yaml").write_text(TURNS)
    code, output = run_once(folder)
    assert code == 0, output
    run = folder / "runs/kills"
    rate = json.loads((run / "rates.json").read_text())["half"]["rate"]
    for variant in ("base", "other"):
        journals = sorted((run / "load" / variant / "half").glob("block-*.jsonl"))
        headers = [json.loads(file.read_text().splitlines()[0]) for file in journals]
        assert [header["offered_rate"] for header in headers] == [rate] * 3
    assert output.count("base, 4 in flight") and "other, 4 in flight" not in output
