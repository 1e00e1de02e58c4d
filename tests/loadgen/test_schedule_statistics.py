"""Arrivals have the named distribution, at a level of 0.01, with 1, 4 or 16 workers.

A process with a varying rate is mapped through its own cumulative rate, which is integrated here.
The result is one arrival a second on average, with the named gaps.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from foundation.arrays import Floats
from loadgen.config import Stage
from loadgen.schedule.arrivals import WorkerShare, schedule
from tests.loadgen.conftest import RunBlock, StartEmulator

N = 8000
RATE = 40.0


def merged(stage: Stage, workers: int, seed: int = 11) -> Floats:
    """The arrivals in seconds as the fleet splits them, merged in the order of their times."""
    times = schedule(stage, seed, 1, 0.0).times_ns
    parts = [
        schedule(stage, seed, 1, 0.0).times_ns[list(WorkerShare(worker, workers).of(len(times)))]
        for worker in range(workers)
    ]
    return np.sort(np.concatenate(parts)) / 1e9


def unwound(times: Floats, rate_at: Callable[[Floats], Floats], until: float) -> Floats:
    grid = np.linspace(0, until, 2_000_001)
    rates = rate_at(grid)
    cumulative = np.concatenate([[0], np.cumsum((rates[1:] + rates[:-1]) / 2 * np.diff(grid))])
    return np.interp(times, grid, cumulative)


def dispersion(times: Floats, width: float) -> tuple[float, int]:
    """Variance over mean of the counts in windows of `width`, and how many there are."""
    counts = np.histogram(times, np.arange(0, times[-1] - width, width))[0]
    return float(counts.var(ddof=1) / counts.mean()), len(counts)


POISSON = stats.expon()
CLUMPED = stats.gamma(0.25, scale=4)
SHAPES: dict[str, tuple[dict[str, Any], Callable[[Floats], Floats]]] = {
    "even": ({"requests": N}, lambda t: np.full_like(t, RATE)),
    "ramp": ({"rate_to": 3 * RATE, "duration": "100s"}, lambda t: RATE + 2 * RATE * t / 100),
    "steps": (
        {"rate_to": 3 * RATE, "steps": 4, "duration": "100s"},
        lambda t: RATE * (1 + np.minimum(np.floor(t / 25), 3) * 2 / 3),
    ),
    "bursts": (
        {"bursts": {"on": "2s", "off": "3s"}, "duration": "200s"},
        lambda t: np.where(np.mod(t, 5) < 2, RATE * 2.5, 0.0),
    ),
}


@pytest.mark.parametrize("workers", [1, 4, 16])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("arrivals", "gaps"),
    [({"arrivals": "poisson"}, POISSON), ({"arrivals": "gamma", "burstiness": 0.25}, CLUMPED)],
)
def test_gaps_and_counts_are_of_the_distribution_named(
    arrivals: dict[str, object], gaps: stats.distributions.rv_frozen, shape: str, workers: int
) -> None:
    fields, rate_at = SHAPES[shape]
    times = merged(Stage.model_validate({"rate": RATE, **fields, **arrivals}), workers)
    assert len(times) > 7000
    even = unwound(times, rate_at, times[-1] + 1e-9)
    assert stats.kstest(np.diff(even), gaps.cdf).pvalue > 0.01
    index, windows = dispersion(even, 50.0)
    assert abs(
        stats.norm.ppf(stats.chi2(windows - 1).cdf(index * (windows - 1) / gaps.var()))
    ) < stats.norm.ppf(0.995)


def test_the_tests_would_notice_a_wrong_distribution() -> None:
    clumped = (
        merged(
            Stage.model_validate(
                {"rate": RATE, "requests": N, "arrivals": "gamma", "burstiness": 0.8}
            ),
            4,
        )
        * RATE
    )
    assert stats.kstest(np.diff(clumped), POISSON.cdf).pvalue < 0.01
    index, windows = dispersion(clumped, 50.0)
    assert stats.chi2(windows - 1).sf(index * (windows - 1)) < 0.05


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_constant_and_recorded_arrivals_are_what_they_are(workers: int, tmp_path: Path) -> None:
    assert np.diff(
        merged(
            Stage.model_validate({"rate": RATE, "arrivals": "constant", "requests": 400}), workers
        )
    ) == (pytest.approx(1 / RATE))
    at = np.cumsum(np.random.default_rng(5).pareto(2, 501))
    (tmp_path / "t.jsonl").write_text("".join(f'{{"at": {x}}}\n' for x in at))
    replay = merged(
        Stage.model_validate(
            {"trace": {"file": str(tmp_path / "t.jsonl"), "speed": 4}, "requests": 500}
        ),
        workers,
    )
    assert replay == pytest.approx((at[:500] - at[0]) / 4, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4, 16])
def test_journals_hold_that_same_schedule(
    emulator: StartEmulator, block: RunBlock, workers: int
) -> None:
    of = {"rate": 200, "duration": "8s"}
    journal = block(emulator("--tokens", "1").endpoint, of, workers=workers)
    due = np.sort([record.scheduled_ns for record in journal.records])
    assert due.tolist() == schedule(Stage.model_validate(of), 0, 1, 0.0).times_ns.tolist()
    assert {record.failure for record in journal.records} == {None}
    assert stats.kstest(np.diff(due) / 1e9, stats.expon(scale=1 / 200).cdf).pvalue > 0.01
