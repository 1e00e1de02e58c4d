"""Energy counters of processors in a folder made like sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.telemetry.rapl import Rapl

RANGE_UJ = 1_000_000_000


def package(folder: Path, number: int, joules: float, name: str = "") -> Path:
    zone = folder / f"intel-rapl:{number}"
    zone.mkdir()
    (zone / "name").write_text(name or f"package-{number}\n")
    (zone / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (zone / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    return zone / "energy_uj"


def test_packages_are_added_from_the_beginning_over_a_counter_that_wraps(tmp_path: Path) -> None:
    first, second = package(tmp_path, 0, 990), package(tmp_path, 1, 100)
    package(tmp_path, 2, 5, "psys\n")
    rapl = Rapl(tmp_path)
    assert rapl.absent is None and rapl.read_joules() == 0
    first.write_text("15000000\n")  # 25 J later
    second.write_text("101000000\n")
    assert rapl.read_joules() == pytest.approx(26)
    assert rapl.read_joules() == pytest.approx(26)


def test_a_counter_that_can_not_be_read_says_why(tmp_path: Path) -> None:
    assert Rapl(tmp_path).absent == "this machine shows no RAPL counters"
    file = package(tmp_path, 0, 1)
    file.unlink()
    file.mkdir()
    rapl = Rapl(tmp_path)
    assert rapl.absent == "RAPL's counters can't be read (Is a directory)"
    assert rapl.read_joules() is None


def test_a_counter_that_turns_to_garbage_ends_the_reading(tmp_path: Path) -> None:
    file = package(tmp_path, 0, 1)
    rapl = Rapl(tmp_path)
    file.write_text("much\n")
    assert rapl.read_joules() is None
    assert rapl.absent == "RAPL's counters can't be read (no number)"
