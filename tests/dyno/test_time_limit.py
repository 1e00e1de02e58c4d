"""The time is over within a run: its last block is measured to its end, and it can go on."""

from __future__ import annotations

import json
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest

from dyno.experiment.loading import load_experiment
from dyno.improve.time_limit import interrupted_after
from dyno.pipeline.block_runner import TimeOver
from dyno.pipeline.prepare import prepare
from dyno.pipeline.run import run_pipeline
from foundation.progress import Silent
from foundation.run.layout import RunDirectory

EXPERIMENT = """\
name: limited
model: m
data: {{prompt: "Say hello"}}
variants: [{{name: a, url: "{url}", model: m}}, {{name: b, url: "{url}", model: m}}]
baseline: a
workload: {{stages: [{{rate: 50, requests: 10, warmup: 0s}}], blocks: {blocks}}}
slo: {{error_rate: 1%}}
until_decided: {{looks: 3}}
"""


class Alarm(Silent):
    """The time is over with the first request of the load whose name begins with `stage`."""

    def __init__(self, stage: str) -> None:
        self._stage, self._here, self.lines = stage, False, list[str]()

    def stage(self, name: str, total: float | None, unit: str) -> None:
        self._here = name.startswith(self._stage)

    def advance(self, amount: float = 1, note: str = "") -> None:
        if self._here:
            self._here = False
            signal.raise_signal(signal.SIGALRM)

    def log(self, line: str) -> None:
        self.lines.append(line)


def run(folder: Path, url: str, progress: Silent, blocks: str = "2") -> None:
    (folder / "experiment.yaml").write_text(EXPERIMENT.format(url=url, blocks=blocks))
    directory = RunDirectory(folder / "run")
    directory.path.mkdir(exist_ok=True)
    prepared = prepare(load_experiment(folder / "experiment.yaml"), folder, Silent())
    with interrupted_after(3600.0):
        run_pipeline(prepared, directory, progress)


def ends(folder: Path) -> dict[Path, str]:
    """How each block of the load ended."""
    journals = sorted((folder / "run" / "load").rglob("block-*.jsonl"))
    return {file: json.loads(file.read_text().splitlines()[-1])["end"] for file in journals}


def test_the_block_under_way_is_the_last_and_the_run_goes_on_after_it(
    tmp_path: Path, url: str
) -> None:
    """The second time it is over while blocks are added: the verdict is about those in time."""
    alarm = Alarm("load all variants")
    with pytest.raises(TimeOver):
        run(tmp_path, url, alarm)
    assert "the time is over: the block under way is the last" in alarm.lines
    assert list(ends(tmp_path).values()) == ["complete"]
    [first] = ends(tmp_path)
    before = first.read_bytes()
    run(tmp_path, url, Alarm("load until decided, 3 blocks"))
    assert list(ends(tmp_path).values()) == ["complete"] * 5
    assert first.read_bytes() == before
    assert (tmp_path / "run" / "verdict.json").exists()


def test_a_race_that_is_out_of_time_at_a_look_that_may_be_the_last_ends_there(
    tmp_path: Path, url: str
) -> None:
    """The second time it is over within the last block of the experiment, and all are judged."""
    for ended in (TimeOver, None):
        with pytest.raises(ended) if ended else nullcontext():
            run(tmp_path, url, Alarm("load race, round 3"), "3, race: true")
    assert list(ends(tmp_path).values()) == ["complete"] * 6
    assert (tmp_path / "run" / "verdict.json").exists()


def test_what_is_made_ends_at_once_and_the_timer_is_gone_afterwards() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.01):
        signal.pause()
    with interrupted_after(1e12):
        assert signal.getsignal(signal.SIGALRM) is not before
    assert signal.getsignal(signal.SIGALRM) is before
