"""Relative rates: arithmetic by hand, and a run against an emulator of known throughput."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dyno.experiment.loading import load_experiment
from dyno.pipeline import relative_rates
from dyno.pipeline.relative_rates import Throughput
from foundation.errors import BadInput

EXPERIMENT = """\
name: relative
model: m
data: {{prompt: "Say hello"}}
variants: [{{name: fast, url: "{url}", model: m}}, {{name: other, url: "{url}", model: m}}]
baseline: fast
workload:
  stages: [{{rate: {{of: fast, share: 25%}}, arrivals: constant, requests: 20, warmup: 0s}}]
  blocks: 2
  max_in_flight: {most}
"""


def experiment(
    folder: Path, url: str = "http://127.0.0.1:9/v1", most: int = 4, **changes: str
) -> Path:
    text = EXPERIMENT.format(url=url, most=most)
    for old, new in changes.items():
        text = text.replace(old, new)
    file = folder / "experiment.yaml"
    file.write_text(text)
    return file


def test_throughput_counts_the_middle_waves() -> None:
    # Two in flight, one second each: ends at 1, 1, 2, 2, 3, 3, 4, 4 s. Two requests a second.
    ends = [s * 1_000_000_000 for s in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert relative_rates.throughput(ends, 2) == pytest.approx(2.0)
    # A slow first wave (a cache that fills) and a slow last one (a long answer) change nothing.
    ends[:2] = [900_000_000, 1_000_000_000]
    ends[-2:] = [9_000_000_000, 12_000_000_000]
    assert relative_rates.throughput(ends, 2) == pytest.approx(2.0)


def test_throughput_needs_every_wave() -> None:
    with pytest.raises(ValueError, match="7 of 8 requests succeeded"):
        relative_rates.throughput([1, 2, 3, 4, 5, 6, 7], 2)
    with pytest.raises(ValueError, match="at once"):
        relative_rates.throughput([5] * 8, 2)


def test_concurrency_doubles_until_it_adds_too_little() -> None:
    def held(*each: float) -> list[Throughput]:
        return [Throughput(requests_per_s=x, concurrency=4 * 2**i) for i, x in enumerate(each)]

    assert relative_rates.next_concurrency([], 64) == 4
    assert relative_rates.next_concurrency([], 2) == 2
    assert relative_rates.next_concurrency(held(5.0), 64) == 8
    assert relative_rates.next_concurrency(held(5.0, 9.0), 64) == 16
    assert relative_rates.next_concurrency(held(5.0, 5.4), 64) is None
    assert relative_rates.next_concurrency(held(5.0, 9.0), 15) is None
    assert relative_rates.highest(held(5.0, 9.0, 8.5)) == Throughput(
        requests_per_s=9.0, concurrency=8
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"of: fast": "of: fsat"},
            "workload.stages.0.rate.of: 'fsat' is no variant (did you mean 'fast'?)",
        ),
        ({"share: 25%": "share: 0%"}, "workload.stages.0.rate.share: "),
        (
            {"share: 25%": "shar: 25%"},
            "workload.stages.0.rate.shar: unknown key (did you mean 'share'?)",
        ),
        ({"requests: 20": "duration: 5s, rate_to: 9"}, "rate_to needs a rate in requests/s"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: dict[str, str], says: str) -> None:
    with pytest.raises(BadInput) as refused:
        load_experiment(experiment(tmp_path, **change))
    assert says in str(refused.value)


def test_a_relative_rate_survives_the_run_s_own_file(tmp_path: Path) -> None:
    loaded = load_experiment(experiment(tmp_path))
    again = tmp_path / "again.yaml"
    again.write_text(loaded.as_yaml())
    assert load_experiment(again).workload == loaded.workload
    assert loaded.workload.stages[0].label == "rate-0.25-of-fast"


def test_a_run_offers_the_share_that_was_measured(tmp_path: Path, url: str) -> None:
    """The emulator answers in 50 ms at best: four in flight are at most 80 requests/s."""
    file = experiment(tmp_path, url)
    done = subprocess.run(
        [sys.executable, "-m", "dyno.cli", "run", str(file)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "relative"
    measured = json.loads((run / "rates.json").read_text())["rate-0.25-of-fast"]
    assert measured["held"]["concurrency"] == 4
    assert 20 < measured["held"]["requests_per_s"] <= 80.5
    assert measured["rate"] == pytest.approx(0.25 * measured["held"]["requests_per_s"], rel=0.01)
    for variant in ("fast", "other"):
        for block in ("01", "02"):
            lines = (
                (run / "load" / variant / "rate-0.25-of-fast" / f"block-{block}.jsonl")
                .read_text()
                .splitlines()
            )
            assert json.loads(lines[0])["offered_rate"] == measured["rate"]
            assert len(lines) == 22
    summary = json.loads((run / "summary.json").read_text())
    assert any("25% of the" in note for note in summary["notes"])

    # Going on keeps what was measured: the blocks of one stage have one rate.
    (run / "load" / "other" / "rate-0.25-of-fast" / "block-02.jsonl").unlink()
    before = (run / "rates.json").read_bytes()
    again = subprocess.run(
        [sys.executable, "-m", "dyno.cli", "run", "--resume", str(run)],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert again.returncode == 0
    assert (run / "rates.json").read_bytes() == before


def test_a_stored_rate_that_can_not_be_is_refused(tmp_path: Path) -> None:
    loaded, file = load_experiment(experiment(tmp_path)), tmp_path / "rates.json"
    kept = relative_rates.stage_rates(
        {"fast": Throughput(requests_per_s=80.0, concurrency=4)}, loaded
    )
    relative_rates.write_rates(kept, file)
    assert relative_rates.read_rates(file, loaded) == kept
    file.write_text(file.read_text().replace('"rate": 20.0', '"rate": -20.0'))
    with pytest.raises(BadInput, match="not above zero; delete it"):
        relative_rates.read_rates(file, loaded)
