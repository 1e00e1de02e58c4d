"""A calibration counts only on the machine that it was measured on, and only if it is readable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from foundation.errors import BadInput
from foundation.machine import Machine, this_machine
from loadgen.sending import workers_needed
from loadgen.sending.workers_needed import calibration_file, check_rate, stored_ceiling

HERE = Machine("host", "EPYC 9", 2, "Linux 6.1", "3.11.7", "0.1.0")


@pytest.fixture(autouse=True)
def on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDYNO_CACHE", str(tmp_path))
    monkeypatch.setattr(workers_needed, "this_machine", lambda: HERE)


def kept(**changed: object) -> Path:
    file = calibration_file()
    file.write_text(
        json.dumps(
            {
                "machine": HERE.words,
                "events_per_s": 9e3,
                "requests_per_s": 900,
                "streams": 90,
                **changed,
            }
        )
    )
    return file


def heard() -> tuple[object, list[str]]:
    lines: list[str] = []
    return stored_ceiling(lines.append), lines


def test_it_counts_on_its_own_machine() -> None:
    assert heard() == (None, [])
    kept()
    ceiling, lines = heard()
    assert getattr(ceiling, "requests_per_s", None) == 900 and lines == []


@pytest.mark.parametrize(
    "change",
    [
        {"processor": "Xeon"},
        {"cores": 4},
        {"kernel": "Linux 6.8"},
        {"python": "3.12.1"},
        {"dyno": "0.2.0"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_it_does_not_count_where_anything_else_bears_the_same_name(
    change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept()
    monkeypatch.setattr(workers_needed, "this_machine", lambda: replace(HERE, **change))
    ceiling, [line] = heard()
    assert ceiling is None and line.endswith("run dyno calibrate")


def test_a_rate_of_more_than_seven_tenths_of_all_cores_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """900 requests/s a core, two cores: 1,260 are kept up with. Without a calibration any rate."""
    check_rate(1e6, "max_rate")
    kept()
    monkeypatch.setattr(workers_needed, "usable_cores", lambda: frozenset({0, 1}))
    check_rate(1_259, "max_rate")
    with pytest.raises(BadInput, match=r"max_rate: 1,261 .* 2 cores send up to 1,260 requests/s"):
        check_rate(1_261, "max_rate")


def test_one_of_an_earlier_version_is_named_by_host_alone(tmp_path: Path) -> None:
    kept().rename(tmp_path / "calibration-host.json")
    ceiling, [line] = heard()
    assert ceiling is None and "does not count here" in line


def test_one_that_was_copied_from_another_machine_does_not_count() -> None:
    kept(machine="Xeon, 64 cores, Linux 6.1")
    ceiling, [line] = heard()
    assert ceiling is None and "it is of another machine (Xeon, 64 cores, Linux 6.1)" in line


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[" * 100_000,
        b'{"machine":"m","events_per_s":"many"}',
        b'{"a":1}' + b" " * (2 << 20),
    ],
    ids=["empty", "cut", "binary", "null", "deep", "words", "large"],
)
def test_a_damaged_one_is_said_in_one_line_and_does_not_count(content: bytes) -> None:
    calibration_file().write_bytes(content)
    ceiling, [line] = heard()
    assert (
        ceiling is None
        and "\n" not in line
        and len(line) < 300
        and line.startswith(str(calibration_file()))
    )


@pytest.mark.parametrize(
    "changed", [{"events_per_s": -1}, {"requests_per_s": 1e999}, {"streams": -5}, {"streams": 1.5}]
)
def test_a_ceiling_that_can_not_be_does_not_count(changed: dict[str, object]) -> None:
    kept(**changed)
    assert heard()[0] is None


def test_a_folder_in_its_place_does_not_end_a_run() -> None:
    calibration_file().mkdir()
    assert heard()[0] is None


def test_a_host_whose_name_is_no_files(tmp_path: Path) -> None:
    assert replace(HERE, host="../a b").file("speed", ".json").parent == tmp_path
    assert this_machine().words and replace(HERE, host="").file("pace", ".jsonl").name.startswith(
        "pace-here-"
    )
