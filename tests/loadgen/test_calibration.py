"""A short ladder against the emulator, and what is said about ladders."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from foundation.progress import Silent
from loadgen.calibration import Calibration, EventLevel, RequestLevel, calibrate, save
from loadgen.event_loop import run


def events(asked: float, error: float = 10.0, busy: float = 0.5, failed: int = 0) -> EventLevel:
    return EventLevel(
        streams=1,
        asked=asked,
        sent=asked,
        error_p50_us=1.0,
        error_p99_us=error,
        coalesced=0.0,
        busy=busy,
        failed=failed,
    )


@pytest.mark.parametrize(
    ("level", "held"),
    [
        (events(1), True),
        (events(1, error=2000), False),
        (events(1, busy=0.95), False),
        (events(1, failed=1), False),
    ],
)
def test_what_counts_as_held(level: EventLevel, held: bool) -> None:
    assert level.held is held
    slow = RequestLevel(asked=1, achieved=1.0, slip_p99_ms=50.0, busy=0.1, failed=0)
    assert not slow.held


def test_a_ladder_ends_at_the_first_load_not_held_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = os.sched_getaffinity(0)
    monkeypatch.setattr("loadgen.calibration.SLIP_LIMIT_MS", -1.0)
    calibration = run(
        calibrate(Silent(), event_rates=(500,), request_rates=(50, 60), streams=(20,), seconds=0.2)
    )
    assert os.sched_getaffinity(0) == cores
    assert len(calibration.requests) == 1
    assert (calibration.requests_per_s, calibration.requests_lower_bound) == (0.0, False)
    level = calibration.events[0]
    assert level.failed == 0 and level.error_p50_us > -100 and 0 <= level.coalesced <= 1
    assert (calibration.events_per_s, calibration.events_lower_bound) == (
        (level.sent, True) if level.held else (0.0, False)
    )
    assert calibration.open[0].streams == 20 and calibration.open[0].failed == 0
    save(calibration, tmp_path / "deep" / "calibration.json")
    stored = (tmp_path / "deep" / "calibration.json").read_bytes()
    assert msgspec.json.decode(stored, type=Calibration) == calibration
